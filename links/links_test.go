package links

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bootd/artifacts"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// set returns a set with the file names of source 004.
func set(dir, id, base string) artifacts.Set {
	d := "ephemeral/data/" + dir + "/" + id + "/"
	return artifacts.Set{
		Role: base, Release: id,
		Kernel:   d + "5.3.18-24.37-default-" + id + ".kernel",
		Initrd:   d + "initrd.img-" + id + ".xz",
		Squashfs: d + base + "-" + id + ".squashfs",
	}
}

var (
	k8s  = set("k8s", "0.0.8", "kubernetes")
	next = set("k8s", "0.0.9", "kubernetes")
	ceph = set("ceph", "0.0.7", "storage-ceph")
)

// newTree opens a tree with the files of three sets. After the test it must
// not hold leftovers.
func newTree(tb testing.TB) *Tree {
	tb.Helper()
	return newTreeIn(tb, tb.TempDir())
}

// newFastTree does so in memory if possible, for tests of thousands of
// switches, each of which waits for the disk.
func newFastTree(tb testing.TB) *Tree {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "links")
	if err != nil {
		return newTree(tb)
	}
	tb.Cleanup(func() { must(tb, os.RemoveAll(dir)) })
	return newTreeIn(tb, dir)
}

func newTreeIn(tb testing.TB, dir string) *Tree {
	tb.Helper()
	for _, s := range []artifacts.Set{k8s, next, ceph} {
		for _, name := range []string{s.Kernel, s.Initrd, s.Squashfs} {
			name = filepath.Join(dir, name)
			must(tb, os.MkdirAll(filepath.Dir(name), 0o755))
			must(tb, os.WriteFile(name, []byte("x"), 0o644))
		}
	}
	tree := open(tb, dir)
	tb.Cleanup(func() {
		if left, err := tree.leftovers(); err != nil || len(left) > 0 {
			tb.Errorf("leftovers: got %q, %v, want none", left, err)
		}
		if found, err := tree.Check(nil); !spoiled(tb) && (err != nil || len(found) > 0) {
			tb.Errorf("check after the test: got %v, %v, want nothing", found, err)
		}
		must(tb, tree.Close())
	})
	return tree
}

// spoiled reports whether the test leaves a tree as nobody should.
func spoiled(tb testing.TB) bool {
	return strings.HasPrefix(tb.Name(), "TestCurrent/") || strings.HasPrefix(tb.Name(), "TestCheck/")
}

func open(tb testing.TB, dir string) *Tree {
	tb.Helper()
	tree, err := Open(dir)
	must(tb, err)
	return tree
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// mustApply plans and applies, and expects that nothing is refused.
func mustApply(tb testing.TB, t *Tree, wanted ...Wanted) Plan {
	tb.Helper()
	p, err := t.Plan(wanted)
	must(tb, err)
	if len(p.Refused) > 0 {
		tb.Fatalf("refused: %v", p.Refused)
	}
	done, err := t.Apply(tb.Context(), p)
	must(tb, err)
	if len(done) != len(p.Changes) {
		tb.Fatalf("done: got %d changes, want %d", len(done), len(p.Changes))
	}
	return p
}

func at(t *Tree, elem ...string) string {
	return filepath.Join(append([]string{t.root.Name()}, elem...)...)
}

// The listing of source 004: readlink(1) of every link, and the sizes that
// ls -l shows there.
func TestLinksLookLikeSource004(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"ncn-m001", k8s, nil}, Wanted{"ncn-s001", ceph, nil})
	for _, want := range []struct {
		size         int64
		name, target string
	}{
		{53, "ncn-m001/rootfs", "../ephemeral/data/k8s/0.0.8/kubernetes-0.0.8.squashfs"},
		{47, "ncn-m001/initrd.img.xz", "../ephemeral/data/k8s/0.0.8/initrd.img-0.0.8.xz"},
		{61, "ncn-m001/kernel", "../ephemeral/data/k8s/0.0.8/5.3.18-24.37-default-0.0.8.kernel"},
		{56, "ncn-s001/rootfs", "../ephemeral/data/ceph/0.0.7/storage-ceph-0.0.7.squashfs"},
		{48, "ncn-s001/initrd.img.xz", "../ephemeral/data/ceph/0.0.7/initrd.img-0.0.7.xz"},
		{62, "ncn-s001/kernel", "../ephemeral/data/ceph/0.0.7/5.3.18-24.37-default-0.0.7.kernel"},
	} {
		fi, err := os.Lstat(at(tree, want.name))
		must(t, err)
		target, err := os.Readlink(at(tree, want.name))
		must(t, err)
		if target != want.target || fi.Size() != want.size {
			t.Errorf("%s: got %q of %d bytes, want %q of %d", want.name, target, fi.Size(), want.target, want.size)
		}
		if _, err := os.ReadFile(at(tree, want.name)); err != nil {
			t.Errorf("link does not lead to a file: %v", err)
		}
	}
	if fi, err := os.Lstat(at(tree, "ncn-m001")); err != nil || fi.Mode() != fs.ModeDir|0o755 {
		t.Errorf("boot directory: got %v, %v, want a directory of mode 755", fi.Mode(), err)
	}
}

