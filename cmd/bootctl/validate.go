package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
)

func validateCommand() *cobra.Command {
	var all bool
	cmd := question[[]admin.Validation]{
		ask: func(cmd *cobra.Command, args []string) ([]admin.Validation, error) {
			return of(strings.Join(args, ""), func(name string) ([]admin.Validation, error) { return client(cmd).Validations(cmd.Context(), name) })
		},
		show: printValidations,
		bad:  invalid,
	}.command(&cobra.Command{
		Use:   "validate NODE|--all [flags]",
		Short: "Show whether the systems of nodes are as their roles expect",
		Long: `Shows what nodes said of themselves, beside what validate: of their roles
expects: host name, address, bond, drives, system, services, registration. A
node says it by running the script http://SERVER/validate.sh as root, from a
stage of its first boot or by hand.

The exit status is 3 when something is not as expected, or a node has not said
anything.`,
		Example: "  bootctl validate edge-01\n  bootctl validate --all",
		Args: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 || !all && len(args) != 1 {
				return cli.UsageError(cmd, errors.New("validate takes one node, or --all"))
			}
			return nil
		},
	})
	cmd.Flags().BoolVar(&all, "all", false, "all nodes whose roles expect something")
	return cmd
}

func printValidations(w io.Writer, list []admin.Validation) error {
	if len(list) == 0 {
		return nil
	}
	t := cli.NewTable(w, "NODE", "CHECK", "VERDICT", "REPORTED", "EXPECTED", "FOUND").Spare("REPORTED")
	for _, v := range list {
		for _, c := range v.Checks {
			verdict := "FAILED"
			if c.OK {
				verdict = "ok"
			}
			t.Row(v.Node, c.Name, verdict, clock(v.At), c.Expected, c.Found)
		}
	}
	return t.Flush()
}

// invalid names the nodes that are not as expected.
func invalid(list []admin.Validation) error {
	var names []string
	for _, v := range list {
		if !v.OK {
			names = append(names, v.Node)
		}
	}
	if names == nil {
		return nil
	}
	return cli.Error{Err: fmt.Errorf("not as expected: %s", strings.Join(names, ", ")), Code: cli.Partial}
}
