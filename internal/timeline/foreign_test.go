package timeline

import (
	"testing"
	"time"
)

// What another machine tries with a node's ticket, or its script, changes
// nothing in how the node's boot stands; it is in the events all the same.
func TestForeignerIsNoStep(t *testing.T) {
	at := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	booted := Event{Seq: 1, Time: at, Node: "n", Step: CheckIn, Stage: OS, Release: "1"}
	script := Event{Seq: 2, Time: at, Node: "n", Step: Script, Stage: IPXE, Action: "boot", Release: "1"}
	tried := []Event{
		{Seq: 3, Time: at.Add(time.Second), Node: "n", Step: Payload, Action: foreign, File: "user-data", Err: "not who it was issued to"},
		{Seq: 4, Time: at.Add(time.Second), Node: "n", Step: Script, Action: foreign, Err: "holds no lease"},
	}
	for _, tt := range []struct {
		step Event
		want Outcome
	}{{booted, Booted}, {script, Underway}} {
		s := Tell(append([]Event{tt.step}, tried...), at.Add(2*time.Second))
		if s.Outcome != tt.want || len(s.Events) != 3 {
			t.Errorf("%s: got %s with %d events, want %s with 3", tt.step.Step, s.Outcome, len(s.Events), tt.want)
		}
	}
	gone := Event{Seq: 5, Time: at.Add(time.Second), Node: "n", Step: Payload, Stage: OS, Action: "gone", File: "user-data", Err: "the ticket has expired"}
	s := Tell([]Event{script, gone}, at.Add(2*time.Second))
	if want := "user-data of its payload was not given out: the ticket has expired"; s.Outcome != Failed || s.Stopped != want {
		t.Errorf("own ticket: got %s, %q, want failed, %q", s.Outcome, s.Stopped, want)
	}
}

// Who looks while the firmware still asks for its address begins no other boot,
// and does not end a wait.
func TestForeignerBeginsNoBoot(t *testing.T) {
	at := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	step := func(seq uint64, after time.Duration, e Event) Event {
		e.Seq, e.Time, e.Node = seq, at.Add(after), "n"
		return e
	}
	looks := Event{Step: Script, Action: foreign, Detail: "held"}
	fetches := Event{Step: HTTP, Action: foreign, File: "n/kernel"}
	asks := Event{Step: Discover, Stage: Firmware}
	waits := Event{Step: Script, Stage: IPXE, Action: hold, Detail: "held"}
	again := Event{Step: Discover, Stage: IPXE}
	for name, events := range map[string][]Event{
		"a retry":      {step(1, 0, asks), step(2, time.Second, looks), step(3, 2*time.Second, fetches), step(4, 4*time.Second, asks)},
		"it waits":     {step(1, 0, waits), step(2, time.Second, fetches), step(3, 30*time.Second, again)},
		"a long pause": {step(1, 0, asks), step(2, 4*time.Minute, looks)},
	} {
		if got := LastBoot(events); len(got) != len(events) {
			t.Errorf("%s: got a boot of %d steps, want %d", name, len(got), len(events))
		}
	}
	s := Tell([]Event{step(1, 0, asks), step(2, 4*time.Minute, looks)}, at.Add(5*time.Minute))
	if s.Outcome != Stuck || !s.Last.Equal(at) || s.Took != 0 {
		t.Errorf("looked at after its last step: got %s, last %v, took %v, want stuck since its own step", s.Outcome, s.Last, s.Took)
	}
	if s := Tell([]Event{step(1, 0, looks)}, at); s.Outcome != Unseen || len(s.Events) != 1 {
		t.Errorf("only looked at: got %s with %d events, want unseen with 1", s.Outcome, len(s.Events))
	}
}
