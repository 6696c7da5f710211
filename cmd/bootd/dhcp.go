package main

import (
	"bootd/dhcp"
	"bootd/internal/config"
)

// subnets turns the configuration into what dhcp takes.
func subnets(cfg *config.Config) []dhcp.Subnet {
	out := make([]dhcp.Subnet, len(cfg.Subnets))
	for i, s := range cfg.Subnets {
		out[i] = dhcp.Subnet{
			Interface: s.Interface, Relayed: s.Relayed, Prefix: s.Prefix, Server: s.Server,
			Pools: pools(s.Pools), Exclude: ranges(s.Excluded()),
			Router: s.Router, DNS: s.DNS, NTP: s.NTP, Domain: s.Domain, Options: options(s.Told()),
			Lease: s.Lease, MinLease: s.MinLease, MaxLease: s.MaxLease, BootLease: s.BootLease, Renew: s.Renew, Rebind: s.Rebind,
			Authoritative: s.Mode == config.Authoritative, Proxy: s.Mode == config.Proxy, Unknown: policies[s.Unknown], ByClientID: s.ByClientID,
			Probe: s.Probe, RapidCommit: s.RapidCommit, SubnetSelection: s.Selection, IPv6Only: s.IPv6Only,
		}
	}
	return out
}

var policies = [...]dhcp.Unknown{
	config.LeaseUnknown: dhcp.LeaseUnknown, config.QuarantineUnknown: dhcp.QuarantineUnknown, config.IgnoreUnknown: dhcp.IgnoreUnknown,
}

// classes turns the configuration into what dhcp takes. Names of classes that
// exist without being written are the same in both: a test holds that.
func classes(cfg *config.Config) []dhcp.Class {
	out := make([]dhcp.Class, len(cfg.Classes))
	for i, c := range cfg.Classes {
		m := dhcp.Match{
			VendorClass: c.Match.VendorClass, UserClass: c.Match.UserClass,
			CircuitID: c.Match.CircuitID, RemoteID: c.Match.RemoteID, MAC: c.Match.MAC, UUID: c.Match.UUID,
		}
		for _, a := range c.Match.Arch {
			m.Arch = append(m.Arch, dhcp.Arch(a))
		}
		out[i] = dhcp.Class{Name: c.Name, Match: m, Options: options(c.Options), Lease: c.Lease, Loader: c.Loader}
	}
	return out
}

// nodeOptions turns the options of the nodes into what dhcp takes, once, so
// that no packet has to.
func nodeOptions(cfg *config.Config) map[string][]dhcp.Option {
	out := make(map[string][]dhcp.Option, len(cfg.NodeOptions))
	for name, list := range cfg.NodeOptions {
		out[name] = options(list)
	}
	return out
}

func options(in []config.DHCPOption) []dhcp.Option {
	out := make([]dhcp.Option, len(in))
	for i, o := range in {
		out[i] = dhcp.Option(o)
	}
	return out
}

func pools(in []config.Pool) []dhcp.Pool {
	out := make([]dhcp.Pool, len(in))
	for i, p := range in {
		out[i] = dhcp.Pool{Range: dhcp.Range(p.Range), Class: p.Class}
	}
	return out
}

func ranges(in []config.Range) []dhcp.Range {
	out := make([]dhcp.Range, len(in))
	for i, r := range in {
		out[i] = dhcp.Range(r)
	}
	return out
}
