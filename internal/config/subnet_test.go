package config

import (
	"errors"
	"net/netip"
	"testing"
)

func TestRange(t *testing.T) {
	r := span("10.1.0.250", "10.1.1.5")
	if got, want := r.Size(), 12; got != want { // .250 to .255 and .0 to .5
		t.Errorf("size: got %d, want %d", got, want)
	}
	if got, want := span("0.0.0.0", "255.255.255.255").Size(), 1<<32; got != want {
		t.Errorf("size of all: got %d, want %d", got, want)
	}
	if got := (Range{}).Size(); got != 0 {
		t.Errorf("size of none: got %d, want 0", got)
	}
	for a, want := range map[string]bool{
		"10.1.0.249": false, "10.1.0.250": true, "10.1.1.0": true, "10.1.1.5": true, "10.1.1.6": false,
		"::ffff:10.1.1.0": false, "fd00::1": false,
	} {
		if got := r.Contains(addr(a)); got != want {
			t.Errorf("contains %s: got %v, want %v", a, got, want)
		}
	}
	if (Range{}).Contains(netip.Addr{}) || (Range{}).Contains(addr("0.0.0.0")) {
		t.Error("the empty range contains something")
	}
}

func TestExcluded(t *testing.T) {
	c, err := Parse("x.yaml", []byte(`
subnets:
  - interface: e
    subnet: 10.1.0.0/16
    server: 10.1.0.1
    router: 10.1.0.2
    dns: [10.1.0.3, 9.9.9.9]
    ntp: [10.1.0.4]
    pools: [10.1.0.1-10.1.0.9]
    exclude: [10.1.0.8-10.1.0.9]
`))
	if err != nil {
		t.Fatal(err)
	}
	var free []string
	for a := addr("10.1.0.1"); c.Subnets[0].Pools[0].Contains(a); a = a.Next() {
		if !covers(c.Subnets[0].Excluded(), a) {
			free = append(free, a.String())
		}
	}
	if len(free) != 3 || free[0] != "10.1.0.5" || free[2] != "10.1.0.7" {
		t.Errorf("got %v, want 10.1.0.5 to 10.1.0.7", free)
	}
	if n := len(c.Subnets[0].Exclude); n != 1 {
		t.Errorf("got %d ranges in Exclude, want the 1 that is written", n)
	}
}

