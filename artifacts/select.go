package artifacts

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bootd/internal/node"
)

// Select returns the set that a node of the role boots. The most specific
// wish wins: pin, the release of the node (empty: none), then the release of
// the role, then the newest of the role's channel (empty: stable). Where a
// release has sets for several architectures, the one whose names carry none
// wins, then x86_64. The error says what was looked for, what is wrong with
// it, and what there is.
func (c Catalog) Select(pin string) (Set, error) {
	channel := cmp.Or(Channel(c.Role.Channel), Stable)
	switch {
	case pin != "":
		return c.find(fmt.Sprintf("release %q, to which the node is pinned", pin), func(id string) bool { return id == pin })
	case c.Role.Release != "":
		return c.find(fmt.Sprintf("release %q, to which the role is pinned", c.Role.Release), func(id string) bool { return id == c.Role.Release })
	default:
		return c.find(string(channel)+" release", func(id string) bool { return ChannelOf(id) == channel })
	}
}

// Release returns the set of one release, chosen among architectures as Select
// does. The error says what is wrong with it, or what there is instead.
func (c Catalog) Release(id string) (Set, error) {
	return c.find(fmt.Sprintf("release %q of role %s", id, c.Role.Name), func(have string) bool { return have == id })
}

// find returns the first set whose release fits. If there is none, the error
// explains it with the problems of the releases that fit.
func (c Catalog) find(wish string, fits func(id string) bool) (Set, error) {
	if i := slices.IndexFunc(c.Sets, func(s Set) bool { return fits(s.Release) }); i >= 0 {
		return c.Sets[i], nil
	}
	var told []string
	for _, p := range c.Problems {
		switch {
		case p.Release == "":
			told = append(told, p.Error())
		case fits(p.Release):
			told = append(told, "release "+p.Release+": "+p.Error())
		}
	}
	if len(told) == 0 {
		told = []string{c.inventory()}
	}
	return Set{}, fmt.Errorf("no %s: %s", wish, strings.Join(told, "; "))
}

// inventory says which releases there are.
func (c Catalog) inventory() string {
	var ids []string
	for _, s := range c.Sets {
		ids = append(ids, s.Release)
	}
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return "none in " + path.Join(DataDir, c.Role.Dir)
	}
	return path.Join(DataDir, c.Role.Dir) + " has " + strings.Join(ids, ", ")
}

// PassedOver returns the problems of the releases that would have been
// selected before s, were they complete. It is empty where the role is pinned.
func (c Catalog) PassedOver(s Set) []Problem {
	if c.Role.Release != "" {
		return nil
	}
	var ps []Problem
	for _, p := range c.Problems {
		if ChannelOf(p.Release) == s.Channel && Compare(p.Release, s.Release) > 0 {
			ps = append(ps, p)
		}
	}
	return ps
}

// A Choice is what one node should boot.
type Choice struct {
	Node node.Node
	Set  Set
	Err  error // why there is nothing for it; nil: Set is valid
}

// Resolve joins nodes with what was found for their roles, in the order of
// nodes. It is pure.
func Resolve(nodes []node.Node, catalogs map[string]Catalog) []Choice {
	choices := make([]Choice, len(nodes))
	for i, n := range nodes {
		choices[i].Node = n
		c, ok := catalogs[n.Role]
		if !ok {
			choices[i].Err = errors.New("its releases were not looked for")
			continue
		}
		choices[i].Set, choices[i].Err = c.Select(n.Release)
	}
	return choices
}
