package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

type datagram struct {
	data string
	peer netip.AddrPort // other side
}

// memLink is a link whose other end is a channel and whose clock is that of
// the bubble.
type memLink struct {
	in     chan datagram
	out    func(datagram)
	poke   chan struct{}
	routed int // MTU

	mu       sync.Mutex
	deadline time.Time
}

func newMemLink(out func(datagram)) *memLink {
	return &memLink{in: make(chan datagram, 1000), out: out, poke: make(chan struct{}, 1), routed: 1500}
}

func (l *memLink) receive(b []byte) (int, netip.AddrPort, error) {
	for {
		l.mu.Lock()
		left := time.Until(l.deadline)
		l.mu.Unlock()
		if left <= 0 {
			return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
		}
		select {
		case d := <-l.in:
			return copy(b, d.data), d.peer, nil
		case <-l.poke:
		case <-time.After(left):
		}
	}
}

func (l *memLink) setDeadline(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

func (l *memLink) wake() { l.setDeadline(time.Unix(1, 0)) }

func (l *memLink) send(to netip.AddrPort, b []byte) error {
	l.out(datagram{string(b), to})
	return nil
}

func (l *memLink) sendBatch(to netip.AddrPort, b []byte, size int) error {
	for ; len(b) > size; b = b[size:] {
		l.send(to, b[:size])
	}
	return l.send(to, b)
}

func (l *memLink) mtu() int { return l.routed }
func (l *memLink) close()   {}

// weather is what a network does to packets, in both directions.
type weather struct {
	loss, dup     float64
	delay, jitter time.Duration // jitter reorders
}

// carry delivers d to a channel some time, or not.
func (w weather) carry(rnd *rand.Rand, d datagram, to chan<- datagram) {
	copies := 1
	if rnd.Float64() < w.dup {
		copies = 2
	}
	for range copies {
		if rnd.Float64() < w.loss {
			continue
		}
		delay := w.delay
		if w.jitter > 0 {
			delay += time.Duration(rnd.Int64N(int64(w.jitter)))
		}
		time.AfterFunc(delay, func() {
			select {
			case to <- d:
			default: // full queue
			}
		})
	}
}

// fetch is a client of RFC 7440 that does as edk2: each block that is not the
// next is answered with an ACK of the last that was. It repeats itself after a
// second, and stays for a while to answer repeats of the last block.
func fetch(in <-chan datagram, say func(string), window, blksize int) (file []byte, ok bool) {
	next, inWindow, ended := 0, 0, false
	ack := func() {
		inWindow = 0
		if next > 0 {
			say(string(numberedPacket(opACK, uint16(next-1))))
		}
	}
	for idle := 0; idle < 12; {
		select {
		case <-time.After(time.Second):
			idle++
			if !ended {
				ack()
			}
			continue
		case d := <-in:
			b := []byte(d.data)
			op, n := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
			switch {
			case op == opERROR:
				return file, false
			case op == opOACK && next <= 1:
				next = 1
				ack()
			case op == opDATA && n == uint16(next) && next > 0 && !ended:
				idle = 0
				file = append(file, b[4:]...)
				next++
				inWindow++
				ended = len(b)-4 < blksize
				if inWindow == window || ended {
					ack()
				}
			case op == opDATA:
				ack()
			}
		}
	}
	return file, ended
}

func numberedPacket(op, n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, op), n)
}

func contents(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}

var client = netip.MustParseAddrPort("10.77.0.9:2000")

func jobOf(data []byte, req request) job {
	return job{
		to: origin{peer: client}, req: req, block: maxBlock, window: 64, size: int64(len(data)), body: bytes.NewReader(data),
		again: new(bell), crowded: func() bool { return false },
	}
}

// A trip is one transfer in the bubble, from both sides.
type trip struct {
	file []byte
	ok   bool
	out  outcome
	data int // DATA packets sent
	took time.Duration
}

func travel(t *testing.T, w weather, seed uint64, size, window, blksize int) (tr trip) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var mu sync.Mutex
		toClient := make(chan datagram, 1000)
		l := newMemLink(func(d datagram) {
			mu.Lock()
			defer mu.Unlock()
			if d.data[1] == opDATA {
				tr.data++
			}
			w.carry(rnd, d, toClient)
		})
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			tr.out = sendOver(t.Context(), l, jobOf(contents(size), request{name: "f", blksize: blksize, window: window}))
			tr.took = time.Since(began)
		}()
		tr.file, tr.ok = fetch(toClient, func(s string) {
			mu.Lock()
			defer mu.Unlock()
			w.carry(rnd, datagram{s, client}, l.in)
		}, window, blksize)
		<-done
	})
	return tr
}

