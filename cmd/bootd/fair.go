package main

import (
	"io"
	"net"
	"sync"
)

// maxPerClient is how many HTTP connections one address may have: firmware and
// iPXE use one, a machine that boots a handful.
const maxPerClient = 128

// A fairListener bounds the connections that are open, all of them and those of
// one address, so that no machine can take all that there may be. More are
// closed at once. Its connections are those of the system underneath, so that
// files go out by sendfile(2).
type fairListener struct {
	net.Listener
	all, each int

	mu    sync.Mutex
	total int
	open  map[string]int // by address; those with none are not there
}

func newFairListener(l net.Listener, all, each int) *fairListener {
	return &fairListener{Listener: l, all: all, each: each, open: map[string]int{}}
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		if tcp, ok := c.(*net.TCPConn); ok && l.add(host) {
			return &fairConn{TCPConn: tcp, closed: func() { l.remove(host) }}, nil
		}
		c.Close()
	}
}

func (l *fairListener) add(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.all || l.open[host] >= l.each {
		return false
	}
	l.total++
	l.open[host]++
	return true
}

func (l *fairListener) remove(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

// fairConn is a connection that is counted until it is closed. It has the
// ReadFrom of a TCPConn, which is what sends files without copying them.
type fairConn struct {
	*net.TCPConn
	once   sync.Once
	closed func()
}

var _ io.ReaderFrom = (*fairConn)(nil)

// Close implements net.Conn.
func (c *fairConn) Close() error {
	c.once.Do(c.closed)
	return c.TCPConn.Close()
}
