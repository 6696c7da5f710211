package dhcp

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func (b *bench) turns() (list []string) {
	turns, lost := b.server.Leases.Turns(b.server.clock.now())
	for _, t := range turns {
		list = append(list, fmt.Sprintf("%d %v %s", t.What, t.Lease.MAC, t.Lease.Hostname))
	}
	if lost > 0 {
		list = append(list, fmt.Sprintf("lost %d", lost))
	}
	return list
}

// A lease begins once it is on disk, and ends once, however it ends. Renewals
// are no news.
func TestTurns(t *testing.T) {
	one(t, func(b *bench) {
		b.server.Leases.Follow(true)
		want := func(what string, want ...string) {
			t.Helper()
			if got := b.turns(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		name := func(s string) dhcpv4.Modifier { return with(optHostName, []byte(s)...) }
		v := b.server.Leases.Version(b.server.clock.now())
		addr := b.lease(m1, name("one"))
		want("lease", "0 "+m1.String()+" one")
		if b.server.Leases.Version(b.server.clock.now()) == v {
			t.Error("version: got the same after a lease")
		}
		b.lease(m1, name("one"))
		want("renewal")
		b.lease(m1, name("two"))
		want("other name", "1 "+m1.String()+" two")
		b.silent(message(m1, dhcpv4.MessageTypeRelease, withCIAddr(addr)))
		b.silent(message(m1, dhcpv4.MessageTypeRelease, withCIAddr(addr)))
		want("release", "2 "+m1.String()+" two")
		addr = b.lease(m1, name("two"))
		want("again", "0 "+m1.String()+" two")
		b.silent(message(m1, dhcpv4.MessageTypeDecline, withAddr(optRequestedAddr, addr)))
		want("decline", "2 "+m1.String()+" two")

		addr = b.lease(m2)
		want("another", "0 "+m2.String()+" ")
		time.Sleep(2 * time.Hour)
		v = b.server.Leases.Version(b.server.clock.now())
		want("end", "2 "+m2.String()+" ")
		if b.server.Leases.Version(b.server.clock.now()) != v {
			t.Error("version: got another though nothing happened")
		}

		b.disk.broken = errors.New("disk full")
		b.silent(selecting(m2, yiaddr(b.must(discover(m2), dhcpv4.MessageTypeOffer))))
		want("disk full")
		b.disk.broken = nil
		b.lease(m2)
		want("disk mended", "0 "+m2.String()+" ")
		if _, _, err := b.server.Free(addr); err != nil {
			t.Fatal(err)
		}
		want("freed", "2 "+m2.String()+" ")
		if _, _, err := b.server.Assign(Lease{Addr: addr, MAC: m2, State: Bound}); err != nil {
			t.Fatal(err)
		}
		want("assigned", "0 "+m2.String()+" ")

		// Who was told before a crash is told of the end after it.
		b.stop()
		b.start([]Subnet{testSubnet()}, fixed{})
		b.server.Leases.Follow(true)
		want("restart")
		time.Sleep(2 * time.Hour)
		want("end after a restart", "2 "+m2.String()+" ")
	})
}

// Who asks for less hears of the ends of known machines alone.
func TestTurnsOfNodes(t *testing.T) {
	run(t, []Subnet{testSubnet()}, fixed{m1: at(150)}, func(b *bench) {
		b.server.Leases.Follow(false)
		b.lease(m1)
		b.lease(m2)
		time.Sleep(2 * time.Hour)
		if got, want := b.turns(), []string{"2 " + m1.String() + " "}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Nobody waits for those who follow: what they do not fetch is counted.
func TestTurnsAreBounded(t *testing.T) {
	l := filled(maxTurns + 100)
	l.Follow(true)
	for _, i := range l.book.byAddr {
		l.book.at(i).told = true
	}
	turns, lost := l.Turns(time.Now().Add(2 * time.Hour))
	if len(turns) != maxTurns || lost != 100 {
		t.Errorf("got %d turns and %d lost, want %d and 100", len(turns), lost, maxTurns)
	}
	if turns, lost = l.Turns(time.Now()); turns != nil || lost != 0 {
		t.Errorf("once more: got %d turns and %d lost, want none", len(turns), lost)
	}
}
