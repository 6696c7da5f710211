package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Fault is one thing that is wrong with a configuration.
type Fault struct {
	File         string // empty: not from a file
	Line, Column int    // from 1; zero: not from a file
	Place        string // such as `nodes[3] "ncn-w003": bmc`; empty: the whole file
	Problem      string // the value and the rule
}

// Error returns one line, such as
// `bootd.yaml:14:7: subnets[0]: pools[1]: "10.1.0.300" is not an IPv4 address`.
func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
		if f.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", f.Line, f.Column)
		}
		b.WriteByte(' ')
	}
	if f.Place != "" {
		b.WriteString(f.Place + ": ")
	}
	return b.String() + f.Problem
}

// Faults is everything that is wrong with a configuration, in file order and
// never empty.
type Faults []Fault

// Error returns one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// A place is the way from the top of the file to a value. Places share their
// beginnings.
type place struct{ last *step }

type step struct {
	up    *step
	name  string // key
	index int    // in the list under the key; -1: the value itself
	label string // name of the list's item, for people
}

// key returns the place of the value under a key of p, or under a chain of keys.
func (p place) key(names ...string) place {
	for _, name := range names {
		p = place{&step{p.last, name, -1, ""}}
	}
	return p
}

// item returns the place of an item of the list under a key of p.
func (p place) item(name string, index int, label string) place {
	return place{&step{p.last, name, index, label}}
}

// parent returns the place that p is in. The parent of a list's item is what
// the list is in.
func (p place) parent() place { return place{p.last.up} }

func (p place) steps() (list []*step) {
	for s := p.last; s != nil; s = s.up {
		list = append(list, s)
	}
	slices.Reverse(list)
	return list
}

// String returns the place as messages name it.
func (p place) String() string {
	var b strings.Builder
	for i, s := range p.steps() {
		if i > 0 {
			b.WriteString(": ")
		}
		b.WriteString(s.name)
		if s.index >= 0 {
			fmt.Fprintf(&b, "[%d]", s.index)
		}
		if s.label != "" {
			fmt.Fprintf(&b, " %.64q", s.label)
		}
	}
	return b.String()
}

// faults collects what is wrong, at most one fault for each value: what follows
// from a fault is no news. The zero faults is empty.
type faults struct {
	list  []found
	seen  map[string]bool
	flags map[string]string // names of places on the command line
}

type found struct {
	at      place
	pos     position // zero: that of the value at the place
	problem string
}

// add records a fault of the value at a place, unless it or what it is part of
// has one.
func (f *faults) add(at place, format string, args ...any) {
	if f.has(at) {
		return
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[at.String()] = true
	f.addAt(at, position{}, format, args...)
}

// has reports whether the value at a place, or what it is part of, has a fault.
func (f *faults) has(at place) bool {
	for ; at.last != nil; at = at.parent() {
		if f.seen[at.String()] {
			return true
		}
	}
	return false
}

// addAt records a fault of something at a place that is not its value.
func (f *faults) addAt(at place, pos position, format string, args ...any) {
	const most = 400 // a line for people, whatever is in the file
	problem := fmt.Sprintf(format, args...)
	if len(problem) > most {
		problem = strings.ToValidUTF8(problem[:most], "") + "..."
	}
	f.list = append(f.list, found{at, pos, problem})
}

// err returns the faults as an error that people can read; from tells where
// places are written.
func (f *faults) err(from sources) error {
	if len(f.list) == 0 {
		return nil
	}
	out := make(Faults, len(f.list))
	order := map[string]int{from.main.name: 0, from.nodes.name: 1}
	for i, x := range f.list {
		src, at := from.of(x.at)
		pos, name := x.pos, at.String()
		switch {
		case src.new:
			pos = position{}
		case pos == (position{}) && src.tree != nil:
			pos = locate(src.tree, at)
		}
		if flag, ok := f.flags[name]; ok && src.name == "" {
			name = flag
		}
		out[i] = Fault{src.name, pos.line, pos.column, name, x.problem}
	}
	slices.SortStableFunc(out, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out
}
