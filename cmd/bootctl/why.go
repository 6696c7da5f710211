package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
)

func whyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why NODE [flags]",
		Short: "Tell the story of a machine's last boot and where it stopped",
		Long: `Tells every step of the last boot of a node, with the time since its first one,
where it stopped and what to look at, and what the node will be told at its
next boot and why. A machine that is not in the inventory is named by its MAC
address.`,
		Example: "  bootctl why ncn-m002",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.UsageError(cmd, errors.New("name one node"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			story, err := client(cmd).Story(cmd.Context(), args[0])
			if err != nil {
				return explained(fmt.Errorf("%q: %w", args[0], err))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), story)
			}
			return printStory(cmd.OutOrStdout(), story)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printStory(w io.Writer, s admin.Story) error {
	fmt.Fprintf(w, "%s: %s: %s\n", s.Machine, s.Boot.Outcome, printable(s.Boot.Stopped))
	if s.Boot.Hint != "" {
		fmt.Fprintf(w, "look at: %s\n", s.Boot.Hint)
	}
	if err := printSteps(w, s); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "next boot: %s: %s\n", s.Next.Action, printable(s.Next.Reason))
	return err
}

func printSteps(w io.Writer, s admin.Story) error {
	events := s.Boot.Events
	if len(events) == 0 {
		return nil
	}
	began := events[0].Time
	fmt.Fprintf(w, "\nlast boot, %s, took %.1f s:\n", began.Local().Format(time.DateTime), s.Boot.Took.Seconds())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range events {
		e := &events[i]
		fmt.Fprintf(t, "  %+.3f s\t%s\t%s\t%s\n", e.Time.Sub(began).Seconds(), e.Step, dash(who(e)), what(e))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}