// Files arrive whole over networks that lose, double and reorder packets.
func TestBadNetwork(t *testing.T) {
	for _, w := range []weather{
		{delay: 200 * time.Microsecond},
		{delay: time.Millisecond, loss: 0.01},
		{delay: time.Millisecond, loss: 0.05, dup: 0.05, jitter: 2 * time.Millisecond},
		{delay: 20 * time.Millisecond, loss: 0.1, dup: 0.1, jitter: 20 * time.Millisecond},
		{delay: 400 * time.Millisecond, loss: 0.02},
		{delay: time.Millisecond, jitter: 10 * time.Millisecond},
	} {
		for _, window := range []int{1, 4, 16} {
			for _, size := range []int{0, 1, 511, 512, 513, 4 * 512, 16 * 512, 60_001} {
				for seed := range uint64(3) {
					name := fmt.Sprintf("%+v, window %d, %d bytes, seed %d", w, window, size, seed)
					tr := travel(t, w, seed, size, window, 512)
					if !tr.ok || !bytes.Equal(tr.file, contents(size)) {
						t.Errorf("%s: got %d bytes, complete %v, want the file", name, len(tr.file), tr.ok)
					}
					if tr.out.err != nil || tr.out.bytes != int64(size) {
						t.Errorf("%s: got %+v, want all sent, no error", name, tr.out)
					}
				}
			}
		}
	}
}

// In lock-step on a network that doubles every packet, each block is sent once
// (the Sorcerer's Apprentice). With windows every ACK number may cause one.
func TestC60_SorcerersApprentice(t *testing.T) {
	const blocks = 100
	for _, window := range []int{1, 4, 16} {
		tr := travel(t, weather{delay: time.Millisecond, dup: 1}, 1, blocks*512-1, window, 512)
		if !tr.ok || len(tr.file) != blocks*512-1 {
			t.Errorf("window %d: got %d bytes, want the file", window, len(tr.file))
		}
		if tr.data < blocks || tr.data > blocks*window {
			t.Errorf("window %d: got %d packets of data, want %d to %d", window, tr.data, blocks, blocks*window)
		}
	}
}

// One lost packet costs a quarter of a second in lock-step, not seconds.
func TestC61_CostOfLoss(t *testing.T) {
	clean := travel(t, weather{delay: time.Millisecond}, 1, 100_000, 1, 512)
	lossy := travel(t, weather{delay: time.Millisecond, loss: 0.01}, 1, 100_000, 1, 512)
	lost := lossy.data - clean.data // acks that were lost cost a resend as well
	if lost == 0 {
		t.Fatal("got no loss, want some: take another seed")
	}
	if got, want := (lossy.took-clean.took)/time.Duration(lost), 300*time.Millisecond; got > want {
		t.Errorf("got %v for a lost packet, want at most %v", got, want)
	}
}

// A client that goes away with the file is no failure, one that goes away
// under way is, and neither is remembered for long.
func TestEngineGivesUp(t *testing.T) {
	for _, tt := range []struct {
		acks int // then silence
		want string
		took time.Duration
	}{
		{0, "client does not answer", 12 * time.Second},
		{1, "client does not answer", 250*ms + 500*ms + 1000*ms + 2000*ms + 4000*ms + 5000*ms + 5000*ms},
		{3, "", 250*ms + 500*ms + 1000*ms + 2000*ms},
		{4, "", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newMemLink(func(datagram) {})
			for n := range tt.acks {
				l.in <- datagram{string(numberedPacket(opACK, uint16(n))), client}
			}
			began := time.Now()
			out := sendOver(t.Context(), l, jobOf(contents(1400), request{name: "f", tsize: true}))
			if got := fmt.Sprint(out.err); got != tt.want && !(tt.want == "" && out.err == nil) {
				t.Errorf("%d ACKs: got %v, want %s", tt.acks, out.err, tt.want)
			}
			if got := time.Since(began); got != tt.took {
				t.Errorf("%d ACKs: got %v, want %v", tt.acks, got, tt.took)
			}
		})
	}
}

// A client that never answered has no resends while others wait (C70).
func TestC70_GivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		l := newMemLink(func(datagram) { sent++ })
		j := jobOf(nil, request{name: "f"})
		j.crowded = func() bool { return true }
		began := time.Now()
		out := sendOver(t.Context(), l, j)
		if got := time.Since(began); out.err != errNoAnswer || got != time.Second || sent != 1 {
			t.Errorf("got %v after %v and %d packets, want %v after 1s and one", out.err, got, sent, errNoAnswer)
		}
	})
}

