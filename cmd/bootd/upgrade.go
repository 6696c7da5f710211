package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"bootd/artifacts"
	"bootd/deploy"
	"bootd/deploy/rollout"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// boots hears that a node asks for its script and would be told to boot. One
// that has used up its boots of a new release is put back before it is told.
// Whoever else looks at its script is not heard.
func (d *daemon) boots(w *world, n *node.Node, addr netip.Addr, now time.Time) {
	if !d.rollouts.heeds(n.Name) {
		return
	}
	if who, _ := d.identify(addr); who != n.Name {
		return
	}
	if dec := d.next(w, n, now); dec.Action == deploy.Boot {
		d.rollouts.hear(rollout.Sighting{What: rollout.Asked, Node: n.Name, Release: dec.Release})
	}
}

// Upgrades implements admin.Backend.
func (d *daemon) Upgrades() []rollout.Rollout {
	last := d.rollouts.state.Load().last
	list := []rollout.Rollout{}
	for _, role := range slices.Sorted(maps.Keys(last)) {
		list = append(list, last[role])
	}
	return list
}

// Steer implements admin.Backend.
func (d *daemon) Steer(role string, what rollout.What) (rollout.Rollout, error) {
	o := d.rollouts
	if r, err := o.steer(role, what); err != nil {
		return r, err
	}
	err := o.drive(role)
	return o.last(role), err
}

// steer does to a rollout what an administrator wants, or says why it cannot
// be.
func (o *rollouts) steer(role string, what rollout.What) (rollout.Rollout, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.state.Load().last[role]
	switch {
	case !ok:
		return r, fmt.Errorf("role %q: there was no upgrade", role)
	case what == rollout.Resume || what == rollout.Skip:
		if err := r.Resumable(); err != nil {
			return r, err
		}
	case !r.Active():
		return r, fmt.Errorf("the upgrade of role %s to %s is %s", role, r.Release, r.State)
	}
	return o.seeLocked(role, rollout.Sighting{What: what, Time: o.now()})
}

// Upgrade implements admin.Backend.
func (d *daemon) Upgrade(ctx context.Context, req admin.UpgradeRequest) (admin.Upgrade, error) {
	o := d.rollouts
	u, err := d.planUpgrade(ctx, req)
	if err != nil {
		return u, err
	}
	if err := o.begin(u.Rollout, req.DryRun); err != nil || req.DryRun {
		return u, err
	}
	err = o.observe(u.Role, rollout.Sighting{What: rollout.Tick, Time: o.now()})
	u.Rollout = o.last(u.Role)
	return u, err
}

// begin makes r the rollout of its role, unless one is under way, or has not
// pinned the role yet, or this is only to be known.
func (o *rollouts) begin(r rollout.Rollout, dryRun bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.last(r.Role)
	switch {
	case was.Active():
		c := was.Count()
		return fmt.Errorf("role %s: an upgrade to %s is %s, with %d of %d nodes upgraded and %d under way: bootctl upgrade stop %s", was.Role, was.Release, was.State,
			c[rollout.Upgraded], len(was.Nodes), c[rollout.Switching]+c[rollout.Switched]+c[rollout.Returning], was.Role)
	case !was.Over():
		return fmt.Errorf("role %s: the upgrade to %s is done, and its pin is not written yet: the log says why; it is tried again every %v", was.Role, was.Release, linkAgain)
	case dryRun:
		return nil
	}
	o.log.Info("upgrade begins", "role", r.Role, "release", r.Release, "nodes", len(r.Nodes))
	return o.keepLocked(r)
}

