package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"bootd/artifacts"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"

	"github.com/spf13/cobra"
)

// defaultConfig is where bootd and bootctl look for the configuration.
const defaultConfig = "/etc/bootd/bootd.yaml"

func setLinksCommand() *cobra.Command {
	var s setLinks
	cmd := &cobra.Command{
		Use:   "set-links [flags]",
		Short: "Point the nodes' boot directories at the releases they should boot",
		Long: `Finds the complete releases under ROOT/ephemeral/data and points the boot
directory of every node of the inventory at the one it should boot: the release
its node or role is pinned to, else the newest of its role's channel. The links
of a node switch together, so that no node boots a mix of two releases. Nodes
that are linked as they should be are not touched.`,
		Example: "  bootctl set-links --config bootd.yaml --node ncn-m001,ncn-m002 --dry-run",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.config, "config", defaultConfig, "read root, roles and nodes from this `FILE`")
	f.StringVar(&s.root, "root", "", "use this `DIR` instead of the root in the configuration")
	f.StringVar(&s.role, "role", "", "only nodes of this `ROLE`")
	f.StringSliceVar(&s.nodes, "node", nil, "only these nodes, a `LIST` separated by commas")
	f.BoolVar(&s.dryRun, "dry-run", false, "say what would change and change nothing")
	f.BoolVar(&s.json, "json", false, "print one JSON object")
	return cmd
}

// setLinks is the command with its flags.
type setLinks struct {
	config, root, role string
	nodes              []string
	dryRun, json       bool
}

func (s setLinks) run(ctx context.Context, stdout, stderr io.Writer) error {
	root, inv, err := s.load()
	if err != nil {
		return err
	}
	nodes, err := s.pick(inv)
	if err != nil {
		return err
	}
	tree, err := links.Open(root)
	if err != nil {
		return cli.Hint(fmt.Errorf("root: %w", err), "name the directory with --root DIR, or as root: in "+s.config)
	}
	defer tree.Close()
	r := newReport(root, s.dryRun)
	catalogs := scan(tree, inv, nodes)
	choices := artifacts.Resolve(nodes, catalogs)
	r.resolved(choices, catalogs)
	if !s.json {
		r.printSelections(stdout)
	}
	applyErr, err := s.apply(ctx, tree, r)
	if err != nil {
		return err
	}
	if err := s.print(r, stdout); err != nil {
		return err
	}
	return r.verdict(stderr, applyErr)
}

// load returns the root as an absolute path, and the inventory.
func (s setLinks) load() (root string, inv *node.Inventory, err error) {
	c, err := config.Load(s.config)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, cli.Hint(err, "name the file with --config FILE, or write one with: bootd config init")
	}
	if err != nil {
		return "", nil, err
	}
	root, err = filepath.Abs(cmp.Or(s.root, c.Root))
	return root, c.Inventory, err
}

// pick returns the nodes that the flags leave, in the order of the inventory.
func (s setLinks) pick(inv *node.Inventory) ([]node.Node, error) {
	if len(inv.Nodes()) == 0 {
		return nil, cli.Hint(errors.New("the inventory has no nodes"), "add them under nodes: in "+s.config)
	}
	if _, ok := inv.Role(s.role); s.role != "" && !ok {
		return nil, fmt.Errorf("there is no role %q", s.role)
	}
	for _, name := range s.nodes {
		n, ok := inv.ByName(name)
		if !ok {
			return nil, fmt.Errorf("node %q is not in the inventory", name)
		}
		if s.role != "" && n.Role != s.role {
			return nil, fmt.Errorf("node %q is not of role %s but of role %s", name, s.role, n.Role)
		}
	}
	var nodes []node.Node
	for _, n := range inv.Nodes() {
		if (s.role == "" || n.Role == s.role) && (s.nodes == nil || slices.Contains(s.nodes, n.Name)) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("the inventory has no node of role %s", s.role)
	}
	return nodes, nil
}

// scan looks for the releases of the roles that nodes have.
func scan(tree *links.Tree, inv *node.Inventory, nodes []node.Node) map[string]artifacts.Catalog {
	catalogs := map[string]artifacts.Catalog{}
	for _, n := range nodes {
		if _, done := catalogs[n.Role]; !done {
			role, _ := inv.Role(n.Role)
			catalogs[n.Role] = artifacts.Scan(tree.Root(), role)
		}
	}
	return catalogs
}

// apply plans and, unless this is a dry run, applies. What comes of each node
// goes into r; applyErr is why some of the plan is not done.
func (s setLinks) apply(ctx context.Context, tree *links.Tree, r *report) (applyErr, err error) {
	plan, err := tree.Plan(r.wanted())
	if err != nil {
		return nil, err
	}
	done := plan.Changes
	if !s.dryRun {
		done, applyErr = tree.Apply(ctx, plan)
	}
	r.planned(plan, done, applyErr)
	return applyErr, nil
}

func (s setLinks) print(r *report, stdout io.Writer) error {
	if !s.json {
		r.printNodes(stdout)
		return nil
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// writeHint returns the remedy for a root that cannot be written to.
func writeHint(err error) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return "the root is on a file system that is mounted read-only"
	case errors.Is(err, fs.ErrPermission):
		return "run bootctl as the owner of the root directory"
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		return "put the root on ext4, xfs, btrfs or tmpfs, or remove the node's directory and run bootctl again"
	}
	return ""
}
