package deploy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/store"
)

func openRecords(t *testing.T, d *disk) *deploy.Records {
	t.Helper()
	r, err := deploy.OpenRecords(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var edge = node.Role{Name: "edge", LoopLimit: 10, Install: &node.Install{Within: time.Hour, CheckIn: time.Hour}}

func decideFor(name string) func(deploy.Record) deploy.Decision {
	return func(r deploy.Record) deploy.Decision {
		return deploy.Decide(&node.Node{Name: name, Role: "edge"}, edge, deploy.Observation{Dir: good, Record: r})
	}
}

// What cannot be kept is not said: no installer leaves the server whose record
// is not on disk.
func TestRecordsFullDisk(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s := openRecords(t, d)
	rules := deploy.RulesOf(edge)
	if _, _, err := s.Observe(t0, "n1", rules, deploy.Sign{Kind: deploy.ToArm}); err != nil {
		t.Fatal(err)
	}
	d.fail = errors.New("no space left on device")
	got, err := s.Ask(t0, "n1", rules, decideFor("n1"))
	if err == nil || err.Error() != "deployment of n1: no space left on device" || got != (deploy.Decision{}) {
		t.Errorf("full disk: got %+v, %v, want no decision", got, err)
	}
	if got := s.Get("n1").Phase; got != deploy.Armed {
		t.Errorf("after it: got %v, want armed", got)
	}
	d.fail = nil
	if got, err := s.Ask(t0, "n1", rules, decideFor("n1")); err != nil || !got.Install {
		t.Errorf("disk with room: got %+v, %v, want the installer", got, err)
	}
}

// A record that is forgotten is forgotten after a restart too, and not when the
// disk does not take it.
func TestRecordsForget(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s := openRecords(t, d)
	if _, _, err := s.Observe(t0, "n1", deploy.RulesOf(edge), deploy.Sign{Kind: deploy.ToArm}); err != nil {
		t.Fatal(err)
	}
	d.fail = errors.New("no space left on device")
	if err := s.Forget("n1", true); err == nil || s.Get("n1").Phase != deploy.Armed {
		t.Errorf("full disk: got %v, %v, want that it stays armed", err, s.Get("n1").Phase)
	}
	d.fail = nil
	if err := s.Forget("n1", true); err != nil {
		t.Fatal(err)
	}
	if a, b := s.Get("n1"), openRecords(t, d).Get("n1"); a != (deploy.Record{}) || b != a {
		t.Errorf("got %+v, after a restart %+v, want nothing", a, b)
	}
}

// A record that cannot be read is no reason to begin anew: that could install
// a machine that runs.
func TestRecordsDamaged(t *testing.T) {
	_, err := deploy.OpenRecords(&disk{records: map[string]string{"n1": `{"phase":"reddy"}`}}, nil)
	if !errors.Is(err, store.ErrDamaged) || err.Error() != `deployment of "n1": damaged: "reddy" is not a phase` {
		t.Errorf(`got %v, want that the record of "n1" is damaged`, err)
	}
}

// What was under way at a crash may have arrived, unless all of it that was for
// what the node is armed for is known to be cut off.
func TestRecordsLoadsCrash(t *testing.T) {
	for ends, want := range map[[2]int]bool{{0, 0}: true, {1, 0}: true, {2, 0}: true, {2, 2}: false, {1, 2}: true} {
		d := &disk{records: map[string]string{}}
		s := openRecords(t, d)
		rules := deploy.RulesOf(edge)
		see := func(sign deploy.Sign) {
			t.Helper()
			if _, _, err := s.Observe(t0, "n1", rules, sign); err != nil {
				t.Fatal(err)
			}
		}
		ask := func() {
			t.Helper()
			if got, err := s.Ask(t0, "n1", rules, decideFor("n1")); err != nil || !got.Install {
				t.Fatalf("got %+v, %v, want the installer", got, err)
			}
		}
		see(deploy.Sign{Kind: deploy.ToArm})
		ask()
		see(deploy.Sign{Kind: deploy.Loading})
		see(deploy.Sign{Kind: deploy.ToArm, Again: true})
		ask()
		see(deploy.Sign{Kind: deploy.Loading})
		see(deploy.Sign{Kind: deploy.Loading})
		for _, of := range ends {
			see(deploy.Sign{Kind: deploy.NotLoaded, Load: of})
		}
		if got := openRecords(t, d).Get("n1"); got.Running != want || got.Loads != 0 {
			t.Errorf("cut off %v: got %+v, want running %v", ends, got, want)
		}
	}
}

// Machines, installers, administrators and crashes in any order: no node gets
// its installer from two restarts of it without having been armed between
// them, what was said is never taken back by a crash, site data is only open to
// what was installed, and nothing of one node moves another.
func TestRecordsModel(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { model(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// A machine is what the model knows of one node.
type machine struct {
	arms     int  // times it was armed
	ran      int  // installers that ran on it
	runs     bool // the installer given last runs
	given    bool // the installer was given out since it was armed last
	armedRan bool // an installer ran since it was armed last
	loads    []load
}

// A load is a transfer under way of an installer that is nothing but an initrd.
type load struct {
	of      int  // Record.Installs when it began
	arrives bool // as a whole
	starts  bool // and then the loader starts it
}

// load begins a transfer, or ends the oldest. What arrives and starts runs
// before the server knows that all of it was sent.
func (m *machine) load(t *testing.T, rnd *rand.Rand, s *deploy.Records, now time.Time, name string, rules deploy.Rules) string {
	if len(m.loads) > 0 && rnd.IntN(2) == 0 {
		return m.loaded(t, s, now, name, rules, 0)
	}
	if !m.given {
		return "nothing"
	}
	_, is, err := s.Observe(now, name, rules, deploy.Sign{Kind: deploy.Loading})
	if err != nil {
		t.Fatal(err)
	}
	l := load{of: is.Installs, arrives: rnd.IntN(3) > 0, starts: rnd.IntN(3) > 0}
	if l.arrives && l.starts && !m.armedRan && is.Installing() {
		m.ran++
		m.armedRan = true
	}
	m.loads = append(m.loads, l)
	return "loading"
}

// loaded is the end of a transfer. A loader that is still there says that it
// started nothing.
func (m *machine) loaded(t *testing.T, s *deploy.Records, now time.Time, name string, rules deploy.Rules, i int) string {
	l := m.loads[i]
	m.loads = slices.Delete(m.loads, i, i+1)
	signs := []deploy.Sign{{Kind: deploy.NotLoaded, Load: l.of}}
	if l.arrives {
		signs[0].Kind = deploy.Loaded
	}
	if l.arrives && !l.starts && !m.armedRan {
		signs = append(signs, deploy.Sign{Kind: deploy.NotStarted})
	}
	for _, sign := range signs {
		if _, _, err := s.Observe(now, name, rules, sign); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprint("loaded ", l)
}

func model(t *testing.T, rnd *rand.Rand) {
	d := &disk{records: map[string]string{}}
	s := openRecords(t, d)
	rules := deploy.RulesOf(edge)
	now := t0
	names := []string{"n1", "n2", "n3"}
	nodes := map[string]*machine{}
	for _, n := range names {
		nodes[n] = &machine{}
	}
	for step := range 300 {
		now = now.Add(time.Duration(rnd.IntN(400)) * time.Second)
		name := names[rnd.IntN(len(names))]
		m := nodes[name]
		before := map[string]deploy.Record{}
		for _, n := range names {
			before[n] = s.Get(n)
		}
		did := act(t, rnd, s, now, name, rules, m)
		for _, n := range names {
			if n != name && s.Get(n) != before[n] {
				t.Fatalf("step %d: %s of %s moved %s", step, did, name, n)
			}
		}
		if m.ran > m.arms {
			t.Fatalf("step %d: %s of %s: %d installers ran, armed %d times", step, did, name, m.ran, m.arms)
		}
		if r := s.Get(name); r.SiteOpen() && m.ran == 0 {
			t.Fatalf("step %d: %s of %s: site data is open, and nothing was ever installed", step, did, name)
		}
		if rnd.IntN(10) == 0 { // a crash: only the disk is left
			was := s.Get(name)
			s = openRecords(t, d)
			for _, m := range nodes { // transfers end with it
				m.loads = nil
			}
			runs := was.Running || was.Loads > 0 && was.Installing() // or may run
			if is := s.Get(name); was.Phase != is.Phase || runs != is.Running || is.Loads != 0 || was.Wipe != is.Wipe || was.Installs != is.Installs {
				t.Fatalf("step %d: a crash made %+v of %+v", step, is, was)
			}
		}
	}
}

// act does one random thing and returns what.
func act(t *testing.T, rnd *rand.Rand, s *deploy.Records, now time.Time, name string, rules deploy.Rules, m *machine) string {
	kinds := []deploy.SignKind{
		deploy.KernelSent, deploy.SystemRuns, deploy.Loading, deploy.Loading, deploy.Loading, deploy.SaidDone, deploy.SaidDone, deploy.SaidBooted, deploy.SaidFailed, deploy.SaidJoined,
		deploy.Validated, deploy.Invalidated, deploy.SiteGiven, deploy.PowerOff, deploy.Overdue, deploy.ToArm, deploy.ToArm, deploy.ToDisarm, deploy.ToHold, deploy.ToResume, deploy.ToResume,
	}
	pick := rnd.IntN(2 * len(kinds))
	if pick >= len(kinds) {
		arrived := func(l load) bool { return l.arrives } // known by the time that the machine is back
		for i := slices.IndexFunc(m.loads, arrived); i >= 0; i = slices.IndexFunc(m.loads, arrived) {
			m.loaded(t, s, now, name, rules, i)
		}
		got, err := s.Ask(now, name, rules, decideFor(name))
		if err != nil {
			t.Fatal(err)
		}
		m.runs = false
		if got.Install {
			if m.armedRan {
				t.Fatalf("%s got its installer although one ran since it was armed", name)
			}
			m.given = true
		}
		return "ask"
	}
	kind := kinds[pick]
	switch kind {
	case deploy.Loading:
		return m.load(t, rnd, s, now, name, rules)
	case deploy.SystemRuns: // only what was given can run
		if !m.given {
			return "nothing"
		}
		if !m.armedRan && s.Get(name).Installing() {
			m.ran++
			m.armedRan = true
		}
	case deploy.SaidDone:
		if !m.armedRan {
			return "nothing"
		}
	}
	was, is, err := s.Observe(now, name, rules, deploy.Sign{Kind: kind, Wipe: rnd.IntN(2) == 0, Again: rnd.IntN(4) == 0})
	switch {
	case err != nil && !errors.Is(err, deploy.ErrNotNow):
		t.Fatal(err)
	case err != nil && was != is:
		t.Fatalf("refused sign %d moved %+v to %+v", kind, was, is)
	case err == nil && kind == deploy.ToArm && is.Phase == deploy.Armed && was.Phase != deploy.Armed:
		m.arms++
		m.given, m.armedRan = false, false
	}
	return fmt.Sprint("sign ", kind)
}

// BenchmarkAsk is a storm of armed nodes that ask at once, with a disk behind
// it: what they wait for is shared.
func BenchmarkAsk(b *testing.B) {
	db, err := store.Open(b.TempDir() + "/bootd.db")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	table, err := db.Table("deployments")
	if err != nil {
		b.Fatal(err)
	}
	s, err := deploy.OpenRecords(table, nil)
	if err != nil {
		b.Fatal(err)
	}
	rules := deploy.RulesOf(edge)
	var id atomic.Int64
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			name := fmt.Sprint("n", id.Add(1))
			if _, _, err := s.Observe(t0, name, rules, deploy.Sign{Kind: deploy.ToArm}); err != nil {
				b.Error(err)
			}
			if _, err := s.Ask(t0, name, rules, decideFor(name)); err != nil {
				b.Error(err)
			}
		}
	})
}
