package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"

	"github.com/spf13/cobra"
)

func linksCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "links",
		Short: "See, check and take back changes of boot directories",
		Long: `Shows, checks and takes back changes of boot directories. Each change, by
set-links or another command, is recorded as a generation, which has a number
and can be gone back to.`,
		Example: "  bootctl links check\n  bootctl links list\n  bootctl links rollback --dry-run",
	})
	cmd.AddCommand(linksListCommand(), linksShowCommand(), linksDiffCommand(), linksRollbackCommand(), linksCheckCommand(), linksPruneCommand())
	return cmd
}

// A treeRun is what a command does with an open tree.
type treeRun func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error

// treeCommand makes cmd work in the tree of a place, which its flags name.
func treeCommand(cmd *cobra.Command, p *place, run treeRun) *cobra.Command {
	p.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := p.load()
		if err != nil {
			return err
		}
		tree, err := p.open(c)
		if err != nil {
			return err
		}
		defer tree.Close()
		return run(cmd, args, c, tree)
	}
	return cmd
}

// genArgs wants the numbers of generations, all of which may be left out.
func genArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			if id, err := strconv.Atoi(arg); err != nil || id < 1 {
				return cli.UsageError(cmd, fmt.Errorf("%q is not the number of a generation", arg))
			}
		}
		return cli.Args(names...)(cmd, args)
	}
}

// genArg is a number that genArgs has seen; without one it is def.
func genArg(args []string, i, def int) int {
	if len(args) <= i {
		return def
	}
	id, _ := strconv.Atoi(args[i])
	return id
}

// noSuch adds where to find the numbers.
func noSuch(err error) error {
	if errors.Is(err, links.ErrNoGeneration) {
		return cli.Hint(err, "bootctl links list shows which there are")
	}
	return err
}

func linksListCommand() *cobra.Command {
	var p place
	var asJSON bool
	cmd := treeCommand(&cobra.Command{
		Use: "list [flags]", Short: "List the generations of the boot directories", Args: cli.NoArgs,
		Long: `Lists the generations of the boot directories, the last one last: how many nodes
it links, how many of them otherwise than the one before, and which command it
is by.`,
		Example: "  bootctl links list",
	}, &p, func(cmd *cobra.Command, _ []string, _ *config.Config, tree *links.Tree) error {
		list, err := listGenerations(tree)
		switch {
		case err != nil:
			return err
		case asJSON:
			return printJSON(cmd.OutOrStdout(), list)
		}
		return printGenerations(cmd.OutOrStdout(), list)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// A genLine is a generation in a list. Its JSON form only ever grows.
type genLine struct {
	ID      int       `json:"id"`
	Time    time.Time `json:"time"`
	Why     string    `json:"why"`
	Nodes   int       `json:"nodes"`
	Changed int       `json:"changed"` // nodes that the generation before links otherwise
	LiveDir string    `json:"live_dir,omitempty"`
}

func listGenerations(tree *links.Tree) ([]genLine, error) {
	ids, err := tree.GenerationIDs()
	if err != nil {
		return nil, err
	}
	list := []genLine{}
	var before links.Generation
	for _, id := range ids {
		g, err := tree.Generation(id)
		if err != nil {
			return nil, err
		}
		list = append(list, genLine{g.ID, g.Time, g.Why, len(g.Nodes), len(differ(before, g)), g.LiveDir})
		before = g
	}
	return list, nil
}

// differ returns the nodes that two generations link differently.
func differ(a, b links.Generation) (names []string) {
	all := maps.Clone(a.Nodes)
	if all == nil {
		all = map[string]links.Links{}
	}
	maps.Copy(all, b.Nodes)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if a.Nodes[name] != b.Nodes[name] {
			names = append(names, name)
		}
	}
	return names
}

func printGenerations(w io.Writer, list []genLine) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No generation yet: nothing was linked here.")
		return err
	}
	t := cli.NewTable(w, "GENERATION", "TIME", "NODES", "CHANGED", "BY")
	for _, g := range list {
		t.Row(g.ID, g.Time.Local().Format(time.DateTime), g.Nodes, g.Changed, g.Why)
	}
	return t.Flush()
}

