package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bootd/artifacts"
	"bootd/deploy"
	"bootd/deploy/rollout"
	"bootd/internal/store"
	"bootd/internal/timeline"
	"bootd/links"
)

// How long the links of a batch may take, and when what went wrong is tried
// again.
const (
	linkTime  = 30 * time.Second
	linkAgain = 10 * time.Second
)

// rollouts drives the upgrades of roles: what it hears of nodes goes into their
// rollout.Rollout, which is kept on disk before any link follows it. While
// links are switched, only nodes wait that are to be linked, and those who ask
// for it. Who only reads waits for nobody.
//
// In the table, the key of a rollout is its role, and that of a node the role,
// a zero byte and its place: a step of one node writes that node.
type rollouts struct {
	world  func() *world
	tree   *links.Tree
	table  deploy.Table
	record func(timeline.Event)
	log    *slog.Logger
	now    func() time.Time

	state atomic.Pointer[roster]
	wake  chan struct{} // links are to be made

	linking sync.Mutex // held by the one who makes links, and taken before mu

	mu    sync.Mutex           // held while a rollout changes, until that is on disk
	again map[string]time.Time // when links that failed are tried again
}

// A roster is how the upgrades stand. It is never changed, but replaced.
type roster struct {
	last   map[string]rollout.Rollout // of each role
	heeded map[string]string          // nodes that an upgrade waits for, with its role
}

// last returns the last rollout of a role; the zero Rollout: there was none.
func (o *rollouts) last(role string) rollout.Rollout { return o.state.Load().last[role] }

// openRollouts reads the upgrades.
func (d *daemon) openRollouts(db *store.Store) error {
	table, err := db.Table("upgrades")
	if err != nil {
		return err
	}
	d.rollouts = &rollouts{world: d.world.Load, tree: d.tree, table: table, record: d.record, log: d.log, now: time.Now, wake: make(chan struct{}, 1)}
	d.registry.MustRegister(d.rollouts)
	return d.rollouts.load()
}

// load reads the table, whose order is that of its keys.
func (o *rollouts) load() error {
	o.again = map[string]time.Time{}
	all := map[string]rollout.Rollout{}
	err := o.table.Scan(func(key, value []byte) (err error) {
		role, _, isNode := strings.Cut(string(key), "\x00")
		r := all[role]
		if isNode {
			var n rollout.Node
			err = json.Unmarshal(value, &n)
			r.Nodes = append(r.Nodes, n)
		} else {
			err = json.Unmarshal(value, &r)
		}
		if err != nil {
			return fmt.Errorf("upgrade of role %q: %w", role, err)
		}
		all[role] = r
		return nil
	})
	o.publish(all)
	return err
}

// difference is what makes the table say now where it says was.
func difference(was, now rollout.Rollout) (list []store.Change, err error) {
	add := func(key string, v any) {
		value, bad := json.Marshal(v)
		err = errors.Join(err, bad)
		list = append(list, store.Change{Key: []byte(key), Value: value})
	}
	place := func(i int) string { return fmt.Sprintf("%s\x00%08d", now.Role, i) }
	for i, n := range now.Nodes {
		if i >= len(was.Nodes) || was.Nodes[i] != n {
			add(place(i), n)
		}
	}
	for i := len(now.Nodes); i < len(was.Nodes); i++ {
		list = append(list, store.Change{Key: []byte(place(i))})
	}
	was.Nodes, now.Nodes = nil, nil
	if !reflect.DeepEqual(was, now) {
		add(now.Role, now)
	}
	return list, err
}

// run tells the rollouts that time goes on. The first time, right at the start,
// finishes what a daemon that died had begun.
func (o *rollouts) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		o.tick()
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-tick.C:
		}
	}
}

func (o *rollouts) tick() {
	for role := range o.state.Load().last {
		if o.due(role) {
			o.observe(role, rollout.Sighting{What: rollout.Tick, Time: o.now()})
		}
	}
}

// due reports whether time may bring a rollout on.
func (o *rollouts) due(role string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.last(role).Over() && !o.now().Before(o.again[role])
}

// heeds reports whether anything that a node does matters to an upgrade.
func (o *rollouts) heeds(node string) bool {
	_, ok := o.state.Load().heeded[node]
	return ok
}

