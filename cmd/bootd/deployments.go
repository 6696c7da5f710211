package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
	"bootd/ipxe"
)

// openRecords reads the deployments of the nodes.
func (d *daemon) openRecords(db *store.Store) error {
	table, err := db.Table("deployments")
	if err != nil {
		return err
	}
	if d.reports, err = db.Table("reports"); err != nil {
		return err
	}
	if d.records, err = deploy.OpenRecords(table, d.moved); err != nil {
		return err
	}
	if table, err = db.Table("machines"); err == nil {
		d.machines, err = deploy.OpenMachines(table)
	}
	return err
}

// moved tells the timeline and the log that a node came to a phase.
func (d *daemon) moved(name string, was, is deploy.Record) {
	d.record(timeline.Event{Time: is.Since, Node: name, Step: timeline.Deploy, Action: is.Phase.String(), Detail: is.Reason})
	d.log.Info("deployment", "node", name, "phase", is.Phase.String(), "was", was.Phase.String(), "reason", is.Reason)
}

// decide settles what the machine that asks is told. When it is the node that
// asks, what is told is kept first.
func (d *daemon) decide(m ipxe.Machine) deploy.Decision {
	w, now := d.world.Load(), time.Now()
	n := w.find(m)
	if n == nil {
		return w.decide(nil, deploy.Observation{})
	}
	if !m.Peek {
		d.boots(w, n, m.Addr, now)
	}
	who, _ := d.identify(m.Addr)
	o := deploy.Observation{Foreign: who != n.Name, Firmware: cmp.Or(m.Firmware, d.firmware.of(n.Name))}
	if o.Foreign || m.Peek {
		o.Record = d.records.Get(n.Name).Comes(now, w.rules(n))
		return w.decide(n, o)
	}
	d.firmware.saw(n.Name, m.Firmware)
	dec, err := d.records.Ask(now, n.Name, w.rules(n), func(r deploy.Record) deploy.Decision {
		o.Record = r
		return w.decide(n, o)
	})
	if err != nil {
		d.notKept(n.Name, err)
		return deploy.Decision{Action: deploy.Hold, Node: n.Name, Role: n.Role, Reason: "the server cannot write its state, see its log"}
	}
	return dec
}

// notKept says that the deployment of a node cannot be written. It is so for all
// of them, and each of them asks again and again.
func (d *daemon) notKept(name string, err error) {
	d.unwritten.Do(func() {
		d.log.Error("deployments cannot be kept, so nodes wait; said once a minute", "node", name, "err", err)
	})
}

// next is what a node would be told now; n is nil for a machine that is none.
func (d *daemon) next(w *world, n *node.Node, now time.Time) deploy.Decision {
	if n == nil {
		return w.decide(nil, deploy.Observation{})
	}
	role, _ := w.inv.Role(n.Role)
	fw := cmp.Or(d.firmware.of(n.Name), role.Firmware) // one that was not seen yet may start as it is to
	return w.decide(n, deploy.Observation{Record: d.records.Get(n.Name).Comes(now, w.rules(n)), Firmware: fw})
}

// firmwareOf returns the firmware mode of an architecture of DHCP's option 93, by
// the name that dhcp gives it; empty: it does not say.
func firmwareOf(arch string) node.Firmware {
	switch {
	case arch == "x86-bios":
		return node.BIOS
	case strings.Contains(arch, "-efi"):
		return node.UEFI
	}
	return ""
}

// firmwares remembers how nodes started last, as they said to DHCP or in the URL
// of their script. A daemon that restarts learns it anew.
type firmwares struct {
	mu   sync.Mutex
	last map[string]node.Firmware // by the name of the node
}

func (f *firmwares) saw(name string, fw node.Firmware) {
	if name == "" || fw == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.last = map[string]node.Firmware{}
	}
	f.last[name] = fw
}

func (f *firmwares) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.last, name)
}

func (f *firmwares) of(name string) node.Firmware {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[name]
}

