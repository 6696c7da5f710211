package links

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

// A Finding is something that is not as it should be.
type Finding struct {
	Node    string // or the name of a leftover, or a file of the record
	Problem string
}

// String returns the finding as one line.
func (f Finding) String() string { return f.Node + ": " + f.Problem }

// Check looks at all boot directories and at their record, as fsck does at a
// file system: links that dangle, leave the root or lead into two releases,
// links that are not what the last generation says, directories of nodes that
// are not known (nil: all are), and what a killed run left. It changes nothing.
// While another process switches links it may find what is true no more.
func (t *Tree) Check(known func(name string) bool) (found []Finding, err error) {
	entries, err := fs.ReadDir(t.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	add := func(name, format string, args ...any) {
		found = append(found, Finding{name, fmt.Sprintf(format, args...)})
	}
	last, err := t.Generation(0)
	if err != nil && !errors.Is(err, ErrNoGeneration) {
		add(generations, "%v", err)
	}
	unseen := maps.Clone(last.Nodes)
	for _, e := range entries {
		name := e.Name()
		switch {
		case isStaging(name):
			add(name, "left behind by a run that was killed")
		case checkName(name) != nil || !e.IsDir() && (known == nil || !known(name)):
			continue
		}
		was, recorded := unseen[name]
		delete(unseen, name)
		if checkName(name) == nil {
			t.checkNode(name, was, recorded, last.ID, known, add)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unseen)) {
		add(name, "has no boot directory, which generation %d has", last.ID)
	}
	return found, nil
}

func (t *Tree) checkNode(name string, was Links, recorded bool, gen int, known func(string) bool, add func(string, string, ...any)) {
	b, err := t.inspect(name)
	isNode := recorded || known != nil && known(name) || b.links.ours()
	switch {
	case !isNode: // a directory of somebody else
		return
	case err != nil:
		add(name, "%v", err)
		return
	}
	if err := t.checkLinks(b.links); err != nil {
		add(name, "%v", err)
	}
	for _, o := range b.others {
		if _, err := t.root.Stat(name + "/" + o.name); o.link && err != nil {
			target, _ := t.root.Readlink(name + "/" + o.name)
			add(name, "%s: link to %q cannot be followed", o.name, target)
		}
	}
	if gen > 0 && b.links != was {
		add(name, "was linked by somebody else, or a run was cut short: generation %d says %s, found is %s", gen, was.told(), b.links.told())
	}
	if known != nil && !known(name) {
		add(name, "is not in the inventory")
	}
}

// told names the release of links for a person.
func (l Links) told() string {
	switch uses := l.uses(); {
	case len(uses) == 0:
		return "no release"
	case len(uses) > 1:
		return "a mix of releases"
	default:
		return uses[0].Dir + "/" + uses[0].Release
	}
}
