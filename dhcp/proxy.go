package dhcp

import (
	"net/netip"
	"sync"
	"time"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// proxy answers on port 67 in a subnet where another server leases the
// addresses (PXE 2.1, section 2.2.1, "ProxyDHCP"). It only ever offers: which
// address a client has, and whether it may keep it, is the other server's
// business, and so is every client that does not boot.
func (x *exchange) proxy() {
	switch {
	case x.Type == Discover && x.Client.boots():
		x.proxyOffer()
	case x.Type == Request:
		x.overhear()
	default:
		x.s.Metrics.dropped("not for a proxy")
	}
}

// proxyOffer tells a client that boots what to load, and nothing else. Its
// firmware joins that to the address it is offered by the other server. The
// packet is complete, so that no firmware has to come to port 4011 for the
// rest.
func (x *exchange) proxyOffer() {
	x.event(timeline.Event{Step: timeline.Discover})
	boot := x.boot(netip.Addr{})
	if boot.File == "" {
		x.event(timeline.Event{Step: timeline.Offer, Detail: boot.Problem})
		return
	}
	x.reply.start(&x.request, Offer, x.serverID)
	x.reply.addBoot(&x.request, x.subnet.Server, boot)
	x.reply.addPXE(&x.request)
	x.send(timeline.Event{Step: timeline.Offer, File: boot.File, Detail: "proxy"})
}

// overhear learns who takes which address from the other server. Only the
// REQUEST that accepts an offer counts: one for an address remembered from
// elsewhere may be refused. Its option 54 may even be our own address, when
// the other server runs on this host.
func (x *exchange) overhear() {
	if !x.Server.IsValid() || !x.Asked.IsValid() || !x.subnet.Prefix.Contains(x.Asked) {
		return
	}
	if x.machine.Name == "" && !x.Client.boots() {
		return // any host of the segment: nothing of ours to do with
	}
	x.s.seen.note(x.Asked, x.MAC, x.now)
	x.event(timeline.Event{Step: timeline.Elsewhere, Addr: x.Asked, Detail: "from DHCP server " + x.Server.String()})
}

// Holder returns the MAC of the machine that has an address, zero when nobody
// knows. Where we lease addresses the leases tell. Where another server does,
// the neighbour table of this host tells, and beyond a router what the machine
// said to us and to everybody when it took the address: both are as easy to
// forge for hosts of the segment as a DHCP packet is.
func (s *Server) Holder(a netip.Addr) node.MAC {
	sub := s.settings.Load().proxied(a)
	if sub == nil {
		l, _ := s.Leases.ByAddr(a)
		return l.MAC
	}
	if mac := neighbour(sub.Interface, a); !mac.IsZero() {
		return mac
	}
	return s.seen.mac(a, time.Now())
}

// proxied returns the subnet of a when another server leases its addresses.
func (set *settings) proxied(a netip.Addr) *Subnet {
	for i := range set.subnets {
		if sub := &set.subnets[i]; sub.Proxy && sub.Prefix.Contains(a) {
			return sub
		}
	}
	return nil
}

// Bounds of what is remembered of machines without a lease of ours.
const (
	maxSightings = 32768
	sightingAge  = 24 * time.Hour // at most; at least half of it, while there is room
)

// sightings remembers who took which address from another server. It keeps two
// generations and forgets the older one as a whole.
type sightings struct {
	mu         sync.Mutex
	young, old map[netip.Addr]node.MAC
	turned     time.Time // when young began
}

func (s *sightings) note(a netip.Addr, mac node.MAC, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnLocked(now, maxSightings/2-1)
	s.young[a] = mac
}

func (s *sightings) mac(a netip.Addr, now time.Time) node.MAC {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnLocked(now, maxSightings/2)
	if mac, ok := s.young[a]; ok {
		return mac
	}
	return s.old[a]
}

// turnLocked begins a generation when the young one has its age, or is more
// than full.
func (s *sightings) turnLocked(now time.Time, full int) {
	age := now.Sub(s.turned)
	if s.young != nil && age < sightingAge/2 && len(s.young) <= full {
		return
	}
	s.old, s.young, s.turned = s.young, map[netip.Addr]node.MAC{}, now
	if age >= sightingAge {
		s.old = nil
	}
}
