package ipxe

import (
	"io"
	"net"
	"sync"
)

// MaxConnections is how many connections a Listener has open, idle ones and
// those of agents included.
const MaxConnections = 4096

// maxConnectionsEach is how many of these one address may have: firmware and
// iPXE use one, a machine that boots a handful.
const maxConnectionsEach = 128

// Listener returns l with bounds on the connections that are open, all of them
// and those of one address, so that no machine can take all that there may be.
// More are closed at once. It takes TCP connections only, and hands files to
// the kernel as theirs do (sendfile(2)).
func Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, open: newSlots(MaxConnections, maxConnectionsEach)}
}

type listener struct {
	net.Listener
	open *slots
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			c.Close()
			continue
		}
		peer := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !l.open.take(peer) {
			c.Close()
			continue
		}
		return &connection{TCPConn: tcp, closed: func() { l.open.give(peer) }}, nil
	}
}

// A connection is counted until it is closed. It has the ReadFrom of a TCPConn,
// which is what sends files without copying them.
type connection struct {
	*net.TCPConn
	once   sync.Once
	closed func()
}

var _ io.ReaderFrom = (*connection)(nil)

// Close implements net.Conn.
func (c *connection) Close() error {
	c.once.Do(c.closed)
	return c.TCPConn.Close()
}
