package takeover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bootd/bmc"
	"bootd/internal/dnsmasq"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// madeUp is the role of nodes whose names say nothing: they get their address,
// and boot their disk.
const madeUp = "other"

// makeNodes makes a node of each name that dnsmasq has hosts of.
func (p *Plan) makeNodes() {
	for _, h := range p.site.Config.Hosts {
		p.findMAC(&h)
		if p.unusable(&h) {
			if s := p.with(h.Addr); h.Addr.IsValid() && s != nil {
				p.spared[s] = append(p.spared[s], item{text: h.Addr.String(), from: []dnsmasq.Line{h.Line}})
			}
			continue
		}
		if of, ok := bmc.NodeOf(h.Name); ok {
			p.bmcs = append(p.bmcs, bmcOf{of, h})
			continue
		}
		p.addHost(p.nodeName(&h), &h)
	}
}

// findMAC gives a host that is written by client identifier or name alone the
// MAC address that has its address leased, or its name.
func (p *Plan) findMAC(h *dnsmasq.Host) {
	if len(h.MACs) > 0 || h.Ignore || len(h.Tags) > 0 || len(h.Strange) > 0 {
		return
	}
	i := slices.IndexFunc(p.site.Leases, func(l lease.Lease) bool { return h.Addr.IsValid() && l.Addr == h.Addr })
	if i < 0 && h.ID == "" && h.Name != "" {
		i = slices.IndexFunc(p.site.Leases, func(l lease.Lease) bool { return strings.EqualFold(l.Hostname, h.Name) })
	}
	if i >= 0 && !p.site.Leases[i].MAC.IsZero() {
		h.MACs = append(h.MACs, p.site.Leases[i].MAC)
		p.note("a host without a MAC address: it has that of its lease", h.Line)
	}
}

// unusable reports whether a host cannot be a node, and notes what of any host
// is not carried over.
func (p *Plan) unusable(h *dnsmasq.Host) bool {
	if len(h.Strange) > 0 {
		p.note("hardware addresses with wildcards or of other networks than Ethernet, and IPv6 addresses", h.Line)
	}
	if s := p.with(h.Addr); h.Lease != 0 && s != nil && s.lease != leaseText(h.Lease) {
		p.note("a host's own lease time: bootd has one for each subnet", h.Line)
	}
	switch {
	case h.Ignore:
		p.note("a machine that is not answered: bootd has only unknown: ignore, for all that are not in the inventory", h.Line)
	case len(h.Tags) > 0:
		p.note("a host that counts only with a tag", h.Line)
	case len(h.MACs) == 0:
		p.note("a host without a MAC address, by which bootd knows machines", h.Line)
	default:
		if h.ID != "" && h.ID != "*" {
			p.note("client identifiers of hosts that have a MAC address, by which bootd knows them", h.Line)
		}
		return false
	}
	return true
}

// nodeName returns the name of a host as bootd wants it.
func (p *Plan) nodeName(h *dnsmasq.Host) string {
	name, _, _ := strings.Cut(strings.ToLower(h.Name), ".")
	if node.ValidName(name) {
		return name
	}
	made := "host-" + h.MACs[0].Hyphen()
	if h.Addr.IsValid() {
		made = "host-" + label(h.Addr.String())
	}
	if name != "" {
		p.note(fmt.Sprintf("%q is no name of a node (letters, digits, hyphens): called %s", h.Name, made), h.Line)
	} else {
		p.note("a host without a name is called by its address", h.Line)
	}
	return made
}

// addHost adds what a dhcp-host says to the node of that name.
func (p *Plan) addHost(name string, h *dnsmasq.Host) {
	i := slices.IndexFunc(p.nodes, func(m *machine) bool { return m.name == name })
	if i < 0 {
		i = len(p.nodes)
		m := &machine{name: name}
		m.set("name", name, h.Line)
		p.setRole(m)
		p.nodes = append(p.nodes, m)
	}
	m := p.nodes[i]
	for _, mac := range h.MACs {
		m.add("macs", mac.String(), h.Line)
	}
	m.sets = append(m.sets, h.Sets...)
	if h.Addr.IsValid() {
		m.addrs = append(m.addrs, item{text: h.Addr.String(), from: []dnsmasq.Line{h.Line}})
	}
}

// setRole gives a node the role whose names its name is one of.
func (p *Plan) setRole(m *machine) {
	for _, r := range p.site.Roles {
		if node.MatchAny(r.Hosts, m.name) {
			m.set("role", r.Name)
			return
		}
	}
	if p.site.Role != "" {
		m.set("role", p.site.Role)
		return
	}
	if len(p.roles) == 0 {
		r := &entry{}
		r.set("name", madeUp)
		r.set("dir", madeUp)
		r.add("squashfs", madeUp)
		p.roles = append(p.roles, r)
	}
	m.set("role", madeUp)
	m.set("boot", "local")
	p.note(fmt.Sprintf("names that are of no role: they have role %s, and boot their disk", madeUp), m.from()...)
}

// writeAddrs writes the addresses of a node. Its first one is that of the
// network it boots from, which a VLAN seldom is.
func (m *machine) writeAddrs(p *Plan) {
	booting := func(it item) bool {
		s := p.with(netip.MustParseAddr(it.text))
		return s != nil && !strings.Contains(s.iface, ".") && !s.proxy
	}
	first := max(0, slices.IndexFunc(m.addrs, booting))
	for i, it := range m.addrs {
		if i == first {
			m.set("address", it.text, it.from...)
		} else {
			m.add("addresses", it.text, it.from...)
		}
	}
}

// makeBMCs gives nodes their BMCs, by dhcp-host and host-record. One of a node
// that is none is a node itself, so that it keeps its address.
func (p *Plan) makeBMCs() {
	for _, b := range p.bmcs {
		i := slices.IndexFunc(p.nodes, func(m *machine) bool { return m.name == b.node })
		if i < 0 {
			p.addHost(p.nodeName(&b.host), &b.host)
			continue
		}
		m := p.nodes[i]
		if len(b.host.MACs) > 1 || m.get("bmc") != nil && m.value("bmc") != b.host.MACs[0].String() {
			p.note("a BMC has one MAC address: the first", b.host.Line)
		}
		if m.get("bmc") == nil {
			m.set("bmc", b.host.MACs[0].String(), b.host.Line)
		}
		if b.host.Addr.IsValid() && m.get("bmc-address") == nil {
			m.set("bmc-address", b.host.Addr.String(), b.host.Line)
		}
	}
	for _, r := range p.site.Config.Records {
		m := p.nodeOfBMC(r.Names)
		switch {
		case m == nil:
			p.note(noDNS, r.Line)
		case r.Addr.IsValid() && m.get("bmc-address") == nil:
			m.set("bmc-address", r.Addr.String(), r.Line)
		}
	}
}

// nodeOfBMC returns the node whose BMC has one of these names.
func (p *Plan) nodeOfBMC(names []string) *machine {
	for _, name := range names {
		of, ok := bmc.NodeOf(name)
		if i := slices.IndexFunc(p.nodes, func(m *machine) bool { return ok && m.name == of }); i >= 0 {
			return p.nodes[i]
		}
	}
	return nil
}
