// Package rollout knows the order in which the nodes of a role go over to
// another release, and what becomes of one that does not come up on it.
//
// A Rollout is the whole of that as a value: what was seen goes in by Observe,
// and Links says what is to be linked to which release. It is pure: no clock,
// no disk. Whoever drives it keeps it on disk before he acts by it, so that a
// daemon that was killed goes on where it was: what Links says may be done
// twice.
//
// The promises: no batch begins before every node of the one before has checked
// in on the new release. A node that uses up its boots or its time, that says
// itself that it failed, or that cannot be linked, is linked to the release it
// came from, whatever becomes of the others, and after that no node is switched
// any more until an administrator says so.
package rollout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A State is how a rollout stands.
type State string

// The states.
const (
	Running State = "running" // batch by batch
	Done    State = "done"    // no node waits any more
	Failed  State = "failed"  // a node did not come up; no other one is switched
	Stopped State = "stopped" // by an administrator; no other one is switched
)

// A Phase is how a node of a rollout stands.
type Phase string

// The phases, in their order.
const (
	Waiting   Phase = "waiting"   // linked to the release it came from, until its batch
	Switching Phase = "switching" // to be linked to the new release
	Switched  Phase = "switched"  // linked to the new release, and has to check in
	Upgraded  Phase = "upgraded"  // checked in on it
	Returning Phase = "returning" // to be linked to the release it came from
	Returned  Phase = "put-back"  // linked to it
	Back      Phase = "back"      // and checked in on it
)

// Phases are all phases, in their order.
var Phases = []Phase{Waiting, Switching, Switched, Upgraded, Returning, Returned, Back}

// What a node may have to say of itself to count as upgraded.
const (
	WaitBooted     = "booted"     // that its system runs
	WaitRegistered = "registered" // that it registered where it belongs
)

// The bounds of what an administrator may ask for.
const (
	MaxAttempts = 100
	MaxDeadline = 7 * 24 * time.Hour
)

// sameBoot is how long a node that asks for its script again has not booted
// since: GRUB opens each file twice, and no firmware comes round faster.
const sameBoot = 10 * time.Second

// A Rollout is the upgrade of the nodes of one role. The zero Rollout has no
// nodes and is good for nothing.
type Rollout struct {
	Role     string        `json:"role"`
	Release  string        `json:"release"`     // that the nodes go over to
	Batch    int           `json:"batch"`       // nodes that are switched together
	Attempts int           `json:"attempts"`    // boots that a node has
	Wait     string        `json:"wait"`        // what a node has to say: WaitBooted or WaitRegistered
	Deadline time.Duration `json:"deadline_ns"` // that a node has from its switch
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended,omitzero"` // zero: it runs
	State    State         `json:"state"`
	Reason   string        `json:"reason,omitempty"`  // why it failed or was stopped, for people
	Settled  bool          `json:"settled,omitempty"` // it is done, and so are the pins
	Nodes    []Node        `json:"nodes"`             // in the order they are switched
}

// A Node is one node of a rollout.
type Node struct {
	Name     string    `json:"node"`
	From     string    `json:"from"`          // release that it came from
	Pin      string    `json:"pin,omitempty"` // release that somebody had pinned it to, which the pins of the rollout replace
	Phase    Phase     `json:"phase"`
	Boots    int       `json:"boots"`             // times that it asked for its script with the new release
	Switched time.Time `json:"switched,omitzero"` // when it was linked to the new release
	Asked    time.Time `json:"asked,omitzero"`    // for that script, last; the time that put it back included
	Changed  time.Time `json:"changed,omitzero"`  // when its phase began
	Reason   string    `json:"reason,omitempty"`  // why it was put back, for people
	Trouble  string    `json:"trouble,omitempty"` // why it could not be put back so far
}

