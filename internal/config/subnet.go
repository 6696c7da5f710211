package config

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Mode is what bootd is to the machines of a subnet.
type Mode uint8

// The modes.
const (
	Authoritative Mode = iota // its only DHCP server, which refuses (NAK) addresses that are wrong
	Shared                    // one of its DHCP servers: silent about what it does not know
	Proxy                     // not a DHCP server: says what to boot beside the server that is
)

var modes = [...]string{Authoritative: "authoritative", Shared: "shared", Proxy: "proxy"}

// String returns the word used in the configuration.
func (m Mode) String() string { return modes[m] }

// A Subnet is one network whose machines bootd serves.
type Subnet struct {
	Interface     string        // where its machines are, or their relays' packets arrive
	Relayed       bool          // its machines are behind a relay, not on Interface
	Prefix        netip.Prefix  // /8 to /30, masked; zero before Resolve: that of the interface
	Server        netip.Addr    // our address; zero before Resolve: that of the interface
	Pools         []Pool        // disjoint; none: reservations only
	Exclude       []Range       // addresses of the pools not to lease, as written; see Excluded
	Router        netip.Addr    // zero: none
	DNS           []netip.Addr  // empty: none
	NTP           []netip.Addr  // empty: none
	Domain        string        // lower case; empty: none
	MTU           uint16        // zero: not told
	Search        []string      // DNS domains, as written; empty: none
	Routes        []Route       // without that of Router; empty: none
	Options       []DHCPOption  // as written; see Told
	Lease         time.Duration // for an operating system that asks for no time
	MinLease      time.Duration // shortest that it can ask for
	MaxLease      time.Duration // longest
	BootLease     time.Duration // for firmware and iPXE
	Probe         time.Duration // how long the network is asked who has a new address; zero: not at all
	Renew, Rebind time.Duration // zero: half and seven eighths of the lease
	Mode          Mode
	Unknown       Unknown       // what machines get that are not in the inventory
	ByClientID    bool          // machines are told apart by what they call themselves, not by MAC
	RapidCommit   bool          // two packets are enough for those who ask (RFC 4039)
	Selection     bool          // machines may name the subnet they want (RFC 3011)
	IPv6Only      time.Duration // that machines which can do without IPv4 leave it alone (RFC 8925); zero: never
}

// A Pool is addresses for machines without a reservation.
type Pool struct {
	Range
	Class string // only for machines of this class; empty: for all
}

// An Unknown is what is done for machines that are not in the inventory.
type Unknown uint8

// The policies.
const (
	LeaseUnknown      Unknown = iota // they get any address
	QuarantineUnknown                // they get one of the pools for unknown
	IgnoreUnknown                    // they get no answer
)

var unknowns = [...]string{LeaseUnknown: "lease", QuarantineUnknown: "quarantine", IgnoreUnknown: "ignore"}

// String returns the word used in the configuration.
func (u Unknown) String() string { return unknowns[u] }

// Told returns the options besides router, dns, ntp and domain: Options, MTU,
// Search and Routes. A machine that takes routes ignores the router (RFC 3442),
// so that Router is among the routes.
func (s Subnet) Told() []DHCPOption {
	out := slices.Clip(s.Options)
	if s.MTU > 0 {
		out = append(out, DHCPOption{Code: codeMTU, Value: binary.BigEndian.AppendUint16(nil, s.MTU)})
	}
	if v, err := encodeNames(s.Search); err == nil {
		out = append(out, DHCPOption{Code: codeSearch, Value: v})
	}
	if len(s.Routes) > 0 {
		out = append(out, DHCPOption{Code: codeRoutes, Value: encodeRoutes(s.allRoutes())})
	}
	return out
}

// allRoutes is Routes with that of Router.
func (s Subnet) allRoutes() []Route {
	if !s.Router.IsValid() {
		return s.Routes
	}
	return append(slices.Clip(s.Routes), Route{everywhere, s.Router})
}

