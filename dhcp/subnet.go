package dhcp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"bootd/internal/node"
)

// A Range is a run of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// Contains reports whether a is in r.
func (r Range) Contains(a netip.Addr) bool { return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0 }

// A Pool is addresses for machines without a reservation.
type Pool struct {
	Range
	Class string // only for clients of this class; empty: for all
}

// What is done for clients that are not in the inventory.
type Unknown uint8

// The policies.
const (
	LeaseUnknown      Unknown = iota // they get an address of any pool
	QuarantineUnknown                // they get one of the pools of class "unknown" only
	IgnoreUnknown                    // they get no answer
)

// A Subnet is one network that the server leases addresses of.
type Subnet struct {
	Interface       string       // where its clients' broadcasts, or its relays' packets, arrive
	Relayed         bool         // its clients are behind a relay: broadcasts on Interface are not of it
	Prefix          netip.Prefix // masked
	Server          netip.Addr   // our address: server identifier, next server, source of replies
	Pools           []Pool       // those of a class come first for its clients
	Exclude         []Range      // addresses within Pools that are never leased
	Router          netip.Addr   // zero: none
	DNS, NTP        []netip.Addr
	Domain          string
	Options         []Option      // further ones
	Lease           time.Duration // for a running system that asks for no time
	MinLease        time.Duration // shortest that it can ask for; zero: 5 minutes
	MaxLease        time.Duration // longest; zero: Lease
	BootLease       time.Duration // for firmware and iPXE: short, the system asks again
	Renew, Rebind   time.Duration // T1 and T2 to tell; zero: only to those who ask, half and seven eighths
	Authoritative   bool          // we are the network's DHCP server and may say NAK
	Proxy           bool          // another server leases the addresses: only say what to boot
	Unknown         Unknown
	ByClientID      bool          // a client is known by option 61 where it sends one, not by its MAC
	RapidCommit     bool          // option 80 gets an ACK at once (RFC 4039): we are the only server
	SubnetSelection bool          // option 118 is believed (RFC 3011)
	Probe           time.Duration // how long the network is asked who has an address that is new to a client; zero: not at all
	IPv6Only        time.Duration // V6ONLY_WAIT for systems that can do without IPv4 (RFC 8925); zero: never
}

// An Option is one that an administrator set.
type Option struct {
	Code   byte
	Value  []byte
	Always bool // sent to clients that did not ask for it, too
}

// A Class is clients that have something in common.
type Class struct {
	Name    string
	Match   Match
	Options []Option
	Lease   time.Duration // zero: that of the subnet
	Loader  node.Loader   // for Machines.Boot; zero: no choice
}

// The classes that need no definition.
const (
	ClassKnown   = "known"   // nodes of the inventory
	ClassBMC     = "bmc"     // their BMCs
	ClassUnknown = "unknown" // all others
)

// A Match is conditions on a client. Those that are set must all hold.
type Match struct {
	VendorClass string   // option 60 begins with it
	UserClass   string   // option 77 is, or lists, it
	CircuitID   string   // option 82.1 is it
	RemoteID    string   // option 82.2 is it
	Arch        []Arch   // option 93 is one of these
	MAC         [][]byte // the hardware address begins with one of these
	UUID        [][]byte // the UUID of option 97, in text order, begins with one of these
}

// holds reports whether r meets every condition.
func (m *Match) holds(r *request) bool {
	return bytes.HasPrefix(r.opts.get(optClass), []byte(m.VendorClass)) &&
		(m.UserClass == "" || isUserClass(r.opts, m.UserClass)) &&
		(m.CircuitID == "" || string(r.relay.circuit) == m.CircuitID) &&
		(m.RemoteID == "" || string(r.relay.remote) == m.RemoteID) &&
		(m.Arch == nil || slices.Contains(m.Arch, r.Client.Arch)) &&
		begins(r.MAC[:], m.MAC) && begins(r.Client.UUID[:], m.UUID)
}

