package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bootd/artifacts"
	"bootd/deploy"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/ipxe"
	"bootd/links"
)

// twoReleases makes a root with two releases, whose files begin with their id.
func twoReleases(t *testing.T) (*links.Tree, [2]artifacts.Set) {
	t.Helper()
	root := t.TempDir()
	var sets [2]artifacts.Set
	for i, id := range []string{"0.0.8", "0.0.9"} {
		dir := "ephemeral/data/k8s/" + id + "/"
		sets[i] = artifacts.Set{Release: id, Kernel: dir + "5.3.18-" + id + ".kernel", Initrd: dir + "initrd.img-" + id + ".xz", Squashfs: dir + "kubernetes-" + id + ".squashfs"}
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{sets[i].Kernel, sets[i].Initrd, sets[i].Squashfs} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(id+" "+filepath.Base(name)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	tree, err := links.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if found, err := tree.Check(nil); err != nil || len(found) > 0 {
			t.Errorf("check after the test: got %v, %v, want nothing", found, err)
		}
		tree.Close()
	})
	return tree, sets
}

func linkNode(t *testing.T, tree *links.Tree, s artifacts.Set, live string) {
	t.Helper()
	p, err := tree.Plan([]links.Wanted{{Node: "ncn-m001", Set: s}})
	if err == nil {
		p.LiveDir = &live
		_, err = tree.Apply(t.Context(), p)
	}
	if err != nil {
		t.Error(err)
	}
}

// plane serves a tree with one node.
func plane(t *testing.T, tree *links.Tree) string {
	t.Helper()
	inv, err := node.NewInventory([]node.Node{{Name: "ncn-m001", Role: "kubernetes", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 1}}}},
		[]node.Role{{Name: "kubernetes", Dir: "k8s", Args: "quiet"}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{cfg: new(config.Config), inv: inv, tree: tree}
	s := httptest.NewServer((&ipxe.Server{
		Root:     tree.Root(),
		Decide:   func(m ipxe.Machine) deploy.Decision { return w.decide(w.find(m), deploy.Observation{}) },
		IsNode:   func(name string) bool { _, ok := inv.ByName(name); return ok },
		Identify: func(netip.Addr) (string, node.MAC) { return "", node.MAC{} },
		Pinned:   w.pinned,
	}).Handler())
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: got %s, %v: %s", url, resp.Status, err, body)
	}
	return string(body)
}

var (
	kernelURL = regexp.MustCompile(`(?m)^kernel (?:--timeout \d+ )?(http\S+) .*metal\.server=(\S+)`)
	initrdURL = regexp.MustCompile(`(?m)^initrd .*--name \S+ (\S+)`)
)

// boot takes the steps of one boot and returns the releases it got.
func bootOnce(t *testing.T, base string, between func()) (got []string) {
	script := get(t, base+"/boot/script.ipxe?mac=52-54-00-00-00-01")
	k, i := kernelURL.FindStringSubmatch(script), initrdURL.FindStringSubmatch(script)
	if k == nil || i == nil {
		t.Errorf("script without kernel and initrd:\n%s", script)
		return nil
	}
	for _, url := range []string{k[1], i[1], k[2] + "/rootfs", k[2] + "/filesystem.squashfs"} {
		between()
		id, _, _ := strings.Cut(get(t, url), " ")
		got = append(got, id)
	}
	return got
}

// Whatever is switched while it boots, a machine ends with the release that it
// began with.
func TestOneBootGetsOneRelease(t *testing.T) {
	tree, sets := twoReleases(t)
	linkNode(t, tree, sets[0], "")
	base := plane(t, tree)
	i := 0
	got := bootOnce(t, base, func() { i++; linkNode(t, tree, sets[i%2], "") })
	if want := "[0.0.8 0.0.8 0.0.8 0.0.8]"; fmt.Sprint(got) != want {
		t.Errorf("a switch between any two steps: got %v, want %s", got, want)
	}

	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; n < 50 || !stop.Load(); n++ {
				got := bootOnce(t, base, func() {})
				for _, id := range got {
					if id != got[0] {
						t.Errorf("got releases %v in one boot, want one", got)
						return
					}
				}
			}
		})
	}
	for n := range 40 {
		linkNode(t, tree, sets[n%2], "")
	}
	stop.Store(true)
	wg.Wait()

	// The names without a release follow the links.
	linkNode(t, tree, sets[1], "")
	if got := get(t, base+"/ncn-m001/rootfs"); got != "0.0.9 kubernetes-0.0.9.squashfs" {
		t.Errorf("/ncn-m001/rootfs: got %q, want that of 0.0.9", got)
	}
	for _, path := range []string{"/ncn-m001/0.1.0/kernel", "/ncn-m001/../kernel", "/ncn-m002/0.0.8/kernel", "/ncn-m001/0.0.8/script.ipxe", "/boot/0.0.8/kernel"} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %s, want that there is none", path, resp.Status)
		}
	}
}

// CSM_RELEASE of set-links reaches the kernel command line, and leaves it.
func TestLiveDirOnTheCommandLine(t *testing.T) {
	tree, sets := twoReleases(t)
	base := plane(t, tree)
	for _, live := range []string{"csm-1.5.0", "csm-1.6.0", ""} {
		linkNode(t, tree, sets[0], live)
		script := get(t, base+"/boot/script.ipxe?mac=52-54-00-00-00-01")
		want := "quiet rd.live.dir=" + live
		if live == "" {
			want = "quiet ||"
		}
		if !strings.Contains(script, want) || live == "" && strings.Contains(script, "rd.live.dir") {
			t.Errorf("CSM_RELEASE=%q: got\n%s\nwant %s in it", live, script, want)
		}
	}
}
