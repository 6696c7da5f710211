package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/deploy/rollout"
	"bootd/internal/admin"
	"bootd/internal/cli"
)

func upgradeCommand() *cobra.Command {
	f := follower{poll: pollUpgrade}
	req := admin.UpgradeRequest{}
	var dry, detach bool
	cmd := &cobra.Command{
		Use:   "upgrade --role ROLE --release RELEASE [NODES] [flags]",
		Short: "Bring the nodes of a role to a release, batch by batch",
		Long: `Links the nodes of a role, or those of them that NODES stands for, to a release:
a batch at a time, and the next one when every node of the batch has checked in
on it. A node that does not within its boots or its deadline, or that reports
that it failed, is linked to the release that it came from, which it then boots;
after that no node is touched any more.

The daemon does that, whether this command stays or not. Nodes have to be
rebooted when they are linked: by whoever drains them, or with --cycle by their
BMCs, as long as this command runs. Nodes are pinned to what they are linked to;
when all nodes of the role are upgraded, the role is. Where that replaces the
pin that somebody gave to a node, the command asks first.

bootctl upgrade status shows how it stands, stop and resume steer it. When this
command is interrupted, the upgrade goes on.

The exit status is 0 when all nodes are upgraded, 3 when some are, and 1 when
none is.`,
		Example: "  bootctl upgrade --role kubernetes --release 1.2.4 --dry-run\n" +
			"  bootctl upgrade --role kubernetes --release 1.2.4 --batch 3 'ncn-w*'\n" +
			"  bootctl upgrade --role storage-ceph --release 0.0.9 --cycle --yes",
		Args: cobra.ArbitraryArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if req.Role == "" || req.Release == "" {
			return cli.UsageError(cmd, errors.New("--role and --release are needed"))
		}
		req.Nodes, req.DryRun = strings.Join(args, ","), true
		if err := req.Check(); err != nil {
			return cli.UsageError(cmd, err)
		}
		u, err := client(cmd).Upgrade(cmd.Context(), req)
		if err != nil {
			return explained(err)
		}
		if dry {
			return f.print(cmd.OutOrStdout(), u, func(w io.Writer) error { return printDraft(w, u) })
		}
		warnOf(cmd, u)
		if err := f.mayReplace(cmd, u.Rollout); err != nil { // all is asked for before anything is linked
			return err
		}
		if f.cycle {
			if err := f.reach(cmd, u.Rollout); err != nil {
				return err
			}
		}
		req.DryRun = false
		if u, err = client(cmd).Upgrade(cmd.Context(), req); err != nil {
			return explained(err)
		}
		if detach {
			return f.print(cmd.OutOrStdout(), u.Rollout, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "upgrade of role %s to %s has begun, %s\n", u.Role, u.Release, nodes(len(u.Nodes)))
				return err
			})
		}
		return f.follow(cmd, u.Rollout)
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Role, "role", "", "upgrade nodes of this `ROLE`")
	fl.StringVar(&req.Release, "release", "", "to this `RELEASE`")
	fl.IntVar(&req.Batch, "batch", 1, "link this `NUMBER` of nodes at a time")
	fl.IntVar(&req.Attempts, "attempts", 3, "put a node back that asks for its script after this `NUMBER` of boots without a check-in")
	fl.DurationVar(&req.Deadline, "deadline", 20*time.Minute, "put a node back that has not checked in so `LONG` after it was linked")
	fl.StringVar(&req.Wait, "wait", rollout.WaitBooted, "`WHAT` a node has to report: booted or registered")
	fl.BoolVar(&dry, "dry-run", false, "only show what would be done")
	fl.BoolVar(&detach, "detach", false, "do not wait for the end")
	f.flags(cmd)
	cli.Exclusive(cmd, "detach", "cycle")
	cmd.AddCommand(upgradeStatusCommand(), upgradeStopCommand(), upgradeResumeCommand())
	return cmd
}

