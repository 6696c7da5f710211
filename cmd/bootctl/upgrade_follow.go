package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/deploy/rollout"
	"bootd/internal/admin"
	"bootd/internal/cli"
)

// pollUpgrade is how often an upgrade that is followed is asked for.
const pollUpgrade = 500 * time.Millisecond

// A follower shows an upgrade as it goes on, and with cycle turns its nodes off
// and on.
type follower struct {
	bmc   bmcSite
	cycle bool
	yes   bool
	poll  time.Duration

	bmcs map[string]bmc.BMC // by node, with cycle
	seen rollout.Rollout    // what was shown
}

func (f *follower) flags(cmd *cobra.Command) {
	f.bmc.flags(cmd)
	fl := cmd.Flags()
	fl.Lookup("json").Usage = "print JSON: one object, or one per line for each change"
	fl.BoolVar(&f.cycle, "cycle", false, "power cycle nodes through their BMCs when they are linked and when they are put back")
	fl.BoolVar(&f.yes, "yes", false, "power cycle, and replace pins, without asking")
}

// print prints v as JSON, or for people.
func (f *follower) print(w io.Writer, v any, people func(io.Writer) error) error {
	if f.bmc.json {
		return printJSON(w, v)
	}
	return people(w)
}

// reach finds the BMCs of the nodes that are to be switched.
func (f *follower) reach(cmd *cobra.Command, r rollout.Rollout) error {
	var names []string
	for _, n := range r.Nodes {
		if n.Phase != rollout.Upgraded {
			names = append(names, n.Name)
		}
	}
	f.bmcs = map[string]bmc.BMC{}
	if len(names) == 0 {
		return nil
	}
	list, err := f.bmc.pick(cmd, names, true)
	if err != nil {
		return err
	}
	for _, b := range list {
		f.bmcs[b.Node] = b
	}
	return confirmed(cmd, f.yes, "power cycle of "+strings.Join(nodesOf(list), ", "))
}

// follow shows an upgrade until nothing of it is under way any more. That the
// daemon is away for a while ends nothing: it goes on where it was.
func (f *follower) follow(cmd *cobra.Command, r rollout.Rollout) error {
	again := time.NewTicker(f.poll)
	defer again.Stop()
	away, unpinned := false, 0
	for {
		if err := f.show(cmd, r); err != nil {
			return err
		}
		if r.Over() {
			return f.ended(cmd, r)
		}
		if !r.Active() {
			if unpinned++; unpinned == 2 { // the daemon had the time
				cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("all nodes are through; role %s is not pinned to %s yet: the log of bootd says why", r.Role, r.Release))
			}
		}
		select {
		case <-cmd.Context().Done():
			return f.left(r)
		case <-again.C:
		}
		next, err := f.look(cmd, r)
		switch {
		case cmd.Context().Err() != nil:
			return f.left(r)
		case errors.Is(err, admin.ErrNotRunning), errors.Is(err, admin.ErrStopped):
			if !away {
				cli.Tell(program, cmd.ErrOrStderr(), "the daemon is away; the upgrade goes on when it is back")
			}
			away = true
			continue
		case err != nil:
			return explained(err)
		}
		away, r = false, next
	}
}

// look asks how an upgrade stands.
func (f *follower) look(cmd *cobra.Command, r rollout.Rollout) (rollout.Rollout, error) {
	list, err := client(cmd).Upgrades(cmd.Context())
	if err != nil {
		return r, err
	}
	for _, now := range list {
		if now.Role == r.Role && now.Started.Equal(r.Started) {
			return now, nil
		}
	}
	return r, fmt.Errorf("the upgrade of role %s to %s was followed by another one", r.Role, r.Release)
}

