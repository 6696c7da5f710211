package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/internal/cli"
	"bootd/internal/node"
)

func bmcCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "bmc",
		Short: "Power and boot order of nodes, through their BMCs",
		Long: `Talks to the BMCs of nodes. A BMC is known by its MAC in the inventory, by a
lease named NODE-mgmt, by its console in conman.conf or by its host-record; the
one of the machine that runs the command is left alone. NODES is a list such as
ncn-m[001-003],ncn-s*.

The password is read from --password-file, else from the environment variable
IPMI_PASSWORD, else from the console in conman.conf. It is never printed.

The exit status is 0 when all BMCs did it, 1 when none did, and 3 when some did.`,
		Example: `  read -rs IPMI_PASSWORD && export IPMI_PASSWORD
  bootctl bmc status 'ncn-m[001-003],ncn-s*'
  bootctl bmc boot-once pxe ncn-m002 && bootctl bmc power cycle ncn-m002`,
	})
	power := cli.Group(&cobra.Command{
		Use:     "power",
		Short:   "Turn machines on or off",
		Long:    "Turns machines on or off, and returns when their BMCs say that they are.",
		Example: "  bootctl bmc power on 'ncn-m*' --yes",
	})
	power.AddCommand(powerCommand(bmc.On), powerCommand(bmc.Off), powerCommand(bmc.Cycle))
	once := cli.Group(&cobra.Command{
		Use:     "boot-once",
		Short:   "Choose what machines boot from at their next boot",
		Long:    "Chooses what machines boot from at their next boot, and only then.",
		Example: "  bootctl bmc boot-once pxe ncn-m002",
	})
	once.AddCommand(bootOnceCommand(bmc.PXE, "the network"), bootOnceCommand(bmc.CD, "the CD drive"))
	media := cli.Group(&cobra.Command{
		Use:     "media",
		Short:   "Attach and eject virtual media",
		Long:    "Puts an image into the virtual CD drive of machines, or takes it out. Only over\nRedfish.",
		Example: "  bootctl bmc media attach http://10.254.0.1/site.iso ncn-m002",
	})
	media.AddCommand(attachCommand(), ejectCommand())
	cmd.AddCommand(bmcStatusCommand(), power, once, setDHCPCommand(), media, bmcAttachCommand(), bmcDetachCommand())
	return cmd
}

func bmcStatusCommand() *cobra.Command {
	var s bmcSite
	cmd := &cobra.Command{
		Use:     "status [NODES] [flags]",
		Short:   "Show power, make and address source of BMCs",
		Long:    "Asks the BMCs of NODES, or all that are known, and shows what they say.",
		Example: "  bootctl bmc status 'ncn-s*' --protocol redfish",
		RunE: func(cmd *cobra.Command, args []string) error {
			return fleet(cmd, &s, args, false, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
				st, err := b.Status(ctx)
				return bmcOutcome{Vendor: st.Vendor, Power: st.Power.String(), Source: st.Source}, err
			}, printBMCs)
		},
	}
	s.flags(cmd)
	return cmd
}

func powerCommand(want bmc.Power) *cobra.Command {
	var s bmcSite
	var yes bool
	cmd := fleetCommand(&cobra.Command{
		Use:   want.String() + " NODES [flags]",
		Short: map[bmc.Power]string{bmc.On: "Turn machines on", bmc.Off: "Turn machines off at once", bmc.Cycle: "Turn machines off and on"}[want],
		Long: map[bmc.Power]string{
			bmc.On:    "Turns machines on. Those that are on are left alone.",
			bmc.Off:   "Turns machines off at once, as pulling the plug does. Their systems are not\nasked.",
			bmc.Cycle: "Turns machines off at once and on again. Those that are off are turned on.",
		}[want],
		Example: "  bootctl bmc power " + want.String() + " ncn-m002 --yes",
	}, &s, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
		changed, err := b.SetPower(ctx, want)
		return bmcOutcome{Changed: changed, Did: "power " + want.String()}, err
	})
	s.confirm = func(bmcs []bmc.BMC) error {
		return confirmed(cmd, yes, fmt.Sprintf("power %v of %s", want, strings.Join(nodesOf(bmcs), ", ")))
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}

func bootOnceCommand(from bmc.Device, where string) *cobra.Command {
	var s bmcSite
	var legacy bool
	cmd := fleetCommand(&cobra.Command{
		Use:   from.String() + " NODES [flags]",
		Short: "Boot from " + where + " at the next boot",
		Long: `Makes machines boot from ` + where + ` at their next boot, and only then. Many
BMCs forget it when no power command follows within a minute.`,
		Example: "  bootctl bmc boot-once " + from.String() + " ncn-m002 && bootctl bmc power cycle ncn-m002 --yes",
	}, &s, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
		err := b.BootOnce(ctx, from, legacy)
		return bmcOutcome{Changed: err == nil, Did: "boots once from " + from.String()}, err
	})
	cmd.Flags().BoolVar(&legacy, "legacy", false, "boot as a BIOS does, not by UEFI")
	return cmd
}

