package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
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

// explained adds the remedy to what can go wrong between us and the daemon.
func explained(err error) error {
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return cli.Hint(err, "start it with: systemctl start bootd, or name its socket with --socket")
	case errors.Is(err, admin.ErrUnknown):
		return cli.Hint(err, "bootctl status lists the machines")
	case errors.Is(err, admin.ErrBehind):
		return cli.Hint(err, "start the watch again; bootctl why NODE has what was missed")
	}
	return err
}

// who names a machine's program and hardware as far as an event tells.
func who(e *timeline.Event) string {
	return strings.TrimSpace(strings.Join([]string{string(e.Stage), e.Arch}, " "))
}

// what puts an event's facts into one line.
func what(e *timeline.Event) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if e.Addr.IsValid() {
		add("%v", e.Addr)
	}
	if e.Action != "" {
		add("%s", e.Action)
	}
	if e.Release != "" {
		add("release %s", e.Release)
	}
	if e.File != "" {
		add("%s", printable(e.File))
	}
	if e.Bytes > 0 {
		add("%s in %s", size(e.Bytes), e.Dur.Round(time.Millisecond))
	}
	if e.Detail != "" {
		add("(%s)", printable(e.Detail))
	}
	if e.Err != "" {
		add("FAILED: %s", printable(e.Err))
	}
	return strings.Join(parts, " ")
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

// printable makes text from the wire harmless to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
}
