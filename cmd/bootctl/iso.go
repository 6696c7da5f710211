package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/deploy/payload"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/xorriso"
)

// An isoMaker writes a CD image for one node.
type isoMaker struct {
	place
	kind, output, from, as string
}

func isoCommand() *cobra.Command {
	var m isoMaker
	cmd := &cobra.Command{
		Use:   "iso NODE --kind site|install [flags]",
		Short: "Write a CD image with the configuration of a node",
		Long: `Writes a CD image for a node, to be put into its drive or into the virtual
media of its BMC. The image holds secrets: the file is for its owner alone, and
is never written below the root, which is served to everybody.

--kind site: the documents of the node's site payload, on a CD with the label
cidata, which Kairos and cloud-init read at the first boot from disk.

--kind install: the installer's image --from, or the one that the node's release
keeps (bootctl image import --as-iso), with the main document of the node's
payload in it as the file --as. It boots from CD where the other one does. This
needs xorriso.`,
		Example: "  bootctl iso ncn-w001 --kind site --output ncn-w001.iso\n  bootctl iso ncn-w001 --kind install --from palette-edge-installer.iso",
		Args:    cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.check(); err != nil {
				return cli.UsageError(cmd, err)
			}
			return m.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	configFlag(cmd, &m.place)
	f := cmd.Flags()
	f.StringVar(&m.kind, "kind", "", "which `KIND` of image: site or install; required")
	f.StringVar(&m.output, "output", "", "write the image to this `FILE` (default: NODE-site.iso or NODE-install.iso here)")
	f.StringVar(&m.from, "from", "", "install: image of the installer, a `FILE` (default: that of the node's release)")
	f.StringVar(&m.as, "as", "", "install: `PATH` of the document in the image (default: config.yaml, or what the family of the payload wants)")
	return cmd
}

func (m *isoMaker) check() error {
	switch {
	case m.kind != "site" && m.kind != "install":
		return fmt.Errorf("--kind: %q is not one of site, install", m.kind)
	case m.kind == "site" && m.from != "":
		return errors.New("--from is for --kind install")
	}
	return nil
}

func (m *isoMaker) run(ctx context.Context, stdout io.Writer, name string) error {
	c, err := m.load()
	if err != nil {
		return err
	}
	// An address that is nobody's would be in every URL of the image.
	if c, err = onHost(c); err != nil {
		return err
	}
	n, ok := c.Inventory.ByName(name)
	if !ok {
		return c.Inventory.Unknown(name)
	}
	output, err := outsideRoot(cmp.Or(m.output, name+"-"+m.kind+".iso"), c.Root)
	if err != nil {
		return err
	}
	if sameFile(output, m.from) {
		return fmt.Errorf("--output: %q is the image of --from", output)
	}
	write := m.site
	if m.kind == "install" {
		write = m.install
	}
	if err := write(ctx, c, n, output); err != nil {
		return err
	}
	info, err := os.Stat(output)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %s image of %s, %s\n", output, m.kind, name, size(info.Size()))
	return err
}

// outsideRoot refuses a file that the boot plane would serve, by whatever name
// its directory has.
func outsideRoot(path, root string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return "", err
	}
	for _, root := range []string{root, resolved(root)} {
		if dir == root || strings.HasPrefix(dir, root+"/") {
			return "", cli.Hint(fmt.Errorf("--output: %q is inside root %q, which is served to everybody", path, root), "name a file elsewhere: the image holds secrets")
		}
	}
	return path, nil
}

// resolved is path without symbolic links, or path where there is none.
func resolved(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path
	}
	return real
}

func (m *isoMaker) site(_ context.Context, c *config.Config, n *node.Node, output string) error {
	if n.Site.IsZero() {
		return cli.Hint(fmt.Errorf("%s: has no site payload", n.Name), "set site: of the node or of role "+n.Role)
	}
	image, err := payload.Image(n.Site, payloadData(c, n), time.Now())
	if err != nil {
		return fmt.Errorf("%s: site: %w", n.Name, err)
	}
	return writeAside(output, func(f *os.File) error {
		_, err := f.Write(image)
		return err
	})
}

func (m *isoMaker) install(ctx context.Context, c *config.Config, n *node.Node, output string) error {
	if n.Payload.IsZero() {
		return cli.Hint(fmt.Errorf("%s: has no payload", n.Name), "set payload: of the node or of role "+n.Role)
	}
	docs, err := payload.Render(n.Payload, payloadData(c, n))
	if err != nil {
		return fmt.Errorf("%s: payload: %w", n.Name, err)
	}
	from, err := m.installer(c, n)
	if err != nil {
		return err
	}
	document, as := payload.Baked(n.Payload)
	err = writeAside(output, func(f *os.File) error {
		return xorriso.Add(ctx, from, f.Name(), map[string][]byte{cmp.Or(m.as, as): docs[document]})
	})
	if errors.Is(err, xorriso.ErrMissing) {
		return cli.Hint(err, "install it: apt-get install xorriso; or netboot the installer, which needs no image with the user-data in it")
	}
	return err
}

// installer is the image that was named, or that the node's release keeps.
func (m *isoMaker) installer(c *config.Config, n *node.Node) (string, error) {
	if m.from != "" {
		return m.from, nil
	}
	tree, err := m.open(c)
	if err != nil {
		return "", err
	}
	defer tree.Close()
	image, err := tree.Image(n.Name)
	if err != nil {
		return "", cli.Hint(err, "name the image of the installer: --from FILE")
	}
	return filepath.Join(c.Root, image), nil
}

// writeAside writes a file for its owner alone: beside path, then to disk, then
// by rename. What was at path stays until then.
func writeAside(path string, fill func(*os.File) error) (err error) {
	if path, err = regularTarget(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: there is no directory %s", path, filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = errors.Join(fill(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// regularTarget returns where a file is, behind symbolic links, that is to be
// written. A rename would put a file in the place of a device.
func regularTarget(path string) (string, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return path, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "", fmt.Errorf("%s: is a directory", path)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: is not a regular file", path)
	}
	return path, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
