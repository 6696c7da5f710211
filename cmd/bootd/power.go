package main

import (
	"context"
	"fmt"
	"time"

	"bootd/bmc"
	"bootd/deploy"
	"bootd/deploy/payload"
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
	tick := time.NewTicker(powerEvery)
	defer tick.Stop()
	answers := map[string]answered{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.askPower(ctx, answers)
		}
	}
}

// A waiting is a node that waits for its power to go off.
type waiting struct {
	since time.Time // of its phase: a BMC may answer when that is another one
	bmc   bmc.BMC
}

// An answered is what the BMC of a node said last.
type answered struct {
	err string // why it did not say anything; empty: it did
	off bool
}

// askPower asks once. What BMCs said last time is in answers: why one does not
// answer goes into the timeline when it changes, and not each time, and off
// counts when it is said twice, since a machine that is power-cycled is off for
// some seconds.
func (d *daemon) askPower(ctx context.Context, answers map[string]answered) {
	waits, err := d.waitingForPower()
	for name := range answers {
		if _, ok := waits[name]; !ok {
			delete(answers, name)
		}
	}
	if err != nil {
		for name := range waits {
			d.answer(name, answers, bmc.On, err)
		}
		return
	}
	bmcs := make([]bmc.BMC, 0, len(waits))
	for _, w := range waits {
		bmcs = append(bmcs, w.bmc)
	}
	for _, r := range bmc.Each(ctx, bmcs, powerAtOnce, func(ctx context.Context, b bmc.BMC) (bmc.Power, error) { return b.Power(ctx) }) {
		name := r.BMC.Node
		if ctx.Err() != nil {
			return
		}
		twice := d.answer(name, answers, r.Value, r.Err)
		if !twice || !d.records.Get(name).Since.Equal(waits[name].since) {
			continue
		}
		if _, _, err := d.sign(name, deploy.Sign{Kind: deploy.PowerOff}); err != nil {
			d.log.Error("deployment not kept", "node", name, "err", err)
		}
	}
}

// waitingForPower returns the nodes whose BMCs are to be asked, by name. The
// error is why none can be.
func (d *daemon) waitingForPower() (map[string]waiting, error) {
	w := d.world.Load()
	waits, macs := map[string]waiting{}, map[node.MAC]string{}
	for _, n := range w.inv.Nodes() {
		r, rules := d.records.Get(n.Name), w.rules(&n)
		if rules.Install != nil && rules.Install.Done == node.DonePowerOff && r.Phase == deploy.Installing && r.Running {
			waits[n.Name], macs[n.BMC] = waiting{since: r.Since}, n.Name
		}
	}
	if len(waits) == 0 {
		return waits, nil
	}
	found, err := d.bmcsOf(macs, powerTimeout)
	for name, b := range found {
		waits[name] = waiting{since: waits[name].since, bmc: b}
	}
	return waits, err
}

// bmcsOf returns how to talk to the BMCs with these addresses, by the names
// given for them. The error is why to none.
func (d *daemon) bmcsOf(macs map[node.MAC]string, timeout time.Duration) (map[string]bmc.BMC, error) {
	cfg := d.config().BMC
	password, err := payload.ReadSecret(cfg.Password)
	if err != nil {
		return nil, fmt.Errorf("bmc: password-file: %w", err)
	}
	protocol, err := bmc.ParseProtocol(cfg.Protocol)
	if err != nil {
		return nil, err
	}
	hosts, found := d.leasedTo(macs), map[string]bmc.BMC{}
	for _, name := range macs {
		found[name] = bmc.BMC{Node: name, Host: hosts[name], Protocol: protocol, User: cfg.User, Password: bmc.NewSecret(password), Timeout: timeout}
	}
	return found, nil
}

// leasedTo returns the addresses that NICs hold, by the names given for them.
func (d *daemon) leasedTo(macs map[node.MAC]string) map[string]string {
	hosts, now := map[string]string{}, d.dhcp.Now()
	for l := range d.dhcp.Leases.Each() {
		if name, ok := macs[l.MAC]; ok && l.Active(now) {
			hosts[name] = l.Addr.String()
		}
	}
	return hosts
}

// answer takes what the BMC of a node says, tells the timeline whether it
// answers, when that is new, and reports whether it said off twice.
func (d *daemon) answer(name string, answers map[string]answered, p bmc.Power, err error) (twice bool) {
	was, is := answers[name], answered{off: err == nil && p == bmc.Off}
	if err != nil {
		is.err = err.Error()
	}
	answers[name] = is
	if is.err != was.err {
		d.tellPower(name, is.err)
	}
	return was.off && is.off
}

func (d *daemon) tellPower(name, text string) {
	e := timeline.Event{Node: name, Step: timeline.BMC, Action: "power", Err: text}
	if text == "" {
		e.Detail = "answers again"
		d.log.Info("BMC answers again", "node", name)
	} else {
		d.log.Warn("BMC does not say whether its machine is on", "node", name, "err", text)
	}
	d.record(e)
}
