package takeover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bootd/internal/dnsmasq"
)

// Options that a subnet has keys for.
const (
	codeMask      = 1
	codeOffset    = 2
	codeRouter    = 3
	codeDNS       = 6
	codeDomain    = 15
	codeMTU       = 26
	codeBroadcast = 28
	codeNTP       = 42
	codeVendor    = 43
	codeSearch    = 119
	codeRoutes    = 121
)

// makeOptions gives subnets, classes and nodes their options: first those
// without tags, over which all others win. Of two alike, the later counts.
func (p *Plan) makeOptions() {
	for _, tagged := range []bool{false, true} {
		for i := range p.site.Config.Options {
			if o := &p.site.Config.Options[i]; (len(o.Tags) > 0) == tagged {
				p.option(o)
			}
		}
	}
}

// option gives an option to whom its tags stand for.
func (p *Plan) option(o *dnsmasq.Option) {
	switch {
	case len(o.Tags) == 0:
		for _, s := range p.subnets {
			p.tell(s, o)
		}
		return
	case len(o.Tags) > 1:
		p.note("an option for several tags at once", o.Line)
		return
	case strings.HasPrefix(o.Tags[0], "!"):
		p.note("an option for those without a tag", o.Line)
		return
	}
	tag, known := o.Tags[0], false
	for _, s := range p.subnets {
		if slices.Contains(s.sets, tag) || s.iface == tag {
			known = true
			p.tell(s, o)
		}
	}
	for _, m := range p.nodes {
		if slices.Contains(m.sets, tag) {
			known = true
			p.give(&m.entry, o)
		}
	}
	for _, e := range p.class(tag) {
		known = true
		p.give(e, o)
	}
	if !known && !p.bmcTag(tag, o) {
		p.note(fmt.Sprintf("an option for tag %q, which stands for no machines here", tag), o.Line)
	}
}

// bmcTag notes an option of a BMC, which has none of its own.
func (p *Plan) bmcTag(tag string, o *dnsmasq.Option) bool {
	is := slices.ContainsFunc(p.bmcs, func(b bmcOf) bool { return slices.Contains(b.host.Sets, tag) })
	if is {
		p.note("options of one BMC", o.Line)
	}
	return is
}

// tell gives a subnet an option, under the key that it has for it.
func (p *Plan) tell(s *subnet, o *dnsmasq.Option) {
	addrs, ok := p.own(s, o)
	if !ok || s.proxy {
		return
	}
	s.told[o.Code] = true
	key := map[byte]string{codeRouter: "router", codeDNS: "dns", codeNTP: "ntp", codeDomain: "domain", codeMTU: "mtu", codeSearch: "search", codeRoutes: "routes"}[o.Code]
	if key != "" {
		s.clear(key)
	}
	switch {
	case o.Empty():
		if key == "" {
			p.note("an option without a value", o.Line)
		}
	case o.Code == codeMask || o.Code == codeBroadcast:
		p.note("bootd tells the netmask and the broadcast address of the subnet", o.Line)
	case o.Code == codeRouter:
		s.set(key, addrs[0].String(), o.Line)
		if len(addrs) > 1 {
			p.note("bootd tells one router: the first", o.Line)
		}
	case o.Code == codeDNS, o.Code == codeNTP:
		for _, a := range addrs {
			s.add(key, a.String(), o.Line)
		}
	case o.Code == codeDomain:
		s.set(key, o.Text, o.Line)
	case o.Code == codeMTU:
		s.set(key, fmt.Sprint(o.Number), o.Line)
	case o.Code == codeSearch:
		for _, n := range o.Names {
			s.add(key, n, o.Line)
		}
	case o.Code == codeRoutes && len(o.Routes) > 0:
		for i, r := range o.Routes {
			s.add(key, r.String()+" via "+addrs[i].String(), o.Line)
		}
	default:
		p.addOption(&s.entry, o, addrs)
	}
}

