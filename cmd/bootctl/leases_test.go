package main

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"bootd/internal/admin"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// A book is the leases that a daemon in this process has. Its rules are few:
// addresses are of 10.1.0.0/16, and the first come is served.
type book struct{ list []lease.Lease }

// Leases implements admin.DHCP.
func (b *book) Leases(lease.Filter) iter.Seq[lease.Lease] { return slices.Values(b.list) }

// EndLease implements admin.DHCP.
func (b *book) EndLease(l lease.Lease) (bool, error) {
	for i := range b.list {
		if old := &b.list[i]; old.Addr == l.Addr && old.State.InForce() {
			old.State = lease.Released
			return true, nil
		}
	}
	return false, nil
}

// AddLease implements admin.DHCP.
func (b *book) AddLease(l lease.Lease) (lease.Lease, bool, error) {
	if l.Expires.IsZero() {
		l.Expires = time.Now().Add(time.Hour)
	}
	m := b.merge(l)
	return l, m.Change != admin.Kept, m.Err
}

func (b *book) merge(l lease.Lease) admin.Merged {
	if !netip.MustParsePrefix("10.1.0.0/16").Contains(l.Addr) {
		return admin.Merged{Err: errors.New("in no subnet of the configuration")}
	}
	for i := range b.list {
		switch old := &b.list[i]; {
		case old.Addr != l.Addr:
		case old.MAC != l.MAC:
			return admin.Merged{Err: fmt.Errorf("leased to %v", old.MAC)}
		case old.Expires.Before(l.Expires):
			old.Expires = l.Expires
			return admin.Merged{Change: admin.Updated}
		default:
			return admin.Merged{}
		}
	}
	b.list = append(b.list, l)
	return admin.Merged{Change: admin.Added}
}

// ImportLeases implements admin.DHCP.
func (b *book) ImportLeases(dry bool) admin.Importer {
	if dry {
		return &book{slices.Clone(b.list)}
	}
	return b
}

// Add implements admin.Importer.
func (b *book) Add(batch []lease.Line) (merged []admin.Merged, err error) {
	for _, l := range batch {
		if l.Hostname == "disk-full" {
			return nil, errors.New("no space left on device")
		}
		merged = append(merged, b.merge(l.Lease))
	}
	return merged, nil
}

// someLeases is a lease of each kind.
func someLeases() book {
	now := time.Now().UTC().Truncate(time.Second)
	l := func(last byte, s lease.State, name string, end time.Duration) lease.Lease {
		return lease.Lease{Addr: netip.AddrFrom4([4]byte{10, 1, 1, last}), State: s, MAC: node.MAC{0x52, 0x54, 0, 0, 0, last},
			Node: name, Name: name, Start: now.Add(-24 * time.Hour), Expires: now.Add(end)}
	}
	node, bmc, guest := l(101, lease.Bound, "ncn-m001", 59*time.Minute+30*time.Second), l(102, lease.Bound, "ncn-m001-mgmt", 30*time.Hour), l(103, lease.Bound, "", 90*time.Second)
	node.ClientID, bmc.ClientID = "01:52:54:00:00:00:65", "ff:00:11:22:33:44:55:66:77"
	guest.Hostname, guest.Name = "guest.x?[31m", ""
	ever, ib := l(104, lease.Bound, "", 0), l(105, lease.Bound, "", 3*24*time.Hour+time.Minute)
	ever.Expires, ib.MAC, ib.ClientID = lease.Never, [6]byte{}, "ff:01"
	expired, released, declined := l(106, lease.Expired, "ncn-m002", -time.Hour), l(107, lease.Released, "", -50*time.Hour), l(108, lease.Declined, "", 30*time.Minute+30*time.Second)
	declined.MAC = [6]byte{}
	return book{[]lease.Lease{node, bmc, guest, ever, ib, expired, released, declined}}
}
