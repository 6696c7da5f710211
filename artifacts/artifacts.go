// Package artifacts finds the releases under a root and says which of them a
// node boots.
//
// A release of a role is a directory of three files that belong together:
//
//	<root>/ephemeral/data/<role dir>/<id>/<kernel version>-<id>[-ARCH].kernel
//	<root>/ephemeral/data/<role dir>/<id>/initrd.img-<id>[-ARCH].xz
//	<root>/ephemeral/data/<role dir>/<id>/[secure-]<base>-<id>[-ARCH].squashfs
//
// ARCH is x86_64 or aarch64, <base> one of the role's squashfs names, and the
// secure- variant wins over the plain one. Everything else in there is ignored:
// check sums, text files, partial downloads, hidden files, directories such as
// old, and links to release directories.
//
// A release whose manifest says so has another third member in its place: the
// whole ISO image that it was imported from (.iso), a cpio archive (.img), or
// none. What the members are called, and what family the system is of, comes
// from the manifest alone.
//
// The three are one Set or none: a member that is missing, unreadable, empty,
// cut short or of the wrong kind makes a Problem that names it, never a set
// with a hole, and nothing is ever taken from a second release to fill it.
// Modification times have no say. Beside the three there may be a manifest with
// sizes and SHA-256, manifest.json, and its minisign signature.
//
// Scan and Select read and change nothing. Import and Remove change the tree in
// one step each: a release is there whole, or not at all. All of it may be used
// from several goroutines.
package artifacts

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"bootd/internal/node"
)

// DataDir is the directory under the root that holds one directory per role.
const DataDir = "ephemeral/data"

// A Channel tells finished releases from development builds.
type Channel string

// The channels.
const (
	Stable   Channel = "stable"   // id is X.Y.Z
	Unstable Channel = "unstable" // id is anything else
)

var stableID = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)

// ChannelOf returns the channel that a release id belongs to.
func ChannelOf(id string) Channel {
	if stableID.MatchString(id) {
		return Stable
	}
	return Unstable
}

// A Set is one complete release of one role for one architecture. Paths are
// relative to the root and use slashes, sizes are in bytes.
type Set struct {
	Role         string  `json:"role"`
	Release      string  `json:"release"`
	Channel      Channel `json:"channel"`
	Arch         string  `json:"arch,omitempty"` // x86_64, aarch64; empty: the file names carry none
	Kernel       string  `json:"kernel"`
	Initrd       string  `json:"initrd"`
	Squashfs     string  `json:"squashfs"` // the third member, whatever Rootfs says it is; empty: there is none
	KernelSize   int64   `json:"kernel_size"`
	InitrdSize   int64   `json:"initrd_size"`
	SquashfsSize int64   `json:"squashfs_size"`

	Family node.Family `json:"family,omitempty"` // empty: that of source 004
	Rootfs node.Rootfs `json:"rootfs,omitempty"` // empty: a squashfs
}

// KernelVersion returns the version in the name of the kernel, such as
// 5.3.18-24.37-default.
func (s Set) KernelVersion() string {
	stem, _, _ := split(path.Base(s.Kernel), ".kernel", s.Release)
	return stem
}

// KernelRule is what kernels that must match have in common: the first two
// parts of the version, such as 5.3.18-24.37 (source 004).
func (s Set) KernelRule() string {
	parts := strings.SplitN(s.KernelVersion(), "-", 3)
	return strings.Join(parts[:min(2, len(parts))], "-")
}

// Closed returns what of the set the user of a web server or of bootd may not
// be allowed to read: its files, and the directories on the way there, that
// are not open to all. Each entry is a path and its mode.
func Closed(root *os.Root, s Set) (list []string) {
	need := map[string]fs.FileMode{}
	for _, name := range s.Members() {
		need[name] = 0o004
	}
	for dir := path.Dir(s.Kernel); dir != "."; dir = path.Dir(dir) {
		need[dir] = 0o001
	}
	for _, name := range slices.Sorted(maps.Keys(need)) {
		if fi, err := root.Stat(name); err == nil && fi.Mode()&need[name] == 0 {
			list = append(list, fmt.Sprintf("%s (mode %04o)", name, fi.Mode().Perm()))
		}
	}
	return list
}

// A Problem is why a release, or all releases of a role, cannot be used.
type Problem struct {
	Role    string `json:"role"`
	Release string `json:"release,omitempty"` // empty: the directory of the role itself
	Arch    string `json:"arch,omitempty"`    // as in Set
	Member  string `json:"member,omitempty"`  // kernel, initrd, squashfs, iso, cpio; empty: the whole directory
	File    string `json:"file"`              // relative to the root
	What    string `json:"what"`              // completes the sentence that File begins
}

// Error returns the problem as one line without the role and the release.
func (p Problem) Error() string {
	if p.Member == "" {
		return p.File + " " + p.What
	}
	return p.Member + ": " + path.Base(p.File) + " " + p.What
}

// A Catalog is what was found for one role.
type Catalog struct {
	Role     node.Role
	Sets     []Set     // newest first, whatever the channel
	Problems []Problem // newest release first

	manifest Manifest // of the release that is looked at
}
