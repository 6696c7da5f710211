package links

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bootd/artifacts"

	"github.com/google/go-cmp/cmp"
)

// targets reads all links of a tree, byte for byte.
func targets(tb testing.TB, t *Tree, nodes ...string) map[string]string {
	tb.Helper()
	all := map[string]string{}
	for _, n := range nodes {
		entries, err := os.ReadDir(at(t, n))
		must(tb, err)
		for _, e := range entries {
			target, err := os.Readlink(at(t, n, e.Name()))
			must(tb, err)
			all[n+"/"+e.Name()] = target
		}
	}
	return all
}

func rollback(tb testing.TB, t *Tree, id int) (stay []string) {
	tb.Helper()
	p, stay, err := t.PlanRollback(id)
	must(tb, err)
	if len(p.Refused) > 0 {
		tb.Fatalf("refused: %v", p.Refused)
	}
	_, err = t.Apply(tb.Context(), p)
	must(tb, err)
	return stay
}

func TestRollbackRestoresEveryByte(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"a", k8s, []string{"filesystem.squashfs"}}, Wanted{"b", ceph, nil})
	before := targets(t, tree, "a", "b")
	mustApply(t, tree, Wanted{"a", next, nil}, Wanted{"b", k8s, nil}, Wanted{"c", next, nil})
	after := targets(t, tree, "a", "b", "c")

	if stay := rollback(t, tree, -1); !slices.Equal(stay, []string{"c"}) {
		t.Errorf("stay: got %q, want c, which came later", stay)
	}
	if diff := cmp.Diff(before, targets(t, tree, "a", "b")); diff != "" {
		t.Errorf("rolled back (-want +got):\n%s", diff)
	}
	rollback(t, tree, 2)
	if diff := cmp.Diff(after, targets(t, tree, "a", "b", "c")); diff != "" {
		t.Errorf("forth again (-want +got):\n%s", diff)
	}
	ids, err := tree.GenerationIDs()
	must(t, err)
	if !slices.Equal(ids, []int{1, 2, 3, 4}) {
		t.Errorf("generations: got %v, want 1 to 4", ids)
	}
	g, err := tree.Generation(0)
	must(t, err)
	if g.ID != 4 || g.Why != "rollback to 2" {
		t.Errorf("last generation: got %d %q, want 4, rollback to 2", g.ID, g.Why)
	}
	if _, _, err := tree.PlanRollback(9); !errors.Is(err, ErrNoGeneration) {
		t.Errorf("generation 9: got %v, want that there is none", err)
	}
}

// A node gets back what it had, whatever else has changed since.
func TestPlanReturn(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"a", k8s, []string{"filesystem.squashfs"}}, Wanted{"b", ceph, nil})
	before := targets(t, tree, "a")
	mustApply(t, tree, Wanted{"a", next, nil})
	mustApply(t, tree, Wanted{"b", next, nil})

	p, err := tree.PlanReturn(map[string]string{"a": k8s.Release, "b": next.Release, "c": k8s.Release, "../x": k8s.Release})
	must(t, err)
	if len(p.Changes) != 1 || !slices.Equal(p.Unchanged, []string{"b"}) {
		t.Errorf("got changes %v, unchanged %q, want a, b", p.Changes, p.Unchanged)
	}
	if len(p.Refused) != 2 || p.Refused[0].Node != "../x" || p.Refused[1].Node != "c" || !errors.Is(p.Refused[1].Err, fs.ErrNotExist) {
		t.Errorf("got %v refused, want ../x, and c, which never had it", p.Refused)
	}
	_, err = tree.Apply(t.Context(), p)
	must(t, err)
	if diff := cmp.Diff(before, targets(t, tree, "a")); diff != "" {
		t.Errorf("what a had (-want +got):\n%s", diff)
	}
}

// The first run of ours in a tree that the script of source 004 made can be
// undone, and so can what somebody did by hand in between.
func TestWhatWasFoundIsAGeneration(t *testing.T) {
	tree := newTree(t)
	must(t, os.Mkdir(at(tree, "n"), 0o755))
	for name, target := range map[string]string{Kernel: k8s.Kernel, Initrd: k8s.Initrd, Rootfs: k8s.Squashfs} {
		must(t, os.Symlink("../"+target, at(tree, "n", name)))
	}
	before := targets(t, tree, "n")
	mustApply(t, tree, Wanted{"n", next, nil})
	g, err := tree.Generation(-1)
	must(t, err)
	if g.ID != 1 || g.Why != Found || g.Nodes["n"].Release() != "0.0.8" {
		t.Errorf("first generation: got %+v, want what was found", g)
	}
	rollback(t, tree, -1)
	if diff := cmp.Diff(before, targets(t, tree, "n")); diff != "" {
		t.Errorf("rolled back (-want +got):\n%s", diff)
	}
}