// everywhere is the destination of a default route.
var everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// told is Told with the fields, to be measured.
func (s Subnet) told() []DHCPOption {
	out := s.Told()
	add := func(code byte, n int) {
		if n > 0 {
			out = append(out, DHCPOption{Code: code, Value: make([]byte, n)})
		}
	}
	if s.Router.IsValid() {
		add(codeRouter, 4)
	}
	add(codeDNS, 4*len(s.DNS))
	add(codeNTP, 4*len(s.NTP))
	add(codeDomain, len(s.Domain))
	return out
}

// Excluded returns the addresses of the pools that no machine gets: Exclude,
// and every machine that the subnet itself names (server, router, dns, ntp).
// Addresses that the inventory reserves are not among them: their nodes get
// them, whether in a pool or not.
func (s Subnet) Excluded() []Range {
	out := slices.Clone(s.Exclude)
	for _, a := range slices.Concat([]netip.Addr{s.Server, s.Router}, s.DNS, s.NTP) {
		if a.IsValid() {
			out = append(out, Range{a, a})
		}
	}
	return out
}

// A Range is the IPv4 addresses from First to Last, both included. The zero
// Range is empty.
type Range struct{ First, Last netip.Addr }

// Contains reports whether a is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return r.First.IsValid() && a.Is4() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// Size returns the number of addresses.
func (r Range) Size() int {
	if !r.First.IsValid() {
		return 0
	}
	return number(r.Last) - number(r.First) + 1
}

// String returns the notation of the configuration.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

func (r Range) overlaps(o Range) bool { return r.Contains(o.First) || o.Contains(r.First) }

// number returns an IPv4 address as a number that can be counted with.
func number(a netip.Addr) int {
	b := a.As4()
	return int(binary.BigEndian.Uint32(b[:]))
}

// parseRange reads A-B, or A alone.
func parseRange(s string) (Range, error) {
	if s == "" {
		return Range{}, errMissing
	}
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		to = from
	}
	first, err := netip.ParseAddr(strings.TrimSpace(from))
	last, err2 := netip.ParseAddr(strings.TrimSpace(to))
	switch {
	case err != nil || err2 != nil || !first.Is4() || !last.Is4():
		return Range{}, fmt.Errorf("%q is not a range of IPv4 addresses such as 10.1.1.100-10.1.1.200", s)
	case last.Less(first):
		return Range{}, fmt.Errorf("%q is reversed: write %v", s, Range{last, first})
	}
	return Range{first, last}, nil
}

// subnet builds one subnet. What it has to do with others is for subnets.
func (b *builder) subnet(at place, r rawSubnet) Subnet {
	s := Subnet{
		Interface:   b.iface(at.key("interface"), r.Interface),
		Prefix:      b.prefix(at.key("subnet"), r.Subnet),
		Server:      b.addr(at.key("server"), r.Server),
		Relayed:     b.boolean(at.key("relayed"), r.Relayed, false),
		Pools:       b.pools(at, r.Pools),
		Exclude:     b.ranges(at, "exclude", r.Exclude),
		Router:      b.addr(at.key("router"), r.Router),
		DNS:         b.addrs(at, "dns", r.DNS),
		NTP:         b.addrs(at, "ntp", r.NTP),
		Domain:      b.domain(at.key("domain"), r.Domain),
		Lease:       b.duration(at.key("lease"), r.Lease, time.Hour, MinLease, MaxLease),
		BootLease:   b.duration(at.key("boot-lease"), r.BootLease, 20*time.Minute, MinBootLease, MaxBootLease),
		Probe:       b.probe(at.key("probe"), r.Probe),
		Mode:        Mode(b.word(at.key("mode"), r.Mode, modes[:]...)),
		MTU:         b.mtu(at.key("mtu"), r.MTU),
		Search:      b.search(at, r.Search),
		Routes:      b.routes(at, r.Routes),
		Options:     b.options(at, r.Options, ofSubnet),
		MinLease:    b.duration(at.key("min-lease"), r.MinLease, 0, MinLease, MaxLease),
		MaxLease:    b.duration(at.key("max-lease"), r.MaxLease, 0, MinLease, MaxLease),
		Renew:       b.duration(at.key("renew"), r.Renew, 0, minRenew, MaxLease),
		Rebind:      b.duration(at.key("rebind"), r.Rebind, 0, minRenew, MaxLease),
		Unknown:     Unknown(b.word(at.key("unknown"), r.Unknown, unknowns[:]...)),
		ByClientID:  b.word(at.key("identity"), r.Identity, "mac", "client-id") == 1,
		RapidCommit: b.boolean(at.key("rapid-commit"), r.RapidCommit, false),
		Selection:   b.boolean(at.key("subnet-selection"), r.Selection, false),
		IPv6Only:    b.duration(at.key("ipv6-only"), r.IPv6Only, 0, minIPv6Only, MaxLease),
	}
	b.leases(at, &s)
	b.together(at, s)
	if s.Mode == Proxy {
		b.proxy(at, r)
	}
	return s
}

