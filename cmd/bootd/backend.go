package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/internal/timeline"
	"bootd/links"
)

// The daemon is the backend of its admin socket.
var _ admin.Backend = (*daemon)(nil)

// Health implements admin.Backend.
func (d *daemon) Health() admin.Health {
	h := admin.Health{Version: version, Started: d.started, Config: d.file, Root: d.tree.Root().Name()}
	h.Writes = unix.Access(h.Root, unix.W_OK) == nil
	if err := d.reloadErr.Load(); err != nil {
		h.Reload = *err
	}
	for _, r := range d.dhcp.Rivals(time.Now()) {
		h.Rivals = append(h.Rivals, admin.Rival{
			Server: r.Server, Subnet: r.Subnet, Machine: cmp.Or(r.Node, r.MAC.String()), Choices: r.Choices, First: r.First, Last: r.Last,
		})
	}
	return h
}

// Status implements admin.Backend: the nodes in the order of the
// configuration, then the machines that are in no inventory.
func (d *daemon) Status(now time.Time) []admin.Status {
	w := d.world.Load()
	list := make([]admin.Status, 0, len(w.inv.Nodes()))
	for _, n := range w.inv.Nodes() {
		list = append(list, d.status(w, n.Name, now))
	}
	for _, machine := range d.events.Machines() {
		if w.nodeOf(machine) == nil {
			list = append(list, d.status(w, machine, now))
		}
	}
	return list
}

func (d *daemon) status(w *world, machine string, now time.Time) admin.Status {
	n := w.nodeOf(machine)
	boot := timeline.Tell(d.events.Events(machine), now)
	s := admin.Status{Machine: machine, Known: n != nil, Next: d.next(w, n, now), Outcome: boot.Outcome, Stopped: boot.Stopped, Last: boot.Last}
	if n != nil {
		s.Role, s.Deployment = n.Role, d.records.Get(n.Name)
		s.Life = d.life(n.Name, s.Deployment, now)
	}
	for _, e := range boot.Events {
		if e.Action == deploy.Foreign.String() { // another machine
			continue
		}
		if e.Addr.IsValid() {
			s.Addr = e.Addr
		}
		if !e.MAC.IsZero() {
			s.MAC = e.MAC
		}
		if e.Release != "" && e.Step != timeline.Switched && e.Step != timeline.PutBack {
			s.Release = e.Release
		}
	}
	return s
}

// Story implements admin.Backend. A MAC of a node is the node.
func (d *daemon) Story(machine string, now time.Time) (admin.Story, error) {
	w := d.world.Load()
	n := w.nodeOf(machine)
	if n != nil {
		machine = n.Name
	}
	events := d.events.Events(machine)
	if n == nil && events == nil {
		return admin.Story{}, d.unknown(machine)
	}
	rec, life := deploy.Record{}, admin.Life{}
	if n != nil {
		rec = d.records.Get(n.Name)
		life = d.life(n.Name, rec, now)
	}
	return admin.Story{Machine: machine, Known: n != nil, Deployment: rec, Life: life, Next: d.next(w, n, now), Boot: timeline.Tell(events, now), Upgrade: d.rollouts.story(machine)}, nil
}

// unknown says that there is no machine of a name.
func (d *daemon) unknown(name string) error {
	return fmt.Errorf("%q: %w", name, &admin.UnknownError{Near: node.Near(name, d.world.Load().inv.Names())})
}

// PayloadLog implements admin.Backend.
func (d *daemon) PayloadLog(machine string) ([]timeline.Event, error) {
	n := d.world.Load().nodeOf(machine)
	if n != nil {
		machine = n.Name
	}
	events := d.events.Events(machine)
	if n == nil && events == nil {
		return nil, d.unknown(machine)
	}
	return slices.DeleteFunc(events, func(e timeline.Event) bool { return e.Step != timeline.Payload }), nil
}

// Unreadable implements admin.Backend.
func (d *daemon) Unreadable(paths []string) (list []admin.Unreadable) {
	for _, path := range paths {
		if err := payload.Unreadable(path); err != nil {
			list = append(list, admin.Unreadable{Path: path, Why: err.Error()})
		}
	}
	return list
}

// Watch implements admin.Backend.
func (d *daemon) Watch(ctx context.Context) <-chan timeline.Event { return d.events.Watch(ctx) }

// ApplyLinks implements admin.Backend.
func (d *daemon) ApplyLinks(ctx context.Context, p links.Plan) ([]links.Change, error) {
	done, err := d.tree.Apply(ctx, p)
	for _, c := range done {
		d.log.Info("boot directory changed", "node", c.Node, "release", c.New.Release(), "by", p.Why)
	}
	if err != nil {
		d.log.Error("boot directories not changed", "done", len(done), "of", len(p.Changes), "err", err)
	}
	return done, err
}
