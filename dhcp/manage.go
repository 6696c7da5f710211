package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bootd/internal/timeline"
)

// ErrNotServing is returned when the server does not run, so that no lease can
// be made durable.
var ErrNotServing = errors.New("no DHCP is served: there are no subnets, or the server is stopping")

// order has the committer make the records of addresses durable, and waits until
// they are.
func (s *Server) order(changed ...uint32) error {
	s.open.RLock()
	if s.commits == nil || s.closed {
		s.open.RUnlock()
		return ErrNotServing
	}
	done := make(chan error, 1)
	s.commits <- []acknowledgement{{changed: changed, done: done}}
	s.open.RUnlock()
	if err := <-done; err != nil {
		return fmt.Errorf("in force, but not on disk: %w", err)
	}
	return nil
}

// now returns the time of leases, and reports whether order has a committer.
func (s *Server) now() (time.Time, bool) {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.commits == nil || s.closed {
		return time.Time{}, false
	}
	return s.clock.now(), true
}

// Now returns the time by which leases end.
func (s *Server) Now() time.Time {
	if now, serving := s.now(); serving {
		return now
	}
	return time.Now()
}

// Free ends the lease of an address, whoever has it. When it returns, that is
// on disk. It reports whether there was one in force, and returns it as it
// was.
func (s *Server) Free(a netip.Addr) (was Lease, ok bool, err error) {
	now, serving := s.now()
	if !serving {
		return Lease{}, false, ErrNotServing
	}
	if was, ok = s.Leases.End(a, now); !ok {
		return Lease{}, false, nil
	}
	if err := s.order(number(a)); err != nil {
		return was, true, err
	}
	s.byHand(timeline.Freed, was)
	return was, true, nil
}

// Forget makes an address free for whoever may have it next, at once: its
// lease, in force or not, is gone, and so is who had it. Whoever uses the
// address is not asked. When it returns, that is on disk. It reports whether
// there was a lease, and returns it as it was.
func (s *Server) Forget(a netip.Addr) (was Lease, ok bool, err error) {
	now, serving := s.now()
	if !serving {
		return Lease{}, false, ErrNotServing
	}
	if was, ok = s.Leases.Forget(a, now); !ok {
		return Lease{}, false, nil
	}
	if err := s.order(number(a)); err != nil {
		return was, true, err
	}
	if was.Active(now) {
		s.byHand(timeline.Freed, was)
	}
	return was, true, nil
}

// byHand records what an administrator did to a machine's lease.
func (s *Server) byHand(step timeline.Step, l Lease) {
	name := s.settings.Load().machines.Find(Client{MAC: l.MAC}).Name
	s.Log.Info(string(step), "node", name, "mac", l.MAC, "ip", l.Addr)
	s.Record(timeline.Event{Step: step, Node: name, MAC: l.MAC, Addr: l.Addr, Detail: "by an administrator"})
}

// Assign leases an address to a machine until l.Expires; zero is as long as
// the subnet leases to running systems. Where the machine has the address, its
// lease ends at the new time. The error says why allocation would not do that.
func (s *Server) Assign(l Lease) (Outcome, Lease, error) {
	now, serving := s.now()
	if !serving {
		return Kept, l, ErrNotServing
	}
	batch := []grant{s.settings.Load().grant(l, now)}
	batch[0].exact = true
	changed := s.Leases.Grant(batch, false, now)
	g := &batch[0]
	if g.err != nil || g.outcome == Kept {
		return g.outcome, g.lease, g.err
	}
	if err := s.order(changed...); err != nil {
		return g.outcome, g.lease, err
	}
	s.byHand(timeline.Assigned, g.lease)
	return g.outcome, g.lease, nil
}

// grant makes of a lease what Leases.Grant takes.
func (set *settings) grant(l Lease, now time.Time) grant {
	g := grant{lease: l, bid: bid{asked: l.Addr}}
	if g.subnet = set.holding(l.Addr); g.subnet == nil {
		g.err = errors.New("in no subnet of the configuration")
		return g
	}
	if l.Expires.IsZero() {
		g.lease.Expires = now.Add(g.subnet.Lease)
	}
	m := set.machines.Find(Client{MAC: l.MAC})
	g.key, g.reserved, g.classes = clientKey(g.subnet, &l), m.in(g.subnet), set.classesByHand(l, m)
	return g
}

