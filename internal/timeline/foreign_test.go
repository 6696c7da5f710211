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
