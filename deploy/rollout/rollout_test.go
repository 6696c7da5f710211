package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var begin = time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)

// three is a rollout of three nodes, one at a time, with two boots each.
func three(t testing.TB, change func(*Rollout)) Rollout {
	t.Helper()
	r := Rollout{
		Role: "kubernetes", Release: "1.2.4", Batch: 1, Attempts: 2, Deadline: 20 * time.Minute, Wait: WaitBooted, Started: begin,
		Nodes: []Node{{Name: "m1", From: "1.2.3"}, {Name: "m2", From: "1.2.3"}, {Name: "m3", From: "1.2.2"}},
	}
	if change != nil {
		change(&r)
	}
	r, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNew(t *testing.T) {
	good := three(t, nil)
	for _, tt := range []struct {
		change func(*Rollout)
		want   string
	}{
		{func(r *Rollout) { r.Release = "" }, "a role and a release are needed"},
		{func(r *Rollout) { r.Nodes = nil }, `role "kubernetes": there is no node to upgrade`},
		{func(r *Rollout) { r.Batch = 0 }, "batch: 0: at least 1"},
		{func(r *Rollout) { r.Attempts = 0 }, "attempts: 0: from 1 to 100"},
		{func(r *Rollout) { r.Attempts = 101 }, "attempts: 101: from 1 to 100"},
		{func(r *Rollout) { r.Wait = "ready" }, `wait: "ready" is neither booted nor registered`},
		{func(r *Rollout) { r.Deadline = time.Second }, "deadline: 1s: from 1m to 168h0m0s"},
		{func(r *Rollout) { r.Nodes[2].From = "" }, `node "m3": needs a release that it boots now`},
		{func(r *Rollout) { r.Nodes[2].Name = "m1" }, `node "m1": needs a release that it boots now, and a place of its own`},
	} {
		r := good.clone()
		tt.change(&r)
		if _, err := New(r); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// A script is sightings in words: "linked m1", "asks m1", "boots m1 1.2.4",
// "broken m1", "unlinkable m1", "+5m", "stop", "abandon", "resume", "skip".
// Each takes a second.
func play(r Rollout, script string) Rollout {
	now := begin
	for step := range strings.SplitSeq(script, ", ") {
		f := strings.Fields(step + " - -")
		now = now.Add(time.Second)
		s := Sighting{Time: now, Node: f[1]}
		switch n := r.Node(f[1]); f[0] {
		case "linked", "unlinkable":
			s.What, s.Release = Linked, r.Release
			if n.Phase == Returning {
				s.Release = n.From
			}
			if f[0] == "unlinkable" {
				s.What, s.Detail = NotLinked, "no room"
			}
		case "asks":
			s.What, s.Release = Asked, r.Release
		case "boots":
			s.What, s.Release = Booted, strings.TrimPrefix(f[2], "-")
		case "broken":
			s.What, s.Release, s.Detail = Broken, r.Release, "no disk"
		case "stop":
			s.What = Stop
		case "abandon":
			s.What = Abandon
		case "resume":
			s.What = Resume
		case "skip":
			s.What = Skip
		default:
			d, err := time.ParseDuration(strings.TrimPrefix(f[0], "+"))
			if err != nil {
				panic("no such step: " + step)
			}
			now = now.Add(d)
			s.Time = now
		}
		r = r.Observe(s)
	}
	return r
}

func TestObserve(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		state        State
		phases       string // of m1, m2, m3
		reason       string // of the rollout, a part of it
	}{
		{"nothing is switched before time is seen", "+0s", Running, "switching waiting waiting", ""},
		{"a switch is a switch when it is on disk", "+0s, linked m1", Running, "switched waiting waiting", ""},
		{"the next one waits for the check-in", "+0s, linked m1, asks m1, +5m", Running, "switched waiting waiting", ""},
		{"a check-in on the new release", "+0s, linked m1, asks m1, boots m1 1.2.4", Running, "upgraded switching waiting", ""},
		{"a check-in without a release counts after a boot", "+0s, linked m1, asks m1, boots m1", Running, "upgraded switching waiting", ""},
		{"and is the old system's before one", "+0s, linked m1, boots m1", Running, "switched waiting waiting", ""},
		{"a check-in on another release is none", "+0s, linked m1, asks m1, boots m1 1.2.3", Running, "switched waiting waiting", ""},
		{"a check-in of one whose turn it is not", "+0s, boots m2 1.2.4, boots m1 1.2.4", Running, "switching waiting waiting", ""},
		{"all of them", "+0s, linked m1, asks m1, boots m1, linked m2, asks m2, boots m2, linked m3, asks m3, boots m3", Done, "upgraded upgraded upgraded", ""},
		{"the last boot may succeed", "+0s, linked m1, asks m1, +1m, asks m1, +1m, boots m1 1.2.4", Running, "upgraded switching waiting", ""},
		{"boots used up", "+0s, linked m1, asks m1, +1m, asks m1, +1m, asks m1", Failed, "returning waiting waiting",
			"node m1: it asks for its script again: 2 boots and no check-in"},
		{"what it booted instead is told", "+0s, linked m1, asks m1, +1m, asks m1, boots m1 0.9, +1m, asks m1", Failed, "returning waiting waiting",
			"node m1: it asks for its script again: 2 boots and no check-in, it checked in on release 0.9"},
		{"a loader that asks twice boots once", "+0s, linked m1, asks m1, asks m1, asks m1, +1m, asks m1, asks m1", Running, "switched waiting waiting", ""},
		{"no reboot", "+0s, linked m1, +20m", Failed, "returning waiting waiting", "node m1: it did not boot the release within 20m0s: it never asked for its script, so it was not rebooted"},
		{"no check-in", "+0s, linked m1, asks m1, +20m", Failed, "returning waiting waiting", "node m1: it did not check in within 20m0s: 1 boot, the last at 02:00:03 UTC"},
		{"its own word", "+0s, linked m1, asks m1, broken m1", Failed, "returning waiting waiting", "node m1: it reported that it failed: no disk"},
		{"no room for the link", "+0s, unlinkable m1", Failed, "returning waiting waiting", "node m1: it could not be linked: no room"},
		{"put back", "+0s, linked m1, broken m1, linked m1", Failed, "put-back waiting waiting", ""},
		{"not put back yet", "+0s, linked m1, broken m1, unlinkable m1, +5m", Failed, "returning waiting waiting", ""},
		{"and back on the old release", "+0s, linked m1, broken m1, linked m1, boots m1 1.2.3", Failed, "back waiting waiting", ""},
		{"too late", "+0s, linked m1, +20m, boots m1 1.2.4, linked m1, boots m1 1.2.4", Failed, "put-back waiting waiting", "did not boot the release within"},
		{"the second one fails", "+0s, linked m1, boots m1 1.2.4, linked m2, asks m2, broken m2, linked m2, +1h", Failed, "upgraded put-back waiting", "node m2: "},
		{"stopped", "+0s, linked m1, stop, +1m, boots m1 1.2.4, +1m", Stopped, "upgraded waiting waiting", "by an administrator"},
		{"stopped, and put back all the same", "+0s, linked m1, stop, +20m, linked m1", Stopped, "put-back waiting waiting", "by an administrator"},
		{"abandoned", "+0s, linked m1, abandon, linked m1", Stopped, "put-back waiting waiting", "by an administrator"},
		{"abandoned before it is linked", "+0s, abandon, linked m1", Stopped, "put-back waiting waiting", "by an administrator"},
		{"gone on after a stop", "+0s, linked m1, stop, resume, boots m1 1.2.4", Running, "upgraded switching waiting", ""},
		{"gone on with the one that failed", "+0s, linked m1, broken m1, linked m1, resume", Running, "switching waiting waiting", ""},
		{"gone on without it", "+0s, linked m1, broken m1, linked m1, skip", Running, "put-back switching waiting", ""},
		{"not before it is put back", "+0s, linked m1, broken m1, resume, +1m", Failed, "returning waiting waiting", ""},
		{"the end without it", "+0s, linked m1, broken m1, linked m1, skip, linked m2, boots m2 1.2.4, linked m3, boots m3 1.2.4", Done, "put-back upgraded upgraded", ""},
		{"what is done stays done", "+0s, linked m1, boots m1 1.2.4, asks m1, +1h, linked m1, unlinkable m2", Failed, "upgraded returning waiting", "node m2: it could not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := play(three(t, nil), tt.script)
			var phases []string
			for _, n := range r.Nodes {
				phases = append(phases, string(n.Phase))
			}
			if got := strings.Join(phases, " "); r.State != tt.state || got != tt.phases || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("got %s, %s, %q, want %s, %s, %q", r.State, got, r.Reason, tt.state, tt.phases, tt.reason)
			}
		})
	}
}

