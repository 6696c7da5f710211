package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/node"
)

func statusCommand() *cobra.Command {
	var asJSON bool
	var phases []string
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Show how every machine stands and what it will boot next",
		Long: `Shows a line for each node of the inventory, and for each other machine that
was seen: how its last boot went, the release it was told to boot, when it took
its last step, and what it will be told at its next boot. A boot is

  unseen    nothing was ever seen of the machine
  none      it uses the network but did not boot from it, as a BMC does
  underway  its last step is recent
  booted    the system checked in
  waiting   it was told to wait, and asks again and again
  gone      it was told to wait, and stopped asking
  local     it was sent to its local disk
  failed    a step failed
  stuck     nothing failed, and nothing more came

Machines that somebody should look at are red on a terminal, and listed again
below the table with the reason: a boot that failed or is stuck, a deployment
that failed or is held, a system that sent heartbeats and has been silent for
five minutes, or that fell back to its passive or recovery system. So are other
DHCP servers that machines chose in subnets where bootd should be the only one.`,
		Example: "  bootctl status\n  bootctl status --phase failed,held,silent",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := unknownPhase(phases); err != nil {
				return cli.UsageError(cmd, err)
			}
			list, err := client(cmd).Status(cmd.Context())
			if err != nil {
				return explained(err)
			}
			none := len(list) == 0
			list = chosen(list, phases)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			if len(list) == 0 && !none {
				return nil // no node is in any of the phases
			}
			if err := printStatus(cmd.OutOrStdout(), list, time.Now()); err != nil {
				return err
			}
			health, err := client(cmd).Health(cmd.Context())
			if err != nil {
				return explained(err)
			}
			return printRivals(cmd.OutOrStdout(), health.Rivals, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	cmd.Flags().StringSliceVar(&phases, "phase", nil, "only nodes in one of these `PHASES`, or silent")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // URLs stay readable
	enc.SetIndent("", "  ")
	return enc.Encode(admin.List(v))
}

func printStatus(w io.Writer, list []admin.Status, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No node is in the inventory, and no machine was seen.")
		return err
	}
	t := cli.NewTable(w, "MACHINE", "ROLE", "ADDRESS", "DEPLOYMENT", "LAST BOOT", "RELEASE", "SEEN", "NEXT BOOT").Spare("ROLE", "ADDRESS", "RELEASE")
	red := painter(w)
	for _, s := range list {
		paint := red
		if len(worries(s, now)) == 0 {
			paint = nil
		}
		t.Painted(paint, s.Machine, role(s), addrText(s.Addr), phase(s), s.Outcome, s.Release, ago(s.Last, now), next(s.Next))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printTrouble(w, list, now)
}

// maxTrouble is how many machines are explained: more do not fit on a screen,
// and their causes repeat.
const maxTrouble = 12

// printTrouble explains the machines that need somebody to look at them.
func printTrouble(w io.Writer, list []admin.Status, now time.Time) error {
	bad := slices.DeleteFunc(slices.Clone(list), func(s admin.Status) bool { return len(worries(s, now)) == 0 })
	if len(bad) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%d of %d in trouble:\n", len(bad), len(list))
	t := cli.NewTable(w)
	for _, s := range bad[:min(len(bad), maxTrouble)] {
		t.Row("  "+s.Machine, strings.Join(worries(s, now), "; "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more := len(bad) - maxTrouble; more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	_, err := fmt.Fprintf(w, "More: bootctl why %s\n", cli.Printable(bad[0].Machine))
	return err
}

// role is the role of a node, and tells strangers from BMCs, which have a name.
func role(s admin.Status) string {
	if !s.Known && !node.ValidName(s.Machine) {
		return "(unknown)"
	}
	return s.Role
}

// next is a decision in a column's width.
func next(d deploy.Decision) string {
	if d.Action == deploy.Boot {
		verb := "boot "
		if d.Install {
			verb = "install "
		}
		return verb + d.Release
	}
	return d.Action.String()
}

func dash(s string) string { return cmp.Or(s, "-") }

// ago is a moment in the past, as people say it.
func ago(then, now time.Time) string {
	if then.IsZero() {
		return "never"
	}
	return roughly(max(0, now.Sub(then))) + " ago"
}

// roughly is a time, as people say it.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
