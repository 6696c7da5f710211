package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"bootd/artifacts"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"

	"github.com/spf13/cobra"
)

func releasesCommand() *cobra.Command {
	var p place
	var role string
	var asJSON bool
	cmd := treeCommand(&cobra.Command{
		Use: "releases [flags]", Short: "List the releases and who boots them", Args: cli.NoArgs,
		Long: `Lists the releases of all roles, the newest first. COMPLETE says what is wrong
with one that is not. VERIFIED is yes where its files were read and are what its
manifest says, and did not change since; bootctl release verify reads them.`,
		Example: "  bootctl releases\n  bootctl releases --role kubernetes",
	}, &p, func(cmd *cobra.Command, _ []string, c *config.Config, tree *links.Tree) error {
		list, err := listReleases(c, tree, role)
		switch {
		case err != nil:
			return err
		case asJSON:
			return printJSON(cmd.OutOrStdout(), list)
		}
		return printReleases(cmd.OutOrStdout(), list)
	})
	cmd.Flags().StringVar(&role, "role", "", "only releases of this `ROLE`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// A releaseLine is a release in a list. Its JSON form only ever grows.
type releaseLine struct {
	Role     string   `json:"role"`
	Release  string   `json:"release"`
	Channel  string   `json:"channel"`
	Arch     string   `json:"arch,omitempty"`
	Kernel   string   `json:"kernel_version,omitempty"`
	Size     int64    `json:"size"` // bytes
	Problem  string   `json:"problem,omitempty"`
	Verified bool     `json:"verified"`
	Nodes    []string `json:"nodes"` // that boot it
	Pinned   []string `json:"pinned,omitempty"`

	Family node.Family `json:"family,omitempty"` // of the image that it was made of
	Rootfs node.Rootfs `json:"rootfs,omitempty"` // what its third member is; empty: a squashfs
}

func listReleases(c *config.Config, tree *links.Tree, only string) ([]releaseLine, error) {
	roles, err := rolesOf(c, only)
	if err != nil {
		return nil, err
	}
	uses, err := tree.InUse()
	if err != nil {
		return nil, err
	}
	settings, err := tree.Settings()
	if err != nil {
		return nil, err
	}
	pins := pinsOf(c.Inventory, settings)
	list := []releaseLine{}
	for _, role := range roles {
		for _, l := range releasesOf(tree, role) {
			use := links.Use{Dir: role.Dir, Release: l.Release}
			l.Nodes = append([]string{}, uses[use]...)
			l.Pinned = pins[use]
			list = append(list, l)
		}
	}
	return list, nil
}

// releasesOf returns the releases of a role, the newest first.
func releasesOf(tree *links.Tree, role node.Role) (list []releaseLine) {
	cat := artifacts.Scan(tree.Root(), role)
	for _, s := range cat.Sets {
		list = append(list, releaseLine{Role: s.Role, Release: s.Release, Channel: string(s.Channel), Arch: s.Arch,
			Kernel: s.KernelVersion(), Size: s.Size(), Verified: artifacts.Verified(tree.Root(), s), Family: s.Family, Rootfs: s.Rootfs})
	}
	for _, p := range cat.Problems {
		i := slices.IndexFunc(list, func(l releaseLine) bool { return l.Release == p.Release && l.Arch == p.Arch && l.Problem != "" })
		switch {
		case p.Release == "":
		case i >= 0:
			list[i].Problem += "; " + p.Error()
		default:
			list = append(list, releaseLine{Role: p.Role, Release: p.Release, Channel: string(artifacts.ChannelOf(p.Release)), Arch: p.Arch, Problem: p.Error()})
		}
	}
	slices.SortStableFunc(list, func(a, b releaseLine) int { return artifacts.Compare(b.Release, a.Release) })
	return list
}

// pinsOf returns who is pinned to which release.
func pinsOf(inv *node.Inventory, s links.Settings) map[links.Use][]string {
	pins := map[links.Use][]string{}
	roles := pinnedRoles(inv, s)
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		if r := roles[name]; r.Release != "" {
			u := links.Use{Dir: r.Dir, Release: r.Release}
			pins[u] = append(pins[u], "role "+name)
		}
	}
	nodes := pinned(inv.Nodes(), s)
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		if _, listed := inv.ByName(name); listed {
			continue
		}
		if role, err := roleOfNode(inv, name); err == nil && role != "" {
			nodes = append(nodes, node.Node{Name: name, Role: role, Release: s.Nodes[name]})
		}
	}
	for _, n := range nodes {
		if n.Release != "" {
			u := links.Use{Dir: roles[n.Role].Dir, Release: n.Release}
			pins[u] = append(pins[u], n.Name)
		}
	}
	return pins
}

