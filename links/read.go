package links

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"bootd/artifacts"
	"bootd/internal/node"
)

// A Current is what a node boots by its boot directory. Paths are relative to
// the root, use slashes, and lead to files of one release.
type Current struct {
	Dir      string // directory of the role under ephemeral/data, such as "k8s"
	Release  string
	Kernel   string
	Initrd   string
	Squashfs string // or what is in its place; empty: the release has none
}

// errReplaced is returned when a boot directory was exchanged for another one
// while it was read.
var errReplaced = errors.New("boot directory keeps changing")

// Current returns what is linked for a node. It opens the boot directory once,
// so that the answer is never a mix of two switches. The error wraps
// fs.ErrNotExist if and only if there is no boot directory; any other error
// names the entry that is missing, dangling or foreign, or leads outside the
// root or into another release than the kernel.
func (t *Tree) Current(name string) (c Current, err error) {
	// A directory that was replaced is emptied when its time is over.
	for range 100 {
		c, err = t.current(name)
		if !errors.Is(err, errReplaced) {
			break
		}
	}
	if err != nil {
		return Current{}, fmt.Errorf("node %q: %w", name, err)
	}
	return c, nil
}

func (t *Tree) current(name string) (Current, error) {
	if err := checkName(name); err != nil {
		return Current{}, err
	}
	dir, info, err := t.openDir(name)
	if err != nil {
		return Current{}, err
	}
	defer dir.Close()
	l, err := readLinks(dir)
	if err != nil {
		return Current{}, err
	}
	if _, _, err := l.release(); err != nil {
		return Current{}, t.unlessReplaced(name, info, err)
	}
	if err := t.resolve(l); err != nil {
		return Current{}, t.unlessReplaced(name, info, err)
	}
	return l.current()
}

// unlessReplaced returns err, or errReplaced where the boot directory is no
// longer the one of which err is true.
func (t *Tree) unlessReplaced(name string, was fs.FileInfo, err error) error {
	now, statErr := t.root.Lstat(name)
	if statErr == nil && !os.SameFile(now, was) {
		return errReplaced
	}
	return err
}

// openDir opens a boot directory without following a link to it.
func (t *Tree) openDir(name string) (*os.Root, fs.FileInfo, error) {
	info, err := t.root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, _ := t.root.Readlink(name)
		return nil, nil, fmt.Errorf("boot directory is a link to %q", target)
	}
	if !info.IsDir() {
		return nil, nil, errors.New("boot directory is not a directory")
	}
	dir, err := t.root.OpenRoot(name)
	if err != nil {
		return nil, nil, err
	}
	opened, err := dir.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = errReplaced
	}
	if err != nil {
		dir.Close()
		return nil, nil, err
	}
	return dir, info, nil
}

// readLinks reads the links of an open boot directory. One that is not there
// stays empty.
func readLinks(dir *os.Root) (l Links, err error) {
	for _, k := range []struct {
		name   string
		target *string
	}{{Kernel, &l.Kernel}, {Initrd, &l.Initrd}, {Rootfs, &l.Rootfs}} {
		*k.target, err = dir.Readlink(k.name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l, fmt.Errorf("%s: %s", k.name, notLink(dir, k.name, err))
		}
	}
	return l, nil
}

// notLink says what stands where a link should be.
func notLink(dir *os.Root, name string, err error) string {
	fi, statErr := dir.Lstat(name)
	switch {
	case statErr != nil || fi.Mode()&fs.ModeSymlink != 0:
		return err.Error()
	case fi.IsDir():
		return "is a directory, not a link"
	default:
		return "is a file, not a link"
	}
}

