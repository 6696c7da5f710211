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
	"bootd/internal/lease"
	"bootd/internal/node"
)

func leasesCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "leases",
		Short: "See and change who has which address",
		Long: `Shows and changes the leases of the DHCP server. Every change is on disk before
it is reported. A lease of a machine that ended is kept, so that the machine
gets the same address again while nobody else needs it.

The states: bound, the machine may use the address; expired and released, it no
longer may; declined, a stranger uses the address, and nobody gets it.`,
		Example: "  bootctl leases list --subnet 10.1.0.0/16\n  bootctl leases show ncn-m002",
	})
	cmd.AddCommand(listCommand(), showCommand(), releaseCommand(), addCommand(), exportCommand(), importCommand())
	return cmd
}

func listCommand() *cobra.Command {
	var asJSON, ended bool
	var state, subnet, name, mac, addr string
	cmd := &cobra.Command{
		Use:   "list [flags]",
		Short: "List leases by address",
		Long: `Lists the leases that are in force, or the ones that the flags choose. What a
machine calls itself is not to be trusted.`,
		Example: "  bootctl leases list --node ncn-m002\n  bootctl leases list --expired --subnet 10.1.0.0/16",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := lease.Filter{Node: name, Force: lease.InForce}
			var errs [4]error
			f.State, errs[0] = flag(state, lease.ParseState)
			f.Subnet, errs[1] = flag(subnet, lease.ParseSubnet)
			f.MAC, errs[2] = flag(mac, node.ParseMAC)
			byAddr, err := flag(addr, lease.Of)
			if f.Addr = byAddr.Addr; err == nil && addr != "" && !f.Addr.IsValid() {
				err = fmt.Errorf("%q is not an IP address", addr)
			}
			errs[3] = err
			if err := errors.Join(errs[:]...); err != nil {
				return cli.UsageError(cmd, err)
			}
			switch {
			case state != "" && ended:
				return cli.UsageError(cmd, errors.New("--expired and --state do not go together"))
			case state != "":
				f.Force = lease.Any
			case ended:
				f.Force = lease.Ended
			}
			return explained(list(cmd, f, asJSON))
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&addr, "address", "", "only this `ADDRESS`")
	flags.StringVar(&mac, "mac", "", "only of the machine with this `MAC` address")
	flags.StringVar(&name, "node", "", "only of this `NODE`; its BMC is NODE-mgmt")
	flags.StringVar(&subnet, "subnet", "", "only addresses of this `NETWORK`, such as 10.1.0.0/16")
	flags.StringVar(&state, "state", "", "only in this `STATE`: bound, expired, released, declined")
	flags.BoolVar(&ended, "expired", false, "only those that are no longer in force")
	flags.BoolVar(&asJSON, "json", false, "print a JSON object per line")
	return cmd
}

// flag reads the value of a flag that was given.
func flag[T any](s string, parse func(string) (T, error)) (v T, err error) {
	if s == "" {
		return v, nil
	}
	return parse(s)
}

// list prints leases as they arrive: there may be a million.
func list(cmd *cobra.Command, f lease.Filter, asJSON bool) error {
	out := lease.NewWriter(cmd.OutOrStdout(), lease.JSON)
	write, flush := out.Write, out.Flush
	if !asJSON {
		t := leaseTable(cmd.OutOrStdout())
		now := time.Now()
		write, flush = func(l *lease.Lease) error { return addLease(t, l, now) }, t.Flush
	}
	seen := false
	err := client(cmd).Leases(cmd.Context(), f, func(l lease.Lease) error { seen = true; return write(&l) })
	if err != nil && !seen {
		return err
	}
	return errors.Join(err, flush())
}

func showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ADDRESS|MAC|NODE [flags]",
		Short:   "Show all that is known of a lease",
		Long:    "Shows the leases of an address or a machine, in force or not.",
		Example: "  bootctl leases show 10.1.1.107\n  bootctl leases show ncn-m002",
		Args:    cli.Args("an address, MAC address or node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := lease.Of(args[0])
			if err != nil {
				return cli.UsageError(cmd, err)
			}
			if asJSON {
				return explained(list(cmd, f, true))
			}
			found := false
			err = client(cmd).Leases(cmd.Context(), f, func(l lease.Lease) error {
				if found {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				found = true
				return showLease(cmd.OutOrStdout(), &l, time.Now())
			})
			if err == nil && !found {
				err = admin.ErrNoLease
			}
			return explainedLease(err, args[0])
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object per line")
	return cmd
}

func explainedLease(err error, which string) error {
	if errors.Is(err, admin.ErrNoLease) {
		return cli.Hint(fmt.Errorf("%s: %w", which, err), "bootctl leases list shows who has which address")
	}
	return explained(err)
}

func showLease(w io.Writer, l *lease.Lease, now time.Time) error {
	_, err := fmt.Fprintf(w, `%v
  state      %s
  machine    %s
  MAC        %s
  since      %s
  until      %s
  client-id  %s
  host name  %s
`, l.Addr, l.State, dash(l.Node), dash(text(l.MAC)), moment(l.Start, now), moment(l.Expires, now), dash(l.ClientID), dash(l.Hostname))
	return err
}

func text(m node.MAC) string {
	if m.IsZero() {
		return ""
	}
	return m.String()
}

// moment is a time for people, with its distance from now.
func moment(t, now time.Time) string {
	if t.Equal(lease.Never) {
		return "never ends"
	}
	return t.Local().Format(time.DateTime) + " (" + distance(t, now) + ")"
}

// clock is a moment of the wall clock; empty: there was none.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// distance is how far a moment is, as people say it.
func distance(t, now time.Time) string {
	switch {
	case t.Equal(lease.Never):
		return "never"
	case t.After(now):
		return "in " + roughly(t.Sub(now))
	}
	return ago(t, now)
}

func leaseTable(w io.Writer) *cli.Table {
	t := cli.NewTable(w, "ADDRESS", "MAC", "MACHINE", "STATE", "EXPIRES", "CLIENT-ID", "HOST NAME")
	return t.Spare("CLIENT-ID", "HOST NAME").Stream(15, 17, 13, 8, 8, 13)
}

func addLease(t *cli.Table, l *lease.Lease, now time.Time) error {
	t.Row(l.Addr, text(l.MAC), l.Name, l.State, distance(l.Expires, now), shortID(l), l.Hostname)
	return t.Err()
}

// shortID is a client identifier in the width of a column. Most are the MAC.
func shortID(l *lease.Lease) string {
	const width = 13
	switch id := l.ClientID; {
	case id == "01:"+l.MAC.String():
		return "MAC"
	case len(id) > width:
		return id[:width-2] + ".."
	default:
		return dash(id)
	}
}

func releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release ADDRESS|MAC|NODE [flags]",
		Short: "End leases now",
		Long: `Ends the leases of an address or a machine that are in force, and prints each.
A machine that is still there keeps using its address until it renews, and then
asks for a new lease. For an address that is declined, somebody should have
looked who uses it.`,
		Example: "  bootctl leases release 10.1.1.107",
		Args:    cli.Args("an address, MAC address or node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := lease.Of(args[0]); err != nil {
				return cli.UsageError(cmd, err)
			}
			ended, err := client(cmd).EndLeases(cmd.Context(), args[0])
			for i := range ended {
				fmt.Fprintln(cmd.OutOrStdout(), "released", described(&ended[i]))
			}
			return explainedLease(err, args[0])
		},
	}
}

// described is a lease in a few words.
func described(l *lease.Lease) string {
	var whose []string
	for _, s := range []string{text(l.MAC), l.Node} {
		if s != "" {
			whose = append(whose, s)
		}
	}
	if whose == nil {
		return l.Addr.String()
	}
	return l.Addr.String() + " of " + strings.Join(whose, ", ")
}

func addCommand() *cobra.Command {
	var duration string
	cmd := &cobra.Command{
		Use:   "add MAC ADDRESS [flags]",
		Short: "Lease an address to a machine",
		Long: `Leases an address to a machine as if the machine had asked for it, or changes
when its lease ends. An address that the machine could not have got is refused:
one outside the pools, reserved or in use. For an address of its own, give the
node an address: in the configuration.`,
		Example: "  bootctl leases add 52:54:00:aa:bb:07 10.1.1.107 --duration 2h",
		Args:    cli.Args("MAC", "ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := request(args[0], args[1], duration)
			if err != nil {
				return cli.UsageError(cmd, err)
			}
			l, changed, err := client(cmd).AddLease(cmd.Context(), req)
			if err != nil {
				return explained(err)
			}
			if changed {
				fmt.Fprintln(cmd.OutOrStdout(), "leased", described(&l), "until", moment(l.Expires, time.Now()))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&duration, "duration", "", "`TIME` from now, such as 2h, or infinite (default: that of the subnet)")
	return cmd
}

func request(mac, addr, duration string) (req admin.Request, err error) {
	if req.MAC, err = node.ParseMAC(mac); err != nil {
		return req, err
	}
	f, err := lease.Of(addr)
	if err != nil || !f.Addr.IsValid() {
		return req, fmt.Errorf("%q is not an IP address", addr)
	}
	req.Addr = f.Addr
	switch {
	case duration == "":
		return req, nil
	case duration == "infinite":
		req.Infinite = true
		return req, nil
	}
	d, err := time.ParseDuration(duration)
	if err != nil || d < time.Second {
		return req, fmt.Errorf("--duration: %q is not a time such as 2h", duration)
	}
	req.Seconds = int64(d / time.Second)
	return req, nil
}

func exportCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "export --format FORMAT",
		Short: "Print all leases in a format for other programs",
		Long: `Prints all leases, one a line: as json or csv with everything that is known, or
as dnsmasq writes its lease file, which has only leases of machines that are in
force.`,
		Example: "  bootctl leases export --format dnsmasq > dnsmasq.leases",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := lease.ParseFormat(format)
			if err != nil {
				return cli.UsageError(cmd, fmt.Errorf("--format: %w", err))
			}
			out := lease.NewWriter(cmd.OutOrStdout(), f)
			err = client(cmd).Leases(cmd.Context(), lease.Filter{}, func(l lease.Lease) error { return out.Write(&l) })
			return explained(errors.Join(err, out.Flush()))
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT`: json, csv or dnsmasq")
	return cmd
}
