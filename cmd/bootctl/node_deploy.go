package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
)

// deploymentCommands are those that move nodes along in their deployment.
func deploymentCommands() []*cobra.Command {
	return []*cobra.Command{armCommand(), disarmCommand(), holdCommand(), resumeCommand(), nodeLogCommand()}
}

func armCommand() *cobra.Command {
	var o admin.Order
	var yes bool
	cmd := orderCommand(&o, &cobra.Command{
		Use:   "arm NODES [flags]",
		Short: "Install nodes at their next boot, once",
		Long: `Arms nodes: at their next boot from the network they get the installer of their
role, once, and from then on boot their local disk. What is on their disks is
overwritten. A node of a role that boots from the network each time can only be
armed to wipe its disks at its next boot, once.

--wipe says to the installer, or to the system that boots, that it is to wipe
the disks for data too: as .Wipe in templates of payloads and kernel arguments.`,
		Example: "  bootctl node arm edge-02\n  bootctl node arm 'edge-[01-03]' --wipe --yes",
	}, "arm")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := confirmed(cmd, yes, "overwriting the disks of "+strings.Join(args, ",")+" at their next boot"); err != nil {
			return err
		}
		return run(cmd, args)
	}
	cmd.Flags().BoolVar(&o.Wipe, "wipe", false, "wipe the disks for data too")
	cmd.Flags().BoolVar(&o.Again, "again", false, "also nodes that install just now, from the start")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}

func disarmCommand() *cobra.Command {
	return orderCommand(new(admin.Order), &cobra.Command{
		Use:     "disarm NODES",
		Short:   "Take back that nodes are armed",
		Long:    "Takes back that nodes are armed, as long as they have not asked for their\ninstaller.",
		Example: "  bootctl node disarm edge-02",
	}, "disarm")
}

func holdCommand() *cobra.Command {
	var o admin.Order
	cmd := orderCommand(&o, &cobra.Command{
		Use:   "hold NODES [flags]",
		Short: "Let nodes wait at their next boot",
		Long: `Holds nodes: at their next boot they wait on the network, with the reason on
their screens, until they are resumed. What runs is left alone.`,
		Example: "  bootctl node hold 'ncn-w*' --reason 'cooling is down'",
	}, "hold")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "`TEXT` that their screens and bootctl show")
	return cmd
}

func resumeCommand() *cobra.Command {
	return orderCommand(new(admin.Order), &cobra.Command{
		Use:   "resume NODES",
		Short: "Let nodes go on that are held",
		Long: `Lets nodes go on that an administrator held, or that bootd held because they
booted again and again. Those that wait on the network go on by themselves
within half a minute.`,
		Example: "  bootctl node resume 'ncn-w*'",
	}, "resume")
}

func nodeLogCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "log NODE",
		Short: "Show what a node said when it failed, and its last report",
		Long: `Shows the last text that a node sent with each of POST /checkin/failed and
POST /checkin/report. Secrets of its payload are replaced by their names.`,
		Example: "  bootctl node log edge-02",
		Args:    cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dep, err := of(args[0], func(name string) (admin.Deployment, error) { return client(cmd).Deployment(cmd.Context(), name) })
			if err != nil {
				return explained(err)
			}
			return printReports(cmd.OutOrStdout(), dep.Reports, time.Now())
		},
	}
}

func printReports(w io.Writer, list []admin.NodeReport, now time.Time) error {
	for _, r := range list {
		if _, err := fmt.Fprintf(w, "%s, %s:\n", r.Kind, ago(r.Time, now)); err != nil {
			return err
		}
		for line := range strings.Lines(r.Text) {
			fmt.Fprintf(w, "  %s\n", cli.Printable(strings.TrimRight(line, "\r\n")))
		}
	}
	return nil
}

// orderCommand completes a command that gives an order for nodes.
func orderCommand(o *admin.Order, cmd *cobra.Command, do string) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cli.UsageError(cmd, errors.New("NODES is missing, such as ncn-m[001-003],ncn-s*"))
		}
		return nil
	}
	return question[[]admin.Moved]{
		ask: func(cmd *cobra.Command, args []string) ([]admin.Moved, error) {
			o.Do, o.Nodes = do, strings.Join(args, ",")
			return client(cmd).Order(cmd.Context(), *o)
		},
		show: func(w io.Writer, list []admin.Moved) error { return printMoved(w, cmd.ErrOrStderr(), list) },
		bad:  movedVerdict,
	}.command(cmd)
}

// printMoved prints a line for each node that was moved.
func printMoved(stdout, stderr io.Writer, list []admin.Moved) error {
	for _, m := range list {
		switch {
		case m.Err != "":
			cli.Tell(program, stderr, m.Node+": "+m.Err)
		case m.Done:
			wipe := ""
			if m.Wipe {
				wipe = ", and wipes"
			}
			if _, err := fmt.Fprintf(stdout, "%s: %v%s (was %v)\n", m.Node, m.Is, wipe, m.Was); err != nil {
				return err
			}
		}
	}
	return nil
}

// movedVerdict says how many nodes did not do what was ordered: status 1 when
// none did, 3 when some did.
func movedVerdict(list []admin.Moved) error {
	bad := 0
	for _, m := range list {
		if m.Err != "" {
			bad++
		}
	}
	switch bad {
	case 0:
		return nil
	case len(list):
		return fmt.Errorf("nothing was done for any of %d nodes", bad)
	}
	return cli.Error{Err: fmt.Errorf("nothing was done for %d of %d nodes", bad, len(list)), Code: cli.Partial}
}