func printReleases(w io.Writer, list []releaseLine) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No release is there. Bring one in with: bootctl release import ROLE DIR")
		return err
	}
	t := cli.NewTable(w, "ROLE", "RELEASE", "CHANNEL", "ARCH", "KERNEL", "SIZE", "VERIFIED", "IN USE BY", "COMPLETE").
		Spare("KERNEL", "ARCH", "CHANNEL", "SIZE", "VERIFIED")
	for _, l := range list {
		verified, complete := "no", "yes"
		if l.Verified {
			verified = "yes"
		}
		bytes := size(l.Size)
		if l.Problem != "" {
			complete, verified, bytes = "NO: "+l.Problem, "-", "-"
		}
		t.Row(l.Role, l.Release, l.Channel, l.Arch, l.Kernel, bytes, verified, few(l.Nodes), complete)
	}
	return t.Flush()
}

// few names some nodes and counts the rest.
func few(nodes []string) string {
	switch {
	case len(nodes) == 0:
		return "-"
	case len(nodes) > 3:
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:2], ","), len(nodes)-2)
	}
	return strings.Join(nodes, ",")
}

func releaseGroupCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use: "release", Short: "Bring releases in, check, pin and remove them",
		Long: `Brings releases in, checks, pins and removes them. A release is a kernel, an
initrd and a root file system of one role that belong together. bootctl releases
lists them, and bootctl set-links has nodes boot them.`,
		Example: "  bootctl release import kubernetes /mnt/1.2.3\n  bootctl release pin ncn-m001 1.2.3",
	})
	cmd.AddCommand(releaseImportCommand(), releaseVerifyCommand(), releasePinCommand(), releaseUnpinCommand(), releaseRemoveCommand(), releasePruneCommand())
	return cmd
}

// roleArg finds the role that an argument names.
func roleArg(c *config.Config, name string) (node.Role, error) {
	role, ok := c.Inventory.Role(name)
	if !ok {
		return role, fmt.Errorf("there is no role %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(c.Inventory.Roles())), ", "))
	}
	return role, nil
}

// rolesOf returns the role that is named, or all by name where none is.
func rolesOf(c *config.Config, only string) (roles []node.Role, err error) {
	if only != "" {
		role, err := roleArg(c, only)
		return []node.Role{role}, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Inventory.Roles())) {
		role, _ := c.Inventory.Role(name)
		roles = append(roles, role)
	}
	return roles, nil
}

// signers reads the keys whose signatures count; nil: there are none.
func signers(c *config.Config) (artifacts.Keys, error) {
	if c.Signers == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.Signers)
	if err != nil {
		return nil, fmt.Errorf("signers: %w", err)
	}
	keys, err := artifacts.ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("signers: %s: %w", c.Signers, err)
	}
	return keys, nil
}

func releaseImportCommand() *cobra.Command {
	var p place
	return treeCommand(&cobra.Command{
		Use: "import ROLE DIR|TAR|- [flags]", Short: "Bring a release in from a directory or a tar",
		Long: `Copies a release into ROOT/ephemeral/data from a directory, a tar (with gzip or
without) or a tar on standard input. Its files say which release it is. The
release appears when all of it is there, was read and is what it should be, with
a manifest of sizes and SHA-256; whatever goes wrong before leaves nothing.`,
		Example: "  bootctl release import kubernetes /mnt/1.2.3\n  ssh other tar -cC /var/www/ephemeral/data/k8s 1.2.3 |\n      bootctl release import kubernetes -",
		Args:    cli.Args("ROLE", "DIR, TAR or -"),
	}, &p, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		role, err := roleArg(c, args[0])
		if err != nil {
			return err
		}
		keys, err := signers(c)
		if err != nil {
			return err
		}
		sets, err := importFrom(cmd, artifacts.Import{Root: tree.Root(), Role: role, Keys: keys}, args[1])
		if err != nil {
			return importHint(err)
		}
		for _, s := range sets {
			fmt.Fprintf(cmd.OutOrStdout(), "imported %s %s: kernel %s, %s\n", s.Role, s.Release, s.KernelVersion(), size(s.Size()))
		}
		return nil
	})
}

func importHint(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w, nothing was imported", context.Canceled)
	case errors.Is(err, syscall.ENOSPC):
		return cli.Hint(err, "bootctl release prune shows what can go")
	case errors.Is(err, fs.ErrExist):
		return cli.Hint(err, "bootctl release verify checks it, bootctl release remove removes it")
	}
	return err
}

