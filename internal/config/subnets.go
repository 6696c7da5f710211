package config

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"bootd/internal/node"
)

// subnets checks every subnet and what they have to do with each other. Fields
// that are zero are skipped: they are unknown, or have a fault already.
func (f *faults) subnets(list []Subnet) {
	for i, s := range list {
		at := place{}.item("subnets", i, "")
		f.within(at, s)
		f.free(at, s)
	}
	f.interfaces(list)
	f.disjointPrefixes(list)
	f.disjointPools(list)
}

// within checks that the addresses of a subnet are addresses of machines in it.
func (f *faults) within(at place, s Subnet) {
	if !s.Prefix.IsValid() {
		return
	}
	host := func(at place, a netip.Addr) {
		if a.IsValid() {
			if problem := notHost(a, s.Prefix); problem != "" {
				f.add(at, "%v %s", a, problem)
			}
		}
	}
	if !s.Relayed {
		host(at.key("server"), s.Server)
	}
	host(at.key("router"), s.Router)
	for i, r := range s.Pools {
		f.pool(at.item("pools", i, ""), r.Range, s.Prefix)
	}
	for i, r := range s.Routes {
		host(at.item("routes", i, ""), r.Via)
	}
	for i, r := range s.Exclude {
		if r.First.IsValid() && !(s.Prefix.Contains(r.First) && s.Prefix.Contains(r.Last)) {
			f.add(at.item("exclude", i, ""), "%v is not within subnet %v", r, s.Prefix)
		}
	}
}