func TestPlanReportsAndChangesNothing(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"same", k8s, nil}, Wanted{"old", k8s, nil})
	before := snapshot(t, tree)
	p, err := tree.Plan([]Wanted{{"same", k8s, nil}, {"old", next, nil}, {"new", ceph, nil}})
	must(t, err)
	links := func(s artifacts.Set) Links {
		return Links{"../" + s.Kernel, "../" + s.Initrd, "../" + s.Squashfs, ""}
	}
	want := Plan{
		Changes:   []Change{{"old", links(k8s), links(next), nil}, {"new", Links{}, links(ceph), nil}},
		Unchanged: []string{"same"},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if p.Changes[0].Created() || !p.Changes[1].Created() {
		t.Errorf("created: got %v, %v, want false, true", p.Changes[0].Created(), p.Changes[1].Created())
	}
	if got := p.Changes[0].Old.Release(); got != "0.0.8" {
		t.Errorf("old release: got %q, want 0.0.8", got)
	}
	if diff := cmp.Diff(before, snapshot(t, tree)); diff != "" {
		t.Errorf("planning changed the tree (-before +after):\n%s", diff)
	}
}

// snapshot lists every entry with its inode, times and target.
func snapshot(t *testing.T, tree *Tree) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(at(tree), func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		target, _ := os.Readlink(name)
		all[name] = fmt.Sprint(st.Ino, st.Mtim, st.Ctim, st.Nlink, target)
		return nil
	}))
	return all
}

func TestApplyTwiceWritesNothing(t *testing.T) {
	tree := newTree(t)
	wanted := []Wanted{{"ncn-m001", k8s, nil}, {"ncn-s001", ceph, nil}}
	first := mustApply(t, tree, wanted...)
	before := snapshot(t, tree)
	if p := mustApply(t, tree, wanted...); len(p.Changes) != 0 || len(p.Unchanged) != 2 {
		t.Errorf("second plan: got %+v, want two unchanged", p)
	}
	// The first plan again, as a second process would that waited.
	done, err := tree.Apply(t.Context(), first)
	if err != nil || len(done) != 2 {
		t.Errorf("same plan again: got %d done, %v, want 2", len(done), err)
	}
	if diff := cmp.Diff(before, snapshot(t, tree)); diff != "" {
		t.Errorf("second run changed the tree (-before +after):\n%s", diff)
	}
}