// planUpgrade makes the rollout that a request asks for, or says why there can be
// none. Nodes that would not boot a release now are left out, and an error when
// they are named.
func (d *daemon) planUpgrade(ctx context.Context, req admin.UpgradeRequest) (u admin.Upgrade, err error) {
	w, now := d.world.Load(), d.rollouts.now()
	role, ok := w.inv.Role(req.Role)
	switch {
	case !ok:
		return u, fmt.Errorf("there is no role %q; there are: %v", req.Role, slices.Sorted(maps.Keys(w.inv.Roles())))
	case role.Install != nil:
		return u, fmt.Errorf("role %q: its releases are installers: arm its nodes to install another one", role.Name)
	}
	nodes, named, err := w.nodesOf(role.Name, req.Nodes)
	if err != nil {
		return u, err
	}
	pinned, err := d.rollouts.pinnedByPeople(role.Name)
	if err != nil {
		return u, err
	}
	u.Rollout = rollout.Rollout{Role: role.Name, Release: req.Release, Batch: req.Batch, Attempts: req.Attempts, Wait: req.Wait, Deadline: req.Deadline, Started: now}
	for _, n := range nodes {
		switch dec := d.next(w, &n, now); {
		case dec.Action == deploy.Boot:
			u.Nodes = append(u.Nodes, rollout.Node{Name: n.Name, From: dec.Release})
			if pin := pinned(n); pin != req.Release {
				u.Nodes[len(u.Nodes)-1].Pin = pin
			}
			if dec.Release != req.Release && timeline.Tell(d.events.Events(n.Name), now).Outcome == timeline.Unseen {
				u.Unseen = append(u.Unseen, n.Name)
			}
		case named[n.Name]:
			return u, fmt.Errorf("node %q: does not boot a release: %s", n.Name, dec.Reason)
		default:
			u.LeftOut = append(u.LeftOut, admin.LeftOut{Node: n.Name, Reason: dec.Reason})
		}
	}
	if u.Rollout, err = rollout.New(u.Rollout); err != nil {
		return u, err
	}
	return u, d.rollouts.bootable(ctx, u.Rollout)
}

// pinnedByPeople returns a function that returns the release that somebody
// pinned a node of a role to, in the configuration or by a command; empty: it is
// not pinned, or only as the last upgrade left it. One that was done for the
// whole role left no pin of a node.
func (o *rollouts) pinnedByPeople(role string) (func(node.Node) string, error) {
	s, err := o.tree.Settings()
	last := o.last(role)
	left := last.Pins()
	if last.Settled && s.Roles[role] == last.Release {
		left = nil
	}
	return func(n node.Node) string {
		if pin := s.Nodes[n.Name]; pin != "" {
			if pin == left[n.Name] {
				return ""
			}
			return pin
		}
		return n.Release
	}, err
}

// bootable reports why the nodes of a rollout could not boot its release.
func (o *rollouts) bootable(ctx context.Context, r rollout.Rollout) error {
	w := o.world()
	if root := o.tree.Root().Name(); unix.Access(root, unix.W_OK) != nil {
		return fmt.Errorf("root %q: the daemon may not write there, and so link no node: see Following a channel in docs/releases.md", root)
	}
	s, err := o.tree.Settings()
	if err != nil {
		return err
	}
	pins := map[string]string{}
	for _, n := range r.Nodes {
		pins[n.Name] = r.Release
	}
	pinNodes(&s, pins)
	choices, err := w.resolve(s)
	if err != nil {
		return err
	}
	role, _ := w.inv.Role(r.Role)
	read := map[string]bool{}
	for _, c := range choices {
		if pins[c.Node.Name] == "" {
			continue
		}
		if c.Err != nil {
			return c.Err
		}
		if role.Signed && !read[c.Set.Kernel] {
			read[c.Set.Kernel] = true
			if err := artifacts.Verify(ctx, o.tree.Root(), c.Set, nil); err != nil {
				return fmt.Errorf("release %s: %w", r.Release, err)
			}
		}
	}
	return w.kernelsAgree(choices)
}

// nodesOf returns the nodes of a role that patterns stand for, or all, and which
// of them are named and not only matched. One of another role that is named is
// an error.
func (w *world) nodesOf(role, patterns string) (nodes []node.Node, named map[string]bool, err error) {
	var list []node.Pattern
	if patterns != "" {
		if list, err = node.ParsePatterns(patterns); err != nil {
			return nil, nil, err
		}
	}
	named = map[string]bool{}
	for _, p := range list {
		named[p.String()] = true
	}
	picked, err := w.inv.Pick(list)
	for _, n := range picked {
		switch {
		case n.Role == role:
			nodes = append(nodes, n)
		case named[n.Name]:
			return nil, nil, fmt.Errorf("node %q is of role %q, not %q", n.Name, n.Role, role)
		}
	}
	return nodes, named, err
}
