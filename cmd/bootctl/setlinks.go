package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"bootd/artifacts"
	"bootd/bmc"
	"bootd/internal/admin"
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
		Short: "Point boot directories at the releases that nodes should boot",
		Long: `Finds the complete releases under ROOT/ephemeral/data and points the boot
directory of every node of the inventory at the one it should boot: the release
its node or role is pinned to, else the newest of its role's channel. The links
of a node switch together, so that no node boots a mix of two releases. Nodes
that are linked as they should be are not touched.

Without an inventory it does what set-sqfs-links.sh does, on the files of that
site: the nodes are those that hold a lease, NODE or NODE-mgmt, and a name that
fits a role. With IPMI_PASSWORD in the environment their BMCs are made to use
DHCP first, and waited for. This machine's own is left alone. Each node gets a
copy of ROOT/boot/script.ipxe, if there is one; copies that were edited stay.

With CSM_RELEASE in the environment, the nodes keep their images in that
directory (rd.live.dir on their kernel command line), without it in LiveOS.

Where bootd runs for the same root, it does the work.

The exit status is 0 when all nodes are linked as they should be, 3 when some
are not, or BMCs have no lease, and 1 when none is.`,
		Example: `  bootctl set-links --dry-run
  bootctl set-links --config bootd.yaml --node 'ncn-m[001-003],ncn-s*' --dry-run
  bootctl set-links --release kubernetes=1.2.3 --channel storage-ceph=unstable`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.liveDir = os.Getenv("CSM_RELEASE")
			return s.run(cmd)
		},
	}
	s.place.flags(cmd)
	s.sources.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&s.role, "role", "", "only nodes of this `ROLE`")
	f.StringArrayVar(&s.nodes, "node", nil, "only these nodes, a `LIST` such as ncn-m[001-003],ncn-s*")
	f.StringSliceVar(&s.releases, "release", nil, "pin a role for this once, `ROLE=ID`; a node's own pin still counts")
	f.StringSliceVar(&s.channels, "channel", nil, "stable or unstable for a role for this once, `ROLE=CHANNEL`")
	f.BoolVar(&s.skipBMC, "skip-bmc", false, "leave the BMCs alone, and take the leases as they are")
	f.DurationVar(&s.wait, "bmc-wait", 5*time.Minute, "wait so `LONG` for the leases of the BMCs")
	f.BoolVar(&s.allowMissing, "allow-missing", false, "go on without the BMCs that have no lease by then")
	s.talk.flags(cmd, "bmc-")
	f.BoolVar(&s.prune, "prune", false, "remove the boot directories of nodes that are not in the inventory")
	f.BoolVar(&s.dryRun, "dry-run", false, "say what would change and change nothing")
	f.BoolVar(&s.json, "json", false, "print one JSON object")
	return cmd
}

// A place is where a command works: the configuration and the root.
type place struct {
	config, root string
	named        func() bool // the configuration was named
}

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.config, "config", defaultConfig, "read root, roles and nodes from this `FILE`")
	cmd.Flags().StringVar(&p.root, "root", "", "use this `DIR` instead of the root in the configuration")
	p.named = func() bool { return cmd.Flags().Changed("config") }
}

// load returns the configuration, with the root as an absolute path. A site
// without bootd has none, and gets the defaults.
func (p place) load() (*config.Config, error) {
	c, err := config.Load(p.config)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !p.named():
		c = config.Default()
	case errors.Is(err, fs.ErrNotExist):
		return nil, cli.Hint(err, "name the file with --config FILE, or write one with: bootd config init")
	case errors.Is(err, fs.ErrPermission):
		return nil, cli.Hint(err, "run bootctl as root: nodes in the state directory are part of the configuration")
	case err != nil:
		return nil, err
	}
	abs, err := filepath.Abs(cmp.Or(p.root, c.Root))
	if err != nil {
		return nil, err
	}
	c.Root = abs
	return c, nil
}

