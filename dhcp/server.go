package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bootd/internal/store"
	"bootd/internal/timeline"
)

// Bounds of the packets' path.
const (
	maxPacket = 1536                  // bytes read of a packet; the rest of a longer one is options we can do without
	batchLen  = 64                    // packets read in one system call
	queueLen  = 16                    // batches of leases that wait for the disk; then receivers wait, and the sockets fill
	commitMax = 1024                  // leases per disk write
	maxAge    = 2 * time.Second       // of a request that is still answered: later its client asks anew
	shedAge   = 25 * time.Millisecond // of a DISCOVER, likewise: see handle
	warnEvery = time.Minute           // of one kind
)

// A Store makes lease changes durable: when Apply returns nil they are on
// disk, all of them. It keeps no part of its argument.
type Store interface {
	Apply([]store.Change) error
}

// A Server answers DHCP clients. Set the fields and call Configure before Run;
// Configure may be called again at any time.
type Server struct {
	Leases  *Leases
	Store   Store
	Record  func(timeline.Event) // gets every step; must not block; nil: nobody looks
	Log     *slog.Logger         // nil discards
	Metrics *Metrics             // nil counts nowhere

	settings          atomic.Pointer[settings]
	open              sync.RWMutex // held to order a commit from outside; guards closed and the making of commits
	closed            bool
	commits           chan []acknowledgement
	spent             chan []acknowledgement // to use again
	limit             *limiter
	prober            *prober
	clock             clock
	seen              sightings
	rivals            rivals
	surveys           surveys
	unsent, exhausted seldom
	unwritten         tally
	conflicts         seldom
	refused           seldom // addresses that clients declined
}

// recover opens the socket of a link anew after it has failed: an interface
// that goes away and comes back takes its sockets with it.
func (s *Server) recover(ctx context.Context, l *link, failed *conn, err error) {
	s.Log.Error("interface lost: it is not served until it is back", "iface", l.ifname, "port", l.port, "err", err)
	if l.reopen(ctx, failed) {
		s.Log.Info("interface is back", "iface", l.ifname, "port", l.port)
	}
}

// dropped tells of packets of a link that the kernel dropped: that this host is
// overloaded shows nowhere else, since nobody ever read them.
func (s *Server) dropped(l *link, d Drops) {
	s.Metrics.unread(l, d)
	l.unread.Full += d.Full
	l.unread.Shed += d.Shed
	if l.unread == (Drops{}) {
		return
	}
	l.told.Do(time.Now(), func() {
		s.Log.Warn("more DHCP packets than can be answered: the kernel dropped some before they were read; clients ask again; said once a minute",
			"iface", l.ifname, "port", l.port, "full", l.unread.Full, "shed", l.unread.Shed)
		l.unread = Drops{}
	})
}

// seldom limits a warning that would come for every client to one a minute.
type seldom struct{ last atomic.Int64 } // Unix seconds

// Do calls f unless it was called within the last minute.
func (s *seldom) Do(now time.Time, f func()) {
	last := s.last.Load()
	if now.Unix()-last >= int64(warnEvery/time.Second) && s.last.CompareAndSwap(last, now.Unix()) {
		f()
	}
}

// A tally counts what befalls many clients at once, for a line a minute that
// says how many they were since the last one.
type tally struct {
	seldom
	count atomic.Int64
}

// Add counts n, and calls f with the count unless it did within the last minute.
func (t *tally) Add(now time.Time, n int, f func(count int64)) {
	t.count.Add(int64(n))
	t.Do(now, func() { f(t.count.Swap(0)) })
}

// settings is what a reload replaces as a whole.
type settings struct {
	subnets  []Subnet
	classes  []Class
	machines Machines
}

// Configure replaces the subnets, the classes (at most MaxClasses) and the
// machines. Requests under way finish under the old ones.
func (s *Server) Configure(subnets []Subnet, classes []Class, machines Machines) {
	s.Leases.Configure(subnets, classes, machines)
	s.settings.Store(&settings{subnets, classes, machines})
}

// Ports is the open sockets of one interface.
type Ports struct {
	Interface string
	DHCP      *Link
	PXE       *Link // nil: another server has the port, beside which we are a proxy
}

