package main

import (
	"net"
	"sync"
)

// maxPerClient is how many HTTP connections one address may have: firmware and
// iPXE use one, a machine that boots a handful.
const maxPerClient = 128

// A fairListener closes the connections of an address that has too many, so
// that no machine can take all that there may be.
type fairListener struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[string]int // by address; those with none are not there
}

func newFairListener(l net.Listener, most int) *fairListener {
	return &fairListener{Listener: l, most: most, open: map[string]int{}}
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		if l.add(host) {
			return &fairConn{Conn: c, closed: func() { l.remove(host) }}, nil
		}
		c.Close()
	}
}

func (l *fairListener) add(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host] >= l.most {
		return false
	}
	l.open[host]++
	return true
}

func (l *fairListener) remove(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

// fairConn is a connection that is counted until it is closed.
type fairConn struct {
	net.Conn
	once   sync.Once
	closed func()
}

// Close implements net.Conn.
func (c *fairConn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}
