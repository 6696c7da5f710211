package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	o := d.rollouts
	o.mu.Lock()
	defer o.mu.Unlock()
	list := []rollout.Rollout{}
	for _, role := range slices.Sorted(maps.Keys(o.all)) {
		list = append(list, o.all[role])
	}
	return list
}

// Steer implements admin.Backend.
func (d *daemon) Steer(role string, what rollout.What) (rollout.Rollout, error) {
	o := d.rollouts
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.all[role]
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
	err := o.observeLocked(role, rollout.Sighting{What: what, Time: o.now()})
	return o.all[role], err
}

// Upgrade implements admin.Backend.
func (d *daemon) Upgrade(ctx context.Context, req admin.UpgradeRequest) (admin.Upgrade, error) {
	o := d.rollouts
	u, err := o.draft(ctx, req)
	if err != nil {
		return u, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := o.all[req.Role]; r.Active() && r.State != "" {
		c := r.Count()
		return u, fmt.Errorf("role %s: an upgrade to %s is %s, with %d of %d nodes upgraded and %d under way: bootctl upgrade stop %s", r.Role, r.Release, r.State,
			c[rollout.Upgraded], len(r.Nodes), c[rollout.Switching]+c[rollout.Switched]+c[rollout.Returning], r.Role)
	}
	if req.DryRun {
		return u, nil
	}
	o.log.Info("upgrade begins", "role", u.Role, "release", u.Release, "nodes", len(u.Nodes))
	if err := o.keepLocked(u.Role, u.Rollout); err != nil {
		return u, err
	}
	err = o.observeLocked(u.Role, rollout.Sighting{What: rollout.Tick, Time: o.now()})
	u.Rollout = o.all[u.Role]
	return u, err
}

// draft makes the rollout that a request asks for, or says why there can be
// none.
func (o *rollouts) draft(ctx context.Context, req admin.UpgradeRequest) (u admin.Upgrade, err error) {
	w := o.world()
	role, ok := w.inv.Role(req.Role)
	if !ok {
		return u, fmt.Errorf("there is no role %q; there are: %v", req.Role, slices.Sorted(maps.Keys(w.inv.Roles())))
	}
	if role.Install != nil {
		return u, fmt.Errorf("role %q: its releases are installers: arm its nodes to install another one", role.Name)
	}
	nodes, err := w.nodesOf(role.Name, req.Nodes)
	if err != nil {
		return u, err
	}
	u.Rollout = rollout.Rollout{Role: role.Name, Release: req.Release, Batch: req.Batch, Attempts: req.Attempts, Wait: req.Wait, Deadline: req.Deadline, Started: o.now()}
	for _, n := range nodes {
		current, err := o.tree.Current(n.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			u.LeftOut = append(u.LeftOut, admin.LeftOut{Node: n.Name, Reason: "it has no boot directory yet"})
		case err != nil:
			u.LeftOut = append(u.LeftOut, admin.LeftOut{Node: n.Name, Reason: err.Error()})
		case n.Want != node.WantRelease:
			u.LeftOut = append(u.LeftOut, admin.LeftOut{Node: n.Name, Reason: fmt.Sprintf("it is set to %v, not to boot its release", n.Want)})
		default:
			u.Nodes = append(u.Nodes, rollout.Node{Name: n.Name, From: current.Release})
		}
	}
	if req.Nodes != "" && u.LeftOut != nil {
		return u, fmt.Errorf("node %s: %s", u.LeftOut[0].Node, u.LeftOut[0].Reason)
	}
	if u.Rollout, err = rollout.New(u.Rollout); err != nil {
		return u, err
	}
	return u, o.bootable(ctx, u.Rollout)
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

// nodesOf returns the nodes of a role that patterns stand for, or all. A node
// of another role that is named, and not only matched, is an error.
func (w *world) nodesOf(role, patterns string) ([]node.Node, error) {
	var list []node.Pattern
	if patterns != "" {
		var err error
		if list, err = node.ParsePatterns(patterns); err != nil {
			return nil, err
		}
	}
	picked, err := w.inv.Pick(list)
	if err != nil {
		return nil, err
	}
	var nodes []node.Node
	for _, n := range picked {
		switch {
		case n.Role == role:
			nodes = append(nodes, n)
		case slices.ContainsFunc(list, func(p node.Pattern) bool { return p.String() == n.Name }):
			return nil, fmt.Errorf("node %q is of role %q, not %q", n.Name, n.Role, role)
		}
	}
	return nodes, nil
}