// A rollback to a release that is gone leaves the node where it is.
func TestRollbackToNothing(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"a", k8s, nil}, Wanted{"b", ceph, nil})
	mustApply(t, tree, Wanted{"a", next, nil}, Wanted{"b", k8s, nil})
	must(t, os.RemoveAll(at(tree, "ephemeral/data/ceph")))
	p, _, err := tree.PlanRollback(-1)
	must(t, err)
	if len(p.Changes) != 1 || len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Err.Error(), `node "b": kernel: dangling link to "../ephemeral/data/ceph/0.0.7/`) {
		t.Errorf("got changes %v, refused %v, want a changed and b refused", p.Changes, p.Refused)
	}
}

func TestLiveDirGoesWithTheGeneration(t *testing.T) {
	tree := newTree(t)
	live := func() string {
		s, err := tree.Settings()
		must(t, err)
		return s.LiveDir
	}
	for _, dir := range []string{"csm-1.5", "csm-1.6"} {
		p, err := tree.Plan([]Wanted{{"n", k8s, nil}})
		must(t, err)
		p.LiveDir = &dir
		for range 2 { // the second changes nothing
			_, err = tree.Apply(t.Context(), p)
			must(t, err)
		}
		if live() != dir {
			t.Errorf("live directory: got %q, want %q", live(), dir)
		}
	}
	rollback(t, tree, -1)
	if live() != "csm-1.5" {
		t.Errorf("rolled back: got %q, want csm-1.5", live())
	}
	if ids, _ := tree.GenerationIDs(); !slices.Equal(ids, []int{1, 2, 3}) {
		t.Errorf("generations: got %v, want 1, 2, 3", ids)
	}
}

