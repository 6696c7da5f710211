package main

import (
	"sync"

	"bootd/internal/node"
)

// wanted remembers what loader the classes of machines wanted. The zero wanted
// remembers nothing yet.
type wanted struct {
	mu    sync.Mutex
	byMAC map[node.MAC]node.Loader
}

// maxWanted is how many machines are remembered; then it begins anew, and
// machines that are just between DHCP and their script are taken for others.
const maxWanted = 65536

func (w *wanted) note(mac node.MAC, l node.Loader) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byMAC == nil || len(w.byMAC) >= maxWanted {
		w.byMAC = map[node.MAC]node.Loader{}
	}
	w.byMAC[mac] = l
}

func (w *wanted) of(mac node.MAC) node.Loader {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byMAC[mac]
}

func (w *wanted) has(mac node.MAC) bool { return w.of(mac) != node.LoaderAny }
