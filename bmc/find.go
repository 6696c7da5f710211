package bmc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bootd/internal/node"
)

// Evidence is what there is to find BMCs by. Any part may be empty.
type Evidence struct {
	Inventory *node.Inventory // nil: none
	Leases    []Lease
	Consoles  []Console
	Records   []Record
	Self      string // node that runs the command, whose BMC is left alone; empty: none
	Now       time.Time
}

// A Target is a BMC that was found.
type Target struct {
	Node     string
	MAC      node.MAC // zero: not known
	Host     string   // address or name to reach it by; empty: not known
	User     string   // empty: not known
	Password Secret
	Expected bool   // the inventory, conman or a host-record names it; else it only has a lease
	Leased   bool   // it holds a lease now
	Note     string // what is odd about it; empty: nothing
}

// Find joins the evidence to one Target for each node with a BMC, ordered by
// name. The inventory is truth: where it has the MAC of a BMC, a lease counts
// by that MAC and not by a name. Elsewhere a BMC is known by the MAC of a
// dhcp-host or by a lease named <node>-mgmt. Where the BMC is reached is said
// by its lease, else by conman, else by its record.
func Find(e Evidence) []Target {
	found := map[string]*Target{}
	at := func(name string) *Target {
		if found[name] == nil {
			found[name] = &Target{Node: name}
		}
		return found[name]
	}
	e.expected(at)
	e.leased(at)
	delete(found, e.Self)
	var list []Target
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, *found[name])
	}
	return list
}

// expected enters the BMCs that somebody wrote down.
func (e Evidence) expected(at func(string) *Target) {
	addrs := map[string]string{}
	for _, r := range e.Records {
		host, _ := hostOf(r.Name)
		t := at(host)
		t.Expected = true
		if r.Addr.IsValid() {
			t.Host = r.Addr.String()
			addrs[strings.ToLower(r.Name)] = t.Host
		}
		if !r.MAC.IsZero() {
			t.MAC = r.MAC
		}
	}
	for _, c := range e.Consoles {
		if host, ok := hostOf(c.Name); ok {
			t := at(host)
			t.Expected = true
			// A name that dnsmasq would resolve need not resolve here.
			t.Host = cmp.Or(addrs[strings.ToLower(c.Host)], c.Host)
			t.User, t.Password = c.User, c.Password
		}
	}
	if e.Inventory == nil {
		return
	}
	for _, n := range e.Inventory.Nodes() {
		if !n.BMC.IsZero() {
			t := at(n.Name)
			t.Expected, t.MAC = true, n.BMC
		}
	}
}

// leased enters what the live leases show.
func (e Evidence) leased(at func(string) *Target) {
	owner := map[node.MAC]string{}
	for _, r := range e.Records {
		if host, _ := hostOf(r.Name); !r.MAC.IsZero() {
			owner[r.MAC] = host
		}
	}
	truth := map[string]bool{}
	if e.Inventory != nil {
		for _, n := range e.Inventory.Nodes() {
			if !n.BMC.IsZero() {
				owner[n.BMC], truth[n.Name] = n.Name, true
			}
		}
	}
	for _, l := range e.Leases {
		if !l.Live(e.Now) {
			continue
		}
		if host, ok := owner[l.MAC]; ok {
			at(host).hold(l)
		} else if host, ok := hostOf(l.Host); ok && truth[host] {
			t := at(host)
			t.Note = fmt.Sprintf("the lease %q is of %v, the inventory says %v", l.Host, l.MAC, t.MAC)
		} else if ok {
			at(host).hold(l)
		}
	}
}

func (t *Target) hold(l Lease) {
	t.MAC, t.Host, t.Leased = l.MAC, l.Addr.String(), true
}

// Hosts returns the machines that live leases show, ordered by name: NODE by a
// lease of its BMC, NODE-mgmt, or by one of its own.
func Hosts(leases []Lease, now time.Time) (names []string) {
	for _, l := range leases {
		name, bmc := hostOf(l.Host)
		if !bmc {
			name, _, _ = strings.Cut(strings.ToLower(l.Host), ".")
		}
		if l.Live(now) && node.ValidName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// SelfAmong returns the node that a machine with this host name is, or "". The
// boot server of source 004 is named <system>-<node>-pit while it installs the
// others.
func SelfAmong(hostname string, nodes []string) string {
	short, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	for _, n := range nodes {
		if short == n || short == n+"-pit" || strings.HasSuffix(short, "-"+n+"-pit") {
			return n
		}
	}
	return ""
}

// Missing returns the nodes whose BMC is expected and holds no lease.
func Missing(targets []Target) (nodes []string) {
	for _, t := range targets {
		if t.Expected && !t.Leased {
			nodes = append(nodes, t.Node)
		}
	}
	return nodes
}
