package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
)

func dhcpCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use: "dhcp", Short: "Look at DHCP on the network",
		Long:    "Looks at DHCP on the network. bootctl leases has the leases.",
		Example: "  bootctl dhcp probe",
	})
	cmd.AddCommand(probeCommand())
	return cmd
}

func probeCommand() *cobra.Command {
	var ifname string
	cmd := question[[]admin.Probe]{
		ask: func(cmd *cobra.Command, _ []string) ([]admin.Probe, error) {
			return client(cmd).Probe(cmd.Context(), ifname)
		},
		show: printProbes,
		bad:  trouble,
	}.command(&cobra.Command{
		Use:   "probe [flags]",
		Short: "Show every DHCP server that answers a machine that boots",
		Long: `Has the daemon ask for an address on its interfaces, as the PXE firmware of a
machine that nobody knows does, and shows every offer that comes within four
seconds: who made it, the address offered, and what to boot from where, with
options 60 and 43. None is taken. "ours" are the daemon's.

The exit status is 3 when the offers are not what the configuration wants: a
server besides bootd offers addresses where bootd is authoritative, or says
what to boot; bootd made no offer; or it is a proxy, and nobody offers an
address.`,
		Example: "  bootctl dhcp probe\n  bootctl dhcp probe --interface eth1",
		Args:    cli.NoArgs,
	})
	cmd.Flags().StringVar(&ifname, "interface", "", "ask on this `INTERFACE` only")
	return cmd
}

// trouble is the error of probes that found something wrong.
func trouble(list []admin.Probe) error {
	var all []error
	for _, p := range list {
		for _, t := range p.Trouble {
			all = append(all, fmt.Errorf("%s: %s", p.Interface, t))
		}
	}
	if all == nil {
		return nil
	}
	return cli.Error{Err: errors.Join(all...), Code: cli.Partial}
}

func printProbes(w io.Writer, list []admin.Probe) error {
	t := cli.NewTable(w, "INTERFACE", "MODE", "SERVER", "", "MAC", "OFFERS", "NEXT SERVER", "FILE", "OPTION 60", "OPTION 43", "AFTER").
		Spare("OPTION 43", "AFTER", "MODE", "OPTION 60", "MAC", "NEXT SERVER")
	for _, p := range list {
		for _, o := range p.Offers {
			whose := ""
			if o.Ours {
				whose = "ours"
			}
			t.Row(p.Interface, p.Mode, o.Server, whose, o.MAC, addrText(o.Addr), addrText(o.Next), o.File, o.Class, o.Vendor, fmt.Sprintf("%d ms", o.After.Milliseconds()))
		}
		if len(p.Offers) == 0 {
			t.Row(p.Interface, p.Mode, "(no offer)")
		}
	}
	return t.Flush()
}

// printRivals names the DHCP servers that should not be there.
func printRivals(w io.Writer, list []admin.Rival, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nOther DHCP servers answer where bootd should be the only one:")
	t := cli.NewTable(w)
	for _, r := range list {
		t.Row("  "+r.Server.String(), fmt.Sprintf("in %v, chosen %d times, last by %s %s", r.Subnet, r.Choices, r.Machine, ago(r.Last, now)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "More: bootctl dhcp probe")
	return err
}
