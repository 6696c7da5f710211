package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// defaultSocket is where the daemon listens unless its configuration says
// otherwise.
const defaultSocket = "/run/bootd/bootd.sock"

// client returns a client of the daemon that the --socket flag names.
func client(cmd *cobra.Command) *admin.Client {
	socket, err := cmd.Flags().GetString("socket")
	if err != nil {
		panic("bootctl: no --socket flag: " + err.Error())
	}
	return admin.NewClient(socket)
}

// A question is what a command asks the daemon, and how people are shown what it
// answers. With --json it is printed as it is.
type question[T any] struct {
	ask  func(cmd *cobra.Command, args []string) (T, error)
	show func(w io.Writer, answer T) error
	bad  func(answer T) error // what the answer says is wrong, once it is shown; nil: nothing ever is
	json string               // what --json prints, in words; empty: a JSON list
}

// command makes cmd ask the question.
func (q question[T]) command(cmd *cobra.Command) *cobra.Command {
	var asJSON bool
	cmd.Flags().BoolVar(&asJSON, "json", false, "print "+cmp.Or(q.json, "a JSON list"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		answer, err := q.ask(cmd, args)
		if err != nil {
			return explained(err)
		}
		show := q.show
		if asJSON {
			show = func(w io.Writer, answer T) error { return printJSON(w, answer) }
		}
		if err := show(cmd.OutOrStdout(), answer); err != nil || q.bad == nil {
			return err
		}
		return q.bad(answer)
	}
	return cmd
}

// of asks about a machine under each of its spellings.
func of[T any](machine string, ask func(name string) (T, error)) (answer T, err error) {
	for _, name := range spellings(machine) {
		if answer, err = ask(name); !errors.Is(err, admin.ErrUnknown) {
			return answer, err
		}
	}
	return answer, fmt.Errorf("%q: %w", machine, err)
}

// explained adds the remedy to what can go wrong between us and the daemon.
func explained(err error) error {
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return cli.Hint(err, "start it with: systemctl start bootd, or name its socket with --socket")
	case errors.Is(err, fs.ErrPermission):
		return cli.Hint(err, "the socket is root's: run bootctl as root")
	case errors.Is(err, admin.ErrStopped):
		return cli.Hint(err, "see why: journalctl -u bootd")
	case errors.Is(err, admin.ErrUnknown):
		return cli.Hint(err, "bootctl status lists the machines")
	case errors.Is(err, admin.ErrBehind):
		return cli.Hint(err, "start the watch again; bootctl why NODE has what was missed")
	}
	return err
}

// spellings returns how the daemon may know a machine that a person named: a
// MAC address has several notations, and may be a node's name as well.
func spellings(machine string) []string {
	mac, err := node.ParseMAC(machine)
	if err != nil || mac.String() == machine {
		return []string{machine}
	}
	return []string{machine, mac.String()}
}

// who names a machine's program and hardware as far as an event tells.
func who(e *timeline.Event) string {
	return cli.Printable(strings.TrimSpace(string(e.Stage) + " " + e.Arch))
}

// what puts an event's facts into one line.
func what(e *timeline.Event) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, cli.Printable(fmt.Sprintf(format, args...))) }
	if e.Addr.IsValid() {
		add("%v", e.Addr)
	}
	if e.Action != "" {
		add("%s", e.Action)
	}
	if e.Release != "" {
		add("release %s", e.Release)
	}
	if file := file(e); file != "" {
		add("%s", file)
		if e.Bytes > 0 {
			add("%s in %s", size(e.Bytes), e.Dur.Round(time.Millisecond))
		}
	}
	if e.Detail != "" {
		add("(%s)", e.Detail)
	}
	if e.Err != "" {
		add("FAILED: %s", e.Err)
	}
	return strings.Join(parts, " ")
}

// file is the file of an event where that tells more than the step, without
// its query, which holds only iPXE variables.
func file(e *timeline.Event) string {
	switch e.Step {
	case timeline.Script, timeline.CheckIn, timeline.Report:
		return ""
	}
	name, _, _ := strings.Cut(e.File, "?")
	return name
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
