package links

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"bootd/artifacts"
)

// A site of source 004 has a web server that is not bootd. It serves each node
// a copy of one script, which lies beside the node's links.
const (
	script      = "script.ipxe"
	master      = "boot/" + script
	scriptsFile = recordDir + "/scripts.json" // check sums of the copies that were made
	maxScript   = 1 << 20
	keepSums    = 1000 // copies of many nodes are the same
)

// A Script is what a node's copy of boot/script.ipxe has of its own.
type Script struct {
	Args    []string `json:"args,omitempty"`     // NAME=VALUE, each in the place of the argument of its name
	LiveDir string   `json:"live_dir,omitempty"` // rd.live.dir; empty: none
	Was     string   `json:"was,omitempty"`      // what it was by the last change of it
	Only    bool     `json:"only,omitempty"`     // rd.live.dir is all that changes
}

// next returns what becomes of a copy, and whether it has edits of an
// administrator. Those stay; but rd.live.dir, where it is not edited, follows.
// A copy is ours while it is what was written here; fresh is a new one.
func (s Script) next(fresh, have string, ours bool) (want string, edited bool) {
	switch {
	case ours && !s.Only:
		return fresh, false
	case liveDir(have) == s.Was:
		return setLiveDir(have, s.LiveDir), !ours
	}
	return have, !ours
}

// render makes a copy of the master.
func (s Script) render(master string) string {
	return setArgs(setLiveDir(master, s.LiveDir), s.Args)
}

// copies reports whether have is a copy of the master that set-sqfs-links.sh
// made, for whatever CSM_RELEASE.
func (s Script) copies(master, have string) bool {
	return setArgs(setLiveDir(master, ""), s.Args) == setArgs(setLiveDir(have, ""), s.Args)
}

var (
	word        = regexp.MustCompile(`[^ \t\r\n]+`)
	liveDirArg  = regexp.MustCompile(`[ \t]rd\.live\.dir=([^ \t\r\n]*)`)
	beforeRoot  = regexp.MustCompile(`(?m)^([^#\r\n]*?)([ \t]root=)`)
	liveDirRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
)

// CheckLiveDir reports why s cannot be rd.live.dir: it becomes a directory on a
// node, by way of iPXE and a kernel command line. An empty s is none.
func CheckLiveDir(s string) error {
	if s != "" && !liveDirRule.MatchString(s) {
		return fmt.Errorf("%q is not the name of a directory (letters, digits, . _ + -)", s)
	}
	return nil
}

// liveDir returns rd.live.dir of a script.
func liveDir(text string) string {
	if m := liveDirArg.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// setLiveDir puts rd.live.dir where it is, or before the first root=, as source
// 004 does; an empty dir takes it away. A script without root= stays as it is.
func setLiveDir(text, dir string) string {
	arg := " rd.live.dir=" + dir
	switch {
	case dir == "":
		return liveDirArg.ReplaceAllLiteralString(text, "")
	case liveDirArg.MatchString(text):
		return liveDirArg.ReplaceAllLiteralString(text, arg)
	}
	at := beforeRoot.FindStringSubmatchIndex(text)
	if at == nil {
		return text
	}
	return text[:at[4]] + arg + text[at[4]:]
}

// setArgs changes the arguments that a script has; it adds none.
func setArgs(text string, args []string) string {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		text = word.ReplaceAllStringFunc(text, func(w string) string {
			if w == name || strings.HasPrefix(w, name+"=") {
				return arg
			}
			return w
		})
	}
	return text
}

// PlanScripts adds to a plan that its nodes get copies of boot/script.ipxe with
// the arguments that args returns. A node of which only the copy changes comes
// last in the changes. Edited copies stay, and their nodes are in p.Edited.
// Where there is no boot/script.ipxe, no node gets any.
func (t *Tree) PlanScripts(p *Plan, args func(node string) []string) error {
	book, err := t.openCopybook()
	if err != nil || book.info == nil {
		return err
	}
	s, err := t.Settings()
	if err != nil {
		return err
	}
	want := Script{LiveDir: s.LiveDir, Was: s.LiveDir}
	if p.LiveDir != nil {
		want.LiveDir = *p.LiveDir
	}
	// Before our first run, set-sqfs-links.sh put it into the master.
	if ids, err := t.GenerationIDs(); err == nil && len(ids) == 0 {
		want.Was = liveDir(book.master)
	}
	return t.planCopies(p, book, func(node string) Script {
		want.Args = args(node)
		return want
	})
}

// planCopies judges the copies of all nodes of a plan.
func (t *Tree) planCopies(p *Plan, book *copybook, want func(node string) Script) error {
	changes, unchanged := p.Changes, p.Unchanged
	p.Changes, p.Unchanged = nil, nil
	plan := func(c Change, linked bool) {
		if c.Removed() && !linked {
			p.Changes = append(p.Changes, c)
			return
		}
		s := want(c.Node)
		v, err := book.judge(c.Node, s)
		if err != nil {
			p.Refused = append(p.Refused, Refusal{c.Node, fmt.Errorf("node %q: %w", c.Node, err)})
			return
		}
		if v.edited {
			p.Edited = append(p.Edited, c.Node)
		}
		if v.ours && !v.write && book.remember(v.text) {
			p.Copied = append(p.Copied, sum(v.text))
		}
		if v.write {
			c.Script = &s
		} else if linked {
			p.Unchanged = append(p.Unchanged, c.Node)
			return
		}
		p.Changes = append(p.Changes, c)
	}
	for _, c := range changes {
		plan(c, false)
	}
	for _, node := range unchanged {
		have, err := t.inspect(node)
		if err != nil {
			return fmt.Errorf("node %q: %w", node, err)
		}
		plan(Change{Node: node, Old: have.links, New: have.links}, true)
	}
	return nil
}

