package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"bootd/deploy"
)

// A MediumOrder is for a CD image that the BMC of a node may fetch.
type MediumOrder struct {
	Node   string            `json:"node"`
	Kind   deploy.MediumKind `json:"kind"`
	From   netip.Addr        `json:"from,omitzero"`    // of the BMC; zero: not known
	Image  string            `json:"image,omitempty"`  // install: path of the installer's image on the daemon's host
	Server string            `json:"server,omitempty"` // host or host:port as the BMC reaches the daemon; empty: the daemon's guess
}

// A MediumOffer is where the image is. The URL is a secret: who has it and the
// address From may read it.
type MediumOffer struct {
	URL     string    `json:"url"`
	Bytes   int64     `json:"bytes"`
	Expires time.Time `json:"expires"`
}

// Media are the part of a Backend that makes CD images for BMCs.
type Media interface {
	// OfferMedium makes an image and returns where it is. It takes the time to
	// copy an installer's image. It wraps ErrUnknown when there is no such node.
	OfferMedium(ctx context.Context, o MediumOrder) (MediumOffer, error)
	// WithdrawMedium ends the images of a node, and reports whether there was
	// one.
	WithdrawMedium(node string) (bool, error)
}

func mediaRoutes(mux *http.ServeMux, b Backend) {
	mux.HandleFunc("POST /v1/media", func(w http.ResponseWriter, r *http.Request) {
		var o MediumOrder
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder)).Decode(&o); err != nil {
			refuse(w, http.StatusBadRequest, failure{Error: fmt.Sprintf("not an order of an image: %v", err)})
			return
		}
		offer, err := b.OfferMedium(r.Context(), o)
		answer(w, offer, err)
	})
	mux.HandleFunc("DELETE /v1/media/{node}", func(w http.ResponseWriter, r *http.Request) {
		had, err := b.WithdrawMedium(r.PathValue("node"))
		answer(w, had, err)
	})
}

// mediumTime bounds the making of an installer's image, which is a copy of a
// few gigabytes.
const mediumTime = 15 * time.Minute

// OfferMedium has an image made for a node, and returns where it is. The error
// wraps ErrUnknown when there is no such node.
func (c *Client) OfferMedium(ctx context.Context, o MediumOrder) (offer MediumOffer, err error) {
	return offer, c.callWithin(ctx, mediumTime, http.MethodPost, "/v1/media", o, &offer)
}

// WithdrawMedium ends the images of a node, and reports whether there was one.
func (c *Client) WithdrawMedium(ctx context.Context, node string) (had bool, err error) {
	path, err := pathOf("/v1/media/", node)
	if err != nil {
		return false, err
	}
	return had, c.call(ctx, http.MethodDelete, path, nil, &had)
}
