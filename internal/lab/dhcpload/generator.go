package dhcpload

import (
	"context"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"bootd/internal/node"
)

// A Mode is a way to be a client; see the package comment.
type Mode uint8

// The modes.
const (
	Relay Mode = iota
	Broadcast
	Direct
)

var modes = [...]string{Relay: "relay", Broadcast: "broadcast", Direct: "direct"}

var (
	_ encoding.TextMarshaler   = Mode(0)
	_ encoding.TextUnmarshaler = (*Mode)(nil)
)

// String returns the mode's name.
func (m Mode) String() string { return modes[m] }

// MarshalText returns the mode's name.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the mode's name.
func (m *Mode) UnmarshalText(b []byte) error {
	for i, name := range modes {
		if name == string(b) {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not relay, broadcast or direct", b)
}

// A Config says who the clients are.
type Config struct {
	Mode      Mode
	Server    netip.Addr // Relay: where the server listens
	Relay     netip.Addr // Relay: our address, which is giaddr
	Interface string     // other modes: where the server's segment is
	Clients   int        // distinct hardware addresses, used in turn; zero means 60,000
	First     int        // number of the first client: another range is other clients
}

// Load is the work of one Run. Rate or Window must be set.
type Load struct {
	Rate     float64         // open: exchanges begun per second
	Window   int             // closed: exchanges under way
	Count    int             // exchanges in all; zero means as many as fit in Duration
	Duration time.Duration   // how long exchanges are begun, at most
	Timeout  time.Duration   // an exchange that takes longer is lost; zero means 1 s
	Linger   time.Duration   // how long to listen after the last was begun; zero means Timeout
	Retry    []time.Duration // wait for an answer before each transmission is repeated, then give up; nil never repeats
	Jitter   time.Duration   // random part of each wait, up or down
}

// RealClient is how long a client waits for an answer before it repeats itself
// (RFC 2131, section 4.1), give or take a second. The last wait ends in giving
// up.
var RealClient = []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}

// maxExchanges bounds the memory of one Run.
const maxExchanges = 16 << 20

// A client is what one hardware address holds.
type client struct {
	addr uint32 // zero: none
}

// An exchange is one DISCOVER, OFFER, REQUEST, ACK.
type exchange struct {
	began, sent  time.Duration // when the first and when the last message left, since the start
	client       uint32
	addr, server uint32 // offered
	state        state
	tries        uint8 // repetitions of the message under way
	most         uint8 // the most repetitions of either message
}

type state uint8

const (
	discovering state = iota
	requesting
	bound
	failed
)

// A Generator is a set of clients. It is not safe for concurrent use.
type Generator struct {
	cfg     Config
	sock    *socket
	disc    template
	req     template
	clients []client
	owner   map[uint32]uint32 // address to client + 1
	turn    int               // next client
	xid     uint32            // of the first exchange of the next run
}

// Open makes the clients; their socket belongs to the network namespace of
// the calling thread.
func Open(c Config) (*Generator, error) {
	if c.Clients <= 0 {
		c.Clients = 60000
	}
	if c.Mode == Relay && !(c.Server.Is4() && c.Relay.Is4()) {
		return nil, errors.New("dhcpload: relay mode needs the IPv4 addresses of server and relay")
	}
	s, err := openSocket(c)
	if err != nil {
		return nil, err
	}
	return &Generator{
		cfg: c, sock: s, disc: newTemplate(c.Mode, c.Relay, discover), req: newTemplate(c.Mode, c.Relay, request),
		clients: make([]client, c.Clients), owner: make(map[uint32]uint32, c.Clients), xid: rand.Uint32(),
	}, nil
}

// Close closes the socket.
func (g *Generator) Close() { g.sock.close() }

// Held returns how many clients hold an address.
func (g *Generator) Held() int { return len(g.owner) }

// Holders yields every client that was acknowledged an address, as hardware
// address and the last such address.
func (g *Generator) Holders() iter.Seq2[node.MAC, netip.Addr] {
	return func(yield func(node.MAC, netip.Addr) bool) {
		for addr, owner := range g.owner {
			var mac [8]byte
			binary.BigEndian.PutUint64(mac[:], g.mac(owner-1))
			if !yield(node.MAC(mac[2:]), netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, addr)))) {
				return
			}
		}
	}
}

// mac returns the hardware address of a client: locally administered.
func (g *Generator) mac(client uint32) uint64 {
	return 0x02b0_0000_0000 | uint64(uint32(g.cfg.First)+client)
}

// A run is the state of one Run.
type run struct {
	*Generator
	Load
	res       Result
	start     time.Time
	exchanges []exchange
	pending   []uint32 // exchanges under way, with done ones among them; only when they may be repeated
	alive     int      // exchanges under way
	swept     time.Duration
	stopped   time.Duration // when the last exchange was begun; zero: still beginning
	halves    [2]histogram
	total     histogram
}

