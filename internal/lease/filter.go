package lease

import (
	"fmt"
	"net/netip"
	"net/url"

	"bootd/internal/node"
)

// A Filter chooses leases. All that is set must hold; the zero Filter chooses
// every lease.
type Filter struct {
	Addr   netip.Addr
	MAC    node.MAC
	Node   string // its BMC is <node>-mgmt
	Subnet netip.Prefix
	State  State
	Force  Force
}

// A Force chooses leases by whether they are in force.
type Force string

// The choices.
const (
	Any     Force = ""
	InForce Force = "yes"
	Ended   Force = "no"
)

// Match reports whether f chooses l.
func (f *Filter) Match(l *Lease) bool {
	return (!f.Addr.IsValid() || f.Addr == l.Addr) &&
		(f.MAC.IsZero() || f.MAC == l.MAC) &&
		(f.Node == "" || f.Node == l.Node) &&
		(!f.Subnet.IsValid() || f.Subnet.Contains(l.Addr)) &&
		(f.State == "" || f.State == l.State) &&
		(f.Force == Any || (f.Force == InForce) == l.State.InForce())
}

// Of returns the filter of what a person names a lease by: its address, or the
// MAC address or node name of its machine.
func Of(which string) (Filter, error) {
	if a, err := netip.ParseAddr(which); err == nil {
		return Filter{Addr: a}, nil
	}
	if m, err := node.ParseMAC(which); err == nil && !m.IsZero() {
		return Filter{MAC: m}, nil
	}
	if node.ValidName(which) {
		return Filter{Node: which}, nil
	}
	return Filter{}, fmt.Errorf("%q is no IP address, MAC address or name of a node", which)
}

// Values returns f as the parameters of a URL.
func (f *Filter) Values() url.Values {
	v := url.Values{}
	set := func(name, value string, there bool) {
		if there {
			v.Set(name, value)
		}
	}
	set("ip", f.Addr.String(), f.Addr.IsValid())
	set("mac", f.MAC.String(), !f.MAC.IsZero())
	set("node", f.Node, f.Node != "")
	set("subnet", f.Subnet.String(), f.Subnet.IsValid())
	set("state", string(f.State), f.State != "")
	set("in-force", string(f.Force), f.Force != Any)
	return v
}

// ParseFilter reads what Values returned, and refuses what it does not know:
// who is given more leases than he asked for may end the wrong ones.
func ParseFilter(v url.Values) (f Filter, err error) {
	for name := range v {
		s := v.Get(name)
		switch name {
		case "ip":
			f.Addr, err = parseAddr(s)
		case "mac":
			f.MAC, err = node.ParseMAC(s)
		case "node":
			f.Node = s
		case "subnet":
			f.Subnet, err = ParseSubnet(s)
		case "state":
			f.State, err = ParseState(s)
		case "in-force":
			f.Force = Force(s)
			if f.Force != InForce && f.Force != Ended {
				err = fmt.Errorf("%q is not yes or no", s)
			}
		default:
			err = fmt.Errorf("not a property of leases")
		}
		if err != nil {
			return Filter{}, fmt.Errorf("%.80s: %w", name, err)
		}
	}
	return f, nil
}

// ParseSubnet reads a network such as 10.1.0.0/16.
func ParseSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%.80q is not a network such as 10.1.0.0/16", s)
	}
	return p.Masked(), nil
}
