package ipxe

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"bootd/deploy"
)

// cutOff is a connection that breaks after a few bytes.
type cutOff struct{ *httptest.ResponseRecorder }

func (c cutOff) Write(b []byte) (int, error) {
	_, _ = c.ResponseRecorder.Write(b[:3])
	return 3, errors.New("connection reset")
}

// The timeline says of each document what became of it: only what arrived was
// given.
func TestPayloadOutcome(t *testing.T) {
	const place = "/etc/bootd/secrets/join"
	document := PayloadAnswer{Verdict: deploy.Granted, Body: []byte("#cloud-config\n")}
	done := func(err error) PayloadAnswer {
		a := document
		a.Done = func(bool) error { return err }
		return a
	}
	for _, tt := range []struct {
		name         string
		answer       PayloadAnswer
		cut          bool
		status       int
		action, text string
	}{
		{"sent", document, false, 200, "given", ""},
		{"cannot be made", PayloadAnswer{Verdict: deploy.Granted, Err: errors.New(place + ": permission denied")}, false, 503, "failed", place + ": permission denied"},
		{"cut off", done(nil), true, 200, "failed", "connection reset"},
		{"use not kept", done(errors.New("disk full")), false, 200, "failed", "disk full"},
		{"expired", PayloadAnswer{Verdict: deploy.Gone, Reason: "the ticket has expired"}, false, 410, "gone", "the ticket has expired"},
		{"somebody else", PayloadAnswer{Verdict: deploy.Foreign, Reason: "not who it was issued to"}, false, 403, "foreign", "not who it was issued to"},
		{"no ticket", PayloadAnswer{Reason: "there is no such ticket"}, false, 404, "unknown", "there is no such ticket"},
	} {
		s, ev := server(t)
		s.Payload = func(PayloadRequest, bool) PayloadAnswer { return tt.answer }
		w := httptest.NewRecorder()
		var to http.ResponseWriter = w
		if tt.cut {
			to = cutOff{w}
		}
		r := httptest.NewRequest("GET", "/payload/user-data", nil)
		r.RemoteAddr = netip.AddrPortFrom(leased, 5000).String()
		s.Handler().ServeHTTP(to, r)
		if e := ev.take(); len(e) != 1 || e[0].Action != tt.action || e[0].Err != tt.text {
			t.Errorf("%s: got %+v, want action %q because %q", tt.name, e, tt.action, tt.text)
		}
		if w.Code != tt.status || strings.Contains(w.Body.String(), place) {
			t.Errorf("%s: got %d %q, want %d, and no path of ours", tt.name, w.Code, w.Body, tt.status)
		}
	}
}

// privately is an error that says less to machines.
type privately struct{}

func (privately) Error() string { return "join: permission denied" }
func (privately) Shown() string { return "join: cannot be rendered" }

// The screen of a machine shows less of an error than its timeline has, by
// whichever loader it asks.
func TestShown(t *testing.T) {
	for _, path := range []string{"/boot/script.ipxe?mac=52-54-00-aa-bb-07", "/grub/grub.cfg"} {
		s, ev := server(t)
		decide := s.Decide
		s.Decide = func(m Machine) deploy.Decision {
			d := decide(m)
			d.Payload = "nocloud"
			return d
		}
		s.Ticket = func(deploy.Decision, netip.Addr, string) (deploy.Token, error) {
			return deploy.Token{}, fmt.Errorf("payload: %w", privately{})
		}
		body := ask(s.Handler(), leased, "GET", path, nil).Body.String()
		if !strings.Contains(body, "join: cannot be rendered") || strings.Contains(body, "permission denied") {
			t.Errorf("%s: got %q, want where, and not why", path, body)
		}
		if e := ev.take(); len(e) != 1 || e[0].Err != "payload: join: permission denied" {
			t.Errorf("%s: got %+v, want where and why", path, e)
		}
	}
}
