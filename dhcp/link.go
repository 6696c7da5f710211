package dhcp

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"bootd/internal/node"
)

// conn is what the server needs of a network interface.
type conn interface {
	// Recv waits for packets and fills batch with those that are there, at
	// least one. An error of it means that the socket has failed, or that the
	// read deadline has passed; never that a packet is bad.
	Recv(batch []*exchange) (n int, err error)
	// Send sends replies and sets the error of those that could not be sent.
	// It may be called by several goroutines at once.
	Send(batch []outbound)
	// Ask asks the network who has an address, on the link or behind a router.
	Ask(a netip.Addr, routed bool) error
	// Answers calls taken for each host that says it has an address, until the
	// read deadline passes or the socket fails.
	Answers(taken func(netip.Addr, node.MAC))
	// MTU is the longest packet that goes out in one piece, IP header included.
	MTU() int
	// Dropped returns what the kernel dropped of what came since the last call.
	Dropped() Drops
	// Gone reports whether the interface is no longer the one that the socket
	// was opened on. The socket itself does not notice.
	Gone() bool
	SetReadDeadline(time.Time) error
	Close() error
}

// Drops are packets that the kernel dropped before they were read.
type Drops struct {
	Full int // the socket's buffer was full
	Shed int // DISCOVERs under load, at our request; and what did not fit meanwhile
}

// inbound is a packet as it arrived.
type inbound struct {
	buf     [maxPacket]byte
	n       int
	peer    netip.AddrPort // source
	to      netip.Addr     // address it was sent to; zero: not known
	arrived time.Time      // by the kernel's clock, so that time spent in the socket counts
	queued  bool           // as many as are read at once waited with it: it is load that held it up
}

// outbound is a reply to send from one of our addresses, which is the server
// identifier that the client will check.
type outbound struct {
	payload []byte
	source  netip.Addr
	to      destination
	err     error // set by Send
}

// link is one bound port of one interface. Its socket may be replaced.
type link struct {
	ifname string
	port   uint16
	open   func() (conn, error)

	unread Drops  // not told in the log yet; only for watch
	told   seldom // likewise

	current atomic.Pointer[conn]
	mu      sync.Mutex // held while it is replaced
	stopped bool
}

func newLink(c conn, ifname string, port uint16) *link {
	l := &link{ifname: ifname, port: port, open: func() (conn, error) { return Listen(ifname, port) }}
	if p, ok := c.(*Link); ok && p.headers {
		l.open = func() (conn, error) { return ListenBeside(ifname) }
	}
	l.current.Store(&c)
	return l
}

func (l *link) conn() conn { return *l.current.Load() }

// Recv is that of the socket, and tells which one it was.
func (l *link) Recv(batch []*exchange) (n int, c *conn, err error) {
	c = l.current.Load()
	n, err = (*c).Recv(batch)
	return n, c, err
}

// Send implements conn.
func (l *link) Send(batch []outbound) { l.conn().Send(batch) }

// Ask implements conn.
func (l *link) Ask(a netip.Addr, routed bool) error { return l.conn().Ask(a, routed) }

// Answers calls taken until the link is interrupted, with whatever socket it
// has.
func (l *link) Answers(taken func(netip.Addr, node.MAC)) {
	for {
		c := l.current.Load()
		(*c).Answers(taken)
		if l.waitReplaced(c) {
			return
		}
	}
}

// waitReplaced waits until the socket is another one than c; it reports true
// when there will be none.
func (l *link) waitReplaced(c *conn) (stopped bool) {
	for {
		l.mu.Lock()
		stopped = l.stopped
		l.mu.Unlock()
		if stopped || l.current.Load() != c {
			return stopped
		}
		time.Sleep(reopenEvery)
	}
}

// reopenEvery is how often a lost interface is looked for.
const reopenEvery = time.Second

// reopen replaces a socket that has failed, as soon as there is an interface
// again. It reports whether this call did it, and not one beside it.
func (l *link) reopen(ctx context.Context, failed *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.Load() != failed {
		return false
	}
	(*failed).Close()
	for ctx.Err() == nil && !l.stopped {
		if c, err := l.open(); err == nil {
			l.current.Store(&c)
			return true
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(reopenEvery):
		}
		l.mu.Lock()
	}
	return false
}

// watch makes the receivers of a link fail when its interface is gone, and tells
// dropped of what the kernel drops, until ctx is done.
func (l *link) watch(ctx context.Context, dropped func(Drops)) {
	tick := time.NewTicker(reopenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c := l.conn()
			dropped(c.Dropped())
			if c.Gone() {
				c.SetReadDeadline(time.Unix(1, 0))
			}
		}
	}
}

// interrupt makes everything that waits on the link return, for good.
func (l *link) interrupt() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.conn().SetReadDeadline(time.Unix(1, 0))
}

// Close closes the socket.
func (l *link) Close() error { return l.conn().Close() }
