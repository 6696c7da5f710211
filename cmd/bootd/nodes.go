package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bootd/deploy"
	"bootd/dhcp"
	"bootd/internal/admin"
	"bootd/internal/config"
	"bootd/internal/lease"
	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
)

// Nodes implements admin.Inventory.
func (d *daemon) Nodes() []admin.Node {
	cfg := d.config()
	list := make([]admin.Node, 0, len(cfg.Inventory.Nodes()))
	for i, n := range cfg.Inventory.Nodes() {
		list = append(list, adminNode(&n, cfg.Place(i)))
	}
	return list
}

func adminNode(n *node.Node, p config.Place) admin.Node {
	a := admin.Node{
		Name: n.Name, Role: n.Role, MACs: n.MACs, BMC: n.BMC, UUID: n.UUID, Serial: n.Serial, Addr: n.Addr, More: n.More, BMCAddr: n.BMCAddr, Boot: n.Want.String(),
		Release: n.Release, Args: n.Args, Tags: n.Tags, Added: p.File == "" && p.NodesFile != "", From: p.String(), Keys: map[string]string{},
	}
	if n.Loader != 0 {
		a.Loader = n.Loader.String()
	}
	for _, key := range config.NodeKeys() {
		if from := p.Of(key); from != "" {
			a.Keys[key] = from
		}
	}
	return a
}

// texts are the values of a node's keys, as the configuration spells them. Keys
// that commands cannot write are not among them.
func texts(n *node.Node) map[string]string {
	if n == nil {
		return nil
	}
	list := map[string]string{"role": n.Role, "serial": n.Serial, "release": n.Release, "args": n.Args}
	var macs []string
	for _, m := range n.MACs {
		macs = append(macs, m.String())
	}
	list["macs"], list["tags"] = strings.Join(macs, ", "), strings.Join(pairs(n.Tags), ", ")
	if !n.BMC.IsZero() {
		list["bmc"] = n.BMC.String()
	}
	if !n.UUID.IsZero() {
		list["uuid"] = n.UUID.String()
	}
	if n.Addr.IsValid() {
		list["address"] = n.Addr.String()
	}
	if n.BMCAddr.IsValid() {
		list["bmc-address"] = n.BMCAddr.String()
	}
	list["addresses"] = joinAddrs(n.More)
	if n.Want != node.WantRelease {
		list["boot"] = n.Want.String()
	}
	if n.Loader != 0 {
		list["loader"] = n.Loader.String()
	}
	return list
}

func joinAddrs(list []netip.Addr) string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// changes tells how a node differs from what it was; nil: it was not, or is no
// more.
func changes(was, is *node.Node) (list []admin.KeyChange) {
	old, new := texts(was), texts(is)
	for _, key := range config.NodeKeys() {
		if old[key] != new[key] {
			list = append(list, admin.KeyChange{Key: key, Old: old[key], New: new[key]})
		}
	}
	return list
}

// SetNode implements admin.Inventory.
func (d *daemon) SetNode(r admin.NodeRequest, dry bool) (admin.NodeChange, error) {
	return d.edit(r.Name, dry, func(draft *config.Draft, was *node.Node) error {
		_, err := draft.SetNode(r.Name, r.Keys)
		if err != nil || was == nil {
			return err
		}
		is, err := checked(draft)
		if err != nil {
			return err
		}
		if n, _ := is.Inventory.ByName(r.Name); len(changes(was, n)) > 0 {
			return fmt.Errorf("node %q is there already, and not the same: bootctl node replace gives it other hardware", r.Name)
		}
		return errNoChange
	})
}

// errNoChange is returned by an edit that leaves everything as it is.
var errNoChange = errors.New("no change")

// hardware are the keys of a node that belong to the machine and not to what it
// is for.
var hardware = []string{"macs", "bmc", "uuid", "serial"}

// ReplaceNode implements admin.Inventory.
func (d *daemon) ReplaceNode(r admin.NodeRequest, dry bool) (admin.NodeChange, error) {
	return d.edit(r.Name, dry, func(draft *config.Draft, was *node.Node) error {
		if was == nil {
			return d.noNode(r.Name)
		}
		set, had := config.Keys{}, texts(was)
		for key, values := range r.Keys {
			if !slices.Contains(hardware, key) {
				return fmt.Errorf("%q is not a key of a node's hardware: %s are", key, strings.Join(hardware, ", "))
			}
			set[key] = values
		}
		for _, key := range hardware {
			if _, said := set[key]; !said && had[key] != "" {
				set[key] = nil // it was of the old hardware
			}
		}
		_, err := draft.SetNode(r.Name, set)
		return err
	})
}