// importFrom imports from what a person names: "-", a directory or a file.
func importFrom(cmd *cobra.Command, i artifacts.Import, from string) ([]artifacts.Set, error) {
	b := newBar(cmd.ErrOrStderr(), "importing", sizeOf(from))
	defer b.done()
	i.Progress = b.add
	if fi, err := os.Stat(from); err == nil && fi.IsDir() {
		src, err := os.OpenRoot(from)
		if err != nil {
			return nil, err
		}
		defer src.Close()
		return i.Dir(cmd.Context(), src)
	}
	in, done, err := input(cmd, from)
	if err != nil {
		return nil, err
	}
	defer done()
	return i.Tar(cmd.Context(), in)
}

// input opens a file, "-" for standard input. An interrupt ends reads of it,
// which may be a pipe.
func input(cmd *cobra.Command, from string) (in io.Reader, done func(), err error) {
	file, closeFile := cmd.InOrStdin(), func() {}
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return nil, nil, err
		}
		file, closeFile = f, func() { f.Close() }
	}
	r, err := cli.Input(cmd.Context(), file)
	if err != nil {
		closeFile()
		return nil, nil, err
	}
	return r, func() { r.Close(); closeFile() }, nil
}

// sizeOf returns how many bytes a file has, or the files of a directory; zero:
// that is not known.
func sizeOf(path string) (n int64) {
	fi, err := os.Stat(path)
	if err == nil && fi.Mode().IsRegular() {
		return fi.Size()
	}
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			n += fi.Size()
		}
	}
	return n
}

func releaseVerifyCommand() *cobra.Command {
	var p place
	return treeCommand(&cobra.Command{
		Use: "verify [ROLE [RELEASE]] [flags]", Short: "Read releases and compare them with their manifests",
		Long: `Reads all files of a release, of the releases of a role, or of all, and compares
them with the sizes and SHA-256 of their manifests; where a role wants releases
signed, also the signature. The exit status is 3 when some releases are not good
and others are, and 1 when none is.`,
		Example: "  bootctl release verify\n  bootctl release verify kubernetes 1.2.3", Args: cli.Args("[ROLE]", "[RELEASE]"),
	}, &p, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		return verifyReleases(cmd, c, tree, args)
	})
}

func verifyReleases(cmd *cobra.Command, c *config.Config, tree *links.Tree, args []string) error {
	roles, err := rolesOf(c, strings.Join(args[:min(1, len(args))], ""))
	if err != nil {
		return err
	}
	keys, err := signers(c)
	if err != nil {
		return err
	}
	good, bad := 0, 0
	for _, role := range roles {
		cat := artifacts.Scan(tree.Root(), role)
		asked := func(id string) bool { return id != "" && (len(args) < 2 || args[1] == id) }
		for _, s := range cat.Sets {
			if !asked(s.Release) {
				continue
			}
			b := newBar(cmd.ErrOrStderr(), "reading "+s.Release, s.Size())
			err := artifacts.Verify(cmd.Context(), tree.Root(), s, b.add)
			b.done()
			if err == nil && role.Signed {
				err = keys.Signed(tree.Root(), s)
			}
			if err != nil {
				bad++
				cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("role %s: release %s: %v", role.Name, s.Release, err))
				continue
			}
			good++
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s is what its manifest says\n", role.Name, s.Release)
		}
		for _, x := range cat.Problems {
			if asked(x.Release) {
				bad++
				cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("role %s: release %s: %v", role.Name, x.Release, x))
			}
		}
	}
	switch {
	case bad > 0:
		return cli.Error{Err: fmt.Errorf("%d of %d releases are not good", bad, good+bad), Code: partial(good)}
	case good == 0:
		return errors.New("there is no such release")
	}
	return nil
}

// A keeper knows why releases must stay. It is true while the lock is held.
type keeper struct {
	uses map[links.Use][]string
	back map[links.Use]int
	pins map[links.Use][]string
}

func newKeeper(c *config.Config, tree *links.Tree) (k keeper, err error) {
	if k.uses, err = tree.InUse(); err != nil {
		return k, err
	}
	if k.back, err = tree.Rollbacks(); err != nil {
		return k, err
	}
	settings, err := tree.Settings()
	k.pins = pinsOf(c.Inventory, settings)
	return k, err
}

// why returns why a release must stay; empty: it need not.
func (k keeper) why(dir, release string) string {
	u := links.Use{Dir: dir, Release: release}
	switch {
	case len(k.uses[u]) > 0:
		return "is booted by " + few(k.uses[u])
	case len(k.pins[u]) > 0:
		return "is what " + few(k.pins[u]) + " is pinned to"
	case k.back[u] > 0:
		return fmt.Sprintf("is needed by a rollback to generation %d", k.back[u])
	}
	return ""
}

