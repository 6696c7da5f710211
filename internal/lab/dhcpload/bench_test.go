package dhcpload

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bootd/internal/lab"
)

// BenchmarkExchange is what an exchange costs the generator, and how many it
// can do, against a server that does nothing but turn packets around.
func BenchmarkExchange(b *testing.B) {
	ns := lab.ForTest(b, netip.MustParsePrefix("192.0.2.1/24"), 0)
	srv, cli := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	var g *Generator
	var mirror *socket
	err := ns.Do(func() (err error) {
		if mirror, err = openSocket(Config{Server: cli, Relay: srv}); err != nil {
			return err
		}
		g, err = Open(Config{Server: srv, Relay: cli})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); turnAround(mirror, stop) }()
	defer func() { close(stop); <-done; mirror.close() }()

	runtime.LockOSThread() // Run stays on this thread, whose time is what counts
	defer runtime.UnlockOSThread()
	before := threadTime(b)
	r, err := g.Run(b.Context(), Load{Window: 256, Count: b.N, Duration: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((threadTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if r.Completed != b.N || r.Wrong.Any() != 0 {
		b.Errorf("got %v", r)
	}
}

func threadTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// turnAround makes answers of requests where they stand.
func turnAround(s *socket, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		for i := range s.receive() {
			out := s.next()
			n := copy(out, s.packet(i))
			out[0] = 2
			out[atType]++ // DISCOVER becomes OFFER; REQUEST needs one more
			if out[atType] == request+1 {
				out[atType] = ack
			}
			binary.BigEndian.PutUint32(out[atYiaddr:], 0x0a000000|binary.BigEndian.Uint32(out[atChaddr+2:])&0xffffff)
			copy(out[atRequested-2:], []byte{54, 4, 127, 0, 0, 1})
			s.commit(n)
		}
		s.flush()
		s.wait(idle)
	}
}
