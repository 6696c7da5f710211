package tftp_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"bootd/tftp"

	pin "github.com/pin/tftp/v3"
)

const benchSize = 8 << 20 // bytes, of the file that is transferred

// BenchmarkTransfer times whole transfers of one client, by our server and by
// pin/tftp's in turn, so that both see the same machine at the same time. The
// client and the relay are ours. "ratio" is our speed divided by the peer's,
// which has no windows.
func BenchmarkTransfer(b *testing.B) {
	for _, rtt := range []time.Duration{0, time.Millisecond} {
		for _, blksize := range []int{512, 1468} {
			for _, window := range []int{1, 4, 16} {
				b.Run(fmt.Sprintf("rtt=%v/blksize=%d/window=%d", rtt, blksize, window), func(b *testing.B) {
					compare(b, rtt, blksize, window)
				})
			}
		}
	}
}

func compare(b *testing.B, rtt time.Duration, blksize, window int) {
	size := benchSize
	if rtt > 0 {
		size = 256 << 10
	}
	ours := serve(b, &tftp.Server{Window: 16}, "127.0.0.1:0")
	ours.put(b, "f", pattern(size))
	theirs := servePin(b, ours.dir)
	via := func(to netip.AddrPort) netip.AddrPort {
		if rtt == 0 {
			return to
		}
		return relay(b, to, rtt)
	}
	oursAt, theirsAt := via(ours.addr), via(theirs)
	var took, peerTook time.Duration
	b.ReportAllocs()
	for b.Loop() {
		took += download(b, oursAt, size, blksize, window)
		b.StopTimer()
		peerTook += download(b, theirsAt, size, blksize, 1)
		b.StartTimer()
	}
	mib := float64(b.N) * float64(size) / (1 << 20)
	b.ReportMetric(mib/took.Seconds(), "MiB/s")
	b.ReportMetric(mib/peerTook.Seconds(), "peer-MiB/s")
	b.ReportMetric(peerTook.Seconds()/took.Seconds(), "ratio")
}

func servePin(b *testing.B, dir string) netip.AddrPort {
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	srv := pin.NewServer(func(name string, to io.ReaderFrom) error {
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = to.ReadFrom(f)
		return err
	}, nil)
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(c)
	}()
	b.Cleanup(func() {
		srv.Shutdown()
		<-done
		root.Close()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// download gets a file and returns how long it took. It keeps nothing.
func download(b *testing.B, to netip.AddrPort, size, blksize, window int) time.Duration {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	c.SetDeadline(began.Add(time.Minute))
	fields := []string{"f", "octet", "blksize", fmt.Sprint(blksize)}
	if window > 1 {
		fields = append(fields, "windowsize", fmt.Sprint(window))
	}
	if _, err := c.WriteToUDPAddrPort(rrq(fields...), to); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	ack := numbered(opACK, 0, nil)
	got := 0
	for next, inWindow := uint16(0), 0; ; {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			b.Fatal(err)
		}
		last := false
		switch op := binary.BigEndian.Uint16(buf); {
		case op == opOACK:
			inWindow = window
		case op == opDATA && binary.BigEndian.Uint16(buf[2:]) == next:
			got += n - 4
			inWindow++
			last = n < 4+blksize
		default:
			continue
		}
		binary.BigEndian.PutUint16(ack[2:], next)
		next++
		if inWindow < window && !last {
			continue
		}
		inWindow = 0
		c.WriteToUDPAddrPort(ack, from)
		if last {
			break
		}
	}
	if got != size {
		b.Fatalf("got %d bytes, want %d", got, size)
	}
	return time.Since(began)
}

// relay holds what the server sends back by rtt. It serves one client at a time, whose
// transfer it takes from the port of the last answer.
func relay(b *testing.B, server netip.AddrPort, rtt time.Duration) netip.AddrPort {
	front, back := bind(b), bind(b)
	var mu sync.Mutex
	var client netip.AddrPort
	peer := server
	go pump(front, 0, func(p []byte, from netip.AddrPort) {
		mu.Lock()
		if p[1] == 1 {
			client, peer = from, server
		}
		to := peer
		mu.Unlock()
		back.WriteToUDPAddrPort(p, to)
	})
	go pump(back, rtt, func(p []byte, from netip.AddrPort) {
		mu.Lock()
		peer = from
		to := client
		mu.Unlock()
		front.WriteToUDPAddrPort(p, to)
	})
	return front.LocalAddr().(*net.UDPAddr).AddrPort()
}

func bind(b *testing.B) *net.UDPConn {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// pump passes packets of c on, each delay after it came.
func pump(c *net.UDPConn, delay time.Duration, pass func([]byte, netip.AddrPort)) {
	type held struct {
		p    []byte
		from netip.AddrPort
		at   time.Time
	}
	queue := make(chan held, 1000)
	defer close(queue)
	go func() {
		for h := range queue {
			time.Sleep(time.Until(h.at)) // the delay that is measured
			pass(h.p, h.from)
		}
	}()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		queue <- held{append([]byte(nil), buf[:n]...), from, time.Now().Add(delay)}
	}
}
