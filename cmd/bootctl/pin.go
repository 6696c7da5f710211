package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bootd/artifacts"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"

	"github.com/spf13/cobra"
)

// A pinCommand pins a node or a role, or unpins it. A name may be that of both.
type pinCommand struct {
	place
	node, role bool // NAME is that of one; neither: of what there is
}

func (p *pinCommand) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.node, "node", false, "NAME is that of a node")
	cmd.Flags().BoolVar(&p.role, "role", false, "NAME is that of a role")
	cli.Exclusive(cmd, "node", "role")
}

// which settles what a name stands for where it is the name of a node, of a
// role, or of both. It reports whether that is a node.
func (p *pinCommand) which(name string, isNode, isRole bool) (bool, error) {
	isNode, isRole = isNode && !p.role, isRole && !p.node
	switch {
	case isNode && isRole:
		return false, cli.Error{Err: fmt.Errorf("%q is the name of a node and of a role", name), Code: cli.Usage, Hint: "say which is meant: --node or --role"}
	case isNode || isRole:
		return isNode, nil
	case p.node:
		return false, fmt.Errorf("there is no node %q", name)
	case p.role:
		return false, fmt.Errorf("there is no role %q", name)
	}
	return false, fmt.Errorf("there is no node and no role %q", name)
}

// thing names what is pinned.
func thing(isNode bool, name string) string {
	if isNode {
		return "node " + name
	}
	return "role " + name
}

func releasePinCommand() *cobra.Command {
	var p pinCommand
	cmd := treeCommand(&cobra.Command{
		Use: "pin NAME RELEASE [flags]", Short: "Keep a node or a role on a release",
		Long: `Pins the node or the role of that name to a release, whatever the configuration
says. Where NAME is the name of both, --node or --role says which is meant. The
pin of a node counts more than that of its role. It takes effect with the next
bootctl set-links.`,
		Example: "  bootctl release pin ncn-m001 1.2.3\n  bootctl release pin --role kubernetes 1.2.3 && bootctl set-links", Args: cli.Args("NAME", "RELEASE"),
	}, &p.place, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		return p.pin(cmd, c, tree, args[0], args[1])
	})
	p.flags(cmd)
	return cmd
}

func (p *pinCommand) pin(cmd *cobra.Command, c *config.Config, tree *links.Tree, name, release string) error {
	role, isRole := c.Inventory.Role(name)
	of, err := roleOfNode(c.Inventory, name)
	if err != nil {
		return err
	}
	isNode, err := p.which(name, of != "", isRole)
	if err != nil {
		return err
	}
	if isNode {
		role, _ = c.Inventory.Role(of)
	}
	if _, err := artifacts.Scan(tree.Root(), role).Release(release); err != nil {
		return cli.Hint(fmt.Errorf("%s is not pinned: %w", thing(isNode, name), err),
			fmt.Sprintf("bootctl releases --role %s shows which there are, bootctl release import brings one in", role.Name))
	}
	var was string
	var own []string // nodes of a role whose own pin counts more
	err = tree.Change(cmd.Context(), func(s *links.Settings) {
		m := pinsIn(s, isNode)
		was, (*m)[name] = (*m)[name], release
		if !isNode {
			own = pinnedApart(c.Inventory, *s, name, release)
		}
	})
	if err != nil {
		return cli.Hint(err, writeHint(err, tree.Root().Name()))
	}
	text := fmt.Sprintf("pinned %s to %s", thing(isNode, name), release)
	if was != "" && was != release {
		text += ", was pinned to " + was
	}
	fmt.Fprintln(cmd.OutOrStdout(), text+": bootctl set-links links it")
	if len(own) > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "nodes of role %s that stay on pins of their own: %s\n", name, few(own))
	}
	return nil
}

// pinnedApart returns the nodes of a role that are pinned to another release,
// with that.
func pinnedApart(inv *node.Inventory, s links.Settings, role, release string) (names []string) {
	for _, n := range pinned(inv.Nodes(), s) {
		if n.Role == role && n.Release != "" && n.Release != release {
			names = append(names, n.Name+" ("+n.Release+")")
		}
	}
	return names
}

// pinsIn returns the pins of nodes or of roles, to be changed.
func pinsIn(s *links.Settings, ofNodes bool) *map[string]string {
	m := &s.Roles
	if ofNodes {
		m = &s.Nodes
	}
	if *m == nil {
		*m = map[string]string{}
	}
	return m
}