// begins reports whether b begins with one of prefixes, or there are none.
func begins(b []byte, prefixes [][]byte) bool {
	for _, p := range prefixes {
		if bytes.HasPrefix(b, p) {
			return true
		}
	}
	return prefixes == nil
}

// A classSet is the classes a client is of: one bit each.
type classSet uint64

// The bits of the classes without definition; the others follow.
const (
	bitKnown classSet = 1 << iota
	bitBMC
	bitUnknown
	firstClass = 3
)

// MaxClasses is how many classes can be defined.
const MaxClasses = 64 - firstClass

// classBit returns the bit of a class by name; zero when there is none.
func classBit(classes []Class, name string) classSet {
	switch name {
	case ClassKnown:
		return bitKnown
	case ClassBMC:
		return bitBMC
	case ClassUnknown:
		return bitUnknown
	}
	for i := range classes {
		if classes[i].Name == name {
			return 1 << (firstClass + i)
		}
	}
	return 0
}

// classesOf returns the classes of a client.
func (set *settings) classesOf(r *request, m Machine) (c classSet) {
	switch {
	case m.BMC:
		c = bitBMC
	case m.Name != "":
		c = bitKnown
	default:
		c = bitUnknown
	}
	for i := range set.classes {
		if set.classes[i].Match.holds(r) {
			c |= 1 << (firstClass + i)
		}
	}
	return c
}

// leaseTime is how long the client may keep its address: short while it boots
// (the system that follows asks again), else what it asks for within bounds.
func (x *exchange) leaseTime() time.Duration {
	s, lease := x.subnet, x.subnet.Lease
	for i := range x.set.classes {
		if c := &x.set.classes[i]; x.classes>>(firstClass+i)&1 != 0 && c.Lease > 0 {
			lease = c.Lease
			break // the first, as with options
		}
	}
	shortest, longest := s.MinLease, max(s.MaxLease, lease)
	if shortest == 0 {
		shortest = minLease
	}
	if x.Client.boots() {
		lease, longest = s.BootLease, s.BootLease
	}
	if asked := x.opts.get(optLeaseTime); len(asked) == 4 {
		lease = min(max(time.Duration(binary.BigEndian.Uint32(asked))*time.Second, shortest), longest)
	}
	return lease
}

// loader is what the client's classes want its firmware to load: the first that
// cares counts.
func (x *exchange) loader() node.Loader {
	for i := range x.set.classes {
		if c := &x.set.classes[i]; x.classes>>(firstClass+i)&1 != 0 && c.Loader != node.LoaderAny {
			return c.Loader
		}
	}
	return node.LoaderAny
}

// minLease is the shortest lease a client can ask for, unless the subnet says
// otherwise.
const minLease = 5 * time.Minute

// Boot is what a client should load. The zero Boot means nothing.
type Boot struct {
	File    string // name for TFTP, or URL for iPXE and UEFI HTTP boot
	Problem string // why there is nothing to load, for people; empty with a File
}

// A Machine is what the inventory knows of a client. The zero Machine is a
// stranger.
type Machine struct {
	Name    string       // node name, or that of a BMC; empty: not in the inventory
	BMC     bool         // it is the BMC of a node
	Addr    netip.Addr   // reserved for it; zero: none
	More    []netip.Addr // further ones, of other subnets
	Options []Option     // for it, before those of its classes and subnet
}

// in returns the address that is reserved for the machine in a subnet, or
// another that is.
func (m *Machine) in(s *Subnet) netip.Addr {
	if len(m.More) > 0 && !s.Prefix.Contains(m.Addr) {
		for _, a := range m.More {
			if s.Prefix.Contains(a) {
				return a
			}
		}
	}
	return m.Addr
}

// Machines is what the server must know of the machines it serves. Its methods
// are called for every packet by several goroutines at once, so they must be
// quick and safe for that.
type Machines interface {
	// Find returns what the inventory knows of a client.
	Find(Client) Machine
	// Reservations returns every reserved address: these are never leased to
	// anybody else.
	Reservations() []netip.Addr
	// Boot returns what a client should load from server. It is asked only for
	// clients that boot.
	Boot(c Client, server netip.Addr) Boot
}
