package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bootd/artifacts"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/links"
)

// Outcomes of a node. They are part of the JSON output.
const (
	created   = "created"
	changed   = "changed"
	unchanged = "unchanged"
	failed    = "failed"
)

// A report is what set-links found and did. Its JSON form only ever grows.
type report struct {
	Root       string              `json:"root"`
	DryRun     bool                `json:"dry_run"` // nothing was done; outcomes are what would be
	Selections []selection         `json:"selections"`
	Nodes      []outcome           `json:"nodes"`
	Problems   []artifacts.Problem `json:"problems"` // of all releases of the roles looked at
	Created    int                 `json:"created"`
	Changed    int                 `json:"changed"`
	Unchanged  int                 `json:"unchanged"`
	Failed     int                 `json:"failed"`
	Mismatch   bool                `json:"kernels_differ,omitempty"`
	LiveDir    string              `json:"live_dir,omitempty"` // rd.live.dir of the nodes; empty: the default

	roles      map[string]node.Role
	config     string
	liveDir    string
	wasLive    string // before this run
	quiet      bool   // lines of source 004 would spoil the JSON
	choices    []artifacts.Choice
	passedOver []artifacts.Problem // of releases newer than the selected one
}

// A selection is a set and the nodes that should boot it.
type selection struct {
	artifacts.Set
	Nodes []string `json:"nodes"`
}

// An outcome is what happened to one node.
type outcome struct {
	Node    string `json:"node"`
	Role    string `json:"role"`
	Release string `json:"release,omitempty"` // it should boot; empty: there is none
	Was     string `json:"was,omitempty"`     // release that was linked before a change; empty: none, or a mix
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"` // where it failed

	links []string // names of the links that differ, for a change
}

func newReport(root string, dryRun bool) *report {
	return &report{Root: root, DryRun: dryRun, Selections: []selection{}, Nodes: []outcome{}, Problems: []artifacts.Problem{}}
}

// resolved records what each node should boot.
func (r *report) resolved(choices []artifacts.Choice, catalogs map[string]artifacts.Catalog) {
	r.choices = choices
	index := map[artifacts.Set]int{}
	for _, c := range choices {
		r.Nodes = append(r.Nodes, outcome{Node: c.Node.Name, Role: c.Node.Role, Release: c.Set.Release})
		if c.Err != nil {
			continue
		}
		i, ok := index[c.Set]
		if !ok {
			i = len(r.Selections)
			index[c.Set] = i
			r.Selections = append(r.Selections, selection{Set: c.Set})
		}
		r.Selections[i].Nodes = append(r.Selections[i].Nodes, c.Node.Name)
	}
	slices.SortStableFunc(r.Selections, func(a, b selection) int { return cmp.Compare(a.Role, b.Role) })
	for _, role := range slices.Sorted(maps.Keys(catalogs)) {
		r.Problems = append(r.Problems, catalogs[role].Problems...)
		if set, err := catalogs[role].Select(""); err == nil {
			r.passedOver = append(r.passedOver, catalogs[role].PassedOver(set)...)
		}
	}
}

// wanted returns what to link.
func (r *report) wanted() (w []links.Wanted) {
	for _, c := range r.choices {
		if c.Err == nil {
			w = append(w, links.Wanted{Node: c.Node.Name, Set: c.Set, Aliases: r.roles[c.Node.Role].Aliases})
		}
	}
	return w
}

// planned records what came of each node.
func (r *report) planned(p links.Plan, done []links.Change, applyErr error) {
	fate := map[string]outcome{}
	for _, c := range p.Changes {
		fate[c.Node] = outcome{Outcome: failed, Error: fmt.Sprint("not switched: ", applyErr)}
	}
	for _, c := range done {
		fate[c.Node] = changeOutcome(c)
	}
	for _, name := range p.Unchanged {
		fate[name] = outcome{Outcome: unchanged}
	}
	for _, x := range p.Refused {
		fate[x.Node] = outcome{Outcome: failed, Error: x.Err.Error()}
	}
	for i, c := range r.choices {
		if c.Err != nil {
			fate[c.Node.Name] = outcome{Outcome: failed, Error: c.Err.Error()}
		}
		r.settle(&r.Nodes[i], fate[c.Node.Name])
	}
}