// New makes a rollout that has not begun: its first batch is switched when
// time is first observed. Nodes need Name and From, and may have a Pin.
func New(r Rollout) (Rollout, error) {
	switch {
	case r.Role == "" || r.Release == "":
		return r, errors.New("a role and a release are needed")
	case len(r.Nodes) == 0:
		return r, fmt.Errorf("role %q: there is no node to upgrade", r.Role)
	}
	if err := r.CheckTerms(); err != nil {
		return r, err
	}
	r = r.clone()
	r.State, r.Ended, r.Reason, r.Settled = Running, time.Time{}, "", false
	seen := map[string]bool{}
	for i, n := range r.Nodes {
		if n.Name == "" || n.From == "" || seen[n.Name] {
			return r, fmt.Errorf("node %q: needs a release that it boots now, and a place of its own", n.Name)
		}
		seen[n.Name] = true
		r.Nodes[i] = Node{Name: n.Name, From: n.From, Pin: n.Pin, Phase: Waiting}
		if n.From == r.Release {
			r.Nodes[i].Phase = Upgraded
		}
	}
	return r, nil
}

// CheckTerms reports what is wrong with Batch, Attempts, Wait or Deadline,
// whatever the nodes are.
func (r Rollout) CheckTerms() error {
	switch {
	case r.Batch < 1:
		return fmt.Errorf("batch: %d: at least 1", r.Batch)
	case r.Attempts < 1 || r.Attempts > MaxAttempts:
		return fmt.Errorf("attempts: %d: from 1 to %d", r.Attempts, MaxAttempts)
	case r.Wait != WaitBooted && r.Wait != WaitRegistered:
		return fmt.Errorf("wait: %q is neither %s nor %s", r.Wait, WaitBooted, WaitRegistered)
	case r.Deadline < time.Minute || r.Deadline > MaxDeadline:
		return fmt.Errorf("deadline: %v: from 1m to %v", r.Deadline, MaxDeadline)
	}
	return nil
}

// A What says which thing was seen.
type What uint8

// What can be seen.
const (
	Tick      What = iota // nothing but that time goes on
	Linked                // Node is linked to Release
	NotLinked             // Node could not be linked to Release; Detail says why
	Asked                 // Node asks for its script, which would be one of Release
	Booted                // Node checked in; on Release, or without a word on which
	Broken                // Node says itself that it failed; Detail says how
	Stop                  // an administrator stops it
	Abandon               // and has those put back that have not checked in
	Resume                // and goes on, with those that failed anew
	Skip                  // and goes on, without those that failed
	Settle                // the pins of a rollout that is done are as they should be; Detail says how
)

// A Sighting is what was seen, and when.
type Sighting struct {
	What    What
	Time    time.Time
	Node    string
	Release string
	Detail  string
	Joined  bool // Booted: and says that it registered
}

// Observe returns the rollout after a sighting. What does not fit to how things
// stand, because it came late or twice, changes nothing.
func (r Rollout) Observe(s Sighting) Rollout {
	r = r.clone()
	if i := r.index(s.Node); i >= 0 {
		r.observe(&r.Nodes[i], s)
	}
	switch s.What {
	case Stop, Abandon:
		r.stop(s)
	case Resume, Skip:
		r.resume(s)
	case Settle:
		r.settle(s)
	}
	r.expire(s.Time)
	r.proceed(s.Time)
	return r
}

// observe takes what was seen of a node.
func (r *Rollout) observe(n *Node, s Sighting) {
	isNew := s.Release == r.Release || s.Release == "" && n.Boots > 0
	isOld := s.Release == n.From || s.Release == ""
	switch {
	case s.What == Linked && n.Phase == Switching && s.Release == r.Release:
		n.enter(Switched, s.Time)
		n.Switched = s.Time
	case s.What == NotLinked && n.Phase == Switching && s.Release == r.Release:
		r.fail(n, s.Time, "it could not be linked: "+s.Detail)
	case s.What == Linked && n.Phase == Returning && s.Release == n.From:
		n.enter(Returned, s.Time)
		n.Trouble = ""
	case s.What == NotLinked && n.Phase == Returning && s.Release == n.From:
		n.Trouble = s.Detail
	case s.What == Asked && n.Phase == Switched && s.Release == r.Release:
		r.asked(n, s.Time)
	case s.What == Asked && n.Phase == Switched:
		n.Reason = "somebody linked it to release " + s.Release // unless more comes
	case s.What == Booted && n.Phase == Switched && isNew && r.Wait == WaitRegistered && !s.Joined:
		n.Reason = "it booted and has not registered" // unless more comes
	case s.What == Booted && n.Phase == Switched && isNew:
		n.enter(Upgraded, s.Time)
		n.Reason = ""
	case s.What == Booted && n.Phase == Switched && n.Boots > 0:
		n.Reason = "it checked in on release " + s.Release // unless more comes
	case s.What == Booted && n.Phase == Returned && isOld:
		n.enter(Back, s.Time)
	case s.What == Broken && n.Phase == Switched && isNew:
		r.fail(n, s.Time, "it reported that it failed"+after(": ", s.Detail))
	}
}

