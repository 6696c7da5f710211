package links

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"bootd/artifacts"
)

// The record of the tree is a directory of the root, not of the daemon's state:
// it belongs to the links, moves with them, and is there where no daemon is.
const (
	recordDir    = ".bootd"
	generations  = recordDir + "/generations"
	settingsFile = recordDir + "/settings.json"
)

// keep is how many generations are kept.
const keep = 50

// A Generation is the state of all boot directories after a change of them. It
// is written, and durable, before the first directory is switched; a change
// that was cut short shows as a difference between the last generation and the
// links, which Check reports and the next Apply records.
type Generation struct {
	ID      int              `json:"id"`
	Time    time.Time        `json:"time"`
	Why     string           `json:"why"`                // the command, or Found
	LiveDir string           `json:"live_dir,omitempty"` // as in Settings
	Nodes   map[string]Links `json:"nodes"`              // that had any link
}

// Found is the Why of a generation that records what somebody else did.
const Found = "found"

// genFile is a generation on disk. Thousands of nodes share few sets of links.
type genFile struct {
	ID      int            `json:"id"`
	Time    time.Time      `json:"time"`
	Why     string         `json:"why"`
	LiveDir string         `json:"live_dir,omitempty"`
	Links   []Links        `json:"links"`
	Nodes   map[string]int `json:"nodes"` // index in Links
}

// Settings are what goes with the links of all nodes.
type Settings struct {
	// LiveDir is rd.live.dir on the kernel command line: where a node keeps
	// its image. Empty: the initrd's default.
	LiveDir string `json:"live_dir,omitempty"`
	// Roles and Nodes are the releases that these are pinned to, whatever the
	// configuration says.
	Roles map[string]string `json:"roles,omitempty"`
	Nodes map[string]string `json:"nodes,omitempty"`
}

// ErrNoGeneration is returned when there is no generation of that number.
var ErrNoGeneration = errors.New("no such generation")

// Settings returns the settings of the tree.
func (t *Tree) Settings() (s Settings, err error) {
	data, err := t.root.ReadFile(settingsFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", settingsFile, err)
	}
	return s, nil
}

// GenerationIDs returns the numbers of the generations, the oldest first.
func (t *Tree) GenerationIDs() (ids []int, err error) {
	entries, err := fs.ReadDir(t.root.FS(), generations)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), ".json")
		if id, err := strconv.Atoi(stem); ok && err == nil && id > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}