// Open binds the ports of every interface that a subnet names. On error
// nothing stays open.
func Open(subnets []Subnet) (ports []Ports, err error) {
	defer func() {
		if err != nil {
			Close(ports)
			ports = nil
		}
	}()
	seen := map[string]bool{}
	for _, sub := range subnets {
		if seen[sub.Interface] {
			continue
		}
		seen[sub.Interface] = true
		p := Ports{Interface: sub.Interface}
		if err = p.open(proxyOnly(subnets, sub.Interface)); err != nil {
			return ports, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// open binds the ports of an interface: for ourselves alone, or beside another
// server, which may have taken both. Our proxy offers are complete, so few
// clients miss port 4011.
func (p *Ports) open(beside bool) (err error) {
	if beside {
		p.DHCP, err = ListenBeside(p.Interface)
	} else {
		p.DHCP, err = Listen(p.Interface, ServerPort)
	}
	if err != nil {
		return err
	}
	p.PXE, err = Listen(p.Interface, PXEPort)
	switch {
	case err == nil:
	case beside && errors.Is(err, errInUse):
		err = nil
	default:
		p.DHCP.Close()
	}
	return err
}

// proxyOnly reports whether an interface has no subnet that we lease
// addresses of.
func proxyOnly(subnets []Subnet, ifname string) bool {
	for i := range subnets {
		if subnets[i].Interface == ifname && !subnets[i].Proxy {
			return false
		}
	}
	return true
}

// Close closes what Open opened.
func Close(ports []Ports) {
	for _, p := range ports {
		p.DHCP.Close()
		if p.PXE != nil {
			p.PXE.Close()
		}
	}
}

// Run answers packets from ports until ctx is done, and then returns nil. Any
// other return means that a socket has failed. It closes the ports.
func (s *Server) Run(ctx context.Context, ports []Ports) error {
	var links []*link
	for _, p := range ports {
		links = append(links, newLink(p.DHCP, p.Interface, ServerPort))
		if p.PXE != nil {
			links = append(links, newLink(p.PXE, p.Interface, PXEPort))
		}
	}
	return s.serve(ctx, links)
}

// serve runs the receivers of every link and one committer, and ends them in
// that order, so that whatever was decided is also committed and sent.
func (s *Server) serve(ctx context.Context, links []*link) error {
	s.setDefaults()
	receivers, rctx := errgroup.WithContext(ctx)
	var others sync.WaitGroup // which write to s.commits, too
	others.Go(func() { s.probeLoop(rctx) })
	for _, l := range links {
		others.Go(func() { l.Answers(s.taken) })
		others.Go(func() { l.watch(rctx, func(d Drops) { s.dropped(l, d) }) })
		stop := context.AfterFunc(rctx, l.interrupt)
		defer stop()
		defer l.Close()
		for range s.receivers(l) {
			receivers.Go(func() error { return s.receive(rctx, l) })
		}
	}
	var committer sync.WaitGroup
	committer.Go(s.commitLoop)

	err := receivers.Wait()
	others.Wait()
	s.open.Lock()
	s.closed = true
	s.open.Unlock()
	close(s.commits)
	committer.Wait()
	return err
}

// receivers is how many goroutines serve a link: the socket itself is the
// queue that they share.
func (s *Server) receivers(l *link) int {
	if l.port == PXEPort {
		return 1
	}
	return runtime.GOMAXPROCS(0)
}

func (s *Server) setDefaults() {
	s.open.Lock()
	defer s.open.Unlock()
	s.commits, s.spent = make(chan []acknowledgement, queueLen), make(chan []acknowledgement, queueLen)
	s.limit, s.prober = newLimiter(), newProber()
	s.clock = newClock(s.Leases.Newest())
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Record == nil {
		s.Record = func(timeline.Event) {}
	}
	if s.Metrics == nil {
		s.Metrics = NewMetrics(nil)
	}
}

// exchanges are free to use again.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// receive answers the packets of a link, a batch at a time. What needs no
// disk is sent at once, what does goes to the committer.
func (s *Server) receive(ctx context.Context, l *link) error {
	batch := make([]*exchange, batchLen)
	var out outbox
	for {
		for i, x := range batch {
			if x == nil {
				batch[i] = exchanges.Get().(*exchange)
			}
		}
		n, socket, err := l.Recv(batch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.recover(ctx, l, socket, err)
			continue
		}
		for i, x := range batch[:n] {
			out.held = false
			if s.handle(l, x, &out); out.held {
				batch[i] = nil // the committer's or the prober's from here on
			}
		}
		out.flush()
		if len(out.acks) > 0 {
			s.commits <- out.acks
			out.acks = s.blank()
		}
	}
}

// handle decides about one packet. A panic costs that packet, never the
// server.
//
// When packets come faster than they can be answered, it is DISCOVERs that are
// dropped, by how long they waited in the socket: to drop one is cheap, so the
// socket does not overflow, and no REQUEST is lost on whose OFFER work was
// spent. Without that, five times as many clients as the server can take get
// half as much done. One that waited with few others was held up by something
// else, such as a busy machine, and is answered.
func (s *Server) handle(l *link, x *exchange, out *outbox) {
	defer func() {
		if p := recover(); p != nil {
			s.Metrics.dropped("panic")
			s.Log.Error("packet made the server panic: please report it", "iface", l.ifname,
				"err", p, "packet", fmt.Sprintf("%x", x.buf[:x.n]), "stack", string(debug.Stack()))
		}
	}()
	switch waited := time.Since(x.arrived); {
	case waited > maxAge:
		s.Metrics.dropped("too old")
		return
	case waited > shedAge && x.queued && looksLikeDiscover(x.buf[:x.n]):
		s.Metrics.dropped("overload")
		return
	}
	if err := x.parse(x.buf[:x.n]); err != nil {
		s.Metrics.dropped(err.Error())
		s.Log.Debug("packet dropped", "iface", l.ifname, "ip", x.peer.Addr(), "err", err)
		return
	}
	x.link, x.from, x.on4011 = l, x.peer, l.port == PXEPort
	x.unicast = x.to.IsValid() && x.to != everybody
	x.relay = readRelay(x.opts.get(optAgent), x.from.Port())
	if !x.GIAddr.IsValid() {
		x.relay.steerNothing()
	}
	x.unicast = x.unicast && !x.GIAddr.IsValid() || x.relay.unicast
	s.Metrics.received(x.Type)
	if s.tooMany(&x.request, x.arrived) {
		s.Metrics.dropped("too many")
		return
	}
	x.answer(s, out)
}

// looksLikeDiscover reports whether a packet is a DISCOVER by its first option,
// which the message type is with every client known: to shed load by it must
// cost next to nothing.
func looksLikeDiscover(b []byte) bool {
	return len(b) > headerLen+2 && b[headerLen] == optMessageType && b[headerLen+2] == byte(Discover)
}

// commitLoop writes lease changes to disk, all that wait in one batch, and
// then sends their ACKs.
func (s *Server) commitLoop() {
	var out outbox
	var batch []acknowledgement
	var changed []uint32
	var changes []store.Change
	var buf []byte
	var failing bool
	for first := range s.commits {
		batch = s.gather(batch[:0], first)
		changed = changed[:0]
		for i := range batch {
			changed = append(changed, batch[i].changed...)
		}
		changes, buf = s.Leases.Records(changes[:0], buf[:0], changed)
		start := time.Now()
		err := s.Store.Apply(changes)
		s.Metrics.committed(len(batch), time.Since(start), err)
		switch {
		case err != nil:
			s.lost(len(batch), err)
		case failing:
			s.Log.Warn("leases are written to disk again", "lost", s.unwritten.count.Swap(0))
		}
		if failing = err != nil; !failing {
			s.Leases.committed(changed)
		}
		s.settle(batch, &out, err)
		for i := range batch {
			if batch[i].exchange != nil {
				exchanges.Put(batch[i].exchange)
			}
		}
		clear(batch)
	}
}

// lost says that leases are not on disk: it is so for everybody at once.
func (s *Server) lost(leases int, err error) {
	s.unwritten.Add(s.clock.now(), leases, func(count int64) {
		s.Log.Error("leases not on disk, so not acknowledged; said once a minute", "leases", count, "err", err)
	})
}

// settle tells the clients of a batch. A panic costs them the answer, never the
// server.
func (s *Server) settle(batch []acknowledgement, out *outbox, err error) {
	defer s.rescue()
	for i := range batch {
		batch[i].settle(out, err)
	}
	out.flush()
}

// rescue is deferred around what works on clients' packets.
func (s *Server) rescue() {
	if p := recover(); p != nil {
		s.Metrics.dropped("panic")
		s.Log.Error("packets made the server panic: please report it", "err", p, "stack", string(debug.Stack()))
	}
}

// gather adds first to batch, and what else waits already.
func (s *Server) gather(batch, first []acknowledgement) []acknowledgement {
	batch = append(batch, first...)
	s.recycle(first)
	for len(batch) < commitMax {
		select {
		case more, open := <-s.commits:
			if !open {
				return batch
			}
			batch = append(batch, more...)
			s.recycle(more)
		default:
			return batch
		}
	}
	return batch
}

// recycle keeps memory for receivers to use again.
func (s *Server) recycle(acks []acknowledgement) {
	clear(acks)
	select {
	case s.spent <- acks[:0]:
	default:
	}
}

// blank returns memory that was used, or none.
func (s *Server) blank() []acknowledgement {
	select {
	case acks := <-s.spent:
		return acks
	default:
		return nil
	}
}