func setDHCPCommand() *cobra.Command {
	var s bmcSite
	var reset bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "set-dhcp NODES [flags]",
		Short: "Make BMCs take their addresses from DHCP",
		Long: `Makes BMCs take their addresses from DHCP. Those that do are left alone. Some
makes need a restart of the BMC for it and get one; an iLO never does, because
it crashes. With --wait the command then waits until each BMC has a lease.`,
		Example: "  bootctl bmc set-dhcp 'ncn-*' --wait 5m",
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait < 0 {
				return cli.UsageError(cmd, errors.New("--wait: a wait is not below zero"))
			}
			err := fleet(cmd, &s, args, true, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
				changed, err := b.SetDHCP(ctx, reset)
				return bmcOutcome{Changed: changed, Did: "set to dhcp"}, err
			}, printDone)
			if wait == 0 || len(s.chosen) == 0 {
				return err
			}
			return s.waitForLeases(cmd, wait, err)
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&reset, "reset", false, "restart the BMCs, whatever their make, unless it crashes from that")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so `LONG`, such as 5m, for their leases")
	return cmd
}

func attachCommand() *cobra.Command {
	var s bmcSite
	cmd := &cobra.Command{
		Use:   "attach URL NODES [flags]",
		Short: "Put an image into the virtual CD drive",
		Long: `Puts an image into the virtual CD drive, from where the BMC fetches it at URL.
Another image is taken out first.`,
		Example: "  bootctl bmc media attach http://10.254.0.1/site.iso ncn-m002",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.UsageError(cmd, errors.New("URL is missing"))
			}
			image, err := url.Parse(args[0])
			if err != nil || image.Scheme == "" || image.Host == "" {
				return cli.UsageError(cmd, fmt.Errorf("%q is not a URL such as http://10.254.0.1/site.iso", args[0]))
			}
			return fleet(cmd, &s, args[1:], true, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
				changed, err := b.AttachMedia(ctx, args[0])
				return bmcOutcome{Changed: changed, Did: "attached " + cli.Printable(image.Redacted())}, err
			}, printDone)
		},
	}
	s.flags(cmd)
	s.overRedfish(cmd)
	return cmd
}

func ejectCommand() *cobra.Command {
	var s bmcSite
	cmd := fleetCommand(&cobra.Command{
		Use:     "eject NODES [flags]",
		Short:   "Take the image out of the virtual CD drive",
		Long:    "Takes the image out of the virtual CD drive, if there is one.",
		Example: "  bootctl bmc media eject 'ncn-*'",
	}, &s, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
		changed, err := b.EjectMedia(ctx)
		return bmcOutcome{Changed: changed, Did: "ejected"}, err
	})
	s.overRedfish(cmd)
	return cmd
}

// waitForLeases waits for those of the chosen BMCs that were reached. failed
// is what became of the others.
func (s *bmcSite) waitForLeases(cmd *cobra.Command, limit time.Duration, failed error) error {
	inv, err := s.inventory(cmd)
	if err != nil {
		return errors.Join(failed, err)
	}
	err = s.await(cmd, inv, s.chosen, limit, func([]string) {})
	var late *bmc.MissingError
	if failed == nil && errors.As(err, &late) {
		return cli.Error{Err: err, Code: partial(len(s.chosen) - len(late.Nodes)), Hint: "bootctl bmc status shows which BMCs do not use DHCP; --wait waits longer"}
	}
	if failed != nil && err != nil {
		cli.Tell(program, cmd.ErrOrStderr(), err.Error())
		return failed
	}
	return errors.Join(failed, err)
}

// await waits until the BMCs of nodes have leases, as bmc.Wait does. Whenever
// the missing ones have changed, it names them on standard error and to tell.
func (s *sources) await(cmd *cobra.Command, inv *node.Inventory, nodes map[string]bool, limit time.Duration, tell func(missing []string)) error {
	look := func() ([]bmc.Target, error) {
		e, _, err := s.evidence(cmd, inv, io.Discard)
		var mine []bmc.Target
		for _, t := range bmc.Find(e) {
			if nodes[t.Node] {
				t.Expected = true
				mine = append(mine, t)
			}
		}
		return mine, err
	}
	_, err := bmc.Wait(cmd.Context(), limit, look, func(missing []string) {
		tell(missing)
		if len(missing) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "waiting for leases of %d BMCs: %s\n", len(missing), strings.Join(missing, ", "))
		}
	})
	return err
}

// nodesOf returns the names of the nodes.
func nodesOf(bmcs []bmc.BMC) (names []string) {
	for _, b := range bmcs {
		names = append(names, b.Node)
	}
	return names
}