// asked counts a boot, or puts a node back that has had all of its boots.
func (r *Rollout) asked(n *Node, now time.Time) {
	switch {
	case n.Boots > 0 && now.Sub(n.Asked) < sameBoot:
	case n.Boots >= r.Attempts:
		n.Asked = now
		r.fail(n, now, fmt.Sprintf("it asks for its script again: %s and no check-in%s", boots(n.Boots), after(", ", n.Reason)))
	default:
		n.Boots, n.Asked = n.Boots+1, now
	}
}

// expire puts back whose time is over.
func (r *Rollout) expire(now time.Time) {
	for i := range r.Nodes {
		n := &r.Nodes[i]
		if n.Phase != Switched || now.Before(n.Switched.Add(r.Deadline)) {
			continue
		}
		if n.Boots == 0 {
			why := cmp.Or(n.Reason, "it never asked for its script, so it was not rebooted, or did not boot from the network")
			r.fail(n, now, fmt.Sprintf("it did not boot the release within %v: %s", r.Deadline, why))
			continue
		}
		r.fail(n, now, fmt.Sprintf("it did not check in within %v: %s, the last at %s%s", r.Deadline, boots(n.Boots), n.Asked.UTC().Format("15:04:05 UTC"), after(", ", n.Reason)))
	}
}

// fail begins to put a node back and ends the rollout, but for the nodes that
// are under way.
func (r *Rollout) fail(n *Node, now time.Time, why string) {
	n.enter(Returning, now)
	n.Reason = why
	if r.State == Running {
		r.State, r.Ended, r.Reason = Failed, now, fmt.Sprintf("node %s: %s", n.Name, why)
	}
}

func (r *Rollout) stop(s Sighting) {
	if r.State == Running {
		r.State, r.Ended, r.Reason = Stopped, s.Time, cmp.Or(s.Detail, "by an administrator")
	}
	for i := range r.Nodes {
		if n := &r.Nodes[i]; s.What == Abandon && (n.Phase == Switching || n.Phase == Switched) {
			n.enter(Returning, s.Time)
			n.Reason = "the upgrade was stopped before it checked in"
		}
	}
}

// settle ends a rollout that is done for good.
func (r *Rollout) settle(s Sighting) {
	if r.State == Done {
		r.Settled, r.Reason = true, s.Detail
	}
}

// resume goes on with a rollout that failed or was stopped.
func (r *Rollout) resume(s Sighting) {
	if r.Resumable() != nil {
		return
	}
	r.State, r.Ended, r.Reason = Running, time.Time{}, ""
	for i := range r.Nodes {
		if n := &r.Nodes[i]; s.What == Resume && (n.Phase == Returned || n.Phase == Back) {
			*n = Node{Name: n.Name, From: n.From, Pin: n.Pin, Phase: Waiting, Changed: s.Time}
		}
	}
}

// Resumable reports why the rollout cannot go on.
func (r Rollout) Resumable() error {
	if r.State != Failed && r.State != Stopped {
		return fmt.Errorf("the upgrade of role %s to %s is %s", r.Role, r.Release, r.State)
	}
	for _, n := range r.Nodes {
		if n.Phase == Returning {
			return fmt.Errorf("node %s is still to be put back to %s%s", n.Name, n.From, after(": ", n.Trouble))
		}
	}
	return nil
}

