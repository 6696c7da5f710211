package links

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bootd/artifacts"
)

const (
	lockName = ".bootd-links.lock"
	patience = 10 * time.Second // with another writer; a run of 10,000 nodes takes less
)

// Apply carries out a plan. All new boot directories are built before the
// first one is switched, so that a full disk switches none. It stops at the
// first failure, or when ctx is done, and returns the changes that are done in
// any case; what is not done is as it was. What it does is a generation, even
// where it fails half-way. A change that is done already, by
// an earlier Apply or by another process, counts as done.
func (t *Tree) Apply(ctx context.Context, p Plan) (done []Change, err error) {
	if none, err := t.NothingToDo(p); none || err != nil {
		return nil, err
	}
	dir, err := t.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	unlock, err := t.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := errors.Join(t.sweep(), t.stillThere(p.Changes)); err != nil {
		return nil, err
	}
	w, err := t.begin(p)
	if err != nil {
		return nil, err
	}
	if w.rec == nil {
		return nil, errors.Join(w.book.save(), t.exhume(w.old), dir.Sync())
	}
	done, err = t.apply(ctx, dir, p, w)
	if err != nil {
		if w.rec.last.Why == w.next.Why {
			err = errors.Join(err, w.rec.settle())
		}
		err = errors.Join(err, t.sweep())
	}
	return done, errors.Join(err, t.exhume(w.old), dir.Sync())
}

// A work is what a plan needs besides its changes, while the lock is held.
type work struct {
	book *copybook
	rec  *recording // nil: no generation begins
	next Generation
	made map[string]string   // links that wait to be switched: where one to each target is
	old  map[string][]string // directories of nodes that were replaced and that nobody reads any more
}

func (t *Tree) begin(p Plan) (w *work, err error) {
	w = &work{made: map[string]string{}}
	if w.old, err = t.unread(); err != nil {
		return w, err
	}
	if w.book, err = t.openCopybook(); err != nil {
		return w, err
	}
	for _, sum := range p.Copied {
		w.book.add(sum)
	}
	s, err := t.Settings()
	if err != nil {
		return w, err
	}
	live := s.LiveDir
	if p.LiveDir != nil {
		live = *p.LiveDir
	}
	if len(p.Changes) == 0 && live == s.LiveDir {
		return w, nil
	}
	if w.rec, err = t.record(); err != nil {
		return w, err
	}
	w.next = Generation{Why: cmp.Or(p.Why, "set-links"), LiveDir: live, Nodes: map[string]Links{}}
	maps.Copy(w.next.Nodes, w.rec.last.Nodes)
	for _, c := range p.Changes {
		w.next.Nodes[c.Node] = c.New
		if c.Removed() {
			delete(w.next.Nodes, c.Node)
		}
	}
	return w, nil
}

// promise records what is about to be switched.
func (w *work) promise() error {
	if err := w.book.save(); err != nil {
		return err
	}
	if maps.Equal(w.next.Nodes, w.rec.last.Nodes) && w.next.LiveDir == w.rec.last.LiveDir {
		return nil // another process was faster
	}
	if err := w.rec.write(w.next); err != nil {
		return err
	}
	return w.rec.tree.change(func(s *Settings) { s.LiveDir = w.next.LiveDir })
}

// NothingToDo reports whether Apply would write nothing at all.
func (t *Tree) NothingToDo(p Plan) (bool, error) {
	s, err := t.Settings()
	return len(p.Changes) == 0 && len(p.Leftovers) == 0 && len(p.Copied) == 0 && (p.LiveDir == nil || *p.LiveDir == s.LiveDir), err
}

// stillThere refuses links to what was removed after the plan was made.
func (t *Tree) stillThere(changes []Change) error {
	good := map[Links]bool{{}: true}
	for _, c := range changes {
		if good[c.New] {
			continue
		}
		if err := t.checkLinks(c.New); err != nil {
			return fmt.Errorf("node %q: %w", c.Node, err)
		}
		good[c.New] = true
	}
	return nil
}

// apply does the work of Apply under the lock. It is promised when all is staged
// and nothing is switched.
func (t *Tree) apply(ctx context.Context, dir *os.File, p Plan, w *work) (done []Change, err error) {
	changes := p.Changes
	states := make([]state, len(changes))
	for i, c := range changes {
		if states[i], err = t.stage(ctx, c, w); err != nil {
			return nil, fmt.Errorf("node %q: %w", c.Node, err)
		}
	}
	if err := t.syncAll(dir, changes, states, w.book); err != nil {
		return nil, err
	}
	if err := w.promise(); err != nil {
		return nil, err
	}
	for i, c := range changes {
		if err := ctx.Err(); err != nil {
			return done, fmt.Errorf("node %q: %w", c.Node, err)
		}
		if err := t.turn(dir, c.Node, states[i]); err != nil {
			return done, fmt.Errorf("node %q: %w", c.Node, err)
		}
		done = append(done, c)
		if p.Done != nil {
			p.Done(c)
		}
		if err := t.putAway(c.Node, states[i]); err != nil {
			return done, fmt.Errorf("node %q: %w", c.Node, err)
		}
	}
	return done, nil
}

