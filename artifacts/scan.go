package artifacts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"bootd/internal/node"
)

// Scan finds the releases of role under root. It never fails as a whole: what
// is wrong, down to a missing directory, is a Problem.
func Scan(root *os.Root, role node.Role) Catalog {
	c := Catalog{Role: role}
	dir := path.Join(DataDir, role.Dir)
	if !fs.ValidPath(role.Dir) || role.Dir == "." {
		c.problem(Problem{File: dir, What: "is not a directory below " + DataDir})
		return c
	}
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		c.problem(Problem{File: dir, What: "cannot be read: " + reason(err)})
		return c
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "old" && !hidden(e.Name()) {
			c.addRelease(root, dir, e.Name())
		}
	}
	slices.SortFunc(c.Sets, compareSets)
	slices.SortStableFunc(c.Problems, func(a, b Problem) int { return Compare(b.Release, a.Release) })
	return c
}

// compareSets puts the newest first. Within a release, names without an
// architecture come first, then x86_64.
func compareSets(a, b Set) int {
	return cmp.Or(Compare(b.Release, a.Release), cmp.Compare(archRank(a.Arch), archRank(b.Arch)))
}

// archs in the order of preference.
var archs = [...]string{"", "x86_64", "aarch64"}

func archRank(arch string) int { return slices.Index(archs[:], arch) }

func hidden(name string) bool { return strings.HasPrefix(name, ".") }

func (c *Catalog) problem(p Problem) {
	p.Role = c.Role.Name
	c.Problems = append(c.Problems, p)
}

// safeName is what may become part of a URL and of a boot script unquoted.
var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)

func (c *Catalog) addRelease(root *os.Root, dir, id string) {
	dir = path.Join(dir, id)
	if !safeName.MatchString(id) {
		c.problem(Problem{Release: id, File: dir, What: "has a character in its name other than letters, digits and . _ + ~ -"})
		return
	}
	c.addFiles(root, dir, id)
}

// addFiles adds what the directory dir of release id holds.
func (c *Catalog) addFiles(root *os.Root, dir, id string) {
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		c.problem(Problem{Release: id, File: dir, What: "cannot be read: " + reason(err)})
		return
	}
	if c.manifest, err = readManifest(root, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.problem(Problem{Release: id, File: path.Join(dir, ManifestName), What: "cannot be read: " + reason(err)})
		return
	}
	found := sortOut(entries, id, c.Role.Squashfs, c.manifest.Rootfs)
	if len(found) == 0 {
		c.problem(Problem{Release: id, File: dir, What: "holds no kernel, initrd or " + third(c.manifest.Rootfs) + " of this release"})
	}
	for _, arch := range archs {
		if files, ok := found[arch]; ok {
			c.addSet(root, dir, id, arch, files)
		}
	}
}

// files are the names found for one architecture, by member. The first of a
// member is the one to use.
type files map[string][]string

// sortOut groups the files of a release directory by architecture.
func sortOut(entries []fs.DirEntry, id string, bases []string, kind node.Rootfs) map[string]files {
	found := map[string]files{}
	for _, e := range entries {
		member, arch, ok := classify(e.Name(), id, bases, kind)
		if !ok {
			continue
		}
		if found[arch] == nil {
			found[arch] = files{}
		}
		found[arch][member] = append(found[arch][member], e.Name())
	}
	for _, f := range found {
		slices.SortFunc(f[third(kind)], func(a, b string) int {
			return cmp.Compare(thirdRank(a, id, bases, kind), thirdRank(b, id, bases, kind))
		})
	}
	return found
}

// thirdRank orders third members: secure ones first, then as in the role.
func thirdRank(name, id string, bases []string, kind node.Rootfs) int {
	stem, _, _ := split(name, kind.Ext(), id)
	base, secure := strings.CutPrefix(stem, "secure-")
	rank := slices.Index(bases, base)
	if !secure {
		rank += len(bases)
	}
	return rank
}

// classify reports which member of the release id a file is by its name, where
// the third is of that kind.
func classify(name, id string, bases []string, kind node.Rootfs) (member, arch string, ok bool) {
	if hidden(name) {
		return "", "", false
	}
	if stem, arch, ok := split(name, ".kernel", id); ok && stem != "" {
		return kernel, arch, true
	}
	if stem, arch, ok := split(name, ".xz", id); ok && stem == "initrd.img" {
		return initrd, arch, true
	}
	if kind == node.NoRootfs {
		return "", "", false
	}
	if stem, arch, ok := split(name, kind.Ext(), id); ok && slices.Contains(bases, strings.TrimPrefix(stem, "secure-")) {
		return third(kind), arch, true
	}
	return "", "", false
}

// split takes a name of the form <stem>-<id>[-ARCH]<ext> apart.
func split(name, ext, id string) (stem, arch string, ok bool) {
	name, ok = strings.CutSuffix(name, ext)
	if !ok {
		return "", "", false
	}
	for _, arch := range archs {
		end := "-" + id
		if arch != "" {
			end += "-" + arch
		}
		if stem, ok := strings.CutSuffix(name, end); ok {
			return stem, arch, true
		}
	}
	return "", "", false
}

// addSet adds the set made of files, or what keeps it from being one.
func (c *Catalog) addSet(root *os.Root, dir, id, arch string, f files) {
	set := Set{Role: c.Role.Name, Release: id, Channel: ChannelOf(id), Arch: arch, Family: c.manifest.Family, Rootfs: c.manifest.Rootfs}
	before := len(c.Problems)
	set.Kernel, set.KernelSize = c.member(root, dir, id, arch, kernel, f)
	set.Initrd, set.InitrdSize = c.member(root, dir, id, arch, initrd, f)
	if set.Rootfs != node.NoRootfs {
		set.Squashfs, set.SquashfsSize = c.member(root, dir, id, arch, third(set.Rootfs), f)
	}
	if len(c.Problems) == before {
		c.Sets = append(c.Sets, set)
	}
}

// member picks and checks one member of a set.
func (c *Catalog) member(root *os.Root, dir, id, arch, member string, f files) (string, int64) {
	p := Problem{Release: id, Arch: arch, Member: member}
	names := f[member]
	switch {
	case len(names) == 0:
		p.File, p.What = path.Join(dir, expected(member, id, arch, c.Role.Squashfs, c.manifest.Rootfs)), "is missing"
	case member == kernel && len(names) > 1:
		// The initrd holds modules for one of them, and nothing says which.
		p.File, p.What = path.Join(dir, names[0]), "and "+names[1]+" are both there: keep one"
	case !safeName.MatchString(names[0]):
		p.File, p.What = path.Join(dir, names[0]), "has a character in its name other than letters, digits and . _ + ~ -"
	default:
		p.File = path.Join(dir, names[0])
		size, what := check(root, p.File, member)
		if f, ok := c.manifest.file(names[0]); what == "" && ok && f.Size != size {
			what = fmt.Sprintf("has %d bytes, its manifest says %d", size, f.Size)
		}
		if what == "" {
			return p.File, size
		}
		p.What = what
	}
	c.problem(p)
	return "", 0
}

// expected returns the name that a missing member should have.
func expected(member, id, arch string, bases []string, kind node.Rootfs) string {
	if arch != "" {
		id += "-" + arch
	}
	switch member {
	case kernel:
		return "*-" + id + ".kernel"
	case initrd:
		return "initrd.img-" + id + ".xz"
	}
	return strings.Join(bases, "|") + "-" + id + kind.Ext()
}