// own returns the addresses of an option, ours in the place of 0.0.0.0.
func (p *Plan) own(s *subnet, o *dnsmasq.Option) ([]netip.Addr, bool) {
	list := slices.Clone(o.Addrs)
	for i, a := range list {
		if !a.IsUnspecified() {
			continue
		}
		if s == nil || !s.own.IsValid() {
			p.note("0.0.0.0 stands for dnsmasq's own address, which is not known here", o.Line)
			return nil, false
		}
		list[i] = s.own
	}
	return list, true
}

// give gives a class or a node an option.
func (p *Plan) give(e *entry, o *dnsmasq.Option) {
	addrs, ok := p.own(nil, o)
	switch {
	case !ok:
	case o.Empty():
		p.note("an option without a value", o.Line)
	default:
		p.addOption(e, o, addrs)
	}
}

// addOption writes an option as bootd spells it, instead of an earlier one of
// the code.
func (p *Plan) addOption(e *entry, o *dnsmasq.Option, addrs []netip.Addr) {
	code := fmt.Sprintf("%d ", o.Code)
	if f := e.get("options"); f != nil {
		f.items = slices.DeleteFunc(f.items, func(it *item) bool {
			return strings.HasPrefix(strings.TrimPrefix(it.text, "always "), code)
		})
	}
	text := code + value(o, addrs)
	if o.Always {
		text = "always " + text
	}
	e.add("options", text, o.Line)
}

// value writes the type and the value of an option.
func value(o *dnsmasq.Option, addrs []netip.Addr) string {
	var list []string
	switch {
	case len(o.Routes) > 0:
		for i, r := range o.Routes {
			list = append(list, r.String()+" via "+addrs[i].String())
		}
		return "routes " + strings.Join(list, ", ")
	case len(addrs) > 0:
		for _, a := range addrs {
			list = append(list, a.String())
		}
		return "ip " + strings.Join(list, " ")
	case o.Size > 0 && o.Code == codeOffset:
		return fmt.Sprintf("i32 %d", o.Number)
	case o.Size > 0 && o.Number < 0:
		return fmt.Sprintf("hex %0*x", 2*o.Size, uint64(o.Number)&(1<<(8*o.Size)-1))
	case o.Size > 0:
		return fmt.Sprintf("u%d %d", 8*o.Size, o.Number)
	case len(o.Bytes) > 0:
		return fmt.Sprintf("hex %x", o.Bytes)
	case len(o.Names) > 0:
		return "names " + strings.Join(o.Names, " ")
	case clean(o.Text) != o.Text || strings.TrimSpace(o.Text) != o.Text || o.Code == codeVendor:
		return fmt.Sprintf("hex %x", o.Text)
	}
	return "text " + o.Text
}

// makeDefaults writes what dnsmasq does without being told: it is the router
// and the DNS server itself, and tells the domain.
func (p *Plan) makeDefaults() {
	for _, d := range p.site.Config.Domains {
		used := false
		for _, s := range p.subnets {
			if s.proxy || s.told[codeDomain] || d.First.IsValid() && !overlaps(s.prefix, d.First, d.Last) {
				continue
			}
			if used = true; !d.First.IsValid() && s.get("domain") != nil {
				continue // one for its addresses came before
			}
			s.set("domain", d.Name, d.Line)
		}
		if !used {
			p.note("a domain for addresses of no subnet, or whose clients are told another", d.Line)
		}
	}
	for _, s := range p.subnets {
		if s.proxy || s.value("relayed") != "" {
			continue
		}
		switch {
		case s.told[codeRouter]:
		case s.own.IsValid():
			s.set("router", s.own.String())
			p.note("dnsmasq tells machines that it is their router where nothing else is said: so does router: of the subnets", nil...)
		default:
			p.note("dnsmasq tells machines that it is their router where nothing else is said: write router: for subnet " + s.prefix.String())
		}
		if !s.told[codeDNS] && !slices.Contains(p.values("port"), "0") {
			p.note("dnsmasq tells machines that it is their DNS server where nothing else is said: bootd is none, so write dns: for subnet " + s.prefix.String())
		}
	}
}

func overlaps(p netip.Prefix, first, last netip.Addr) bool {
	return p.Contains(first) || p.Contains(last) || !p.Addr().Less(first) && !last.Less(p.Addr())
}
