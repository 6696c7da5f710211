package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"bootd/deploy/rollout"
	"bootd/internal/node"
)

// An UpgradeRequest asks to bring the nodes of a role to a release.
type UpgradeRequest struct {
	Role     string        `json:"role"`
	Release  string        `json:"release"`
	Nodes    string        `json:"nodes,omitempty"` // patterns, as of node.ParsePatterns; empty: all of the role
	Batch    int           `json:"batch"`
	Attempts int           `json:"attempts"`
	Wait     string        `json:"wait"`
	Deadline time.Duration `json:"deadline_ns"`
	DryRun   bool          `json:"dry_run,omitempty"` // only say what would be done
}

// Check reports what is wrong with a request whatever nodes and releases there
// are.
func (r UpgradeRequest) Check() error {
	if r.Nodes != "" {
		if _, err := node.ParsePatterns(r.Nodes); err != nil {
			return err
		}
	}
	return rollout.Rollout{Batch: r.Batch, Attempts: r.Attempts, Wait: r.Wait, Deadline: r.Deadline}.CheckTerms()
}

// An Upgrade is a rollout, and the nodes that have no part in it.
type Upgrade struct {
	rollout.Rollout
	LeftOut []LeftOut `json:"left_out,omitempty"`
	Unseen  []string  `json:"unseen,omitempty"` // nodes that are to be switched and of which nothing was ever seen
}

// A LeftOut is a node that an upgrade does not touch, and why.
type LeftOut struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// Upgrades brings nodes to other releases. Its methods are called concurrently.
type Upgrades interface {
	// Upgrades returns the last rollout of each role, by role.
	Upgrades() []rollout.Rollout
	// Upgrade begins a rollout, which is on disk when it returns.
	Upgrade(ctx context.Context, r UpgradeRequest) (Upgrade, error)
	// Steer stops the rollout of a role or has it go on: Stop, Abandon, Resume
	// or Skip. It is on disk when it returns.
	Steer(role string, what rollout.What) (rollout.Rollout, error)
}

// steering are the last elements of the routes that steer a rollout.
var steering = map[string]rollout.What{"stop": rollout.Stop, "abandon": rollout.Abandon, "resume": rollout.Resume, "skip": rollout.Skip}

func upgradeRoutes(mux *http.ServeMux, b Upgrades) {
	mux.HandleFunc("GET /v1/upgrades", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.Upgrades(), nil) })
	mux.HandleFunc("POST /v1/upgrades", func(w http.ResponseWriter, r *http.Request) {
		var req UpgradeRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
			refuse(w, http.StatusBadRequest, failure{Error: fmt.Sprintf("not an upgrade: %v", err)})
			return
		}
		u, err := b.Upgrade(r.Context(), req)
		answer(w, u, err)
	})
	mux.HandleFunc("POST /v1/upgrades/{role}/{what}", func(w http.ResponseWriter, r *http.Request) {
		what, ok := steering[r.PathValue("what")]
		if !ok {
			refuse(w, http.StatusNotFound, failure{Error: fmt.Sprintf("%q is not stop, abandon, resume or skip", r.PathValue("what"))})
			return
		}
		now, err := b.Steer(r.PathValue("role"), what)
		answer(w, now, err)
	})
}

// Upgrades asks for the last rollout of each role.
func (c *Client) Upgrades(ctx context.Context) (list []rollout.Rollout, err error) {
	return list, c.get(ctx, "/v1/upgrades", &list)
}

// Upgrade begins a rollout.
func (c *Client) Upgrade(ctx context.Context, r UpgradeRequest) (u Upgrade, err error) {
	return u, c.call(ctx, http.MethodPost, "/v1/upgrades", r, &u)
}

// Steer stops the rollout of a role, or has it go on: what is "stop",
// "abandon", "resume" or "skip".
func (c *Client) Steer(ctx context.Context, role, what string) (r rollout.Rollout, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/upgrades/"+url.PathEscape(role)+"/"+what, nil, &r)
}
