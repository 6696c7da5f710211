package tftp

import (
	"net/netip"
	"sync"
)

// A ticket names one transfer: who asks, and for what. The same request from
// the same address and port is a repeat; another request from there is not,
// since its client has left the first.
type ticket struct {
	peer netip.AddrPort
	req  request
}

// A gate admits transfers up to a number in all and a number for each client
// address. It holds no memory of transfers that ended.
type gate struct {
	max, maxPerClient int

	mu     sync.Mutex
	live   map[ticket]struct{}
	client map[netip.Addr]int
}

func newGate(maxAll, maxPerClient int) *gate {
	return &gate{
		max:          maxAll,
		maxPerClient: maxPerClient,
		live:         map[ticket]struct{}{},
		client:       map[netip.Addr]int{},
	}
}

// enter reports why t may not start; "" means that it may, and that leave must
// be called when it ends.
func (g *gate) enter(t ticket) (closed string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, repeat := g.live[t]; repeat {
		return "repeated request"
	}
	if g.client[t.peer.Addr()] >= g.maxPerClient {
		return "client has too many transfers"
	}
	if len(g.live) >= g.max {
		return "too many transfers"
	}
	g.live[t] = struct{}{}
	g.client[t.peer.Addr()]++
	return ""
}

func (g *gate) leave(t ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.live, t)
	if g.client[t.peer.Addr()]--; g.client[t.peer.Addr()] == 0 {
		delete(g.client, t.peer.Addr())
	}
}
