package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"golang.org/x/sys/unix"
)

// NodesFile is the file in the state directory that has nodes of its own.
const NodesFile = "nodes.yaml"

// Keys are what is written of a node: its keys with their values, as text. A
// key with no value is written, too: it is none, whatever another file says.
type Keys map[string][]string

// A Draft is a configuration as it is written, in the configuration file or on
// a command line, and in the file of nodes. It is not checked before Config
// returns it. Its nodes can be changed; nothing of that is on disk before Save.
//
// A Draft is not safe for concurrent use.
type Draft struct {
	opts     []Option
	flags    map[string]string
	main     source
	raw      raw
	faults   faults // of the text of main
	readable bool   // main could be read as a whole

	path        string // of the file of nodes; empty: there can be none
	nodes       source
	written     []written
	nodesFaults []found
}

// written is a node of the file of nodes.
type written struct {
	rawNode
	given uint64 // its keys that are there, even empty: bits as of keys
}

// A source is a text that was read.
type source struct {
	name string   // empty: it is no file
	tree ast.Node // nil: it is not kept
	new  bool     // nobody has seen it yet, so faults name no line
}

// parseMain makes a draft of a configuration file alone.
func parseMain(name string, data []byte, opts []Option) *Draft {
	d := &Draft{opts: opts, main: source{name: name}}
	d.main.tree = decode(data, &d.raw, &d.faults)
	d.readable = d.main.tree != nil
	return d
}

// Open reads the configuration file at path and the file of nodes in the state
// directory that it names, which need not exist. Only what cannot be opened or
// read is an error here.
func Open(path string, opts ...Option) (*Draft, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	d := parseMain(path, data, opts)
	return d, d.openNodes()
}

// OpenFlags is Open for a command line instead of a file.
func OpenFlags(f Flags, opts ...Option) (*Draft, error) {
	d := draftFlags(f, opts...)
	return d, d.openNodes()
}

// openNodes reads the file of nodes, where there is one. Of a configuration that
// cannot be read, or that has no state directory, it reads none.
func (d *Draft) openNodes() error {
	state := newBuilder(nil).path(place{}, d.raw.State, defaultState)
	if !d.readable || state == "" {
		return nil // which Config reports
	}
	d.path = filepath.Join(state, NodesFile)
	data, err := readFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d.parseNodes(d.path, data)
	return nil
}

// readFile reads a file of either kind, and of one that is too big so much that
// parse sees it.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO that nobody writes to would keep us waiting
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// parseNodes reads the text of the file of nodes.
func (d *Draft) parseNodes(name string, data []byte) {
	var r struct {
		Nodes []rawNode `yaml:"nodes"`
	}
	var f faults
	d.nodes = source{name: name, tree: decode(data, &r, &f)}
	d.nodesFaults, d.written = f.list, make([]written, len(r.Nodes))
	for i, n := range r.Nodes {
		d.written[i] = written{n, d.given(i)}
	}
}

// given returns which keys node i of the file of nodes has.
func (d *Draft) given(i int) (mask uint64) {
	list := lookup(d.nodes.tree, "nodes")
	if list == nil {
		return 0
	}
	seq, ok := list.Value.(*ast.SequenceNode)
	if !ok || i >= len(seq.Values) {
		return 0
	}
	all, _ := pairs(seq.Values[i])
	for _, pair := range all {
		mask |= keyBit(keyText(pair))
	}
	return mask
}

// Config returns the configuration that the draft is, or Faults.
func (d *Draft) Config() (*Config, error) {
	b := newBuilder(d.opts)
	b.faults = faults{slices.Clone(d.faults.list), maps.Clone(d.faults.seen), d.flags}
	b.from.main = d.main
	if !d.readable {
		return nil, b.err(b.from)
	}
	r := d.raw
	if len(d.nodesFaults) == 0 {
		b.from.nodes = d.nodes
		r.Nodes, b.from.origins = d.merge()
		b.from.raw = r.Nodes
	}
	c := b.config(r)
	if err := joined(b.err(b.from), d.textFaults()); err != nil {
		return nil, err
	}
	c.from, c.flags = b.from.short(), d.flags
	return c, nil
}

// textFaults are those of the text of the file of nodes.
func (d *Draft) textFaults() error {
	return (&faults{list: d.nodesFaults}).err(sources{main: d.nodes})
}

// joined returns the Faults of two errors in one; nil: there are none.
func joined(a, b error) error {
	var all Faults
	for _, err := range []error{a, b} {
		if list, ok := err.(Faults); ok {
			all = append(all, list...)
		}
	}
	if all == nil {
		return nil
	}
	return all
}