// hear takes what was seen of a node, and keeps it. A node that asks for its
// script is linked before it is answered; what else follows may take longer
// than those who tell should wait.
func (o *rollouts) hear(s rollout.Sighting) {
	role, ok := o.state.Load().heeded[s.Node]
	if !ok {
		return // as good as always
	}
	s.Time = o.now()
	r, err := o.see(role, s)
	if err != nil {
		o.log.Error("upgrade does not know what a node said", "node", s.Node, "err", err)
	}
	if s.What == rollout.Asked && err == nil {
		o.linkAsker(r, s)
	}
	select {
	case o.wake <- struct{}{}:
	default: // it will be looked at
	}
}

// linkAsker makes the links that a rollout wants of a node that asks for its
// script. Where that is with the new release, it boots it now.
func (o *rollouts) linkAsker(r rollout.Rollout, s rollout.Sighting) {
	for _, l := range r.Links() {
		if l.Node != s.Node {
			continue
		}
		o.drive(r.Role)
		if s.Release = l.Release; l.Back {
			return
		}
		if _, err := o.see(r.Role, s); err != nil {
			o.log.Error("upgrade does not know that a node boots", "node", s.Node, "err", err)
		}
		return
	}
}

// checkedIn hears what a node says of itself.
func (o *rollouts) checkedIn(e *timeline.Event) {
	if e.Step != timeline.CheckIn || e.Node == "" || e.Err != "" {
		return
	}
	switch e.Action {
	case "booted", "phone-home", "registered":
		o.hear(rollout.Sighting{What: rollout.Booted, Node: e.Node, Release: e.Release, Joined: e.Action == "registered"})
	case "failed":
		o.hear(rollout.Sighting{What: rollout.Broken, Node: e.Node, Release: e.Release, Detail: e.Detail})
	}
}

// observe does all that follows from a sighting. An error is logged too.
func (o *rollouts) observe(role string, s rollout.Sighting) error {
	if _, err := o.see(role, s); err != nil {
		o.held(role, err)
		return err
	}
	return o.drive(role)
}

// see takes what was seen into the rollout of a role, which it returns.
func (o *rollouts) see(role string, seen ...rollout.Sighting) (rollout.Rollout, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seeLocked(role, seen...)
}

func (o *rollouts) seeLocked(role string, seen ...rollout.Sighting) (rollout.Rollout, error) {
	r := o.last(role)
	for _, s := range seen {
		r = r.Observe(s)
	}
	err := o.keepLocked(r)
	return o.last(role), err
}

// drive makes the links that a rollout wants, and when it is done its pins. An
// error is logged too. What is seen meanwhile is taken in as it comes: a link
// that it made stale is made anew.
func (o *rollouts) drive(role string) (err error) {
	o.linking.Lock()
	defer o.linking.Unlock()
	r := o.last(role)
	for good := true; good && err == nil && len(r.Links()) > 0; {
		var seen []rollout.Sighting
		seen, good = o.link(r)
		r, err = o.see(role, seen...)
	}
	if err == nil && r.State == rollout.Done && !r.Settled {
		err = o.conclude(r)
	}
	if err != nil || len(r.Links()) > 0 {
		o.held(role, err)
	}
	return err
}

// conclude settles a rollout that is done, unless another one took its place.
func (o *rollouts) conclude(r rollout.Rollout) error {
	what, err := o.settle(r)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.last(r.Role).Started.Equal(r.Started) {
		return nil
	}
	_, err = o.seeLocked(r.Role, rollout.Sighting{What: rollout.Settle, Time: o.now(), Detail: what})
	return err
}