func TestSwitchKeepsWhatWasThere(t *testing.T) {
	tree := newTree(t)
	// What the site's own script of csm.md 1.6 leaves, and more.
	must(t, os.Mkdir(at(tree, "ncn-m001"), 0o755))
	must(t, os.Chmod(at(tree, "ncn-m001"), 0o750))
	must(t, os.WriteFile(at(tree, "ncn-m001/script.ipxe"), []byte("#!ipxe\n"), 0o640))
	must(t, os.Symlink("rootfs", at(tree, "ncn-m001/filesystem.squashfs")))
	must(t, os.Symlink("../ephemeral/data/k8s/0.0.1/gone.kernel", at(tree, "ncn-m001/kernel")))
	if os.Geteuid() == 0 {
		must(t, os.Chown(at(tree, "ncn-m001"), 12, 34))
	}
	for _, s := range []artifacts.Set{k8s, next, k8s} {
		script, err := os.Stat(at(tree, "ncn-m001/script.ipxe"))
		must(t, err)
		mustApply(t, tree, Wanted{"ncn-m001", s, nil})
		kept, err := os.Stat(at(tree, "ncn-m001/script.ipxe"))
		if err != nil || !os.SameFile(kept, script) {
			t.Errorf("script.ipxe: got %v, %v, want the same file", kept, err)
		}
		if target, err := os.Readlink(at(tree, "ncn-m001/filesystem.squashfs")); target != "rootfs" {
			t.Errorf("filesystem.squashfs: got %q, %v, want rootfs", target, err)
		}
		c, err := tree.Current("ncn-m001")
		if err != nil || c.Release != s.Release {
			t.Errorf("got release %q, %v, want %q", c.Release, err, s.Release)
		}
	}
	fi, err := os.Stat(at(tree, "ncn-m001"))
	must(t, err)
	st := fi.Sys().(*syscall.Stat_t)
	if fi.Mode().Perm() != 0o750 || os.Geteuid() == 0 && (st.Uid != 12 || st.Gid != 34) {
		t.Errorf("boot directory: got mode %v owner %d:%d, want 0750 12:34", fi.Mode(), st.Uid, st.Gid)
	}
	if target, err := os.Readlink(at(tree, ".ncn-m001.old/kernel")); target != "../"+next.Kernel {
		t.Errorf("replaced directory: got kernel %q, %v, want that of 0.0.9", target, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	bad := k8s
	bad.Initrd = next.Initrd
	gone := set("k8s", "0.0.1", "kubernetes")
	for _, tt := range []struct {
		name  string
		setup func(root string) error
		want  Wanted
		err   string
	}{
		{"name with dots", nil, Wanted{"..", k8s, nil}, `node "..": is not a host name in lower case`},
		{"name that climbs", nil, Wanted{"../etc", k8s, nil}, `node "../etc": is not a host name in lower case`},
		{"name of our own", nil, Wanted{".ncn-m001.new", k8s, nil}, `node ".ncn-m001.new": is not a host name in lower case`},
		{"no name", nil, Wanted{"", k8s, nil}, `node "": is not a host name in lower case`},
		{"name of the data", nil, Wanted{"ephemeral", k8s, nil}, `node "ephemeral": is the name of a directory that every root has`},
		{"name of the loaders", nil, Wanted{"boot", k8s, nil}, `node "boot": is the name of a directory that every root has`},
		{"mixed set", nil, Wanted{"n", bad, nil}, `node "n": initrd.img.xz: leads to release k8s/0.0.9, the kernel to k8s/0.0.8`},
		{"set that climbs", nil, Wanted{"n", artifacts.Set{Kernel: "ephemeral/data/../../../etc/shadow"}, nil}, `node "n": kernel: leads to "../ephemeral/data/../../../etc/shadow", which is no file of a release`},
		{"empty set", nil, Wanted{"n", artifacts.Set{}, nil}, `node "n": kernel: leads to "../", which is no file of a release`},
		{"set that is gone", nil, Wanted{"n", gone, nil}, `node "n": kernel: dangling link to "../ephemeral/data/k8s/0.0.1/5.3.18-24.37-default-0.0.1.kernel"`},
		{"member outside", func(root string) error {
			return errors.Join(os.Remove(root+"/"+k8s.Kernel), os.Symlink("/etc/passwd", root+"/"+k8s.Kernel))
		}, Wanted{"n", k8s, nil}, `node "n": kernel: link to "../` + k8s.Kernel + `": statat ` + k8s.Kernel + `: path escapes from parent`},
		{"directory is a link", func(root string) error { return os.Symlink("/tmp", root+"/n") }, Wanted{"n", k8s, nil}, `node "n": boot directory is a link to "/tmp"`},
		{"directory is a file", func(root string) error { return os.WriteFile(root+"/n", nil, 0o644) }, Wanted{"n", k8s, nil}, `node "n": boot directory is not a directory`},
		{"file for a link", func(root string) error {
			return errors.Join(os.Mkdir(root+"/n", 0o755), os.WriteFile(root+"/n/rootfs", nil, 0o644))
		}, Wanted{"n", k8s, nil}, `node "n": rootfs: is a file, not a link`},
		{"directory for a link", func(root string) error { return os.MkdirAll(root+"/n/kernel", 0o755) }, Wanted{"n", k8s, nil}, `node "n": kernel: is a directory, not a link`},
		{"foreign directory", func(root string) error { return os.MkdirAll(root+"/n/logs", 0o755) }, Wanted{"n", k8s, nil}, `node "n": "logs" is neither a file nor a link and cannot be carried over`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := newTree(t)
			if tt.setup != nil {
				must(t, tt.setup(at(tree)))
			}
			before := snapshot(t, tree)
			p, err := tree.Plan([]Wanted{tt.want})
			must(t, err)
			if len(p.Refused) != 1 || p.Refused[0].Err.Error() != tt.err {
				t.Errorf("refused: got %v, want %s", p.Refused, tt.err)
			}
			done, err := tree.Apply(t.Context(), p)
			if len(done) != 0 || err != nil {
				t.Errorf("apply: got %v, %v, want nothing", done, err)
			}
			if diff := cmp.Diff(before, snapshot(t, tree)); diff != "" {
				t.Errorf("refusal changed the tree (-before +after):\n%s", diff)
			}
		})
	}
}

func TestPlanRefusesOneNodeTwice(t *testing.T) {
	p, err := newTree(t).Plan([]Wanted{{"n", k8s, nil}, {"n", next, nil}})
	must(t, err)
	if want := `node "n": is wanted twice`; len(p.Changes) != 1 || len(p.Refused) != 1 || p.Refused[0].Err.Error() != want {
		t.Errorf("got %+v, want the second refused: %s", p, want)
	}
}

func TestCurrent(t *testing.T) {
	relink := func(name, to string) func(string) error {
		return func(root string) error {
			name := root + "/n/" + name
			return errors.Join(os.Remove(name), os.Symlink(to, name))
		}
	}
	for _, tt := range []struct {
		name  string
		setup func(root string) error
		err   string
	}{
		{"as linked", func(string) error { return nil }, ""},
		{"no directory", func(root string) error { return os.RemoveAll(root + "/n") }, `node "n": statat n: no such file or directory`},
		{"missing", func(root string) error { return os.Remove(root + "/n/rootfs") }, `node "n": rootfs: there is no such link`},
		{"dangling", func(root string) error { return os.Remove(root + "/" + k8s.Initrd) }, `node "n": initrd.img.xz: dangling link to "../` + k8s.Initrd + `"`},
		{"mixed", relink("rootfs", "../"+ceph.Squashfs), `node "n": rootfs: leads to release ceph/0.0.7, the kernel to k8s/0.0.8`},
		{"foreign", relink("kernel", "../boot/vmlinuz"), `node "n": kernel: leads to "../boot/vmlinuz", which is no file of a release`},
		{"climbing", relink("kernel", "../ephemeral/data/../../../passwd"), `node "n": kernel: leads to "../ephemeral/data/../../../passwd", which is no file of a release`},
		{"absolute", relink("initrd.img.xz", "/etc/passwd"), `node "n": initrd.img.xz: leads to "/etc/passwd", which is no file of a release`},
		{"escaping behind the link", func(root string) error {
			return errors.Join(os.Remove(root+"/"+k8s.Squashfs), os.Symlink("../../../../../x", root+"/"+k8s.Squashfs))
		}, `node "n": rootfs: link to "../` + k8s.Squashfs + `": statat ` + k8s.Squashfs + `: path escapes from parent`},
		{"directory for a file", func(root string) error {
			return errors.Join(os.Remove(root+"/"+k8s.Kernel), os.Mkdir(root+"/"+k8s.Kernel, 0o755))
		}, `node "n": kernel: leads to "../` + k8s.Kernel + `", which is not a file`},
		{"file for a link", func(root string) error {
			return errors.Join(os.Remove(root+"/n/kernel"), os.WriteFile(root+"/n/kernel", nil, 0o644))
		}, `node "n": kernel: is a file, not a link`},
		{"link for the directory", func(root string) error {
			return errors.Join(os.Rename(root+"/n", root+"/m"), os.Symlink("m", root+"/n"))
		}, `node "n": boot directory is a link to "m"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := newTree(t)
			mustApply(t, tree, Wanted{"n", k8s, nil})
			must(t, tt.setup(at(tree)))
			c, err := tree.Current("n")
			if tt.err == "" {
				want := Current{"k8s", "0.0.8", k8s.Kernel, k8s.Initrd, k8s.Squashfs}
				if err != nil || c != want {
					t.Errorf("got %+v, %v, want %+v", c, err, want)
				}
				return
			}
			if err == nil || err.Error() != tt.err || c != (Current{}) {
				t.Errorf("got %v, %v, want error %s", c, err, tt.err)
			}
			if got, want := errors.Is(err, fs.ErrNotExist), tt.name == "no directory"; got != want {
				t.Errorf("wraps fs.ErrNotExist: got %v, want %v", got, want)
			}
		})
	}
	if _, err := newTree(t).Current("../n"); err == nil || err.Error() != `node "../n": is not a host name in lower case` {
		t.Errorf("got %v, want the name refused", err)
	}
}

func TestImage(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{Node: "plain", Set: k8s})
	if _, err := tree.Image("plain"); err == nil || err.Error() != `node "plain": release 0.0.8 has no whole image: it was imported without --as-iso` {
		t.Errorf("got %v, want that it has no whole image", err)
	}
	if _, err := tree.Image("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no boot directory", err)
	}
	whole := next
	whole.Squashfs = strings.TrimSuffix(next.Squashfs, ".squashfs") + ".iso"
	must(t, os.WriteFile(at(tree, whole.Squashfs), nil, 0o644))
	mustApply(t, tree, Wanted{Node: "whole", Set: whole})
	if got, err := tree.Image("whole"); err != nil || got != whole.Squashfs {
		t.Errorf("got %q, %v, want %q", got, err, whole.Squashfs)
	}
}

func TestOpenMissingRoot(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/none: no such file or directory") {
		t.Errorf("got %v, want that the root does not exist", err)
	}
}

// A reader that opens the directory once and then reads its links is what a
// file server does. However many switches overtake it, it sees one release.
func TestReadersNeverSeeTwoReleases(t *testing.T) {
	const switches = 1000
	tree := newFastTree(t)
	must(t, os.Mkdir(at(tree, "boot"), 0o755))
	write(t, tree, master, csmScript)
	relink(t, tree, k8s.Release, Wanted{"n", k8s, nil})
	var stop atomic.Bool
	var wg sync.WaitGroup
	var reads atomic.Int64
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				if seen, err := readOnce(tree); err != nil || len(seen) != 1 {
					t.Errorf("reader: got releases %q, %v, want one", seen, err)
					return
				}
				if c, err := tree.Current("n"); err != nil || c.Release != "0.0.8" && c.Release != "0.0.9" {
					t.Errorf("Current: got %+v, %v, want a release at any time", c, err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for i := range switches {
		s := []artifacts.Set{next, k8s}[i%2]
		relink(t, tree, s.Release, Wanted{"n", s, nil})
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d switches, %d reads", switches, reads.Load())
}

// Directories that were replaced stay while somebody may be reading them, and
// no longer.
func TestReplacedDirectoriesGo(t *testing.T) {
	tree := newTree(t)
	for _, s := range []artifacts.Set{k8s, next, k8s, next} {
		mustApply(t, tree, Wanted{"n", s, nil})
	}
	young, err := os.ReadDir(at(tree, graves))
	if err != nil || len(young) != 2 {
		t.Fatalf("after four switches: got %v, %v, want two besides .n.old", young, err)
	}
	old := fmt.Sprintf("n.%d", time.Now().Add(-grace).UnixNano())
	must(t, os.Rename(at(tree, graves, young[0].Name()), at(tree, graves, old)))
	mustApply(t, tree, Wanted{"n", k8s, nil})
	left, err := os.ReadDir(at(tree, graves))
	if err != nil || len(left) != 2 || left[0].Name() != young[1].Name() {
		t.Errorf("got %v, %v, want %s and the one of this switch", left, err, young[1].Name())
	}
}

func TestUnreadDirectoriesAreOfTheirNode(t *testing.T) {
	tree := newTree(t)
	long, young := time.Now().Add(-2*grace).UnixNano(), time.Now().UnixNano()
	for _, name := range []string{fmt.Sprintf("n.%d", long), fmt.Sprintf("n.%d", long+1), fmt.Sprintf("n-2.%d", young), "lost"} {
		must(t, os.MkdirAll(at(tree, graves, name), 0o755))
	}
	got, err := tree.unread()
	must(t, err)
	want := map[string][]string{"n": {fmt.Sprintf(graves+"/n.%d", long), fmt.Sprintf(graves+"/n.%d", long+1)}, "": {graves + "/lost"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A directory that nobody reads any more is used again, and nothing that was in
// it comes back.
func TestReplacedDirectoriesAreUsedAgain(t *testing.T) {
	tree := newTree(t)
	for _, s := range []artifacts.Set{k8s, next, k8s} {
		mustApply(t, tree, Wanted{"n", s, nil})
	}
	buried, err := os.ReadDir(at(tree, graves))
	if err != nil || len(buried) != 1 {
		t.Fatalf("after three switches: got %v, %v, want one", buried, err)
	}
	old := at(tree, graves, fmt.Sprintf("n.%d", time.Now().Add(-2*grace).UnixNano()))
	must(t, os.Rename(at(tree, graves, buried[0].Name()), old))
	must(t, os.WriteFile(filepath.Join(old, "stale"), nil, 0o600))
	must(t, os.Chmod(old, 0o700))
	was, err := os.Stat(old)
	must(t, err)
	mustApply(t, tree, Wanted{"n", next, nil})
	is, err := os.Stat(at(tree, "n"))
	must(t, err)
	if !os.SameFile(was, is) || is.Mode().Perm() != 0o755 {
		t.Errorf("got another directory or mode %v, want the one of before with 0755", is.Mode())
	}
	if names := entries(t, tree, "n"); names != "initrd.img.xz kernel rootfs" {
		t.Errorf("got %s, want the links only", names)
	}

	// One that cannot be emptied is not.
	old = at(tree, graves, fmt.Sprintf("n.%d", time.Now().Add(-2*grace).UnixNano()))
	must(t, os.MkdirAll(filepath.Join(old, "full", "of things"), 0o755))
	mustApply(t, tree, Wanted{"n", k8s, nil})
	if names := entries(t, tree, "n"); names != "initrd.img.xz kernel rootfs" {
		t.Errorf("got %s, want the links only", names)
	}
}

func entries(t *testing.T, tree *Tree, dir string) string {
	t.Helper()
	list, err := os.ReadDir(at(tree, dir))
	must(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// Nodes of one release share their links as files, so that thousands need not be
// made, and no node notices what becomes of those of another.
func TestNodesShareTheirLinks(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"a", k8s, nil}, Wanted{"b", k8s, nil}, Wanted{"c", ceph, nil})
	file := func(name string) fs.FileInfo {
		fi, err := os.Lstat(at(tree, name))
		must(t, err)
		return fi
	}
	if !os.SameFile(file("a/rootfs"), file("b/rootfs")) || os.SameFile(file("a/rootfs"), file("c/rootfs")) {
		t.Error("got other files, want that a and b share one, and c has its own")
	}
	must(t, os.Remove(at(tree, "a/rootfs")))
	must(t, os.Symlink("elsewhere", at(tree, "a/rootfs")))
	mustApply(t, tree, Wanted{"a", next, nil})
	if got, err := os.Readlink(at(tree, "b/rootfs")); err != nil || got != "../"+k8s.Squashfs {
		t.Errorf("b: got %s, %v, want it as it was", got, err)
	}

	// Where there cannot be one name more, another file is made.
	dir, err := tree.Root().OpenRoot("b")
	must(t, err)
	defer dir.Close()
	made := map[string]string{"../x": "gone"}
	must(t, tree.symlink(dir, "b/x", "../x", made))
	if got, err := os.Readlink(at(tree, "b/x")); err != nil || got != "../x" || made["../x"] != "b/x" {
		t.Errorf("got %s, %v, %v, want a new link, that others share", got, err, made)
	}
	must(t, os.Remove(at(tree, "b/x")))
}

// readOnce returns the releases that the links of one opened directory name,
// and its script, as rd.live.dir.
func readOnce(tree *Tree) (releases []string, err error) {
	dir, err := os.OpenRoot(at(tree, "n"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	for _, name := range []string{"kernel", "initrd.img.xz", "rootfs"} {
		target, err := dir.Readlink(name)
		if err != nil {
			return nil, err
		}
		releases = append(releases, filepath.Base(filepath.Dir(target)))
	}
	text, err := dir.ReadFile(script)
	if err != nil {
		return nil, err
	}
	releases = append(releases, liveDir(string(text)))
	slices.Sort(releases)
	return slices.Compact(releases), nil
}

// A fleet for the tests that are cut off in the middle.
func fleet(s artifacts.Set) (wanted []Wanted) {
	for i := range 60 {
		wanted = append(wanted, Wanted{fmt.Sprintf("ncn-w%03d", i), s, nil})
	}
	return wanted
}

// TestMain lets the test binary be the child that TestKillInTheMiddle kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LINKS_KILL_CHILD"); dir != "" {
		fmt.Fprintln(os.Stderr, "child:", switchForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func switchForever(dir string) error {
	tree, err := Open(dir)
	for i := 0; err == nil; i++ {
		var p Plan
		s := []artifacts.Set{next, k8s}[i%2]
		if p, err = tree.Plan(fleet(s)); err == nil {
			p.LiveDir = &s.Release
			err = tree.PlanScripts(&p, workers)
		}
		if err == nil {
			_, err = tree.Apply(context.Background(), p)
		}
	}
	return err
}

func TestKillInTheMiddle(t *testing.T) {
	tree := scripted(t)
	relink(t, tree, k8s.Release, fleet(k8s)...)
	started := func(name string) bool { _, err := tree.root.Lstat(staging(name)); return err == nil }
	switched := func(name string) bool {
		c, err := tree.Current(name)
		return err == nil && c.Release == "0.0.9"
	}
	for _, tt := range []struct {
		phase string
		when  func(node string) bool
		node  string
	}{
		{"staging, begun", started, "ncn-w000"},
		{"staging, half", started, "ncn-w030"},
		{"staging, done", started, "ncn-w059"},
		{"switching, begun", switched, "ncn-w000"},
		{"switching, half", switched, "ncn-w030"},
		{"switching, done", switched, "ncn-w059"},
	} {
		t.Run(tt.phase, func(t *testing.T) {
			killWhen(t, at(tree), func() bool { return tt.when(tt.node) })
			count := map[string]int{}
			for _, w := range fleet(k8s) {
				c, err := tree.Current(w.Node)
				if err != nil {
					t.Errorf("after the kill: %v", err)
				}
				if text, _, err := tree.readScript(w.Node + "/" + script); err != nil || liveDir(text) != c.Release {
					t.Errorf("%s after the kill: got a script of %q, %v, want of %q", w.Node, liveDir(text), err, c.Release)
				}
				count[c.Release]++
			}
			left, err := tree.leftovers()
			must(t, err)
			t.Logf("killed with releases %v and %d leftovers", count, len(left))
			if p := relink(t, tree, k8s.Release, fleet(k8s)...); len(p.Edited) > 0 {
				t.Errorf("after the kill: got copies taken for edited: %q", p.Edited)
			}
			if left, err := tree.leftovers(); len(left) > 0 || err != nil {
				t.Errorf("after the next run: got leftovers %q, %v, want none", left, err)
			}
			if p, err := tree.Plan(fleet(k8s)); err != nil || len(p.Unchanged) != 60 {
				t.Errorf("after the next run: got %d nodes as wanted, %v, want 60", len(p.Unchanged), err)
			}
		})
	}
}

// killWhen runs a child that switches the fleet back and forth, and kills it
// as soon as ready reports true.
func killWhen(t *testing.T, root string, ready func() bool) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "LINKS_KILL_CHILD="+root)
	var out strings.Builder
	cmd.Stderr = &out
	must(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for !ready() {
		select {
		case err := <-exited:
			t.Fatalf("child ended by itself: %v\n%s", err, &out)
		default:
		}
	}
	must(t, cmd.Process.Kill())
	if err := <-exited; err == nil || err.Error() != "signal: killed" {
		t.Fatalf("child: got %v, want signal: killed", err)
	}
}

func TestLeftoversAreRemovedWithoutChanges(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"n", k8s, nil})
	must(t, os.Mkdir(at(tree, ".n.new"), 0o755))
	must(t, os.Mkdir(at(tree, ".not ours.new"), 0o755))
	p, err := tree.Plan([]Wanted{{"n", k8s, nil}})
	must(t, err)
	if !slices.Equal(p.Leftovers, []string{".n.new"}) || len(p.Changes) != 0 {
		t.Errorf("got %+v, want the leftover .n.new and no change", p)
	}
	_, err = tree.Apply(t.Context(), p)
	must(t, err)
	if _, err := os.Stat(at(tree, ".not ours.new")); err != nil {
		t.Errorf("foreign directory: got %v, want it left alone", err)
	}
}

func TestTwoWritersAtOnce(t *testing.T) {
	tree := newFastTree(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			mine := open(t, at(tree))
			defer mine.Close()
			for j := range 5 {
				p, err := mine.Plan(fleet([]artifacts.Set{k8s, next}[(i+j)%2]))
				if err != nil || len(p.Refused) > 0 {
					t.Errorf("plan: %v %v", err, p.Refused)
				}
				if _, err := mine.Apply(t.Context(), p); err != nil {
					t.Errorf("apply: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, w := range fleet(k8s) {
		if _, err := tree.Current(w.Node); err != nil {
			t.Error(err)
		}
	}
}

// Time is fake in here: the wait costs nothing.
func TestWaitForTheLockIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newTree(t)
		holder, err := os.Create(at(tree, ".bootd-links.lock"))
		must(t, err)
		defer holder.Close()
		must(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
		p, err := tree.Plan([]Wanted{{"n", k8s, nil}})
		must(t, err)
		done, err := tree.Apply(t.Context(), p)
		if !errors.Is(err, context.DeadlineExceeded) || len(done) != 0 ||
			!strings.HasPrefix(err.Error(), "another process is changing boot directories and holds .bootd-links.lock: ") {
			t.Errorf("got %v, %v, want that another process holds the lock", done, err)
		}
	})
}

func TestApplyStopsAtFirstFailure(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"a", k8s, nil}, Wanted{"b", k8s, nil}, Wanted{"c", k8s, nil})
	p, err := tree.Plan([]Wanted{{"a", next, nil}, {"b", next, nil}, {"c", next, nil}})
	must(t, err)
	tree.exchange = func(dir *os.File, x, y string) error {
		if y == "b" {
			return errors.New("power is out")
		}
		return exchange(dir, x, y)
	}
	done, err := tree.Apply(t.Context(), p)
	if err == nil || err.Error() != `node "b": power is out` || len(done) != 1 || done[0].Node != "a" {
		t.Errorf("got %v, %v, want a done and b failed", done, err)
	}
	for name, want := range map[string]string{"a": "0.0.9", "b": "0.0.8", "c": "0.0.8"} {
		if c, err := tree.Current(name); c.Release != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", name, c.Release, err, want)
		}
	}
}

func TestApplyBuildsAllOrNone(t *testing.T) {
	tree := newTree(t)
	p, err := tree.Plan([]Wanted{{"a", k8s, nil}, {"b", k8s, nil}})
	must(t, err)
	must(t, os.Symlink("/tmp", at(tree, "b"))) // after the plan was made
	done, err := tree.Apply(t.Context(), p)
	if want := `node "b": boot directory is a link to "/tmp"`; err == nil || err.Error() != want || len(done) != 0 {
		t.Errorf("got %v, %v, want %s", done, err, want)
	}
	if _, err := tree.Current("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a: got %v, want that there is none", err)
	}
}

func TestApplyStopsWithItsContext(t *testing.T) {
	tree := newTree(t)
	p, err := tree.Plan([]Wanted{{"a", k8s, nil}})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := tree.Apply(ctx, p); !errors.Is(err, context.Canceled) || len(done) != 0 {
		t.Errorf("got %v, %v, want nothing done and context.Canceled", done, err)
	}
}

// A directory that is only in the lower layer of an overlay cannot be renamed,
// nor can any on file systems such as vfat and NFS.
func TestFileSystemWithoutExchange(t *testing.T) {
	lower := newTree(t)
	mustApply(t, lower, Wanted{"n", k8s, nil})
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off", at(lower), t.TempDir(), t.TempDir())
	merged := t.TempDir()
	inMountNamespace(t, func() error { return unix.Mount("overlay", merged, "overlay", 0, opts) }, func() {
		tree := open(t, merged)
		defer tree.Close()
		p, err := tree.Plan([]Wanted{{"n", next, nil}})
		if err != nil || len(p.Changes) != 1 {
			t.Errorf("plan: got %+v, %v, want a change", p, err)
			return
		}
		done, err := tree.Apply(t.Context(), p)
		want := `node "n": this file system cannot exchange two directories in one step (renameat2: invalid cross-device link)`
		if err == nil || err.Error() != want || len(done) != 0 {
			t.Errorf("got %v, %v, want %s", done, err, want)
		}
		if c, err := tree.Current("n"); err != nil || c.Release != "0.0.8" {
			t.Errorf("after it: got %+v, %v, want 0.0.8", c, err)
		}
	})
}

// The boot server of source 004 runs from a live image: its root is an overlay,
// and the releases are on a disk that is mounted below it.
func TestRootIsAnOverlay(t *testing.T) {
	disk := newTree(t)
	lower, upper, work, merged := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(lower+"/ephemeral", 0o755))
	must(t, os.Mkdir(lower+"/boot", 0o755))
	must(t, os.WriteFile(lower+"/"+master, []byte(csmScript), 0o644))
	mount := func() error {
		opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off", lower, upper, work)
		return errors.Join(unix.Mount("overlay", merged, "overlay", 0, opts),
			unix.Mount(at(disk, "ephemeral"), merged+"/ephemeral", "", unix.MS_BIND, ""))
	}
	inMountNamespace(t, mount, func() {
		tree, err := Open(merged)
		if err != nil {
			t.Error(err)
			return
		}
		defer tree.Close()
		for _, s := range []artifacts.Set{k8s, next, k8s} {
			p, err := tree.Plan([]Wanted{{"ncn-w001", s, nil}})
			p.LiveDir = &s.Release
			err = errors.Join(err, tree.PlanScripts(&p, workers))
			done, applyErr := tree.Apply(t.Context(), p)
			if err != nil || applyErr != nil || len(done) != 1 {
				t.Errorf("%s: got %v, %v, %v, want it linked", s.Release, done, err, applyErr)
			}
			if c, err := tree.Current("ncn-w001"); err != nil || c.Release != s.Release {
				t.Errorf("got %+v, %v, want %s", c, err, s.Release)
			}
		}
	})
}

func TestReadOnlyRoot(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"n", k8s, nil})
	mount := func() error {
		return errors.Join(
			unix.Mount(at(tree), at(tree), "", unix.MS_BIND, ""),
			unix.Mount("", at(tree), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	inMountNamespace(t, mount, func() {
		tree := open(t, at(tree))
		defer tree.Close()
		p, err := tree.Plan([]Wanted{{"n", k8s, nil}})
		if done, applyErr := tree.Apply(t.Context(), p); err != nil || applyErr != nil || len(done) != 0 {
			t.Errorf("nothing to do: got %v, %v, %v, want no error", done, err, applyErr)
		}
		p, err = tree.Plan([]Wanted{{"n", next, nil}})
		if done, applyErr := tree.Apply(t.Context(), p); err != nil || !errors.Is(applyErr, unix.EROFS) || len(done) != 0 {
			t.Errorf("a change: got %v, %v, %v, want that it is read-only", done, err, applyErr)
		}
	})
}

// inMountNamespace runs f on a thread that has a mount namespace of its own,
// where mount was called before. The namespace ends with the thread.
func inMountNamespace(t *testing.T, mount func() error, f func()) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		if err = mount(); err == nil {
			f()
		}
	}()
	<-done
	if err != nil && os.Getenv("BOOT_REQUIRE") == "" {
		t.Skipf("missing: the right to mount: %v", err)
	}
	must(t, err)
}

// Ten thousand nodes, with and without copies of a script. An ext4 without a
// journal is slower for minutes after a tree of that size was removed there.
func BenchmarkPlanApply(b *testing.B) {
	fleet := func(s artifacts.Set) (wanted []Wanted) {
		for i := range 10_000 {
			wanted = append(wanted, Wanted{fmt.Sprintf("n%05d", i), s, nil})
		}
		return wanted
	}
	for _, bb := range []struct {
		name    string
		scripts bool
		sets    []artifacts.Set
	}{
		{"unchanged", false, []artifacts.Set{k8s}},
		{"switch", false, []artifacts.Set{next, k8s}},
		{"unchanged, scripts", true, []artifacts.Set{k8s}},
		{"switch, scripts", true, []artifacts.Set{next, k8s}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			tree := newTree(b)
			do := func(s artifacts.Set) {
				p, err := tree.Plan(fleet(s))
				must(b, err)
				p.LiveDir = &s.Release
				if bb.scripts {
					must(b, tree.PlanScripts(&p, workers))
				}
				_, err = tree.Apply(b.Context(), p)
				must(b, err)
			}
			if bb.scripts {
				must(b, os.Mkdir(at(tree, "boot"), 0o755))
				must(b, os.WriteFile(at(tree, master), []byte(csmScript), 0o644))
			}
			do(k8s)
			for i := 0; b.Loop(); i++ {
				do(bb.sets[i%len(bb.sets)])
			}
			b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "nodes/s")
		})
	}
}

func BenchmarkCurrent(b *testing.B) {
	tree := newTree(b)
	mustApply(b, tree, Wanted{"n", k8s, nil})
	for b.Loop() {
		if _, err := tree.Current("n"); err != nil {
			b.Fatal(err)
		}
	}
}

// Aliases of the kernel and of the initrd lead where those lead, and are told
// from each other when they are read again.
func TestAliasesOfKernelAndInitrd(t *testing.T) {
	tree := newTree(t)
	wanted := []string{"vmlinuz=kernel", "initrd=initrd.img.xz", "root.img"}
	for _, s := range []artifacts.Set{k8s, next} {
		mustApply(t, tree, Wanted{"n", s, wanted})
		for name, target := range map[string]string{"vmlinuz": s.Kernel, "initrd": s.Initrd, "root.img": s.Squashfs} {
			if got, err := os.Readlink(at(tree, "n", name)); err != nil || got != "../"+target {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, "../"+target)
			}
		}
	}
	if p := mustApply(t, tree, Wanted{"n", next, wanted}); len(p.Changes) != 0 {
		t.Errorf("the same again: got %+v, want no change", p.Changes)
	}
	if p := mustApply(t, tree, Wanted{"n", next, wanted[:1]}); !slices.Equal(p.Changes[0].Differ(), []string{"initrd", "root.img"}) {
		t.Errorf("differ: got %q, want the two that go", p.Changes[0].Differ())
	}
	for bad, want := range map[string]string{
		"rootfs=kernel": `"rootfs" cannot be another name of kernel`,
		"x=modules":     `"modules" is not one of kernel, initrd.img.xz, of which "x" could be another name`,
	} {
		p, err := tree.Plan([]Wanted{{"n", next, []string{bad}}})
		must(t, err)
		if len(p.Refused) != 1 || p.Refused[0].Err.Error() != `node "n": `+want {
			t.Errorf("alias %q: got %v, want %s", bad, p.Refused, want)
		}
	}
}

// An alias leads where rootfs leads, switches with it, and goes when it is no
// longer wanted. The administrator's own links stay.
func TestAliases(t *testing.T) {
	tree := newTree(t)
	const old = "filesystem.squashfs"
	mustApply(t, tree, Wanted{"n", k8s, []string{old}})
	must(t, os.Symlink("rootfs", at(tree, "n", "mine")))
	for _, s := range []artifacts.Set{k8s, next} {
		mustApply(t, tree, Wanted{"n", s, []string{old}})
		if got, err := os.Readlink(at(tree, "n", old)); err != nil || got != "../"+s.Squashfs {
			t.Errorf("alias: got %q, %v, want %q", got, err, "../"+s.Squashfs)
		}
	}
	if p := mustApply(t, tree, Wanted{"n", next, []string{old, old}}); len(p.Changes) != 0 {
		t.Errorf("the same again: got %+v, want no change", p.Changes)
	}
	p := mustApply(t, tree, Wanted{"n", next, nil})
	if got := p.Changes[0].Differ(); !slices.Equal(got, []string{old}) {
		t.Errorf("differ: got %q, want only the alias", got)
	}
	if _, err := os.Lstat(at(tree, "n", old)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("alias that is not wanted: got %v, want none", err)
	}
	if got, err := os.Readlink(at(tree, "n", "mine")); got != "rootfs" || err != nil {
		t.Errorf("own link: got %q, %v, want rootfs", got, err)
	}
	for _, bad := range []string{"kernel", "script.ipxe", "../x", ".x"} {
		p, err := tree.Plan([]Wanted{{"n", next, []string{bad}}})
		must(t, err)
		want := fmt.Sprintf("node %q: %q cannot be another name of rootfs", "n", bad)
		if len(p.Refused) != 1 || p.Refused[0].Err.Error() != want {
			t.Errorf("alias %q: got %v, want %s", bad, p.Refused, want)
		}
	}
}