// Removals at a time; and how many directories are made durable one by one.
// Beyond that one sync of the whole file system costs less than thousands of
// commits of its journal, even where it has to write what others left there.
const (
	removals = 64
	syncs    = 64
)

// syncAll makes what was built durable.
func (t *Tree) syncAll(dir *os.File, changes []Change, states []state, book *copybook) error {
	if len(changes) > syncs {
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return &fs.PathError{Op: "syncfs", Path: t.root.Name(), Err: err}
		}
		return nil
	}
	for i, c := range changes {
		if err := t.sync(c.Node, states[i], book); err != nil {
			return fmt.Errorf("node %q: %w", c.Node, err)
		}
	}
	return nil
}

// A state is how far a node has come.
type state uint8

const (
	linked    state = iota // boot directory is as wanted
	stagedNew              // staging directory waits, there is no boot directory
	stagedOld              // staging directory waits to replace a boot directory
	leaving                // boot directory waits to be taken away
)

// stage builds the new boot directory of one node.
func (t *Tree) stage(ctx context.Context, c Change, w *work) (state, error) {
	if err := errors.Join(ctx.Err(), checkName(c.Node)); err != nil {
		return linked, err
	}
	if c.Removed() {
		return t.stageRemoval(c.Node)
	}
	have, err := t.inspect(c.Node)
	if err != nil || have.links == c.New && !w.book.stale(c) {
		return linked, err
	}
	if err := have.hinders(c.New); err != nil {
		return linked, err
	}
	tmp := staging(c.Node)
	if err := t.room(c.Node, w.old); err != nil {
		return linked, err
	}
	if err := t.fill(tmp, c, have, w); err != nil {
		return linked, err
	}
	if have.info == nil {
		return stagedNew, errors.Join(t.root.Chmod(tmp, 0o755), artifacts.Adopt(t.root, tmp)) // whatever the umask is
	}
	return stagedOld, errors.Join(t.dress(tmp, have.info), artifacts.Adopt(t.root, tmp))
}

// room makes an empty staging directory: out of one that the node had before and
// that nobody reads any more, if there is one. A file system takes longer to
// free ten thousand directories and to make as many than to use them again.
func (t *Tree) room(node string, old map[string][]string) error {
	tmp := staging(node)
	if n := len(old[node]); n > 0 && t.root.Rename(old[node][n-1], tmp) == nil {
		old[node] = old[node][:n-1]
		if t.empty(tmp) == nil {
			return nil
		}
		if err := t.root.RemoveAll(tmp); err != nil {
			return err
		}
	}
	return t.root.Mkdir(tmp, 0o755)
}

// empty removes the entries of a directory.
func (t *Tree) empty(name string) error {
	dir, err := t.root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := fs.ReadDir(dir.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, dir.Remove(e.Name()))
	}
	return err
}

func (t *Tree) stageRemoval(node string) (state, error) {
	if _, err := t.root.Lstat(node); errors.Is(err, fs.ErrNotExist) {
		return linked, nil
	}
	return leaving, t.prunable(node)
}

