package takeover

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bootd/internal/config"
	"bootd/internal/dnsmasq"
)

// placeholder is an interface that nobody has: whoever starts bootd is told.
const placeholder = "CHANGE-ME"

// makeSubnets makes a subnet of the ranges of each network.
func (p *Plan) makeSubnets() {
	ranges := slices.Clone(p.site.Config.Ranges)
	here := slices.ContainsFunc(ranges, func(r dnsmasq.Range) bool { name, _ := p.interfaceWith(r.Start); return name != "" })
	for _, r := range ranges {
		prefix, own, iface := p.place(&r)
		if !p.served(iface, r.Line) {
			continue
		}
		s := p.with(r.Start)
		if s == nil || s.prefix != prefix {
			s = &subnet{prefix: prefix, own: own, told: map[byte]bool{}}
			p.subnets = append(p.subnets, s)
			s.set("interface", placeholder)
			s.set("subnet", prefix.String(), r.Line)
			if here && !own.IsValid() {
				p.note("no interface of this host is in its network: taken for one behind a relay", r.Line)
				s.set("relayed", "true")
			}
		}
		if s.iface == "" && iface != "" {
			s.iface = iface
			s.set("interface", iface)
		}
		p.addRange(s, &r)
	}
	for _, s := range p.subnets {
		if s.iface == "" {
			p.note("no interface is known for subnet "+s.prefix.String()+": write it in the place of "+placeholder, s.from()...)
		}
		if !p.has("dhcp-authoritative") && !s.proxy {
			s.set("mode", "shared")
		}
	}
}

// place finds out of which network a range is, our address in it, and the
// interface. Where dnsmasq would guess the netmask, so does this.
func (p *Plan) place(r *dnsmasq.Range) (prefix netip.Prefix, own netip.Addr, iface string) {
	iface, at := p.interfaceWith(r.Start)
	switch {
	case r.Bits > 0:
		prefix = netip.PrefixFrom(r.Start, r.Bits).Masked()
	case at.IsValid():
		prefix = at.Masked()
	default:
		prefix = p.guess(r)
		p.note(fmt.Sprintf("no netmask: %v is a guess", prefix), r.Line)
	}
	if at.IsValid() {
		own = at.Addr()
	}
	return prefix, own, cmp.Or(iface, p.interfaceOf(r.Set))
}

// guess returns the network of the class of a range's address, as dnsmasq would,
// or a smaller one where that holds another range's.
func (p *Plan) guess(r *dnsmasq.Range) netip.Prefix {
	prefix := netip.PrefixFrom(r.Start, classBits(r.Start)).Masked()
	for n := prefix.Bits(); n <= 24; n++ {
		prefix = netip.PrefixFrom(r.Start, n).Masked()
		if !slices.ContainsFunc(p.site.Config.Ranges, func(x dnsmasq.Range) bool { return x.Set != r.Set && prefix.Contains(x.Start) }) {
			break
		}
	}
	return prefix
}