// resolve checks that every link leads to a file under the root. Its errors
// never wrap fs.ErrNotExist, which is kept for a missing boot directory.
func (t *Tree) resolve(l Links) error {
	for _, k := range l.each() {
		if k.target == "" { // the root file system, or an alias of it
			if err := t.hasNoRootfs(l); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			continue
		}
		fi, err := t.root.Stat(strings.TrimPrefix(k.target, "../"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s: dangling link to %q", k.name, k.target)
		case err != nil:
			return fmt.Errorf("%s: link to %q: %v", k.name, k.target, err)
		case !fi.Mode().IsRegular():
			return fmt.Errorf("%s: leads to %q, which is not a file", k.name, k.target)
		}
	}
	return nil
}

// hasNoRootfs reports why a boot directory without a root file system has a
// hole: its release has one, or does not say.
func (t *Tree) hasNoRootfs(l Links) error {
	_, kind, err := artifacts.Kind(t.root, path.Dir(strings.TrimPrefix(l.Kernel, "../")))
	switch {
	case err != nil:
		return err
	case kind != node.NoRootfs:
		return errors.New("there is no such link")
	}
	return nil
}

// A bootDir is all that was found in a boot directory.
type bootDir struct {
	info   fs.FileInfo // nil: there is none
	links  Links
	others []other // an administrator's files
}

// An other is an entry of a boot directory that is not ours.
type other struct {
	name string
	link bool
}

// hinders reports why links cannot be put beside the other entries. A link in
// the place of an alias is replaced, a file is not.
func (b bootDir) hinders(want Links) error {
	for _, o := range b.others {
		if !o.link && slices.Contains(want.names(), o.name) {
			return fmt.Errorf("%s: is a file, not a link", o.name)
		}
	}
	return nil
}

// carried returns the entries that stay beside the links.
func (b bootDir) carried(beside Links) (names []string) {
	for _, o := range b.others {
		if !slices.Contains(beside.names(), o.name) {
			names = append(names, o.name)
		}
	}
	return names
}

// inspect reads a boot directory. It refuses what a switch could not carry
// over.
func (t *Tree) inspect(name string) (b bootDir, err error) {
	for range 100 {
		if b, err = t.look(name); !errors.Is(err, errReplaced) {
			break
		}
	}
	return b, err
}

func (t *Tree) look(name string) (bootDir, error) {
	dir, info, err := t.openDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return bootDir{}, nil
	}
	if err != nil {
		return bootDir{}, err
	}
	defer dir.Close()
	b := bootDir{info: info}
	if b.links, err = readLinks(dir); err != nil {
		return bootDir{}, err
	}
	err = b.readOthers(dir)
	return b, err
}

// readOthers reads what is not one of the three links: aliases, which lead
// where one of them leads, and what is not ours.
func (b *bootDir) readOthers(dir *os.Root) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	var also []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == Kernel || name == Initrd || name == Rootfs:
		case e.Type() == fs.ModeSymlink && b.alias(dir, name) != "":
			also = append(also, b.alias(dir, name))
		case e.Type().IsRegular() || e.Type() == fs.ModeSymlink:
			b.others = append(b.others, other{name, e.Type() == fs.ModeSymlink})
		default:
			return fmt.Errorf("%q is neither a file nor a link and cannot be carried over", name)
		}
	}
	b.links.Aliases = aliases(also)
	return nil
}

// alias returns the alias, as in Links, that a link is; empty: it is none.
func (b *bootDir) alias(dir *os.Root, name string) string {
	target, err := dir.Readlink(name)
	switch {
	case err != nil, target == "", strings.ContainsAny(name, "= \t\n\v\f\r\u0085\u00a0"), strings.HasPrefix(name, "."):
		return ""
	case target == b.links.Rootfs:
		return name
	case target == b.links.Kernel:
		return name + "=" + Kernel
	case target == b.links.Initrd:
		return name + "=" + Initrd
	}
	return ""
}

// Image returns the path below the root of the whole image that a node's boot
// directory links, as a release has it that was imported with it.
func (t *Tree) Image(name string) (string, error) {
	c, err := t.Current(name)
	switch {
	case err != nil:
		return "", err
	case path.Ext(c.Squashfs) != ".iso":
		return "", fmt.Errorf("node %q: release %s has no whole image: it was imported without --as-iso", name, c.Release)
	}
	return c.Squashfs, nil
}
