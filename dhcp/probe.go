package dhcp

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// Bounds of conflict probing (RFC 2131, section 3.1, step 2).
const (
	maxProbes  = 1024 // at one time; more offers go out without
	probeTries = 3    // addresses tried for one client
)

// A prober holds back first offers of an address while the network is asked
// who has it. It never blocks anybody: an offer waits in a list, and goes out
// when nobody answered in time.
type prober struct {
	mu      sync.Mutex
	waiting map[netip.Addr]*probe
	order   *list.List // of *probe, the first to go out first
	wake    chan struct{}
}

// A probe is an offer that waits.
type probe struct {
	*exchange
	addr  netip.Addr
	boot  Boot
	tries int
	until time.Time
	el    *list.Element
	held  bool // its exchange waits for something else now
}

func newProber() *prober {
	return &prober{waiting: map[netip.Addr]*probe{}, order: list.New(), wake: make(chan struct{}, 1)}
}

// add holds an offer back and asks who has its address. It reports false when
// that cannot be done, and the offer has to go out as it is.
func (p *prober) add(pr *probe) bool {
	pr.until = time.Now().Add(pr.subnet.Probe)
	l, addr, routed := pr.link, pr.addr, pr.GIAddr.IsValid() // once it waits, its exchange is of whoever takes it
	p.mu.Lock()
	if p.order.Len() >= maxProbes || p.waiting[pr.addr] != nil {
		p.mu.Unlock()
		return false
	}
	p.waiting[pr.addr], pr.el = pr, p.order.PushBack(pr)
	p.mu.Unlock()
	if err := l.Ask(addr, routed); err != nil && p.withdraw(pr) {
		return false
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return true
}

// join puts pr in the place of an earlier probe of the same address for the same
// client, which has asked again meanwhile, and returns that one's exchange; nil
// when there is none.
func (p *prober) join(pr *probe) *exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.waiting[pr.addr]
	if old == nil || keyOf(old.subnet, &old.request) != keyOf(pr.subnet, &pr.request) {
		return nil
	}
	pr.tries, pr.until, pr.el = old.tries, old.until, old.el
	pr.el.Value, p.waiting[pr.addr] = pr, pr
	return old.exchange
}

// take removes and returns the probe of an address; nil when there is none.
func (p *prober) take(a netip.Addr) *probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.waiting[a]
	if pr != nil {
		delete(p.waiting, a)
		p.order.Remove(pr.el)
	}
	return pr
}

// withdraw removes a probe. It reports whether that still waited.
func (p *prober) withdraw(pr *probe) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[pr.addr] != pr {
		return false
	}
	delete(p.waiting, pr.addr)
	p.order.Remove(pr.el)
	return true
}

// due removes and returns the probes that nobody answered by now, and how long
// the next one has to wait.
func (p *prober) due(now time.Time) (quiet []*probe, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for el := p.order.Front(); el != nil; el = p.order.Front() {
		pr := el.Value.(*probe)
		if now.Before(pr.until) {
			return quiet, pr.until.Sub(now)
		}
		delete(p.waiting, pr.addr)
		p.order.Remove(el)
		quiet = append(quiet, pr)
	}
	return quiet, time.Hour
}

// probe holds back the answer that gives its client an address that is fresh to
// it, or that is being asked for since it was. It reports whether it does.
func (x *exchange) probe(addr netip.Addr, boot Boot, tries int, fresh bool) bool {
	if x.subnet.Probe == 0 {
		return false
	}
	s, out, pr := x.s, x.out, &probe{exchange: x, addr: addr, boot: boot, tries: tries}
	if fresh {
		out.held = s.prober.add(pr)
	} else if earlier := s.prober.join(pr); earlier != nil {
		exchanges.Put(earlier)
		out.held = true
	}
	return out.held // x is the prober's from here on
}

// probeLoop sends the offers that nobody objected to.
func (s *Server) probeLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var out outbox
	for {
		quiet, next := s.prober.due(time.Now())
		for _, pr := range quiet {
			pr.free(&out)
		}
		s.finish(&out)
		for _, pr := range quiet {
			if !pr.held {
				exchanges.Put(pr.exchange)
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-s.prober.wake:
		case <-timer.C:
		}
	}
}

// taken is called when a host says that it has an address. mac is zero when it
// is not known, as behind a relay.
func (s *Server) taken(addr netip.Addr, mac node.MAC) {
	pr := s.prober.take(addr)
	if pr == nil {
		return
	}
	var out outbox
	if mac == pr.MAC && !mac.IsZero() {
		pr.free(&out) // its own: it kept the address we forgot
	} else {
		pr.conflict(mac, &out)
	}
	s.finish(&out)
	if !pr.held {
		exchanges.Put(pr.exchange)
	}
}

// free gives the client the address that nobody else has.
func (pr *probe) free(out *outbox) {
	pr.out, out.held = out, false
	pr.give(pr.addr, pr.boot)
	pr.held = out.held
}

// finish sends what a probe has led to, and commits what it has leased.
func (s *Server) finish(out *outbox) {
	out.flush()
	if len(out.acks) > 0 {
		s.commits <- out.acks
		out.acks = nil
	}
}

// conflict puts the address in quarantine and tries the next one.
func (pr *probe) conflict(mac node.MAC, out *outbox) {
	x := pr.exchange
	x.out, out.held = out, false
	detail := "another host answers at the address"
	if !mac.IsZero() {
		detail = "host " + mac.String() + " has the address"
	}
	x.event(timeline.Event{Step: timeline.Conflict, Addr: pr.addr, Detail: detail})
	s := x.s
	s.conflicts.Do(x.now, func() {
		s.Log.Warn("address conflict; said once a minute", "node", x.machine.Name, "mac", x.MAC, "ip", pr.addr, "err", detail)
	})
	x.s.Metrics.dropped("address conflict")
	if changed, ok := x.s.Leases.Decline(keyOf(x.subnet, &x.request), pr.addr, x.now); ok {
		x.s.commits <- []acknowledgement{{changed: []uint32{changed}}}
	}
	addr, fresh, ok := x.s.Leases.Offer(x.bid(netip.Addr{}), pr.boot, x.now)
	switch {
	case !ok:
		x.exhausted()
	case pr.tries < probeTries && x.probe(addr, pr.boot, pr.tries+1, fresh):
	default:
		x.give(addr, pr.boot)
	}
	pr.held = out.held
}
