package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"bootd/deploy"
)

// An Order is what an administrator wants of the deployments of nodes.
type Order struct {
	Do     string `json:"do"`               // arm, disarm, hold or resume
	Nodes  string `json:"nodes"`            // list of patterns, such as ncn-m[001-003],ncn-s*
	Wipe   bool   `json:"wipe,omitempty"`   // arm: and wipe the disks
	Again  bool   `json:"again,omitempty"`  // arm: even a node that installs
	Reason string `json:"reason,omitempty"` // hold: shown on the screens of the nodes
}

// A Moved is what came of an Order for one node.
type Moved struct {
	Node string       `json:"node"`
	Was  deploy.Phase `json:"was"`
	Is   deploy.Phase `json:"is"`
	Wipe bool         `json:"wipe,omitempty"` // its next boot wipes
	Done bool         `json:"changed"`
	Err  string       `json:"err,omitempty"` // why it was not done; empty: it was, or there was nothing to do
}

// A NodeReport is the text that a node sent of its own accord.
type NodeReport struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // failed, report
	Text string    `json:"text"` // at most 64 KiB, secrets taken out
}

// Life is what the system that runs on a node shows of itself.
type Life struct {
	Heartbeat time.Time     `json:"heartbeat,omitzero"`  // the last one; zero: none since the daemon was started
	Silent    time.Duration `json:"silent_ns,omitempty"` // since then, or since the start; 0: it sends none
	Agent     deploy.Agent  `json:"agent,omitzero"`      // that registered; zero: none did
}

// A Deployment is all that is kept of the deployment of one node.
type Deployment struct {
	Node   string        `json:"node"`
	Record deploy.Record `json:"record"`
	Life
	Reports []NodeReport `json:"reports,omitempty"`
}

// Deployments are the part of a Backend that moves nodes along.
type Deployments interface {
	// Order carries out an order, on disk first. The error is one of the order
	// itself, and nothing was done.
	Order(o Order) ([]Moved, error)
	// Deployment wraps ErrUnknown when there is no such node.
	Deployment(node string) (Deployment, error)
}

const maxOrder = 64 << 10

func deploymentRoutes(mux *http.ServeMux, b Backend) {
	mux.HandleFunc("POST /v1/deployments", func(w http.ResponseWriter, r *http.Request) {
		var o Order
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder)).Decode(&o); err != nil {
			refuse(w, http.StatusBadRequest, failure{Error: fmt.Sprintf("not an order: %v", err)})
			return
		}
		list, err := b.Order(o)
		answer(w, list, err)
	})
	mux.HandleFunc("GET /v1/deployments/{node}", func(w http.ResponseWriter, r *http.Request) {
		dep, err := b.Deployment(r.PathValue("node"))
		answer(w, dep, err)
	})
}

// Order moves nodes along.
func (c *Client) Order(ctx context.Context, o Order) (list []Moved, err error) {
	return list, c.call(ctx, http.MethodPost, "/v1/deployments", o, &list)
}

// Deployment asks how far the deployment of a node is. The error wraps
// ErrUnknown when there is no such node.
func (c *Client) Deployment(ctx context.Context, node string) (d Deployment, err error) {
	return d, c.getOf(ctx, "/v1/deployments/", node, &d)
}
