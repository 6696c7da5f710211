package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"bootd/links"
)

// BootDirs are the part of a Backend that changes boot directories.
type BootDirs interface {
	// ApplyLinks carries out a plan as links.Tree does: what is done when ctx
	// ends stays done.
	ApplyLinks(ctx context.Context, p links.Plan) ([]links.Change, error)
}

// A linkOrder is a plan on the wire. Thousands of nodes share few links.
type linkOrder struct {
	Why     string         `json:"why"`
	LiveDir *string        `json:"live_dir,omitempty"`
	Copied  []string       `json:"copied,omitempty"`
	Sweep   []string       `json:"leftovers,omitempty"`
	Links   []links.Links  `json:"links"`
	Scripts []links.Script `json:"scripts,omitempty"`
	Nodes   []linkNode     `json:"nodes"`
}

// A linkNode is one change of a linkOrder.
type linkNode struct {
	Node   string `json:"node"`
	Links  int    `json:"links"`            // index in Links
	Script int    `json:"script,omitempty"` // index in Scripts, from 1; zero: none
}

// A linkLine is one line of the answer: a node that is done or, at the end, how
// it went.
type linkLine struct {
	Done  string        `json:"done,omitempty"`
	End   bool          `json:"end,omitempty"`
	Error string        `json:"error,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"` // that is behind the error
}

const (
	maxLinkOrder = 64 << 20         // a million nodes
	linkPatience = 10 * time.Second // with a caller who does not read or write
)

func linkRoutes(mux *http.ServeMux, b BootDirs) {
	one := make(chan struct{}, 1)
	mux.HandleFunc("POST /v1/links", func(w http.ResponseWriter, r *http.Request) {
		select {
		case one <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		defer func() { <-one }()
		p, err := readPlan(w, r)
		if err != nil {
			refuse(w, http.StatusBadRequest, failure{Error: err.Error()})
			return
		}
		applyLinks(w, r, b, p)
	})
}

// readPlan reads the plan of a request, while others wait for it.
func readPlan(w http.ResponseWriter, r *http.Request) (links.Plan, error) {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(linkPatience))
	var o linkOrder
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLinkOrder)).Decode(&o); err != nil {
		return links.Plan{}, fmt.Errorf("not a plan: %w", err)
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return o.plan()
}

// applyLinks does the work and tells each node that is done. A caller who
// leaves ends it after the node that is being switched.
func applyLinks(w http.ResponseWriter, r *http.Request, b BootDirs, p links.Plan) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, flush := json.NewEncoder(w), http.NewResponseController(w)
	p.Done = func(c links.Change) {
		flush.SetWriteDeadline(time.Now().Add(linkPatience)) // nodes wait for those behind the caller
		enc.Encode(linkLine{Done: c.Node})
		flush.Flush()
	}
	_, err := b.ApplyLinks(r.Context(), p)
	end := linkLine{End: true}
	if err != nil {
		end.Error = err.Error()
		errors.As(err, &end.Errno)
	}
	enc.Encode(end) // the caller may have left: nothing to do about it
}

// plan returns the plan that an order stands for.
func (o linkOrder) plan() (links.Plan, error) {
	p := links.Plan{Why: o.Why, LiveDir: o.LiveDir, Copied: o.Copied, Leftovers: o.Sweep}
	if o.LiveDir != nil {
		if err := links.CheckLiveDir(*o.LiveDir); err != nil {
			return p, fmt.Errorf("live_dir: %w", err)
		}
	}
	for _, n := range o.Nodes {
		if n.Links < 0 || n.Links >= len(o.Links) || n.Script < 0 || n.Script > len(o.Scripts) {
			return p, fmt.Errorf("node %q: its links or its script are not in the order", n.Node)
		}
		c := links.Change{Node: n.Node, New: o.Links[n.Links]}
		if n.Script > 0 {
			c.Script = &o.Scripts[n.Script-1]
		}
		p.Changes = append(p.Changes, c)
	}
	return p, nil
}

func orderOf(p links.Plan) linkOrder {
	o := linkOrder{Why: p.Why, LiveDir: p.LiveDir, Copied: p.Copied, Sweep: p.Leftovers}
	index, scripts := map[links.Links]int{}, map[string]int{}
	for _, c := range p.Changes {
		i, ok := index[c.New]
		if !ok {
			i = len(o.Links)
			index[c.New], o.Links = i, append(o.Links, c.New)
		}
		n := linkNode{Node: c.Node, Links: i}
		if c.Script != nil {
			key := fmt.Sprintf("%+v", *c.Script)
			if scripts[key] == 0 {
				o.Scripts = append(o.Scripts, *c.Script)
				scripts[key] = len(o.Scripts)
			}
			n.Script = scripts[key]
		}
		o.Nodes = append(o.Nodes, n)
	}
	return o
}

// A linkError is why a daemon did not do all.
type linkError struct {
	text  string
	errno syscall.Errno
}

func (e linkError) Error() string { return e.text }

// Unwrap returns what the system said to the daemon.
func (e linkError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// ApplyLinks has the daemon carry out a plan, and returns the changes that are
// done in any case. When ctx ends, so does the work.
func (c *Client) ApplyLinks(ctx context.Context, p links.Plan) (done []links.Change, err error) {
	order, err := json.Marshal(orderOf(p))
	if err != nil {
		return nil, err
	}
	body, err := c.send(ctx, http.MethodPost, "/v1/links", bytes.NewReader(order))
	if err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	defer body.Close()
	changes := map[string]links.Change{}
	for _, ch := range p.Changes {
		changes[ch.Node] = ch
	}
	for dec := json.NewDecoder(body); ; {
		var line linkLine
		switch err := dec.Decode(&line); {
		case ctx.Err() != nil:
			return done, ctx.Err()
		case err == io.EOF:
			return done, c.explain(io.ErrUnexpectedEOF)
		case err != nil:
			return done, c.explain(err)
		case line.End && line.Error != "":
			return done, linkError{line.Error, line.Errno}
		case line.End:
			return done, nil
		}
		ch := changes[line.Done]
		done = append(done, ch)
		if p.Done != nil {
			p.Done(ch)
		}
	}
}