func linksShowCommand() *cobra.Command {
	var p place
	var asJSON bool
	cmd := treeCommand(&cobra.Command{
		Use: "show [GENERATION] [flags]", Short: "Show what a generation links",
		Long:    "Shows the release and the root file system that each node has in a generation,\nthe last one unless said.",
		Example: "  bootctl links show\n  bootctl links show 3", Args: genArgs("[GENERATION]"),
	}, &p, func(cmd *cobra.Command, args []string, _ *config.Config, tree *links.Tree) error {
		g, err := tree.Generation(genArg(args, 0, 0))
		switch {
		case err != nil:
			return noSuch(err)
		case asJSON:
			return printJSON(cmd.OutOrStdout(), g)
		}
		return printGeneration(cmd.OutOrStdout(), g)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printGeneration(w io.Writer, g links.Generation) error {
	t := cli.NewTable(w, "NODE", "RELEASE", "ROOTFS")
	for _, name := range slices.Sorted(maps.Keys(g.Nodes)) {
		t.Row(name, told(g.Nodes[name]), g.Nodes[name].Rootfs)
	}
	return t.Flush()
}

// told names the release of links.
func told(l links.Links) string {
	switch id := l.Release(); {
	case l == links.Links{}:
		return "-"
	case id == "":
		return "(broken)"
	default:
		return cli.Printable(id)
	}
}

func linksDiffCommand() *cobra.Command {
	var p place
	return treeCommand(&cobra.Command{
		Use: "diff [FROM [TO]] [flags]", Short: "Show what changed between two generations",
		Long: `Shows the nodes that two generations link differently: the last two, or FROM
and the last one, or FROM and TO.`,
		Example: "  bootctl links diff\n  bootctl links diff 3 5", Args: genArgs("[FROM]", "[TO]"),
	}, &p, func(cmd *cobra.Command, args []string, _ *config.Config, tree *links.Tree) error {
		return diffGenerations(cmd.OutOrStdout(), tree, genArg(args, 0, -1), genArg(args, 1, 0))
	})
}

func diffGenerations(w io.Writer, tree *links.Tree, from, to int) error {
	a, err := tree.Generation(from)
	if err != nil {
		return noSuch(err)
	}
	b, err := tree.Generation(to)
	if err != nil {
		return noSuch(err)
	}
	for _, name := range differ(a, b) {
		was, is := told(a.Nodes[name]), told(b.Nodes[name])
		if was == is {
			is += " (other files)"
		}
		fmt.Fprintf(w, "%s: %s -> %s\n", name, was, is)
	}
	if a.LiveDir != b.LiveDir {
		fmt.Fprintf(w, "rd.live.dir: %q -> %q\n", a.LiveDir, b.LiveDir)
	}
	return nil
}

func linksRollbackCommand() *cobra.Command {
	var p place
	var dryRun bool
	cmd := treeCommand(&cobra.Command{
		Use: "rollback [GENERATION] [flags]", Short: "Link all nodes as a generation did",
		Long: `Links every node as the generation did, the one before the last unless said, to
the byte, and records that as a new generation, so that a second rollback takes
the first one back. Nodes that the generation does not have stay as they are. A
node whose release is gone stays too, and is an error: the exit status is then
3, or 1 when no node is as it should be. Nodes boot by it from their next boot
on.`,
		Example: "  bootctl links rollback --dry-run\n  bootctl links rollback 12", Args: genArgs("[GENERATION]"),
	}, &p, func(cmd *cobra.Command, args []string, _ *config.Config, tree *links.Tree) error {
		return p.rollbackTo(cmd, tree, genArg(args, 0, -1), dryRun)
	})
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and change nothing")
	return cmd
}

func (p place) rollbackTo(cmd *cobra.Command, tree *links.Tree, id int, dryRun bool) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	plan, stay, err := tree.PlanRollback(id)
	if err != nil {
		return noSuch(err)
	}
	done, word := plan.Changes, "would change"
	var applyErr error
	if !dryRun {
		word = "changed"
		if done, applyErr, err = p.write(cmd, tree, plan); err != nil {
			return err
		}
	}
	for _, c := range done {
		fmt.Fprintf(stdout, "%s %s: %s -> %s\n", word, c.Node, told(c.Old), told(c.New))
	}
	for _, name := range stay {
		fmt.Fprintf(stdout, "left %s as it is: the generation does not have it\n", name)
	}
	fmt.Fprintf(stdout, "%s %d, %d unchanged\n", word, len(done), len(plan.Unchanged))
	for _, r := range plan.Refused {
		cli.Tell(program, stderr, r.Err.Error())
	}
	switch failed := len(plan.Changes) - len(done) + len(plan.Refused); {
	case applyErr != nil:
		return cli.Error{Err: applyErr, Code: partial(len(done) + len(plan.Unchanged)), Hint: writeHint(applyErr, tree.Root().Name())}
	case failed > 0:
		return cli.Error{Err: fmt.Errorf("%d nodes failed", failed), Code: partial(len(done) + len(plan.Unchanged))}
	}
	return nil
}

// partial is the exit status where some failed and good others did not.
func partial(good int) int {
	if good > 0 {
		return cli.Partial
	}
	return cli.Failure
}

func linksCheckCommand() *cobra.Command {
	var p place
	return treeCommand(&cobra.Command{
		Use: "check [flags]", Short: "Find what is wrong with the boot directories", Args: cli.NoArgs,
		Long: `Finds links that dangle, leave the root or lead into two releases, links that
somebody else changed, directories of nodes that are not in the inventory, where
there is one, and what a killed run left. It changes nothing, prints one line
for each finding, and ends with status 1 if there is one.`,
		Example: "  bootctl links check",
	}, &p, func(cmd *cobra.Command, _ []string, c *config.Config, tree *links.Tree) error {
		found, err := tree.Check(knownTo(c.Inventory))
		if err != nil {
			return err
		}
		for _, f := range found {
			fmt.Fprintln(cmd.OutOrStdout(), cli.Printable(f.String()))
		}
		if len(found) > 0 {
			return cli.Hint(fmt.Errorf("%d findings", len(found)), "bootctl set-links makes links right, bootctl links prune shows directories of nodes that are gone")
		}
		return nil
	})
}

// knownTo reports whether an inventory has a node of that name; nil, where it
// has none at all and so cannot tell.
func knownTo(inv *node.Inventory) func(name string) bool {
	if len(inv.Nodes()) == 0 {
		return nil
	}
	return func(name string) bool { _, ok := inv.ByName(name); return ok }
}

func linksPruneCommand() *cobra.Command {
	var p place
	var yes bool
	cmd := treeCommand(&cobra.Command{
		Use: "prune [NODES] [flags]", Short: "Remove boot directories of nodes that are gone",
		Long: `Shows the boot directories of nodes that are not in the inventory, or of NODES,
a list such as ncn-w[009-012], and removes them with --yes. Those that hold
files of an administrator are refused. A rollback brings them back. A site
without an inventory has to name the nodes.`,
		Example: "  bootctl links prune\n  bootctl links prune 'ncn-w[009-012]' --yes",
	}, &p, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		plan, err := planPrune(c, tree, args)
		if err != nil {
			return err
		}
		return p.prune(cmd, tree, plan, yes)
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "remove them")
	return cmd
}

// planPrune plans that the boot directories of nodes go: those of args, or all
// that the inventory does not know.
func planPrune(c *config.Config, tree *links.Tree, args []string) (plan links.Plan, err error) {
	plan.Why = "prune"
	if len(args) == 0 {
		known := knownTo(c.Inventory)
		if known == nil {
			return plan, cli.Hint(errors.New("the inventory has no nodes, so it does not say who is gone"), "name them: bootctl links prune NODES")
		}
		return plan, tree.PlanPrune(&plan, known)
	}
	patterns, err := parsePatterns(args)
	if err != nil {
		return plan, err
	}
	used := make([]bool, len(patterns))
	err = tree.PlanPrune(&plan, func(name string) bool { return !picked(patterns, used, name) })
	if i := slices.Index(used, false); err == nil && i >= 0 {
		err = fmt.Errorf("node %q has no boot directory", patterns[i])
	}
	return plan, err
}

func (p place) prune(cmd *cobra.Command, tree *links.Tree, plan links.Plan, yes bool) error {
	done, word := plan.Changes, "would remove"
	var applyErr error
	if yes {
		var err error
		word = "removed"
		if done, applyErr, err = p.write(cmd, tree, plan); err != nil {
			return err
		}
	}
	for _, c := range done {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", word, c.Node)
	}
	for _, r := range plan.Refused {
		cli.Tell(program, cmd.ErrOrStderr(), r.Err.Error())
	}
	if n := len(plan.Refused); applyErr == nil && n > 0 {
		applyErr = fmt.Errorf("%d of %d directories cannot be removed", n, n+len(plan.Changes))
	}
	if applyErr != nil {
		return cli.Error{Err: applyErr, Code: partial(len(done)), Hint: writeHint(applyErr, tree.Root().Name())}
	}
	return nil
}