// Nodes that are on the release already are not touched, and all of such a
// rollout is done at once.
func TestAlreadyThere(t *testing.T) {
	r := play(three(t, func(r *Rollout) {
		for i := range r.Nodes {
			r.Nodes[i].From = "1.2.4"
		}
	}), "+0s")
	if r.State != Done || len(r.Links()) > 0 {
		t.Errorf("got %s, links %v, want it done without any", r.State, r.Links())
	}
}

// Where a node has to register, a system that runs is not enough.
func TestWaitRegistered(t *testing.T) {
	r := play(three(t, func(r *Rollout) { r.Wait = WaitRegistered }), "+0s, linked m1, asks m1, boots m1 1.2.4")
	if r.Nodes[0].Phase != Switched {
		t.Errorf("booted: got %s, want switched", r.Nodes[0].Phase)
	}
	late := r.Observe(Sighting{Time: begin.Add(time.Hour)})
	if want := "boot, the last at 02:00:03 UTC, it booted and has not registered"; !strings.HasSuffix(late.Reason, want) {
		t.Errorf("got %q, want it to end in %q", late.Reason, want)
	}
	r = r.Observe(Sighting{What: Booted, Time: begin.Add(time.Minute), Node: "m1", Release: "1.2.4", Joined: true})
	if r.Nodes[0].Phase != Upgraded {
		t.Errorf("registered: got %s, want upgraded", r.Nodes[0].Phase)
	}
}

