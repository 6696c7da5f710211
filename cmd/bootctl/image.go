package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"bootd/artifacts"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/isofs"
	"bootd/internal/node"
	"bootd/ipxe"
	"bootd/links"

	"github.com/spf13/cobra"
)

func imageCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use: "image", Short: "See what an ISO image boots, and make a release of it",
		Long:    "Shows what an ISO image of an installer or a live system boots, and makes a\nrelease of it, which nodes then boot from the network.",
		Example: "  bootctl image show palette-edge-installer.iso\n  bootctl image import palette-edge-installer.iso --role edge --release 4.5.8",
	})
	cmd.AddCommand(imageShowCommand(), imageImportCommand())
	return cmd
}

func imageShowCommand() *cobra.Command {
	var asISO, asJSON bool
	cmd := &cobra.Command{
		Use: "show IMAGE.iso [flags]", Short: "Show what an ISO image is, and what its nodes would be told",
		Long: `Reads an ISO 9660 image, and shows of which family of systems it is, which of
its files become kernel, initrd and root file system, what was baked into it,
and the kernel arguments that nodes get where their role has none. Changes
nothing.`,
		Example: "  bootctl image show palette-edge-installer.iso", Args: cli.Args("IMAGE.iso"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		image, closeImage, err := openImage(args[0], asISO)
		if err != nil {
			return err
		}
		defer closeImage()
		if asJSON {
			return printJSON(cmd.OutOrStdout(), shownImage{image, argsOf(image)})
		}
		return printImage(cmd.OutOrStdout(), image)
	}
	cmd.Flags().BoolVar(&asISO, "as-iso", false, "show it as a release that keeps the whole image")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// A shownImage is an image for programs. Its JSON form only ever grows.
type shownImage struct {
	*artifacts.Image
	Args map[node.Firmware]string `json:"args"` // kernel arguments, by firmware mode
}

func argsOf(image *artifacts.Image) map[node.Firmware]string {
	args := map[node.Firmware]string{}
	for _, fw := range []node.Firmware{node.BIOS, node.UEFI} {
		args[fw] = ipxe.ShowArgs(image.Family, image.Rootfs, fw)
	}
	return args
}

// openImage opens an image and settles what becomes of it.
func openImage(name string, asISO bool) (*artifacts.Image, func(), error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	image, err := artifacts.OpenImage(f)
	if err == nil && asISO {
		err = image.Whole()
	}
	if err == nil {
		err = image.Settle()
	}
	if err != nil {
		f.Close()
		return nil, nil, imageHint(err)
	}
	return image, func() { f.Close() }, nil
}

func imageHint(err error) error {
	switch {
	case errors.Is(err, isofs.ErrNotISO):
		return cli.Hint(err, "bootctl release import takes a directory or a tar of kernel, initrd and squashfs")
	case errors.Is(err, artifacts.ErrNoFamily):
		return cli.Hint(err, "docs/images.md has the families; the files of another image can be named as a release, and imported with bootctl release import")
	}
	return err
}

func printImage(w io.Writer, i *artifacts.Image) error {
	fmt.Fprintf(w, "%s: %s, kernel %s, volume %s, %s\n", cli.Printable(i.Name), i.Family, cmp.Or(i.Kernel, "unknown"), cmp.Or(cli.Printable(i.Label), "without a label"), size(i.Size))
	t := cli.NewTable(w)
	for _, m := range i.Members {
		t.Row("  "+m.Member, cmp.Or(m.Path, "the image itself"), size(m.Size))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(i.Baked) > 0 {
		fmt.Fprintln(w, "baked in:")
	}
	t = cli.NewTable(w)
	for _, b := range i.Baked {
		t.Row("  "+b.Path, b, size(b.Size))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "kernel arguments, where its role has none:")
	args := argsOf(i)
	fmt.Fprintf(w, "  BIOS: %s\n  UEFI: %s\n", args[node.BIOS], args[node.UEFI])
	for _, note := range i.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	return nil
}

// An imageImport is the command with its flags.
type imageImport struct {
	place
	role, release, sum string
	asISO, dryRun      bool
	json               bool
}

func imageImportCommand() *cobra.Command {
	var i imageImport
	cmd := treeCommand(&cobra.Command{
		Use: "import IMAGE.iso [flags]", Short: "Make a release of an ISO image",
		Long: `Reads an ISO 9660 image, checks it against its SHA-256 where there is one, in
--sha256 or in a file beside it with .sha256 added to its name, and copies its
kernel, initrd and root file system into a release of the role. The release
appears when all of it is there, with a manifest that says where it came from;
whatever goes wrong before leaves nothing.

What was baked into the image, such as user-data and content bundles, is in none
of these files. With --as-iso the whole image is kept, and nodes boot from it as
from a CD: each holds all of it in memory.`,
		Example: "  bootctl image import palette-edge-installer.iso --role edge --dry-run\n  bootctl image import palette-edge-installer.iso --role edge --release 4.5.8",
		Args:    cli.Args("IMAGE.iso"),
	}, &i.place, func(cmd *cobra.Command, args []string, c *config.Config, tree *links.Tree) error {
		return i.run(cmd, c, tree, args[0])
	})
	f := cmd.Flags()
	f.StringVar(&i.role, "role", "", "`ROLE` whose release it becomes; may be left out where one role alone installs")
	f.StringVar(&i.release, "release", "", "`ID` of the release; default: the name of the image without .iso")
	f.StringVar(&i.sum, "sha256", "", "SHA-256 of the image, in hex or in a `FILE` as sha256sum writes it")
	f.BoolVar(&i.asISO, "as-iso", false, "keep the whole image, with what is baked in")
	f.BoolVar(&i.dryRun, "dry-run", false, "read and check all, say whether there is room, and import nothing")
	f.BoolVar(&i.json, "json", false, "print one JSON object")
	return cmd
}

// An importedImage is what came of an import. Its JSON form only ever grows.
type importedImage struct {
	Role    string          `json:"role"`
	Release string          `json:"release"`
	DryRun  bool            `json:"dry_run"` // nothing was imported
	Image   shownImage      `json:"image"`
	Sets    []artifacts.Set `json:"sets"`
	Free    *int64          `json:"free,omitempty"` // bytes, where it would go; only of a dry run
	Fits    *bool           `json:"fits,omitempty"` // as free, where the file system tells
}

func (i imageImport) run(cmd *cobra.Command, c *config.Config, tree *links.Tree, name string) error {
	role, err := i.pickRole(c)
	if err != nil {
		return err
	}
	keys, err := signers(c)
	if err != nil {
		return err
	}
	image, closeImage, err := openImage(name, i.asISO)
	if err != nil {
		return err
	}
	defer closeImage()
	id := cmp.Or(i.release, strings.TrimSuffix(image.Name, filepath.Ext(image.Name)))
	if err := free(tree, role, id); err != nil {
		return importHint(err)
	}
	if err := i.check(cmd, image, name); err != nil {
		return err
	}
	done := importedImage{Role: role.Name, Release: id, DryRun: i.dryRun, Image: shownImage{image, argsOf(image)}, Sets: []artifacts.Set{}}
	into := artifacts.Import{Root: tree.Root(), Role: role, Keys: keys}
	if i.dryRun {
		done.measure(into)
	} else if done.Sets, err = importImage(cmd, into, image, id); err != nil {
		return importHint(err)
	}
	return i.tell(cmd, role, done)
}

// measure notes whether there is room.
func (done *importedImage) measure(into artifacts.Import) {
	if free, known := into.Free(); known {
		fits := free >= done.Image.Bytes()
		done.Free, done.Fits = &free, &fits
	}
}

// printRoom says whether there is room, where that is known.
func (done *importedImage) printRoom(w io.Writer) {
	if done.Fits == nil {
		return
	}
	word, more := "room", ""
	if !*done.Fits {
		word, more = "no room", ": bootctl release prune shows what can go"
	}
	fmt.Fprintf(w, "%s: %s free, %s needed%s\n", word, size(*done.Free), size(done.Image.Bytes()), more)
}

// pickRole returns the role that the release is for.
func (i imageImport) pickRole(c *config.Config) (node.Role, error) {
	roles, err := rolesOf(c, i.role)
	if err != nil || i.role != "" {
		return roles[0], err
	}
	installs := slices.DeleteFunc(roles, func(r node.Role) bool { return r.Install == nil })
	if len(installs) != 1 {
		return node.Role{}, cli.Hint(errors.New("of which role is the release to be?"),
			"name it with --role: "+strings.Join(slices.Sorted(maps.Keys(c.Inventory.Roles())), ", "))
	}
	return installs[0], nil
}

// idRule is what a release can be called: it becomes part of URLs and of file
// names.
var idRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)

// free reports why a release cannot be called id, before gigabytes are read.
func free(tree *links.Tree, role node.Role, id string) error {
	if !idRule.MatchString(id) {
		return cli.Hint(fmt.Errorf("%q cannot be the id of a release: letters, digits and . _ + ~ -", id), "give it one with --release, such as 1.2.3")
	}
	if _, err := tree.Root().Lstat(filepath.Join(artifacts.DataDir, role.Dir, id)); err == nil {
		return fmt.Errorf("release %s is there already: %w", id, fs.ErrExist)
	}
	return nil
}

// check reads the image and compares its SHA-256 with the one that is known.
func (i imageImport) check(cmd *cobra.Command, image *artifacts.Image, name string) error {
	want, from, err := i.wanted(image, name)
	if err != nil {
		return err
	}
	b := newBar(cmd.ErrOrStderr(), "reading", image.Size)
	defer b.done()
	if err := image.Sum(cmd.Context(), b.add); err != nil {
		return err
	}
	if want != "" && want != image.SHA256 {
		return fmt.Errorf("%s is damaged, or another image: its SHA-256 is %s, %s says %s", name, image.SHA256, from, want)
	}
	return nil
}

// wanted returns the SHA-256 that the image should have, and who says so;
// empty: nobody.
func (i imageImport) wanted(image *artifacts.Image, name string) (sum, from string, err error) {
	if hexRule.MatchString(i.sum) {
		return strings.ToLower(i.sum), "--sha256", nil
	}
	from = cmp.Or(i.sum, name+".sha256")
	text, err := readSmall(from)
	if errors.Is(err, fs.ErrNotExist) && i.sum == "" {
		return "", "", nil
	}
	if err == nil {
		sum, err = artifacts.ParseSum(text, image.Name)
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", from, err)
	}
	return sum, from, nil
}

var hexRule = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// maxSmall is far above any file of check sums, password or document.
const maxSmall = 1 << 20

// readSmall reads a file that a person names, and of one that is too large the
// beginning.
func readSmall(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall))
	return string(b), err
}

