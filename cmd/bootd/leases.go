package main

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"bootd/dhcp"
	"bootd/internal/admin"
	"bootd/internal/lease"
)

// Leases implements admin.Backend.
func (d *daemon) Leases(f lease.Filter) iter.Seq[lease.Lease] {
	w, now := d.world.Load(), d.dhcp.Now()
	return func(yield func(lease.Lease) bool) {
		if f.Addr.IsValid() {
			if l, ok := d.dhcp.Leases.ByAddr(f.Addr); ok {
				yield(w.lease(l, now))
			}
			return
		}
		for l := range d.dhcp.Leases.Each() {
			if !yield(w.lease(l, now)) {
				return
			}
		}
	}
}

// lease is a lease as administrators see it.
func (w *world) lease(l dhcp.Lease, now time.Time) lease.Lease {
	out := lease.Lease{
		Addr: l.Addr, MAC: l.MAC, State: lease.State(l.State.String()), Node: w.name(l.MAC),
		Start: l.Start.UTC(), Expires: l.Expires.UTC(), ClientID: lease.FormatID(l.ClientID), Hostname: lease.Printable(l.Hostname),
	}
	if l.State != dhcp.Released && !l.Active(now) {
		out.State = lease.Expired
	}
	if out.Name = out.Node; out.Name == "" {
		out.Name = w.strangersName(l.Hostname)
	}
	return out
}

// strangersName is the host name of a machine that is not in the inventory. The
// names of those that are, and of their BMCs, are not for others to take.
func (w *world) strangersName(hostname string) string {
	label := lease.Label(hostname)
	name := strings.ToLower(label)
	if _, taken := w.inv.ByName(strings.TrimSuffix(name, "-mgmt")); taken {
		return ""
	}
	return label
}

// dhcpLease makes of an administrator's lease what the server takes.
func dhcpLease(l lease.Lease) (dhcp.Lease, error) {
	l, err := lease.Checked(l)
	if err != nil {
		return dhcp.Lease{}, err
	}
	id, err := lease.ParseID(l.ClientID)
	state := map[lease.State]dhcp.State{
		lease.Bound: dhcp.Bound, lease.Expired: dhcp.Bound, lease.Released: dhcp.Released, lease.Declined: dhcp.Declined,
	}[l.State]
	return dhcp.Lease{Addr: l.Addr, State: state, MAC: l.MAC, Start: l.Start, Expires: l.Expires, ClientID: id, Hostname: l.Hostname}, err
}

// AddLease implements admin.Backend.
func (d *daemon) AddLease(l lease.Lease) (lease.Lease, bool, error) {
	expires := l.Expires
	if expires.IsZero() {
		l.Expires = lease.Never // the server has the time of the subnet
	}
	asked, err := dhcpLease(l)
	if err != nil {
		return lease.Lease{}, false, err
	}
	asked.Expires = expires
	outcome, added, err := d.dhcp.Assign(asked)
	return d.world.Load().lease(added, d.dhcp.Now()), outcome != dhcp.Kept, err
}

// EndLease implements admin.Backend.
func (d *daemon) EndLease(l lease.Lease) (bool, error) {
	_, ok, err := d.dhcp.Free(l.Addr)
	return ok, err
}

// ImportLeases implements admin.Backend.
func (d *daemon) ImportLeases(dry bool) admin.Importer { return importer{d.dhcp.NewImport(dry)} }

type importer struct{ *dhcp.Import }

// Add implements admin.Importer.
func (im importer) Add(batch []lease.Line) ([]admin.Merged, error) {
	results, good := make([]admin.Merged, len(batch)), make([]dhcp.Numbered, 0, len(batch))
	at := make([]int, 0, len(batch)) // of good in results
	for i, line := range batch {
		l, err := dhcpLease(line.Lease)
		if err != nil {
			results[i].Err = err
			continue
		}
		good, at = append(good, dhcp.Numbered{Line: line.Number, Lease: l}), append(at, i)
	}
	merged, err := im.Import.Add(good)
	for i, m := range merged {
		change := map[dhcp.Outcome]admin.Change{dhcp.Kept: admin.Kept, dhcp.Added: admin.Added, dhcp.Updated: admin.Updated}[m.Outcome]
		results[at[i]] = admin.Merged{Change: change, Err: m.Err}
	}
	return results, err
}

// maxRefusals is how many leases that are not taken in at the start are named.
const maxRefusals = 100

// takeLeases takes in the leases that wait in a file since bootctl import, and
// removes it when they are on disk. A crash before that takes them in again,
// which changes nothing.
func (d *daemon) takeLeases(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	t := taking{daemon: d, to: importer{d.dhcp.NewRestore()}, path: path}
	if err = lease.Read(f, lease.JSON, t.line); err == nil {
		err = t.commit()
	}
	if err != nil {
		return fmt.Errorf("leases that were imported: %s: %w", path, err)
	}
	d.log.Info("leases taken in that were imported", "file", path, "taken", t.taken, "refused", t.refused)
	return os.Remove(path)
}

// A taking is the leases of a file on their way in.
type taking struct {
	*daemon
	to             admin.Importer
	path           string
	batch          []lease.Line
	taken, refused int
}

func (t *taking) line(l lease.Line) error {
	if l.Err != nil {
		t.refuse(l, l.Err)
		return nil
	}
	if t.batch = append(t.batch, l); len(t.batch) < 1000 {
		return nil
	}
	return t.commit()
}

func (t *taking) commit() error {
	results, err := t.to.Add(t.batch)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r.Err != nil {
			t.refuse(t.batch[i], r.Err)
		} else {
			t.taken++
		}
	}
	t.batch = t.batch[:0]
	return nil
}

// refuse tells of a lease that is not taken in. They may be many.
func (t *taking) refuse(l lease.Line, why error) {
	if t.refused++; t.refused <= maxRefusals {
		t.log.Warn("imported lease refused", "file", t.path, "line", l.Number, "mac", l.MAC, "ip", l.Addr, "err", why)
	}
}
