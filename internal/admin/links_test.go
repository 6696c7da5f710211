package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bootd/artifacts"
	"bootd/internal/admin"
	"bootd/links"
)

// A linker is a backend with a tree.
type linker struct {
	admin.Backend
	tree *links.Tree
	err  error              // instead of doing anything
	each func(links.Change) // is told of each change before the caller is
}

func (l linker) ApplyLinks(ctx context.Context, p links.Plan) ([]links.Change, error) {
	if l.err != nil {
		return nil, l.err
	}
	tell := p.Done
	p.Done = func(c links.Change) {
		if l.each != nil {
			l.each(c)
		}
		tell(c)
	}
	return l.tree.Apply(ctx, p)
}

// linked is a root with one release and a script.
func linked(t *testing.T) (tree *links.Tree, set artifacts.Set) {
	t.Helper()
	root := t.TempDir()
	dir := "ephemeral/data/k8s/0.0.8/"
	set = artifacts.Set{Role: "kubernetes", Release: "0.0.8", Kernel: dir + "k", Initrd: dir + "i", Squashfs: dir + "s"}
	for name, text := range map[string]string{set.Kernel: "k", set.Initrd: "i", set.Squashfs: "s", "boot/script.ipxe": "#!ipxe\nkernel x rd.luks root=y\n"} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := links.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree, set
}

