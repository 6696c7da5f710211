package takeover

import (
	"slices"
	"strings"
)

// Reasons why directives have no counterpart.
const (
	noDNS    = "DNS: bootd answers no names; dnsmasq can go on with that, without dhcp-range"
	noV6     = "IPv6: bootd serves none"
	ownBoot  = "what to boot: bootd says that itself, to each machine by its architecture and role (see loader: and bootctl set-links)"
	ownFiles = "files for TFTP: bootd serves its loaders only (see loaders:)"
	itself   = "about dnsmasq itself"
	noMeans  = "bootd has nothing like it"
	unknown  = "not a directive that dnsmasq 2.90 tells of"
)

// reasons are those of the directives that are not carried over, and the empty
// one of those that are.
var reasons = byKey(map[string]string{
	"": "interface except-interface no-dhcp-interface dhcp-authoritative enable-tftp no-ping dhcp-rapid-commit",
	noDNS: `add-cpe-id add-mac add-subnet addn-hosts address alias all-servers auth-peer auth-sec-servers auth-server auth-soa auth-ttl auth-zone
		bogus-nxdomain bogus-priv cache-rr cache-size caa-record clear-on-reload cname connmark-allowlist connmark-allowlist-enable
		dns-forward-max dns-loop-detect dnssec dnssec-check-unsigned dnssec-debug dnssec-limits dnssec-no-timecheck dnssec-timestamp dns-rr domain-needed dynamic-host
		edns-packet-max expand-hosts fast-dns-retry filter-A filter-AAAA filter-rr filterwin2k hostsdir ignore-address interface-name ipset
		local local-service local-ttl localise-queries localmx log-queries max-cache-ttl max-port max-tcp-connections max-ttl min-cache-ttl
		min-port mx-host mx-target naptr-record neg-ttl nftset no-0x20-encode no-hosts no-ident no-negcache no-poll no-resolv no-round-robin
		port port-limit proxy-dnssec ptr-record query-port quiet-dhcp6 rebind-domain-ok rebind-localhost-ok resolv-file rev-server
		self-mx selfmx server servers-file srv-host stop-dns-rebind strict-order strip-mac strip-subnet synth-domain trust-anchor txt-record
		umbrella use-stale-cache`,
	noV6:    "dhcp-duid enable-ra ra-param",
	ownBoot: "dhcp-boot pxe-prompt pxe-service dhcp-pxe-vendor dhcp-no-override",
	ownFiles: `tftp-root tftp-lowercase tftp-max tftp-mtu tftp-no-blocksize tftp-no-fail tftp-port-range tftp-secure tftp-single-port
		tftp-unique-root`,
	itself: `bind-dynamic bind-interfaces conntrack dumpfile dumpmask enable-dbus enable-ubus group keep-in-foreground listen-address
		log-async log-debug log-dhcp log-facility log-malloc no-daemon pid-file quiet-dhcp quiet-ra quiet-tftp test user version help`,
	noMeans: `bootp-dynamic bridge-interface dhcp-alternate-port dhcp-broadcast dhcp-client-update dhcp-fqdn dhcp-generate-names
		dhcp-ignore-clid dhcp-ignore-names dhcp-lease-max dhcp-luascript dhcp-name-match dhcp-option-pxe dhcp-proxy dhcp-relay
		dhcp-reply-delay dhcp-scriptuser dhcp-sequential-ip dhcp-subscrid dhcp-ttl leasefile-ro leasequery no-dhcpv4-interface
		no-dhcpv6-interface script-arp script-on-renewal shared-network tag-if`,
	"hosts of /etc/ethers: write them under nodes:":                                    "read-ethers",
	"leases: bootctl import dnsmasq --leases FILE takes them in":                       "dhcp-leasefile dhcp-lease",
	"what a program prints is not read: put it into a file, and name that with --conf": "conf-script",
	"a program that is told of leases: write it as leases: {hooks: [PROGRAM]}":         "dhcp-script",
})

// byKey turns lists of directives by their reason into reasons by directive.
func byKey(lists map[string]string) map[string]string {
	all := map[string]string{}
	for why, keys := range lists {
		for key := range strings.FieldsSeq(keys) {
			all[key] = why
		}
	}
	return all
}

// makeRest carries over what is said in a word, and notes what is not.
func (p *Plan) makeRest() {
	for _, l := range p.site.Config.Rest {
		why, known := reasons[l.Key]
		switch {
		case !known:
			p.note(unknown, l)
		case why != "":
			p.note(why, l)
		case l.Key == "no-ping":
			for _, s := range p.leasing() {
				s.set("probe", "off", l)
			}
		case l.Key == "dhcp-rapid-commit":
			for _, s := range p.leasing() {
				s.set("rapid-commit", "true", l)
			}
		}
	}
}

// leasing returns the subnets whose addresses we lease.
func (p *Plan) leasing() []*subnet {
	return slices.DeleteFunc(slices.Clone(p.subnets), func(s *subnet) bool { return s.proxy })
}

// makeIgnores carries over dhcp-ignore=tag:!known.
func (p *Plan) makeIgnores() {
	for _, i := range p.site.Config.Ignores {
		if !slices.Equal(i.Tags, []string{"!known"}) {
			p.note("machines that are not answered: bootd has only unknown: ignore, for all that are not in the inventory", i.Line)
			continue
		}
		for _, s := range p.subnets {
			s.set("unknown", "ignore", i.Line)
		}
	}
}