// Run puts the load on the server and returns what came back. When ctx is done
// it returns early with what it has, and no error.
func (g *Generator) Run(ctx context.Context, l Load) (Result, error) {
	r, err := g.newRun(l)
	if err != nil {
		return Result{}, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g.drain()
	r.start = time.Now()
	for !r.finished(ctx) {
		if err := r.step(); err != nil {
			return Result{}, err
		}
	}
	g.xid += uint32(len(r.exchanges)) + 1<<24 // late answers are then strangers, not answers
	return r.result(), nil
}

func (g *Generator) newRun(l Load) (*run, error) {
	if l.Timeout == 0 {
		l.Timeout = time.Second
	}
	if l.Linger == 0 {
		l.Linger = l.Timeout
	}
	if l.Count == 0 {
		l.Count = maxExchanges
	}
	most := l.Count
	switch {
	case l.Rate > 0 && l.Duration > 0:
		most = min(most, int(l.Rate*l.Duration.Seconds())+1)
	case l.Window > 0 && l.Duration > 0:
		most = min(most, int(200_000*l.Duration.Seconds())) // faster than any server
	default:
		return nil, errors.New("dhcpload: load needs a duration, and a rate or a window")
	}
	if most > maxExchanges {
		return nil, fmt.Errorf("dhcpload: %d exchanges in one run, at most %d", most, maxExchanges)
	}
	l.Count = most
	r := &run{Generator: g, Load: l, exchanges: make([]exchange, most)}
	for i := range r.exchanges { // touch the memory now, not under load
		r.exchanges[i].state = failed
	}
	r.exchanges = r.exchanges[:0]
	return r, nil
}

// drain throws away what still arrives for an earlier run.
func (g *Generator) drain() {
	for g.sock.receive() > 0 {
	}
	g.sock.unsent = 0
}

// idle bounds the time a step sleeps, so that it sees its context and its
// timers.
const idle = 10 * time.Millisecond

// tick is the shortest sleep: shorter ones only cost, and what becomes due
// within one is sent as a batch.
const tick = 100 * time.Microsecond

// step sends what is due, takes in what came, and sleeps if that was nothing.
func (r *run) step() error {
	now := time.Since(r.start)
	r.begin(now)
	r.repeat(now)
	r.sock.flush()
	n := r.sock.receive()
	now = time.Since(r.start)
	for i := range n {
		r.take(r.sock.packet(i), now)
	}
	r.sock.flush()
	if n > 0 {
		return nil
	}
	return r.sock.wait(min(idle, max(tick, r.nextBegin()-time.Since(r.start))))
}

// nextBegin is when the next exchange of an open load is due.
func (r *run) nextBegin() time.Duration {
	if r.Rate == 0 || r.stopped != 0 {
		return 1 << 62
	}
	return time.Duration(float64(len(r.exchanges)) / r.Rate * float64(time.Second))
}

// begin starts the exchanges that are due, at most a batch.
func (r *run) begin(now time.Duration) {
	if r.stopped != 0 {
		return
	}
	if now >= r.Duration || len(r.exchanges) == r.Count {
		r.stopped = max(now, 1)
		return
	}
	due := min(r.due(now), batch, r.Count-len(r.exchanges))
	for range due {
		r.discover(now)
	}
}

func (r *run) due(now time.Duration) int {
	if r.Rate == 0 {
		return r.Window - r.alive
	}
	r.res.Behind = max(r.res.Behind, ms(now-r.nextBegin()))
	return int(now.Seconds()*r.Rate) + 1 - len(r.exchanges)
}

// discover begins an exchange of the client whose turn it is.
func (r *run) discover(now time.Duration) {
	i := uint32(len(r.exchanges))
	x := exchange{began: now, sent: now, client: uint32(r.turn), state: discovering}
	r.turn = (r.turn + 1) % len(r.clients)
	r.exchanges = append(r.exchanges, x)
	r.alive++
	if r.Retry != nil || r.Window > 0 {
		r.pending = append(r.pending, i)
	}
	r.send(i)
}

// send transmits the message that the exchange is at.
func (r *run) send(i uint32) {
	x, xid := &r.exchanges[i], r.xid+i
	b, mac := r.sock.next(), r.mac(x.client)
	if x.state == requesting {
		r.sock.commit(r.req.fillRequest(b, mac, xid, x.addr, x.server))
		return
	}
	r.sock.commit(r.disc.fill(b, mac, xid))
}

// repeat looks after exchanges whose answer is overdue.
func (r *run) repeat(now time.Duration) {
	if r.pending == nil || now-r.swept < idle {
		return
	}
	r.swept = now
	kept := r.pending[:0]
	for _, i := range r.pending {
		if x := &r.exchanges[i]; x.state < bound && r.again(i, x, now) {
			kept = append(kept, i)
		}
	}
	r.pending = kept
}

// again repeats the message of an exchange if it is time, and reports whether
// the exchange goes on.
func (r *run) again(i uint32, x *exchange, now time.Duration) bool {
	wait := r.Timeout
	if r.Retry != nil {
		wait = r.Retry[min(int(x.tries), len(r.Retry)-1)] + r.jitter(i, x.tries)
	}
	if now-x.sent < wait {
		return true
	}
	if int(x.tries)+1 >= len(r.Retry) {
		r.end(x, failed)
		return false
	}
	x.tries++
	x.most = max(x.most, x.tries)
	x.sent = now
	r.res.Repeated++
	r.send(i)
	return true
}

// jitter is the same each time it is asked for one transmission.
func (r *run) jitter(i uint32, tries uint8) time.Duration {
	if r.Jitter == 0 {
		return 0
	}
	h := (uint64(i)<<8 | uint64(tries)) * 0x9e3779b97f4a7c15
	return time.Duration(float64(r.Jitter) * (float64(h>>11)/(1<<52) - 1))
}

func (r *run) end(x *exchange, s state) {
	x.state = s
	r.alive--
}

// take looks at one packet.
func (r *run) take(b []byte, now time.Duration) {
	m := payload(r.cfg.Mode, b)
	if m == nil {
		return
	}
	a, ok := decode(m)
	if !ok {
		r.res.Wrong.Malformed++
		return
	}
	i := a.xid - r.xid
	if i >= uint32(len(r.exchanges)) {
		r.res.Strangers++
		return
	}
	x := &r.exchanges[i]
	if a.mac != r.mac(x.client) {
		r.res.Wrong.Client++
		return
	}
	r.answered(i, x, a, now)
}

// answered moves an exchange on.
func (r *run) answered(i uint32, x *exchange, a answer, now time.Duration) {
	age := now - x.sent
	r.age(age)
	switch {
	case a.kind == offer && x.state == discovering:
		r.offered(i, x, a, age, now)
	case a.kind == ack && x.state == requesting:
		r.acked(x, a, age, now)
	case a.kind == nak:
		r.res.Wrong.NAK++
		if x.state < bound {
			r.end(x, failed)
		}
	case a.kind == offer || a.kind == ack && x.state != discovering:
		r.res.Repeats++ // an answer to a repetition, or to an exchange that was given up
	default:
		r.res.Wrong.Type++
	}
}

func (r *run) age(d time.Duration) {
	r.res.Oldest = max(r.res.Oldest, ms(d))
	if d > 2*time.Second {
		r.res.Old++
	}
}

func (r *run) offered(i uint32, x *exchange, a answer, age, now time.Duration) {
	if a.addr == 0 || a.server == 0 {
		r.res.Wrong.Address++
		r.end(x, failed)
		return
	}
	r.halves[0].add(age)
	r.res.Offers++
	x.addr, x.server, x.state = a.addr, a.server, requesting
	x.sent, x.tries = now, 0
	r.send(i)
}

func (r *run) acked(x *exchange, a answer, age, now time.Duration) {
	if a.addr != x.addr {
		r.res.Wrong.Address++
		r.end(x, failed)
		return
	}
	r.halves[1].add(age)
	r.total.add(now - x.began)
	r.own(x.client, a.addr)
	r.end(x, bound)
	if r.Retry == nil && now-x.began > r.Timeout {
		r.res.Late++
		return
	}
	r.res.Completed++
	r.res.last = now
}

// own notes that the client holds the address, and counts it if another client
// does too.
func (r *run) own(client, addr uint32) {
	c := &r.clients[client]
	if c.addr == addr {
		return
	}
	if c.addr != 0 && r.owner[c.addr] == client+1 {
		delete(r.owner, c.addr)
	}
	if r.owner[addr] != 0 {
		r.res.Wrong.Duplicates++
	}
	c.addr = addr
	r.owner[addr] = client + 1
}

// finished reports whether nothing more is to be expected.
func (r *run) finished(ctx context.Context) bool {
	switch {
	case ctx.Err() != nil:
		return true
	case r.stopped == 0:
		return false
	case r.Linger <= r.Timeout && r.alive == 0:
		return true
	case r.Retry != nil:
		return r.alive == 0
	}
	return time.Since(r.start)-r.stopped > r.Linger
}

// Avalanche is the load of n clients that are switched on at once and repeat
// themselves as real ones do.
func Avalanche(n int) Load {
	return Load{
		Window: n, Count: n, Duration: time.Minute, Timeout: time.Minute,
		Retry: RealClient, Jitter: time.Second,
	}
}