func upgradeStatusCommand() *cobra.Command {
	f := follower{poll: pollUpgrade}
	var wait bool
	cmd := &cobra.Command{
		Use:     "status [ROLE] [flags]",
		Short:   "Show how the last upgrade of each role stands",
		Long:    "Shows how the last upgrade of a role, or of each, stands, and each of its nodes.\nWith --follow the exit status is that of bootctl upgrade.",
		Example: "  bootctl upgrade status\n  bootctl upgrade status kubernetes --follow",
		Args:    cli.Args("[ROLE]"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := client(cmd).Upgrades(cmd.Context())
		if err != nil {
			return explained(err)
		}
		if len(args) == 1 {
			list = slices.DeleteFunc(list, func(r rollout.Rollout) bool { return r.Role != args[0] })
			if len(list) == 0 {
				return fmt.Errorf("role %q: there was no upgrade", args[0])
			}
		}
		if wait || f.cycle {
			if len(list) != 1 {
				return cli.UsageError(cmd, errors.New("one upgrade can be followed: name its role"))
			}
			if f.cycle {
				if err := f.reach(cmd, list[0]); err != nil {
					return err
				}
			}
			return f.follow(cmd, list[0])
		}
		return f.print(cmd.OutOrStdout(), list, func(w io.Writer) error { return printUpgrades(w, list, time.Now()) })
	}
	cmd.Flags().BoolVar(&wait, "follow", false, "go on showing what happens until its end")
	f.flags(cmd)
	return cmd
}

func upgradeStopCommand() *cobra.Command {
	return steerCommand(&cobra.Command{
		Use:   "stop ROLE [flags]",
		Short: "Link no further node",
		Long: `Ends the upgrade of a role: no further node is linked. Nodes that are linked and
have not checked in keep their boots and their deadline, and are put back after
that; with --put-back they are put back at once. Those that checked in stay on
the new release: to bring them back too, upgrade them to the old one.`,
		Example: "  bootctl upgrade stop kubernetes\n  bootctl upgrade stop kubernetes --put-back",
	}, "stop", "put-back", "abandon", "put nodes back that have not checked in")
}

func upgradeResumeCommand() *cobra.Command {
	return steerCommand(&cobra.Command{
		Use:   "resume ROLE [flags]",
		Short: "Go on with an upgrade that failed or was stopped",
		Long: `Goes on with the upgrade of a role that failed or was stopped. Nodes that were
put back get another chance, unless --skip-failed leaves them where they are.`,
		Example: "  bootctl upgrade resume kubernetes &&\n      bootctl upgrade status kubernetes --follow",
	}, "resume", "skip-failed", "skip", "leave nodes that were put back on the release that they have")
}

// steerCommand makes cmd have the daemon do what to the upgrade of a role, or
// something else with a flag, and show it then.
func steerCommand(cmd *cobra.Command, what, flag, instead, usage string) *cobra.Command {
	var other bool
	cmd.Args = cli.Args("ROLE")
	cmd.Flags().BoolVar(&other, flag, false, usage)
	return question[rollout.Rollout]{
		ask: func(cmd *cobra.Command, args []string) (rollout.Rollout, error) {
			if other {
				what = instead
			}
			return client(cmd).Steer(cmd.Context(), args[0], what)
		},
		show: func(w io.Writer, r rollout.Rollout) error {
			return printUpgrades(w, []rollout.Rollout{r}, time.Now())
		},
		json: "one JSON object",
	}.command(cmd)
}

// warnOf tells what an upgrade will not do, or not well.
func warnOf(cmd *cobra.Command, u admin.Upgrade) {
	for _, l := range u.LeftOut {
		cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("node %s is left out: %s", l.Node, l.Reason))
	}
	if len(u.Unseen) > 0 {
		cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("warning: nothing was ever seen of %s: a node that does not check in within %v is put back, and the upgrade ends", few(u.Unseen), u.Deadline))
	}
}

// mayReplace asks whether the pins that people gave to nodes may go.
func (f *follower) mayReplace(cmd *cobra.Command, r rollout.Rollout) error {
	var pins []string
	for _, n := range r.Nodes {
		if n.Pin != "" {
			pins = append(pins, n.Name+" ("+n.Pin+")")
		}
	}
	switch {
	case len(pins) == 0:
		return nil
	case f.yes:
		cli.Tell(program, cmd.ErrOrStderr(), "pins of nodes are replaced: "+strings.Join(pins, ", "))
	}
	return confirmed(cmd, f.yes, fmt.Sprintf("upgrade of role %s to %s, which replaces the pins of %s", r.Role, r.Release, strings.Join(pins, ", ")))
}

// printDraft shows what an upgrade would do.
func printDraft(w io.Writer, u admin.Upgrade) error {
	fmt.Fprintf(w, "Upgrade of role %s to %s, %s at a time, %d boots and %v for each:\n", u.Role, u.Release, nodes(u.Batch), u.Attempts, u.Deadline)
	t := cli.NewTable(w)
	batch, placed := 0, 0
	for _, n := range u.Nodes {
		note := after(", replaces its pin to ", n.Pin)
		if slices.Contains(u.Unseen, n.Name) {
			note += ", was never seen"
		}
		if n.Phase == rollout.Upgraded {
			t.Row("  -", n.Name, "is on "+u.Release+" already"+note)
			continue
		}
		if placed%u.Batch == 0 {
			batch++
		}
		placed++
		t.Row(fmt.Sprintf("  %d.", batch), n.Name, "from "+n.From+note)
	}
	for _, l := range u.LeftOut {
		t.Row("  -", l.Node, "left out: "+l.Reason)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "Nothing was changed.")
	return err
}

// printUpgrades shows upgrades and their nodes.
func printUpgrades(w io.Writer, list []rollout.Rollout, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "There was no upgrade. Begin one with: bootctl upgrade --role ROLE --release RELEASE")
		return err
	}
	for i, r := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s to %s: %s%s\n", r.Role, r.Release, r.State, cli.Printable(after(": ", r.Reason)))
		fmt.Fprintf(w, "began %s, %s at a time, %d boots and %v for each\n", ago(r.Started, now), nodes(r.Batch), r.Attempts, r.Deadline)
		t := cli.NewTable(w, "NODE", "FROM", "STATE", "BOOTS", "SINCE", "NOTE")
		for _, n := range r.Nodes {
			since := ""
			if !n.Changed.IsZero() {
				since = ago(n.Changed, now)
			}
			t.Row(n.Name, n.From, n.Phase, n.Boots, since, r.Tell(n)+after("; was pinned to ", n.Pin))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

func after(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
