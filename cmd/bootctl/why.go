package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/timeline"
)

func whyCommand() *cobra.Command {
	return question[admin.Story]{
		ask:  func(cmd *cobra.Command, args []string) (admin.Story, error) { return find(cmd, args[0]) },
		show: func(w io.Writer, s admin.Story) error { return printStory(w, s, time.Now()) },
		json: "one JSON object",
	}.command(&cobra.Command{
		Use:   "why NODE [flags]",
		Short: "Tell the story of a machine's last boot and where it stopped",
		Long: `Tells every step of the last boot of a node, with the time since its first one,
where it stopped and what to look at, and what the node will be told at its
next boot and why. A machine that is not in the inventory is named by its MAC
address.`,
		Example: "  bootctl why ncn-m002\n  bootctl why 52:54:00:aa:bb:07",
		Args:    cli.Args("NODE"),
	})
}

// find asks for the story of a machine.
func find(cmd *cobra.Command, machine string) (admin.Story, error) {
	return of(machine, func(name string) (admin.Story, error) { return client(cmd).Story(cmd.Context(), name) })
}

func printStory(w io.Writer, s admin.Story, now time.Time) error {
	fmt.Fprintf(w, "%s: %s: %s\n", cli.Printable(s.Machine), cli.Printable(string(s.Boot.Outcome)), cli.Printable(s.Boot.Stopped))
	if s.Boot.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", cli.Printable(s.Boot.Hint))
	}
	if err := printSteps(w, s.Boot, now); err != nil {
		return err
	}
	printDeployment(w, s.Deployment, s.Life, now)
	if s.Upgrade != "" {
		fmt.Fprintf(w, "upgrade %s\n", cli.Printable(s.Upgrade))
	}
	_, err := fmt.Fprintf(w, "next boot: %s, because: %s\n", cli.Printable(next(s.Next)), cli.Printable(s.Next.Reason))
	return err
}

func printSteps(w io.Writer, boot timeline.Story, now time.Time) error {
	if len(boot.Events) == 0 {
		return nil
	}
	began := boot.Events[0].Time
	fmt.Fprintf(w, "\n%s:\n", title(boot, now))
	t := cli.NewTable(w)
	for i := range boot.Events {
		e := &boot.Events[i]
		t.Row(fmt.Sprintf("  %11s", "+"+span(e.Time.Sub(began))), e.Step, dash(who(e)), what(e)+times(e, now))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// title says when a boot was and how long it took, or, where it did not get
// there, when something was last heard.
func title(boot timeline.Story, now time.Time) string {
	began := boot.Events[0].Time.Local().Format(time.DateTime)
	switch boot.Outcome {
	case timeline.Booted:
		return "last boot, " + began + ", took " + span(boot.Took)
	case timeline.None:
		return "seen since " + began
	}
	return "last boot, " + began + ", last step " + ago(boot.Last, now)
}

// times tells of repeats.
func times(e *timeline.Event, now time.Time) string {
	if e.Count < 2 {
		return ""
	}
	return fmt.Sprintf(" [%d times, last %s]", e.Count, ago(e.Last, now))
}

// span is a duration for people.
func span(d time.Duration) string {
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%.3f s", d.Seconds())
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}
