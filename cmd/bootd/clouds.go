package main

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// metadataAt is where the clients of clouds look for metadata.
var metadataAt = netip.MustParseAddrPort("169.254.169.254:80")

// bindMetadata listens there, whether or not an interface has the address yet:
// that is the administrator's to give.
func (d *daemon) bindMetadata() error {
	if !d.config().HTTP.Metadata {
		return nil
	}
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
		return cmp.Or(err, set)
	}}
	l, err := listen.Listen(context.Background(), "tcp4", metadataAt.String())
	if err != nil {
		return bindError("metadata", "TCP", metadataAt, err)
	}
	d.onClose("metadata", l.Close)
	d.http = append(d.http, bound[net.Listener]{metadataAt.Addr(), newFairListener(l, maxConnections, maxPerClient)})
	return nil
}

// clouds are the names by which nodes are answered as by a cloud. A client asks
// all names at once and takes the answer that comes first, so each node has an
// answer from one only: the one that it asked first after it was installed.
type clouds struct {
	mu   sync.Mutex
	seen map[string]cloud // by node: as many as the inventory has
}

type cloud struct {
	host     string
	installs int // which installation of the node it was
}

// is reports whether a node is answered by a name.
func (c *clouds) is(name, host string, installs int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]cloud{}
	}
	now, ok := c.seen[name]
	if !ok || now.installs != installs {
		now = cloud{host, installs}
		c.seen[name] = now
	}
	return now.host == host
}

// forget forgets which name a node was answered by.
func (c *clouds) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, name)
}
