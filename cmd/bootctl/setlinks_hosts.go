package main

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"bootd/artifacts"
	"bootd/bmc"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"
)

// A census says which nodes set-links is for: those of the inventory or, on a
// site that has none, the hosts that hold leases.
type census struct {
	nodes   []node.Node // that are to be linked
	missing []node.Node // that have a BMC, by what somebody wrote down, and no lease
	leases  bool        // there is no inventory
	where   string      // the leases are
	roles   []string    // that count even if no node has them
	targets []bmc.Target
	inv     *node.Inventory
	count   func() error // takes the census again
}

// all returns the nodes that there should be, by name where they are from
// leases.
func (c *census) all() []node.Node {
	if len(c.missing) == 0 {
		return c.nodes
	}
	all := append(slices.Clone(c.nodes), c.missing...)
	slices.SortFunc(all, func(a, b node.Node) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// muster takes the census.
func (s *setLinks) muster(cmd *cobra.Command, c *config.Config) (*census, error) {
	who := &census{inv: c.Inventory, leases: len(c.Inventory.Nodes()) == 0}
	if !who.leases {
		var err error
		if who.nodes, err = s.pick(c.Inventory); err != nil {
			return nil, err
		}
	}
	patterns, err := s.patterns()
	if err != nil {
		return nil, err
	}
	told := cmd.ErrOrStderr() // bad lines of the files are told once
	who.count = func() error {
		e, where, err := s.evidence(cmd, c.Inventory, told)
		if err != nil {
			return err
		}
		who.where = where
		if who.leases && e.Self == "" && !cmd.Flags().Changed("self") {
			e.Self = scriptSelf
			if isKnown(e, scriptSelf) {
				cli.Tell(program, told, "this machine's name is none of the nodes', so "+scriptSelf+" is taken for it and left alone; --self names another")
			}
		}
		told = io.Discard
		if who.leases {
			return s.countLeases(who, e, patterns)
		}
		who.targets = targetsOf(bmc.Find(e), who.nodes)
		return nil
	}
	if !who.leases && (s.skipBMC || s.secret.IsZero()) {
		return who, nil // all that is to be known is in the inventory
	}
	return who, who.count()
}

// scriptSelf is the machine that the script of source 004 runs on, and whose BMC
// must stay as it is: it is how an administrator gets to that machine.
const scriptSelf = "ncn-m001"

// isKnown reports whether any evidence names a host.
func isKnown(e bmc.Evidence, host string) bool {
	e.Self = ""
	return slices.Contains(bmc.Hosts(e.Leases, e.Now), host) || slices.Contains(names(bmc.Find(e)), host)
}

func (s *setLinks) patterns() ([]node.Pattern, error) {
	if len(s.nodes) == 0 {
		return nil, nil
	}
	return parsePatterns(s.nodes)
}

// countLeases finds the hosts that have a role and that the flags leave.
func (s *setLinks) countLeases(who *census, e bmc.Evidence, patterns []node.Pattern) error {
	who.nodes, who.missing = nil, nil
	targets := bmc.Find(e)
	leased, known := hostsOf(e, targets)
	used := make([]bool, len(patterns))
	for _, host := range known {
		if host == e.Self || !picked(patterns, used, host) {
			continue
		}
		role, err := roleOf(who.inv, host)
		if err != nil {
			return err
		}
		_, has := slices.BinarySearch(leased, host)
		switch n := (node.Node{Name: host, Role: role}); {
		case role == "" || s.role != "" && s.role != role:
		case has:
			who.nodes = append(who.nodes, n)
		default:
			who.missing = append(who.missing, n)
		}
	}
	who.targets = targetsOf(targets, who.all())
	if i := slices.Index(used, false); i >= 0 {
		return fmt.Errorf("node %q has no lease in %s, and is in neither %s nor %s", patterns[i], who.where, s.conman, s.statics)
	}
	return nil
}

// hostsOf returns the hosts that hold leases, and all that are known, by name.
func hostsOf(e bmc.Evidence, targets []bmc.Target) (leased, known []string) {
	leased = bmc.Hosts(e.Leases, e.Now)
	for _, t := range targets {
		if t.Leased { // by MAC, under whatever name
			leased = append(leased, t.Node)
		}
		if t.Expected {
			known = append(known, t.Node)
		}
	}
	known = append(known, leased...)
	slices.Sort(leased)
	slices.Sort(known)
	return slices.Compact(leased), slices.Compact(known)
}

// picked reports whether a pattern stands for the host, or there are none.
func picked(patterns []node.Pattern, used []bool, host string) bool {
	hit := len(patterns) == 0
	for i, p := range patterns {
		if p.Match(host) {
			hit, used[i] = true, true
		}
	}
	return hit
}

// roleOf returns the role that a host has by its name; empty: none.
func roleOf(inv *node.Inventory, host string) (role string, err error) {
	for _, name := range slices.Sorted(maps.Keys(inv.Roles())) {
		r, _ := inv.Role(name)
		switch {
		case !node.MatchAny(r.Hosts, host):
		case role != "":
			return "", fmt.Errorf("host %q is one of role %s and of role %s, by hosts: of both", host, role, name)
		default:
			role = name
		}
	}
	return role, nil
}

// roleOfNode returns the role of a node of the inventory or, where that has
// none at all, the role that a host has by its name; empty: there is no such.
func roleOfNode(inv *node.Inventory, name string) (role string, err error) {
	if n, ok := inv.ByName(name); ok {
		return n.Role, nil
	}
	if len(inv.Nodes()) > 0 {
		return "", nil
	}
	return roleOf(inv, name)
}

// targetsOf returns the BMCs of nodes that somebody wrote down.
func targetsOf(targets []bmc.Target, nodes []node.Node) []bmc.Target {
	of := map[string]bool{}
	for _, n := range nodes {
		of[n.Name] = true
	}
	return slices.DeleteFunc(targets, func(t bmc.Target) bool { return !t.Expected || !of[t.Node] })
}

// inPlay settles which roles a site without an inventory has: those of its
// hosts, and those that have a directory of releases. A site of which nothing
// is there yet should have all.
func (c *census) inPlay(tree *links.Tree, roles map[string]node.Role) {
	if !c.leases {
		return
	}
	of := map[string]bool{}
	for _, n := range c.all() {
		of[n.Role] = true
	}
	for name, r := range roles {
		if len(r.Hosts) > 0 && hasReleases(tree, r) {
			of[name] = true
		}
	}
	for name, r := range roles {
		if len(r.Hosts) > 0 && len(of) == 0 {
			c.roles = append(c.roles, name)
		}
	}
	c.roles = append(c.roles, slices.Collect(maps.Keys(of))...)
	slices.Sort(c.roles)
}

func hasReleases(tree *links.Tree, r node.Role) bool {
	entries, _ := fs.ReadDir(tree.Root().FS(), path.Join(artifacts.DataDir, r.Dir))
	return len(entries) > 0
}
