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

// A bell tells a transfer that its client has repeated the request.
type bell struct {
	mu   sync.Mutex
	rung bool
	wake func() // nil: nobody sleeps yet
}

// ring may be called before anybody listens.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung = true
	if b.wake != nil {
		b.wake()
	}
}

// listen has each further ring call wake, which must not block. What rang
// before is forgotten.
func (b *bell) listen(wake func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung, b.wake = false, wake
}

// take reports whether the bell rang since it was asked last.
func (b *bell) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	rung := b.rung
	b.rung = false
	return rung
}

// A gate admits transfers up to a number in all and a number for each client
// address. It holds no memory of transfers that ended.
type gate struct {
	max, maxPerClient int

	mu     sync.Mutex
	live   map[ticket]*bell
	client map[netip.Addr]int
}

func newGate(maxAll, maxPerClient int) *gate {
	return &gate{
		max:          maxAll,
		maxPerClient: maxPerClient,
		live:         map[ticket]*bell{},
		client:       map[netip.Addr]int{},
	}
}

// enter returns the bell of a new transfer, for which leave must be called when
// it ends, or says why t may not start. A repeat rings the bell of the first.
func (g *gate) enter(t ticket) (b *bell, closed string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first, repeat := g.live[t]; repeat {
		first.ring()
		return nil, "repeated request"
	}
	if g.client[t.peer.Addr()] >= g.maxPerClient {
		return nil, "client has too many transfers"
	}
	if len(g.live) >= g.max {
		return nil, "too many transfers"
	}
	b = new(bell)
	g.live[t] = b
	g.client[t.peer.Addr()]++
	return b, ""
}

// crowded reports whether a further transfer of the client could not enter.
func (g *gate) crowded(client netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.client[client] >= g.maxPerClient || len(g.live) >= g.max
}

func (g *gate) leave(t ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.live, t)
	if g.client[t.peer.Addr()]--; g.client[t.peer.Addr()] == 0 {
		delete(g.client, t.peer.Addr())
	}
}
