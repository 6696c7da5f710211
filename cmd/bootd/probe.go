package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"bootd/dhcp"
	"bootd/internal/admin"
	"bootd/internal/config"
)

// Probe implements admin.Backend.
func (d *daemon) Probe(ctx context.Context, ifname string) ([]admin.Probe, error) {
	served := d.config().Subnets
	names := interfaces(served)
	if ifname != "" {
		if !slices.Contains(names, ifname) {
			return nil, fmt.Errorf("no subnet is on interface %q; there are %s", ifname, strings.Join(names, ", "))
		}
		names = []string{ifname}
	}
	list := make([]admin.Probe, len(names))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() error {
			answers, err := d.dhcp.Survey(ctx, name)
			list[i] = probe(local(served, name), answers)
			return err
		})
	}
	return list, g.Wait()
}

// interfaces returns where DHCP is served to machines that are on the link.
func interfaces(served []config.Subnet) (names []string) {
	for _, s := range served {
		if !s.Relayed && !slices.Contains(names, s.Interface) {
			names = append(names, s.Interface)
		}
	}
	return names
}

// local returns the subnet that a machine on an interface is in, when it is in
// no inventory and asks for no address.
func local(served []config.Subnet, ifname string) config.Subnet {
	i := slices.IndexFunc(served, func(s config.Subnet) bool { return s.Interface == ifname && !s.Relayed })
	return served[i]
}

// probe judges what was answered in a subnet.
func probe(s config.Subnet, answers []dhcp.Answer) admin.Probe {
	p := admin.Probe{Interface: s.Interface, Mode: s.Mode.String(), Offers: []admin.Offer{}}
	var ours, leased bool
	for _, a := range answers {
		p.Offers = append(p.Offers, admin.Offer{
			Ours: a.Ours, Server: a.Server, Source: a.Source, MAC: a.MAC, Addr: a.Addr, Next: a.Next,
			File: a.File, Class: a.Class, Vendor: hex.EncodeToString(a.Vendor), After: a.After,
		})
		ours = ours || a.Ours
		leased = leased || !a.Ours && a.Addr.IsValid()
		if !a.Ours && s.Mode == config.Authoritative && a.Addr.IsValid() {
			p.Trouble = append(p.Trouble, fmt.Sprintf("%v offers addresses too: stop it, or say mode: shared or proxy", a.Server))
		}
		if !a.Ours && (a.File != "" || strings.HasPrefix(a.Class, "PXEClient")) {
			p.Trouble = append(p.Trouble, fmt.Sprintf("%v says what to boot too: machines may take that", a.Server))
		}
	}
	if !ours && s.Unknown != config.IgnoreUnknown {
		p.Trouble = append(p.Trouble, "bootd itself made no offer: see its log, its pools and its loaders")
	}
	if !leased && s.Mode == config.Proxy {
		p.Trouble = append(p.Trouble, "no server offers an address, and bootd is only a proxy here")
	}
	return p
}
