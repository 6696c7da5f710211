package links

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bootd/artifacts"
	"bootd/internal/node"
)

// A Wanted says what a node should boot.
type Wanted struct {
	Node    string
	Set     artifacts.Set
	Aliases []string // further names, each as in Links.Aliases
}

// A Change is one boot directory to make or to replace.
type Change struct {
	Node     string  `json:"node"`
	Old, New Links   // Old is empty where nothing is linked yet
	Script   *Script `json:"script,omitempty"` // what becomes of script.ipxe; nil: it is carried over
}

// Created reports whether the node had no link before.
func (c Change) Created() bool { return c.Old == Links{} }

// Removed reports whether the boot directory is taken away.
func (c Change) Removed() bool { return c.New == Links{} }

// Differ returns the names of the links that change, and of the script.
func (c Change) Differ() (names []string) {
	old, now := c.Old.each(), c.New.each()
	for _, k := range now {
		if !slices.Contains(old, k) {
			names = append(names, k.name)
		}
	}
	for _, name := range c.Old.names() {
		if !slices.Contains(c.New.names(), name) {
			names = append(names, name)
		}
	}
	if c.Script != nil {
		names = append(names, script)
	}
	return names
}

// A Refusal is a node whose boot directory is left alone, and why.
type Refusal struct {
	Node string
	Err  error // names the node
}

// A Plan is what Apply would do.
type Plan struct {
	Changes   []Change  // in the order of what was wanted
	Unchanged []string  // nodes that are linked as wanted
	Refused   []Refusal // nodes that Apply will not touch
	Edited    []string  // nodes whose script.ipxe was edited, and stays so
	Copied    []string  // check sums of copies of boot/script.ipxe that were there before our first run
	Leftovers []string  // directories left by a run that was killed
	Why       string    // for the record; empty: set-links
	LiveDir   *string   // becomes that of the settings; nil: it stays

	Done func(Change) // is told of each change when it is done; nil: nobody
}

// Plan compares what is wanted with what is linked. It changes nothing. What
// is wrong with one node is in the plan; an error means that the root cannot
// be read.
func (t *Tree) Plan(wanted []Wanted) (Plan, error) {
	leftovers, err := t.leftovers()
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Leftovers: leftovers}
	targets := t.memoTargets()
	seen := map[string]bool{}
	for _, w := range wanted {
		err := checkName(w.Node)
		if seen[w.Node] {
			err = errors.New("is wanted twice")
		}
		seen[w.Node] = true
		if err == nil {
			err = t.planNode(&p, w, targets)
		}
		if err != nil {
			p.Refused = append(p.Refused, Refusal{w.Node, fmt.Errorf("node %q: %w", w.Node, err)})
		}
	}
	return p, nil
}

func (t *Tree) planNode(p *Plan, w Wanted, targets func(Wanted) (Links, error)) error {
	want, err := targets(w)
	return t.planLinks(p, w.Node, want, err)
}

// planLinks adds what it takes to link a node; bad is why the links cannot be.
func (t *Tree) planLinks(p *Plan, name string, want Links, bad error) error {
	if bad != nil {
		return bad
	}
	have, err := t.inspect(name)
	if err == nil {
		err = have.hinders(want)
	}
	switch {
	case err != nil:
		return err
	case have.links == want:
		p.Unchanged = append(p.Unchanged, name)
	default:
		p.Changes = append(p.Changes, Change{Node: name, Old: have.links, New: want})
	}
	return nil
}

// memoTargets returns a function that turns a set into links and checks where
// they lead, once for each set and not for each node.
func (t *Tree) memoTargets() func(Wanted) (Links, error) {
	type (
		question struct {
			set     artifacts.Set
			aliases string
		}
		result struct {
			links Links
			err   error
		}
	)
	known := map[question]result{}
	return func(w Wanted) (Links, error) {
		q := question{w.Set, aliases(w.Aliases)}
		r, ok := known[q]
		if !ok {
			r.links = Links{Kernel: "../" + w.Set.Kernel, Initrd: "../" + w.Set.Initrd, Aliases: q.aliases}
			if w.Set.Squashfs != "" {
				r.links.Rootfs = "../" + w.Set.Squashfs
			} else { // and so nothing leads there
				r.links.Aliases = aliases(slices.DeleteFunc(strings.Fields(q.aliases), func(a string) bool { return !strings.Contains(a, "=") }))
			}
			r.err = t.checkLinks(r.links)
			known[q] = r
		}
		return r.links, r.err
	}
}

// checkLinks refuses links that no node can boot from.
func (t *Tree) checkLinks(l Links) error {
	for alias := range strings.FieldsSeq(l.Aliases) {
		name, of, _ := strings.Cut(alias, "=")
		if name == Kernel || name == Initrd || name == Rootfs || name == script || strings.HasPrefix(name, ".") || strings.Contains(name, "/") {
			return fmt.Errorf("%q cannot be another name of %s", name, cmp.Or(of, Rootfs))
		}
		if of != "" && of != Kernel && of != Initrd {
			return fmt.Errorf("%q is not one of %s, %s, of which %q could be another name", of, Kernel, Initrd, name)
		}
	}
	if _, _, err := l.release(); err != nil {
		return err
	}
	return t.resolve(l)
}

// leftovers finds what a killed run had not finished or not put away. While
// another process holds the lock these may be its own, so only the holder of
// the lock removes any.
func (t *Tree) leftovers() (names []string, err error) {
	entries, err := fs.ReadDir(t.root.FS(), ".")
	for _, e := range entries {
		if e.IsDir() && isStaging(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func staging(node string) string  { return "." + node + ".new" }
func replaced(node string) string { return "." + node + ".old" }

func isStaging(name string) bool {
	s, dot := strings.CutPrefix(name, ".")
	s, ext := strings.CutSuffix(s, ".new")
	return dot && ext && node.ValidName(s)
}