// plan is what set-links makes for n nodes.
func plan(t *testing.T, tree *links.Tree, set artifacts.Set, n int) links.Plan {
	t.Helper()
	var wanted []links.Wanted
	for i := range n {
		wanted = append(wanted, links.Wanted{Node: fmt.Sprintf("n%04d", i), Set: set, Aliases: []string{"old"}})
	}
	p, err := tree.Plan(wanted)
	if err != nil {
		t.Fatal(err)
	}
	live := "csm-1.5"
	p.LiveDir, p.Why = &live, "test"
	if err := tree.PlanScripts(&p, func(node string) []string {
		if node == "n0001" {
			return []string{"rd.luks=0"}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// What comes over the socket is to the byte what is done without it.
func TestApplyLinks(t *testing.T) {
	near, set := linked(t)
	far, _ := linked(t)
	c := admin.NewClient(serve(t, admin.Handler(linker{tree: far})))
	p := plan(t, far, set, 3)
	var told []string
	p.Done = func(c links.Change) { told = append(told, c.Node) }
	done, err := c.ApplyLinks(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Changes, done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"n0000", "n0001", "n0002"}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if _, err := near.Apply(t.Context(), plan(t, near, set, 3)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listing(t, near), listing(t, far)); diff != "" {
		t.Errorf("root (-alone +by the daemon):\n%s", diff)
	}
	s, err := far.Settings()
	if err != nil || s.LiveDir != "csm-1.5" {
		t.Errorf("settings: got %+v, %v, want the live dir", s, err)
	}
	if g, err := far.Generation(0); err != nil || g.Why != "test" {
		t.Errorf("generation: got %+v, %v, want one by test", g, err)
	}
	if again := plan(t, far, set, 3); len(again.Changes) != 0 || len(again.Edited) != 0 {
		t.Errorf("again: got %+v, want nothing to do", again)
	}
}

// listing is all of a root but the generations, which have times.
func listing(t *testing.T, tree *links.Tree) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := tree.Root().Name()
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == "generations" {
			return filepath.SkipDir
		}
		text, _ := os.ReadFile(name)
		target, _ := os.Readlink(name)
		fi, err := e.Info()
		all[strings.TrimPrefix(name, root)] = fmt.Sprint(fi.Mode(), target, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whoever waits for the end can tell why, as without the socket.
func TestApplyLinksFails(t *testing.T) {
	tree, set := linked(t)
	full := &fs.PathError{Op: "mkdir", Path: ".n0000.new", Err: syscall.ENOSPC}
	c := admin.NewClient(serve(t, admin.Handler(linker{err: fmt.Errorf("node %q: %w", "n0000", full)})))
	done, err := c.ApplyLinks(t.Context(), plan(t, tree, set, 1))
	if want := `node "n0000": mkdir .n0000.new: no space left on device`; len(done) != 0 || err == nil || err.Error() != want || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, %v, want %s", done, err, want)
	}

	// A release that was removed after the plan was made is not linked.
	c = admin.NewClient(serve(t, admin.Handler(linker{tree: tree})))
	p := plan(t, tree, set, 1)
	if err := tree.Root().Remove(set.Initrd); err != nil {
		t.Fatal(err)
	}
	done, err = c.ApplyLinks(t.Context(), p)
	if want := `node "n0000": initrd.img.xz: dangling link to "../ephemeral/data/k8s/0.0.8/i"`; len(done) != 0 || err == nil || err.Error() != want {
		t.Errorf("got %v, %v, want %s", done, err, want)
	}
}

// A caller who leaves ends the work after the node that is being switched, and
// what is done stays done.
func TestApplyLinksIsCancelled(t *testing.T) {
	tree, set := linked(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	h := admin.Handler(linker{tree: tree, each: func(c links.Change) {
		if c.Node == "n0001" {
			cancel()
			<-ended
		}
	}})
	seen := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		context.AfterFunc(r.Context(), func() { close(ended) })
		h.ServeHTTP(w, r)
	})
	c := admin.NewClient(serve(t, seen))
	if _, err := c.ApplyLinks(ctx, plan(t, tree, set, 50)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	// The lock is free again when the daemon has stopped working.
	if err := tree.Change(t.Context(), func(*links.Settings) {}); err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string]bool{"n0001": true, "n0002": false, "n0049": false} {
		if _, err := tree.Current(node); (err == nil) != want {
			t.Errorf("%s: got %v, want linked: %v", node, err, want)
		}
	}
	if found, err := tree.Check(nil); err != nil || len(found) != 0 {
		t.Errorf("check: got %v, %v, want nothing", found, err)
	}
}

func TestApplyLinksRefuses(t *testing.T) {
	tree, _ := linked(t)
	if err := tree.Root().Mkdir("html", 0o755); err != nil {
		t.Fatal(err)
	}
	socket := serve(t, admin.Handler(linker{tree: tree}))
	hc := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for body, want := range map[string]string{
		`x`: `{"error":"not a plan: invalid character 'x' looking for beginning of value"}`,
		`{"nodes":[{"node":"n","links":1}],"links":[{}]}`:              `{"error":"node \"n\": its links or its script are not in the order"}`,
		`{"nodes":[{"node":"n","links":-1}]}`:                          `{"error":"node \"n\": its links or its script are not in the order"}`,
		`{"nodes":[{"node":"n","links":0,"script":1}],"links":[{}]}`:   `{"error":"node \"n\": its links or its script are not in the order"}`,
		`{"live_dir":"../x"}`:                                          `{"error":"live_dir: \"../x\" is not the name of a directory (letters, digits, . _ + -)"}`,
		`{"nodes":[{"node":"../n","links":0}],"links":[{}]}`:           `{"end":true,"error":"node \"../n\": is not a host name in lower case"}`,
		`{"nodes":[{"node":"boot","links":0}],"links":[{}]}`:           `{"end":true,"error":"node \"boot\": is the name of a directory that every root has"}`,
		`{"nodes":[{"node":"html","links":0}],"links":[{}]}`:           `{"end":true,"error":"node \"html\": is not a boot directory"}`,
		`{"nodes":[{"node":"n","links":0}],"links":[{"kernel":"/e"}]}`: `{"end":true,"error":"node \"n\": kernel: leads to \"/e\", which is no file of a release"}`,
	} {
		res, err := hc.Post("http://bootd/v1/links", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: got %s, %v, want %s", body, got, err, want)
		}
	}
}