// onHost completes a configuration with the addresses of this machine, as the
// daemon does at its start. On another machine the error says what is missing,
// with its remedy, and the configuration has what is known.
func onHost(c *config.Config) (*config.Config, error) {
	resolved, err := c.Resolve(config.InterfaceAddrs)
	if err != nil {
		return c.Known(config.InterfaceAddrs), cli.Hint(err, "run it on the provisioning host, whose addresses the configuration does not have")
	}
	return resolved, nil
}

// open opens the tree of a configuration.
func (p place) open(c *config.Config) (*links.Tree, error) {
	tree, err := links.Open(c.Root)
	if err != nil {
		return nil, cli.Hint(fmt.Errorf("root: %w", err), "name the directory with --root DIR, or as root: in "+p.config)
	}
	return tree, nil
}

// A writer changes boot directories: the tree itself, or the daemon that has
// the same one.
type writer interface {
	ApplyLinks(ctx context.Context, p links.Plan) ([]links.Change, error)
}

// alone is the writer where no daemon is.
type alone struct{ *links.Tree }

// ApplyLinks does it on the files.
func (a alone) ApplyLinks(ctx context.Context, p links.Plan) ([]links.Change, error) {
	return a.Apply(ctx, p)
}

// writer returns the daemon where one runs for the same root and may write
// there, so that there is one writer; else the tree.
func (p place) writer(cmd *cobra.Command, tree *links.Tree) (writer, error) {
	daemon := client(cmd)
	h, err := daemon.Health(cmd.Context())
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return alone{tree}, nil
	case err != nil:
		return nil, explained(err)
	case !h.Writes || !sameFile(h.Root, tree.Root().Name()):
		return alone{tree}, nil
	}
	return daemon, nil
}

// sameFile reports whether two paths are of one file or directory.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// setLinks is the command with its flags and its environment.
type setLinks struct {
	place
	sources
	talk
	role                  string
	nodes                 []string
	releases, channels    []string
	liveDir               string // CSM_RELEASE
	skipBMC, allowMissing bool
	prune                 bool
	wait                  time.Duration
	dryRun, json          bool
	secret                bmc.Secret // of the BMCs; zero: they are left alone
}

// run does what the script of source 004 does, in its order: find the images,
// say which they are, prepare the BMCs, and link.
func (s *setLinks) run(cmd *cobra.Command) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	if err := s.checkFlags(cmd, c.Inventory); err != nil {
		return err
	}
	who, err := s.muster(cmd, c)
	if err != nil {
		return err
	}
	tree, err := s.open(c)
	if err != nil {
		return err
	}
	defer tree.Close()
	r := newReport(c.Root, s.dryRun)
	r.config, r.liveDir = s.config, s.liveDir
	r.out, r.err, r.json = cmd.OutOrStdout(), cmd.ErrOrStderr(), s.json
	choose, err := s.resolve(cmd, c, tree, who, r)
	if err != nil {
		return err
	}
	r.notFound()
	r.printSelections()
	if err := r.kernels(c.Kernels); err != nil {
		return err
	}
	r.closed(tree.Root())
	if len(r.Selections) > 0 {
		if err := s.prepare(cmd, who, r); err != nil {
			return r.stopped(err)
		}
		r.notes(who)
	}
	if who.leases {
		choose(who.nodes)
		r.absent(who)
	}
	if len(r.Nodes) == 0 {
		return r.nobody()
	}
	r.cmdlines()
	applyErr, err := s.apply(cmd, c.Inventory, tree, r)
	if err != nil {
		return err
	}
	if err := r.print(); err != nil {
		return err
	}
	return r.verdict(applyErr)
}

// resolve finds what the nodes should boot. The function that it returns does so
// again, for the nodes that there are by then.
func (s *setLinks) resolve(cmd *cobra.Command, c *config.Config, tree *links.Tree, who *census, r *report) (choose func([]node.Node), err error) {
	settings, err := tree.Settings()
	if err != nil {
		return nil, err
	}
	if r.roles, err = s.override(c.Inventory, settings); err != nil {
		return nil, err
	}
	r.wasLive = settings.LiveDir
	r.say("Resolving images to boot ... ")
	who.inPlay(tree, r.roles)
	catalogs := scan(tree, r.roles, who)
	if err := trusted(tree, c, r.roles, catalogs); err != nil {
		return nil, err
	}
	choose = func(nodes []node.Node) {
		choices := artifacts.Resolve(pinned(nodes, settings), catalogs)
		r.gone = unpinHint(choices, settings, r.roles, c)
		unaltered(cmd.Context(), tree, r.roles, choices, r.err)
		r.resolved(choices, catalogs, who.roles)
	}
	choose(who.all())
	return choose, nil
}

