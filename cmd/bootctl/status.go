package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

func statusCommand() *cobra.Command {
	var asJSON bool
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

Machines that failed or are stuck are listed again below the table, with the
step where they stopped, and so are other DHCP servers that machines chose in
subnets where bootd should be the only one.`,
		Example: "  bootctl status",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := client(cmd).Status(cmd.Context())
			if err != nil {
				return explained(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
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
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // URLs stay readable
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printStatus(w io.Writer, list []admin.Status, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No node is in the inventory, and no machine was seen.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MACHINE\tROLE\tADDRESS\tDEPLOYMENT\tLAST BOOT\tRELEASE\tSEEN\tNEXT BOOT")
	for _, s := range list {
		fmt.Fprintln(t, cli.Printable(s.Machine)+"\t"+strings.Join([]string{
			cli.Printable(role(s)), dash(address(s)), phase(s), cli.Printable(string(s.Outcome)), cli.Printable(dash(s.Release)), ago(s.Last, now), cli.Printable(next(s.Next)),
		}, "\t"))
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
	bad := slices.DeleteFunc(slices.Clone(list), func(s admin.Status) bool { return !troubled(s, now) })
	if len(bad) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%d of %d did not boot:\n", len(bad), len(list))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range bad[:min(len(bad), maxTrouble)] {
		fmt.Fprintf(t, "  %s\t%s\n", cli.Printable(s.Machine), cli.Printable(s.Stopped))
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

// troubled reports whether a boot went wrong and is still somebody's: a
// machine of no inventory that was here days ago is not.
func troubled(s admin.Status, now time.Time) bool {
	wrong := s.Outcome == timeline.Failed || s.Outcome == timeline.Stuck
	return wrong && (s.Known || now.Sub(s.Last) < 24*time.Hour)
}

// role is the role of a node, and tells strangers from BMCs, which have a name.
func role(s admin.Status) string {
	if !s.Known && !node.ValidName(s.Machine) {
		return "(unknown)"
	}
	return dash(s.Role)
}

func address(s admin.Status) string {
	if !s.Addr.IsValid() {
		return ""
	}
	return s.Addr.String()
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
	d := now.Sub(then)
	switch {
	case then.IsZero():
		return "never"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}
