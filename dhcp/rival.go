package dhcp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"bootd/internal/node"
)

// A Rival is another DHCP server in a subnet that is ours alone. We never see
// what it sends, since offers go to the client, but clients say whom they
// chose.
type Rival struct {
	Server      netip.Addr   // as it calls itself (option 54); not to be trusted
	Subnet      netip.Prefix // where it answered
	Node        string       // of the last client; empty: not in the inventory
	MAC         node.MAC     // of the last client
	Choices     int          // REQUESTs for it
	First, Last time.Time
}

// Bounds of what is kept of rivals.
const (
	maxRivals  = 32             // any host can make clients' REQUESTs up
	rivalAge   = 24 * time.Hour // after which one is as good as gone
	rivalWarns = time.Hour      // between two warnings about one
)

// rivals is who was seen.
type rivals struct {
	mu   sync.Mutex
	list []*watched
	seldom
}

type watched struct {
	Rival
	warned time.Time
}

// rival takes notice of a REQUEST for another server. In a subnet that is not
// ours alone that is nothing special.
func (x *exchange) rival() {
	if !x.subnet.Authoritative {
		return
	}
	x.s.Metrics.rivals.Inc()
	r, warn := x.s.rivals.note(Rival{Server: x.Server, Subnet: x.subnet.Prefix, Node: x.machine.Name, MAC: x.MAC, First: x.now, Last: x.now})
	if warn {
		x.s.Log.Warn("another DHCP server answers in this subnet: stop it, or say mode: shared", "server", r.Server,
			"subnet", r.Subnet, "node", r.Node, "mac", r.MAC, "iface", x.link.ifname, "choices", r.Choices)
	}
}

// note counts a choice, and reports whether to warn: about one rival once an
// hour, about all of them once a minute.
func (s *rivals) note(r Rival) (Rival, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.findLocked(&r)
	w.Choices++
	w.Node, w.MAC, w.Last = r.Node, r.MAC, r.Last
	warn := false
	if w.warned.IsZero() || r.Last.Sub(w.warned) >= rivalWarns {
		s.seldom.Do(r.Last, func() { w.warned, warn = r.Last, true })
	}
	return w.Rival, warn
}

// findLocked returns the entry of a rival. A new one takes the place of the
// one that was longest not heard of, when there are too many.
func (s *rivals) findLocked(r *Rival) *watched {
	var oldest *watched
	for _, w := range s.list {
		if w.Server == r.Server && w.Subnet == r.Subnet {
			return w
		}
		if oldest == nil || w.Last.Before(oldest.Last) {
			oldest = w
		}
	}
	if len(s.list) < maxRivals {
		oldest = new(watched)
		s.list = append(s.list, oldest)
	}
	*oldest = watched{Rival: *r}
	return oldest
}

// Rivals returns the other DHCP servers that clients chose within the last
// day, the latest first.
func (s *Server) Rivals(now time.Time) (list []Rival) {
	s.rivals.mu.Lock()
	defer s.rivals.mu.Unlock()
	for _, w := range s.rivals.list {
		if now.Sub(w.Last) < rivalAge {
			list = append(list, w.Rival)
		}
	}
	slices.SortFunc(list, func(a, b Rival) int { return b.Last.Compare(a.Last) })
	return list
}
