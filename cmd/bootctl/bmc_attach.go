package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/timeline"
)

// An attachment is how the image of a node gets into the drive of its BMC.
type attachment struct {
	bmcSite
	site, install bool
	image, server string
	from          string
	legacy        bool
	restart, yes  bool
	wait          time.Duration
}

func bmcAttachCommand() *cobra.Command {
	var a attachment
	cmd := &cobra.Command{
		Use:   "attach NODES --site|--install [flags]",
		Short: "Put the image that a node needs into its virtual CD drive",
		Long: `Has the daemon make the CD image of each node, and puts it into the virtual CD
drive of the node's BMC, which reads it from the daemon. Only over Redfish.

--site: the documents of the node's site payload, for its first boot from disk.

--install: the installer's image --image, or the one that the node's release
keeps, with the document of the node's payload in it, from which the machine
then boots once.

The image is for the BMC alone, at the address that it is talked to at, or
--from ADDRESS (any: for whoever has the URL). It ends when the node checks in,
after six hours, or with bmc detach.

With --wait the command waits until the node has checked in (--site) or was
installed (--install), and takes the image out again. Without it, say bmc detach
when it is done.`,
		Example: `  bootctl bmc attach edge-01 --site --restart --yes --wait 30m
  bootctl bmc attach edge-01 --install --image /srv/palette-edge-installer.iso \
      --restart --yes --wait 1h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.check(); err != nil {
				return cli.UsageError(cmd, err)
			}
			return a.run(cmd, args)
		},
	}
	a.flags(cmd)
	a.overRedfish(cmd)
	f := cmd.Flags()
	f.BoolVar(&a.site, "site", false, "the documents of the site payload")
	f.BoolVar(&a.install, "install", false, "the installer with the document of the payload in it")
	f.StringVar(&a.image, "image", "", "install: image of the installer, a `FILE` that the daemon can read (default: that of the node's release)")
	f.StringVar(&a.server, "server", "", "`HOST[:PORT]` at which the BMC reaches the daemon (default: in the subnet of the BMC, else of the node)")
	f.StringVar(&a.from, "from", "", "`ADDRESS` that the BMC reads from, or any (default: where it is talked to)")
	f.BoolVar(&a.legacy, "legacy", false, "install: boot as a BIOS does, not by UEFI")
	f.BoolVar(&a.restart, "restart", false, "turn the machine off and on, so that it boots now")
	f.BoolVar(&a.yes, "yes", false, "restart without asking")
	f.DurationVar(&a.wait, "wait", 0, "wait so `LONG`, such as 30m, then take the image out")
	return cmd
}

func (a *attachment) check() error {
	switch {
	case a.site == a.install:
		return errors.New("either --site or --install")
	case a.site && (a.image != "" || a.legacy):
		return errors.New("--image and --legacy are for --install")
	case a.wait < 0:
		return errors.New("--wait: a wait is not below zero")
	}
	if a.from != "" && a.from != "any" {
		if _, err := netip.ParseAddr(a.from); err != nil {
			return fmt.Errorf("--from: %q is neither an address nor any", a.from)
		}
	}
	return nil
}

func (a *attachment) run(cmd *cobra.Command, args []string) error {
	if a.restart {
		a.confirm = func(bmcs []bmc.BMC) error {
			return confirmed(cmd, a.yes, "power cycle of "+strings.Join(nodesOf(bmcs), ", "))
		}
	}
	ctl := client(cmd)
	if a.image != "" {
		abs, err := filepath.Abs(a.image)
		if err != nil {
			return err
		}
		a.image = abs
	}
	return fleet(cmd, &a.bmcSite, args, true, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
		return a.attach(ctx, ctl, b)
	}, printDone)
}

// attach does all of it for one node. The watch begins before the machine can
// say anything.
func (a *attachment) attach(ctx context.Context, ctl *admin.Client, b bmc.BMC) (o bmcOutcome, err error) {
	step := func(name string, err error) error {
		return &bmc.Error{Node: b.Node, Host: b.Host, Step: name, Err: err}
	}
	offer, err := ctl.OfferMedium(ctx, a.order(b))
	if err != nil {
		return o, step("make image", explained(err))
	}
	said := make(chan error, 1)
	if a.wait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, a.wait)
		defer stop()
		go func() { said <- a.watch(ctx, ctl, b.Node); close(said) }()
		defer func() { stop(); <-said }()
	}
	if o.Changed, err = b.AttachMedia(ctx, offer.URL); err != nil {
		return o, err
	}
	o.Did = fmt.Sprintf("attached its %s image, %s", a.kind(), size(offer.Bytes))
	if a.install {
		if err := b.BootOnce(ctx, bmc.CD, a.legacy); err != nil {
			return o, err
		}
		o.Did += ", boots once from cd"
	}
	if a.restart {
		if _, err := b.SetPower(ctx, bmc.Cycle); err != nil {
			return o, err
		}
		o.Did += ", restarted"
	}
	if a.wait == 0 {
		return o, nil
	}
	if err := <-said; err != nil {
		return o, step("wait", err)
	}
	// The time that is over was for the machine.
	if _, err := b.EjectMedia(context.WithoutCancel(ctx)); err != nil {
		return o, err
	}
	o.Did += ", " + a.end() + ", ejected"
	_, err = ctl.WithdrawMedium(context.WithoutCancel(ctx), b.Node)
	return o, err
}

func (a *attachment) kind() deploy.MediumKind {
	if a.install {
		return deploy.InstallMedium
	}
	return deploy.SiteMedium
}

// end is what is waited for, in words.
func (a *attachment) end() string {
	if a.install {
		return "installed"
	}
	return "checked in"
}

func (a *attachment) order(b bmc.BMC) admin.MediumOrder {
	o := admin.MediumOrder{Node: b.Node, Kind: a.kind(), Image: a.image, Server: a.server}
	if a.from != "" {
		o.From, _ = netip.ParseAddr(a.from) // any: none
	} else {
		o.From, _ = netip.ParseAddr(b.Host) // a name: none
	}
	return o
}

// ends are the check-ins that an image is there for.
var ends = map[deploy.MediumKind]map[string]bool{
	deploy.SiteMedium:    {"booted": true, "phone-home": true, "registered": true},
	deploy.InstallMedium: {"installed": true, "booted": true, "phone-home": true},
}

// errSaid ends a watch.
var errSaid = errors.New("said")

// watch waits until the node says that it needs the image no more.
func (a *attachment) watch(ctx context.Context, ctl *admin.Client, name string) error {
	err := ctl.Watch(ctx, func(e timeline.Event) error {
		switch {
		case e.Node != name || e.Step != timeline.CheckIn || e.Err != "":
			return nil
		case e.Action == "failed":
			return fmt.Errorf("the node said that it failed: %s", e.Detail)
		case ends[a.kind()][e.Action]:
			return errSaid
		}
		return nil
	})
	switch {
	case errors.Is(err, errSaid):
		return nil
	case err == nil:
		return fmt.Errorf("not %s within %v: the image is still in the drive", a.end(), a.wait)
	}
	return err
}

func bmcDetachCommand() *cobra.Command {
	var s bmcSite
	cmd := &cobra.Command{
		Use:     "detach NODES [flags]",
		Short:   "Take the image of bmc attach out of the virtual CD drive",
		Long:    "Takes the image out of the virtual CD drive, if there is one, and has the daemon\nend it: whoever has its URL can read it no more.",
		Example: "  bootctl bmc detach edge-01",
	}
	fleetCommand(cmd, &s, func(ctx context.Context, b bmc.BMC) (bmcOutcome, error) {
		had, err := client(cmd).WithdrawMedium(ctx, b.Node)
		if err != nil {
			return bmcOutcome{}, &bmc.Error{Node: b.Node, Host: b.Host, Step: "end image", Err: explained(err)}
		}
		ejected, err := b.EjectMedia(ctx)
		return bmcOutcome{Changed: had || ejected, Did: "detached"}, err
	})
	s.overRedfish(cmd)
	return cmd
}