// RemoveNode implements admin.Inventory.
func (d *daemon) RemoveNode(name string, force, dry bool) (admin.NodeChange, error) {
	return d.edit(name, dry, func(draft *config.Draft, was *node.Node) error {
		if file, line, ok := draft.InFile(name); ok {
			return fmt.Errorf("node %q is written in %s, line %d: remove it there", name, file, line)
		}
		if err := d.busy(name); err != nil && !force {
			return err
		}
		switch ok, err := draft.DropNode(name); {
		case err != nil:
			return err
		case !ok:
			return d.noNode(name)
		}
		return nil
	})
}

// busy says what a node is in the middle of.
func (d *daemon) busy(name string) error {
	boot, phase := timeline.Tell(d.events.Events(name), time.Now()), d.records.Get(name).Phase
	switch {
	case phase == deploy.Armed || phase == deploy.Installing:
		return fmt.Errorf("node %q is %v: bootctl node disarm first, or use --force", name, phase)
	case boot.Outcome == timeline.Underway:
		return fmt.Errorf("node %q is booting (%s): wait, or use --force", name, boot.Stopped)
	}
	return nil
}

func (d *daemon) noNode(name string) error { return d.world.Load().inv.Unknown(name) }

// edit changes one node in the file of nodes, puts that in force, and ends the
// leases of hardware that is no longer the node's. The function do makes the
// change in the draft, or says why not; was is nil when there is no such node.
// On dry nothing happens but in the answer.
func (d *daemon) edit(name string, dry bool, do func(draft *config.Draft, was *node.Node) error) (admin.NodeChange, error) {
	d.change.Lock()
	defer d.change.Unlock()
	draft, sum, err := d.draft()
	if err != nil {
		return admin.NodeChange{}, err
	}
	was, err := edited(draft, name, do)
	switch {
	case err == errNoChange:
		return admin.NodeChange{}, nil
	case err != nil:
		return admin.NodeChange{}, err
	}
	cfg, err := d.acceptable(draft)
	if err != nil {
		return admin.NodeChange{}, err
	}
	is, _ := cfg.Inventory.ByName(name)
	moves := d.moves(was, is)
	change := admin.NodeChange{Node: name, Keys: append(changes(was, is), d.forgotten(name, cfg.Inventory)...), Ended: d.ended(moves)}
	if !dry && len(change.Keys) > 0 {
		if err := draft.Save(); err != nil {
			return admin.NodeChange{}, err
		}
		if err := d.enforceLocked(cfg, sum); err != nil {
			return admin.NodeChange{}, err
		}
		d.log.Info("node changed by an administrator", "node", name)
	}
	if err := d.moveLeases(&change, moves, dry); err != nil {
		return change, fmt.Errorf("node %q is changed, but its leases are not: %w", name, err)
	}
	if len(change.Keys)+len(change.Ended)+len(change.Given) == 0 {
		return admin.NodeChange{}, nil
	}
	return change, nil
}

// edited makes a change of a node in a draft, and returns the node as it was; nil:
// there was none, or the draft was no configuration, which the change may mend.
func edited(draft *config.Draft, name string, do func(draft *config.Draft, was *node.Node) error) (was *node.Node, err error) {
	before, bad := checked(draft)
	if bad == nil {
		was, _ = before.Inventory.ByName(name)
	}
	if err = do(draft, was); err != nil && err != errNoChange {
		err = cmp.Or(bad, err)
	}
	return was, err
}

// forgotten tells of the deployment of a node that is another machine in a new
// inventory; nil: it stays.
func (d *daemon) forgotten(name string, inv *node.Inventory) []admin.KeyChange {
	_, stays := inv.ByName(name)
	phase := d.records.Get(name).Phase
	if phase == deploy.Inventory || stays && phase == deploy.Held || !d.machines.Moved(inv, name) {
		return nil
	}
	k := admin.KeyChange{Key: "deployment", Old: phase.String()}
	if stays {
		k.New = deploy.Inventory.String()
	}
	return []admin.KeyChange{k}
}

