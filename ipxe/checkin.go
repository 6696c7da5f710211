package ipxe

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"bootd/internal/timeline"
)

// A CheckIn is what a node says of itself.
type CheckIn struct {
	Node    string
	Addr    netip.Addr
	Kind    string     // one of the kinds of check-ins
	Release string     // that it runs; empty: it does not say
	Detail  string     // one line for people; may be empty
	Text    []byte     // the body of "failed" and "report", at most 64 KiB but for what stands for secrets
	Values  url.Values // of the others: what their bodies say
}

// checkIns are the kinds of check-ins. Those whose body is a text, and not
// values, have true.
var checkIns = map[string]bool{
	"installed":  false, // the installer is through
	"booted":     false, // the system runs
	"phone-home": false, // the same, by cloud-init's module phone_home
	"heartbeat":  false, // the system still runs; no event
	"registered": false, // the system registered where it belongs
	"failed":     true,
	"report":     true, // what a validation found
}

// validate sends the program by which a node reports what it is.
func (h *handler) validate(w *meter, c *call) error {
	var text []byte
	if h.Validate != nil {
		text = h.Validate(c.addr, c.server)
	}
	if text == nil {
		return refuse(http.StatusNotFound, "%q: no such file: address %v is no node's of which anything is expected", c.path, c.addr)
	}
	begin := time.Now()
	sendScript(w, text)
	h.record(c, h.event(c, w, begin, timeline.HTTP), w.err)
	return nil
}

// checkIn takes what a node says of itself.
func (h *handler) checkIn(w *meter, c *call) error {
	name, _ := h.identify(c.addr)
	if name == "" || h.IsNode != nil && !h.IsNode(name) { // a BMC has a name, and is no node
		return refuse(http.StatusNotFound, "address %v is no node's", c.addr)
	}
	begin := time.Now()
	in, err := h.readCheckIn(w, c, name)
	if err != nil {
		return err
	}
	e := h.event(c, w, begin, timeline.CheckIn)
	e.Stage, e.Bytes, e.Action = timeline.OS, 0, in.Kind
	e.Release, e.Detail = in.Release, in.Detail
	err = h.CheckIn(in)
	if in.Kind != "heartbeat" {
		h.record(c, e, err)
	}
	if err != nil {
		return err
	}
	return plain(w, "ok")
}

// readCheckIn reads what a node says, without its secrets: they are taken out
// before a text is cut, or half of one could stay.
func (h *handler) readCheckIn(w *meter, c *call, name string) (in CheckIn, err error) {
	in = CheckIn{Node: name, Addr: c.addr, Kind: c.file}
	clean := func(s string) string {
		if s == "" {
			return ""
		}
		return WireText(h.Redact(name, s))
	}
	if checkIns[in.Kind] {
		text, err := text(w, c.Request, in.Kind == "failed")
		if err != nil {
			return in, err
		}
		in.Text = []byte(h.Redact(name, string(text)))
		in.Values = c.URL.Query()
		in.Detail = clean(cmp.Or(in.Values.Get("detail"), lastLine(in.Text)))
	} else {
		if in.Values, err = form(w, c.Request); err != nil {
			return in, err
		}
		in.Detail = clean(in.Values.Get("detail"))
	}
	in.Release = clean(in.Values.Get("release"))
	return in, nil
}

// lastLine returns the last line that is not empty: where most programs say why
// they failed.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// maxLog is the longest log of a failure that is read. Of more than maxBody its
// end is kept: that is where most programs say why they failed.
const maxLog = 64 << 20

// text reads the body of a check-in that is a text, and where tail says so the
// end of a longer one.
func text(w http.ResponseWriter, r *http.Request, tail bool) ([]byte, error) {
	if !tail {
		return body(w, r)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(logTime))
	var kept []byte
	cut := false
	in, piece := http.MaxBytesReader(w, r.Body, maxLog), make([]byte, 32<<10)
	for {
		n, err := in.Read(piece)
		if kept = append(kept, piece[:n]...); len(kept) > maxBody {
			kept, cut = kept[len(kept)-maxBody:], true
		}
		switch {
		case err == nil:
		case len(kept) == 0 && !errors.Is(err, io.EOF):
			return nil, refuse(http.StatusBadRequest, "body did not arrive")
		case cut: // and not half a line, which may be half a secret
			_, rest, _ := bytes.Cut(kept, []byte("\n"))
			return bytes.Clone(rest), nil
		default: // what came of a log that was cut off says more than nothing
			return bytes.Clone(kept), nil
		}
	}
}

// logTime is how long a client has to send a log.
const logTime = time.Minute

// body reads a whole body within its bounds.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, refuse(http.StatusRequestEntityTooLarge, "body is longer than %d bytes", maxBody)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "body did not arrive")
	}
	return b, nil
}

// form reads a body of key=value pairs: a form, or lines of plain text.
func form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	body, err := body(w, r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		values, err := url.ParseQuery(strings.TrimSpace(string(body)))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "body is not a form")
		}
		return values, nil
	}
	values := url.Values{}
	for line := range strings.Lines(string(body)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values.Add(key, value)
		}
	}
	return values, nil
}
