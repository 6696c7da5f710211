package main

import (
	"github.com/spf13/cobra"

	"bootd/internal/cli"
)

// nodeCommand is the group of what is done to one node. Each of its commands is
// in a file of its own, node_*.go.
func nodeCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "node",
		Short: "See and change the nodes",
	})
	cmd.AddCommand(deploymentCommands()...)
	return cmd
}