// classBits returns the netmask of the days of classes (RFC 791, section 3.2).
func classBits(a netip.Addr) int {
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

// interfaceWith returns this host's interface whose network an address is in,
// and our address there.
func (p *Plan) interfaceWith(a netip.Addr) (string, netip.Prefix) {
	for _, name := range slices.Sorted(maps.Keys(p.site.Addrs)) {
		for _, at := range p.site.Addrs[name] {
			if at.Contains(a) {
				return name, at
			}
		}
	}
	return "", netip.Prefix{}
}

// interfaceOf guesses the interface from the tag of a range, as cray-site-init
// and many people name it, or from the only interface= there is.
func (p *Plan) interfaceOf(tag string) string {
	named := p.values("interface")
	if name, ok := strings.CutPrefix(tag, "interface:"); ok {
		return name
	}
	if slices.Contains(named, tag) {
		return tag
	}
	if len(named) == 1 && !strings.HasSuffix(named[0], "*") {
		return named[0]
	}
	return ""
}

// served reports whether dnsmasq answers DHCP on an interface, and notes it
// where it does not. One that is not known is taken for served.
func (p *Plan) served(iface string, l dnsmasq.Line) bool {
	if iface == "" {
		return true
	}
	match := func(key string) bool {
		return slices.ContainsFunc(p.values(key), func(v string) bool {
			stem, wild := strings.CutSuffix(v, "*")
			return v == iface || wild && strings.HasPrefix(iface, stem)
		})
	}
	switch {
	case match("except-interface") || match("no-dhcp-interface"):
		p.note(fmt.Sprintf("interface %s is excepted, so dnsmasq does not serve this", iface), l)
		return false
	case len(p.values("interface")) > 0 && !match("interface"):
		p.note(fmt.Sprintf("interface %s is not among those of interface=, so dnsmasq does not serve this", iface), l)
		return false
	}
	return true
}

// values returns the fields of all lines of a key.
func (p *Plan) values(key string) (list []string) {
	for _, l := range p.site.Config.Rest {
		if l.Key == key {
			list = append(list, l.Fields()...)
		}
	}
	return list
}

func (p *Plan) has(key string) bool {
	return slices.ContainsFunc(p.site.Config.Rest, func(l dnsmasq.Line) bool { return l.Key == key })
}

// addRange adds a range to its subnet.
func (p *Plan) addRange(s *subnet, r *dnsmasq.Range) {
	if r.Set != "" {
		s.sets = append(s.sets, r.Set)
	}
	switch r.Mode {
	case dnsmasq.Proxy:
		s.proxy = true
		s.set("mode", "proxy", r.Line)
		return
	case dnsmasq.Dynamic:
		class, ok := p.poolClass(r)
		if !ok {
			return
		}
		first, last := trimmed(r.Start, r.End, s.prefix)
		text := first.String() + "-" + last.String()
		if class != "" {
			text += " for " + class
		}
		s.add("pools", text, r.Line)
	}
	p.leaseOf(s, r)
}

// trimmed leaves the network and the broadcast address out, which dnsmasq never
// leases.
func trimmed(first, last netip.Addr, p netip.Prefix) (netip.Addr, netip.Addr) {
	if first == p.Addr() {
		first = first.Next()
	}
	if last.Next().IsValid() && !p.Contains(last.Next()) {
		last = last.Prev()
	}
	return first, last
}

// poolClass returns the class that a range is for; empty: everybody.
func (p *Plan) poolClass(r *dnsmasq.Range) (class string, ok bool) {
	switch len(r.Tags) {
	case 0:
		return "", true
	case 1:
	default:
		p.note("a range for several tags at once", r.Line)
		return "", false
	}
	switch tag := r.Tags[0]; tag {
	case "known":
		return config.ClassKnown, true
	case "!known":
		return config.ClassUnknown, true
	default:
		classes := p.class(tag)
		if len(classes) != 1 {
			p.note(fmt.Sprintf("a range for tag %q, which is not one class of machines here", tag), r.Line)
			return "", false
		}
		return classes[0].value("name"), true
	}
}

// leaseOf takes the lease time of a range for its subnet, which has one.
func (p *Plan) leaseOf(s *subnet, r *dnsmasq.Range) {
	d := r.Lease
	if d == 0 {
		d = time.Hour
	}
	text := leaseText(d)
	switch {
	case s.lease == "":
		s.lease = text
		if d < config.MinLease || d > config.MaxLease {
			p.note(fmt.Sprintf("lease time %s, where bootd has %s to %s", word(r.Lease), leaseText(config.MinLease), leaseText(config.MaxLease)), r.Line)
		}
		if text != leaseText(time.Hour) {
			s.set("lease", text, r.Line)
		}
	case s.lease != text:
		p.note(fmt.Sprintf("lease time %s, where the subnet has %s of an earlier range", text, s.lease), r.Line)
	}
}

// leaseText is a lease time in bootd's limits.
func leaseText(d time.Duration) string {
	d = min(max(d, config.MinLease), config.MaxLease)
	text := d.String()
	if d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func word(d time.Duration) string {
	if d == dnsmasq.Infinite {
		return "infinite"
	}
	return d.String()
}

// class returns the classes that a tag stands for, made when they are first
// asked for: a tag that only says what to boot is none here. Each condition of
// a tag is a class, since bootd's conditions must hold together.
func (p *Plan) class(tag string) []*entry {
	if list, ok := p.tagged[tag]; ok {
		return list
	}
	var list []*entry
	for i := range p.site.Config.Matches {
		m := &p.site.Config.Matches[i]
		if m.Tag != tag {
			continue
		}
		e := &entry{}
		e.set("name", p.className(tag), m.Line)
		if !condition(e, m) {
			p.note("a tag for clients that send an option: bootd has classes by vendor class, user class, architecture, relay and MAC", m.Line)
			continue
		}
		p.classes, list = append(p.classes, e), append(list, e)
	}
	p.tagged[tag] = list
	return list
}

// className is a tag as the name of a class that no other has.
func (p *Plan) className(tag string) string {
	name := label(tag)
	if name == "" || name == config.ClassKnown || name == config.ClassBMC || name == config.ClassUnknown {
		name = strings.TrimSuffix("tag-"+name, "-")
	}
	for i := 1; ; i++ {
		try := name
		if i > 1 {
			try = fmt.Sprintf("%.58s-%d", name, i)
		}
		if !slices.ContainsFunc(p.classes, func(e *entry) bool { return e.value("name") == try }) {
			return try
		}
	}
}

// condition writes what a match looks at.
func condition(e *entry, m *dnsmasq.Match) bool {
	switch m.What {
	case dnsmasq.VendorClass:
		e.set("vendor-class", m.Text, m.Line)
	case dnsmasq.UserClass:
		e.set("user-class", m.Text, m.Line)
	case dnsmasq.CircuitID:
		e.set("circuit-id", relayText(m.Text), m.Line)
	case dnsmasq.RemoteID:
		e.set("remote-id", relayText(m.Text), m.Line)
	case dnsmasq.ClientArch:
		e.add("arch", fmt.Sprint(m.Arch), m.Line)
	case dnsmasq.HardwareAddr:
		e.add("mac", strings.ReplaceAll(fmt.Sprintf("% x", m.MAC), " ", ":"), m.Line)
	default:
		return false
	}
	return true
}

// relayText writes what a relay says, as bytes where it is no text.
func relayText(s string) string {
	if clean(s) != s || strings.HasPrefix(s, "0x") {
		return fmt.Sprintf("0x%x", s)
	}
	return s
}

// label makes a name of lower case letters, digits and hyphens of any text;
// empty: there is nothing to make it of.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	return strings.Trim(s[:min(len(s), 60)], "-")
}
