package links

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bootd/artifacts"
)

// webUser owns the root directory, and is the user of the daemon.
const webUser = 65534

// as does something with the rights that a user has on files. Only this thread
// has them, and ends with it.
func as(uid int, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := errors.Join(unix.Setfsgid(uid), unix.Setfsuid(uid))
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// ownedTree is a tree whose root directory belongs to webUser, with a script to
// copy. Only root can make one.
func ownedTree(t *testing.T) *Tree {
	t.Helper()
	tree := newTree(t)
	must(t, os.Mkdir(at(tree, "boot"), 0o755))
	write(t, tree, master, csmScript)
	if err := os.Chown(tree.Root().Name(), webUser, webUser); err != nil {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skipf("missing: the right to give files away: %v", err)
	}
	return tree
}

func (t *Tree) linkTo(tb testing.TB, s artifacts.Set) error {
	p, err := t.Plan([]Wanted{{Node: "n", Set: s}})
	if err == nil {
		err = t.PlanScripts(&p, workers)
	}
	if err == nil {
		p.LiveDir = &s.Release
		_, err = t.Apply(tb.Context(), p)
	}
	if err == nil {
		err = t.Change(tb.Context(), func(set *Settings) { set.Nodes = map[string]string{"n": s.Release} })
	}
	return err
}

// An administrator as root and a daemon as the owner of the root directory take
// turns, whoever begins.
func TestRootAndOwnerTakeTurns(t *testing.T) {
	for _, first := range []int{0, webUser} {
		t.Run(fmt.Sprintf("user %d first", first), func(t *testing.T) {
			tree := ownedTree(t)
			for i, s := range []artifacts.Set{k8s, next, k8s, next, k8s, next} {
				uid := []int{first, webUser - first}[i/2%2] // twice each: the second one moves what the first replaced
				if err := as(uid, func() error { return tree.linkTo(t, s) }); err != nil {
					t.Fatalf("user %d, the %d. time: %v", uid, i+1, err)
				}
			}
			for _, name := range []string{lockName, recordDir, generations, settingsFile, scriptsFile, "n", "n/" + script} {
				fi, err := os.Lstat(filepath.Join(tree.Root().Name(), name))
				if err != nil {
					t.Fatal(err)
				}
				if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != webUser {
					t.Errorf("%s: got owner %d, want %d as the root directory has", name, uid, webUser)
				}
			}
		})
	}
}

// A lock that root made before that keeps the owner out, who is told how to get
// in. Root opens it with the next change.
func TestLockOfRoot(t *testing.T) {
	tree := ownedTree(t)
	must(t, os.WriteFile(at(tree, lockName), nil, 0o600))
	err := as(webUser, func() error { return tree.linkTo(t, k8s) })
	root := tree.Root().Name()
	want := fmt.Sprintf("openat %s: permission denied: it belongs to user 0, and %s to user %d: as root, run chown --reference=%s %s/%s", lockName, root, webUser, root, root, lockName)
	if !errors.Is(err, fs.ErrPermission) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	must(t, tree.linkTo(t, k8s))
	must(t, as(webUser, func() error { return tree.linkTo(t, next) }))
}

func TestLockOfOthers(t *testing.T) {
	tree := ownedTree(t)
	must(t, tree.linkTo(t, k8s))
	err := as(webUser-1, func() error { return tree.linkTo(t, next) })
	if want := fmt.Sprintf("boot directories are changed by user %d, who owns %s, or by root", webUser, tree.Root().Name()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Directories that root made before it gave them to the owner, and half a file
// of a root that died, keep the owner out no longer than until root's next
// change.
func TestOwnerAfterOldRoot(t *testing.T) {
	tree := ownedTree(t)
	must(t, tree.linkTo(t, k8s))
	must(t, os.Lchown(at(tree, "n"), 0, 0))
	must(t, tree.linkTo(t, next))
	must(t, tree.linkTo(t, k8s))
	graveyard, err := os.ReadDir(at(tree, graves))
	if err != nil || len(graveyard) != 1 {
		t.Fatalf("got %v, %v, want one", graveyard, err)
	}
	replaced, err := graveyard[0].Info()
	must(t, err)
	if uid := replaced.Sys().(*syscall.Stat_t).Uid; uid != webUser {
		t.Errorf("what root replaced: got owner %d, want %d, who has to take it away", uid, webUser)
	}
	for _, dir := range []string{recordDir, generations} {
		must(t, os.WriteFile(at(tree, dir, ".tmp"), nil, 0o644))
	}
	must(t, as(webUser, func() error { return tree.linkTo(t, next) }))
}
