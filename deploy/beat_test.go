package deploy_test

import (
	"fmt"
	"testing"
	"time"

	"bootd/deploy"
)

func TestParseBootState(t *testing.T) {
	for word, want := range map[string]deploy.BootState{
		"active": deploy.Active, "passive": deploy.Passive, "recovery": deploy.Recovery, "autoreset": deploy.AutoReset, "livecd": deploy.LiveCD,
		"unknown": deploy.BootUnknown, "": deploy.BootUnknown, "ACTIVE": deploy.BootUnknown, "active_boot": deploy.BootUnknown,
	} {
		if got := deploy.ParseBootState(word); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

// A node is silent after five minutes, once; what we did not hear because we
// did not run is not its silence.
func TestPulse(t *testing.T) {
	p := deploy.NewPulse(t0)
	nodes := []string{"n1", "n2", "n3"}
	records := map[string]deploy.Record{"n1": {Beats: true}, "n2": {Beats: true}, "n3": {}}
	at := t0
	turns := func(after time.Duration) string {
		at = at.Add(after)
		return fmt.Sprint(p.Turns(at, nodes, func(n string) deploy.Record { return records[n] }))
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("after %v: got %s, want %s", at.Sub(t0), got, want)
		}
	}
	p.Hear(t0.Add(2*time.Minute), "n1")
	want(turns(5*time.Minute-1), "[]")
	want(turns(1), "[{n2 true 5m0s}]")
	want(turns(time.Minute), "[]")
	want(turns(time.Minute), "[{n1 true 5m0s}]")
	if got := p.Silence(at, "n2", records["n2"]); got != 7*time.Minute {
		t.Errorf("n2: got silent for %v, want 7m", got)
	}
	if got := p.Silence(at, "n3", records["n3"]); got != 0 {
		t.Errorf("n3 sends no heartbeats: got silent for %v, want 0", got)
	}
	p.Hear(at, "n2")
	want(turns(time.Second), "[{n2 false 1s}]")
	if got := p.Last("n2"); !got.Equal(at.Add(-time.Second)) {
		t.Errorf("n2: got last %v, want %v", got, at.Add(-time.Second))
	}
	records["n1"] = deploy.Record{} // it is installed anew
	want(turns(0), "[{n1 false 0s}]")
	nodes = nodes[:1] // a reload
	want(turns(0), "[]")
	if got := p.Last("n2"); !got.IsZero() {
		t.Errorf("n2 is no node any more: got last %v, want none", got)
	}
}
