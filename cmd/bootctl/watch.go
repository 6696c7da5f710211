package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/timeline"
)

func watchCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [NODE...] [flags]",
		Short: "Show the steps of booting machines as they happen",
		Long: `Shows each step of every machine, or of the named ones only, as it happens,
until it is interrupted.`,
		Example: "  bootctl watch ncn-m001 ncn-m002",
		RunE: func(cmd *cobra.Command, args []string) error {
			show := showEvent(cmd.OutOrStdout())
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				show = func(e timeline.Event) error { return enc.Encode(e) }
			}
			return explained(client(cmd).Watch(cmd.Context(), func(e timeline.Event) error {
				if len(args) > 0 && !slices.Contains(args, e.Machine()) {
					return nil
				}
				return show(e)
			}))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object per line")
	return cmd
}

// showEvent prints events as aligned lines.
func showEvent(w io.Writer) func(timeline.Event) error {
	return func(e timeline.Event) error {
		_, err := fmt.Fprintf(w, "%s  %-17s  %-13s  %-18s  %s\n",
			e.Time.Local().Format(time.TimeOnly+".000"), e.Machine(), e.Step, dash(who(&e)), what(&e))
		return err
	}
}
