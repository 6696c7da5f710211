package deploy_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bootd/deploy"
)

func openMedia(t *testing.T, d *disk) *deploy.Media {
	t.Helper()
	m, err := deploy.OpenMedia(d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var bmcAddr = netip.MustParseAddr("10.254.0.7")

// A medium is its BMC's, for its time, across restarts.
func TestMediaLook(t *testing.T) {
	d := &disk{records: map[string]string{}}
	m := openMedia(t, d)
	token, _, err := m.Issue(deploy.Medium{Node: "ncn-w001", Kind: deploy.SiteMedium, From: bmcAddr, Issued: start, Sum: "aa"})
	if err != nil {
		t.Fatal(err)
	}
	unbound, _, err := m.Issue(deploy.Medium{Node: "ncn-w002", Kind: deploy.SiteMedium, Issued: start, Sum: "bb"})
	if err != nil {
		t.Fatal(err)
	}
	other := netip.MustParseAddr("10.254.0.8")
	for _, again := range []*deploy.Media{m, openMedia(t, d)} {
		for _, tt := range []struct {
			token   string
			after   time.Duration
			peer    netip.Addr
			verdict deploy.Verdict
			reason  string
		}{
			{token.Reveal(), 0, bmcAddr, deploy.Granted, ""},
			{token.Reveal(), deploy.MediumTTL - 1, bmcAddr, deploy.Granted, ""},
			{token.Reveal(), deploy.MediumTTL, bmcAddr, deploy.Gone, "the image has expired"},
			{token.Reveal(), 0, other, deploy.Foreign, "10.254.0.8 is not the address of the BMC that it was made for"},
			{token.Reveal(), deploy.MediumTTL, other, deploy.Foreign, "10.254.0.8 is not the address of the BMC that it was made for"},
			{unbound.Reveal(), 0, other, deploy.Granted, ""},
			{"bdt_" + strings.Repeat("0", 32), 0, bmcAddr, deploy.Unknown, "there is no such image"},
			{strings.ToUpper(token.Reveal()), 0, bmcAddr, deploy.Unknown, "there is no such image"},
			{"", 0, bmcAddr, deploy.Unknown, "there is no such image"},
		} {
			u := again.Look(start.Add(tt.after), tt.token, tt.peer)
			if u.Verdict != tt.verdict || u.Reason != tt.reason {
				t.Errorf("%s after %v from %v: got %v %q, want %v %q", deploy.Redact(tt.token), tt.after, tt.peer, u.Verdict, u.Reason, tt.verdict, tt.reason)
			}
		}
	}
	for key, value := range d.records {
		if strings.Contains(key+value, strings.TrimPrefix(token.Reveal(), "bdt_")) {
			t.Error("the token is on disk")
		}
	}
}

// A node has one medium of each kind: the last one.
func TestMediaReplaceAndRevoke(t *testing.T) {
	d := &disk{records: map[string]string{}}
	m := openMedia(t, d)
	issue := func(kind deploy.MediumKind, sum string) (string, deploy.Medium) {
		t.Helper()
		token, was, err := m.Issue(deploy.Medium{Node: "ncn-w001", Kind: kind, Issued: start, Sum: sum})
		if err != nil {
			t.Fatal(err)
		}
		return token.Reveal(), was
	}
	verdict := func(token string) deploy.Verdict { return m.Look(start, token, bmcAddr).Verdict }

	first, was := issue(deploy.SiteMedium, "1")
	if was.Node != "" {
		t.Errorf("the first one took the place of %+v", was)
	}
	install, _ := issue(deploy.InstallMedium, "2")
	second, was := issue(deploy.SiteMedium, "3")
	if was.Sum != "1" || verdict(first) != deploy.Unknown || verdict(second) != deploy.Granted || verdict(install) != deploy.Granted {
		t.Errorf("after the second: got %+v replaced, %v, %v, %v, want the first, unknown, given, given", was, verdict(first), verdict(second), verdict(install))
	}

	d.fail = errors.New("disk full")
	if ended, err := m.Revoke("ncn-w001"); len(ended) != 0 || !errors.Is(err, d.fail) || verdict(second) != deploy.Granted {
		t.Errorf("disk full: got %v ended, %v, %v, want none, the error, and still given", ended, err, verdict(second))
	}
	if _, _, err := m.Issue(deploy.Medium{Node: "ncn-w001", Kind: deploy.SiteMedium, Issued: start}); !errors.Is(err, d.fail) || verdict(second) != deploy.Granted {
		t.Errorf("disk full: got %v, %v, want the error, and the old one still given", err, verdict(second))
	}
	d.fail = nil
	if ended, err := m.Revoke("ncn-w001", deploy.InstallMedium); err != nil || len(ended) != 1 || ended[0].Sum != "2" || verdict(install) != deploy.Unknown || verdict(second) != deploy.Granted {
		t.Errorf("revoke install: got %v, %v, want that one alone", ended, err)
	}
	if ended, err := m.Expired(start.Add(deploy.MediumTTL - 1)); err != nil || len(ended) != 0 {
		t.Errorf("before its time: got %v, %v, want nothing ended", ended, err)
	}
	if ended, err := m.Expired(start.Add(deploy.MediumTTL)); err != nil || len(ended) != 1 || len(m.Live()) != 0 || len(d.records) != 0 {
		t.Errorf("after its time: got %v, %v, %d on disk, want it ended everywhere", ended, err, len(d.records))
	}
}
