package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Resolve completes a configuration with what the machine knows: a subnet
// without a prefix gets that of its interface, one without a server address
// gets the interface's address in it. Then the rules that need those are
// checked. The function addrs returns the addresses of an interface with
// their prefix lengths, such as 10.1.0.1/16; its error is reported with the
// place. An error is a Faults without lines. The receiver stays as it is.
func (c *Config) Resolve(addrs func(iface string) ([]netip.Prefix, error)) (*Config, error) {
	f := faults{flags: c.flags}
	resolved := *c
	resolved.Subnets = make([]Subnet, len(c.Subnets))
	for i, s := range c.Subnets {
		at := place{}.item("subnets", i, "")
		list, err := addrs(s.Interface)
		if err != nil {
			f.add(at.key("interface"), "%v", err)
			continue
		}
		resolved.Subnets[i] = f.resolve(at, s, list)
	}
	if len(f.list) == 0 {
		f.subnets(resolved.Subnets)
		f.reservations(c.Inventory.Nodes(), resolved.Subnets)
	}
	if err := f.err(c.from); err != nil {
		return nil, err
	}
	return &resolved, nil
}

// resolve completes s with the addresses of its interface.
func (f *faults) resolve(at place, s Subnet, addrs []netip.Prefix) Subnet {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Prefix) bool { return !a.Addr().Is4() })
	if !s.Prefix.IsValid() {
		if len(addrs) != 1 {
			f.add(at.key("subnet"), "missing, and %s has %s", s.Interface, have(addrs))
			return s
		}
		s.Prefix = addrs[0].Masked()
		if err := checkPrefix(s.Prefix); err != nil {
			f.add(at.key("subnet"), "missing, and %v of %s %v", addrs[0], s.Interface, err)
			return s
		}
	}
	if s.Relayed {
		return f.resolveRelayed(at, s, addrs)
	}
	i := slices.IndexFunc(addrs, func(a netip.Prefix) bool {
		return s.Prefix.Contains(a.Addr()) && (!s.Server.IsValid() || s.Server == a.Addr())
	})
	switch {
	case i >= 0:
		s.Server = addrs[i].Addr()
	case s.Server.IsValid():
		f.add(at.key("server"), "%v is not an address of %s, which has %s", s.Server, s.Interface, have(addrs))
	default:
		f.add(at.key("server"), "missing, and no address of %s is in %v: it has %s", s.Interface, s.Prefix, have(addrs))
	}
	return s
}

// resolveRelayed completes a subnet whose machines are elsewhere: any address
// of the interface will do, but they must all be told the same.
func (f *faults) resolveRelayed(at place, s Subnet, addrs []netip.Prefix) Subnet {
	on := slices.IndexFunc(addrs, func(a netip.Prefix) bool { return s.Prefix.Contains(a.Addr()) })
	is := slices.IndexFunc(addrs, func(a netip.Prefix) bool { return a.Addr() == s.Server })
	switch {
	case on >= 0:
		f.add(at.key("relayed"), "%s is in %v itself: it has %v", s.Interface, s.Prefix, addrs[on])
	case s.Server.IsValid() && is < 0:
		f.add(at.key("server"), "%v is not an address of %s, which has %s", s.Server, s.Interface, have(addrs))
	case !s.Server.IsValid() && len(addrs) != 1:
		f.add(at.key("server"), "missing, and %s has %s", s.Interface, have(addrs))
	case !s.Server.IsValid():
		s.Server = addrs[0].Addr()
	}
	return s
}

// have lists the addresses of an interface for a message.
func have(addrs []netip.Prefix) string {
	if len(addrs) == 0 {
		return "no IPv4 address"
	}
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// InterfaceAddrs returns the IPv4 addresses of a network interface of this
// machine, for Resolve.
func InterfaceAddrs(name string) (list []netip.Prefix, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("there is no network interface %q; there are %s", name, interfaceNames())
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			list = append(list, p)
		}
	}
	return list, nil
}

func interfaceNames() string {
	all, _ := net.Interfaces()
	var names string
	for i, ifi := range all {
		if i > 0 {
			names += ", "
		}
		names += ifi.Name
	}
	return names
}
