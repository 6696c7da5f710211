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
)

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Show how every machine stands and what it will boot next",
		Long: `Shows a line for each node of the inventory, and for each other machine that
was seen: how its last boot went (unseen, underway, booted, waiting, local,
failed, stuck), the release it booted, when it took its last step, and what it
will be told at its next boot.`,
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
			return printStatus(cmd.OutOrStdout(), list, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printStatus(w io.Writer, list []admin.Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MACHINE\tROLE\tADDRESS\tLAST BOOT\tRELEASE\tSEEN\tNEXT BOOT")
	for _, s := range list {
		fmt.Fprintln(t, strings.Join([]string{
			s.Machine, dash(s.Role), dash(address(s)), string(s.Outcome), dash(s.Release), ago(s.Last, now), next(s.Next),
		}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printTrouble(w, list)
}

// printTrouble explains the machines that need somebody to look at them.
func printTrouble(w io.Writer, list []admin.Status) error {
	bad := slices.DeleteFunc(slices.Clone(list), func(s admin.Status) bool { return s.Outcome != "failed" && s.Outcome != "stuck" })
	if len(bad) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	for _, s := range bad {
		fmt.Fprintf(w, "%s: %s\n", s.Machine, printable(s.Stopped))
	}
	_, err := fmt.Fprintf(w, "More: bootctl why %s\n", bad[0].Machine)
	return err
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
		return "boot " + d.Release
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
