package main

import (
	"net/netip"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// How many steps a second of machines that are not in the inventory are kept.
const (
	strangerSteps = 500
	strangerBurst = 2000
)

// identify tells whose address a is.
func (d *daemon) identify(a netip.Addr) (string, node.MAC) {
	mac := d.dhcp.Holder(a)
	if mac.IsZero() {
		return "", mac
	}
	return d.world.Load().name(mac), mac
}

// record takes a step of a machine, from whichever protocol. Nodes are as many
// as the inventory has; strangers may be any number, so what is kept of them is
// limited and the rest only counted.
func (d *daemon) record(e timeline.Event) {
	redactEvent(&e)
	if e.Node == "" && !d.strangers.Allow() {
		d.unkept.Inc()
		return
	}
	result := "ok"
	switch {
	case e.Action == deploy.Foreign.String():
		result = "foreign"
	case e.Err != "":
		result = "error"
	}
	d.steps.WithLabelValues(string(e.Step), result).Inc()
	d.events.Record(e)
	d.observe(&e)
	d.rollouts.checkedIn(&e)
}