// misuse marks a value on the command line that no site makes right. The name of
// a node or a role that the configuration does not have is none.
func misuse(err error) error { return cli.Error{Err: err, Code: cli.Usage} }

// parsePatterns reads patterns of nodes on the command line.
func parsePatterns(lists []string) ([]node.Pattern, error) {
	patterns, err := node.ParsePatterns(strings.Join(lists, ","))
	if err != nil {
		return nil, misuse(err)
	}
	return patterns, nil
}

// checkFlags refuses wrong flags before anything is looked at.
func (s *setLinks) checkFlags(cmd *cobra.Command, inv *node.Inventory) error {
	err := s.check("bmc-")
	if s.wait < 0 {
		err = errors.New("--bmc-wait: a wait is not below zero")
	}
	if err != nil {
		return cli.UsageError(cmd, err)
	}
	if s.prune && knownTo(inv) == nil {
		return cli.Hint(errors.New("--prune: the inventory has no nodes, so it does not say who is gone"), "name them: bootctl links prune NODES")
	}
	if _, ok := inv.Role(s.role); s.role != "" && !ok {
		return fmt.Errorf("there is no role %q", s.role)
	}
	if err := links.CheckLiveDir(s.liveDir); err != nil {
		return fmt.Errorf("CSM_RELEASE: %w", err)
	}
	if s.secret, err = s.password(); err != nil {
		return err
	}
	_, err = s.override(inv, links.Settings{})
	return err
}

// pick returns the nodes of the inventory that the flags leave, in its order.
func (s *setLinks) pick(inv *node.Inventory) ([]node.Node, error) {
	nodes, err := pickNodes(inv, s.nodes)
	if err != nil || s.role == "" {
		return nodes, err
	}
	of := slices.DeleteFunc(slices.Clone(nodes), func(n node.Node) bool { return n.Role != s.role })
	switch {
	case len(of) > 0:
		return of, nil
	case len(s.nodes) > 0:
		return nil, fmt.Errorf("node %q is not of role %s but of role %s", nodes[0].Name, s.role, nodes[0].Role)
	}
	return nil, fmt.Errorf("the inventory has no node of role %s", s.role)
}

// pickNodes returns the nodes that the patterns stand for, each of which must
// stand for one at least; all, where there is no pattern.
func pickNodes(inv *node.Inventory, lists []string) ([]node.Node, error) {
	if len(lists) == 0 {
		return inv.Nodes(), nil
	}
	patterns, err := parsePatterns(lists)
	if err != nil {
		return nil, err
	}
	return inv.Pick(patterns)
}

// pinned returns the nodes with the pins of "bootctl release pin", which count
// more than those of the configuration.
func pinned(nodes []node.Node, s links.Settings) []node.Node {
	nodes = slices.Clone(nodes)
	for i, n := range nodes {
		nodes[i].Release = cmp.Or(s.Nodes[n.Name], n.Release)
	}
	return nodes
}

// pinnedRoles does so for roles.
func pinnedRoles(inv *node.Inventory, s links.Settings) map[string]node.Role {
	roles := map[string]node.Role{}
	for name, r := range inv.Roles() {
		r.Release = cmp.Or(s.Roles[name], r.Release)
		roles[name] = r
	}
	return roles
}

