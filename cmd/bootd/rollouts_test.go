package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bootd/deploy"
	"bootd/deploy/rollout"
	"bootd/internal/admin"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
	"bootd/links"
)

// An upgradeSite is the upgrades of a site of three Kubernetes nodes, that have
// release 0.0.8 and may have 0.0.9, with a clock that stands still.
type upgradeSite struct {
	*rollouts
	t       *testing.T
	records *deploy.Records
	clock   time.Time
	events  []timeline.Event
	seen    *timeline.Log
}

// mortal is a table that loses everything behind a number of commits, as a
// process does that dies.
type mortal struct {
	deploy.Table
	commits int // negative: it lives
}

var errDead = errors.New("the process is dead")

func (m *mortal) Apply(c []store.Change) error {
	if m.commits == 0 {
		return errDead
	}
	m.commits--
	return m.Table.Apply(c)
}

func newUpgradeSite(t *testing.T) *upgradeSite {
	t.Helper()
	root := t.TempDir()
	for _, id := range []string{"0.0.8", "0.0.9"} {
		writeRelease(t, root+"/ephemeral/data/k8s/"+id, "5.3.18-24.37", id, "kubernetes")
	}
	tree, err := links.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if found, err := tree.Check(nil); err != nil || len(found) > 0 {
			t.Errorf("check after the test: got %v, %v, want nothing", found, err)
		}
		tree.Close()
	})
	var nodes []node.Node
	for i, want := range []node.Want{node.WantRelease, node.WantRelease, node.WantRelease, node.WantHold} {
		nodes = append(nodes, node.Node{Name: fmt.Sprintf("ncn-m00%d", i+1), Role: "kubernetes", Want: want, MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, byte(i + 1)}}})
	}
	nodes = append(nodes, node.Node{Name: "ncn-i001", Role: "installed", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 9}}})
	w := upgradeWorld(t, tree, nodes)
	choices, err := w.resolve(links.Settings{Roles: map[string]string{"kubernetes": "0.0.8"}})
	if err != nil {
		t.Fatal(err)
	}
	var wanted []links.Wanted
	for _, c := range choices[:4] {
		wanted = append(wanted, links.Wanted{Node: c.Node.Name, Set: c.Set})
	}
	p, err := tree.Plan(wanted)
	if err == nil {
		_, err = tree.Apply(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	table, err := db.Table("upgrades")
	if err != nil {
		t.Fatal(err)
	}
	deployments, err := db.Table("deployments")
	if err != nil {
		t.Fatal(err)
	}
	records, err := deploy.OpenRecords(deployments, func(string, deploy.Record, deploy.Record) {})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := db.Table("timeline")
	if err != nil {
		t.Fatal(err)
	}
	seen, err := timeline.Open(steps, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &upgradeSite{t: t, records: records, seen: seen, clock: time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)}
	s.rollouts = &rollouts{
		world: func() *world { return w }, tree: tree, table: table, log: slog.New(slog.DiscardHandler),
		record: func(e timeline.Event) { s.events = append(s.events, e) }, now: func() time.Time { return s.clock }, wake: make(chan struct{}, 1),
	}
	s.restart()
	return s
}

func upgradeWorld(t *testing.T, tree *links.Tree, nodes []node.Node) *world {
	t.Helper()
	inv, err := node.NewInventory(nodes, []node.Role{
		{Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}},
		{Name: "installed", Dir: "installed", Install: &node.Install{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &world{cfg: new(config.Config), inv: inv, tree: tree}
}

// restart forgets all that is not on disk, and begins as a daemon does.
func (s *upgradeSite) restart() {
	s.t.Helper()
	if m, ok := s.table.(*mortal); ok {
		s.table = m.Table
	}
	if err := s.load(); err != nil {
		s.t.Fatal(err)
	}
}

var wish = admin.UpgradeRequest{Role: "kubernetes", Release: "0.0.9", Batch: 1, Attempts: 2, Wait: rollout.WaitBooted, Deadline: 20 * time.Minute}

func (s *upgradeSite) begin(r admin.UpgradeRequest) error {
	_, err := s.daemon().Upgrade(s.t.Context(), r)
	return err
}

// daemon is as much of a daemon as administrators talk to.
func (s *upgradeSite) daemon() *daemon {
	d := &daemon{rollouts: s.rollouts, records: s.records, events: s.seen}
	d.world.Store(s.world())
	return d
}

func (s *upgradeSite) mustBegin() {
	s.t.Helper()
	if err := s.begin(wish); err != nil {
		s.t.Fatal(err)
	}
}

// asks is a node that asks for its script. It returns the release that the
// script will have.
func (s *upgradeSite) asks(name string) string {
	s.t.Helper()
	s.clock = s.clock.Add(time.Minute)
	s.hear(rollout.Sighting{What: rollout.Asked, Node: name, Release: s.links(name)})
	return s.links(name)
}

func (s *upgradeSite) links(name string) string {
	s.t.Helper()
	c, err := s.tree.Current(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Release
}

func (s *upgradeSite) boots(name string) {
	s.t.Helper()
	release := s.asks(name)
	s.checkedIn(&timeline.Event{Step: timeline.CheckIn, Action: "booted", Node: name, Release: release})
	s.tick()
}

// until waits for what another goroutine is about to do, ten seconds at most.
func (s *upgradeSite) until(done func() bool) {
	s.t.Helper()
	for range 10_000 {
		if done() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Error("waited in vain")
}

// want checks how the upgrade stands and what the nodes are linked to, which is
// what the next set-links would give them.
func (s *upgradeSite) want(state rollout.State, releases string) {
	s.t.Helper()
	got := []string{s.links("ncn-m001"), s.links("ncn-m002"), s.links("ncn-m003")}
	if r := s.last("kubernetes"); r.State != state || strings.Join(got, " ") != releases {
		s.t.Errorf("got %s, links %v, want %s, %s\n%+v", r.State, got, state, releases, r)
	}
	if state == "" {
		return // nothing is pinned where nothing began
	}
	settings, err := s.tree.Settings()
	if err != nil {
		s.t.Fatal(err)
	}
	choices, err := s.world().resolve(settings)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, c := range choices[:3] {
		if c.Err != nil || c.Set.Release != got[i] {
			s.t.Errorf("%s: set-links would link %s (%v), want %s, which it has", c.Node.Name, c.Set.Release, c.Err, got[i])
		}
	}
}

func TestUpgradeNodeByNode(t *testing.T) {
	s := newUpgradeSite(t)
	s.mustBegin()
	s.want(rollout.Running, "0.0.9 0.0.8 0.0.8")
	if u := s.begin(wish); u == nil || !strings.Contains(u.Error(), "role kubernetes: an upgrade to 0.0.9 is running, with 0 of 3 nodes upgraded and 1 under way") {
		t.Errorf("a second one: got %v, want that one is running", u)
	}
	s.boots("ncn-m001")
	s.want(rollout.Running, "0.0.9 0.0.9 0.0.8")
	s.boots("ncn-m003") // whose turn it is not
	s.boots("ncn-m002")
	s.want(rollout.Running, "0.0.9 0.0.9 0.0.9")
	s.boots("ncn-m003")
	s.want(rollout.Done, "0.0.9 0.0.9 0.0.9")
	if s.links("ncn-m004") != "0.0.8" {
		t.Error("the node that is held was upgraded too")
	}
	var steps []string
	for _, e := range s.events {
		steps = append(steps, string(e.Step)+" "+e.Node+" "+e.Release)
	}
	if got := strings.Join(steps, ", "); got != "switched ncn-m001 0.0.9, switched ncn-m002 0.0.9, switched ncn-m003 0.0.9" {
		t.Errorf("events: got %s", got)
	}
}

// A node that uses up its boots gets its old release with the script that it
// asks for next, and nobody else is touched.
func TestUpgradePutsBack(t *testing.T) {
	s := newUpgradeSite(t)
	s.mustBegin()
	s.boots("ncn-m001")
	for i, want := range []string{"0.0.9", "0.0.9", "0.0.8"} {
		if got := s.asks("ncn-m002"); got != want {
			t.Errorf("script %d: got release %s, want %s", i+1, got, want)
		}
	}
	s.want(rollout.Failed, "0.0.9 0.0.8 0.0.8")
	e := s.events[len(s.events)-1]
	if e.Step != timeline.PutBack || e.Node != "ncn-m002" || e.Release != "0.0.8" || !strings.Contains(e.Detail, "2 boots and no check-in") {
		t.Errorf("last event: got %+v, want that ncn-m002 was put back to 0.0.8, and why", e)
	}
	s.boots("ncn-m002")
	if got := s.story("ncn-m002"); !strings.HasPrefix(got, "to 0.0.9, failed: put back to 0.0.8, on which it checked in: it asks for its script again") {
		t.Errorf("story: got %q", got)
	}
	s.clock = s.clock.Add(24 * time.Hour)
	s.tick()
	s.want(rollout.Failed, "0.0.9 0.0.8 0.0.8")
}

// Whenever the daemon dies, the one that is started next goes on.
func TestUpgradeSurvivesKill(t *testing.T) {
	names := []string{"ncn-m001", "ncn-m002", "ncn-m003"}
	for commits := range 10 {
		s := newUpgradeSite(t)
		s.table = &mortal{s.table, commits}
		err := s.begin(wish)
		if died := commits < 3; died != errors.Is(err, errDead) { // begin, switch, switched
			t.Errorf("death after %d commits: got %v, want death %v", commits, err, died)
		}
		for _, name := range names {
			s.boots(name)
		}
		s.restart()
		if commits == 0 { // it never began
			s.tick()
			s.want("", "0.0.8 0.0.8 0.0.8")
			continue
		}
		for range names {
			s.clock = s.clock.Add(linkAgain)
			s.tick()
			for _, name := range names {
				if s.links(name) == "0.0.9" {
					s.boots(name)
				}
			}
		}
		s.tick()
		s.want(rollout.Done, "0.0.9 0.0.9 0.0.9")
	}
}

// A daemon that was away puts back whose time was over meanwhile.
func TestUpgradeWhileDown(t *testing.T) {
	s := newUpgradeSite(t)
	s.mustBegin()
	s.asks("ncn-m001")
	s.restart()
	s.clock = s.clock.Add(19 * time.Minute)
	s.tick()
	s.want(rollout.Failed, "0.0.8 0.0.8 0.0.8")
	if got, want := s.last("kubernetes").Reason, "node ncn-m001: it did not check in within 20m0s: 1 boot, the last at 02:01:00 UTC"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUpgradeRefusals(t *testing.T) {
	s := newUpgradeSite(t)
	for _, tt := range []struct {
		change func(*admin.UpgradeRequest)
		want   string
	}{
		{func(r *admin.UpgradeRequest) { r.Role = "kubernets" }, `there is no role "kubernets"; there are: [installed kubernetes]`},
		{func(r *admin.UpgradeRequest) { r.Role = "installed" }, `role "installed": its releases are installers`},
		{func(r *admin.UpgradeRequest) { r.Release = "0.1.0" }, "0.1.0"},
		{func(r *admin.UpgradeRequest) { r.Nodes = "ncn-m001,ncn-w*" }, `there is no node "ncn-w*"`},
		{func(r *admin.UpgradeRequest) { r.Nodes = "ncn-m004" }, `node "ncn-m004": does not boot a release: held by the administrator`},
		{func(r *admin.UpgradeRequest) { r.Nodes = "ncn-i001" }, `node "ncn-i001" is of role "installed", not "kubernetes"`},
		{func(r *admin.UpgradeRequest) { r.Nodes = "ncn-[m]" }, "ncn-[m]"},
		{func(r *admin.UpgradeRequest) { r.Batch = 0 }, "batch: 0: at least 1"},
	} {
		r := wish
		tt.change(&r)
		if err := s.begin(r); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	dry := wish
	dry.Nodes, dry.DryRun = "ncn-*", true
	u, err := s.daemon().Upgrade(t.Context(), dry)
	if want := []admin.LeftOut{{Node: "ncn-m004", Reason: "held by the administrator"}}; err != nil || len(u.Nodes) != 3 || !slices.Equal(u.LeftOut, want) {
		t.Errorf("ncn-*: got %d nodes, left out %v, %v, want 3 and %v", len(u.Nodes), u.LeftOut, err, want)
	}
	s.want("", "0.0.8 0.0.8 0.0.8")
}

// What a shorter upgrade leaves of a longer one is nothing, and what is read is
// what was written.
func TestUpgradeOnDisk(t *testing.T) {
	s := newUpgradeSite(t)
	s.mustBegin()
	s.boots("ncn-m001")
	if _, err := s.daemon().Steer("kubernetes", rollout.Abandon); err != nil {
		t.Fatal(err)
	}
	few := wish
	few.Nodes = "ncn-m003"
	if err := s.begin(few); err != nil {
		t.Fatal(err)
	}
	want := s.last("kubernetes")
	s.restart()
	got := s.last("kubernetes")
	if len(got.Nodes) != 1 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.want(rollout.Running, "0.0.9 0.0.8 0.0.9")
}

// What cannot be put back stays to be put back, and is when that works again.
func TestUpgradeTriesAgain(t *testing.T) {
	s := newUpgradeSite(t)
	s.mustBegin()
	obstacle := func() error { return s.tree.Root().Mkdir("ncn-m001/in the way", 0o755) }
	if err := obstacle(); err != nil {
		t.Fatal(err)
	}
	s.checkedIn(&timeline.Event{Step: timeline.CheckIn, Action: "failed", Node: "ncn-m001", Release: "0.0.9", Detail: "no disk"})
	s.tick()
	if n := s.last("kubernetes").Nodes[0]; n.Phase != rollout.Returning || !strings.Contains(n.Trouble, `"in the way" is neither a file nor a link`) {
		t.Errorf("got %+v, want that it is still to be put back, and why", n)
	}
	if err := s.tree.Root().Remove("ncn-m001/in the way"); err != nil {
		t.Fatal(err)
	}
	s.tick()
	if got := s.links("ncn-m001"); got != "0.0.9" {
		t.Errorf("at once: got %s, want that it waits", got)
	}
	s.clock = s.clock.Add(linkAgain)
	s.tick()
	s.want(rollout.Failed, "0.0.8 0.0.8 0.0.8")
}

// A node that was put back and is still pinned to the release that it failed on
// would get that again with the next set-links: it stays to be put back.
func TestUpgradePutBackUntilPinned(t *testing.T) {
	s := newUpgradeSite(t)
	s.mustBegin()
	obstacle := func(do func(string) error) {
		if err := do(".bootd/.tmp"); err != nil {
			t.Fatal(err)
		}
	}
	root := s.tree.Root()
	obstacle(func(dir string) error { return root.MkdirAll(dir+"/in the way", 0o755) })
	s.checkedIn(&timeline.Event{Step: timeline.CheckIn, Action: "failed", Node: "ncn-m001", Release: "0.0.9"})
	s.tick()
	if n, got := s.last("kubernetes").Nodes[0], s.links("ncn-m001"); got != "0.0.8" || n.Phase != rollout.Returning || n.Trouble == "" {
		t.Errorf("got %+v, linked to %s, want 0.0.8, and trouble with its pin", n, got)
	}
	obstacle(root.RemoveAll)
	s.clock = s.clock.Add(linkAgain)
	s.tick()
	s.want(rollout.Failed, "0.0.8 0.0.8 0.0.8")
}

// A node that asks for its script while it is being linked boots the new
// release, whatever it says of that later.
func TestUpgradeOfNodeThatAsksWhileLinked(t *testing.T) {
	s := newUpgradeSite(t)
	made, asked := make(chan error, 1), make(chan bool)
	err := s.tree.Alone(t.Context(), func() error {
		go func() { made <- s.begin(wish) }()
		s.until(func() bool { return s.heeds("ncn-m001") })
		go func() {
			s.hear(rollout.Sighting{What: rollout.Asked, Node: "ncn-m001", Release: "0.0.8"})
			close(asked)
		}()
		select {
		case <-asked:
			t.Error("was answered before it was linked")
		case <-time.After(50 * time.Millisecond):
		}
		return nil
	})
	<-asked
	if err := errors.Join(err, <-made); err != nil {
		t.Fatal(err)
	}
	s.checkedIn(&timeline.Event{Step: timeline.CheckIn, Action: "phone-home", Node: "ncn-m001"})
	if n := s.last("kubernetes").Nodes[0]; n.Phase != rollout.Upgraded {
		t.Errorf("got %+v, want that it is upgraded", n)
	}
}

// Where all nodes of a role went over, the role is pinned and not its nodes.
func TestUpgradeOfAWholeRole(t *testing.T) {
	s := newUpgradeSite(t)
	w := upgradeWorld(t, s.tree, s.world().inv.Nodes()[:3])
	s.world = func() *world { return w }
	s.mustBegin()
	for _, name := range []string{"ncn-m001", "ncn-m002", "ncn-m003"} {
		s.boots(name)
	}
	s.want(rollout.Done, "0.0.9 0.0.9 0.0.9")
	settings, err := s.tree.Settings()
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"kubernetes": "0.0.9"}; !maps.Equal(settings.Roles, want) || len(settings.Nodes) > 0 {
		t.Errorf("got roles %v, nodes %v pinned, want %v and none", settings.Roles, settings.Nodes, want)
	}
	if r := s.last("kubernetes"); !r.Settled || r.Reason != "role kubernetes is pinned to 0.0.9" {
		t.Errorf("got %v, %q, want it settled, and the pin told", r.Settled, r.Reason)
	}
}

// The next upgrade of a role waits for the pin of the last one, which it would
// take the place of.
func TestUpgradeWaitsForPin(t *testing.T) {
	s := newUpgradeSite(t)
	w := upgradeWorld(t, s.tree, s.world().inv.Nodes()[:3])
	s.world = func() *world { return w }
	s.mustBegin()
	s.boots("ncn-m001")
	s.boots("ncn-m002")
	root := s.tree.Root()
	if err := root.MkdirAll(".bootd/.tmp/in the way", 0o755); err != nil {
		t.Fatal(err)
	}
	s.boots("ncn-m003")
	if r := s.last("kubernetes"); r.State != rollout.Done || r.Settled {
		t.Fatalf("got %s, settled: %v, want it done, and its pin in the way", r.State, r.Settled)
	}
	if err := s.begin(wish); err == nil || !strings.Contains(err.Error(), "its pin is not written yet") {
		t.Errorf("got %v, want that it waits for the pin", err)
	}
	if err := root.RemoveAll(".bootd/.tmp"); err != nil {
		t.Fatal(err)
	}
	s.clock = s.clock.Add(linkAgain)
	s.tick()
	if err := s.begin(wish); err != nil {
		t.Errorf("got %v, want that it begins", err)
	}
}

// However long links take, nobody waits for them who only asks how things stand,
// nor a node that says something.
func TestNobodyWaitsForLinksToRead(t *testing.T) {
	s := newUpgradeSite(t)
	made := make(chan error, 1)
	err := s.tree.Alone(t.Context(), func() error { // so that none is made meanwhile
		go func() { made <- s.begin(wish) }()
		s.until(func() bool { return s.heeds("ncn-m001") })
		for name, do := range map[string]func(){
			"metrics":        func() { s.Collect(make(chan prometheus.Metric, 100)) },
			"why":            func() { s.story("ncn-m001") },
			"upgrade status": func() { s.daemon().Upgrades() },
			"a check-in":     func() { s.checkedIn(&timeline.Event{Step: timeline.CheckIn, Action: "booted", Node: "ncn-m001"}) },
		} {
			done := make(chan struct{})
			go func() { do(); close(done) }()
			select {
			case <-done:
			case err := <-made:
				made <- err
				t.Errorf("%s: waited until the links were made, or given up: %v", name, err)
			}
		}
		return nil
	})
	if err := errors.Join(err, <-made); err != nil {
		t.Fatal(err)
	}
	s.want(rollout.Running, "0.0.9 0.0.8 0.0.8")
}

// An administrator who has nodes put back while they are being linked gets that.
func TestUpgradeAbandonedWhileLinking(t *testing.T) {
	s := newUpgradeSite(t)
	made, abandoned := make(chan error, 1), make(chan error, 1)
	err := s.tree.Alone(t.Context(), func() error {
		go func() { made <- s.begin(wish) }()
		s.until(func() bool { return s.heeds("ncn-m001") })
		go func() {
			_, err := s.daemon().Steer("kubernetes", rollout.Abandon)
			abandoned <- err
		}()
		s.until(func() bool { return s.last("kubernetes").State != rollout.Running })
		return nil
	})
	if err := errors.Join(err, <-made, <-abandoned); err != nil {
		t.Fatal(err)
	}
	s.want(rollout.Stopped, "0.0.8 0.0.8 0.0.8")
}

// What somebody pinned is known before it is replaced, and after it; what an
// upgrade left is nobody's wish.
func TestUpgradeTellsWhichPinsItReplaces(t *testing.T) {
	s := newUpgradeSite(t)
	pin := func(pins map[string]string) {
		t.Helper()
		if err := s.tree.Change(t.Context(), func(s *links.Settings) { pinNodes(s, pins) }); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, dry bool, pins string) {
		t.Helper()
		r := wish
		r.DryRun = dry
		u, err := s.daemon().Upgrade(t.Context(), r)
		var got []string
		for _, n := range u.Nodes {
			got = append(got, n.Pin)
		}
		if err != nil || strings.Join(got, " ") != pins {
			t.Errorf("%s: got pins %q, %v, want %q", when, got, err, pins)
		}
	}
	want("nothing is pinned", true, "  ")
	pin(map[string]string{"ncn-m001": "0.0.7", "ncn-m002": "0.0.8", "ncn-m003": "0.0.9"})
	want("before", true, "0.0.7 0.0.8 ")
	want("begun", false, "0.0.7 0.0.8 ")
	s.restart()
	if n := s.last("kubernetes").Node("ncn-m001"); n.Pin != "0.0.7" {
		t.Errorf("on disk: got %+v, want its pin", n)
	}
	if _, err := s.daemon().Steer("kubernetes", rollout.Abandon); err != nil {
		t.Fatal(err)
	}
	want("another upgrade", true, "  ")
	pin(map[string]string{"ncn-m002": "0.0.7"})
	want("pinned again", true, " 0.0.7 ")
}

// A node that is to be switched and was never heard of is told.
func TestUpgradeOfNodesNeverSeen(t *testing.T) {
	s := newUpgradeSite(t)
	s.seen.Record(timeline.Event{Step: timeline.Discover, Stage: timeline.Firmware, Node: "ncn-m002"})
	s.seen.Record(timeline.Event{Step: timeline.Switched, Node: "ncn-m003"})
	dry := wish
	dry.DryRun = true
	u, err := s.daemon().Upgrade(t.Context(), dry)
	if want := []string{"ncn-m001", "ncn-m003"}; err != nil || !slices.Equal(u.Unseen, want) {
		t.Errorf("got %v, %v, want %v", u.Unseen, err, want)
	}
}
