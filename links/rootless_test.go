package links

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bootd/artifacts"
	"bootd/internal/node"
)

// A release whose manifest says that it has no root file system is linked
// without one, and goes there and back. Where no manifest says so, the same
// boot directory has a hole.
func TestWithoutRootfs(t *testing.T) {
	tree := newTree(t)
	dir := filepath.Join(tree.Root().Name(), "ephemeral/data/k8s/12.0.0")
	s := artifacts.Set{Role: "kubernetes", Release: "12.0.0", Rootfs: node.NoRootfs, Kernel: "ephemeral/data/k8s/12.0.0/6.1-12.0.0.kernel", Initrd: "ephemeral/data/k8s/12.0.0/initrd.img-12.0.0.xz"}
	must(t, os.Mkdir(dir, 0o755))
	for name, text := range map[string]string{"6.1-12.0.0.kernel": "x", "initrd.img-12.0.0.xz": "x", "manifest.json": `{"rootfs":"none"}`} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	aliases := []string{"filesystem.squashfs"}
	mustApply(t, tree, Wanted{Node: "n", Set: k8s, Aliases: aliases})
	p := mustApply(t, tree, Wanted{Node: "n", Set: s, Aliases: aliases})
	if len(p.Changes) != 1 || strings.Join(p.Changes[0].Differ(), " ") != "kernel initrd.img.xz rootfs filesystem.squashfs" {
		t.Errorf("got changes %+v", p.Changes)
	}
	want := Current{"k8s", "12.0.0", s.Kernel, s.Initrd, ""}
	if got, err := tree.Current("n"); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := os.Lstat(filepath.Join(tree.Root().Name(), "n/rootfs")); !os.IsNotExist(err) {
		t.Errorf("rootfs: got %v, want that it is gone", err)
	}
	if again := mustApply(t, tree, Wanted{Node: "n", Set: s, Aliases: aliases}); len(again.Changes) != 0 {
		t.Errorf("again: got %+v, want nothing to do", again.Changes)
	}
	if found, err := tree.Check(nil); err != nil || len(found) != 0 {
		t.Errorf("check: got %v, %v", found, err)
	}

	manifest := filepath.Join(dir, "manifest.json")
	for _, x := range []struct{ text, want string }{
		{`{"rootfs":"iso"}`, `node "n": rootfs: there is no such link`},
		{`{}`, `node "n": rootfs: there is no such link`},
		{`{"rootfs":"x"}`, `node "n": rootfs: ephemeral/data/k8s/12.0.0/manifest.json: rootfs: "x" is not one of iso, cpio, none`},
		{"", `node "n": rootfs: there is no such link`},
	} {
		must(t, os.WriteFile(manifest, []byte(x.text), 0o644))
		if x.text == "" {
			must(t, os.Remove(manifest))
		}
		if _, err := tree.Current("n"); err == nil || err.Error() != x.want {
			t.Errorf("manifest %q: got %v, want %s", x.text, err, x.want)
		}
	}
	must(t, os.WriteFile(manifest, []byte(`{"rootfs":"none"}`), 0o644))

	back, _, err := tree.PlanRollback(-1)
	must(t, err)
	_, err = tree.Apply(t.Context(), back)
	must(t, err)
	if got, err := tree.Current("n"); err != nil || got.Squashfs != k8s.Squashfs {
		t.Errorf("rolled back: got %+v, %v, want %s", got, err, k8s.Squashfs)
	}
	if got, err := tree.Boot("n", "12.0.0"); err != nil || got != want {
		t.Errorf("a boot that began before: got %+v, %v, want %+v", got, err, want)
	}
}
