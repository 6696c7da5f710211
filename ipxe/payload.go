package ipxe

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// A PayloadRequest asks for a document of a ticket.
type PayloadRequest struct {
	Token    string // as in the URL; not for any log
	Document string // its name
	Peer     netip.Addr
	Server   string // host or host:port the machine reaches us at
}

// A PayloadAnswer is what becomes of a PayloadRequest.
type PayloadAnswer struct {
	Verdict deploy.Verdict
	Body    []byte   // when granted
	Type    string   // Content-Type of Body
	Node    string   // whose ticket it is, else who asks; empty: neither is known
	MAC     node.MAC // of Node, as the ticket or the lease has it
	Ticket  string   // its ID; empty: none
	Reason  string   // why it is not granted
	// Err is why a ticket that is good cannot be served now.
	Err error
	// Done is told whether all of Body was sent. Nil: nobody wants to know.
	Done func(complete bool) error
}

// ticket returns the ticket for a decision; zero: none is needed.
func (s *Server) ticket(d deploy.Decision, peer netip.Addr, server string) (deploy.Token, error) {
	if d.Action != deploy.Boot || d.Payload == "" || s.Ticket == nil {
		return deploy.Token{}, nil
	}
	return s.Ticket(d, peer, server)
}

// statuses of what is not granted (protocol.md, C75). 404 is for a token that
// never was: cloud-init then says so in its log, and does not configure the
// node with nothing.
var statuses = map[deploy.Verdict]int{
	deploy.Unknown: http.StatusNotFound, deploy.Foreign: http.StatusForbidden, deploy.Gone: http.StatusGone,
}

// payload answers for a document of a ticket.
func (h *handler) payload(w *meter, c *call) error {
	if h.Payload == nil {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	begin := time.Now()
	a := h.Payload(PayloadRequest{c.token, c.file, c.addr, c.server}, c.Method == http.MethodHead)
	if a.Err == nil {
		h.sendPayload(w, c, a)
	}
	err := a.Err
	switch {
	case a.Verdict != deploy.Granted:
		err = errors.New(a.Reason)
	case err == nil && a.Done != nil:
		err = errors.Join(w.err, a.Done(w.err == nil && w.sent == int64(len(a.Body))))
	}
	e := h.event(c, w, begin, timeline.Payload)
	e.File, e.Action, e.Detail = c.file, a.Verdict.String(), a.Ticket
	if a.Verdict != deploy.Granted {
		e.Bytes, e.Dur = 0, 0
	}
	if a.Node != "" {
		e.Node, e.MAC = a.Node, a.MAC
	}
	if a.Verdict == deploy.Foreign {
		e.Stage = "" // not the node's
	}
	h.record(c, e, err)
	if a.Err != nil {
		return refuse(http.StatusServiceUnavailable, "document cannot be given out now, ask again")
	}
	return nil
}

// sendPayload sends a document, or what stands for one. No cache may keep it,
// and no page it leads to may learn its URL. Ranges are ignored: a document is
// given out whole or not at all.
func (h *handler) sendPayload(w *meter, c *call, a PayloadAnswer) {
	body, status := a.Body, http.StatusOK
	if a.Verdict != deploy.Granted {
		body, status = payload.Harmless(c.file, wireText(a.Reason)), statuses[a.Verdict]
		a.Type = ""
	}
	header := w.Header()
	header.Set("Content-Type", cmp.Or(a.Type, "text/plain; charset=utf-8"))
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if c.Method != http.MethodHead {
		_, _ = w.Write(body) // kept by the meter
	}
}