// Somebody who links a node elsewhere is told, and the node is put back in time.
func TestLinkedElsewhere(t *testing.T) {
	r := play(three(t, nil), "+0s, linked m1")
	r = r.Observe(Sighting{What: Asked, Time: begin.Add(time.Minute), Node: "m1", Release: "1.2.3"})
	if r.Nodes[0].Boots != 0 {
		t.Errorf("got %d boots, want none of the new release", r.Nodes[0].Boots)
	}
	r = play(r, "+21m")
	if want := "node m1: it did not boot the release within 20m0s: somebody linked it to release 1.2.3"; r.Reason != want {
		t.Errorf("got %q, want %q", r.Reason, want)
	}
}

// Who boots by himself needs no reboot.
func TestNeeds(t *testing.T) {
	for script, want := range map[string]bool{
		"+0s":                     false,
		"+0s, linked m1":          true,
		"+0s, linked m1, asks m1": false,
		"+0s, linked m1, asks m1, boots m1 1.2.4":                        false,
		"+0s, linked m1, asks m1, +1m, broken m1, linked m1":             true,
		"+0s, linked m1, asks m1, +20m, linked m1":                       true,
		"+0s, linked m1, asks m1, +20m, linked m1, boots m1 1.2.3":       false,
		"+0s, linked m1, asks m1, +1m, asks m1, +1m, asks m1, linked m1": false, // boots the old release now
		"+0s, linked m1, +20m, linked m1":                                false, // runs the old release still
	} {
		if got := play(three(t, nil), script).Nodes[0].Needs(); got != want {
			t.Errorf("%s: got %v, want %v", script, got, want)
		}
	}
}

