package dhcp

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// RFC 2131, section 4.3.2: a REQUEST for another server is how one hears of it.
func TestRivals(t *testing.T) {
	rival, other := netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.3")
	chooses := func(server netip.Addr) *dhcpv4.DHCPv4 {
		return message(m1, dhcpv4.MessageTypeRequest, withAddr(54, server), withAddr(50, netip.MustParseAddr("10.77.0.50")))
	}
	run(t, []Subnet{testSubnet()}, fixed{m1: netip.MustParseAddr("10.77.0.11")}, func(b *bench) {
		var log bytes.Buffer
		b.server.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		warnings := func(want int) {
			t.Helper()
			if got := strings.Count(log.String(), "another DHCP server answers"); got != want {
				t.Errorf("got %d warnings, want %d\n%s", got, want, &log)
			}
		}
		b.lease(m2)
		warnings(0)
		b.silent(chooses(rival))
		b.silent(chooses(rival))
		warnings(1)
		if !strings.Contains(log.String(), "server=10.77.0.2") || !strings.Contains(log.String(), "node=ncn-m001") {
			t.Errorf("got %q, want it to name 10.77.0.2 and ncn-m001", log.String())
		}
		got := b.server.Rivals(time.Now())
		if len(got) != 1 || got[0].Server != rival || got[0].MAC != m1 || got[0].Choices != 2 || got[0].Subnet.String() != "10.77.0.0/24" {
			t.Fatalf("got %+v, want 10.77.0.2 chosen twice by %v", got, m1)
		}
		time.Sleep(59 * time.Minute)
		b.silent(chooses(rival))
		b.silent(chooses(other))
		warnings(2) // about the other one only
		time.Sleep(2 * time.Minute)
		b.silent(chooses(rival))
		warnings(3)
		if got := b.server.Rivals(time.Now()); len(got) != 2 || got[0].Server != rival {
			t.Errorf("got %+v, want both, 10.77.0.2 first", got)
		}
		time.Sleep(24 * time.Hour)
		if got := b.server.Rivals(time.Now()); len(got) != 0 {
			t.Errorf("a day later: got %+v, want none", got)
		}
	})
}

// In a shared subnet the other server is no news.
func TestNoRivalsInSharedSubnet(t *testing.T) {
	sub := testSubnet()
	sub.Authoritative = false
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		b.silent(message(m1, dhcpv4.MessageTypeRequest, withAddr(54, netip.MustParseAddr("10.77.0.2")), withAddr(50, netip.MustParseAddr("10.77.0.50"))))
		if got := b.server.Rivals(time.Now()); len(got) != 0 {
			t.Errorf("got %+v, want none", got)
		}
	})
}

// Made-up servers cost bounded memory and few warnings, and the real one is
// still there when it is heard of again.
func TestRivalsAreBounded(t *testing.T) {
	var s rivals
	now, warned := time.Unix(1e9, 0), 0
	for i := range uint32(1000) {
		if _, warn := s.note(Rival{Server: address(0x0a000000 + i), Last: now}); warn {
			warned++
		}
	}
	if len(s.list) != maxRivals || warned != 1 {
		t.Errorf("got %d kept, %d warnings, want %d and 1", len(s.list), warned, maxRivals)
	}
}