func covers(list []Range, a netip.Addr) bool {
	for _, r := range list {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

func TestResolve(t *testing.T) {
	eth := map[string][]netip.Prefix{
		"one":  {netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("fe80::1/64")},
		"two":  {netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("10.3.0.1/24")},
		"six":  {netip.MustParsePrefix("fe80::1/64")},
		"host": {netip.MustParsePrefix("10.9.9.9/32")},
	}
	addrs := func(iface string) ([]netip.Prefix, error) {
		if list, ok := eth[iface]; ok {
			return list, nil
		}
		return nil, errors.New("no such network interface")
	}
	for _, tt := range []struct{ text, prefix, server, want string }{
		{"{interface: one}", "10.1.0.0/16", "10.1.0.1", ""},
		{"{interface: one, subnet: 10.1.0.0/16, server: 10.1.0.1}", "10.1.0.0/16", "10.1.0.1", ""},
		{"{interface: two, server: 10.3.0.1, subnet: 10.3.0.0/24}", "10.3.0.0/24", "10.3.0.1", ""},
		{"{interface: two, subnet: 10.3.0.0/24}", "10.3.0.0/24", "10.3.0.1", ""},
		{"{interface: eth9}", "", "", `x.yaml: subnets[0]: interface: no such network interface`},
		{"{interface: two}", "", "", `x.yaml: subnets[0]: subnet: missing, and two has 10.1.0.1/16, 10.3.0.1/24`},
		{"{interface: six}", "", "", `x.yaml: subnets[0]: subnet: missing, and six has no IPv4 address`},
		{"{interface: host}", "", "", `x.yaml: subnets[0]: subnet: missing, and 10.9.9.9/32 of host has no length from /8 to /30`},
		{"{interface: one, subnet: 10.4.0.0/16}", "", "", `x.yaml: subnets[0]: server: missing, and no address of one is in 10.4.0.0/16: it has 10.1.0.1/16`},
		{"{interface: six, subnet: 10.4.0.0/16}", "", "", `x.yaml: subnets[0]: server: missing, and no address of six is in 10.4.0.0/16: it has no IPv4 address`},
		{"{interface: one, server: 10.1.0.2}", "", "", `x.yaml: subnets[0]: server: 10.1.0.2 is not an address of one, which has 10.1.0.1/16`},
		{"{interface: one, pools: [10.2.0.1-10.2.0.9]}", "", "", `x.yaml: subnets[0]: pools[0]: 10.2.0.1-10.2.0.9 is not within subnet 10.1.0.0/16`},
		{"{interface: one, pools: [10.1.0.1]}", "", "", `x.yaml: subnets[0]: pools[0]: 10.1.0.1 has no address left: all are excluded, or are server, router, dns or ntp`},
		{"{interface: one}, {interface: two, subnet: 10.1.0.0/16}", "", "", `x.yaml: subnets[1]: subnet: 10.1.0.0/16 overlaps 10.1.0.0/16 of subnets[0]`},
		{"{interface: one, subnet: 10.4.0.0/16, relayed: true}", "10.4.0.0/16", "10.1.0.1", ""},
		{"{interface: two, subnet: 10.4.0.0/16, relayed: true, server: 10.3.0.1}", "10.4.0.0/16", "10.3.0.1", ""},
		{"{interface: two, subnet: 10.4.0.0/16, relayed: true}", "", "", `x.yaml: subnets[0]: server: missing, and two has 10.1.0.1/16, 10.3.0.1/24`},
		{"{interface: six, subnet: 10.4.0.0/16, relayed: true}", "", "", `x.yaml: subnets[0]: server: missing, and six has no IPv4 address`},
		{"{interface: one, subnet: 10.4.0.0/16, relayed: true, server: 10.4.0.1}", "", "", `x.yaml: subnets[0]: server: 10.4.0.1 is not an address of one, which has 10.1.0.1/16`},
		{"{interface: one, subnet: 10.1.0.0/16, relayed: true}", "", "", `x.yaml: subnets[0]: relayed: one is in 10.1.0.0/16 itself: it has 10.1.0.1/16`},
		{"{interface: one, routes: [10.0.0.0/8 via 10.2.0.1]}", "", "", `x.yaml: subnets[0]: routes[0]: 10.2.0.1 is not within subnet 10.1.0.0/16`},
		{"{interface: one}]\nnodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01], address: 10.2.0.9}", "", "",
			`x.yaml: nodes[0] "a": address: 10.2.0.9 is not within any subnet`},
		{"{interface: one}]\nnodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01], address: 10.1.0.1}", "", "",
			`x.yaml: nodes[0] "a": address: 10.1.0.1 is the server of subnet 10.1.0.0/16`},
	} {
		c, err := Parse("x.yaml", []byte("subnets: ["+tt.text+"]"))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		before := c.Subnets[0].Prefix
		got, err := c.Resolve(addrs)
		if c.Subnets[0].Prefix != before {
			t.Errorf("%s: the receiver was changed", tt.text)
		}
		if tt.want != "" {
			wantError(t, err, tt.want)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if s := got.Subnets[0]; s.Prefix.String() != tt.prefix || s.Server.String() != tt.server {
			t.Errorf("%s: got %v and %v, want %s and %s", tt.text, s.Prefix, s.Server, tt.prefix, tt.server)
		}
	}
}

func TestResolveFlags(t *testing.T) {
	c, err := draftFlags(Flags{Interface: "eth1", Range: "10.1.1.100-10.1.1.200"}).Config()
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Resolve(func(string) ([]netip.Prefix, error) {
		return []netip.Prefix{netip.MustParsePrefix("192.168.0.1/24")}, nil
	})
	wantError(t, err, `--range: 10.1.1.100-10.1.1.200 is not within subnet 192.168.0.0/24`)
}
