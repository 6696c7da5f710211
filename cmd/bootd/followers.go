package main

import (
	"context"
	"iter"
	"path/filepath"
	"strconv"
	"time"

	"bootd/dhcp"
	"bootd/internal/hook"
	"bootd/internal/lease"
	"bootd/internal/timeline"
)

// leaseFollowers returns what follows the leases for other programs.
func (d *daemon) leaseFollowers() (list []component) {
	if d.config().Leases.File != "" {
		list = append(list, component{"lease file", d.leaseFile().Run})
	}
	d.dhcp.Leases.Follow(len(d.config().Leases.Hooks) > 0)
	f := &follower{d, hook.Runner{Programs: d.config().Leases.Hooks, Log: d.log}}
	return append(list, component{"lease events", f.run})
}

func (d *daemon) leaseFile() *lease.File {
	return &lease.File{
		Path: d.config().Leases.File, Log: d.log,
		Version: func() uint64 { return d.dhcp.Leases.Version(d.dhcp.Now()) },
		Leases:  func() iter.Seq[lease.Lease] { return d.Leases(lease.Filter{}) },
	}
}

// keepLeaseFile saves what another program wrote where our lease file will be:
// it may have the only leases of this site.
func (d *daemon) keepLeaseFile() error {
	if d.config().Leases.File == "" {
		return nil
	}
	saved, err := d.leaseFile().Keep(filepath.Join(d.config().State, "lease-file"))
	if saved != "" {
		d.log.Info("lease file of another program kept: import it with bootctl leases import", "file", saved)
	}
	return err
}

// A follower tells the timeline, and the programs of the site, what befell
// leases.
type follower struct {
	*daemon
	hooks hook.Runner
}

// followEvery is how long a turn of a lease may wait before others hear of it.
const followEvery = 250 * time.Millisecond

// run fetches turns and runs the programs for one after the other. While they
// run, the server keeps the turns that follow, as many as it has room for.
func (f *follower) run(ctx context.Context) error {
	return every(ctx, followEvery, func() { f.catchUp(ctx) })
}

// catchUp tells of all that befell leases since the last time.
func (f *follower) catchUp(ctx context.Context) {
	turns, lost := f.dhcp.Leases.Turns(f.dhcp.Now())
	for i := range turns {
		f.lapsed(&turns[i], f.dhcp.Now())
	}
	if len(f.hooks.Programs) == 0 {
		return
	}
	for i := 0; i < len(turns) && ctx.Err() == nil; i++ {
		f.hooks.Run(ctx, f.world.Load().call(&turns[i], f.dhcp.Now()))
	}
	if lost > 0 {
		f.log.Warn("hooks are too slow: events of leases dropped", "events", lost)
	}
}

// lapsed records that a node did not renew its lease. All else that befalls
// leases is on the timeline by what caused it.
func (f *follower) lapsed(t *dhcp.Turn, now time.Time) {
	name := f.world.Load().name(t.Lease.MAC)
	if t.What == dhcp.Over && name != "" && t.Lease.State == dhcp.Bound && !t.Lease.Active(now) {
		f.record(timeline.Event{Step: timeline.Lapsed, Node: name, MAC: t.Lease.MAC, Addr: t.Lease.Addr})
	}
}

// call is a turn of a lease in the words of dnsmasq's --dhcp-script
// (dnsmasq(8)).
func (w *world) call(t *dhcp.Turn, now time.Time) hook.Call {
	l := w.lease(t.Lease, now)
	word := map[dhcp.What]string{dhcp.Began: "add", dhcp.Renamed: "old", dhcp.Over: "del"}[t.What]
	mac := "20-" // no address: InfiniBand
	if !l.MAC.IsZero() {
		mac = l.MAC.String()
	}
	c := hook.Call{Args: []string{word, mac, l.Addr.String()}}
	if l.Name != "" {
		c.Args = append(c.Args, l.Name)
	}
	expires, left := l.Expires.Unix(), max(0, int64(l.Expires.Sub(now)/time.Second))
	if l.Expires.Equal(lease.Never) {
		expires, left = 0, 0
	}
	set := func(name, value string) {
		if value != "" {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	set("DNSMASQ_LEASE_EXPIRES", strconv.FormatInt(expires, 10))
	set("DNSMASQ_TIME_REMAINING", strconv.FormatInt(left, 10))
	set("DNSMASQ_CLIENT_ID", l.ClientID)
	set("DNSMASQ_SUPPLIED_HOSTNAME", l.Hostname)
	set("DNSMASQ_DATA_MISSING", "1")
	if s := w.cfg.SubnetWith(l.Addr); s != nil {
		set("DNSMASQ_INTERFACE", s.Interface)
		set("DNSMASQ_DOMAIN", s.Domain)
	}
	set("BOOTD_NODE", l.Node)
	return c
}
