package main

import (
	"sync"
)

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
