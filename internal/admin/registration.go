package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"bootd/deploy"
	"bootd/deploy/edge"
)

// An EdgeHost is how a node is called upstream, as predicted and as it says.
type EdgeHost struct {
	Node      string       `json:"node"`
	Predicted string       `json:"predicted,omitempty"` // empty: see Why
	Why       string       `json:"why,omitempty"`
	Reported  string       `json:"reported,omitempty"`
	At        time.Time    `json:"at,omitzero"` // of the report
	Verdict   edge.Verdict `json:"verdict"`
	Site      string       `json:"site,omitempty"` // it was claimed for, or has as a tag
	Phase     deploy.Phase `json:"phase"`
}

// A ClaimOffer is where a machine is claimed.
type ClaimOffer struct {
	URL string `json:"url"`
	ID  string `json:"id,omitempty"` // edge host id; empty: not known
}

// Registration is the part of a Backend about edge hosts.
type Registration interface {
	Registrations() []EdgeHost
	// Claim returns where a node, or a machine that waits without being one, is
	// claimed. It wraps ErrUnknown when there is no such machine. The server is
	// as phones reach us; empty: as the machine does.
	Claim(machine, server string) (ClaimOffer, error)
}

func registrationRoutes(mux *http.ServeMux, b Registration) {
	mux.HandleFunc("GET /v1/registrations", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.Registrations(), nil) })
	mux.HandleFunc("POST /v1/claims/{machine}", func(w http.ResponseWriter, r *http.Request) {
		offer, err := b.Claim(r.PathValue("machine"), r.URL.Query().Get("server"))
		answer(w, offer, err)
	})
}

// Registrations asks how all nodes are called upstream.
func (c *Client) Registrations(ctx context.Context) (list []EdgeHost, err error) {
	return list, c.get(ctx, "/v1/registrations", &list)
}

// Claim asks where a machine is claimed. The error wraps ErrUnknown when there
// is no such machine.
func (c *Client) Claim(ctx context.Context, machine, server string) (offer ClaimOffer, err error) {
	path, err := pathOf("/v1/claims/", machine)
	if err != nil {
		return offer, err
	}
	return offer, c.call(ctx, http.MethodPost, path+"?server="+url.QueryEscape(server), nil, &offer)
}
