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
	"bootd/bmc"
	"bootd/deploy"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/ipxe"
	"bootd/links"
)

// Outcomes of a node. They are part of the JSON output.
const (
	created   = "created"
	changed   = "changed"
	unchanged = "unchanged"
	failed    = "failed"
	pruned    = "pruned" // of a node that is in no list
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
	Pruned     []string            `json:"pruned,omitempty"` // nodes whose boot directory was taken away
	Mismatch   bool                `json:"kernels_differ,omitempty"`
	LiveDir    string              `json:"live_dir,omitempty"` // rd.live.dir of the nodes; empty: the default
	BMCs       []bmcOutcome        `json:"bmcs,omitempty"`     // that were told to use DHCP
	Missing    []string            `json:"missing,omitempty"`  // nodes whose BMC was waited for and has no lease

	roles      map[string]node.Role
	config     string
	liveDir    string
	wasLive    string // before this run
	out, err   io.Writer
	json       bool // lines of source 004 would spoil it
	choices    []artifacts.Choice
	unfound    []string            // roles without a node and without a release
	passedOver []artifacts.Problem // of releases newer than the selected one
	unreached  map[string]bool     // nodes whose BMC could not be told
	edited     []string            // nodes whose script.ipxe is kept
	unpruned   []links.Refusal     // boot directories that should have gone
	gone       string              // remedy for a pin to a release that cannot be linked; empty: there is none
}

// say prints a line of source 004, warn one of its lines on standard error.
func (r *report) say(format string, args ...any) { r.line(r.out, format+"\n", args...) }

func (r *report) warn(format string, args ...any) { r.line(r.err, format+"\n", args...) }

// count prints how many there are, over the count before.
func (r *report) count(n int) { r.line(r.out, "Current: %d\x1b[0K\r", n) }

func (r *report) line(w io.Writer, format string, args ...any) {
	if !r.json {
		fmt.Fprintf(w, format, args...)
	}
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
	Script  string `json:"script,omitempty"` // its script.ipxe was copied or, because it was edited, kept
	Error   string `json:"error,omitempty"`  // where it failed

	links []string // names of the links that differ, for a change
}

func newReport(root string, dryRun bool) *report {
	return &report{Root: root, DryRun: dryRun, Selections: []selection{}, Nodes: []outcome{}, Problems: []artifacts.Problem{}}
}

// resolved records what each node should boot, and what the nodes of roles
// would that have none.
func (r *report) resolved(choices []artifacts.Choice, catalogs map[string]artifacts.Catalog, roles []string) {
	r.choices = choices
	r.Nodes, r.Selections, r.Problems, r.unfound, r.passedOver = []outcome{}, []selection{}, []artifacts.Problem{}, nil, nil
	index := map[artifacts.Set]int{}
	at := func(s artifacts.Set) *selection {
		i, ok := index[s]
		if !ok {
			i = len(r.Selections)
			index[s] = i
			r.Selections = append(r.Selections, selection{Set: s, Nodes: []string{}})
		}
		return &r.Selections[i]
	}
	has := map[string]bool{}
	for _, c := range choices {
		r.Nodes = append(r.Nodes, outcome{Node: c.Node.Name, Role: c.Node.Role, Release: c.Set.Release})
		has[c.Node.Role] = true
		if c.Err == nil {
			s := at(c.Set)
			s.Nodes = append(s.Nodes, c.Node.Name)
		}
	}
	for _, role := range roles {
		set, err := catalogs[role].Select("")
		switch {
		case has[role]:
		case err != nil:
			r.unfound = append(r.unfound, role)
		default:
			at(set)
		}
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
	for _, c := range done {
		if c.Removed() {
			r.Pruned = append(r.Pruned, c.Node)
		}
	}
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
		if !slices.ContainsFunc(r.Nodes, func(o outcome) bool { return o.Node == x.Node }) {
			r.unpruned = append(r.unpruned, x)
		}
		fate[x.Node] = outcome{Outcome: failed, Error: x.Err.Error()}
	}
	for _, name := range p.Edited {
		o := fate[name]
		o.Script = "kept"
		fate[name] = o
	}
	r.edited = p.Edited
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
	if c.Script != nil {
		o.Script = "copied"
	}
	return o
}