// notHost says why a cannot be the address of a machine in p.
func notHost(a netip.Addr, p netip.Prefix) string {
	switch {
	case !p.Contains(a):
		return fmt.Sprintf("is not within subnet %v", p)
	case a == p.Addr():
		return fmt.Sprintf("is the network address of %v", p)
	case a == broadcast(p):
		return fmt.Sprintf("is the broadcast address of %v", p)
	}
	return ""
}

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) | uint32(1<<(32-p.Bits())-1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// pool checks that r has only addresses of machines in p. The network and
// broadcast addresses are refused, not skipped: whoever writes them has another
// prefix in mind.
func (f *faults) pool(at place, r Range, p netip.Prefix) {
	if !r.First.IsValid() {
		return
	}
	hosts := Range{p.Addr().Next(), broadcast(p).Prev()}
	switch {
	case !p.Contains(r.First) || !p.Contains(r.Last):
		f.add(at, "%v is not within subnet %v", r, p)
	case !hosts.overlaps(r): // one address
		f.add(at, "%v %s", r, notHost(r.First, p))
	case !hosts.Contains(r.First):
		f.add(at, "%v holds the network address of %v: begin at %v", r, p, hosts.First)
	case !hosts.Contains(r.Last):
		f.add(at, "%v holds the broadcast address of %v: end at %v", r, p, hosts.Last)
	}
}

// free checks that each pool has an address to lease.
func (f *faults) free(at place, s Subnet) {
	excluded := s.Excluded()
	slices.SortFunc(excluded, func(a, b Range) int { return a.First.Compare(b.First) })
	for i, r := range s.Pools {
		next := r.First
		for _, x := range excluded {
			if x.Contains(next) {
				next = x.Last.Next()
			}
		}
		if r.First.IsValid() && !r.Contains(next) {
			f.add(at.item("pools", i, ""), "%v has no address left: all are excluded, or are server, router, dns or ntp", r.Range)
		}
	}
}

// interfaces checks that the subnets of one interface can be told apart.
func (f *faults) interfaces(list []Subnet) {
	first := map[string]int{}
	unknown := func(i int) bool {
		return !list[i].Prefix.IsValid() && !f.has(place{}.item("subnets", i, "").key("subnet"))
	}
	for i, s := range list {
		if s.Relayed {
			continue // and so has a prefix
		}
		j, again := first[s.Interface]
		if !again {
			first[s.Interface] = i
		} else if s.Interface != "" && (unknown(i) || unknown(j)) {
			f.add(place{}.item("subnets", i, "").key("interface"),
				"%q is that of subnets[%d] too: give both their subnet", s.Interface, j)
		}
	}
}

// disjointPrefixes checks that no two subnets overlap, on whatever interface: a
// reservation belongs to one subnet. Overlapping prefixes are nested, so in
// order each needs only be compared with the last that is not within another.
func (f *faults) disjointPrefixes(list []Subnet) {
	order := sorted(len(list), func(i, j int) int {
		a, b := list[i].Prefix, list[j].Prefix
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	outer := -1
	for _, i := range order {
		switch {
		case !list[i].Prefix.IsValid():
		case outer < 0 || !list[outer].Prefix.Overlaps(list[i].Prefix):
			outer = i
		default:
			i, j := max(i, outer), min(i, outer)
			f.add(place{}.item("subnets", i, "").key("subnet"), "%v overlaps %v of subnets[%d]",
				list[i].Prefix, list[j].Prefix, j)
		}
	}
}

// disjointPools checks that no two pools overlap, of whatever subnets.
func (f *faults) disjointPools(list []Subnet) {
	type pool struct {
		Range
		at place
	}
	var pools []pool
	for i, s := range list {
		for j, r := range s.Pools {
			if r.First.IsValid() {
				pools = append(pools, pool{r.Range, place{}.item("subnets", i, "").item("pools", j, "")})
			}
		}
	}
	order := sorted(len(pools), func(i, j int) int { return pools[i].First.Compare(pools[j].First) })
	far := -1 // the pool before that reaches furthest
	for _, i := range order {
		if far >= 0 && pools[far].overlaps(pools[i].Range) {
			p, q := pools[max(i, far)], pools[min(i, far)]
			f.add(p.at, "%v overlaps %v of %v", p.Range, q.Range, q.at)
		}
		if far < 0 || pools[far].Last.Less(pools[i].Last) {
			far = i
		}
	}
}

// sorted returns the numbers below n in the order of less, equal ones in their
// own.
func sorted(n int, less func(i, j int) int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, less)
	return order
}

// reservations checks that the address of a node is that of a machine in one of
// the subnets, and is not ours. It can only tell once every subnet is known,
// and without subnets no DHCP is served, so that an address is only a note.
func (f *faults) reservations(nodes []node.Node, list []Subnet) {
	if len(list) == 0 || slices.ContainsFunc(list, func(s Subnet) bool { return !s.Prefix.IsValid() }) {
		return
	}
	in := newSubnetIndex(list)
	for i, n := range nodes {
		at := place{}.item("nodes", i, n.Name)
		f.reservable(at.key("address"), n.Addr, in)
		f.reservable(at.key("bmc-address"), n.BMCAddr, in)
		for j, a := range n.More {
			at := at.item("addresses", j, "")
			f.reservable(at, a, in)
			f.alone(at, a, append([]netip.Addr{n.Addr}, n.More[:j]...), in)
		}
	}
}

// alone checks that an address of a node is not in the subnet of one of its
// others.
func (f *faults) alone(at place, a netip.Addr, others []netip.Addr, in subnetIndex) {
	s := in.with(a)
	for _, other := range others {
		if s != nil && s.Prefix.Contains(other) {
			f.add(at, "%v is in subnet %v, as %v is: a node has one address of a subnet", a, s.Prefix, other)
		}
	}
}

// reservable checks that a, if it is one, can be reserved.
func (f *faults) reservable(at place, a netip.Addr, in subnetIndex) {
	if !a.IsValid() {
		return
	}
	if problem := notReservable(a, in.with(a)); problem != "" {
		f.add(at, "%v %s", a, problem)
	}
}

// notReservable says why a cannot be reserved in the subnet that has it; nil:
// none has.
func notReservable(a netip.Addr, s *Subnet) string {
	switch {
	case s == nil:
		return "is not within any subnet"
	case a == s.Server:
		return fmt.Sprintf("is the server of subnet %v", s.Prefix)
	case a == s.Router:
		return fmt.Sprintf("is the router of subnet %v", s.Prefix)
	}
	return notHost(a, s.Prefix)
}

// A subnetIndex finds the subnet of an address, however many there are: a site
// may have a subnet for each rack, and an address for each node. No subnet is
// within another.
type subnetIndex struct {
	by   map[netip.Prefix]*Subnet
	bits []int // the lengths of their prefixes
}

func newSubnetIndex(list []Subnet) subnetIndex {
	in := subnetIndex{by: make(map[netip.Prefix]*Subnet, len(list))}
	for i, s := range list {
		in.by[s.Prefix] = &list[i]
		if !slices.Contains(in.bits, s.Prefix.Bits()) {
			in.bits = append(in.bits, s.Prefix.Bits())
		}
	}
	return in
}

// with returns the subnet that has a; nil: none has.
func (in subnetIndex) with(a netip.Addr) *Subnet {
	for _, bits := range in.bits {
		if p, err := a.Prefix(bits); err == nil && in.by[p] != nil {
			return in.by[p]
		}
	}
	return nil
}
