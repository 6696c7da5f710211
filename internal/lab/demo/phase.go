package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"bootd/internal/lab"
	"bootd/internal/timeline"
)

// A milestone ends a phase of a boot.
type milestone int

// The milestones, in the order of a boot.
const (
	asked    milestone = iota // first DHCP packet of the firmware
	scripted                  // boot script sent
	loaded                    // initrd sent, the last file before the kernel
	started                   // our init has found the NIC
	leased                    // and has an address
	fetched                   // and the root file system
	booted                    // which runs
	checked                   // and has checked in
	milestones
)

var phaseNames = [milestones]string{
	asked: "firmware, until it asks for an address", scripted: "DHCP, loader, boot script", loaded: "kernel and initrd",
	started: "kernel starts", leased: "DHCP in the initrd", fetched: "root file system", booted: "switch root", checked: "check-in",
}

// A mark says when a milestone was reached.
type mark struct {
	milestone
	time time.Time
}

// A phase is one line of the table.
type phase struct {
	name string
	dur  time.Duration
}

// phases turns marks, in any order, into the phases of a boot that began at
// start. Of several marks of one milestone the first counts, but for the
// script and the files of the initrd, which may be asked for again, the last.
// A phase whose milestone has no mark is part of the next.
func phases(start time.Time, marks []mark) []phase {
	var at [milestones]time.Time
	for _, m := range marks {
		old := at[m.milestone]
		again := m.milestone == scripted || m.milestone == loaded
		if old.IsZero() || again == m.time.After(old) {
			at[m.milestone] = m.time
		}
	}
	var ps []phase
	for i, t := range at {
		if !t.IsZero() {
			ps = append(ps, phase{phaseNames[i], t.Sub(start)})
			start = t
		}
	}
	return ps
}

// eventMarks returns the milestone that an event of the daemon is, if any.
func eventMarks(e timeline.Event) []mark {
	switch {
	case e.Err != "":
		return nil
	case e.Step == timeline.Discover:
		return []mark{{asked, e.Time}}
	case e.Step == timeline.Script:
		return []mark{{scripted, e.Time}}
	case e.Step == timeline.HTTP && strings.Contains(e.File, "initrd"):
		return []mark{{loaded, e.Time}}
	}
	return nil
}

// consoleMarks returns the milestones that the machine itself printed.
func consoleMarks(lines []lab.Line) (marks []mark) {
	for _, l := range lines {
		for word, m := range map[string]milestone{
			"NIC": started, "LEASED": leased, "FETCHED": fetched, "BOOTED": booted, "CHECKED-IN": checked,
		} {
			if strings.HasPrefix(l.Text, "BOOTD-LAB-"+word+" ") {
				marks = append(marks, mark{m, l.Time})
			}
		}
	}
	return marks
}

func printPhases(w io.Writer, ps []phase) {
	var sum time.Duration
	for _, p := range ps {
		sum += p.dur
	}
	for _, p := range ps {
		bar := strings.Repeat("#", int(40*p.dur/max(sum, 1)))
		fmt.Fprintf(w, "            %-40s %5.1f s  %s\n", p.name, p.dur.Seconds(), bar)
	}
}

// describe renders an event in one line.
func describe(e timeline.Event) string {
	s := fmt.Sprintf("%-13s %-8s", e.Step, e.Stage)
	if e.Step == timeline.Ack || e.Step == timeline.Offer {
		s += " " + e.Addr.String()
	}
	file, _, _ := strings.Cut(e.File, "?") // the query holds only iPXE variables
	for _, part := range []string{string(e.Action), file, e.Detail} {
		if part != "" {
			s += " " + part
		}
	}
	if e.Bytes > 0 {
		s += fmt.Sprintf(" (%d kB in %d ms)", (e.Bytes+999)/1000, e.Dur.Milliseconds())
	}
	if e.Err != "" {
		s += " ERROR " + e.Err
	}
	return s
}
