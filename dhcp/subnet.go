package dhcp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// A Range is a run of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// Contains reports whether a is in r.
func (r Range) Contains(a netip.Addr) bool { return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0 }

// A Subnet is one network that the server leases addresses of.
type Subnet struct {
	Interface     string       // where its clients' broadcasts arrive
	Prefix        netip.Prefix // masked
	Server        netip.Addr   // our address in it: server identifier, next server, source of replies
	Pools         []Range      // addresses for machines without a reservation
	Exclude       []Range      // addresses within Pools that are never leased
	Router        netip.Addr   // zero: none
	DNS, NTP      []netip.Addr
	Domain        string
	Lease         time.Duration // for a running system
	BootLease     time.Duration // for firmware and iPXE: short, the system asks again
	Authoritative bool          // we are the network's DHCP server and may say NAK
}

// pooled reports whether a may be leased without a reservation.
func (s *Subnet) pooled(a netip.Addr) bool {
	return within(s.Pools, a) && !within(s.Exclude, a)
}

func within(ranges []Range, a netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// leaseTime is how long the client may keep its address: short while it boots
// (the system that follows asks again), and what it asked for if that is less.
func (s *Subnet) leaseTime(r *request) time.Duration {
	d := s.Lease
	if r.Client.boots() {
		d = s.BootLease
	}
	if asked := r.opts.get(optLeaseTime); len(asked) == 4 {
		d = min(d, max(time.Duration(binary.BigEndian.Uint32(asked))*time.Second, minLease))
	}
	return d
}

// minLease is the shortest lease a client can ask for.
const minLease = 5 * time.Minute

// Boot is what a client should load. The zero Boot means nothing.
type Boot struct {
	File    string // name for TFTP, or URL for iPXE and UEFI HTTP boot
	Problem string // why there is nothing to load, for people; empty with a File
}

// Machines is what the server must know of the machines it serves. Its methods
// are called for every packet by several goroutines at once, so they must be
// quick and safe for that.
type Machines interface {
	// Name returns the node a client is, or "" when it is not in the inventory.
	Name(Client) string
	// Reserved returns the address reserved for a client's node; the zero Addr
	// when there is none.
	Reserved(Client) netip.Addr
	// Reservations returns every reserved address: these are never leased to
	// anybody else.
	Reservations() []netip.Addr
	// Boot returns what a client should load from server. It is asked only for
	// clients that boot.
	Boot(c Client, server netip.Addr) Boot
}
