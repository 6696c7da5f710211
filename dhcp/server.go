package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
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
	maxPacket  = 4096 // bytes read of a packet; the rest of a longer one is options we can do without
	queueLen   = 1024 // packets that wait for a worker; more are dropped, clients repeat
	commitMax  = 512  // leases per disk write
	sendErrLog = time.Minute
)

// A Store makes lease changes durable: when Apply returns nil they are on
// disk, all of them.
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

	settings atomic.Pointer[settings]
	packets  chan inbound
	commits  chan commit
	sendErr  atomic.Int64 // Unix seconds of the last send error logged at Warn
}

// settings is what a reload replaces as a whole.
type settings struct {
	subnets  []Subnet
	machines Machines
}

// link is one bound port of one interface.
type link struct {
	conn
	ifname string
	port   uint16
}

// inbound is a packet that waits for a worker.
type inbound struct {
	buf     *[maxPacket]byte
	n       int
	link    *link
	from    netip.AddrPort
	to      netip.Addr
	arrived time.Time
}

// commit is a lease change that waits for the disk, and what to do then.
type commit struct {
	changes []store.Change
	done    func(error)
}

// Configure replaces the subnets and the machines. Requests under way finish
// under the old ones.
func (s *Server) Configure(subnets []Subnet, machines Machines) {
	s.Leases.Configure(subnets, machines.Reservations())
	s.settings.Store(&settings{subnets, machines})
}

// Ports is the open sockets of one interface.
type Ports struct {
	Interface string
	DHCP, PXE *Link
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
		if p.DHCP, err = Listen(sub.Interface, ServerPort); err != nil {
			return ports, err
		}
		if p.PXE, err = Listen(sub.Interface, PXEPort); err != nil {
			p.DHCP.Close()
			return ports, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// Close closes what Open opened.
func Close(ports []Ports) {
	for _, p := range ports {
		p.DHCP.Close()
		p.PXE.Close()
	}
}

// Run answers packets from ports until ctx is done, and then returns nil. Any
// other return means that a socket has failed. It closes the ports.
func (s *Server) Run(ctx context.Context, ports []Ports) error {
	var links []*link
	for _, p := range ports {
		links = append(links, &link{p.DHCP, p.Interface, ServerPort}, &link{p.PXE, p.Interface, PXEPort})
	}
	return s.serve(ctx, links)
}

// serve runs one receiver per link, a few workers and one committer, and ends
// them in that order, so that whatever was decided is also committed and sent.
func (s *Server) serve(ctx context.Context, links []*link) error {
	s.setDefaults()
	receivers, rctx := errgroup.WithContext(ctx)
	for _, l := range links {
		stop := context.AfterFunc(rctx, func() { l.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		defer l.Close()
		receivers.Go(func() error { return s.receive(rctx, l) })
	}
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(s.work)
	}
	var committer sync.WaitGroup
	committer.Go(s.commitLoop)

	err := receivers.Wait()
	close(s.packets)
	workers.Wait()
	close(s.commits)
	committer.Wait()
	return err
}

func (s *Server) setDefaults() {
	s.packets, s.commits = make(chan inbound, queueLen), make(chan commit, queueLen)
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

var buffers = sync.Pool{New: func() any { return new([maxPacket]byte) }}

// receive moves packets from a link to the workers, and drops the newest when
// they do not keep up.
func (s *Server) receive(ctx context.Context, l *link) error {
	for {
		buf := buffers.Get().(*[maxPacket]byte)
		n, from, to, err := l.Recv(buf[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("dhcp: interface %s: receive: %w", l.ifname, err)
		}
		select {
		case s.packets <- inbound{buf, n, l, from, to, time.Now()}:
		default:
			buffers.Put(buf)
			s.Metrics.dropped("queue full")
		}
	}
}

func (s *Server) work() {
	for in := range s.packets {
		s.handle(in)
		buffers.Put(in.buf)
	}
}

// handle answers one packet. A panic costs that packet, never the server.
func (s *Server) handle(in inbound) {
	defer func() {
		if p := recover(); p != nil {
			s.Metrics.dropped("panic")
			s.Log.Error("packet made the server panic: please report it", "iface", in.link.ifname,
				"err", p, "packet", fmt.Sprintf("%x", in.buf[:in.n]), "stack", string(debug.Stack()))
		}
	}()
	r, err := parse(in.buf[:in.n])
	if err != nil {
		s.Metrics.dropped(reason(err))
		s.Log.Debug("packet dropped", "iface", in.link.ifname, "ip", in.from.Addr(), "err", err)
		return
	}
	r.link, r.from = in.link, in.from
	r.unicast = in.to.IsValid() && in.to != everybody
	r.on4011 = in.link.port == PXEPort
	s.Metrics.received(r.Type)
	s.answer(r, in.arrived)
}

// reason is the metric label of a parse error: one of a few words.
func reason(err error) string {
	for _, known := range []error{errShort, errOp, errCookie, errHLen, errNoType, errLooped} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return errCodec.Error()
}

// commitLoop writes lease changes to disk, all that wait in one transaction.
func (s *Server) commitLoop() {
	for first := range s.commits {
		batch := s.gather(first)
		var changes []store.Change
		for _, c := range batch {
			changes = append(changes, c.changes...)
		}
		start := time.Now()
		err := s.Store.Apply(changes)
		s.Metrics.committed(len(batch), time.Since(start), err)
		if err != nil {
			s.Log.Error("leases not on disk, so not acknowledged", "leases", len(batch), "err", err)
		}
		for _, c := range batch {
			c.done(err)
		}
	}
}

// gather returns first and what else waits already.
func (s *Server) gather(first commit) []commit {
	batch := []commit{first}
	for len(batch) < commitMax {
		select {
		case c, open := <-s.commits:
			if !open {
				return batch
			}
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}