func changeOutcome(c links.Change) outcome {
	o := outcome{Outcome: changed, Was: c.Old.Release()}
	if c.Created() {
		o.Outcome = created
	}
	o.links = c.Differ()
	return o
}

func (r *report) settle(o *outcome, fate outcome) {
	o.Outcome, o.Was, o.Error, o.links = fate.Outcome, fate.Was, fate.Error, fate.links
	switch o.Outcome {
	case created:
		r.Created++
	case changed:
		r.Changed++
	case unchanged:
		r.Unchanged++
	default:
		r.Failed++
	}
}

// notFound says, in the words of source 004, which roles have no release.
func (r *report) notFound(stderr io.Writer) {
	if r.quiet {
		return
	}
	told := map[string]bool{}
	for _, c := range r.choices {
		if role := r.roles[c.Node.Role]; c.Err != nil && !told[role.Name] && c.Node.Release == "" {
			told[role.Name] = true
			for _, member := range r.missing(role.Name) {
				fmt.Fprintf(stderr, "ERROR: %s %s not found in %s\n", scriptWord(role), member, filepath.Join(r.Root, artifacts.DataDir, role.Dir))
			}
		}
	}
}

// missing returns the members that no release of a role has: those that are
// missing from its newest release, and all where there is none.
func (r *report) missing(role string) (members []string) {
	newest, all := "", []string{"initrd", "kernel", "squashfs"}
	for _, p := range r.Problems {
		switch {
		case p.Role != role:
		case p.Member == "" && newest == "":
			return all
		case newest == "" || newest == p.Release:
			newest = p.Release
			members = append(members, p.Member)
		}
	}
	if newest == "" {
		return all
	}
	return members
}

// scriptWord is what the script of source 004 calls a role in its errors.
func scriptWord(role node.Role) string {
	switch role.Name {
	case "kubernetes":
		return "k8s"
	case "storage-ceph":
		return "storage"
	}
	return role.Name
}

// kernels compares the kernels of the roles, as source 004 does, and does what
// the configuration says where they differ.
func (r *report) kernels(policy config.Kernels, stderr io.Writer) error {
	if policy == config.KernelsOff {
		return nil
	}
	rules := map[string]bool{}
	var told []string
	for _, s := range r.Selections {
		rules[s.KernelRule()] = true
		told = append(told, fmt.Sprintf("%s %s has %s", s.Role, s.Release, s.KernelRule()))
	}
	if len(rules) < 2 {
		return nil
	}
	r.Mismatch = true
	fmt.Fprintln(stderr, "Mismatching kernels! The discovered artifacts will deploy an undesirable stack.")
	if policy == config.KernelsError {
		return cli.Hint(errors.New("kernels differ, no node is linked: "+strings.Join(told, ", ")),
			"pin releases with the same kernel, or say kernels: warn or kernels: off in "+r.config)
	}
	cli.Tell(program, stderr, "warning: kernels differ: "+strings.Join(told, ", "))
	return nil
}

// closed warns of files that the user of a web server could not read.
func (r *report) closed(root *os.Root, stderr io.Writer) {
	for _, s := range r.Selections {
		for _, what := range artifacts.Closed(root, s.Set) {
			cli.Tell(program, stderr, fmt.Sprintf("warning: release %s of role %s: %s is not open to all: a server that does not run as its owner cannot read it", s.Release, s.Role, what))
		}
	}
}

// notes prints the lines of source 004 that come before the links are made.
func (r *report) notes(stdout, stderr io.Writer) {
	r.LiveDir = r.liveDir
	if r.quiet {
		return
	}
	fmt.Fprintf(stdout, "%s is creating boot directories for each NCN in the inventory of %s\n", program, r.config)
	fmt.Fprintln(stdout, "\tNOTE: Nodes without boot directories will still boot the non-destructive iPXE binary for bare-metal discovery usage.")
	if r.liveDir != "" {
		fmt.Fprintf(stdout, "\tImages will be stored on the NCN at /run/initramfs/live/%s/\n", r.liveDir)
		return
	}
	fmt.Fprintln(stderr, "\tWARNING: CSM_RELEASE was not set, images will be stored in their default location on the node(s) at /run/initramfs/live/LiveOS/")
}

