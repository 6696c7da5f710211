package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// sources are the texts that a configuration was read from.
type sources struct {
	main, nodes source
	origins     []origin  // of the nodes, in the order of the inventory
	raw         []rawNode // the same nodes
}

// short is s without what only faults of the texts need, which is large.
func (s sources) short() sources {
	s.main.tree, s.nodes.tree, s.raw = nil, nil, nil
	return s
}

// An origin is where a node is written.
type origin struct {
	main, nodes     int // index in the list of either file; -1: it is not there
	line, nodesLine int
	said            uint64 // keys that the configuration file has, bits as of keys
	wins            uint64 // keys that the file of nodes has
}

// of returns where the value at a place is written, and its place there.
func (s sources) of(at place) (source, place) {
	steps := at.steps()
	if len(steps) == 0 || steps[0].name != "nodes" || steps[0].index < 0 || steps[0].index >= len(s.origins) {
		return s.main, at
	}
	o := s.origins[steps[0].index]
	if o.main < 0 || len(steps) > 1 && o.wins&keyBit(steps[1].name) != 0 {
		return s.nodes, at.rooted(o.nodes)
	}
	return s.main, at.rooted(o.main)
}

// rooted returns p with another index of its first step.
func (p place) rooted(index int) place {
	s := *p.last
	if s.up == nil {
		s.index = index
	} else {
		s.up = place{s.up}.rooted(index).last
	}
	return place{&s}
}

// keyBit returns the bit of a key of a node; zero: there is no such key.
func keyBit(key string) uint64 {
	if i := slices.Index(nodeKeys, key); i >= 0 {
		return 1 << i
	}
	return 0
}

// nodeKeys are the keys of a node.
var nodeKeys = keys(reflect.TypeFor[rawNode]())

// elsewhere says, after the fault of a value that another node has too, where
// that one has it, unless it is in the same file.
func (s sources) elsewhere(at place, other string) string {
	i := slices.IndexFunc(s.raw, func(n rawNode) bool { return n.Name == other })
	if other == "" || i < 0 {
		return ""
	}
	here, _ := s.of(at)
	there, where := s.of(place{}.item("nodes", i, other).key(at.steps()[1].name))
	switch {
	case there.name == here.name:
		return ""
	case there.tree != nil && !there.new:
		return fmt.Sprintf(" (%s:%d)", there.name, locate(there.tree, where).line)
	}
	return fmt.Sprintf(" (%s)", there.name)
}

// NodeKeys returns the keys of a node, in the order in which they are written.
func NodeKeys() []string { return slices.Clone(nodeKeys) }

// orphan says what else may be wrong with a node that lacks something: that it
// was replaced, and then taken out of the configuration file.
func (s sources) orphan(at place) string {
	src, _ := s.of(at)
	step := at.steps()[0]
	first := slices.IndexFunc(s.raw, func(n rawNode) bool { return n.Name == step.label })
	if src.name == "" || src.name != s.nodes.name || first != step.index {
		return ""
	}
	return fmt.Sprintf(", and %s has no node of this name: remove it here too", cmp.Or(s.main.name, "the command line"))
}

// A Place is where a node of the inventory is written.
type Place struct {
	File      string // the configuration file; empty: it has no such node, or there is none
	Line      int    // zero: not known
	NodesFile string // the file of nodes; empty: it has no such node
	NodesLine int

	said, wins uint64
}

// Place returns where node i of the inventory is written.
func (c *Config) Place(i int) (p Place) {
	o := c.from.origins[i]
	if o.main >= 0 {
		p.File, p.Line = c.from.main.name, o.line
	}
	if o.nodes >= 0 {
		p.NodesFile, p.NodesLine = c.from.nodes.name, o.nodesLine
	}
	p.said, p.wins = o.said, o.wins
	return p
}

// Of returns the file that a key of the node counts from, with the line where
// it is known; empty: neither file has the key.
func (p Place) Of(key string) string {
	switch bit := keyBit(key); {
	case p.wins&bit != 0:
		return fileLine(p.NodesFile, p.NodesLine)
	case p.said&bit != 0:
		return fileLine(p.File, p.Line)
	}
	return ""
}

// String names the lines where the node begins.
func (p Place) String() string {
	var list []string
	if p.File != "" {
		list = append(list, fileLine(p.File, p.Line))
	}
	if p.NodesFile != "" {
		list = append(list, fileLine(p.NodesFile, p.NodesLine))
	}
	return strings.Join(list, ", ")
}

func fileLine(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}