// planLiveDir adds to a plan what it takes to change rd.live.dir in the copies
// of its nodes.
func (t *Tree) planLiveDir(p *Plan) error {
	s, err := t.Settings()
	if err != nil || p.LiveDir == nil || *p.LiveDir == s.LiveDir {
		return err
	}
	book, err := t.openCopybook()
	if err != nil {
		return err
	}
	edited := p.Edited
	err = t.planCopies(p, book, func(string) Script { return Script{LiveDir: *p.LiveDir, Was: s.LiveDir, Only: true} })
	p.Edited = edited
	return err
}

// A copybook is what copies are judged by, as it was when it was opened.
type copybook struct {
	tree   *Tree
	info   fs.FileInfo // of the master; nil: there is none
	master string
	sums   []string        // of the copies that were made, the latest last
	fresh  int             // how many of them are not on disk yet
	wrote  map[string]bool // nodes whose copy waits to be switched

	rendered map[string]string // copies of the master, by what they have of their own
}

func (t *Tree) openCopybook() (*copybook, error) {
	b := &copybook{tree: t, wrote: map[string]bool{}, rendered: map[string]string{}}
	data, err := t.root.ReadFile(scriptsFile)
	if err == nil {
		err = json.Unmarshal(data, &b.sums)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", scriptsFile, err)
	}
	b.master, b.info, err = t.readScript(master)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	return b, err
}

// readScript reads a script that is a file and no larger than any is.
func (t *Tree) readScript(name string) (string, fs.FileInfo, error) {
	f, err := t.root.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return "", nil, err
	case !fi.Mode().IsRegular():
		return "", nil, fmt.Errorf("%s: is not a file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	if len(text) > maxScript {
		err = fmt.Errorf("%s: has more than %d bytes", name, maxScript)
	}
	return string(text), fi, err
}

// render makes a copy of the master, once for all nodes that have the same.
func (b *copybook) render(s Script) string {
	key := strings.Join(append([]string{s.LiveDir}, s.Args...), "\x00")
	text, ok := b.rendered[key]
	if !ok {
		text = s.render(b.master)
		b.rendered[key] = text
	}
	return text
}

// A verdict is what becomes of one copy.
type verdict struct {
	text   string
	write  bool // text has to be written
	ours   bool // text is what we would write, without edits
	edited bool
}

// judge settles what becomes of the copy of a node.
func (b *copybook) judge(node string, s Script) (verdict, error) {
	name := node + "/" + script
	if fi, err := b.tree.root.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return verdict{edited: true}, nil // a link, or what inspect refuses
	}
	have, _, err := b.tree.readScript(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (s.Only || b.info == nil):
		return verdict{}, nil
	case errors.Is(err, fs.ErrNotExist):
		return verdict{text: b.render(s), write: true, ours: true}, nil
	case err != nil:
		return verdict{}, err
	}
	if b.info != nil && !s.Only && have == b.render(s) {
		return verdict{text: have, ours: true}, nil
	}
	ours := slices.Contains(b.sums, sum(have)) || b.info != nil && s.copies(b.master, have)
	want, edited := s.next(b.render(s), have, ours)
	return verdict{text: want, write: want != have, ours: ours, edited: edited}, nil
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// stale reports whether the copy of a node is not as the change wants it.
func (b *copybook) stale(c Change) bool {
	if c.Script == nil {
		return false
	}
	v, err := b.judge(c.Node, *c.Script)
	return v.write || err != nil // put tells the error
}

// put writes the copy of a node into its new directory. It reports false where
// the copy stays as it is.
func (b *copybook) put(c Change, dir *os.Root) (bool, error) {
	if c.Script == nil {
		return false, nil
	}
	v, err := b.judge(c.Node, *c.Script)
	if err != nil || !v.write {
		return false, err
	}
	if v.ours {
		b.remember(v.text)
	}
	b.wrote[c.Node] = true
	f, err := dir.OpenFile(script, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	_, err = f.WriteString(v.text)
	return true, errors.Join(err, b.dress(f), artifacts.Adopt(b.tree.root, staging(c.Node)+"/"+script), f.Close())
}

// dress gives a copy the mode and, where that is allowed, the owner of the
// master, as cp -p does.
func (b *copybook) dress(f *os.File) error {
	if b.info == nil {
		return f.Chmod(0o644)
	}
	if sys, ok := b.info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return f.Chmod(b.info.Mode().Perm())
}

// remember reports whether a copy is the first of its kind.
func (b *copybook) remember(text string) bool { return b.add(sum(text)) }

func (b *copybook) add(sum string) bool {
	if slices.Contains(b.sums, sum) {
		return false
	}
	b.sums = append(b.sums, sum)
	b.fresh++
	return true
}

// save makes durable what was remembered, before any of it is served.
func (b *copybook) save() error {
	if b.fresh == 0 {
		return nil
	}
	b.sums = b.sums[max(0, len(b.sums)-keepSums):]
	data, err := json.MarshalIndent(b.sums, "", " ")
	return cmp.Or(err, b.tree.writeFile(scriptsFile, data))
}

// sync makes the new copy of a node durable, if it has one.
func (b *copybook) sync(node string) error {
	if !b.wrote[node] {
		return nil
	}
	f, err := b.tree.root.Open(staging(node) + "/" + script)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