func (r *report) settle(o *outcome, fate outcome) {
	o.Outcome, o.Was, o.Error, o.Script, o.links = fate.Outcome, fate.Was, fate.Error, fate.Script, fate.links
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

// scriptArgs returns a function that returns the kernel arguments that a node
// has of its own in its script.ipxe.
func (r *report) scriptArgs() func(name string) []string {
	role := map[string]node.Role{}
	for _, c := range r.choices {
		role[c.Node.Name] = r.roles[c.Node.Role]
	}
	return func(name string) []string { return role[name].ScriptArgsOf(name) }
}

// notFound says, in the words of source 004, which roles have no release.
func (r *report) notFound() {
	told := map[string]bool{}
	tell := func(name string) {
		role := r.roles[name]
		if told[name] {
			return
		}
		told[name] = true
		for _, member := range r.missing(name) {
			r.warn("ERROR: %s %s not found in %s", scriptWord(role), member, filepath.Join(r.Root, artifacts.DataDir, role.Dir))
		}
	}
	for _, c := range r.choices {
		if c.Err != nil && c.Node.Release == "" {
			tell(c.Node.Role)
		}
	}
	for _, role := range r.unfound {
		tell(role)
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
func (r *report) kernels(policy config.Kernels) error {
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
	fmt.Fprintln(r.err, "Mismatching kernels! The discovered artifacts will deploy an undesirable stack.")
	if policy == config.KernelsError {
		return cli.Hint(errors.New("kernels differ, no node is linked: "+strings.Join(told, ", ")),
			"pin releases with the same kernel, or say kernels: warn or kernels: off in "+r.config)
	}
	cli.Tell(program, r.err, "warning: kernels differ: "+strings.Join(told, ", "))
	return nil
}

// closed warns of files that the user of a web server could not read.
func (r *report) closed(root *os.Root) {
	for _, s := range r.Selections {
		for _, what := range artifacts.Closed(root, s.Set) {
			cli.Tell(program, r.err, fmt.Sprintf("warning: release %s of role %s: %s is not open to all: a server that does not run as its owner cannot read it", s.Release, s.Role, what))
		}
	}
}

// bmcs records what came of the BMCs, and says it.
func (r *report) bmcs(results []bmc.Result[bmcOutcome]) {
	list, errs := outcomes(results)
	r.BMCs, r.unreached = list, map[string]bool{}
	for _, o := range list {
		r.unreached[o.Node] = o.Error != ""
		if o.Changed && o.Error == "" {
			r.say("%s: %s", o.Node, o.Did)
		}
	}
	for _, err := range errs {
		cli.Tell(program, r.err, err.Error())
	}
}

// cmdlines warns of nodes that would wait instead of booting, because of their
// kernel arguments.
func (r *report) cmdlines() {
	for _, c := range r.choices {
		if c.Err != nil {
			continue
		}
		args := cmp.Or(r.roles[c.Node.Role].Args, ipxe.FamilyArgs(c.Set.Family)) + " " + c.Node.Args
		d := deploy.Decision{Action: deploy.Boot, Node: c.Node.Name, Role: c.Node.Role, Release: c.Set.Release, Args: args, Install: r.roles[c.Node.Role].Install != nil,
			Payload: c.Node.Payload.Family, Family: c.Set.Family, Rootfs: c.Set.Rootfs}
		if err := ipxe.CheckCmdline(d); err != nil {
			cli.Tell(program, r.err, fmt.Sprintf("warning: %s would not boot %s: %v", c.Node.Name, c.Set.Release, err))
		}
	}
}

// notes prints the lines of source 004 that come before the links are made.
func (r *report) notes(who *census) {
	r.LiveDir = r.liveDir
	if who.leases {
		r.say("%s is creating boot directories for each NCN with a BMC that has a lease in %s", os.Args[0], who.where)
	} else {
		r.say("%s is creating boot directories for each NCN in the inventory of %s", os.Args[0], r.config)
	}
	r.say("\tNOTE: Nodes without boot directories will still boot the non-destructive iPXE binary for bare-metal discovery usage.")
	if r.liveDir != "" {
		r.say("\tImages will be stored on the NCN at /run/initramfs/live/%s/", r.liveDir)
		return
	}
	r.warn("\tWARNING: CSM_RELEASE was not set, images will be stored in their default location on the node(s) at /run/initramfs/live/LiveOS/")
}

// absent records the nodes that are expected and have no lease, and says which
// roles have no node at all.
func (r *report) absent(who *census) {
	there := map[string]bool{}
	for _, n := range who.nodes {
		there[n.Role] = true
	}
	for _, role := range who.roles {
		if !there[role] && len(r.Selections) > 0 {
			r.warn("No %s NCN BMCs found in %s", firstWord(role), who.where)
		}
	}
	for _, n := range who.missing {
		r.choices = append(r.choices, artifacts.Choice{Node: n, Err: errors.New("no lease in " + who.where)})
		r.Nodes = append(r.Nodes, outcome{Node: n.Name, Role: n.Role})
	}
}

// stopped is for an error before anything is linked. In JSON it comes with what
// is known of the BMCs.
func (r *report) stopped(err error) error {
	if !r.json {
		return err
	}
	for i := range r.Nodes {
		r.settle(&r.Nodes[i], outcome{Outcome: failed, Error: "not linked: " + err.Error()})
	}
	return cmp.Or(r.print(), err)
}

// nobody is the verdict where there is no node.
func (r *report) nobody() error {
	if len(r.Selections) == 0 {
		return errors.New("no release and no node is there")
	}
	return cli.Hint(errors.New("no node is there to link"), "name the file of the leases with --leases, or the nodes under nodes: in "+r.config)
}

// printSelections prints what was found, in the words of source 004, so that
// scripts that look for them find them.
func (r *report) printSelections() {
	if len(r.Selections) > 0 {
		r.say("Images resolved")
	}
	for _, s := range r.Selections {
		r.say("%s Boot Selection:", r.title(s.Role))
		for _, m := range [][2]string{{"kernel", s.Kernel}, {"initrd", s.Initrd}, {"squash", s.Squashfs}} {
			r.say("\t%s: %s", m[0], filepath.Join(r.Root, m[1]))
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

// print prints what came of it.
func (r *report) print() error {
	if r.json {
		return printJSON(r.out, r)
	}
	return r.printNodes()
}

// printNodes prints what changed, and how many did not. What could not be
// printed is an error: it may be all that somebody knows of a run.
func (r *report) printNodes() error {
	w := new(strings.Builder)
	for _, o := range r.Nodes {
		switch o.Outcome {
		case created, changed:
			fmt.Fprintf(w, "%s%s %s: %s\n", r.would(), r.verb(o.Outcome), o.Node, o.story())
		}
	}
	if r.wasLive != "" && r.wasLive != r.liveDir {
		fmt.Fprintf(w, "%s%s rd.live.dir of all nodes: %q -> %q\n", r.would(), r.verb(changed), r.wasLive, r.liveDir)
	}
	if len(r.edited) > 0 {
		fmt.Fprintf(w, "kept script.ipxe of %s: edited\n", strings.Join(r.edited, ", "))
	}
	for _, name := range r.Pruned {
		fmt.Fprintf(w, "%s%s %s\n", r.would(), r.verb(pruned), name)
	}
	counts := fmt.Sprintf("%d created, %d changed, %d unchanged", r.Created, r.Changed, r.Unchanged)
	if len(r.Pruned) > 0 {
		counts += fmt.Sprintf(", %d pruned", len(r.Pruned))
	}
	switch {
	case r.DryRun:
		fmt.Fprintf(w, "dry run, nothing was written: %d to create, %d to change, %d unchanged\n", r.Created, r.Changed, r.Unchanged)
	case r.Created+r.Changed+len(r.Pruned) == 0:
		fmt.Fprintln(w, "nothing changed: "+counts)
	default:
		fmt.Fprintln(w, counts)
	}
	if r.Failed == 0 && !r.DryRun {
		fmt.Fprintln(w, r.Root+" is ready.")
	}
	_, err := io.WriteString(r.out, w.String())
	return err
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
func (r *report) verdict(applyErr error) error {
	for _, p := range r.passedOver {
		cli.Tell(program, r.err, fmt.Sprintf("warning: role %s: release %s is not used: %v", p.Role, p.Release, p))
	}
	for _, f := range r.failures() {
		cli.Tell(program, r.err, f)
	}
	for _, x := range r.unpruned {
		cli.Tell(program, r.err, x.Err.Error())
	}
	switch {
	case r.Failed == 0 && len(r.unpruned) > 0 && applyErr == nil:
		return cli.Error{Err: fmt.Errorf("%d boot directories were not pruned", len(r.unpruned)), Code: cli.Partial}
	case r.Failed == 0 && len(r.Missing) > 0:
		return cli.Error{Err: fmt.Errorf("BMCs without a lease: %s", strings.Join(r.Missing, ", ")), Code: cli.Partial}
	case r.Failed == 0:
		return applyErr // of cleaning up
	}
	code := cli.Failure
	if r.Failed < len(r.Nodes) {
		code = cli.Partial
	}
	summary := fmt.Errorf("%d of %d nodes failed", r.Failed, len(r.Nodes))
	return cli.Error{Err: summary, Code: code, Hint: cmp.Or(writeHint(applyErr, r.Root), r.gone)}
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
