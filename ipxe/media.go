package ipxe

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// A MediumRequest asks for the CD image of a token.
type MediumRequest struct {
	Token string // as in the URL; not for any log
	Name  string // last element of the URL
	Peer  netip.Addr
}

// A MediumAnswer is what becomes of a MediumRequest.
type MediumAnswer struct {
	Verdict deploy.Verdict
	Node    string   // whose image it is; empty: nobody's
	MAC     node.MAC // of its BMC, where it is known
	Ticket  string   // the token's ID; empty: none
	Reason  string   // why it is not granted
	Err     error    // why an image that is granted cannot be served now

	Content io.ReadSeekCloser // when granted
	Time    time.Time         // of the image
	ETag    string            // with its quotes
}

// media answers for a CD image. A BMC reads it as a drive does: piece by piece,
// with a Range and often a HEAD before it, for as long as the machine runs.
func (h *handler) media(w *meter, c *call) error {
	if h.Media == nil {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	if !h.slots.take(c.addr) {
		return refuse(http.StatusServiceUnavailable, "too many transfers, ask again")
	}
	defer h.slots.give(c.addr)
	begin := time.Now()
	a := h.Media(MediumRequest{c.token, c.file, c.addr})
	var refused error
	switch {
	case a.Err != nil:
		refused = refuse(http.StatusServiceUnavailable, "image cannot be given out now, ask again")
	case a.Verdict != deploy.Granted:
		refused = refuse(statuses[a.Verdict], "%s", WireText(a.Reason))
		a.Err = errors.New(a.Reason)
	default:
		a.Err = h.sendMedium(w, c, a)
	}
	e := h.event(c, w, begin, timeline.Media)
	e.Node, e.MAC, e.Stage = a.Node, a.MAC, "" // of the BMC, whoever leases its address
	e.File, e.Action, e.Detail = c.file, outcome(a.Verdict, a.Err), a.Ticket
	if a.Err != nil {
		h.record(c, e, a.Err)
	} else if c.Method != http.MethodHead {
		h.Record(e) // and no line in the log: an installer is thousands of pieces
	}
	return refused
}

// sendMedium sends the image or a piece of it. No cache may keep it.
func (h *handler) sendMedium(w *meter, c *call, a MediumAnswer) error {
	defer a.Content.Close()
	if strings.Contains(c.Header.Get("Range"), ",") {
		c.Header.Del("Range") // see serveFile
	}
	header := w.Header()
	header.Set("Content-Type", "application/x-iso9660-image")
	header.Set("ETag", a.ETag)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, c.Request, "", a.Time, a.Content)
	return w.err
}
