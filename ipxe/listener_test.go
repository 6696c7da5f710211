package ipxe

import (
	"net"
	"testing"
	"time"
)

// One machine that opens connections and says nothing leaves room for others,
// and may come again when it has closed some.
func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: inner, open: newSlots(8, 2)}
	defer l.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func(from string) (c net.Conn, served bool) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp4", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		select {
		case <-accepted:
			return c, true
		case <-time.After(200 * time.Millisecond):
			return c, false
		}
	}
	first := func() net.Conn {
		c, err := net.Dial("tcp4", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return <-accepted
	}()
	for i, row := range []struct {
		from string
		want bool
	}{{"127.0.0.1", true}, {"127.0.0.1", false}, {"127.0.0.2", true}} {
		if _, got := dial(row.from); got != row.want {
			t.Errorf("connection %d, from %s: got %v, want %v", i, row.from, got, row.want)
		}
	}
	first.Close()
	if _, got := dial("127.0.0.1"); !got {
		t.Error("after one was closed: got none, want a connection")
	}
}
