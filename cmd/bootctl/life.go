package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/timeline"
)

// phase is how far a node's deployment is, in a column's width.
func phase(s admin.Status) string {
	if !s.Known {
		return "-"
	}
	p := s.Deployment.Phase.String()
	if s.Deployment.Wipe && s.Deployment.Phase == deploy.Armed {
		p += "+wipe"
	}
	if text := fellBack(s.Life); text != "" {
		p += ", " + string(s.Agent.Boot)
	}
	if text := silent(s.Life); text != "" {
		p += ", " + text
	}
	return p
}

// silent says for how long a system has been silent that should not be; empty:
// it is not.
func silent(l admin.Life) string {
	if l.Silent < deploy.SilentAfter {
		return ""
	}
	return "silent " + roughly(l.Silent)
}

// fellBack says that a node runs another of its systems than the one it should;
// empty: it does not.
func fellBack(l admin.Life) string {
	switch l.Agent.Boot {
	case deploy.Passive:
		return "runs its passive system: the active one did not start"
	case deploy.Recovery, deploy.AutoReset:
		return "runs its recovery system"
	}
	return ""
}

// worries says why somebody should look at a machine; nil: nobody should. A
// machine of no inventory that was here days ago is nobody's.
func worries(s admin.Status, now time.Time) (list []string) {
	d := s.Deployment
	if d.Phase == deploy.Failed || d.Phase == deploy.Held {
		list = append(list, d.Phase.String()+": "+d.Reason)
	}
	if text := silent(s.Life); text != "" {
		list = append(list, text+": no heartbeat")
	}
	if text := fellBack(s.Life); text != "" {
		list = append(list, text)
	}
	wrong := s.Outcome == timeline.Failed || s.Outcome == timeline.Stuck
	if wrong && (s.Known || now.Sub(s.Last) < 24*time.Hour) && d.Phase != deploy.Failed {
		list = append(list, s.Stopped)
	}
	return list
}

// printDeployment tells of a deployment what a person wants to know of it.
func printDeployment(w io.Writer, r deploy.Record, l admin.Life, now time.Time) {
	if r != (deploy.Record{}) {
		fmt.Fprintf(w, "deployment: %v since %s, because: %s\n", r.Phase, ago(r.Since, now), cli.Printable(cmp.Or(r.Reason, "-")))
	}
	if !r.Deadline.IsZero() {
		fmt.Fprintf(w, "deadline: %s, %s\n", until(r.Deadline, now), r.Deadline.Local().Format(time.DateTime))
	}
	if r.Installs > 0 {
		fmt.Fprintf(w, "installers given out: %d, the last of release %s\n", r.Installs, cli.Printable(dash(r.Release)))
	}
	switch {
	case !l.Heartbeat.IsZero():
		fmt.Fprintf(w, "heartbeat: %s%s\n", ago(l.Heartbeat, now), after(", ", silent(l)))
	case r.Beats:
		fmt.Fprintf(w, "heartbeat: none since bootd was started%s\n", after(", ", silent(l)))
	}
	if a := l.Agent; a != (deploy.Agent{}) {
		fmt.Fprintf(w, "agent: %s system, host name %s, version %s, registered %s\n", a.Boot, cli.Printable(dash(a.Hostname)), cli.Printable(dash(a.Version)), ago(a.Since, now))
	}
}

// until is a moment to come, as people say it.
func until(then, now time.Time) string {
	if then.After(now) {
		return distance(then, now)
	}
	return "over"
}

// chosen returns the machines that a person wants to see: nodes in one of the
// phases, or that are silent where that word is among them. No words: all.
func chosen(list []admin.Status, words []string) []admin.Status {
	return slices.DeleteFunc(slices.Clone(list), func(s admin.Status) bool {
		if len(words) == 0 {
			return false
		}
		quiet := silent(s.Life) != "" && slices.Contains(words, silentWord)
		return !s.Known || !quiet && !slices.Contains(words, s.Deployment.Phase.String())
	})
}

const silentWord = "silent"

// phaseWords are what --phase knows.
func phaseWords() (words []string) {
	for _, p := range deploy.Phases() {
		words = append(words, p.String())
	}
	return append(words, silentWord)
}

func unknownPhase(words []string) error {
	for _, w := range words {
		if known := phaseWords(); !slices.Contains(known, w) {
			return fmt.Errorf("--phase: %q is not one of %s", w, strings.Join(known, ", "))
		}
	}
	return nil
}

// painter returns what makes a line red, on terminals of people who want that
// (no-color.org). What is red says why in words too.
func painter(w io.Writer) func(string) string {
	if !cli.IsTerminal(w) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return func(s string) string { return s }
	}
	return func(s string) string { return "\x1b[31m" + s + "\x1b[0m" }
}