// proceed begins the next batch when the one before is upgraded.
func (r *Rollout) proceed(now time.Time) {
	if r.State != Running || r.underway() {
		return
	}
	begun := 0
	for i := range r.Nodes {
		if n := &r.Nodes[i]; n.Phase == Waiting && begun < r.Batch {
			n.enter(Switching, now)
			begun++
		}
	}
	if begun == 0 {
		r.State, r.Ended = Done, now
	}
}

// underway reports whether a node is neither before nor behind its switch.
func (r *Rollout) underway() bool {
	return slices.ContainsFunc(r.Nodes, func(n Node) bool { return n.Phase == Switching || n.Phase == Switched || n.Phase == Returning })
}

// Active reports whether anything is still to be done or watched.
func (r Rollout) Active() bool { return r.State == Running || r.underway() }

// Over reports whether nothing more comes of a rollout by itself: one that is
// done has its pins too.
func (r Rollout) Over() bool { return !r.Active() && (r.State != Done || r.Settled) }

// A Link is a node that is to be linked to a release.
type Link struct {
	Node, Release string
	Back          bool // to the one it came from
}

// Links returns what is to be linked now. It may be done already.
func (r Rollout) Links() (list []Link) {
	for _, n := range r.Nodes {
		switch n.Phase {
		case Switching:
			list = append(list, Link{Node: n.Name, Release: r.Release})
		case Returning:
			list = append(list, Link{Node: n.Name, Release: n.From, Back: true})
		}
	}
	return list
}

// Pins returns the release of each node, which it keeps whatever else happens
// to its role.
func (r Rollout) Pins() map[string]string {
	pins := make(map[string]string, len(r.Nodes))
	for _, n := range r.Nodes {
		switch n.Phase {
		case Switching, Switched, Upgraded:
			pins[n.Name] = r.Release
		default:
			pins[n.Name] = n.From
		}
	}
	return pins
}

// Count returns how many nodes are in each phase.
func (r Rollout) Count() map[Phase]int {
	count := map[Phase]int{}
	for _, n := range r.Nodes {
		count[n.Phase]++
	}
	return count
}

// Node returns the node of that name; nil: it has none.
func (r Rollout) Node(name string) *Node {
	if i := r.index(name); i >= 0 {
		return &r.Nodes[i]
	}
	return nil
}

func (r *Rollout) index(name string) int {
	return slices.IndexFunc(r.Nodes, func(n Node) bool { return n.Name == name })
}

func (r Rollout) clone() Rollout {
	r.Nodes = slices.Clone(r.Nodes)
	return r
}

func (n *Node) enter(p Phase, now time.Time) { n.Phase, n.Changed = p, now }

// Needs reports whether a node has to be rebooted to boot what it is linked to:
// it was switched and did not boot since, or it was put back while it runs, or
// hangs on, the new release.
func (n Node) Needs() bool {
	switch n.Phase {
	case Switched:
		return n.Boots == 0
	case Returned:
		return n.Boots > 0 && n.Changed.Sub(n.Asked) > sameBoot
	}
	return false
}

// Tell puts how a node stands into words.
func (r Rollout) Tell(n Node) string {
	switch n.Phase {
	case Waiting:
		return "waits for its turn on " + n.From
	case Switching:
		return "is being linked to " + r.Release
	case Switched:
		if n.Boots == 0 {
			return fmt.Sprintf("linked to %s, was %s, and has to be rebooted", r.Release, n.From)
		}
		return fmt.Sprintf("boots %s, boot %d of %d%s", r.Release, n.Boots, r.Attempts, after(", ", n.Reason))
	case Upgraded:
		if n.Switched.IsZero() {
			return "was on " + r.Release + " already"
		}
		return "checked in on " + r.Release
	case Returning:
		return fmt.Sprintf("is to be put back to %s: %s%s", n.From, n.Reason, after("; which did not work so far: ", n.Trouble))
	case Returned:
		return fmt.Sprintf("put back to %s: %s", n.From, n.Reason)
	case Back:
		return fmt.Sprintf("put back to %s, on which it checked in: %s", n.From, n.Reason)
	}
	return string(n.Phase)
}

func boots(n int) string {
	if n == 1 {
		return "1 boot"
	}
	return fmt.Sprintf("%d boots", n)
}

func after(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