func importImage(cmd *cobra.Command, i artifacts.Import, image *artifacts.Image, id string) ([]artifacts.Set, error) {
	b := newBar(cmd.ErrOrStderr(), "importing", image.Bytes())
	defer b.done()
	i.Progress = b.add
	return i.ISO(cmd.Context(), image, id)
}

// tell prints what was done, and what an administrator should know of it.
func (i imageImport) tell(cmd *cobra.Command, role node.Role, done importedImage) error {
	image := done.Image.Image
	if i.json {
		return printJSON(cmd.OutOrStdout(), done)
	}
	word := "imported"
	if i.dryRun {
		word = "would import"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s: %s, kernel %s, %s\n", word, done.Role, done.Release, image.Family, cmp.Or(image.Kernel, "unknown"), size(image.Bytes()))
	done.printRoom(cmd.OutOrStdout())
	for _, b := range image.Baked {
		fmt.Fprintf(cmd.OutOrStdout(), "baked in: %s (%s, %s)\n", cli.Printable(b.Path), b, size(b.Size))
	}
	for _, note := range image.Notes {
		cli.Tell(program, cmd.ErrOrStderr(), "note: "+note)
	}
	if channel := string(artifacts.ChannelOf(done.Release)); channel != role.Channel && role.Release != done.Release {
		cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("note: The id %s is of the channel %s, and role %s links %s: bootctl release pin %s %s", done.Release, channel, role.Name, role.Channel, role.Name, done.Release))
	}
	if role.Args != "" {
		cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("note: Role %s has args: of its own, so that those of the family %s are not used: bootctl image show has them.", role.Name, image.Family))
	}
	return nil
}