// show prints what has changed, and power cycles whom that concerns.
func (f *follower) show(cmd *cobra.Command, r rollout.Rollout) error {
	was := f.seen
	f.seen = r
	var cycle []string
	changed := was.State != r.State || was.Settled != r.Settled
	for i, n := range r.Nodes {
		var old *rollout.Node
		if len(was.Nodes) > 0 {
			old = &was.Nodes[i]
		}
		if old != nil && *old == n || old == nil && n.Phase == rollout.Waiting {
			continue
		}
		changed = true
		if !f.bmc.json && (old == nil || r.Tell(*old) != r.Tell(n)) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", n.Changed.Local().Format(time.TimeOnly), cli.Printable(n.Name), cli.Printable(r.Tell(n)))
		}
		if n.Needs() && (old == nil && n.Phase == rollout.Switched || old != nil && old.Phase != n.Phase) {
			cycle = append(cycle, n.Name)
		}
	}
	if f.bmc.json && changed {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(r); err != nil {
			return err
		}
	}
	if f.cycle {
		f.cycleAll(cmd, cycle)
	}
	return nil
}

// cycleAll power cycles nodes. What goes wrong is told: their deadline is over
// some time.
func (f *follower) cycleAll(cmd *cobra.Command, names []string) {
	var list []bmc.BMC
	for _, name := range names {
		if b, ok := f.bmcs[name]; ok {
			list = append(list, b)
		}
	}
	results := bmc.Each(cmd.Context(), list, f.bmc.parallel, func(ctx context.Context, b bmc.BMC) (bool, error) { return b.SetPower(ctx, bmc.Cycle) })
	for _, r := range results {
		switch {
		case r.Err != nil:
			cli.Tell(program, cmd.ErrOrStderr(), r.Err.Error()+": reboot it by hand")
		case !f.bmc.json:
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s: power cycled\n", time.Now().Format(time.TimeOnly), cli.Printable(r.BMC.Node))
		}
	}
}

// left is what to say when this command ends before the upgrade.
func (f *follower) left(r rollout.Rollout) error {
	err := fmt.Errorf("the upgrade of role %s to %s goes on without this command", r.Role, r.Release)
	hint := fmt.Sprintf("bootctl upgrade status %s --follow shows it again, bootctl upgrade stop %s ends it", r.Role, r.Role)
	if f.cycle {
		err = fmt.Errorf("%w, but nodes are not power cycled any more", err)
		hint += "; with --cycle, status power cycles nodes again"
	}
	return cli.Hint(err, hint)
}

// ended tells the end of an upgrade.
func (f *follower) ended(cmd *cobra.Command, r rollout.Rollout) error {
	count := r.Count()
	if r.State == rollout.Done && count[rollout.Upgraded] == len(r.Nodes) {
		if f.bmc.json {
			return nil
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "Upgraded role %s to %s: %s. %s, until bootctl release unpin.\n", r.Role, r.Release, nodes(len(r.Nodes)), sentence(r.Reason))
		return err
	}
	if !f.bmc.json {
		fmt.Fprintf(cmd.OutOrStdout(), "%s. Each node is pinned to the release that it is linked to.\n", sentence(tally(count)))
	}
	why := fmt.Errorf("upgrade of role %s to %s: %s", r.Role, r.Release, r.State)
	if r.Reason != "" {
		why = fmt.Errorf("%w: %s", why, r.Reason)
	}
	e := cli.Error{Err: why, Code: partial(count[rollout.Upgraded])}
	if r.State != rollout.Done {
		e.Hint = fmt.Sprintf("bootctl upgrade resume %s tries again, with --skip-failed without those that failed", r.Role)
		if i := slices.IndexFunc(r.Nodes, func(n rollout.Node) bool { return n.Reason != "" }); i >= 0 {
			e.Hint = fmt.Sprintf("bootctl why %s tells its boot; %s", r.Nodes[i].Name, e.Hint)
		}
	}
	return e
}

// tally counts nodes in words.
func tally(count map[rollout.Phase]int) string {
	words := map[rollout.Phase]string{
		rollout.Upgraded: "upgraded", rollout.Returned: "put back", rollout.Back: "put back and up again", rollout.Waiting: "not begun",
		rollout.Switching: "being linked", rollout.Switched: "linked", rollout.Returning: "to be put back",
	}
	var parts []string
	for _, p := range rollout.Phases {
		if count[p] > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", nodes(count[p]), words[p]))
		}
	}
	return strings.Join(parts, ", ")
}

// sentence begins a text with a capital letter.
func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