func releaseUnpinCommand() *cobra.Command {
	var p pinCommand
	cmd := treeCommand(&cobra.Command{
		Use: "unpin NAME [flags]", Short: "Take the pin of a node or a role back",
		Long: `Takes the pin of the node or the role of that name back. Where both are pinned,
--node or --role says which is meant. It takes effect with the next bootctl
set-links.`,
		Example: "  bootctl release unpin ncn-m001", Args: cli.Args("NAME"),
	}, &p.place, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		return p.unpin(cmd, c, tree, args[0])
	})
	p.flags(cmd)
	return cmd
}

func (p *pinCommand) unpin(cmd *cobra.Command, c *config.Config, tree *links.Tree, name string) error {
	var isNode bool
	var was string
	var bad error
	err := tree.Change(cmd.Context(), func(s *links.Settings) {
		_, ofNode := s.Nodes[name]
		_, ofRole := s.Roles[name]
		if ofNode && !p.role || ofRole && !p.node {
			if isNode, bad = p.which(name, ofNode, ofRole); bad == nil {
				m := pinsIn(s, isNode)
				was = (*m)[name]
				delete(*m, name)
			}
			return
		}
		bad = p.notPinned(c.Inventory, *s, name)
	})
	switch {
	case err != nil:
		return cli.Hint(err, writeHint(err, tree.Root().Name()))
	case bad != nil:
		return bad
	}
	fmt.Fprintf(cmd.OutOrStdout(), "unpinned %s, which was pinned to %s\n", thing(isNode, name), was)
	return nil
}

// notPinned says why there is no pin to take back, and where what gives the node
// or the role its release is.
func (p *pinCommand) notPinned(inv *node.Inventory, s links.Settings, name string) error {
	role, isRole := inv.Role(name)
	of, err := roleOfNode(inv, name)
	if err != nil {
		return err
	}
	isNode := of != ""
	if isNode && isRole && !p.node && !p.role {
		return cli.Hint(fmt.Errorf("neither node %s nor role %s is pinned", name, name), allPins(s))
	}
	if isNode, err = p.which(name, isNode, isRole); err != nil {
		return cli.Hint(err, allPins(s))
	}
	var release string
	switch n, known := inv.ByName(name); { // without an inventory a name alone makes a node
	case !isNode:
		release = role.Release
	case known:
		release = n.Release
	}
	switch {
	case release != "":
		return cli.Hint(fmt.Errorf("%s is not pinned by bootctl release pin: release %s is in the configuration", thing(isNode, name), release),
			fmt.Sprintf("take release: of %s out of %s", thing(isNode, name), p.config))
	case isNode && s.Roles[of] != "":
		return cli.Hint(fmt.Errorf("node %s is not pinned: its role %s is, to %s", name, of, s.Roles[of]), "bootctl release unpin "+of+" --role")
	}
	return cli.Hint(errors.New(thing(isNode, name)+" is not pinned"), allPins(s))
}

// allPins says what is pinned.
func allPins(s links.Settings) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(s.Roles)) {
		list = append(list, "role "+name+" ("+s.Roles[name]+")")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		list = append(list, "node "+name+" ("+s.Nodes[name]+")")
	}
	const most = 8
	if more := len(list) - most; more > 0 {
		list = append(list[:most], fmt.Sprintf("and %d more, see bootctl releases --json", more))
	}
	if list == nil {
		return "bootctl release pin has pinned nothing here"
	}
	return "pinned are " + strings.Join(list, ", ")
}

// unpinHint is the remedy where nodes are pinned to a release that is not there:
// how to take back the first of those pins, which may have been made in three
// places. Empty: no pin is in the way.
func unpinHint(choices []artifacts.Choice, s links.Settings, roles map[string]node.Role, c *config.Config) string {
	for _, ch := range choices {
		name, role, inConfig := ch.Node.Name, ch.Node.Role, ""
		if r, ok := c.Inventory.Role(role); ok {
			inConfig = r.Release
		}
		switch {
		case ch.Err == nil:
		case s.Nodes[name] != "":
			return "bring that release in, or take the pin back: bootctl release unpin " + name + " --node"
		case ch.Node.Release != "":
			return "bring that release in, or change release: of node " + name + " in the configuration"
		case roles[role].Release == "":
		case roles[role].Release == s.Roles[role]:
			return "bring that release in, or take the pin back: bootctl release unpin " + role + " --role"
		case roles[role].Release == inConfig:
			return "bring that release in, or change release: of role " + role + " in the configuration"
		}
	}
	return ""
}