// ended returns the leases that moves end, of those that have not ended by
// themselves.
func (d *daemon) ended(moves []move) (list []lease.Lease) {
	w, now := d.world.Load(), d.dhcp.Now()
	for _, m := range moves {
		if m.Active(now) {
			list = append(list, w.lease(m.Lease, now))
		}
	}
	return list
}

// keepMachines makes the nodes of a configuration those that things are kept of,
// and forgets what is kept of those that were another machine, or for another
// purpose. Both who starts and who reloads does that before anybody is answered
// by the new inventory.
func (d *daemon) keepMachines(cfg *config.Config) error {
	if err := d.machines.Keep(cfg.Inventory, d.forget); err != nil {
		return fmt.Errorf("nodes that are other machines than they were: %w", err)
	}
	return nil
}

// forget forgets all that is kept of the machine that a node was. Its timeline
// is history, and stays.
func (d *daemon) forget(name string, stays bool) error {
	was := d.records.Get(name).Phase
	ended, err := d.media.Revoke(name)
	err = errors.Join(err, d.removeImages(ended), d.records.Forget(name, stays), d.agents.Forget(name), d.hostIDs.Apply([]store.Change{{Key: []byte(name)}}), d.forgetReports(name))
	d.pulse.Forget(name)
	d.phoneHome.HangUp(name)
	d.clouds.forget(name)
	d.firmware.forget(name)
	if err == nil {
		d.log.Info("node is another machine than it was: its deployment is forgotten", "node", name, "was", was.String(), "gone", !stays)
	}
	return err
}

// A move is a lease that ends, because it is of hardware that left its node,
// and who gets its address instead.
type move struct {
	dhcp.Lease
	to node.MAC // zero: nobody, until it asks
}

// moves returns what becomes of the leases of a node whose hardware changes:
// the address that is reserved for it must not be held by other hardware; one
// that it has of a pool goes to the NIC that takes the place of the old one.
func (d *daemon) moves(was, is *node.Node) (list []move) {
	if was == nil {
		return nil
	}
	now := d.dhcp.Now()
	for l := range d.dhcp.Leases.Each() {
		i := slices.Index(was.MACs, l.MAC)
		left := is == nil || !slices.Contains(is.MACs, l.MAC)
		switch {
		case l.Addr == was.BMCAddr:
			if is == nil || is.BMC != l.MAC {
				list = append(list, move{l, node.MAC{}})
			}
		case !left:
		case slices.Contains(was.Addrs(), l.Addr):
			list = append(list, move{l, node.MAC{}})
		case l.Active(now) && is != nil && i >= 0 && i < len(is.MACs) && !reservedWith(is, d.config().SubnetWith(l.Addr)):
			list = append(list, move{l, is.MACs[i]})
		}
	}
	return list
}

// reservedWith reports whether a node has an address of its own in a subnet.
func reservedWith(n *node.Node, s *config.Subnet) bool {
	return s != nil && slices.ContainsFunc(n.Addrs(), s.Prefix.Contains)
}

// moveLeases makes the moves, and notes in the change what is given.
func (d *daemon) moveLeases(change *admin.NodeChange, moves []move, dry bool) error {
	for _, m := range moves {
		given := dhcp.Lease{Addr: m.Addr, MAC: m.to}
		if !dry {
			if _, _, err := d.dhcp.Forget(m.Addr); err != nil {
				return err
			}
		}
		if m.to.IsZero() {
			continue
		}
		if !dry {
			if err := d.give(&given); err != nil {
				return err
			}
		}
		change.Given = append(change.Given, lease.Lease{Addr: m.Addr, MAC: m.to, State: lease.Bound, Node: change.Node, Expires: given.Expires})
	}
	return nil
}

// give leases an address to a NIC, and ends what it has in the same subnet.
func (d *daemon) give(l *dhcp.Lease) (err error) {
	for _, a := range d.held(l.MAC, d.config().SubnetWith(l.Addr)) {
		if _, _, err := d.dhcp.Forget(a); err != nil {
			return err
		}
	}
	_, *l, err = d.dhcp.Assign(*l)
	return err
}

// held returns the addresses that a NIC has leased in a subnet; nil: in none.
func (d *daemon) held(mac node.MAC, s *config.Subnet) (list []netip.Addr) {
	for l := range d.dhcp.Leases.Each() {
		if l.MAC == mac && s != nil && s.Prefix.Contains(l.Addr) {
			list = append(list, l.Addr)
		}
	}
	return list
}