// held has a rollout tried again later. A nil error has been told of its node.
func (o *rollouts) held(role string, err error) {
	if err != nil {
		o.log.Error("upgrade is held up", "role", role, "err", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.again[role] = o.now().Add(linkAgain)
}

// keepLocked makes r the rollout of its role, on disk first.
func (o *rollouts) keepLocked(r rollout.Rollout) error {
	was := o.last(r.Role)
	list, err := difference(was, r)
	if err != nil || list == nil {
		return err
	}
	if err := o.table.Apply(list); err != nil {
		return err
	}
	all := maps.Clone(o.state.Load().last)
	all[r.Role] = r
	o.publish(all)
	delete(o.again, r.Role)
	o.tell(was, r)
	return nil
}

// publish makes these the rollouts that there are.
func (o *rollouts) publish(all map[string]rollout.Rollout) {
	heeded := map[string]string{}
	for role, r := range all {
		for _, n := range r.Nodes {
			switch n.Phase {
			case rollout.Switching, rollout.Switched, rollout.Returning, rollout.Returned:
				heeded[n.Name] = role
			}
		}
	}
	o.state.Store(&roster{last: all, heeded: heeded})
}

// tell makes events and log lines of what has changed.
func (o *rollouts) tell(was, now rollout.Rollout) {
	if !was.Started.Equal(now.Started) {
		was = now // it has only begun
	}
	for i, n := range now.Nodes {
		if was.Nodes[i].Phase == n.Phase {
			continue
		}
		e := timeline.Event{Node: n.Name, Time: n.Changed}
		switch n.Phase {
		case rollout.Switched:
			e.Step, e.Release, e.Detail = timeline.Switched, now.Release, "upgrade of role "+now.Role+", was "+n.From
			o.log.Info("linked to the release of an upgrade", "node", n.Name, "was", n.From, "release", now.Release)
		case rollout.Returned:
			e.Step, e.Release, e.Detail = timeline.PutBack, n.From, now.Release+": "+n.Reason
			o.log.Warn("put back to the release that it came from", "node", n.Name, "was", now.Release, "release", n.From, "reason", n.Reason)
		default:
			continue
		}
		o.record(e)
	}
	if was.State == now.State {
		return
	}
	level := slog.LevelInfo
	if now.State == rollout.Failed {
		level = slog.LevelError
	}
	o.log.Log(context.Background(), level, "upgrade "+string(now.State), "role", now.Role, "release", now.Release, "reason", now.Reason)
}

// link does what a rollout wants linked and returns what became of it. It
// reports whether all of it was done, or given up.
func (o *rollouts) link(r rollout.Rollout) (seen []rollout.Sighting, good bool) {
	ctx, cancel := context.WithTimeout(context.Background(), linkTime)
	defer cancel()
	pins := o.tree.Change(ctx, func(s *links.Settings) { pinNodes(s, r.Pins()) })
	forth, back := []string{}, map[string]string{}
	for _, l := range r.Links() {
		if l.Back {
			back[l.Node] = l.Release
		} else {
			forth = append(forth, l.Node)
		}
	}
	good = true
	for node, err := range o.forth(ctx, r, forth, pins) {
		seen = append(seen, o.became(node, r.Release, err))
	}
	for node, err := range o.back(ctx, r, back) { // whether it can be pinned or not; but until it is, set-links would undo that
		err = errors.Join(err, pins)
		seen = append(seen, o.became(node, back[node], err))
		good = good && err == nil
	}
	return seen, good
}

func (o *rollouts) became(node, release string, err error) rollout.Sighting {
	s := rollout.Sighting{What: rollout.Linked, Time: o.now(), Node: node, Release: release}
	if err != nil {
		s.What, s.Detail = rollout.NotLinked, err.Error()
	}
	return s
}

func pinNodes(s *links.Settings, pins map[string]string) {
	s.Nodes = maps.Clone(s.Nodes)
	if s.Nodes == nil {
		s.Nodes = map[string]string{}
	}
	maps.Copy(s.Nodes, pins)
}

// forth links nodes to the new release, and returns what went wrong with each.
func (o *rollouts) forth(ctx context.Context, r rollout.Rollout, names []string, bad error) map[string]error {
	if len(names) == 0 || bad != nil {
		return all(names, bad)
	}
	w := o.world()
	choices, err := w.resolve(pinsOf(r, names))
	if err != nil {
		return all(names, err)
	}
	return o.apply(ctx, r, names, choices, "upgrade of "+r.Role+" to "+r.Release)
}

// back links nodes to what they came from: what they had then, to the byte, or
// where no generation knows that any more, what the release has now.
func (o *rollouts) back(ctx context.Context, r rollout.Rollout, releases map[string]string) map[string]error {
	names := slices.Sorted(maps.Keys(releases))
	if len(names) == 0 {
		return nil
	}
	plan, err := o.tree.PlanReturn(releases)
	if err != nil {
		return all(names, err)
	}
	plan.Why = "upgrade of " + r.Role + " to " + r.Release + ", put back"
	result := o.carryOut(ctx, plan, names)
	var lost []string
	for _, name := range names {
		if errors.Is(result[name], fs.ErrNotExist) {
			lost = append(lost, name)
		}
	}
	if lost == nil {
		return result
	}
	choices, err := o.world().resolve(links.Settings{Nodes: releases})
	if err != nil {
		return result
	}
	maps.Copy(result, o.apply(ctx, r, lost, choices, plan.Why))
	return result
}

// pinsOf are settings in which these nodes are pinned to the new release.
func pinsOf(r rollout.Rollout, names []string) links.Settings {
	s := links.Settings{Nodes: map[string]string{}}
	for _, name := range names {
		s.Nodes[name] = r.Release
	}
	return s
}

// apply links nodes as chosen.
func (o *rollouts) apply(ctx context.Context, r rollout.Rollout, names []string, choices []artifacts.Choice, why string) map[string]error {
	result := map[string]error{}
	role, _ := o.world().inv.Role(r.Role)
	byName := make(map[string]artifacts.Choice, len(choices))
	for _, c := range choices {
		byName[c.Node.Name] = c
	}
	var wanted []links.Wanted
	for _, name := range names {
		c, ok := byName[name]
		switch {
		case !ok:
			result[name] = errors.New("it is not in the inventory any more")
		case c.Node.Role != r.Role:
			result[name] = fmt.Errorf("its role is %q now", c.Node.Role)
		case c.Err != nil:
			result[name] = c.Err
		default:
			wanted = append(wanted, links.Wanted{Node: name, Set: c.Set, Aliases: role.Aliases})
		}
	}
	plan, err := o.tree.Plan(wanted)
	if err != nil {
		return all(names, err)
	}
	plan.Why = why
	var rest []string
	for _, w := range wanted {
		rest = append(rest, w.Node)
	}
	maps.Copy(result, o.carryOut(ctx, plan, rest))
	return result
}

// carryOut applies a plan and returns what went wrong with each of its nodes.
func (o *rollouts) carryOut(ctx context.Context, plan links.Plan, names []string) map[string]error {
	done, err := o.tree.Apply(ctx, plan)
	result := all(names, err)
	for _, c := range done {
		result[c.Node] = nil
	}
	for _, name := range plan.Unchanged {
		result[name] = nil
	}
	for _, refused := range plan.Refused {
		result[refused.Node] = refused.Err
	}
	return result
}

// all gives each node the same result.
func all(names []string, err error) map[string]error {
	result := make(map[string]error, len(names))
	for _, name := range names {
		result[name] = err
	}
	return result
}

// settle pins what a rollout that is done leaves: the role, where all its nodes
// went over, else the nodes. It returns that in words.
func (o *rollouts) settle(r rollout.Rollout) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), linkTime)
	defer cancel()
	upgraded := map[string]bool{}
	for _, n := range r.Nodes {
		upgraded[n.Name] = n.Phase == rollout.Upgraded
	}
	whole, pinned := true, map[string]bool{}
	for _, n := range o.world().inv.Nodes() {
		if n.Role != r.Role {
			continue
		}
		whole = whole && upgraded[n.Name]
		pinned[n.Name] = n.Release != "" && n.Release != r.Release // by the configuration, to another
	}
	err := o.tree.Change(ctx, func(s *links.Settings) {
		pinNodes(s, r.Pins())
		if !whole {
			return
		}
		s.Roles = maps.Clone(s.Roles)
		if s.Roles == nil {
			s.Roles = map[string]string{}
		}
		s.Roles[r.Role] = r.Release
		for name, another := range pinned {
			if !another {
				delete(s.Nodes, name)
			}
		}
	})
	if whole {
		return fmt.Sprintf("role %s is pinned to %s", r.Role, r.Release), err
	}
	return "its nodes are pinned to the releases that they have", err
}

// Describe implements prometheus.Collector.
func (o *rollouts) Describe(ch chan<- *prometheus.Desc) { ch <- rolloutNodes }

var rolloutNodes = prometheus.NewDesc("bootd_rollout_nodes", "Nodes of the last upgrade of each role, by how they stand.", []string{"role", "state"}, nil)

// story tells how a node stands in the last upgrade of its role; empty: it had
// no part in one.
func (o *rollouts) story(name string) string {
	var last string
	var began time.Time
	for _, r := range o.state.Load().last {
		if n := r.Node(name); n != nil && r.Started.After(began) {
			began = r.Started
			last = fmt.Sprintf("to %s, %s: %s", r.Release, r.State, r.Tell(*n))
		}
	}
	return last
}

// Collect implements prometheus.Collector.
func (o *rollouts) Collect(ch chan<- prometheus.Metric) {
	for role, r := range o.state.Load().last {
		count := r.Count()
		for _, p := range rollout.Phases {
			ch <- prometheus.MustNewConstMetric(rolloutNodes, prometheus.GaugeValue, float64(count[p]), role, string(p))
		}
	}
}
