package main

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

func watchCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [NODE...] [flags]",
		Short: "Show the steps of booting machines as they happen",
		Long: `Shows each step of every machine, or of the named ones only, as it happens,
until it is interrupted. A machine that is not in the inventory is named by its
MAC address.`,
		Example: "  bootctl watch\n  bootctl watch ncn-m001 ncn-m002",
		RunE: func(cmd *cobra.Command, args []string) error {
			show := showEvent(cmd.OutOrStdout())
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetEscapeHTML(false)
				show = func(e timeline.Event) error { return enc.Encode(e) }
			}
			var names []string
			for _, arg := range args {
				spelt, err := watched(cmd, arg)
				if err != nil {
					return explained(err)
				}
				names = append(names, spelt...)
			}
			return explained(client(cmd).Watch(cmd.Context(), func(e timeline.Event) error {
				if len(names) > 0 && !slices.Contains(names, e.Machine()) {
					return nil
				}
				return show(e)
			}))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object per line")
	return cmd
}

// watched returns how events name a machine. One that was never seen may still
// come, but only by its MAC address: any other name has to be known.
func watched(cmd *cobra.Command, machine string) ([]string, error) {
	if _, err := node.ParseMAC(machine); err != nil {
		if _, err := find(cmd, machine); err != nil {
			return nil, err
		}
	}
	return spellings(machine), nil
}

// showEvent prints events as aligned lines.
func showEvent(w io.Writer) func(timeline.Event) error {
	t := cli.NewTable(w).Stream(12, 17, 13, 16)
	return func(e timeline.Event) error {
		t.Row(e.Time.Local().Format(time.TimeOnly+".000"), e.Machine(), e.Step, dash(who(&e)), what(&e))
		return t.Flush()
	}
}