// merge returns the nodes of both files: those of the configuration file in its
// order, with the keys that the file of nodes has for them, and then the
// others.
func (d *Draft) merge() (all []rawNode, origins []origin) {
	at := make(map[string]int, len(d.written)) // the first of a name: a second one is a fault of its own
	for i, w := range d.written {
		if _, twice := at[w.Name]; !twice {
			at[w.Name] = i
		}
	}
	used := make([]bool, len(d.written))
	for i, n := range d.raw.Nodes {
		o := origin{main: i, nodes: -1, line: lineOf(d.main.tree, i), said: n.keys()}
		if j, ok := at[n.Name]; ok && n.Name != "" && !used[j] {
			used[j] = true
			n.take(d.written[j])
			o.nodes, o.nodesLine, o.wins = j, lineOf(d.nodes.tree, j), d.written[j].given
		}
		all, origins = append(all, n), append(origins, o)
	}
	for j, w := range d.written {
		if !used[j] {
			all = append(all, w.rawNode)
			origins = append(origins, origin{main: -1, nodes: j, nodesLine: lineOf(d.nodes.tree, j), wins: w.given})
		}
	}
	return all, origins
}

func lineOf(tree ast.Node, i int) int {
	if tree == nil {
		return 0
	}
	return locate(tree, place{}.item("nodes", i, "")).line
}

// keys returns which keys n has a value for.
func (n *rawNode) keys() (mask uint64) {
	v := reflect.ValueOf(n).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			mask |= 1 << i
		}
	}
	return mask
}

// take gives n the keys that w has.
func (n *rawNode) take(w written) {
	to, from := reflect.ValueOf(n).Elem(), reflect.ValueOf(w.rawNode)
	for i := range to.NumField() {
		if w.given&(1<<i) != 0 {
			to.Field(i).Set(from.Field(i))
		}
	}
}

// SetNode writes keys of a node to the file of nodes, which wins over the
// configuration file. It reports whether that file changes.
func (d *Draft) SetNode(name string, set Keys) (bool, error) {
	if err := d.editable(); err != nil {
		return false, err
	}
	list := slices.Clone(d.written)
	i := slices.IndexFunc(list, func(w written) bool { return w.Name == name })
	if i < 0 {
		i = len(list)
		list = append(list, written{rawNode{Name: name}, keyBit("name")})
	}
	v := reflect.ValueOf(&list[i].rawNode).Elem()
	for key, values := range set {
		k := slices.Index(nodeKeys, key)
		switch {
		case k < 0 || v.Field(k).Kind() == reflect.Struct:
			return false, fmt.Errorf("%q is not a key of a node that can be set", key)
		case v.Field(k).Kind() == reflect.Slice:
			v.Field(k).Set(reflect.ValueOf(slices.Clone(values)))
		case len(values) > 1:
			return false, fmt.Errorf("%s has one value, not %d", key, len(values))
		default:
			v.Field(k).SetString(strings.Join(values, ""))
		}
		list[i].given |= 1 << k
	}
	return d.write(list), nil
}

// DropNode takes a node out of the file of nodes. It reports whether the node
// was there.
func (d *Draft) DropNode(name string) (bool, error) {
	if err := d.editable(); err != nil {
		return false, err
	}
	return d.write(slices.DeleteFunc(slices.Clone(d.written), func(w written) bool { return w.Name == name })), nil
}

// InFile reports whether the configuration file has a node of this name, and
// where.
func (d *Draft) InFile(name string) (file string, line int, ok bool) {
	i := slices.IndexFunc(d.raw.Nodes, func(n rawNode) bool { return n.Name == name })
	if i < 0 {
		return "", 0, false
	}
	return d.main.name, lineOf(d.main.tree, i), true
}

// editable reports why the file of nodes cannot be changed: what is wrong with
// its text would be lost.
func (d *Draft) editable() error {
	if d.path == "" {
		return errors.New("no state directory, so no file of nodes")
	}
	return d.textFaults()
}

// write makes list the nodes of the draft.
func (d *Draft) write(list []written) bool {
	before, after := encodeNodes(d.written), encodeNodes(list)
	d.parseNodes(d.path, after)
	d.nodes.new = true
	return string(before) != string(after)
}

// Save writes the file of nodes, so that after a crash it has the old nodes or
// the new ones. When Save returns, it is on disk.
func (d *Draft) Save() error {
	return replaceFile(d.path, encodeNodes(d.written))
}

// replaceFile puts data in the place of a file, whose mode stays.
func replaceFile(path string, data []byte) error {
	mode := fs.FileMode(0o640)
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode().Perm()
	}
	aside := path + ".new"
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		os.Remove(aside)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