// What is kept on disk, and printed with --json, keeps its names.
func TestJSON(t *testing.T) {
	r := play(three(t, func(r *Rollout) { r.Nodes = r.Nodes[:1] }), "+0s, linked m1, asks m1, broken m1, unlinkable m1")
	got, err := json.Marshal(r)
	want := `{"role":"kubernetes","release":"1.2.4","batch":1,"attempts":2,"wait":"booted","deadline_ns":1200000000000,` +
		`"started":"2026-11-27T02:00:00Z","ended":"2026-11-27T02:00:04Z","state":"failed","reason":"node m1: it reported that it failed: no disk",` +
		`"nodes":[{"node":"m1","from":"1.2.3","phase":"returning","boots":1,"switched":"2026-11-27T02:00:02Z","asked":"2026-11-27T02:00:03Z",` +
		`"changed":"2026-11-27T02:00:04Z","reason":"it reported that it failed: no disk","trouble":"no room"}]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

// In a batch of several, the others finish when one fails.
func TestBatch(t *testing.T) {
	r := three(t, func(r *Rollout) { r.Batch = 2 })
	r = play(r, "+0s, linked m1, linked m2, boots m2 1.2.4, broken m1")
	if links := fmt.Sprint(r.Links()); !r.Active() || links != "[{m1 1.2.3 true}]" {
		t.Errorf("with a node to put back: got active %v, links %s, want true, m1 to 1.2.3", r.Active(), links)
	}
	r = play(r, "linked m1, +1h")
	want := map[string]string{"m1": "1.2.3", "m2": "1.2.4", "m3": "1.2.2"}
	if r.State != Failed || !maps.Equal(r.Pins(), want) || r.Active() {
		t.Errorf("got %s, pins %v, active %v, want failed, %v, false", r.State, r.Pins(), r.Active(), want)
	}
}

// What was done to a node before comes late and changes nothing.
func TestLate(t *testing.T) {
	r := play(three(t, nil), "+0s, linked m1")
	for _, x := range []Sighting{{What: Linked, Release: "1.2.3"}, {What: NotLinked, Release: "1.2.3"}, {What: NotLinked, Release: "1.2.4"}} {
		x.Time, x.Node = begin.Add(time.Minute), "m1"
		if got := r.Observe(x); got.Nodes[0] != r.Nodes[0] || got.State != Running {
			t.Errorf("%+v: got %+v, want no change", x, got.Nodes[0])
		}
	}
}

// site is a model of all that a rollout is driven by: a disk that outlives
// crashes, links that a crash may leave done and not seen, nodes that boot what
// they are linked to, and sightings that come late and twice.
type site struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	r      Rollout           // in memory
	disk   []byte            // the record
	links  map[string]string // what nodes are linked to
	boots  map[string]int    // of the new release, apart in time, since it was linked
	last   map[string]time.Time
	heard  []Sighting
	halted bool // a node failed, or it was stopped, since it last went on
	trace  []string
}

func newSite(t *testing.T, seed uint64) *site {
	rng := rand.New(rand.NewPCG(seed, 4))
	s := &site{t: t, rng: rng, now: begin, links: map[string]string{}, boots: map[string]int{}, last: map[string]time.Time{}}
	r := Rollout{Role: "kubernetes", Release: "new", Batch: 1 + rng.IntN(3), Attempts: 1 + rng.IntN(3), Deadline: 10 * time.Minute, Wait: WaitBooted, Started: begin}
	for i := range 1 + rng.IntN(7) {
		n := Node{Name: fmt.Sprintf("m%d", i), From: []string{"old", "older", "new"}[rng.IntN(3)]}
		s.links[n.Name] = n.From
		r.Nodes = append(r.Nodes, n)
	}
	var err error
	if s.r, err = New(r); err != nil {
		t.Fatal(err)
	}
	s.save()
	return s
}

func (s *site) save() { s.disk, _ = json.Marshal(s.r) }

func (s *site) load() {
	s.r = Rollout{}
	if err := json.Unmarshal(s.disk, &s.r); err != nil {
		s.t.Fatal(err)
	}
}

// see observes, commits, and checks that the step was a lawful one.
func (s *site) see(x Sighting) {
	s.trace = append(s.trace, fmt.Sprintf("%v %+v", x.Time.Sub(begin), x))
	old := s.r
	s.r = s.r.Observe(x)
	if x.What == Resume || x.What == Skip {
		if s.r.State == Running {
			s.halted = false
		}
	}
	begun := 0
	for i, n := range s.r.Nodes {
		was := old.Nodes[i].Phase
		if n.Phase == Switching && was != Switching {
			begun++
		}
		if n.Phase == Returning && was != Returning {
			s.halted = true
		}
		if (was == Returning || was == Returned) && (n.Phase == Switched || n.Phase == Upgraded) {
			s.fail("%s went from %s to %s", n.Name, was, n.Phase)
		}
	}
	if begun > 0 {
		c := s.r.Count()
		if s.halted || c[Switching] != begun || c[Switched]+c[Returning] > 0 || begun > s.r.Batch {
			s.fail("a batch of %d began, halted %v, while %v", begun, s.halted, c)
		}
	}
	if x.What == Stop || x.What == Abandon {
		s.halted = true
	}
	s.save()
}

func (s *site) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf(format+"\n%s\n%+v", append(args, strings.Join(s.trace, "\n"), s.r)...)
}

// act does what is to be done, unless it dies on the way.
func (s *site) act(faults bool) {
	for _, l := range s.r.Links() {
		if faults && s.rng.IntN(8) == 0 {
			s.load()
			return
		}
		if faults && s.rng.IntN(8) == 0 {
			s.see(Sighting{What: NotLinked, Time: s.now, Node: l.Node, Release: l.Release, Detail: "no room"})
			continue
		}
		if s.links[l.Node] != l.Release {
			s.links[l.Node], s.boots[l.Node] = l.Release, 0
		}
		if faults && s.rng.IntN(8) == 0 { // done, and not seen
			s.load()
			return
		}
		s.see(Sighting{What: Linked, Time: s.now, Node: l.Node, Release: l.Release})
	}
}

// power is a node that boots: it asks first, which may put it back.
func (s *site) power(name string) {
	if s.links[name] == "new" && s.r.Node(name).Phase == Switched {
		if s.boots[name] == 0 || s.now.Sub(s.last[name]) >= sameBoot {
			s.boots[name]++
			s.last[name] = s.now
		}
		s.see(Sighting{What: Asked, Time: s.now, Node: name, Release: "new"})
		s.act(false)
		if s.boots[name] > s.r.Attempts && s.links[name] == "new" {
			s.fail("%s got the new release at boot %d", name, s.boots[name])
		}
		return
	}
	s.see(Sighting{What: Asked, Time: s.now, Node: name, Release: s.links[name]})
}

func (s *site) step() {
	s.now = s.now.Add(time.Duration(s.rng.IntN(90)) * time.Second)
	name := s.r.Nodes[s.rng.IntN(len(s.r.Nodes))].Name
	x := Sighting{Time: s.now, Node: name}
	switch k := s.rng.IntN(20); {
	case k < 5:
		s.power(name)
		return
	case k < 10:
		x.What, x.Release = Booted, []string{s.links[name], s.links[name], "", "new", "other"}[s.rng.IntN(5)]
	case k == 10:
		x.What, x.Release = Broken, s.links[name]
	case k == 11:
		x.What = []What{Stop, Abandon}[s.rng.IntN(2)]
	case k == 12:
		x.What = []What{Resume, Skip}[s.rng.IntN(2)]
	case k == 13:
		s.load()
		return
	case k < 16 && len(s.heard) > 0: // late, or twice
		x = s.heard[s.rng.IntN(len(s.heard))]
		if x.What >= Stop {
			return
		}
	case k == 16:
		s.now = s.now.Add(11 * time.Minute)
		x.Time = s.now
	}
	s.heard = append(s.heard, x)
	s.see(x)
}

// holds checks what has to be true at any time.
func (s *site) holds() {
	for _, n := range s.r.Nodes {
		link := s.links[n.Name]
		if link != n.From && link != "new" {
			s.fail("%s is linked to %s, want %s or new", n.Name, link, n.From)
		}
		switch n.Phase {
		case Waiting, Returned, Back:
			if link != n.From {
				s.fail("%s is %s and linked to %s, want %s", n.Name, n.Phase, link, n.From)
			}
		case Switched, Upgraded:
			if link != "new" {
				s.fail("%s is %s and linked to %s, want new", n.Name, n.Phase, link)
			}
		}
	}
	if s.r.State != Running && s.r.State != Done && s.r.Reason == "" {
		s.fail("it is %s without a reason", s.r.State)
	}
}

// Whatever happens in whatever order: one batch at a time, no node on a release
// that it never had and that is not the new one, nothing goes on after a
// failure, and in the end every node is upgraded or back where it was.
func TestModel(t *testing.T) {
	ends := map[State]int{}
	for seed := range uint64(3000) {
		s := newSite(t, seed)
		for range 60 {
			s.step()
			s.act(true)
			s.holds()
		}
		// No more trouble, and nobody boots: time puts back who is under way.
		for range len(s.r.Nodes) + 2 {
			s.now = s.now.Add(11 * time.Minute)
			s.see(Sighting{Time: s.now})
			s.act(false)
			s.holds()
		}
		for _, n := range s.r.Nodes {
			if !slices.Contains([]Phase{Waiting, Upgraded, Returned, Back}, n.Phase) {
				s.fail("%s ended %s", n.Name, n.Phase)
			}
		}
		if s.r.Active() {
			s.fail("it never ended")
		}
		ends[s.r.State]++
	}
	for _, want := range []State{Done, Failed, Stopped} {
		if ends[want] < 100 {
			t.Errorf("got %d runs that ended %s of %v, want 100 at least", ends[want], want, ends)
		}
	}
}

// Where all nodes boot, every rollout gets done, whatever crashes in between.
func TestModelSucceeds(t *testing.T) {
	for seed := range uint64(500) {
		s := newSite(t, seed)
		for range 400 {
			s.now = s.now.Add(20 * time.Second)
			s.see(Sighting{Time: s.now})
			if s.rng.IntN(3) == 0 {
				s.load()
			}
			s.act(false)
			for _, n := range s.r.Nodes {
				if n.Phase == Switched && s.rng.IntN(2) == 0 {
					if n.Boots == 0 {
						s.power(n.Name)
					}
					s.see(Sighting{What: Booted, Time: s.now, Node: n.Name, Release: s.links[n.Name]})
				}
			}
			s.holds()
		}
		if s.r.State != Done || s.r.Count()[Upgraded] != len(s.r.Nodes) {
			s.fail("got %s with %v, want all upgraded", s.r.State, s.r.Count())
		}
	}
}