// proxy refuses what only a subnet that we lease addresses of can have.
func (b *builder) proxy(at place, r rawSubnet) {
	words := map[string]string{
		"router": r.Router, "domain": r.Domain, "mtu": r.MTU,
		"lease": r.Lease, "min-lease": r.MinLease, "max-lease": r.MaxLease, "boot-lease": r.BootLease,
		"renew": r.Renew, "rebind": r.Rebind, "probe": r.Probe, "identity": r.Identity,
		"rapid-commit": r.RapidCommit, "ipv6-only": r.IPv6Only,
	}
	for key, list := range map[string][]string{
		"pools": r.Pools, "exclude": r.Exclude, "dns": r.DNS, "ntp": r.NTP, "search": r.Search, "routes": r.Routes, "options": r.Options,
	} {
		words[key] = strings.Join(list, " ")
	}
	for _, key := range slices.Sorted(maps.Keys(words)) {
		if words[key] != "" {
			b.add(at.key(key), "not in mode proxy: another server leases the addresses of this subnet")
		}
	}
}

// Limits of a subnet's times.
const (
	minRenew    = 30 * time.Second // a network that machines boot from has better things to do
	minIPv6Only = 5 * time.Minute  // RFC 8925, section 3.4: MIN_V6ONLY_WAIT
)

// leases completes the bounds of the lease and checks that the times are in
// order.
func (b *builder) leases(at place, s *Subnet) {
	for _, key := range []string{"lease", "renew", "rebind"} {
		if b.has(at.key(key)) {
			return
		}
	}
	// order holds that one time is shorter than another, or as long.
	order := func(key string, d time.Duration, ok bool, what string, than time.Duration) {
		if d > 0 && !ok {
			b.add(at.key(key), "%s is not %s", short(d), fmt.Sprintf(what, short(than)))
		}
	}
	order("min-lease", s.MinLease, s.MinLease <= s.Lease, "at most lease, which is %s", s.Lease)
	order("max-lease", s.MaxLease, s.MaxLease >= s.Lease, "at least lease, which is %s", s.Lease)
	switch {
	case s.Renew == 0 && s.Rebind > 0:
		b.add(at.key("rebind"), "goes with renew, which is missing")
	case s.Rebind == 0 && s.Renew > 0:
		b.add(at.key("renew"), "goes with rebind, which is missing")
	}
	order("renew", s.Renew, s.Renew < s.Rebind, "shorter than rebind, which is %s", s.Rebind)
	order("rebind", s.Rebind, s.Rebind < s.Lease, "shorter than lease, which is %s", s.Lease)
	s.MinLease, s.MaxLease = cmp.Or(s.MinLease, MinLease), cmp.Or(s.MaxLease, s.Lease)
}