// Strangers are refused and do not put off a resend, and rubbish of the client
// itself is ignored (C67).
func TestC67_Strangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		l := newMemLink(func(d datagram) { got = append(got, fmt.Sprintf("%v %.4q", d.peer, d.data)) })
		stranger := netip.MustParseAddrPort("10.77.0.66:2000")
		for _, d := range []datagram{
			{"\x00\x04\x00\x01", stranger},
			{"\x00\x05\x00\x00no\x00", stranger},
			{"x", stranger},
			{"\x00\x04\x00\x01", netip.MustParseAddrPort("10.77.0.66:69")},
			{"\x00\x04\x00\x01", netip.MustParseAddrPort("255.255.255.255:7")},
			{"", client}, {"\x00", client}, {"\x00\x04\x00", client}, {"\x00\x03\x00\x01", client}, {"\x00\x09", client},
			{"\x00\x06blksize\x008\x00", client}, {"\x00\x01f\x00octet\x00", client},
		} {
			l.in <- d
		}
		time.AfterFunc(999*ms, func() { l.in <- datagram{"\x00\x04\x00\x01", stranger} })
		time.AfterFunc(1001*ms, func() { l.in <- datagram{"\x00\x04\x00\x01", client} })
		out := sendOver(t.Context(), l, jobOf(nil, request{name: "f"}))
		want := []string{
			`10.77.0.9:2000 "\x00\x03\x00\x01"`,
			`10.77.0.66:2000 "\x00\x05\x00\x05"`,
			`10.77.0.66:2000 "\x00\x05\x00\x05"`,
			`10.77.0.9:2000 "\x00\x03\x00\x01"`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || out.err != nil {
			t.Errorf("got %q, %v, want %q", got, out.err, want)
		}
	})
}

// Agreement on options: protocol.md 4.3.
func TestC58_Agree(t *testing.T) {
	for _, tt := range []struct {
		req           request
		block, window int // caps
		want          terms
	}{
		{request{}, 1468, 16, terms{512, 1, false, nil}},
		{request{blksize: 65464}, 1468, 16, terms{1468, 1, false, []byte("\x00\x06blksize\x001468\x00")}},
		{request{blksize: 8}, 1468, 16, terms{8, 1, false, []byte("\x00\x06blksize\x008\x00")}},
		{request{window: 65535}, 1468, 16, terms{512, 16, false, []byte("\x00\x06windowsize\x0016\x00")}},
		{request{window: 4}, 1468, 1, terms{512, 1, false, []byte("\x00\x06windowsize\x001\x00")}},
		{request{timeout: 3}, 1468, 16, terms{512, 1, false, []byte("\x00\x06timeout\x003\x00")}},
		{request{tsize: true}, 1468, 16, terms{512, 1, true, []byte("\x00\x06tsize\x00123456789012\x00")}},
	} {
		got := agree(tt.req, tt.block, tt.window, 123456789012)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%+v: got %+v, OACK %q, want %+v, OACK %q", tt.req, got, got.oack, tt.want, tt.want.oack)
		}
	}
}

