package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/internal/cli"
)

// prepare makes the BMCs of the nodes use DHCP and waits for their leases. Its
// words on standard output are those of source 004. Without a password nothing
// is done to BMCs, and the leases count as they are.
func (s *setLinks) prepare(cmd *cobra.Command, who *census, r *report) error {
	if s.skipBMC {
		return nil
	}
	switch {
	case s.secret.IsZero() && who.leases:
		r.warn("Need IPMI_PASSWORD set in env (export IPMI_PASSWORD=password).")
		r.say("no BMC password set, using existing dnsmasq.leases")
		return nil
	case s.secret.IsZero(), len(who.targets) == 0 && !who.leases:
		return nil
	case s.dryRun:
		r.say("would set the BMCs of %s to DHCP mode", strings.Join(names(who.targets), ", "))
		return nil
	}
	r.say("Attempting to set all known BMCs (from %s) to DHCP mode", s.conman)
	r.say("current BMC count: %d", leasedOf(who.targets))
	results := bmc.Each(cmd.Context(), s.bmcs(who.targets, s.secret), s.parallel, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
		changed, err := b.SetDHCP(ctx, false)
		return bmcOutcome{Changed: changed, Did: "set to dhcp"}, err
	})
	r.bmcs(results)
	return s.awaitBMCs(cmd, who, r)
}

// awaitBMCs waits for the leases of the BMCs that were reached. Who is missing
// at the end ends the command, unless it is to go on with the others, or the
// nodes are known without leases.
func (s *setLinks) awaitBMCs(cmd *cobra.Command, who *census, r *report) error {
	goOn := s.allowMissing || !who.leases
	waited := map[string]bool{}
	for _, t := range who.targets {
		waited[t.Node] = !r.unreached[t.Node]
	}
	lost := s.lost(who, r)
	r.Missing = lost
	if len(lost) > 0 && !goOn {
		return s.missing(fmt.Errorf("no lease, and no way to set DHCP mode: %s", strings.Join(lost, ", ")))
	}
	expected := len(who.targets) - len(lost)
	r.say("Waiting on %d to request DHCP ... ", expected)
	err := s.await(cmd, who.inv, waited, s.wait, func(missing []string) {
		r.count(expected - len(missing))
	})
	var late *bmc.MissingError
	if errors.As(err, &late) {
		r.Missing = append(lost, late.Nodes...)
	}
	switch {
	case late != nil && !goOn:
		return s.missing(err)
	case late != nil:
		cli.Tell(program, r.err, err.Error())
	case err != nil:
		return err
	case len(lost) == 0:
		r.say("All [%d] expected BMCs have requested DHCP.", expected)
	}
	return who.count()
}

// lost returns the BMCs that neither have a lease nor could be told to get one.
func (s *setLinks) lost(who *census, r *report) (nodes []string) {
	for _, t := range who.targets {
		if !t.Leased && r.unreached[t.Node] {
			nodes = append(nodes, t.Node)
		}
	}
	return nodes
}

func (s *setLinks) missing(err error) error {
	return cli.Hint(err, "bootctl bmc status shows which BMCs do not use DHCP; --bmc-wait waits longer, --allow-missing goes on without them")
}

// leasedOf counts the BMCs that hold a lease.
func leasedOf(targets []bmc.Target) (n int) {
	for _, t := range targets {
		if t.Leased {
			n++
		}
	}
	return n
}

func names(targets []bmc.Target) (list []string) {
	for _, t := range targets {
		list = append(list, t.Node)
	}
	return list
}