// override returns the roles with what the flags say instead of the
// configuration and the settings.
func (s *setLinks) override(inv *node.Inventory, settings links.Settings) (map[string]node.Role, error) {
	roles := pinnedRoles(inv, settings)
	for _, x := range s.channels {
		name, channel, err := s.forRole("--channel", x, inv)
		if err != nil {
			return nil, err
		}
		if channel != string(artifacts.Stable) && channel != string(artifacts.Unstable) {
			return nil, misuse(fmt.Errorf("--channel %s: %q is not stable or unstable", x, channel))
		}
		r := roles[name]
		r.Channel, r.Release = channel, ""
		roles[name] = r
	}
	for _, x := range s.releases {
		name, id, err := s.forRole("--release", x, inv)
		if err != nil {
			return nil, err
		}
		r := roles[name]
		r.Release = id
		roles[name] = r
	}
	return roles, nil
}

// forRole splits ROLE=VALUE. With --role the value may stand alone.
func (s *setLinks) forRole(flag, text string, inv *node.Inventory) (role, value string, err error) {
	role, value, ok := strings.Cut(text, "=")
	if !ok {
		role, value = s.role, text
	}
	_, known := inv.Role(role)
	switch {
	case role == "" || value == "":
		return "", "", misuse(fmt.Errorf("%s %s: of which role? write ROLE=%s", flag, text, cmp.Or(value, "VALUE")))
	case !known:
		return "", "", fmt.Errorf("%s %s: there is no role %q", flag, text, role)
	}
	return role, value, nil
}

// scan looks for the releases of the roles that count.
func scan(tree *links.Tree, roles map[string]node.Role, who *census) map[string]artifacts.Catalog {
	catalogs := map[string]artifacts.Catalog{}
	for _, name := range who.roles {
		catalogs[name] = artifacts.Scan(tree.Root(), roles[name])
	}
	for _, n := range who.all() {
		if _, done := catalogs[n.Role]; !done {
			catalogs[n.Role] = artifacts.Scan(tree.Root(), roles[n.Role])
		}
	}
	return catalogs
}

// apply plans and, unless this is a dry run, applies. What comes of each node
// goes into r; applyErr is why some of the plan is not done.
func (s *setLinks) apply(cmd *cobra.Command, inv *node.Inventory, tree *links.Tree, r *report) (applyErr, err error) {
	plan, err := tree.Plan(r.wanted())
	if err != nil {
		return nil, err
	}
	plan.Why, plan.LiveDir = "set-links", &s.liveDir
	if err := tree.PlanScripts(&plan, r.scriptArgs()); err != nil {
		return nil, err
	}
	if s.prune {
		if err := tree.PlanPrune(&plan, knownTo(inv)); err != nil {
			return nil, err
		}
	}
	done := plan.Changes
	if !s.dryRun {
		done, applyErr, err = s.write(cmd, tree, plan)
		if err != nil {
			return nil, err
		}
	}
	r.planned(plan, done, applyErr)
	return applyErr, nil
}

// write carries out a plan, unless it is empty, and shows on a terminal how far
// it is.
func (p place) write(cmd *cobra.Command, tree *links.Tree, plan links.Plan) (done []links.Change, applyErr, err error) {
	if same, err := tree.NothingToDo(plan); same || err != nil {
		return nil, nil, err
	}
	w, err := p.writer(cmd, tree)
	if err != nil {
		return nil, nil, err
	}
	b := newCounter(cmd.ErrOrStderr(), "switching", len(plan.Changes))
	defer b.done()
	plan.Done = func(links.Change) { b.add(1) }
	done, applyErr = w.ApplyLinks(cmd.Context(), plan)
	return done, explained(applyErr), nil
}

// writeHint returns the remedy for a root that cannot be written to. Where root
// may not, it is the daemon that was asked to.
func writeHint(err error, root string) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return "the root is on a file system that is mounted read-only"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		return fmt.Sprintf("bootd, which does the work, may not: chown -Rh --reference=%s %s gives everything there to the owner of the directory", root, root)
	case errors.Is(err, fs.ErrPermission):
		return "run bootctl as root or as the owner of " + root
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the file system of the root is full: bootctl release prune shows what can go"
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		return "put the root on ext4, xfs, btrfs or tmpfs, or remove the node's directory and run bootctl again"
	}
	return ""
}
