// Package takeover makes a configuration of bootd out of what dnsmasq's
// configuration says of a site.
//
// A Plan is the configuration, in which each value has the line of dnsmasq's
// that it comes from, and notes on all that could not be carried over. What
// bootd's rules refuse is such a note too, in the words of the rule: the text of
// a plan that is settled passes bootd config check, always.
//
// Nothing here reads or writes a file.
package takeover

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bootd/internal/config"
	"bootd/internal/dnsmasq"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// A Site is what is taken over.
type Site struct {
	Config *dnsmasq.Config
	Lines  []dnsmasq.Line // all of them, for the heading

	// Addrs are the addresses of this host's interfaces with their prefix
	// lengths, by which dnsmasq tells where a range is.
	Addrs map[string][]netip.Prefix

	// Leases are dnsmasq's: they tell the MAC addresses of hosts that are written
	// without. May be empty.
	Leases []lease.Lease

	Roles []node.Role // whose Hosts say which nodes are theirs
	Role  string      // of nodes that are nobody's; empty: one that is made up
	State string      // state directory; empty: the default
	Root  string      // web root; empty: the default
}

// A Note is something that could not be carried over.
type Note struct {
	Why   string
	Lines []dnsmasq.Line // it is of; none: of the site as a whole
}

// A Plan is a configuration that is being made.
type Plan struct {
	site    Site
	top     entry
	subnets []*subnet
	classes []*entry
	roles   []*entry
	nodes   []*machine
	Notes   []Note
	Result  *config.Config // what the text is, to bootd

	tagged map[string][]*entry // classes by the tag that they stand for
	bmcs   []bmcOf
	spared map[*subnet][]item // addresses of hosts that are not carried over
}

// subnet is a network that dnsmasq has ranges of.
type subnet struct {
	entry
	prefix netip.Prefix
	iface  string
	own    netip.Addr // this host's address in it; zero: not known
	sets   []string   // tags that its clients get
	proxy  bool
	lease  string // as written
	told   map[byte]bool
}

// machine is a node.
type machine struct {
	entry
	name  string
	sets  []string // tags that it gets
	addrs []item
}

// bmcOf is the BMC of a node.
type bmcOf struct {
	node string
	host dnsmasq.Host
}

// Make makes the plan of a site, and settles it with bootd's rules.
func Make(site Site, rules ...config.Option) (*Plan, error) {
	p := &Plan{site: site, tagged: map[string][]*entry{}, spared: map[*subnet][]item{}}
	for _, f := range site.Config.Faults {
		p.note(whyNot(f), f.Line)
	}
	for _, step := range []func(){p.makeSubnets, p.makeNodes, p.makeBMCs, p.makeOptions, p.makeDefaults, p.makeIgnores, p.makeRest, p.finish} {
		step()
	}
	return p, p.settle(rules)
}

// whyNot says why a line that was not read is not carried over.
func whyNot(f *dnsmasq.Fault) string {
	switch {
	case f.Refused:
		return "dnsmasq would refuse it: " + f.Problem
	case f.Problem == "IPv6" || f.Problem == "DHCPv6":
		return noV6
	}
	return f.Problem + ": " + noMeans
}

// note notes what is not carried over. Lines with one reason are one note.
func (p *Plan) note(why string, lines ...dnsmasq.Line) {
	i := slices.IndexFunc(p.Notes, func(n Note) bool { return n.Why == why })
	if i < 0 {
		i = len(p.Notes)
		p.Notes = append(p.Notes, Note{Why: why})
	}
	for _, l := range lines {
		if !slices.Contains(p.Notes[i].Lines, l) {
			p.Notes[i].Lines = append(p.Notes[i].Lines, l)
		}
	}
}

// with returns the subnet that an address is in.
func (p *Plan) with(a netip.Addr) *subnet {
	for _, s := range p.subnets {
		if s.prefix.Contains(a) {
			return s
		}
	}
	return nil
}

// finish writes what was collected on the way.
func (p *Plan) finish() {
	for _, s := range p.subnets {
		for _, it := range p.spared[s] {
			s.add("exclude", it.text, it.from...)
		}
	}
	for _, m := range p.nodes {
		m.writeAddrs(p)
		order := config.NodeKeys()
		slices.SortStableFunc(m.fields, func(a, b *field) int {
			return cmp.Compare(slices.Index(order, a.name), slices.Index(order, b.name))
		})
	}
	if p.site.State != "" {
		p.top.set("state", p.site.State)
	}
	if p.site.Root != "" {
		p.top.set("root", p.site.Root)
	}
}

// Counts returns how many subnets and nodes the plan has.
func (p *Plan) Counts() (subnets, nodes int) { return len(p.subnets), len(p.nodes) }

// String names places of lines, runs of lines of one file together.
func (n Note) String() string {
	var parts []string
	for i := 0; i < len(n.Lines); {
		first, j := n.Lines[i], i+1
		for j < len(n.Lines) && n.Lines[j].File == first.File && n.Lines[j].Number == n.Lines[j-1].Number+1 {
			j++
		}
		text := first.String()
		if j > i+1 {
			text += fmt.Sprintf("-%d", n.Lines[j-1].Number)
		}
		parts = append(parts, text)
		i = j
	}
	if parts == nil {
		return n.Why
	}
	return strings.Join(parts, ", ") + ": " + n.Why
}