// printSelections prints what was found, in the words of source 004, so that
// scripts that look for them find them.
func (r *report) printSelections(w io.Writer) {
	if len(r.Selections) > 0 {
		fmt.Fprintln(w, "Images resolved")
	}
	for _, s := range r.Selections {
		fmt.Fprintf(w, "%s Boot Selection:\n", r.title(s.Role))
		for _, m := range [][2]string{{"kernel", s.Kernel}, {"initrd", s.Initrd}, {"squash", s.Squashfs}} {
			fmt.Fprintf(w, "\t%s: %s\n", m[0], filepath.Join(r.Root, m[1]))
		}
	}
}

// title shortens storage-ceph to Storage, unless another role in use would
// have the same title.
func (r *report) title(role string) string {
	word := firstWord(role)
	for _, s := range r.Selections {
		if s.Role != role && firstWord(s.Role) == word {
			return role
		}
	}
	return strings.ToUpper(word[:1]) + word[1:]
}

func firstWord(role string) string {
	word, _, _ := strings.Cut(role, "-")
	return word
}

// printNodes prints what changed, and how many did not.
func (r *report) printNodes(w io.Writer) {
	for _, o := range r.Nodes {
		switch o.Outcome {
		case created, changed:
			fmt.Fprintf(w, "%s%s %s: %s\n", r.would(), r.verb(o.Outcome), o.Node, o.story())
		}
	}
	if r.wasLive != "" && r.wasLive != r.liveDir {
		fmt.Fprintf(w, "%s%s rd.live.dir of all nodes: %q -> %q\n", r.would(), r.verb(changed), r.wasLive, r.liveDir)
	}
	counts := fmt.Sprintf("%d created, %d changed, %d unchanged", r.Created, r.Changed, r.Unchanged)
	switch {
	case r.DryRun:
		fmt.Fprintf(w, "dry run, nothing was written: %d to create, %d to change, %d unchanged\n", r.Created, r.Changed, r.Unchanged)
	case r.Created+r.Changed == 0:
		fmt.Fprintln(w, "nothing changed: "+counts)
	default:
		fmt.Fprintln(w, counts)
	}
	if r.Failed == 0 && !r.DryRun {
		fmt.Fprintln(w, r.Root+" is ready.")
	}
}

func (r *report) would() string {
	if r.DryRun {
		return "would "
	}
	return ""
}

func (r *report) verb(outcome string) string {
	if r.DryRun {
		return strings.TrimSuffix(outcome, "d")
	}
	return outcome
}

// story tells a change: from which release to which.
func (o outcome) story() string {
	switch {
	case o.Outcome == created:
		return o.Release
	case o.Was == o.Release:
		return o.Release + " (other " + strings.Join(o.links, ", ") + ")"
	case o.Was == "":
		return "broken links -> " + o.Release
	default:
		return o.Was + " -> " + o.Release
	}
}

// verdict tells what is wrong and returns an error for the exit status.
func (r *report) verdict(stderr io.Writer, applyErr error) error {
	for _, p := range r.passedOver {
		cli.Tell(program, stderr, fmt.Sprintf("warning: role %s: release %s is not used: %v", p.Role, p.Release, p))
	}
	for _, f := range r.failures() {
		cli.Tell(program, stderr, f)
	}
	if r.Failed == 0 {
		return applyErr // of cleaning up
	}
	code := cli.Failure
	if r.Failed < len(r.Nodes) {
		code = cli.Partial
	}
	summary := fmt.Errorf("%d of %d nodes failed", r.Failed, len(r.Nodes))
	return cli.Error{Err: summary, Code: code, Hint: writeHint(applyErr)}
}

// failures returns one line for each error, with all nodes that share it.
func (r *report) failures() (lines []string) {
	type key struct{ role, err string }
	var order []key
	nodes := map[key][]string{}
	for i, o := range r.Nodes {
		if o.Outcome != failed {
			continue
		}
		k := key{err: o.Error}
		if r.choices[i].Err != nil {
			k.role = o.Role
		}
		if nodes[k] == nil {
			order = append(order, k)
		}
		nodes[k] = append(nodes[k], o.Node)
	}
	for _, k := range order {
		switch {
		case k.role != "":
			lines = append(lines, fmt.Sprintf("role %s: %s (%s)", k.role, k.err, strings.Join(nodes[k], ", ")))
		case len(nodes[k]) > 1:
			lines = append(lines, fmt.Sprintf("%s (%s)", k.err, strings.Join(nodes[k], ", ")))
		default:
			lines = append(lines, k.err)
		}
	}
	return lines
}