// fill makes the entries of a staging directory.
func (t *Tree) fill(tmp string, c Change, have bootDir, w *work) error {
	dir, err := t.root.OpenRoot(tmp)
	if err != nil {
		return err
	}
	defer dir.Close()
	copied, err := w.book.put(c, dir)
	if err != nil {
		return err
	}
	for _, k := range c.New.each() {
		if k.target == "" { // there is no root file system, or a rollback to a directory without such a link
			continue
		}
		if err := t.symlink(dir, tmp+"/"+k.name, k.target, w.made); err != nil {
			return err
		}
	}
	for _, name := range have.carried(c.New) {
		if name == script && copied {
			continue
		}
		if err := t.root.Link(c.Node+"/"+name, tmp+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// symlink makes a link, in dir. Nodes of one release have the same links, so all
// but the first are further names of it (no link is ever changed in its place):
// a file system takes long to make ten thousand files and longer to free them.
func (t *Tree) symlink(dir *os.Root, name, target string, made map[string]string) error {
	if same, ok := made[target]; ok && t.root.Link(same, name) == nil {
		return nil
	}
	made[target] = name // the first, or as many names as there may be
	return dir.Symlink(target, path.Base(name))
}

// dress gives the new directory the owner and mode of the one it replaces.
func (t *Tree) dress(name string, like fs.FileInfo) error {
	if sys, ok := like.Sys().(*syscall.Stat_t); ok {
		// A daemon that is not root may own the root directory and not what
		// root made in it.
		if err := t.root.Lchown(name, int(sys.Uid), int(sys.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return t.root.Chmod(name, like.Mode())
}

func (t *Tree) sync(node string, s state, book *copybook) error {
	if s == linked || s == leaving {
		return nil
	}
	return errors.Join(book.sync(node), t.syncDir(staging(node)))
}

// turn puts the staged directory in place.
func (t *Tree) turn(dir *os.File, node string, s state) error {
	switch s {
	case linked:
		return nil
	case stagedNew:
		return t.root.Rename(staging(node), node)
	case leaving:
		return errors.Join(t.bury(node), t.root.Rename(node, replaced(node)))
	}
	return t.exchange(dir, staging(node), node)
}

// putAway keeps the directory that was replaced, instead of the one before it.
func (t *Tree) putAway(node string, s state) error {
	if s != stagedOld {
		return nil
	}
	if err := errors.Join(t.bury(node), artifacts.Adopt(t.root, staging(node))); err != nil {
		return err
	}
	return t.root.Rename(staging(node), replaced(node))
}

// Directories that were replaced and replaced again stay for a while, because
// somebody who opened one may not have read all of it. They are called
// NODE.TIME, in nanoseconds since 1970.
const (
	graves = recordDir + "/replaced"
	grace  = 10 * time.Second
)

// bury moves the directory that was replaced before out of the way.
func (t *Tree) bury(node string) error {
	if _, err := t.root.Lstat(replaced(node)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := artifacts.MkdirAll(t.root, graves); err != nil {
		return err
	}
	return t.root.Rename(replaced(node), fmt.Sprintf("%s/%s.%d", graves, node, time.Now().UnixNano()))
}

// unread finds the directories that nobody can be reading any more, by node. The
// lock must be held.
func (t *Tree) unread() (map[string][]string, error) {
	entries, err := fs.ReadDir(t.root.FS(), graves)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	old := map[string][]string{}
	for _, e := range entries {
		i := max(0, strings.LastIndexByte(e.Name(), '.'))
		at, _ := strconv.ParseInt(strings.TrimPrefix(e.Name()[i:], "."), 10, 64)
		if time.Since(time.Unix(0, at)) > grace {
			old[e.Name()[:i]] = append(old[e.Name()[:i]], graves+"/"+e.Name())
		}
	}
	return old, err
}

// exhume removes directories that nobody reads. The lock must be held.
func (t *Tree) exhume(old map[string][]string) error {
	var g errgroup.Group
	g.SetLimit(removals)
	for _, names := range old {
		for _, name := range names {
			g.Go(func() error { return t.root.RemoveAll(name) })
		}
	}
	return g.Wait()
}

// exchange swaps two entries of dir in one step.
func exchange(dir *os.File, a, b string) error {
	fd := int(dir.Fd())
	err := unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EXDEV):
		return fmt.Errorf("this file system cannot exchange two directories in one step (renameat2: %w)", err)
	case err != nil:
		return fmt.Errorf("exchange %s and %s: %w", a, b, err)
	}
	return nil
}

// sweep removes leftovers. The lock must be held.
func (t *Tree) sweep() error {
	names, err := t.leftovers()
	for _, name := range names {
		err = errors.Join(err, t.root.RemoveAll(name))
	}
	return err
}

// openLock opens the file of the lock, which the owner of the root directory and
// root share.
func (t *Tree) openLock() (*os.File, error) {
	f, err := t.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %s", err, t.lockDenied())
	case err != nil:
		return nil, err
	}
	if err := artifacts.Adopt(t.root, lockName); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockDenied says why this user may not have the lock, and what to do.
func (t *Tree) lockDenied() string {
	root := t.root.Name()
	dir, err := owner(t.root, ".")
	if err != nil {
		return err.Error()
	}
	file, err := owner(t.root, lockName)
	if err != nil || file == dir {
		return fmt.Sprintf("boot directories are changed by user %d, who owns %s, or by root", dir, root)
	}
	return fmt.Sprintf("it belongs to user %d, and %s to user %d: as root, run chown --reference=%s %s/%s", file, root, dir, root, root, lockName)
}

// owner returns the number of the user who owns a file.
func owner(root *os.Root, name string) (uint32, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return 0, err
	}
	return fi.Sys().(*syscall.Stat_t).Uid, nil
}

// lock waits for the lock until ctx is done, but not longer than patience.
func (t *Tree) lock(ctx context.Context) (unlock func() error, err error) {
	f, err := t.openLock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(&fs.PathError{Op: "flock", Path: lockName, Err: err}, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process is changing boot directories and holds %s: %w", lockName, ctx.Err()), f.Close())
		case <-again.C:
		}
	}
}