// holding returns the subnet that an address is of.
func (set *settings) holding(a netip.Addr) *Subnet {
	for i := range set.subnets {
		if set.subnets[i].Prefix.Contains(a) {
			return &set.subnets[i]
		}
	}
	return nil
}

// clientKey is keyOf for the client of a lease.
func clientKey(s *Subnet, l *Lease) key {
	k := key{subnet: number(s.Prefix.Addr())}
	switch {
	case l.State == Declined:
	case l.MAC.IsZero(), s.ByClientID && l.ClientID != "":
		k.id = digestID([]byte(l.ClientID))
	default:
		k.id = macID(l.MAC)
	}
	return k
}

// classesByHand is classesOf for a client that has sent nothing: it may be of
// any class that is told by what clients send.
func (set *settings) classesByHand(l Lease, m Machine) classSet {
	if l.State == Declined {
		return ^bitUnknown
	}
	const builtin = bitKnown | bitBMC | bitUnknown
	return set.classesOf(&request{MAC: l.MAC}, m)&builtin | ^builtin
}

// A Numbered is a lease with its place in a file.
type Numbered struct {
	Line int
	Lease
}

// A Result is what became of a Numbered.
type Result struct {
	Outcome Outcome
	Err     error // why the lease was refused
}

// An Import takes the leases of another server into this one. It is not safe
// for concurrent use.
type Import struct {
	s      *Server
	dry    bool
	now    func() (time.Time, bool)
	commit func(changed ...uint32) error
	byAddr map[uint32]int // lines
	byKey  map[key]int
}

// NewImport begins an import. On dry nothing changes.
func (s *Server) NewImport(dry bool) *Import {
	return &Import{s, dry, s.now, s.order, map[uint32]int{}, map[key]int{}}
}

// NewRestore begins an import before Run, when nobody is answered yet.
func (s *Server) NewRestore() *Import {
	im := s.NewImport(false)
	im.now = func() (time.Time, bool) { return time.Now(), true }
	im.commit = func(changed ...uint32) error {
		changes, _ := s.Leases.Records(nil, nil, changed)
		return s.Store.Apply(changes)
	}
	return im
}

// Add merges leases: where a machine has the address, the later end counts;
// where it has another address, or somebody else has this one, or allocation
// would not give it, the lease is refused. When Add returns without an error,
// all that it says is on disk; a crash before that leaves all of the batch or
// nothing. Clients wait for the disk write of a batch, so it should have no
// more than a thousand leases.
func (im *Import) Add(leases []Numbered) ([]Result, error) {
	now, serving := im.now()
	if !serving {
		return nil, ErrNotServing
	}
	set := im.s.settings.Load()
	batch := make([]grant, len(leases))
	for i, l := range leases {
		batch[i] = set.grant(l.Lease, now)
		im.once(&batch[i], l.Line)
	}
	changed := im.s.Leases.Grant(batch, im.dry, now)
	if len(changed) > 0 {
		if err := im.commit(changed...); err != nil {
			return nil, err
		}
	}
	results := make([]Result, len(batch))
	for i := range batch {
		results[i] = Result{batch[i].outcome, batch[i].err}
	}
	return results, nil
}

// once refuses an address, or a machine in a subnet, that the file has twice.
func (im *Import) once(g *grant, line int) {
	if g.err != nil {
		return
	}
	if first, twice := im.byAddr[number(g.asked)]; twice {
		g.err = fmt.Errorf("on line %d already", first)
		return
	}
	if first, twice := im.byKey[g.key]; twice && g.key.id != 0 {
		g.err = fmt.Errorf("its machine has another address of subnet %v on line %d", g.subnet.Prefix, first)
		return
	}
	im.byAddr[number(g.asked)], im.byKey[g.key] = line, line
}
