package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// subnet and host write the smallest valid list items around the text of a
// fault; the text begins at column 41 and 66.
func subnet(s string) string { return "subnets: [{interface: e, subnet: 10.1.0.0/16, " + s + "}]" }

func host(s string) string {
	return "nodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01], " + s + "}]"
}

func role(s string) string { return "roles: [{name: r, dir: d, squashfs: [s], " + s + "}]" }

// Each row has one fault and its own whole message. A %P stands for the
// position of the "|" in the text, which is taken out.
func TestFaults(t *testing.T) {
	long := strings.Repeat("x", 500)
	for _, tt := range []struct{ text, want string }{
		// the file
		{"", `x.yaml: file is empty: start from what bootd config init prints`},
		{"# only a comment\n", `x.yaml: file is empty: start from what bootd config init prints`},
		{"---\n", `x.yaml: file is empty: start from what bootd config init prints`},
		{"root: /a\nstate: /b\xff", `x.yaml:2:10: not UTF-8 text`},
		{"\xff\xfer\x00o\x00", `x.yaml:1:1: not UTF-8 text`},
		{"root: /a\n---\n|state: /b\n", `x.yaml:%P: a second YAML document: the file must be one`},
		{"|- root\n", `x.yaml:%P: a list, where the file must be keys and values`},
		{"|root\n", `x.yaml:%P: "root", where the file must be keys and values`},
		{"log:\n|\tlevel: info\n", `x.yaml:%P: not valid YAML: a tab in the indentation, where only spaces are allowed`},
		{"subnets: |[{interface: eth1}\n", `x.yaml:%P: not valid YAML: sequence end token ']' not found`},
		{"root: |&a /a\n", `x.yaml:%P: anchors and aliases (& and *) are not allowed: quote the value if it is text`},
		{"root: |*a\n", `x.yaml:%P: anchors and aliases (& and *) are not allowed: quote the value if it is text`},
		{"root: |!!str a\n", `x.yaml:%P: tags (!) are not allowed: quote the value if it is text`},
		{"log:\n  |<<: {level: info}\n", `x.yaml:%P: merge keys (<<) are not allowed`},
		{"|? root\n: /a\n", `x.yaml:%P: explicit keys ("? key") are not allowed: write "key: value"`},
		{"|%YAML 1.2\n---\nroot: /a\n", `x.yaml:%P: directives (%) are not allowed: quote the value if it is text`},
		{"root: " + strings.Repeat("[", 19) + "|[", `x.yaml:%P: nested more than 20 deep`},
		{strings.Repeat("- ", 20) + "|- a", `x.yaml:%P: nested more than 20 deep`},
		{"a: {" + strings.Repeat("b: 1, ", 200) + "b|: 1}", `x.yaml:%P: more than 200 keys in one mapping`},
		{strings.Repeat("a: 1\n", 200) + "a|: 1", `x.yaml:%P: more than 200 keys in one mapping`},

		{"http: {|port}\n", `x.yaml:%P: "port" is a key without a colon and a value`},
		{"http: {port: 80, |'port' }\n", `x.yaml:%P: "port" is a key without a colon and a value`},

		// keys and kinds
		{"root: /a\n|subnet: []\n", `x.yaml:%P: unknown key "subnet": did you mean "subnets"?`},
		{"|Root: /a\n", `x.yaml:%P: unknown key "Root": did you mean "root"?`},
		{"|colour: red\n", `x.yaml:%P: unknown key "colour": known here are root, state, loaders, loader, log, admin, http, tftp, subnets, roles, nodes`},
		{"http: {|enabled: false}\n", `x.yaml:%P: http: unknown key "enabled": known here are port`},
		{subnet("|boot_lease: 20m"), `x.yaml:%P: subnets[0]: unknown key "boot_lease": did you mean "boot-lease"?`},
		{host("|mac: 1"), `x.yaml:%P: nodes[0] "a": unknown key "mac": did you mean "macs"?`},
		{"root: /a\nstate: /b\n|root: /c\n", `x.yaml:%P: key "root" is there twice, first on line 1`},
		{host("|name: b"), `x.yaml:%P: nodes[0] "a": key "name" is there twice, first on line 1`},
		{"subnets: |eth1\n", `x.yaml:%P: subnets: "eth1", where a list is wanted, such as [...]`},
		{"subnets:\n  |interface: eth1\n", `x.yaml:%P: subnets: keys and values, where a list is wanted, such as [...]`},
		{"subnets: [|eth1]\n", `x.yaml:%P: subnets[0]: "eth1", where keys and values are wanted`},
		{"root: |[/a]\n", `x.yaml:%P: root: a list, where one value is wanted`},
		{"root:\n  |a: b\n", `x.yaml:%P: root: keys and values, where one value is wanted`},
		{"log: |info\n", `x.yaml:%P: log: "info", where keys and values are wanted`},
		{"root: |\"/a\\tb\"\n", `x.yaml:%P: root: "/a\tb" holds U+0009, which is not a printable character`},
		{"root: |/a\u200b\n", `x.yaml:%P: root: "/a\u200b" holds U+200B, which is not a printable character`},

		// paths, ports, words
		{"root: |www\n", `x.yaml:%P: root: "www" is not an absolute path`},
		{"root: |/\n", `x.yaml:%P: root: "/" would serve every file of this host`},
		{"state: |./state\n", `x.yaml:%P: state: "./state" is not an absolute path`},
		{"state: |/var/www/../www/x\n", `x.yaml:%P: state: "/var/www/x" is inside root "/var/www", which is served to everybody`},
		{"root: /a\nstate: |/a\n", `x.yaml:%P: state: "/a" is inside root "/a", which is served to everybody`},
		{"loaders: |x\n", `x.yaml:%P: loaders: "x" is not an absolute path`},
		{"loader: |snponly.efi\n", `x.yaml:%P: loader: "snponly.efi" is not one of snponly, ipxe, grub, snponly-shim, ipxe-shim, grub-shim`},
		{"admin: {socket: |x}\n", `x.yaml:%P: admin: socket: "x" is not an absolute path`},
		{"admin: {socket: |/var/www/s}\n", `x.yaml:%P: admin: socket: "/var/www/s" is inside root "/var/www", which is served to everybody`},
		{"admin: {socket: |/" + long[:107] + "}\n", `x.yaml:%P: admin: socket: "/` + long[:107] + `" is 108 bytes long: the system allows 107 for a socket`},
		{"log: {level: |loud}\n", `x.yaml:%P: log: level: "loud" is not one of info, debug, warn, error`},
		{"log: {format: |xml}\n", `x.yaml:%P: log: format: "xml" is not one of text, json`},
		{"log: {format: |" + long + "}\n", `x.yaml:%P: log: format: "` + long[:399] + `...`},
		{"http: {port: |0}\n", `x.yaml:%P: http: port: "0" is not a port from 1 to 65535`},
		{"http: {port: |65536}\n", `x.yaml:%P: http: port: "65536" is not a port from 1 to 65535`},
		{"http: {port: |-1}\n", `x.yaml:%P: http: port: "-1" is not a port from 1 to 65535`},
		{"tftp: {port: |tftp}\n", `x.yaml:%P: tftp: port: "tftp" is not a port from 1 to 65535`},
		{"tftp: {enabled: |no}\n", `x.yaml:%P: tftp: enabled: "no" is not true or false`},

		// subnets
		{"subnets: [|{subnet: 10.1.0.0/16}]", `x.yaml:%P: subnets[0]: interface: missing`},
		{"subnets: [|~]", `x.yaml:%P: subnets[0]: interface: missing`},
		{"subnets: [{interface: |../eth1}]", `x.yaml:%P: subnets[0]: interface: "../eth1" is not the name of an interface such as eth1`},
		{"subnets: [{interface: |sixteen-letters-}]", `x.yaml:%P: subnets[0]: interface: "sixteen-letters-" is not the name of an interface such as eth1`},
		{"subnets: [{interface: e, subnet: |10.1.0.0}]", `x.yaml:%P: subnets[0]: subnet: "10.1.0.0" is not an IPv4 network such as 10.1.0.0/16`},
		{"subnets: [{interface: e, subnet: |'fd00::/64'}]", `x.yaml:%P: subnets[0]: subnet: "fd00::/64" is not an IPv4 network such as 10.1.0.0/16`},
		{"subnets: [{interface: e, subnet: |10.1.0.9/16}]", `x.yaml:%P: subnets[0]: subnet: "10.1.0.9/16" has bits set after the prefix: write 10.1.0.0/16`},
		{"subnets: [{interface: e, subnet: |10.1.0.0/31}]", `x.yaml:%P: subnets[0]: subnet: "10.1.0.0/31" has no length from /8 to /30`},
		{"subnets: [{interface: e, subnet: |224.0.0.0/8}]", `x.yaml:%P: subnets[0]: subnet: "224.0.0.0/8" is not a network of machines`},
		{subnet("server: |10.2.0.1"), `x.yaml:%P: subnets[0]: server: 10.2.0.1 is not within subnet 10.1.0.0/16`},
		{subnet("server: |eth1"), `x.yaml:%P: subnets[0]: server: "eth1" is not an IPv4 address such as 10.1.0.1`},
		{subnet("router: |10.1.0.0"), `x.yaml:%P: subnets[0]: router: 10.1.0.0 is the network address of 10.1.0.0/16`},
		{subnet("router: |10.1.255.255"), `x.yaml:%P: subnets[0]: router: 10.1.255.255 is the broadcast address of 10.1.0.0/16`},
		{subnet("pools: |10.1.1.1-10.1.1.9"), `x.yaml:%P: subnets[0]: pools: "10.1.1.1-10.1.1.9", where a list is wanted, such as [...]`},
		{subnet("pools: [10.1.1.1, |10.1.0.300]"), `x.yaml:%P: subnets[0]: pools[1]: "10.1.0.300" is not a range of IPv4 addresses such as 10.1.1.100-10.1.1.200`},
		{subnet("pools: [|10.1.1.0/24]"), `x.yaml:%P: subnets[0]: pools[0]: "10.1.1.0/24" is not a range of IPv4 addresses such as 10.1.1.100-10.1.1.200`},
		{subnet("pools: [|10.1.1.200-10.1.1.100]"), `x.yaml:%P: subnets[0]: pools[0]: "10.1.1.200-10.1.1.100" is reversed: write 10.1.1.100-10.1.1.200`},
		{subnet("pools: [|10.2.1.1-10.2.1.9]"), `x.yaml:%P: subnets[0]: pools[0]: 10.2.1.1-10.2.1.9 is not within subnet 10.1.0.0/16`},
		{subnet("pools: [|10.1.255.9-10.2.0.9]"), `x.yaml:%P: subnets[0]: pools[0]: 10.1.255.9-10.2.0.9 is not within subnet 10.1.0.0/16`},
		{subnet("pools: [|10.1.0.0-10.1.0.9]"), `x.yaml:%P: subnets[0]: pools[0]: 10.1.0.0-10.1.0.9 holds the network address of 10.1.0.0/16: begin at 10.1.0.1`},
		{subnet("pools: [|10.1.255.9-10.1.255.255]"), `x.yaml:%P: subnets[0]: pools[0]: 10.1.255.9-10.1.255.255 holds the broadcast address of 10.1.0.0/16: end at 10.1.255.254`},
		{subnet("pools: [|10.1.255.255]"), `x.yaml:%P: subnets[0]: pools[0]: 10.1.255.255 is the broadcast address of 10.1.0.0/16`},
		{subnet("pools: [10.1.1.100-10.1.1.200, |10.1.1.150-10.1.1.160]"), `x.yaml:%P: subnets[0]: pools[1]: 10.1.1.150-10.1.1.160 overlaps 10.1.1.100-10.1.1.200 of subnets[0]: pools[0]`},
		{subnet("pools: [10.1.1.5, |10.1.1.1-10.1.1.5]"), `x.yaml:%P: subnets[0]: pools[1]: 10.1.1.1-10.1.1.5 overlaps 10.1.1.5 of subnets[0]: pools[0]`},
		{subnet("pools: [|~]"), `x.yaml:%P: subnets[0]: pools[0]: missing`},
		{subnet("pools: [|10.1.1.1-10.1.1.3], exclude: [10.1.1.2-10.1.1.9, 10.1.1.1]"), `x.yaml:%P: subnets[0]: pools[0]: 10.1.1.1-10.1.1.3 has no address left: all are excluded, or are server, router, dns or ntp`},
		{subnet("pools: [|10.1.0.1], router: 10.1.0.1"), `x.yaml:%P: subnets[0]: pools[0]: 10.1.0.1 has no address left: all are excluded, or are server, router, dns or ntp`},
		{subnet("exclude: [|10.2.0.1]"), `x.yaml:%P: subnets[0]: exclude[0]: 10.2.0.1 is not within subnet 10.1.0.0/16`},
		{subnet("exclude: [|10.1.0.9-10.1.0.1]"), `x.yaml:%P: subnets[0]: exclude[0]: "10.1.0.9-10.1.0.1" is reversed: write 10.1.0.1-10.1.0.9`},
		{subnet("dns: |10.1.0.1"), `x.yaml:%P: subnets[0]: dns: "10.1.0.1", where a list is wanted, such as [...]`},
		{subnet("dns: [10.1.0.1, |'fd00::1']"), `x.yaml:%P: subnets[0]: dns[1]: "fd00::1" is not an IPv4 address such as 10.1.0.1`},
		{subnet("dns: [|0.0.0.0]"), `x.yaml:%P: subnets[0]: dns[0]: "0.0.0.0" is not the address of a machine`},
		{subnet("dns: |[1.1.1.1, 1.1.1.1, 1.1.1.1, 1.1.1.1, 1.1.1.1, 1.1.1.1, 1.1.1.1, 1.1.1.1, 1.1.1.1]"), `x.yaml:%P: subnets[0]: dns: 9 addresses: a DHCP reply has room for 8`},
		{subnet("ntp: [|pool.ntp.org]"), `x.yaml:%P: subnets[0]: ntp[0]: "pool.ntp.org" is not an IPv4 address such as 10.1.0.1`},
		{subnet("ntp: [|]"), ``},
		{subnet("ntp: [|'']"), `x.yaml:%P: subnets[0]: ntp[0]: missing`},
		{subnet("domain: |mtl_x"), `x.yaml:%P: subnets[0]: domain: "mtl_x" is not a DNS name such as mtl.example.net`},
		{subnet("domain: |mtl..x"), `x.yaml:%P: subnets[0]: domain: "mtl..x" is not a DNS name such as mtl.example.net`},
		{subnet("domain: |" + long[:64]), `x.yaml:%P: subnets[0]: domain: "` + long[:64] + `" is not a DNS name such as mtl.example.net`},
		{subnet("lease: |1d"), `x.yaml:%P: subnets[0]: lease: "1d" is not a time such as 20m or 1h30m`},
		{subnet("lease: |4m59s"), `x.yaml:%P: subnets[0]: lease: "4m59s" is shorter than 5m`},
		{subnet("lease: |721h"), `x.yaml:%P: subnets[0]: lease: "721h" is longer than 720h`},
		{subnet("lease: |5m0.5s"), `x.yaml:%P: subnets[0]: lease: "5m0.5s" is not a whole number of seconds`},
		{subnet("boot-lease: |9m"), `x.yaml:%P: subnets[0]: boot-lease: "9m" is shorter than 10m`},
		{subnet("boot-lease: |31m"), `x.yaml:%P: subnets[0]: boot-lease: "31m" is longer than 30m`},
		{subnet("probe: |2s"), `x.yaml:%P: subnets[0]: probe: "2s" is not off, or a time up to 1s such as 200ms`},
		{subnet("authoritative: |maybe"), `x.yaml:%P: subnets[0]: authoritative: "maybe" is not true or false`},
		{"subnets: [{interface: e}, {interface: |e}]", `x.yaml:%P: subnets[1]: interface: "e" is that of subnets[0] too: give both their subnet`},
		{"subnets: [{interface: e, subnet: 10.1.0.0/16}, {interface: |e}]", `x.yaml:%P: subnets[1]: interface: "e" is that of subnets[0] too: give both their subnet`},
		{"subnets: [{interface: e, subnet: 10.1.0.0/16}, {interface: e, subnet: |10.1.0.0/16}]", `x.yaml:%P: subnets[1]: subnet: 10.1.0.0/16 overlaps 10.1.0.0/16 of subnets[0]`},
		{"subnets: [{interface: e, subnet: 10.1.2.0/24}, {interface: f, subnet: 10.3.0.0/16}, {interface: g, subnet: |10.1.0.0/16}]", `x.yaml:%P: subnets[2]: subnet: 10.1.0.0/16 overlaps 10.1.2.0/24 of subnets[0]`},
		{"subnets: [{interface: e, pools: [10.1.0.1-10.1.0.9]}, {interface: f, pools: [|10.1.0.9-10.1.0.20]}]", `x.yaml:%P: subnets[1]: pools[0]: 10.1.0.9-10.1.0.20 overlaps 10.1.0.1-10.1.0.9 of subnets[0]: pools[0]`},

		// roles
		{"roles: [|{dir: d, squashfs: [s]}]", `x.yaml:%P: roles[0]: name: missing`},
		{"roles: [{name: |K8s, dir: d, squashfs: [s]}]", `x.yaml:%P: roles[0] "K8s": name: "K8s" is not a name in lower case (letters, digits, hyphens)`},
		{"roles: [{name: r, dir: d, squashfs: [s]}, {name: |r, dir: d, squashfs: [s]}]", `x.yaml:%P: roles[1] "r": name: defined twice`},
		{"roles: [|{name: r, squashfs: [s]}]", `x.yaml:%P: roles[0] "r": dir: missing`},
		{"roles: [|{name: r, dir: d}]", `x.yaml:%P: roles[0] "r": squashfs: missing`},
		{"roles: [{name: kubernetes, dir: |a/b}]", `x.yaml:%P: roles[0] "kubernetes": dir: "a/b" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{"roles: [{name: kubernetes, dir: |..}]", `x.yaml:%P: roles[0] "kubernetes": dir: ".." is not one plain path element (letters, digits, . _ + -, no "..")`},
		{"roles: [{name: kubernetes, squashfs: [|'k*']}]", `x.yaml:%P: roles[0] "kubernetes": squashfs[0]: "k*" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{"roles: [{name: kubernetes, squashfs: [a, |a/b]}]", `x.yaml:%P: roles[0] "kubernetes": squashfs[1]: "a/b" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{"roles: [{name: kubernetes, squashfs: [|'']}]", `x.yaml:%P: roles[0] "kubernetes": squashfs[0]: missing`},
		{"roles: [{name: kubernetes, squashfs: [|secure-kubernetes]}]", `x.yaml:%P: roles[0] "kubernetes": squashfs[0]: "secure-kubernetes": write it without "secure-", which is always preferred`},
		{"roles: [{name: kubernetes, squashfs: [|k.squashfs]}]", `x.yaml:%P: roles[0] "kubernetes": squashfs[0]: "k.squashfs": write it without release and .squashfs`},
		{role("loader: |shim"), `x.yaml:%P: roles[0] "r": loader: "shim" is not one of snponly, ipxe, grub, snponly-shim, ipxe-shim, grub-shim`},
		{host("loader: |iPXE"), `x.yaml:%P: nodes[0] "a": loader: "iPXE" is not one of snponly, ipxe, grub, snponly-shim, ipxe-shim, grub-shim`},
		{role("channel: |beta"), `x.yaml:%P: roles[0] "r": channel: "beta" is not one of stable, unstable`},
		{role("release: |1/2"), `x.yaml:%P: roles[0] "r": release: "1/2" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{role("release: |1..2"), `x.yaml:%P: roles[0] "r": release: "1..2" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{role("args: |\"a\\nb\""), `x.yaml:%P: roles[0] "r": args: "a\nb" holds U+000A, which is not a printable character`},

		// nodes
		{"nodes: [|{role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0]: name: missing`},
		{"nodes: [{name: |NCN, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "NCN": name: "NCN" is not a host name in lower case (letters, digits, hyphens)`},
		{"nodes: [{name: |../etc, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "../etc": name: "../etc" is not a host name in lower case (letters, digits, hyphens)`},
		{"nodes: [{name: |ephemeral, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "ephemeral": name: "ephemeral" is a directory of its own under the web root`},
		{"nodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01]}, {name: |a, role: kubernetes, macs: [52:54:00:00:00:02]}]", `x.yaml:%P: nodes[1] "a": name: used twice`},
		{"nodes: [|{name: a, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "a": role: missing`},
		{"nodes: [{name: a, role: |k8s, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "a": role: "k8s" is not defined`},
		{"nodes: [|{name: a, role: kubernetes}]", `x.yaml:%P: nodes[0] "a": macs: a node needs at least one MAC address to be known by`},
		{"nodes: [{name: a, role: kubernetes, macs: |52:54:00:00:00:01}]", `x.yaml:%P: nodes[0] "a": macs: "52:54:00:00:00:01", where a list is wanted, such as [...]`},
		{"nodes: [{name: a, role: kubernetes, macs: [|10.1.0.1]}]", `x.yaml:%P: nodes[0] "a": macs[0]: "10.1.0.1" is not a MAC address such as 52:54:00:aa:bb:07`},
		{"nodes: [{name: a, role: kubernetes, macs: [|'']}]", `x.yaml:%P: nodes[0] "a": macs[0]: missing`},
		{"nodes: [{name: a, role: kubernetes, macs: [|00:00:00:00:00:00]}]", `x.yaml:%P: nodes[0] "a": macs[0]: "00:00:00:00:00:00" is the zero address, which no NIC has`},
		{"nodes: [{name: a, role: kubernetes, macs: [|01:00:5e:00:00:01]}]", `x.yaml:%P: nodes[0] "a": macs[0]: 01:00:5e:00:00:01 is a multicast address, which no NIC has`},
		{"nodes: [{name: a, role: kubernetes, macs: [|ff:ff:ff:ff:ff:ff]}]", `x.yaml:%P: nodes[0] "a": macs[0]: ff:ff:ff:ff:ff:ff is a multicast address, which no NIC has`},
		{"nodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01, |52-54-00-00-00-01]}]", `x.yaml:%P: nodes[0] "a": macs[1]: 52:54:00:00:00:01 is in the list twice`},
		{"nodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01]}, {name: b, role: kubernetes, macs: [|525400000001]}]", `x.yaml:%P: nodes[1] "b": macs[0]: 52:54:00:00:00:01 belongs to node "a" too`},
		{host("bmc: |52:54"), `x.yaml:%P: nodes[0] "a": bmc: "52:54" is not a MAC address such as 52:54:00:aa:bb:07`},
		{host("bmc: |52:54:00:00:00:01"), `x.yaml:%P: nodes[0] "a": bmc: 52:54:00:00:00:01 is a boot MAC of node "a"`},
		{host("bmc: |00:00:00:00:00:00"), `x.yaml:%P: nodes[0] "a": bmc: "00:00:00:00:00:00" is the zero address, which no NIC has`},
		{host("bmc: |ff:ff:ff:ff:ff:ff"), `x.yaml:%P: nodes[0] "a": bmc: ff:ff:ff:ff:ff:ff is a multicast address, which no NIC has`},
		{host("uuid: |123"), `x.yaml:%P: nodes[0] "a": uuid: "123" is not a UUID such as 11223344-5566-7788-99aa-bbccddeeff00`},
		{host("uuid: |03000200-0400-0500-0006-000700080009"), `x.yaml:%P: nodes[0] "a": uuid: "03000200-0400-0500-0006-000700080009" is a placeholder that many machines have`},
		{host("address: |10.1.0.300"), `x.yaml:%P: nodes[0] "a": address: "10.1.0.300" is not an IPv4 address such as 10.1.0.1`},
		{host("address: |'::ffff:10.1.0.3'"), `x.yaml:%P: nodes[0] "a": address: "::ffff:10.1.0.3" is not an IPv4 address such as 10.1.0.1`},
		{host("boot: |disk"), `x.yaml:%P: nodes[0] "a": boot: "disk" is not one of release, local, hold`},
		{host("release: |../1"), `x.yaml:%P: nodes[0] "a": release: "../1" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{subnet("") + "\n" + host("address: |10.2.0.9"), `x.yaml:%P: nodes[0] "a": address: 10.2.0.9 is not within any subnet`},
		{subnet("") + "\n" + host("address: |10.1.0.0"), `x.yaml:%P: nodes[0] "a": address: 10.1.0.0 is the network address of 10.1.0.0/16`},
		{subnet("") + "\n" + host("address: |10.1.255.255"), `x.yaml:%P: nodes[0] "a": address: 10.1.255.255 is the broadcast address of 10.1.0.0/16`},
		{subnet("server: 10.1.0.1") + "\n" + host("address: |10.1.0.1"), `x.yaml:%P: nodes[0] "a": address: 10.1.0.1 is the server of subnet 10.1.0.0/16`},
		{subnet("router: 10.1.0.2") + "\n" + host("address: |10.1.0.2"), `x.yaml:%P: nodes[0] "a": address: 10.1.0.2 is the router of subnet 10.1.0.0/16`},
		{host("address: 10.1.0.9") + "\nsubnets: [{interface: e}]", ``}, // known at start only: Resolve
		{host("address: 10.1.0.9"), ``}, // no DHCP
		{"nodes:\n- {name: a, role: kubernetes, macs: [52:54:00:00:00:01], address: 10.1.0.9}\n- {name: b, role: kubernetes, macs: [52:54:00:00:00:02], address: |10.1.0.9}", `x.yaml:%P: nodes[1] "b": address: 10.1.0.9 is reserved for node "a" too`},
		{"nodes:\n- {name: a, role: kubernetes, macs: [52:54:00:00:00:01], serial: S1}\n- {name: b, role: kubernetes, macs: [52:54:00:00:00:02], serial: |S1}", `x.yaml:%P: nodes[1] "b": serial: "S1" belongs to node "a" too`},
	} {
		text, want := tt.text, tt.want
		if i := strings.IndexByte(text, '|'); i >= 0 {
			line := strings.Count(text[:i], "\n") + 1
			column := i - strings.LastIndexByte(text[:i], '\n')
			want = strings.Replace(want, "%P", fmt.Sprintf("%d:%d", line, column), 1)
			text = text[:i] + text[i+1:]
		}
		c, err := Parse("x.yaml", []byte(text))
		if want == "" {
			want = "<nil>"
		} else if c != nil {
			t.Errorf("%.100q: got a configuration with an error", text)
		}
		wantError(t, err, want)
	}
}

// Whatever is wrong is told at once, in the order of the file, and nothing that
// only follows from it.
func TestAllFaultsAtOnce(t *testing.T) {
	text := `nodes:
  - name: ncn-w001
    role: kubernets
    macs: [52:54:00:00:00:01]
  - name: ncn-w002
    macs:
      - 52:54:00:00:00:01
      - zz
    bmc: "10.1.0.300"
    adress: 10.1.0.9
root: www
subnets:
  - interface: eth1
    subnet: 10.1.0.0
    lease: forever
    pools:
      - 10.1.1.1-10.1.1.9
      - 10.1.0.300
  - interface: eth1
    subnet: 10.3.0.0/16
roles:
  - name: gpu
    squashfs: gpu
`
	_, err := Parse("bootd.yaml", []byte(text))
	wantError(t, err, `bootd.yaml:3:11: nodes[0] "ncn-w001": role: "kubernets" is not defined
bootd.yaml:5:5: nodes[1] "ncn-w002": role: missing
bootd.yaml:7:9: nodes[1] "ncn-w002": macs[0]: 52:54:00:00:00:01 belongs to node "ncn-w001" too
bootd.yaml:8:9: nodes[1] "ncn-w002": macs[1]: "zz" is not a MAC address such as 52:54:00:aa:bb:07
bootd.yaml:9:10: nodes[1] "ncn-w002": bmc: "10.1.0.300" is not a MAC address such as 52:54:00:aa:bb:07
bootd.yaml:10:5: nodes[1] "ncn-w002": unknown key "adress": did you mean "address"?
bootd.yaml:11:7: root: "www" is not an absolute path
bootd.yaml:14:13: subnets[0]: subnet: "10.1.0.0" is not an IPv4 network such as 10.1.0.0/16
bootd.yaml:15:12: subnets[0]: lease: "forever" is not a time such as 20m or 1h30m
bootd.yaml:18:9: subnets[0]: pools[1]: "10.1.0.300" is not a range of IPv4 addresses such as 10.1.1.100-10.1.1.200
bootd.yaml:22:5: roles[0] "gpu": dir: missing
bootd.yaml:23:15: roles[0] "gpu": squashfs: "gpu", where a list is wanted, such as [...]`)

	var list Faults
	if !errors.As(err, &list) || len(list) != 12 {
		t.Fatalf("got %T of %d, want 12 Faults", err, len(list))
	}
	want := Fault{"bootd.yaml", 8, 9, `nodes[1] "ncn-w002": macs[1]`, `"zz" is not a MAC address such as 52:54:00:aa:bb:07`}
	if !reflect.DeepEqual(list[3], want) {
		t.Errorf("got  %+v\nwant %+v", list[3], want)
	}
}

// A file of any kind is refused in reasonable time. At the size limit most of
// these take the YAML parser alone hours, or all of the stack.
func TestHostileFiles(t *testing.T) {
	const size = 1 << 18
	for _, s := range []string{"[", "{a: ", "- ", "? ", "&a ", "a: 1\n", "a:\n- ", "[]", "{}", "\"", "---\n", "a: [\n", "a:\n", "-\n", "a: [{a}, ", "- {a}\n", "- {a: }\n", "- [a: ]\n", "- a: [a]\n  b: ''\n"} {
		begin := time.Now()
		if _, err := Parse("x.yaml", []byte(strings.Repeat(s, size/len(s)))); err == nil {
			t.Errorf("a file of %q: got no error", s)
		}
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("a file of %q: took %v", s, d)
		}
	}
}