func TestPrune(t *testing.T) {
	tree := newTree(t)
	mustApply(t, tree, Wanted{"stays", k8s, nil}, Wanted{"gone", k8s, nil}, Wanted{"full", k8s, nil})
	must(t, os.Mkdir(at(tree, "html"), 0o755)) // not a node's
	must(t, os.WriteFile(at(tree, "gone", "script.ipxe"), []byte("#!ipxe\n"), 0o644))
	must(t, os.WriteFile(at(tree, "full", "notes"), []byte("x"), 0o644))
	// In one plan with a switch, so in one generation.
	p, err := tree.Plan([]Wanted{{"stays", next, nil}})
	must(t, err)
	must(t, tree.PlanPrune(&p, func(name string) bool { return name == "stays" }))
	if len(p.Changes) != 2 || p.Changes[1].Node != "gone" || !p.Changes[1].Removed() || p.Changes[0].Removed() {
		t.Errorf("to prune: got %+v, want gone", p.Changes)
	}
	if len(p.Refused) != 1 || p.Refused[0].Err.Error() != `node "full": "notes" is not ours: move it away first` {
		t.Errorf("refused: got %v, want full", p.Refused)
	}
	done, err := tree.Apply(t.Context(), p)
	must(t, err)
	if len(done) != 2 {
		t.Errorf("done: got %v, want both", done)
	}
	if again, err := tree.Apply(t.Context(), p); err != nil || len(again) != 2 {
		t.Errorf("again: got %v, %v, want that it is done already", again, err)
	}
	if _, err := os.Stat(at(tree, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: got %v, want that it is not there", err)
	}
	rollback(t, tree, -1)
	if c, err := tree.Current("gone"); err != nil || c.Release != "0.0.8" {
		t.Errorf("after rollback: got %+v, %v, want 0.0.8", c, err)
	}
}

func TestUses(t *testing.T) {
	tree := newTree(t)
	for _, s := range []artifacts.Set{k8s, ceph, k8s, next, k8s} {
		mustApply(t, tree, Wanted{"n", s, nil})
	}
	uses, err := tree.InUse()
	must(t, err)
	if diff := cmp.Diff(map[Use][]string{{"k8s", "0.0.8"}: {"n"}}, uses); diff != "" {
		t.Errorf("in use (-want +got):\n%s", diff)
	}
	back, err := tree.Rollbacks()
	must(t, err)
	if diff := cmp.Diff(map[Use]int{{"k8s", "0.0.8"}: 5, {"k8s", "0.0.9"}: 4}, back); diff != "" {
		t.Errorf("needed by the last three generations (-want +got):\n%s", diff)
	}
}

// A boot that began with a release gets that release, whatever is switched
// meanwhile.
func TestBoot(t *testing.T) {
	tree := newTree(t)
	for _, s := range []artifacts.Set{k8s, next, k8s, ceph} {
		mustApply(t, tree, Wanted{"n", s, nil}, Wanted{"other", ceph, nil})
	}
	for _, s := range []artifacts.Set{k8s, next, ceph} {
		c, err := tree.Boot("n", s.Release)
		if err != nil || c.Kernel != s.Kernel || c.Initrd != s.Initrd || c.Squashfs != s.Squashfs {
			t.Errorf("%s: got %+v, %v, want its files", s.Release, c, err)
		}
	}
	for _, x := range [][2]string{{"other", "0.0.8"}, {"n", "0.1.0"}, {"none", "0.0.8"}, {"..", "0.0.8"}} {
		if c, err := tree.Boot(x[0], x[1]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of %s: got %+v, %v, want that there is none", x[1], x[0], c, err)
		}
	}
}

func TestOldGenerationsGo(t *testing.T) {
	tree := newFastTree(t)
	for i := range keep + 3 {
		mustApply(t, tree, Wanted{"n", []artifacts.Set{k8s, next}[i%2], nil})
	}
	ids, err := tree.GenerationIDs()
	must(t, err)
	if len(ids) != keep || ids[0] != 4 {
		t.Errorf("got %d generations from %d, want %d from 4", len(ids), ids[0], keep)
	}
}

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(root string) error
		want  []string
	}{
		"nothing": {func(string) error { return nil }, nil},
		"purged release": {func(root string) error { return os.RemoveAll(root + "/ephemeral/data/ceph") },
			[]string{`b: kernel: dangling link to "../` + ceph.Kernel + `"`}},
		"changed by hand": {func(root string) error {
			return errors.Join(os.Remove(root+"/a/rootfs"), os.Symlink("../"+next.Squashfs, root+"/a/rootfs"))
		}, []string{
			"a: rootfs: leads to release k8s/0.0.9, the kernel to k8s/0.0.8",
			"a: was linked by somebody else, or a run was cut short: generation 1 says k8s/0.0.8, found is a mix of releases",
		}},
		"removed by hand": {func(root string) error { return os.RemoveAll(root + "/a") },
			[]string{"a: has no boot directory, which generation 1 has"}},
		"killed run": {func(root string) error { return os.Mkdir(root+"/.a.new", 0o755) },
			[]string{".a.new: left behind by a run that was killed"}},
		"own link that dangles": {func(root string) error { return os.Symlink("gone", root+"/a/mine") },
			[]string{`a: mine: link to "gone" cannot be followed`}},
		"damaged record": {func(root string) error {
			return os.WriteFile(root+"/.bootd/generations/000001.json", []byte("{"), 0o644)
		},
			[]string{".bootd/generations: .bootd/generations/000001.json: unexpected end of JSON input"}},
		"stranger": {func(root string) error {
			return errors.Join(os.Mkdir(root+"/c", 0o755), os.Symlink("../"+k8s.Kernel, root+"/c/kernel"))
		}, []string{
			"c: initrd.img.xz: there is no such link",
			"c: was linked by somebody else, or a run was cut short: generation 1 says no release, found is k8s/0.0.8",
			"c: is not in the inventory",
		}},
		"other directories": {func(root string) error {
			return errors.Join(os.MkdirAll(root+"/html/x", 0o755), os.WriteFile(root+"/index", nil, 0o644), os.Mkdir(root+"/boot", 0o755))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t)
			mustApply(t, tree, Wanted{"a", k8s, nil}, Wanted{"b", ceph, nil})
			must(t, tt.spoil(at(tree)))
			found, err := tree.Check(func(name string) bool { return name == "a" || name == "b" })
			must(t, err)
			var got []string
			for _, f := range found {
				got = append(got, f.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			os.RemoveAll(at(tree, ".a.new"))
		})
	}
}

func FuzzDecodeGeneration(f *testing.F) {
	f.Add([]byte(`{"id":1,"links":[{"kernel":"../x"}],"nodes":{"n":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := decodeGeneration(data)
		if err != nil {
			return
		}
		again, err := g.encode()
		must(t, err)
		h, err := decodeGeneration(again)
		if err != nil || fmt.Sprint(h.Nodes) != fmt.Sprint(g.Nodes) {
			t.Errorf("got %v, %v, want %v", h.Nodes, err, g.Nodes)
		}
	})
}

// The record is read by a daemon that is another user than who ran bootctl.
func TestRecordIsOpenToAll(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	tree := newTree(t)
	p, err := tree.Plan([]Wanted{{"n", k8s, nil}})
	must(t, err)
	live := "csm-1.5.0"
	p.LiveDir = &live
	_, err = tree.Apply(t.Context(), p)
	must(t, err)
	for name, want := range map[string]fs.FileMode{recordDir: 0o755, generations: 0o755, genName(1): 0o644, settingsFile: 0o644, "n": 0o755} {
		fi, err := os.Stat(at(tree, name))
		must(t, err)
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("%s: got mode %o, want %o", name, got, want)
		}
	}
}