// sign takes a sign of a node.
func (d *daemon) sign(name string, s deploy.Sign) (was, is deploy.Record, err error) {
	w := d.world.Load()
	n, ok := w.inv.ByName(name)
	if !ok {
		return was, is, fmt.Errorf("%q is not a node of the inventory", name)
	}
	return d.records.Observe(time.Now(), name, w.rules(n), s)
}

// observe takes what a step of a machine says of its deployment. Whose address
// it came from says whose step it is: a name in a path proves nothing.
func (d *daemon) observe(e *timeline.Event) {
	d.firmware.saw(e.Node, firmwareOf(e.Arch))
	kind, tells := signOf(e)
	if !tells {
		return
	}
	if who, _ := d.identify(e.Addr); who == "" || who != e.Node {
		return
	}
	if n, ok := d.world.Load().inv.ByName(e.Node); ok && !d.shows(n, kind, e) {
		return
	}
	if _, _, err := d.sign(e.Node, deploy.Sign{Kind: kind}); err != nil && !errors.Is(err, deploy.ErrNotNow) {
		d.notKept(e.Node, err)
	}
}

// shows reports whether a step shows of this node what it shows of others: an
// installer that waits for its documents does not run before it has them, and
// only of one that is nothing but an initrd is it known that it did not start.
func (d *daemon) shows(n *node.Node, kind deploy.SignKind, e *timeline.Event) bool {
	switch kind {
	case deploy.SystemRuns:
		return e.Step == timeline.Payload || !waitsForDocuments(n) || !d.records.Get(n.Name).Installing()
	case deploy.NotStarted:
		return !waitsForDocuments(n) && d.onlyInitrd(n.Name)
	}
	return true
}

// sending keeps that an installer without documents runs, before it has its
// root file system: a crash after that must not give it out again. Of one that
// has none, it keeps that its initrd is on its way, and then that it arrived.
// One with documents does nothing before it has them.
func (d *daemon) sending(a netip.Addr, file string) (sent func(whole bool), err error) {
	name, _ := d.identify(a)
	n, ok := d.world.Load().inv.ByName(name)
	if !ok || waitsForDocuments(n) || !d.records.Get(name).Installing() {
		return nil, nil
	}
	switch base := path.Base(file); {
	case ipxe.IsRootfs(base):
		_, _, err = d.sign(name, deploy.Sign{Kind: deploy.SystemRuns})
	case ipxe.IsInitrd(base) && d.onlyInitrd(name):
		var is deploy.Record
		if _, is, err = d.sign(name, deploy.Sign{Kind: deploy.Loading}); err == nil {
			sent = func(whole bool) { d.loaded(name, is.Installs, whole) }
		}
	}
	return sent, err
}

// onlyInitrd reports whether what a node was told to boot last is nothing but a
// kernel and an initrd.
func (d *daemon) onlyInitrd(name string) bool {
	c, err := d.tree.Boot(name, d.records.Get(name).Release)
	return err == nil && c.Squashfs == ""
}

// loaded keeps that an initrd arrived, or did not. When it cannot be kept, it
// stays on its way, and counts as arrived after the next start.
func (d *daemon) loaded(name string, install int, whole bool) {
	kind := deploy.NotLoaded
	if whole {
		kind = deploy.Loaded
	}
	if _, _, err := d.sign(name, deploy.Sign{Kind: kind, Load: install}); err != nil {
		d.log.Error("deployment not kept", "node", name, "err", err)
	}
}

// waitsForDocuments reports whether the installer of a node does nothing before
// it has its documents. Of free text nobody knows who asks for it, and when.
func waitsForDocuments(n *node.Node) bool {
	return !n.Payload.IsZero() && n.Payload.Family != node.Text
}