// Generation reads a generation. Zero stands for the last one, -1 for the one
// before it, and so on.
func (t *Tree) Generation(id int) (Generation, error) {
	if id <= 0 {
		ids, err := t.GenerationIDs()
		switch i := len(ids) - 1 + id; {
		case err != nil:
			return Generation{}, err
		case i < 0:
			return Generation{}, ErrNoGeneration
		default:
			id = ids[i]
		}
	}
	data, err := t.root.ReadFile(genName(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Generation{}, fmt.Errorf("%d: %w", id, ErrNoGeneration)
	case err != nil:
		return Generation{}, err
	}
	g, err := decodeGeneration(data)
	if err == nil && g.ID != id {
		err = fmt.Errorf("says that it is generation %d", g.ID)
	}
	if err != nil {
		return Generation{}, fmt.Errorf("%s: %w", genName(id), err)
	}
	return g, nil
}

func genName(id int) string { return fmt.Sprintf("%s/%06d.json", generations, id) }

func decodeGeneration(data []byte) (Generation, error) {
	var f genFile
	if err := json.Unmarshal(data, &f); err != nil {
		return Generation{}, err
	}
	g := Generation{ID: f.ID, Time: f.Time, Why: f.Why, LiveDir: f.LiveDir, Nodes: make(map[string]Links, len(f.Nodes))}
	for name, i := range f.Nodes {
		if checkName(name) != nil || i < 0 || i >= len(f.Links) {
			return Generation{}, fmt.Errorf("node %q is not one that a generation can have", name)
		}
		g.Nodes[name] = f.Links[i]
	}
	return g, nil
}

func (g Generation) encode() ([]byte, error) {
	f := genFile{ID: g.ID, Time: g.Time, Why: g.Why, LiveDir: g.LiveDir, Nodes: make(map[string]int, len(g.Nodes))}
	index := map[Links]int{}
	for _, name := range slices.Sorted(maps.Keys(g.Nodes)) {
		l := g.Nodes[name]
		i, ok := index[l]
		if !ok {
			i = len(f.Links)
			index[l] = i
			f.Links = append(f.Links, l)
		}
		f.Nodes[name] = i
	}
	return json.MarshalIndent(f, "", " ")
}

// linked returns all boot directories that have links of ours.
func (t *Tree) linked() (map[string]Links, error) {
	entries, err := fs.ReadDir(t.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	nodes := map[string]Links{}
	for _, e := range entries {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		// What cannot be read as a boot directory is not switched either.
		if b, err := t.inspect(e.Name()); err == nil && b.links.ours() {
			nodes[e.Name()] = b.links
		}
	}
	return nodes, nil
}

// ours reports whether any link leads to a file of a release.
func (l Links) ours() bool {
	return slices.ContainsFunc(l.each(), func(k link) bool {
		_, _, err := parseTarget(k.target)
		return err == nil
	})
}

// A recording is how a change of the tree is written down. The lock is held
// for all of its life.
type recording struct {
	tree *Tree
	last Generation
}

// record begins a recording. Where the links are not what the last generation
// says, it writes a generation of what was found.
func (t *Tree) record() (*recording, error) {
	now, err := t.linked()
	if err != nil {
		return nil, err
	}
	s, err := t.Settings()
	if err != nil {
		return nil, err
	}
	r := &recording{tree: t}
	r.last, err = t.Generation(0)
	switch {
	case errors.Is(err, ErrNoGeneration) && len(now) == 0:
		return r, nil
	case err != nil && !errors.Is(err, ErrNoGeneration):
		return nil, err
	case err == nil && maps.Equal(r.last.Nodes, now) && r.last.LiveDir == s.LiveDir:
		return r, nil
	}
	return r, r.write(Generation{Why: Found, LiveDir: s.LiveDir, Nodes: now})
}

// write makes g the last generation.
func (r *recording) write(g Generation) error {
	g.ID, g.Time = r.last.ID+1, time.Now().UTC().Truncate(time.Second)
	r.last = g
	return r.rewrite(g)
}

// rewrite replaces the generation of that number: what it says did not happen.
func (r *recording) rewrite(g Generation) error {
	data, err := g.encode()
	if err != nil {
		return err
	}
	if err := r.tree.writeFile(genName(g.ID), data); err != nil {
		return fmt.Errorf("generation %d: %w", g.ID, err)
	}
	if err := r.tree.root.Remove(genName(g.ID - keep)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// settle makes the last generation tell what is, after a failure.
func (r *recording) settle() error {
	now, err := r.tree.linked()
	if err != nil {
		return err
	}
	r.last.Nodes = now
	return r.rewrite(r.last)
}

// writeFile makes a durable file that is whole or not there.
func (t *Tree) writeFile(name string, data []byte) error {
	dir := path.Dir(name)
	if err := artifacts.MkdirAll(t.root, dir); err != nil {
		return err
	}
	tmp := dir + "/.tmp"
	// What is left of a process that died may be somebody else's, or anything.
	if err := t.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := t.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, artifacts.Adopt(t.root, tmp))
	// The daemon reads it as another user, whatever the umask is.
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, t.root.Remove(tmp))
	}
	if err := t.root.Rename(tmp, name); err != nil {
		return err
	}
	return t.syncDir(dir)
}

func (t *Tree) syncDir(name string) error {
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Change changes the settings under the lock.
func (t *Tree) Change(ctx context.Context, change func(*Settings)) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return t.change(change)
}

func (t *Tree) change(change func(*Settings)) error {
	s, err := t.Settings()
	if err != nil {
		return err
	}
	before, _ := json.Marshal(s)
	change(&s)
	if after, _ := json.Marshal(s); string(after) == string(before) {
		return nil
	}
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return t.writeFile(settingsFile, append(data, '\n'))
}

// PlanRollback compares generation id with what is linked. Nodes that the
// generation does not have stay as they are; they are returned too.
func (t *Tree) PlanRollback(id int) (p Plan, stay []string, err error) {
	g, err := t.Generation(id)
	if err != nil {
		return Plan{}, nil, err
	}
	if p.Leftovers, err = t.leftovers(); err != nil {
		return Plan{}, nil, err
	}
	p.Why, p.LiveDir = fmt.Sprintf("rollback to %d", g.ID), &g.LiveDir
	for _, name := range slices.Sorted(maps.Keys(g.Nodes)) {
		if err := t.planLinks(&p, name, g.Nodes[name], t.checkLinks(g.Nodes[name])); err != nil {
			p.Refused = append(p.Refused, Refusal{name, fmt.Errorf("node %q: %w", name, err)})
		}
	}
	if err := t.planLiveDir(&p); err != nil {
		return Plan{}, nil, err
	}
	now, err := t.linked()
	for name := range now {
		if _, ok := g.Nodes[name]; !ok {
			stay = append(stay, name)
		}
	}
	slices.Sort(stay)
	return p, stay, err
}

// PlanReturn compares nodes with the newest generation that links each of them
// to the release named: it gets to the byte what it had then, whatever the
// catalogue of releases says now. A node that has the release stays as it is.
// Where no generation has it, the refusal wraps fs.ErrNotExist.
func (t *Tree) PlanReturn(releases map[string]string) (p Plan, err error) {
	if p.Leftovers, err = t.leftovers(); err != nil {
		return Plan{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(releases)) {
		if err := t.planReturn(&p, name, releases[name]); err != nil {
			p.Refused = append(p.Refused, Refusal{name, fmt.Errorf("node %q: %w", name, err)})
		}
	}
	return p, nil
}

func (t *Tree) planReturn(p *Plan, name, release string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if have, err := t.inspect(name); err == nil && have.links.Release() == release {
		p.Unchanged = append(p.Unchanged, name)
		return nil
	}
	want, err := t.had(name, release)
	if err != nil {
		return err
	}
	return t.planLinks(p, name, want, t.checkLinks(want))
}

// A Use is a release that nodes boot or that a rollback would link again.
type Use struct{ Dir, Release string }

// InUse returns the releases that boot directories lead into, with the nodes.
func (t *Tree) InUse() (map[Use][]string, error) {
	now, err := t.linked()
	if err != nil {
		return nil, err
	}
	uses := map[Use][]string{}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		for _, u := range now[name].uses() {
			uses[u] = append(uses[u], name)
		}
	}
	return uses, nil
}

// uses returns the releases that links lead into: one, or several where
// somebody else made them.
func (l Links) uses() (uses []Use) {
	for _, k := range l.each() {
		dir, id, err := parseTarget(k.target)
		if u := (Use{dir, id}); err == nil && !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	return uses
}

// Needed is how many generations, the last one included, must stay linkable.
const Needed = 3

// Rollbacks returns the releases that the last Needed generations link, with
// the newest generation that does.
func (t *Tree) Rollbacks() (map[Use]int, error) {
	ids, err := t.GenerationIDs()
	if err != nil {
		return nil, err
	}
	uses := map[Use]int{}
	for _, id := range ids[max(0, len(ids)-Needed):] {
		g, err := t.Generation(id)
		if err != nil {
			return nil, err
		}
		for _, l := range g.Nodes {
			for _, u := range l.uses() {
				uses[u] = id
			}
		}
	}
	return uses, nil
}

// Boot returns the files of the release that a node boots or booted before,
// for a boot that began with that release: by its boot directory, by the one
// before it, or by the last generation that linked it. The error wraps
// fs.ErrNotExist where the node never had that release.
func (t *Tree) Boot(name, release string) (Current, error) {
	if c, err := t.Current(name); err == nil && c.Release == release {
		return c, nil
	}
	l, err := t.had(name, release)
	if err != nil {
		return Current{}, fmt.Errorf("node %q: %w", name, err)
	}
	return l.current()
}

// had returns the links that the newest generation with that release has for a
// node.
func (t *Tree) had(name, release string) (Links, error) {
	ids, err := t.GenerationIDs()
	if err != nil {
		return Links{}, err
	}
	for _, id := range slices.Backward(ids) {
		g, err := t.cached(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it became too old just now
		}
		if err != nil {
			return Links{}, err
		}
		if l, ok := g.Nodes[name]; ok && l.Release() == release {
			return l, nil
		}
	}
	return Links{}, fmt.Errorf("release %q: %w", release, fs.ErrNotExist)
}

// current returns the files that links lead to.
func (l Links) current() (Current, error) {
	dir, id, err := l.release()
	if err != nil {
		return Current{}, err
	}
	return Current{
		Dir: dir, Release: id,
		Kernel: l.Kernel[len("../"):], Initrd: l.Initrd[len("../"):], Squashfs: strings.TrimPrefix(l.Rootfs, "../"),
	}, nil
}

// cached reads a generation that a burst of boots asks for again and again.
// Only the last one may still be rewritten.
func (t *Tree) cached(id int) (Generation, error) {
	fi, err := t.root.Stat(genName(id))
	if err != nil {
		return Generation{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.cache[id]; ok && os.SameFile(c.info, fi) {
		return c.gen, nil
	}
	g, err := t.Generation(id)
	if err != nil {
		return Generation{}, err
	}
	if t.cache == nil || len(t.cache) > keep {
		t.cache = map[int]cachedGeneration{}
	}
	t.cache[id] = cachedGeneration{g, fi}
	return g, nil
}

type cachedGeneration struct {
	gen  Generation
	info fs.FileInfo
}

// PlanPrune adds to a plan that the boot directories of nodes that are not
// known go. Those that hold files of an administrator are refused. What is taken
// away stays as .NAME.old, like a directory that is replaced, and a rollback
// makes it anew.
func (t *Tree) PlanPrune(p *Plan, known func(name string) bool) error {
	now, err := t.linked()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if known(name) {
			continue
		}
		if err := t.prunable(name); err != nil {
			p.Refused = append(p.Refused, Refusal{name, fmt.Errorf("node %q: %w", name, err)})
			continue
		}
		p.Changes = append(p.Changes, Change{Node: name, Old: now[name]})
	}
	return nil
}

// prunable reports why a boot directory cannot be taken away.
func (t *Tree) prunable(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	b, err := t.inspect(name)
	switch {
	case err != nil:
		return err
	case !b.links.ours():
		return errors.New("is not a boot directory")
	}
	for _, o := range b.others {
		if !o.link && o.name != script {
			return fmt.Errorf("%q is not ours: move it away first", o.name)
		}
	}
	return nil
}

// Alone calls do while no other process changes boot directories, so that what
// InUse and Rollbacks say stays true.
func (t *Tree) Alone(ctx context.Context, do func() error) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}
