package dhcp

import (
	"net"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// The program says of each message what looksLikeDiscover says.
func TestNotDiscover(t *testing.T) {
	vm, err := bpf.NewVM(notDiscover())
	if err != nil {
		t.Fatal(err)
	}
	for typ := dhcpv4.MessageTypeDiscover; typ <= dhcpv4.MessageTypeInform; typ++ {
		p := message(m1, typ).ToBytes()
		n, err := vm.Run(append(make([]byte, udpLen), p...))
		if err != nil || (n == 0) != looksLikeDiscover(p) || (n == 0) != (typ == dhcpv4.MessageTypeDiscover) {
			t.Errorf("%v: got %d, %v, want none of a DISCOVER only", typ, n, err)
		}
	}
}

// On a real socket: while DISCOVERs wait in great numbers more of them are
// dropped, and REQUESTs are not; when the queue is read, they come again.
func TestKernelSheds(t *testing.T) {
	l, err := Listen("lo", 4011)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("udp4", "127.0.0.1:4011")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func(typ dhcpv4.MessageType, last byte) {
		t.Helper()
		if _, err := c.Write(message(node.MAC{2, 0, 0, 0, 0, last}, typ).ToBytes()); err != nil {
			t.Fatal(err)
		}
	}
	batch := make([]*exchange, batchLen)
	for i := range batch {
		batch[i] = new(exchange)
	}
	wait := func(d time.Duration) { <-time.After(d) }              // that packets are this old is the event
	for waited := time.Duration(0); waited < 2*time.Millisecond; { // the kernel begins to note the time of arrival a while after it was told
		send(dhcpv4.MessageTypeRequest, 0)
		wait(3 * time.Millisecond)
		if _, err := l.Recv(batch[:2]); err != nil { // one alone would fill a batch of one
			t.Fatal(err)
		}
		waited = time.Since(batch[0].arrived)
	}
	for range 2 * batchLen {
		send(dhcpv4.MessageTypeDiscover, 1)
	}
	wait(shedFrom + time.Millisecond)
	if n, err := l.Recv(batch); n != batchLen || err != nil {
		t.Fatalf("got %d packets, %v, want %d", n, err, batchLen)
	}
	send(dhcpv4.MessageTypeDiscover, 2)
	send(dhcpv4.MessageTypeRequest, 3)
	if n, err := l.Recv(batch); n != batchLen || err != nil {
		t.Fatalf("got %d packets, %v, want %d", n, err, batchLen)
	}
	if n, err := l.Recv(batch); n != 1 || err != nil || looksLikeDiscover(batch[0].buf[:batch[0].n]) {
		t.Fatalf("got %d packets, %v, want the REQUEST alone", n, err)
	}
	send(dhcpv4.MessageTypeDiscover, 4)
	if n, err := l.Recv(batch); n != 1 || err != nil || !looksLikeDiscover(batch[0].buf[:batch[0].n]) {
		t.Errorf("got %d packets, %v, want the DISCOVER that came when the queue was empty", n, err)
	}
	if got, want := l.Dropped(), (Drops{Shed: 1}); got != want {
		t.Errorf("dropped: got %+v, want %+v", got, want)
	}
}

// What a socket has no room for is counted, and what is not for it is not.
func TestKernelDropsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name string
		port uint16
		open func() (*Link, error)
	}{
		{"UDP", 4011, func() (*Link, error) { return Listen("lo", 4011) }},
		{"raw", ServerPort, func() (*Link, error) { return ListenBeside("lo") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := tt.open()
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.in.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) }); err != nil {
				t.Fatal(err)
			}
			c, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const sent = 3 * batchLen
			packet := message(m1, dhcpv4.MessageTypeRequest).ToBytes()
			send := func(port uint16) {
				t.Helper()
				for range sent {
					if _, err := c.WriteTo(packet, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(4999)
			if got := l.Dropped(); got != (Drops{}) {
				t.Errorf("packets of others: got %+v, want none counted", got)
			}
			send(tt.port)
			read := 0
			batch := make([]*exchange, sent)
			for i := range batch {
				batch[i] = new(exchange)
			}
			l.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // for what loopback delivered already
			for {
				n, err := l.Recv(batch[:batchLen])
				if err != nil {
					break
				}
				read += n
			}
			got := l.Dropped()
			if read == 0 || got.Full == 0 || read+got.Full != sent || got.Shed != 0 {
				t.Errorf("sent %d, read %d: got %+v, want the rest counted", sent, read, got)
			}
			if got := l.Dropped(); got != (Drops{}) {
				t.Errorf("once more: got %+v, want none", got)
			}
		})
	}
}
