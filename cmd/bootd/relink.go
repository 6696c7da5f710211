package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"bootd/artifacts"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"
)

// A relinker links the nodes of roles that follow their channel to a new
// release when it is complete. It is woken by the file system, waits until
// nothing has changed for a while, and looks again from time to time, because
// the file system does not tell everything (NFS, a full queue).
type relinker struct {
	world  func() *world
	tree   *links.Tree
	log    *slog.Logger
	settle time.Duration // how long nothing must have changed
	rescan time.Duration
	looked func([]links.Change) // for tests; nil: nobody asks
}

func (d *daemon) follow(ctx context.Context) error {
	f := relinker{world: d.world.Load, tree: d.tree, log: d.log, settle: 5 * time.Second, rescan: 5 * time.Minute}
	return f.run(ctx)
}

// run follows until ctx is done. What goes wrong is logged, and tried again.
func (f *relinker) run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("new releases are noticed late, by looking for them", "every", f.rescan, "err", err)
		w = &fsnotify.Watcher{}
	} else {
		defer w.Close()
	}
	timer := time.NewTimer(f.settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			timer.Reset(f.settle)
		case err := <-w.Errors:
			f.log.Debug("file system events lost", "err", err)
			timer.Reset(f.settle)
		case <-timer.C:
			timer.Reset(f.look(ctx, w))
		}
	}
}

// look links what is to be linked and returns when to look again.
func (f *relinker) look(ctx context.Context, w *fsnotify.Watcher) time.Duration {
	if !f.follows() {
		return f.rescan // a reload may change that
	}
	f.watch(w)
	done, young, err := f.link(ctx)
	if err != nil {
		f.log.Error("releases not followed", "err", err)
	}
	for _, c := range done {
		f.log.Info("linked to a new release of its channel", "node", c.Node, "was", c.Old.Release(), "release", c.New.Release())
	}
	if f.looked != nil {
		f.looked(done)
	}
	if young {
		return f.settle
	}
	return f.rescan
}

func (f *relinker) follows() bool {
	for _, r := range f.world().inv.Roles() {
		if r.Follow {
			return true
		}
	}
	return false
}

// watch watches the directories of the roles and of their releases. Adding one
// that is watched already changes nothing; one that is gone is dropped by the
// watcher.
func (f *relinker) watch(w *fsnotify.Watcher) {
	if w.Events == nil {
		return
	}
	for _, r := range f.world().inv.Roles() {
		if !r.Follow {
			continue
		}
		dir := path.Join(artifacts.DataDir, r.Dir)
		dirs := []string{dir}
		entries, _ := fs.ReadDir(f.tree.Root().FS(), dir)
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				dirs = append(dirs, path.Join(dir, e.Name()))
			}
		}
		for _, dir := range dirs {
			if err := w.Add(filepath.Join(f.tree.Root().Name(), dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				f.log.Warn("not watched", "dir", dir, "err", err)
			}
		}
	}
}

// link links the nodes of the roles that follow. It reports whether a release
// is too young to be taken for complete: a copy may have stopped for a moment.
func (f *relinker) link(ctx context.Context) (done []links.Change, young bool, err error) {
	w := f.world()
	s, err := f.tree.Settings()
	if err != nil {
		return nil, false, err
	}
	choices, err := w.resolve(s)
	if err != nil {
		return nil, false, err
	}
	if err := w.kernelsAgree(choices); err != nil {
		return nil, false, err
	}
	wanted, young, err := f.wanted(ctx, w, choices)
	if err != nil {
		return nil, young, err
	}
	plan, err := f.tree.Plan(wanted)
	if err != nil {
		return nil, young, err
	}
	plan.Why = "follow"
	done, err = f.tree.Apply(ctx, plan)
	for _, r := range plan.Refused {
		err = errors.Join(err, r.Err)
	}
	return done, young, err
}

// wanted returns the boot directories of the nodes whose roles follow, but for
// those whose release is young. A role that wants signatures has all members
// read, so that no release is linked whose content is another.
func (f *relinker) wanted(ctx context.Context, w *world, choices []artifacts.Choice) (wanted []links.Wanted, young bool, err error) {
	for _, c := range choices {
		role, _ := w.inv.Role(c.Node.Role)
		switch {
		case !role.Follow || c.Err != nil:
			continue
		case time.Since(changed(f.tree.Root(), c.Set)) < f.settle:
			young = true
			continue
		case role.Signed:
			if err := artifacts.Verify(ctx, f.tree.Root(), c.Set, nil); err != nil {
				return nil, young, fmt.Errorf("release %s: %w", c.Set.Release, err)
			}
		}
		wanted = append(wanted, links.Wanted{Node: c.Node.Name, Set: c.Set, Aliases: role.Aliases})
	}
	return wanted, young, nil
}

// resolve finds the release of each node, with the pins of s.
func (w *world) resolve(s links.Settings) (list []artifacts.Choice, err error) {
	nodes := slices.Clone(w.inv.Nodes())
	catalogs := map[string]artifacts.Catalog{}
	for name, r := range w.inv.Roles() {
		r.Release = cmp.Or(s.Roles[name], r.Release)
		if catalogs[name], err = w.catalog(r); err != nil {
			return nil, err
		}
	}
	for i, n := range nodes {
		nodes[i].Release = cmp.Or(s.Nodes[n.Name], n.Release)
	}
	return artifacts.Resolve(nodes, catalogs), nil
}

// changed returns when a member of a set was last changed.
func changed(root *os.Root, s artifacts.Set) (last time.Time) {
	for _, name := range s.Members() {
		if fi, err := root.Stat(name); err == nil && fi.ModTime().After(last) {
			last = fi.ModTime()
		}
	}
	return last
}

// catalog finds the releases of a role that may be linked.
func (w *world) catalog(r node.Role) (artifacts.Catalog, error) {
	c := artifacts.Scan(w.tree.Root(), r)
	if !r.Signed {
		return c, nil
	}
	text, err := os.ReadFile(w.cfg.Signers)
	if err != nil {
		return c, fmt.Errorf("signers: %w", err)
	}
	keys, err := artifacts.ParseKeys(string(text))
	if err != nil {
		return c, fmt.Errorf("signers: %s: %w", w.cfg.Signers, err)
	}
	c.OnlySigned(w.tree.Root(), keys)
	return c, nil
}

// kernelsAgree is an error where the kernels of roles differ and the site does
// not want that.
func (w *world) kernelsAgree(choices []artifacts.Choice) error {
	rules := map[string]bool{}
	for _, c := range choices {
		if c.Err == nil {
			rules[c.Set.KernelRule()] = true
		}
	}
	if w.cfg.Kernels == config.KernelsError && len(rules) > 1 {
		return errors.New("kernels of the roles differ, no node is linked")
	}
	return nil
}
