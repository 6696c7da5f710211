package takeover

import (
	"fmt"
	"net/netip"
	"slices"

	"bootd/internal/config"
	"bootd/internal/node"
)

// A Keeper tells which leases of dnsmasq's the configuration has room for.
type Keeper struct {
	cfg   *config.Config
	owner map[netip.Addr]*node.Node
}

// Keeper returns what tells of leases whether the plan has room for them.
func (p *Plan) Keeper() *Keeper {
	k := &Keeper{p.Result, map[netip.Addr]*node.Node{}}
	for i := range k.cfg.Inventory.Nodes() {
		n := &k.cfg.Inventory.Nodes()[i]
		for _, a := range append(n.Addrs(), n.BMCAddr) {
			if a.IsValid() {
				k.owner[a] = n
			}
		}
	}
	return k
}

// Refuses says why a machine cannot keep an address; empty: it can.
func (k *Keeper) Refuses(mac node.MAC, a netip.Addr) string {
	s := k.cfg.SubnetWith(a)
	switch {
	case s == nil:
		return "in no subnet that was carried over"
	case s.Mode == config.Proxy:
		return fmt.Sprintf("another server leases the addresses of subnet %v", s.Prefix)
	}
	if n := k.owner[a]; n != nil {
		if slices.Contains(n.MACs, mac) && a != n.BMCAddr || n.BMC == mac && a == n.BMCAddr {
			return ""
		}
		return fmt.Sprintf("reserved for node %q, whose MAC is another", n.Name)
	}
	if own := k.reserved(mac, s); own.IsValid() {
		return fmt.Sprintf("the address reserved for its machine is %v", own)
	}
	for _, x := range s.Excluded() {
		if x.Contains(a) {
			return fmt.Sprintf("excluded in subnet %v", s.Prefix)
		}
	}
	if !slices.ContainsFunc(s.Pools, func(p config.Pool) bool { return p.Range.Contains(a) }) {
		return fmt.Sprintf("in no pool of subnet %v", s.Prefix)
	}
	return ""
}

// reserved returns the address that a machine has in a subnet.
func (k *Keeper) reserved(mac node.MAC, s *config.Subnet) netip.Addr {
	if n, ok := k.cfg.Inventory.ByMAC(mac); ok {
		if i := slices.IndexFunc(n.Addrs(), s.Prefix.Contains); i >= 0 {
			return n.Addrs()[i]
		}
	}
	if n, ok := k.cfg.Inventory.ByBMC(mac); ok && s.Prefix.Contains(n.BMCAddr) {
		return n.BMCAddr
	}
	return netip.Addr{}
}
