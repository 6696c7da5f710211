package main

import (
	"context"
	"time"

	"bootd/bmc"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// How drives are emptied: a BMC unmounts what its machine may still hold, which
// takes its time.
const (
	ejectQueue   = 256
	ejectsAtOnce = 8
	ejectTimeout = time.Minute // of one BMC
)

// ejectLater empties the virtual drive of a node that does not need its image
// any more, where the daemon can: over Redfish, with a password. Nobody waits
// for it, and the node's check-in least of all.
func (d *daemon) ejectLater(name string) {
	cfg := d.config().BMC
	if cfg.Password == "" || cfg.Protocol != bmc.Redfish.String() {
		return
	}
	select {
	case d.ejects <- name:
	default:
		d.log.Warn("drive not emptied: too many at once", "node", name)
	}
}

// ejectMedia empties the drives that are waited for, as many at a time as there
// are, up to a bound.
func (d *daemon) ejectMedia(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-d.ejects:
			d.ejectAll(ctx, append(d.waitingForEject(), name))
		}
	}
}

// waitingForEject takes as many nodes off the queue as wait, but for the one
// that the caller has.
func (d *daemon) waitingForEject() (names []string) {
	for len(names) < ejectsAtOnce-1 {
		select {
		case name := <-d.ejects:
			names = append(names, name)
		default:
			return names
		}
	}
	return names
}

// ejectAll empties the drives of nodes at once. Those that left the inventory
// meanwhile are left alone.
func (d *daemon) ejectAll(ctx context.Context, names []string) {
	w, macs := d.world.Load(), map[node.MAC]string{}
	for _, name := range names {
		if n, ok := w.inv.ByName(name); ok {
			macs[n.BMC] = name
		}
	}
	bmcs, err := d.bmcsOf(macs, ejectTimeout)
	if err != nil {
		d.log.Warn("drives not emptied", "nodes", names, "err", err)
		return
	}
	for _, r := range bmc.Each(ctx, bmcs, ejectsAtOnce, func(ctx context.Context, b bmc.BMC) (bool, error) { return b.EjectMedia(ctx) }) {
		d.ejected(r)
	}
}

// ejected tells what became of the drive of a BMC.
func (d *daemon) ejected(r bmc.Result[bool]) {
	e := timeline.Event{Node: r.BMC.Node, Step: timeline.BMC, Action: "eject"}
	switch {
	case r.Err != nil:
		e.Err = r.Err.Error()
		d.log.Warn("drive not emptied", "node", e.Node, "err", r.Err)
	case !r.Value:
		return // somebody was faster
	}
	d.record(e)
}