// signOf returns what a step says of the deployment of its node.
func signOf(e *timeline.Event) (kind deploy.SignKind, tells bool) {
	switch {
	case e.Node == "":
		return 0, false
	case e.Step == timeline.Report && ipxe.NotStarted(e.Detail):
		return deploy.NotStarted, true
	case e.Err != "":
		return 0, false
	}
	switch e.Step {
	case timeline.HTTP, timeline.TFTP:
		switch base := path.Base(e.File); {
		case base == "kernel":
			return deploy.KernelSent, true
		case ipxe.IsRootfs(base):
			return deploy.SystemRuns, true
		}
	case timeline.Payload:
		if e.Action == deploy.Granted.String() {
			return deploy.SystemRuns, true
		}
	}
	return 0, false
}

// signs of what a node says.
var saidBy = map[string]deploy.SignKind{
	"installed": deploy.SaidDone, "booted": deploy.SaidBooted, "phone-home": deploy.SaidBooted,
	"registered": deploy.SaidJoined, "failed": deploy.SaidFailed,
}

// checkIn takes what a node says of itself.
func (d *daemon) checkIn(in ipxe.CheckIn) error {
	if err := errors.Join(d.keepReport(in), d.keepHost(in), d.validated(in)); err != nil {
		return err
	}
	if in.Kind == "heartbeat" {
		_, _, err := d.beat(in.Node, "")
		return err
	}
	kind, tells := saidBy[in.Kind]
	if !tells {
		return nil
	}
	_, _, err := d.sign(in.Node, deploy.Sign{Kind: kind, Detail: in.Detail})
	if err == nil {
		d.endMedia(in.Node, in.Kind)
	}
	return err
}

// deadlineEvery is how late a deadline may be noticed.
const deadlineEvery = 5 * time.Second

// watchDeadlines acts on what time alone changes: deadlines, silence, and the
// end of images.
func (d *daemon) watchDeadlines(ctx context.Context) error {
	return every(ctx, deadlineEvery, func() {
		d.giveUp(time.Now())
		d.silences(time.Now())
		d.expireMedia(time.Now())
	})
}

func (d *daemon) giveUp(now time.Time) {
	for _, n := range d.world.Load().inv.Nodes() {
		r := d.records.Get(n.Name)
		if r.Deadline.IsZero() || now.Before(r.Deadline) {
			continue
		}
		if _, _, err := d.sign(n.Name, deploy.Sign{Kind: deploy.Overdue}); err != nil {
			d.notKept(n.Name, err)
		}
	}
}

// orders are what an administrator can want.
var orders = map[string]deploy.SignKind{"arm": deploy.ToArm, "disarm": deploy.ToDisarm, "hold": deploy.ToHold, "resume": deploy.ToResume}

// Order implements admin.Deployments.
func (d *daemon) Order(o admin.Order) ([]admin.Moved, error) {
	kind, ok := orders[o.Do]
	if !ok {
		return nil, fmt.Errorf("%q is not one of arm, disarm, hold, resume", o.Do)
	}
	patterns, err := node.ParsePatterns(o.Nodes)
	if err != nil {
		return nil, err
	}
	nodes, err := d.world.Load().inv.Pick(patterns)
	if err != nil {
		return nil, err
	}
	list := make([]admin.Moved, len(nodes))
	var g errgroup.Group
	g.SetLimit(ordersAtOnce)
	for i, n := range nodes {
		g.Go(func() error {
			was, is, err := d.sign(n.Name, deploy.Sign{Kind: kind, Wipe: o.Wipe, Again: o.Again, Detail: o.Reason})
			list[i] = admin.Moved{Node: n.Name, Was: was.Phase, Is: is.Phase, Wipe: is.Wipe, Done: was != is}
			if err != nil {
				list[i].Err = err.Error()
			}
			return nil
		})
	}
	return list, g.Wait()
}

// ordersAtOnce are how many nodes of an order share a commit.
const ordersAtOnce = 128

// Deployment implements admin.Deployments.
func (d *daemon) Deployment(name string) (admin.Deployment, error) {
	if _, ok := d.world.Load().inv.ByName(name); !ok {
		return admin.Deployment{}, d.unknown(name)
	}
	reports, err := d.reportsOf(name)
	r := d.records.Get(name)
	return admin.Deployment{Node: name, Record: r, Life: d.life(name, r, time.Now()), Reports: reports}, err
}
