package main

import (
	"context"
	"maps"
	"time"

	"bootd/bmc"
	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// How BMCs are asked for power: they are slow, and some of them have room for
// four sessions.
const (
	powerEvery   = 15 * time.Second
	powerAtOnce  = 8
	powerTimeout = 10 * time.Second // of one BMC
)

// watchPower asks the BMCs of the nodes whose installer is to end by powering
// off, while it runs and no longer.
func (d *daemon) watchPower(ctx context.Context) error {
	w := powerWatch{d, map[string]powerAnswer{}}
	return every(ctx, powerEvery, func() { w.ask(ctx) })
}

// A powerWatch asks BMCs for power again and again. It belongs to one goroutine.
type powerWatch struct {
	*daemon
	last map[string]powerAnswer // of the nodes that are waited for, by name
}

// A powerAnswer is what the BMC of a node said.
type powerAnswer struct {
	err string // why it did not say anything; empty: it did
	off bool
}

// ask asks once. Off counts when it is said twice, since a machine that is
// power-cycled is off for some seconds.
func (w *powerWatch) ask(ctx context.Context) {
	since, macs := w.waiting()
	maps.DeleteFunc(w.last, func(name string, _ powerAnswer) bool { _, waits := since[name]; return !waits })
	if len(macs) == 0 {
		return
	}
	bmcs, err := w.bmcsOf(macs, powerTimeout)
	if err != nil {
		for name := range since {
			w.heard(name, powerAnswer{err: err.Error()})
		}
		return
	}
	for _, r := range bmc.Each(ctx, bmcs, powerAtOnce, askPower) {
		if ctx.Err() != nil {
			return
		}
		if w.heard(r.BMC.Node, r.Value) {
			w.poweredOff(r.BMC.Node, since[r.BMC.Node])
		}
	}
}

// askPower asks one BMC. Its error is in the answer.
func askPower(ctx context.Context, b bmc.BMC) (powerAnswer, error) {
	p, err := b.Power(ctx)
	if err != nil {
		return powerAnswer{err: err.Error()}, nil
	}
	return powerAnswer{off: p == bmc.Off}, nil
}

// waiting returns the nodes that wait for their power to go off: by name, since
// when they are in their phase, and their names by the MAC of the BMC.
func (w *powerWatch) waiting() (since map[string]time.Time, macs map[node.MAC]string) {
	world := w.world.Load()
	since, macs = map[string]time.Time{}, map[node.MAC]string{}
	for _, n := range world.inv.Nodes() {
		r, rules := w.records.Get(n.Name), world.rules(&n)
		if rules.Install != nil && rules.Install.Done == node.DonePowerOff && r.Phase == deploy.Installing && r.Running {
			since[n.Name], macs[n.BMC] = r.Since, n.Name
		}
	}
	return since, macs
}

// heard takes what the BMC of a node says, tells the timeline whether it
// answers, when that is new, and reports whether it said off twice.
func (w *powerWatch) heard(name string, is powerAnswer) (twice bool) {
	was := w.last[name]
	w.last[name] = is
	if is.err != was.err {
		w.tell(name, is.err)
	}
	return was.off && is.off
}

// poweredOff takes it that a node is off for the end of its installation, unless
// it came to another phase while its BMC was asked.
func (w *powerWatch) poweredOff(name string, since time.Time) {
	if !w.records.Get(name).Since.Equal(since) {
		return
	}
	if _, _, err := w.sign(name, deploy.Sign{Kind: deploy.PowerOff}); err != nil {
		w.log.Error("deployment not kept", "node", name, "err", err)
	}
}

// tell tells why the BMC of a node does not answer; empty: it does again.
func (w *powerWatch) tell(name, why string) {
	e := timeline.Event{Node: name, Step: timeline.BMC, Action: "power", Err: why}
	if why == "" {
		e.Detail = "answers again"
		w.log.Info("BMC answers again", "node", name)
	} else {
		w.log.Warn("BMC does not say whether its machine is on", "node", name, "err", why)
	}
	w.record(e)
}
