package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bootd/artifacts"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"
)

// writeRelease makes the files of a release of a role in a directory.
func writeRelease(t *testing.T, dir, kernel, id, base string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{kernel + "-default-" + id + ".kernel": "MZ", "initrd.img-" + id + ".xz": "070701", base + "-" + id + ".squashfs": "hsqs"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// followed starts a relinker in a root with 0.0.8 of both roles, of which only
// kubernetes follows, and returns what it did each time it looked.
func followed(t *testing.T, kernels config.Kernels) (root string, tree *links.Tree, looks chan []links.Change) {
	t.Helper()
	root = t.TempDir()
	writeRelease(t, root+"/ephemeral/data/k8s/0.0.8", "5.3.18-24.37", "0.0.8", "kubernetes")
	writeRelease(t, root+"/ephemeral/data/ceph/0.0.8", "5.3.18-24.37", "0.0.8", "storage-ceph")
	tree, err := links.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := node.NewInventory([]node.Node{
		{Name: "ncn-m001", Role: "kubernetes", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 1}}},
		{Name: "ncn-m002", Role: "kubernetes", Release: "0.0.8", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 2}}},
		{Name: "ncn-s001", Role: "storage-ceph", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 3}}},
	}, []node.Role{
		{Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}, Follow: true},
		{Name: "storage-ceph", Dir: "ceph", Squashfs: []string{"storage-ceph"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	looks = make(chan []links.Change, 100)
	w := &world{cfg: &config.Config{Kernels: kernels}, inv: inv, tree: tree}
	// Rescans are an hour apart: what is noticed, the file system told.
	f := relinker{world: func() *world { return w }, tree: tree, log: slog.New(slog.DiscardHandler),
		settle: 50 * time.Millisecond, rescan: time.Hour, looked: func(c []links.Change) { looks <- c }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("after cancel: got %v, want nil", err)
		}
		if found, err := tree.Check(nil); err != nil || len(found) > 0 {
			t.Errorf("check after the test: got %v, %v, want nothing", found, err)
		}
		tree.Close()
	})
	return root, tree, looks
}

// next waits for a look that changed something.
func next(t *testing.T, looks chan []links.Change) []links.Change {
	t.Helper()
	for {
		select {
		case c := <-looks:
			if len(c) > 0 {
				return c
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was linked within 20 s")
		}
	}
}

func TestFollow(t *testing.T) {
	root, tree, looks := followed(t, config.KernelsWarn)
	if got := next(t, looks); len(got) != 2 {
		t.Errorf("at first: got %v, want both nodes of the role linked", got)
	}
	if _, err := tree.Current("ncn-s001"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ncn-s001: got %v, want that its role is left alone", err)
	}

	// An import appears in one step, and is followed; a pinned node stays.
	src, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	writeRelease(t, src.Name(), "5.3.18-24.37", "0.0.9", "kubernetes")
	role := node.Role{Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}}
	if _, err := (artifacts.Import{Root: tree.Root(), Role: role}).Dir(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if got := next(t, looks); len(got) != 1 || got[0].Node != "ncn-m001" || got[0].New.Release() != "0.0.9" {
		t.Errorf("after the import: got %v, want ncn-m001 on 0.0.9", got)
	}

	// A copy by hand, file by file, is followed when the last is there.
	writeRelease(t, root+"/part", "5.3.18-24.37", "0.1.0", "kubernetes")
	entries, err := os.ReadDir(root + "/part")
	if err != nil {
		t.Fatal(err)
	}
	dir := root + "/ephemeral/data/k8s/0.1.0/"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if c, err := tree.Current("ncn-m001"); err != nil || c.Release != "0.0.9" {
			t.Errorf("before %s: got %s, %v, want 0.0.9", e.Name(), c.Release, err)
		}
		<-looks // it looked at what is there so far
		if err := os.Rename(root+"/part/"+e.Name(), dir+e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if got := next(t, looks); len(got) != 1 || got[0].New.Release() != "0.1.0" {
		t.Errorf("after the copy: got %v, want ncn-m001 on 0.1.0", got)
	}
	g, err := tree.Generation(0)
	if err != nil || g.Why != "follow" {
		t.Errorf("generation: got %q, %v, want follow", g.Why, err)
	}
}

// Where kernels must agree, a release that does not is not followed.
func TestFollowKernels(t *testing.T) {
	root, tree, looks := followed(t, config.KernelsError)
	next(t, looks)
	writeRelease(t, root+"/part", "6.4.0-1", "0.0.9", "kubernetes")
	if err := os.Rename(root+"/part", root+"/ephemeral/data/k8s/0.0.9"); err != nil {
		t.Fatal(err)
	}
	if got := <-looks; len(got) > 0 {
		t.Errorf("got %v, want nothing linked", got)
	}
	if c, err := tree.Current("ncn-m001"); err != nil || c.Release != "0.0.8" {
		t.Errorf("ncn-m001: got %s, %v, want 0.0.8", c.Release, err)
	}
}
