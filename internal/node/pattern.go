package node

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxRange bounds how many names one range of a pattern stands for.
const maxRange = 100_000

// A Pattern stands for names of nodes. In "ncn-m[001-003,007]" the brackets
// hold numbers and ranges of numbers, written with as many digits as the names
// have; in "ncn-s*" the star stands for any text, "?" for one character.
type Pattern struct {
	text  string
	globs []string // of path.Match, without brackets
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match reports whether the pattern stands for name.
func (p Pattern) Match(name string) bool {
	for _, g := range p.globs {
		if ok, _ := path.Match(g, name); ok {
			return true
		}
	}
	return false
}

// MatchAny reports whether one of the patterns stands for name.
func MatchAny(ps []Pattern, name string) bool {
	return slices.ContainsFunc(ps, func(p Pattern) bool { return p.Match(name) })
}

// ParsePatterns reads a list of patterns separated by commas outside of
// brackets.
func ParsePatterns(list string) (ps []Pattern, err error) {
	for _, text := range splitList(list) {
		p := Pattern{text: text}
		if p.globs, err = expand(text); err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// Pick returns the nodes that the patterns stand for, in the order of the
// inventory; all, where there is no pattern. A pattern that stands for none is
// an error that names it.
func (inv *Inventory) Pick(patterns []Pattern) (nodes []Node, err error) {
	if len(patterns) == 0 {
		return inv.nodes, nil
	}
	used := make([]bool, len(patterns))
	for _, n := range inv.nodes {
		picked := false
		for i, p := range patterns {
			if p.Match(n.Name) {
				picked, used[i] = true, true
			}
		}
		if picked {
			nodes = append(nodes, n)
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return nil, inv.Unknown(patterns[i].String())
	}
	return nodes, nil
}

// splitList splits at the commas that are outside of brackets.
func splitList(s string) (parts []string) {
	depth, start := 0, 0
	for i, c := range s {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ',' && depth <= 0:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// patternRule is a name with stars, question marks and at most one bracket.
var patternRule = regexp.MustCompile(`^([a-z0-9*?-]*)(?:\[([0-9,-]+)\]([a-z0-9*?-]*))?$`)

// expand returns the globs that a pattern stands for.
func expand(text string) ([]string, error) {
	m := patternRule.FindStringSubmatch(text)
	switch {
	case m == nil || text == "":
		return nil, fmt.Errorf("%q is not a list of nodes such as ncn-m[001-003],ncn-s*", text)
	case m[2] == "":
		return []string{text}, nil
	}
	var globs []string
	for part := range strings.SplitSeq(m[2], ",") {
		numbers, err := numbers(part)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		for _, n := range numbers {
			globs = append(globs, m[1]+n+m[3])
		}
	}
	return globs, nil
}

// numbers returns what "001-003" or "7" stands for.
func numbers(part string) (list []string, err error) {
	from, to, isRange := strings.Cut(part, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 32)
	b, errB := strconv.ParseUint(to, 10, 32)
	switch {
	case errA != nil || errB != nil:
		return nil, fmt.Errorf("%q is not a number or a range such as 001-003", part)
	case b < a:
		return nil, fmt.Errorf("%q ends before it begins", part)
	case b-a >= maxRange:
		return nil, fmt.Errorf("%q is more than %d nodes", part, maxRange)
	}
	for n := a; n <= b; n++ {
		list = append(list, fmt.Sprintf("%0*d", len(from), n))
	}
	return list, nil
}
