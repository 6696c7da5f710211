package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/internal/cli"
)

// A bmcOutcome is what came of the work with one BMC, as --json prints it.
type bmcOutcome struct {
	Node    string `json:"node"`
	Host    string `json:"bmc,omitempty"`
	Vendor  string `json:"vendor,omitempty"`
	Power   string `json:"power,omitempty"`
	Source  string `json:"source,omitempty"` // of its address
	Changed bool   `json:"changed"`
	Step    string `json:"step,omitempty"` // that failed
	Error   string `json:"error,omitempty"`
	Did     string `json:"-"` // what to say when it changed
}

// A work is what is done with one BMC.
type work func(context.Context, bmc.BMC) (bmcOutcome, error)

// fleetCommand makes cmd do work with the BMCs of NODES, which must be named,
// and say what that changed.
func fleetCommand(cmd *cobra.Command, s *bmcSite, do work) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return fleet(cmd, s, args, true, do, printDone) }
	s.flags(cmd)
	return cmd
}

// fleet does the work with the BMCs that args stand for and reports.
func fleet(cmd *cobra.Command, s *bmcSite, args []string, needed bool, do work, print func(io.Writer, []bmcOutcome) error) error {
	bmcs, err := s.pick(cmd, args, needed)
	if err != nil {
		return err
	}
	if s.confirm != nil {
		if err := s.confirm(bmcs); err != nil {
			return err
		}
	}
	list, errs := outcomes(bmc.Each(cmd.Context(), bmcs, s.parallel, do))
	s.chosen = map[string]bool{}
	for _, o := range list {
		if o.Error == "" {
			s.chosen[o.Node] = true
		}
	}
	if s.json {
		print = func(w io.Writer, list []bmcOutcome) error { return printJSON(w, list) }
	}
	if err := print(cmd.OutOrStdout(), list); err != nil {
		return err
	}
	return fleetError(errs, len(list))
}

// outcomes returns what to report of the work, and the errors in it.
func outcomes(results []bmc.Result[bmcOutcome]) (list []bmcOutcome, errs []error) {
	list = make([]bmcOutcome, len(results))
	for i, r := range results {
		list[i] = r.Value
		list[i].Node, list[i].Host = r.BMC.Node, r.BMC.Host
		if r.Err != nil {
			errs = append(errs, r.Err)
			list[i].fail(r.Err)
		}
	}
	return list, errs
}

func (o *bmcOutcome) fail(err error) {
	o.Error, o.Power = err.Error(), ""
	var e *bmc.Error
	if errors.As(err, &e) {
		o.Step, o.Error = e.Step, e.Err.Error()
	}
}

// fleetError is for the errors of some of n BMCs.
func fleetError(errs []error, n int) error {
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	e := cli.Error{Err: err, Code: partial(n - len(errs))}
	switch {
	case errors.Is(err, bmc.ErrNoPassword):
		e.Hint = "export IPMI_PASSWORD, or name a file with --password-file"
	case errors.Is(err, bmc.ErrPassword):
		e.Hint = "the password is from --password-file, else IPMI_PASSWORD, else conman.conf; the user from --user, else conman.conf, else root"
	case errors.Is(err, bmc.ErrUnreachable):
		e.Hint = "some BMCs answer to one protocol only: --protocol ipmi or redfish"
	}
	return e
}

// printBMCs prints a table of those that answered.
func printBMCs(w io.Writer, list []bmcOutcome) error {
	list = slices.DeleteFunc(slices.Clone(list), func(o bmcOutcome) bool { return o.Error != "" })
	if len(list) == 0 {
		return nil
	}
	t := cli.NewTable(w, "NODE", "BMC", "VENDOR", "POWER", "ADDRESS FROM")
	for _, o := range list {
		t.Row(o.Node, o.Host, o.Vendor, o.Power, o.Source)
	}
	return t.Flush()
}

// printDone prints what changed, unless more should have.
func printDone(w io.Writer, list []bmcOutcome) error {
	for _, o := range list {
		if o.Changed && o.Error == "" {
			if _, err := fmt.Fprintf(w, "%s: %s\n", o.Node, o.Did); err != nil {
				return err
			}
		}
	}
	return nil
}
