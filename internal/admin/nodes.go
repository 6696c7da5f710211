package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"

	"bootd/internal/lease"
	"bootd/internal/node"
)

// An Inventory answers for the nodes. Its methods are called concurrently. What
// they change is on disk and in force when they return; on dry they say what
// they would change.
type Inventory interface {
	// Nodes returns the nodes in the order of the configuration.
	Nodes() []Node
	// SetNode writes a node that is not there yet, or one that is as the request
	// has it, which changes nothing.
	SetNode(r NodeRequest, dry bool) (NodeChange, error)
	// ReplaceNode gives a node other hardware.
	ReplaceNode(r NodeRequest, dry bool) (NodeChange, error)
	// RemoveNode takes a node away that a command added; with force even when
	// it is booting.
	RemoveNode(name string, force, dry bool) (NodeChange, error)
}

// A Node is a node of the inventory, with what its role gives it.
type Node struct {
	Name    string            `json:"name"`
	Role    string            `json:"role"`
	MACs    []node.MAC        `json:"macs"`
	BMC     node.MAC          `json:"bmc,omitzero"`
	UUID    node.UUID         `json:"uuid,omitzero"`
	Serial  string            `json:"serial,omitempty"`
	Addr    netip.Addr        `json:"address,omitzero"`
	More    []netip.Addr      `json:"addresses,omitempty"`
	BMCAddr netip.Addr        `json:"bmc_address,omitzero"`
	Boot    string            `json:"boot"`
	Release string            `json:"release,omitempty"` // that it is pinned to
	Args    string            `json:"args,omitempty"`
	Loader  string            `json:"loader,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Added   bool              `json:"added"` // by a command: no configuration file has it
	From    string            `json:"from"`  // files and lines where it is written
	// Keys tells of each key of the node, as the configuration spells it, which
	// file and line it counts from.
	Keys map[string]string `json:"keys"`
}

// A NodeRequest is what is to be written of a node. A key without a value is
// written too: the node has none.
type NodeRequest struct {
	Name string              `json:"name"`
	Keys map[string][]string `json:"keys"`
}

// A NodeChange is what a request changed. It is zero when that is nothing.
type NodeChange struct {
	Node  string        `json:"node,omitempty"`
	Keys  []KeyChange   `json:"keys,omitempty"`
	Ended []lease.Lease `json:"ended,omitempty"` // leases of hardware that is the node's no longer
	Given []lease.Lease `json:"given,omitempty"` // that its new hardware has instead
}

// A KeyChange is a key of a node with the values it had and has, as the
// configuration spells them; empty: none.
type KeyChange struct {
	Key string `json:"key"`
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

func nodeRoutes(mux *http.ServeMux, b Inventory) {
	mux.HandleFunc("GET /v1/nodes", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.Nodes(), nil) })
	write := func(do func(NodeRequest, bool) (NodeChange, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var req NodeRequest
			if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&req); err != nil {
				refuse(w, http.StatusBadRequest, failure{Error: err.Error()})
				return
			}
			change, err := do(req, r.URL.Query().Has("dry-run"))
			answer(w, change, err)
		}
	}
	mux.HandleFunc("POST /v1/nodes", write(b.SetNode))
	mux.HandleFunc("POST /v1/nodes/replace", write(b.ReplaceNode))
	mux.HandleFunc("DELETE /v1/nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		change, err := b.RemoveNode(r.PathValue("name"), q.Has("force"), q.Has("dry-run"))
		answer(w, change, err)
	})
}

// Nodes asks for the inventory.
func (c *Client) Nodes(ctx context.Context) (list []Node, err error) {
	return list, c.get(ctx, "/v1/nodes", &list)
}

// SetNode asks for a node to be written.
func (c *Client) SetNode(ctx context.Context, r NodeRequest, dry bool) (change NodeChange, err error) {
	return change, c.call(ctx, http.MethodPost, "/v1/nodes"+query("dry-run", dry), r, &change)
}

// ReplaceNode asks for a node to be given other hardware.
func (c *Client) ReplaceNode(ctx context.Context, r NodeRequest, dry bool) (change NodeChange, err error) {
	return change, c.call(ctx, http.MethodPost, "/v1/nodes/replace"+query("dry-run", dry), r, &change)
}

// RemoveNode asks for a node to be taken away.
func (c *Client) RemoveNode(ctx context.Context, name string, force, dry bool) (change NodeChange, err error) {
	if !node.ValidName(name) {
		return change, fmt.Errorf("there is no node %q", name) // and as a path it could lead elsewhere
	}
	q := url.Values{}
	for key, on := range map[string]bool{"force": force, "dry-run": dry} {
		if on {
			q.Set(key, "")
		}
	}
	return change, c.call(ctx, http.MethodDelete, "/v1/nodes/"+name+"?"+q.Encode(), nil, &change)
}

// query is a query of one key, or none.
func query(key string, on bool) string {
	if on {
		return "?" + key
	}
	return ""
}