// Blocks fit the route: its MTU less 32 bytes of headers (4.3).
func TestC58_BlockFitsRoute(t *testing.T) {
	for _, tt := range []struct{ mtu, cap, asked, want int }{
		{1500, 65464, 65464, 1468},
		{1500, 1468, 1468, 1468},
		{1420, 1468, 1468, 1388},
		{9000, 65464, 8192, 8192},
		{9000, 1468, 8192, 1468},
		{576, 1468, 1468, 544},
		{1420, 1468, 512, 512},
		{1420, 1468, 8, 8},
		{30, 1468, 1468, 8},
	} {
		l := newMemLink(nil)
		l.routed = tt.mtu
		j := jobOf(nil, request{blksize: tt.asked})
		j.block = tt.cap
		if got := newSender(l, j).terms.block; got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}

// The kernel knows the MTU of the route. In a network namespace of its own,
// loopback has another than usual.
func TestRouteMTU(t *testing.T) {
	for _, mtu := range []uint32{1420, 1500, 9000} {
		err := inNamespace(func() error {
			if err := setLoopback(mtu); err != nil {
				return err
			}
			l, err := openLink(origin{peer: netip.MustParseAddrPort("127.0.0.1:2000"), local: netip.MustParseAddr("127.0.0.1")})
			if err != nil {
				return err
			}
			defer l.close()
			if got := l.mtu(); got != int(mtu) {
				t.Errorf("got %d, want %d", got, mtu)
			}
			return nil
		})
		if errors.Is(err, unix.EPERM) && os.Getenv("BOOT_REQUIRE") == "" {
			t.Skip("the right to make a network namespace is missing")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// inNamespace calls f on a thread with a network namespace of its own, which
// ends with it.
func inNamespace(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread dies
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

func setLoopback(mtu uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint32(mtu)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr); err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// A repeat that comes while the transfer waits is answered at once, and the
// end of the server as well.
func TestEngineWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		began := time.Now()
		l := newMemLink(func(d datagram) { got = append(got, fmt.Sprintf("%v %.6q", time.Since(began), d.data)) })
		ctx, cancel := context.WithCancel(t.Context())
		j := jobOf(nil, request{name: "f"})
		j.again.ring() // before it began: its first answer is enough
		time.AfterFunc(100*ms, j.again.ring)
		time.AfterFunc(200*ms, cancel)
		out := sendOver(ctx, l, j)
		want := []string{
			`0s "\x00\x03\x00\x01"`, `100ms "\x00\x03\x00\x01"`, `200ms "\x00\x05\x00\x00se"`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || out.err != errStopping {
			t.Errorf("got %q, %v, want %q, %v", got, out.err, want, errStopping)
		}
	})
}

// idleFile returns neither bytes nor an error.
type idleFile struct{ io.ReadSeeker }

func (idleFile) Read([]byte) (int, error) { return 0, nil }

func TestIdleFile(t *testing.T) {
	j := jobOf(contents(10), request{name: "f"})
	j.body = idleFile{j.body}
	var got string
	out := sendOver(t.Context(), newMemLink(func(d datagram) { got = d.data }), j)
	if want := "\x00\x05\x00\x00read error\x00"; got != want || out.err != io.ErrNoProgress {
		t.Errorf("got %q, %v, want %q, %v", got, out.err, want, io.ErrNoProgress)
	}
}

// ackLink acknowledges all it is sent, and allocates nothing.
type ackLink struct {
	*memLink
	last uint16
}

func (l *ackLink) receive(b []byte) (int, netip.AddrPort, error) {
	binary.BigEndian.PutUint16(b, opACK)
	binary.BigEndian.PutUint16(b[2:], l.last)
	return 4, client, nil
}

func (l *ackLink) send(_ netip.AddrPort, b []byte) error {
	if b[1] == opDATA {
		l.last = binary.BigEndian.Uint16(b[2:])
	}
	return nil
}

func (l *ackLink) sendBatch(to netip.AddrPort, b []byte, size int) error {
	return l.send(to, b[(len(b)-1)/size*size:])
}

func TestNoAllocationPerBlock(t *testing.T) {
	for _, window := range []int{0, 16} {
		l := &ackLink{memLink: newMemLink(nil)}
		s := newSender(l, jobOf(contents(4<<20), request{name: "f", blksize: 512, window: window}))
		s.emit(s.state.begin(time.Now()))
		const turns = 400
		if got := testing.AllocsPerRun(turns, func() { s.arm(); s.turn() }); got != 0 {
			t.Errorf("window %d: got %v allocations for each ACK, want none", window, got)
		}
		if want := int64(turns * max(1, window)); s.state.acked < want || s.state.over {
			t.Errorf("window %d: got %d blocks acknowledged, over %v, want at least %d", window, s.state.acked, s.state.over, want)
		}
	}
}

// Whatever a client or a stranger sends to a transfer, at most a window leaves,
// and never an ERROR to an ERROR.
func FuzzPacket(f *testing.F) {
	f.Add([]byte("\x00\x04\x00\x00"), false)
	f.Add([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), true)
	f.Add([]byte("\x00\x05\x00"), false)
	f.Fuzz(func(t *testing.T, b []byte, strange bool) {
		sent := 0
		l := newMemLink(func(datagram) { sent++ })
		s := newSender(l, jobOf(contents(5000), request{name: "f", tsize: true, window: 4}))
		s.emit(s.state.begin(time.Now()))
		sent = 0
		peer := client
		if strange {
			peer = netip.MustParseAddrPort("10.77.0.66:2000")
		}
		s.emit(s.take(time.Now(), b, peer))
		isError := len(b) > 1 && binary.BigEndian.Uint16(b) == opERROR
		if sent > 4 || strange && sent > 1 || isError && sent > 0 {
			t.Errorf("%q: got %d packets", b, sent)
		}
		if strange && (s.state.over || s.state.heard) {
			t.Errorf("%q: a stranger changed the transfer", b)
		}
	})
}
