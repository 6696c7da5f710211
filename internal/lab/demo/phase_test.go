package main

import (
	"slices"
	"testing"
	"time"

	"bootd/internal/lab"
	"bootd/internal/timeline"
)

func TestPhases(t *testing.T) {
	t0 := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	for _, tt := range []struct {
		name  string
		marks []mark
		want  []phase
	}{
		{"nothing", nil, nil},
		{"order does not matter", []mark{{booted, at(9)}, {asked, at(2)}}, []phase{{phaseNames[asked], 2 * time.Second}, {phaseNames[booted], 7 * time.Second}}},
		{"first discover, last script", []mark{{asked, at(2)}, {asked, at(4)}, {scripted, at(5)}, {scripted, at(6)}},
			[]phase{{phaseNames[asked], 2 * time.Second}, {phaseNames[scripted], 4 * time.Second}}},
	} {
		if got := phases(t0, tt.marks); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMarks(t *testing.T) {
	t0 := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		e    timeline.Event
		want []mark
	}{
		{timeline.Event{Time: t0, Step: timeline.Discover}, []mark{{asked, t0}}},
		{timeline.Event{Time: t0, Step: timeline.HTTP, File: "/ncn-m001/initrd.img.xz"}, []mark{{loaded, t0}}},
		{timeline.Event{Time: t0, Step: timeline.HTTP, File: "/ncn-m001/initrd.img.xz", Err: "connection reset"}, nil},
		{timeline.Event{Time: t0, Step: timeline.Ack}, nil},
	} {
		if got := eventMarks(tt.e); !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: got %v, want %v", tt.e.Step, tt.e.File, got, tt.want)
		}
	}
	lines := []lab.Line{{Time: t0, Text: "BOOTD-LAB-NIC eth0 52:54:00:de:00:01"}, {Time: t0, Text: "udhcpc: started"}}
	if got, want := consoleMarks(lines), []mark{{started, t0}}; !slices.Equal(got, want) {
		t.Errorf("console: got %v, want %v", got, want)
	}
}
