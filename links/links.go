// Package links gives every node a boot directory: a directory under the root
// whose entries are relative symbolic links to the set that the node boots.
//
//	<root>/ncn-m001/kernel        -> ../ephemeral/data/k8s/0.0.8/5.3.18-24.37-default-0.0.8.kernel
//	<root>/ncn-m001/initrd.img.xz -> ../ephemeral/data/k8s/0.0.8/initrd.img-0.0.8.xz
//	<root>/ncn-m001/rootfs        -> ../ephemeral/data/k8s/0.0.8/kubernetes-0.0.8.squashfs
//
// There is no rootfs where the manifest of the release says that it has none.
//
// The links of a node switch together. Its new directory is built beside the
// old one as .ncn-m001.new, made durable, and exchanged with it in one system
// call, so that whoever opens the directory sees one release, before, while
// and after a switch, and after a crash at any moment. The replaced directory
// stays as .ncn-m001.old until the next switch, and for ten seconds more in
// .bootd/replaced, for readers that have it open. After that it is emptied and
// becomes the node's next .ncn-m001.new. Links are never changed in their place,
// so those of one target are one file with a name for each node.
// Names that begin with a dot and end in .new or .old belong to this package;
// an administrator's own files in a boot directory are carried over as hard
// links. What cannot be carried over is refused, never deleted.
//
// Where another web server than bootd serves the nodes, each directory has a
// copy of <root>/boot/script.ipxe too, with a few kernel arguments of its own.
// A copy that was edited is kept: <root>/.bootd/scripts.json has the check sums
// of those that were not. The master is only read.
//
// Each Apply is a Generation: what all nodes are linked to is written to
// <root>/.bootd/generations before the first of them is switched, so that
// PlanRollback can go back and Check can tell what is not as it should be.
//
// What root makes in a root directory of another user is given to that user, so
// that a daemon of that user can go on with it, and root after the daemon.
//
// Plan looks, Apply acts; a Plan without changes writes nothing at all. Which
// release a node gets is not known here. No name leads outside the root, and
// one writer at a time holds the lock <root>/.bootd-links.lock. A Tree may be
// used from several goroutines.
package links

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"bootd/artifacts"
	"bootd/internal/node"
)

// Names of the links in a boot directory.
const (
	Kernel = "kernel"
	Initrd = "initrd.img.xz"
	Rootfs = "rootfs"
)

// Links are the targets of the links in a boot directory, as readlink(2)
// returns them. An empty target means that there is no such link. Aliases are
// further names of links, in order, with a blank between two: NAME leads where
// Rootfs leads, since old initrds ask for "filesystem.squashfs", NAME=kernel and
// NAME=initrd.img.xz where those lead.
type Links struct {
	Kernel  string `json:"kernel,omitempty"`
	Initrd  string `json:"initrd,omitempty"`
	Rootfs  string `json:"rootfs,omitempty"`
	Aliases string `json:"aliases,omitempty"`
}

// A link is one name of a boot directory and where it leads.
type link struct{ name, target string }

func (l Links) each() []link {
	list := []link{{Kernel, l.Kernel}, {Initrd, l.Initrd}, {Rootfs, l.Rootfs}}
	for alias := range strings.FieldsSeq(l.Aliases) {
		name, of, _ := strings.Cut(alias, "=")
		list = append(list, link{name, map[string]string{"": l.Rootfs, Kernel: l.Kernel, Initrd: l.Initrd}[of]})
	}
	return list
}

// names returns the names of the links.
func (l Links) names() (names []string) {
	for _, k := range l.each() {
		names = append(names, k.name)
	}
	return names
}

// aliases puts names into the form of Links.Aliases.
func aliases(names []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), " ")
}

// Release returns the id of the release that all links lead into, and an empty
// string if there is no such release.
func (l Links) Release() string {
	_, id, err := l.release()
	if err != nil {
		return ""
	}
	return id
}

// release returns the directory of the role and the release id that the links
// share. That there is no root file system is for resolve to judge.
func (l Links) release() (dir, id string, err error) {
	for _, k := range l.each() {
		if k.name == Rootfs && k.target == "" {
			continue
		}
		d, i, err := parseTarget(k.target)
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", k.name, err)
		}
		if k.name != Kernel && (d != dir || i != id) {
			return "", "", fmt.Errorf("%s: leads to release %s/%s, the kernel to %s/%s", k.name, d, i, dir, id)
		}
		dir, id = d, i
	}
	return dir, id, nil
}

// parseTarget takes a target of the form ../ephemeral/data/<dir>/<id>/<file>
// apart.
func parseTarget(target string) (dir, id string, err error) {
	if target == "" {
		return "", "", errors.New("there is no such link")
	}
	rest, ok := strings.CutPrefix(target, "../"+artifacts.DataDir+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || path.Join("/", rest) != "/"+rest {
		return "", "", fmt.Errorf("leads to %q, which is no file of a release", target)
	}
	return parts[0], parts[1], nil
}

// A Tree is the boot directories under one root.
type Tree struct {
	root     *os.Root
	exchange func(dir *os.File, a, b string) error // swaps two entries of dir

	mu    sync.Mutex
	cache map[int]cachedGeneration
}

// Open opens the tree under root, which must exist.
func Open(root string) (*Tree, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &Tree{root: r, exchange: exchange}, nil
}

// Close releases the root. Boot directories stay as they are.
func (t *Tree) Close() error { return t.root.Close() }

// Root returns the root, for reading. It is valid until Close.
func (t *Tree) Root() *os.Root { return t.root }

// checkName reports why a node of that name cannot have a boot directory.
func checkName(name string) error {
	first, _, _ := strings.Cut(artifacts.DataDir, "/")
	switch {
	case !node.ValidName(name):
		return errors.New("is not a host name in lower case")
	case name == first || name == "boot":
		return errors.New("is the name of a directory that every root has")
	}
	return nil
}