// together checks keys of a subnet that exclude or need one another.
func (b *builder) together(at place, s Subnet) {
	if s.Relayed && !s.Prefix.IsValid() {
		b.add(at.key("subnet"), "missing: a relayed subnet is not that of its interface")
	}
	if s.RapidCommit && s.Mode == Shared {
		b.add(at.key("rapid-commit"), "not in mode shared: another server's offer would come too late")
	}
	if s.Router.IsValid() && slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Dest == everywhere }) {
		b.add(at.key("routes"), "%v is there, and router too: write one of them", everywhere)
	}
	if n := len(encodeRoutes(s.allRoutes())); len(s.Routes) > 0 && n > 255 {
		b.add(at.key("routes"), "%d bytes, and an option has at most 255", n)
	}
}

// mtu reads a size that every host takes (RFC 791) to the largest of IPv4.
func (b *builder) mtu(at place, s string) uint16 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < 576 {
		b.add(at, "%q is not an MTU from 576 to 65535", s)
	}
	return uint16(n)
}

// search reads DNS domains, which together must fit one option of 255 bytes.
func (b *builder) search(at place, list []string) []string {
	for i, s := range list {
		if b.domain(at.item("search", i, ""), s); s == "" {
			b.add(at.item("search", i, ""), "missing")
		}
	}
	if v, err := encodeNames(list); err == nil && len(v) > 255 {
		b.add(at.key("search"), "%d bytes, and an option has at most 255", len(v))
	}
	return list
}

// routes reads classless static routes (RFC 3442), one for a destination.
func (b *builder) routes(at place, list []string) (out []Route) {
	seen := map[netip.Prefix]bool{}
	for i, s := range list {
		r, err := parseRoute(s)
		switch {
		case s == "":
			err = errMissing
		case err == nil && seen[r.Dest]:
			err = fmt.Errorf("%v is in the list twice", r.Dest)
		}
		if err != nil {
			b.add(at.item("routes", i, ""), "%v", err)
		}
		seen[r.Dest] = true
		out = append(out, r)
	}
	return out
}

// pools reads ranges, each for all machines or for those of a class.
func (b *builder) pools(at place, list []string) (out []Pool) {
	for i, s := range list {
		text, class, of := strings.Cut(s, " for ")
		p := Pool{Class: strings.TrimSpace(class)}
		var err error
		if p.Range, err = parseRange(text); err == nil && of && p.Class == "" {
			err = fmt.Errorf("%q: which class is it for?", s)
		}
		if err != nil {
			b.add(at.item("pools", i, ""), "%v", err)
		}
		out = append(out, p)
	}
	return out
}

// probe reads how long to ask for; firmware asks again after 4 s, so an offer
// must not wait long.
func (b *builder) probe(at place, s string) time.Duration {
	const def, most = 200 * time.Millisecond, time.Second
	switch s {
	case "":
		return def
	case "off":
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > most {
		b.add(at, "%q is not off, or a time up to %s such as 200ms", s, short(most))
	}
	return d
}

// prefix reads a network; "" is none.
func (b *builder) prefix(at place, s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		b.add(at, "%q is not an IPv4 network such as 10.1.0.0/16", s)
		return netip.Prefix{}
	}
	if err := checkPrefix(p); err != nil {
		b.add(at, "%q %v", s, err)
	}
	return p.Masked()
}

// checkPrefix says why p cannot be a subnet.
func checkPrefix(p netip.Prefix) error {
	first := p.Addr().As4()[0]
	switch {
	case p.Bits() < 8 || p.Bits() > 30:
		return errors.New("has no length from /8 to /30")
	case first == 0 || first >= 224:
		return errors.New("is not a network of machines")
	case p != p.Masked():
		return fmt.Errorf("has bits set after the prefix: write %v", p.Masked())
	}
	return nil
}

// ranges reads ranges of addresses.
func (b *builder) ranges(at place, name string, list []string) (out []Range) {
	for i, s := range list {
		r, err := parseRange(s)
		if err != nil {
			b.add(at.item(name, i, ""), "%v", err)
		}
		out = append(out, r)
	}
	return out
}
