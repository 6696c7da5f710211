package dhcp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bootd/internal/node"
)

// SurveyTime is how long servers may take to answer a survey: dnsmasq pings an
// address for three seconds before it offers it.
const SurveyTime = 4 * time.Second

// askAgain is when a survey asks the second time, with the same xid.
const askAgain = time.Second

// An Answer is an offer to a survey.
type Answer struct {
	Ours   bool
	Server netip.Addr    // option 54; the source where there is none
	Source netip.Addr    // of the packet
	MAC    node.MAC      // of the packet: of the server, or of a router or relay on the way
	Addr   netip.Addr    // offered; zero: a proxy
	Next   netip.Addr    // siaddr; zero: none
	File   string        // boot file; empty: none
	Class  string        // option 60; empty: none
	Vendor []byte        // option 43; nil: none
	After  time.Duration // the question
}

// surveys is the surveys under way, by the MAC that they ask with.
type surveys struct {
	n    atomic.Int32 // of macs, for every other packet
	mu   sync.Mutex
	macs map[node.MAC]bool
}

// maxSurveys is how many may be under way: one for each interface of a large
// host.
const maxSurveys = 64

// ErrSurveys is returned when too many surveys are under way.
var ErrSurveys = errors.New("too many probes are under way")

// begin makes mac that of a survey, until end.
func (s *surveys) begin(mac node.MAC) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.macs) >= maxSurveys {
		return nil, ErrSurveys
	}
	if s.macs == nil {
		s.macs = map[node.MAC]bool{}
	}
	s.macs[mac] = true
	s.n.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.macs, mac)
		s.n.Add(-1)
	}, nil
}

// asks reports whether a client is a survey.
func (s *surveys) asks(mac node.MAC) bool {
	if s.n.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.macs[mac]
}

// Survey asks on an interface for an address and something to boot, as the PXE
// firmware of an x86-64 machine that nobody knows does, and returns every offer
// that comes within SurveyTime: of this server, of others on this host, and of
// those on the network. It takes none of them.
func (s *Server) Survey(ctx context.Context, ifname string) ([]Answer, error) {
	q := newQuestion()
	end, err := s.surveys.begin(q.mac)
	if err != nil {
		return nil, err
	}
	defer end()
	set := s.settings.Load()
	defer set.forget(s.Leases, q.mac)

	conn, err := listenSurvey(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, listenError(err))
	}
	defer conn.close()
	began := time.Now()
	if err := conn.ask(q.packet()); err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	again := time.AfterFunc(askAgain, func() { conn.ask(q.packet()) }) // the first may be lost, as when a link has just come up
	defer again.Stop()
	ctx, cancel := context.WithTimeout(ctx, SurveyTime)
	defer cancel()
	var list []Answer
	err = conn.answers(ctx, func(source netip.Addr, mac node.MAC, payload []byte) {
		a, ok := q.read(payload)
		if !ok {
			return
		}
		a.Source, a.MAC, a.After = source, mac, time.Since(began)
		if !a.Server.IsValid() {
			a.Server = source
		}
		a.Ours = set.ours(ifname, &a)
		if !slices.ContainsFunc(list, a.repeats) {
			list = append(list, a)
		}
	})
	return list, err
}

// repeats reports whether b is the same offer, as when a bridge shows it twice.
func (a *Answer) repeats(b Answer) bool {
	return a.Server == b.Server && a.Source == b.Source && a.Addr == b.Addr && a.File == b.File
}

// ours reports whether an answer is this server's. One of another server on
// this host may have our address, but not both lease and be a proxy.
func (set *settings) ours(ifname string, a *Answer) bool {
	for i := range set.subnets {
		sub := &set.subnets[i]
		if sub.Interface == ifname && sub.Server == a.Server && sub.Proxy != a.Addr.IsValid() {
			return true
		}
	}
	return false
}

// forget withdraws what we offered to a survey.
func (set *settings) forget(l *Leases, mac node.MAC) {
	r := request{htype: htypeEthernet, MAC: mac}
	for i := range set.subnets {
		l.Withdraw(keyOf(&set.subnets[i], &r))
	}
}

// A question is the DISCOVER of a survey.
type question struct {
	mac node.MAC
	xid [4]byte
}

// newQuestion makes one up: a MAC that is locally administered and nobody's
// (IEEE 802, section 8.2).
func newQuestion() (q question) {
	rand.Read(q.mac[:])
	rand.Read(q.xid[:])
	q.mac[0] = q.mac[0]&^1 | 2
	return q
}

// packet is what OVMF says, as far as servers look at it.
func (q *question) packet() []byte {
	var p reply
	p.begin()
	p.buf[offOp], p.buf[offHType], p.buf[offHLen] = opRequest, htypeEthernet, 6
	copy(p.buf[offXID:], q.xid[:])
	p.buf[offFlags] = flagBroadcast >> 8
	copy(p.buf[offCHAddr:], q.mac[:])
	p.add(optMessageType, byte(Discover))
	p.add(optParameters, optSubnetMask, optRouter, optDNS, optVendor, optServerID, optClass, optTFTPServer, optBootFile, optMachineID)
	p.add(optMaxSize, byte(maxReply>>8), byte(maxReply&0xff))
	p.addString(optClass, classPXE+":Arch:00007:UNDI:003000")
	p.add(optArch, 0, 7)
	p.add(94, 1, 3, 0)
	p.add(optMachineID, append(make([]byte, 11), q.mac[:]...)...)
	return p.finish(maxReply, func(byte) int { return -1 })
}

// read reads an offer to q.
func (q *question) read(b []byte) (a Answer, ok bool) {
	if len(b) < headerLen || b[offOp] != opReply || [4]byte(b[offXID:]) != q.xid || node.MAC(b[offCHAddr:offCHAddr+6]) != q.mac || [4]byte(b[offCookie:]) != cookie {
		return a, false
	}
	opts := readOptions(nil, b)
	if typ := opts.get(optMessageType); len(typ) != 1 || MessageType(typ[0]) != Offer {
		return a, false
	}
	a = Answer{Server: opts.addr(optServerID), Addr: addrOf(b[offYIAddr : offYIAddr+4]), Next: addrOf(b[offSIAddr : offSIAddr+4]),
		File: text(opts.get(optBootFile)), Class: text(opts.get(optClass)), Vendor: slices.Clone(opts.get(optVendor))}
	if overload := opts.get(optOverload); a.File == "" && (len(overload) != 1 || overload[0]&1 == 0) {
		a.File = text(b[offFile:offCookie])
	}
	return a, true
}

// text is a string that may end in NULs.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