func releaseRemoveCommand() *cobra.Command {
	var p place
	return treeCommand(&cobra.Command{
		Use: "remove ROLE RELEASE [flags]", Short: "Remove a release that nobody needs",
		Long: `Removes a release. One that a node boots or is pinned to, or that one of the
last three generations links, is refused.`,
		Example: "  bootctl release remove kubernetes 1.2.3", Args: cli.Args("ROLE", "RELEASE"),
	}, &p, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		role, err := roleArg(c, args[0])
		if err != nil {
			return err
		}
		return tree.Alone(cmd.Context(), func() error {
			k, err := newKeeper(c, tree)
			if err != nil {
				return err
			}
			if why := k.why(role.Dir, args[1]); why != "" {
				return fmt.Errorf("release %s of role %s %s", args[1], role.Name, why)
			}
			if err := artifacts.Remove(tree.Root(), role, args[1]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s %s\n", role.Name, args[1])
			return nil
		})
	})
}

func releasePruneCommand() *cobra.Command {
	var p place
	var keep int
	var role string
	var yes bool
	cmd := treeCommand(&cobra.Command{
		Use: "prune [flags]", Short: "Remove old releases that nobody needs", Args: cli.NoArgs,
		Long: `Shows the releases of each role that are older than the newest N complete ones
of their channel and that nobody needs, and removes them with --yes.`,
		Example: "  bootctl release prune\n  bootctl release prune --role kubernetes --keep 2 --yes",
	}, &p, func(cmd *cobra.Command, _ []string, c *config.Config, tree *links.Tree) error {
		if keep < 1 {
			return cli.UsageError(cmd, fmt.Errorf("--keep %d: one release at least must stay", keep))
		}
		return tree.Alone(cmd.Context(), func() error { return pruneReleases(cmd.Context(), cmd.OutOrStdout(), c, tree, role, keep, yes) })
	})
	cmd.Flags().IntVar(&keep, "keep", 3, "keep the newest `N` of each role and channel")
	cmd.Flags().StringVar(&role, "role", "", "only releases of this `ROLE`")
	cmd.Flags().BoolVar(&yes, "yes", false, "remove them")
	return cmd
}

func pruneReleases(ctx context.Context, w io.Writer, c *config.Config, tree *links.Tree, only string, keep int, yes bool) error {
	roles, err := rolesOf(c, only)
	if err != nil {
		return err
	}
	k, err := newKeeper(c, tree)
	if err != nil {
		return err
	}
	var freed int64
	for _, role := range roles {
		for _, s := range old(artifacts.Scan(tree.Root(), role), keep) {
			if why := k.why(role.Dir, s.Release); why != "" {
				fmt.Fprintf(w, "kept %s %s: it %s\n", role.Name, s.Release, why)
				continue
			}
			word := "would remove"
			if yes {
				word = "removed"
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := artifacts.Remove(tree.Root(), role, s.Release); err != nil {
					return err
				}
			}
			fmt.Fprintf(w, "%s %s %s (%s)\n", word, role.Name, s.Release, size(s.Size()))
			freed += s.Size()
		}
	}
	if !yes && freed > 0 {
		fmt.Fprintf(w, "nothing was removed; with --yes %s would be\n", size(freed))
	}
	return nil
}

// old returns what is older than the newest releases of each channel.
func old(cat artifacts.Catalog, keep int) (sets []artifacts.Set) {
	seen := map[artifacts.Channel][]string{}
	for _, s := range cat.Sets {
		ids := seen[s.Channel]
		if !slices.Contains(ids, s.Release) {
			ids = append(ids, s.Release)
			seen[s.Channel] = ids
			if len(ids) > keep {
				sets = append(sets, s)
			}
		}
	}
	return sets
}

// trusted takes releases away that are not signed as their role wants it.
func trusted(tree *links.Tree, c *config.Config, roles map[string]node.Role, catalogs map[string]artifacts.Catalog) error {
	for name, cat := range catalogs {
		if !roles[name].Signed {
			continue
		}
		keys, err := signers(c)
		if err != nil {
			return err
		}
		cat.OnlySigned(tree.Root(), keys)
		catalogs[name] = cat
	}
	return nil
}

// unaltered reads the chosen sets of roles that want signatures, so that an
// altered one is not linked.
func unaltered(ctx context.Context, tree *links.Tree, roles map[string]node.Role, choices []artifacts.Choice, stderr io.Writer) {
	verdicts := map[artifacts.Set]error{}
	for i, ch := range choices {
		if ch.Err != nil || !roles[ch.Node.Role].Signed {
			continue
		}
		err, known := verdicts[ch.Set]
		if !known {
			b := newBar(stderr, "reading "+ch.Set.Release, ch.Set.Size())
			err = artifacts.Verify(ctx, tree.Root(), ch.Set, b.add)
			b.done()
			if err != nil {
				err = fmt.Errorf("release %s: %s: %w", ch.Set.Release, path.Dir(ch.Set.Kernel), err)
			}
			verdicts[ch.Set] = err
		}
		choices[i].Err = err
	}
}
