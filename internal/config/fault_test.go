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

// option and class are as subnet, for one option and for a class.
func option(s string) string { return subnet("options: [|'" + s + "']") }

func class(s string) string { return "classes: [{name: c, " + s + "}]" }

func role(s string) string { return "roles: [{name: r, dir: d, squashfs: [s], " + s + "}]" }

// manyRoutes writes n routes of 9 bytes each.
func manyRoutes(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("10.2.%d.0/32 via 10.1.0.2", i))
	}
	return strings.Join(list, ", ")
}

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
		{"|colour: red\n", `x.yaml:%P: unknown key "colour": known here are root, state, loaders, loader, retries, kernels, signers, log, admin, http, tftp, leases, registration-token, bmc, subnets, classes, roles, nodes, registration`},
		{"http: {|enabled: false}\n", `x.yaml:%P: http: unknown key "enabled": known here are port, metadata`},
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
		{"kernels: |maybe\n", `x.yaml:%P: kernels: "maybe" is not one of warn, off, error`},
		{"signers: |a.pub\n", `x.yaml:%P: signers: "a.pub" is not an absolute path`},
		{role("hosts: [|'a[3-1]']"), `x.yaml:%P: roles[0] "r": hosts[0]: "a[3-1]": "3-1" ends before it begins`},
		{role("hosts: [|'']"), `x.yaml:%P: roles[0] "r": hosts[0]: missing`},
		{role("script-args: [|'rd.luks=0']"), `x.yaml:%P: roles[0] "r": script-args[0]: "rd.luks=0" is not NAME=VALUE for HOSTS, such as "rd.luks=0 for ncn-w*,fmn*"`},
		{role("script-args: [|'x=${y} for a*']"), `x.yaml:%P: roles[0] "r": script-args[0]: "x=${y} for a*" is not NAME=VALUE for HOSTS, such as "rd.luks=0 for ncn-w*,fmn*"`},
		{role("script-args: [|'x=1 for A']"), `x.yaml:%P: roles[0] "r": script-args[0]: "A" is not a list of nodes such as ncn-m[001-003],ncn-s*`},
		{role("aliases: [|kernel]"), `x.yaml:%P: roles[0] "r": aliases[0]: "kernel" is a name that every boot directory has`},
		{role("aliases: [|kernel of rootfs]"), `x.yaml:%P: roles[0] "r": aliases[0]: "kernel" is a name that every boot directory has`},
		{role("aliases: [|vmlinuz of linux]"), `x.yaml:%P: roles[0] "r": aliases[0]: "linux" is not one of kernel, initrd.img.xz, rootfs`},
		{role("aliases: [|vmlinuz=kernel]"), `x.yaml:%P: roles[0] "r": aliases[0]: "vmlinuz=kernel": a name has no =`},
		{role("aliases: [a, |'']"), `x.yaml:%P: roles[0] "r": aliases[1]: missing`},
		{role("aliases: [|a/b]"), `x.yaml:%P: roles[0] "r": aliases[0]: "a/b" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{role("follow: |maybe"), `x.yaml:%P: roles[0] "r": follow: "maybe" is not true or false`},
		{role("require-signature: |true"), `x.yaml:%P: roles[0] "r": require-signature: signers: is missing, so no signature counts`},
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
		{"leases: {file: |dnsmasq.leases}\n", `x.yaml:%P: leases: file: "dnsmasq.leases" is not an absolute path`},
		{"leases: {file: |/var/www/boot/leases}\n", `x.yaml:%P: leases: file: "/var/www/boot/leases" is inside root "/var/www", which is served to everybody`},
		{"leases: {hooks: |/bin/true}\n", `x.yaml:%P: leases: hooks: "/bin/true", where a list is wanted, such as [...]`},
		{"leases: {hooks: [/bin/true, |hook]}\n", `x.yaml:%P: leases: hooks[1]: "hook" is not an absolute path`},
		{"leases: {hooks: [|'']}\n", `x.yaml:%P: leases: hooks[0]: missing`},

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
		{subnet("mode: |master"), `x.yaml:%P: subnets[0]: mode: "master" is not one of authoritative, shared, proxy`},
		{subnet("mode: proxy, pools: |[10.1.1.1-10.1.1.9]"), `x.yaml:%P: subnets[0]: pools: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, exclude: |[10.1.1.1]"), `x.yaml:%P: subnets[0]: exclude: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, router: |10.1.0.1"), `x.yaml:%P: subnets[0]: router: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, dns: |[10.1.0.1]"), `x.yaml:%P: subnets[0]: dns: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, ntp: |[10.1.0.1]"), `x.yaml:%P: subnets[0]: ntp: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, domain: |mtl"), `x.yaml:%P: subnets[0]: domain: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, search: |[mtl]"), `x.yaml:%P: subnets[0]: search: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, mtu: |9000"), `x.yaml:%P: subnets[0]: mtu: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, routes: |[10.9.0.0/16 via 10.1.0.1]"), `x.yaml:%P: subnets[0]: routes: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, options: |[150 ip 10.1.0.1]"), `x.yaml:%P: subnets[0]: options: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, lease: |1h"), `x.yaml:%P: subnets[0]: lease: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, min-lease: |10m"), `x.yaml:%P: subnets[0]: min-lease: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, max-lease: |2h"), `x.yaml:%P: subnets[0]: max-lease: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, boot-lease: |20m"), `x.yaml:%P: subnets[0]: boot-lease: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, probe: |off"), `x.yaml:%P: subnets[0]: probe: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, identity: |mac"), `x.yaml:%P: subnets[0]: identity: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, rapid-commit: |true"), `x.yaml:%P: subnets[0]: rapid-commit: not in mode proxy: another server leases the addresses of this subnet`},
		{subnet("mode: proxy, ipv6-only: |30m"), `x.yaml:%P: subnets[0]: ipv6-only: not in mode proxy: another server leases the addresses of this subnet`},
		{"subnets: [{interface: e}, {interface: |e}]", `x.yaml:%P: subnets[1]: interface: "e" is that of subnets[0] too: give both their subnet`},
		{"subnets: [{interface: e, subnet: 10.1.0.0/16}, {interface: |e}]", `x.yaml:%P: subnets[1]: interface: "e" is that of subnets[0] too: give both their subnet`},
		{"subnets: [{interface: e, subnet: 10.1.0.0/16}, {interface: e, subnet: |10.1.0.0/16}]", `x.yaml:%P: subnets[1]: subnet: 10.1.0.0/16 overlaps 10.1.0.0/16 of subnets[0]`},
		{"subnets: [{interface: e, subnet: 10.1.2.0/24}, {interface: f, subnet: 10.3.0.0/16}, {interface: g, subnet: |10.1.0.0/16}]", `x.yaml:%P: subnets[2]: subnet: 10.1.0.0/16 overlaps 10.1.2.0/24 of subnets[0]`},
		{"subnets: [{interface: e, pools: [10.1.0.1-10.1.0.9]}, {interface: f, pools: [|10.1.0.9-10.1.0.20]}]", `x.yaml:%P: subnets[1]: pools[0]: 10.1.0.9-10.1.0.20 overlaps 10.1.0.1-10.1.0.9 of subnets[0]: pools[0]`},
		{subnet("pools: [10.1.1.1-10.1.1.9, |10.1.2.1-10.1.2.9 for ilo]"), `x.yaml:%P: subnets[0]: pools[1]: class "ilo" is not defined`},
		{subnet("pools: [10.1.1.1 for known, |10.1.1.2 for Known]"), `x.yaml:%P: subnets[0]: pools[1]: class "Known" is not defined`},
		{subnet("pools: [|'10.1.1.1 for  ']"), `x.yaml:%P: subnets[0]: pools[0]: "10.1.1.1 for  ": which class is it for?`},
		{subnet("pools: [|10.1.1.1 bmc]"), `x.yaml:%P: subnets[0]: pools[0]: "10.1.1.1 bmc" is not a range of IPv4 addresses such as 10.1.1.100-10.1.1.200`},
		{subnet("pools: [10.1.1.1-10.1.1.9 for bmc, |10.1.1.5 for known]"), `x.yaml:%P: subnets[0]: pools[1]: 10.1.1.5 overlaps 10.1.1.1-10.1.1.9 of subnets[0]: pools[0]`},
		{subnet("pools: [10.1.1.1-10.1.1.9 for c]") + "\n" + class("mac: [94]"), ``},
		{subnet("unknown: |refuse"), `x.yaml:%P: subnets[0]: unknown: "refuse" is not one of lease, quarantine, ignore`},
		{subnet("pools: [10.1.1.1], unknown: |quarantine"), `x.yaml:%P: subnets[0]: unknown: "quarantine" needs a pool for unknown, such as 10.1.1.200-10.1.1.250 for unknown`},
		{subnet("unknown: ignore, pools: [10.1.1.2, |10.1.1.1 for unknown]"), `x.yaml:%P: subnets[0]: pools[1]: a pool for unknown, which get no answer: see unknown`},
		{subnet("identity: |uuid"), `x.yaml:%P: subnets[0]: identity: "uuid" is not one of mac, client-id`},
		{subnet("min-lease: |4m"), `x.yaml:%P: subnets[0]: min-lease: "4m" is shorter than 5m`},
		{subnet("min-lease: |2h"), `x.yaml:%P: subnets[0]: min-lease: 2h is not at most lease, which is 1h`},
		{subnet("lease: 2h, max-lease: |1h"), `x.yaml:%P: subnets[0]: max-lease: 1h is not at least lease, which is 2h`},
		{subnet("max-lease: |721h"), `x.yaml:%P: subnets[0]: max-lease: "721h" is longer than 720h`},
		{subnet("renew: |10m"), `x.yaml:%P: subnets[0]: renew: goes with rebind, which is missing`},
		{subnet("rebind: |10m"), `x.yaml:%P: subnets[0]: rebind: goes with renew, which is missing`},
		{subnet("renew: |29s, rebind: 10m"), `x.yaml:%P: subnets[0]: renew: "29s" is shorter than 30s`},
		{subnet("renew: |10m, rebind: 10m"), `x.yaml:%P: subnets[0]: renew: 10m is not shorter than rebind, which is 10m`},
		{subnet("renew: 10m, rebind: |1h"), `x.yaml:%P: subnets[0]: rebind: 1h is not shorter than lease, which is 1h`},
		{subnet("renew: 10m, rebind: |soon"), `x.yaml:%P: subnets[0]: rebind: "soon" is not a time such as 20m or 1h30m`},
		{subnet("rapid-commit: |yes"), `x.yaml:%P: subnets[0]: rapid-commit: "yes" is not true or false`},
		{subnet("mode: shared, rapid-commit: |true"), `x.yaml:%P: subnets[0]: rapid-commit: not in mode shared: another server's offer would come too late`},
		{subnet("subnet-selection: |no"), `x.yaml:%P: subnets[0]: subnet-selection: "no" is not true or false`},
		{subnet("ipv6-only: |1m"), `x.yaml:%P: subnets[0]: ipv6-only: "1m" is shorter than 5m`},
		{subnet("ipv6-only: |true"), `x.yaml:%P: subnets[0]: ipv6-only: "true" is not a time such as 20m or 1h30m`},
		{"subnets: [|{interface: e, relayed: true}]", `x.yaml:%P: subnets[0]: subnet: missing: a relayed subnet is not that of its interface`},
		{subnet("relayed: |e"), `x.yaml:%P: subnets[0]: relayed: "e" is not true or false`},
		{subnet("relayed: true, server: 10.2.0.1"), ``},
		{subnet("relayed: true, router: |10.2.0.1"), `x.yaml:%P: subnets[0]: router: 10.2.0.1 is not within subnet 10.1.0.0/16`},
		{"subnets: [{interface: e}, {interface: e, subnet: 10.1.0.0/16, relayed: true}]", ``},
		{"subnets: [{interface: e, relayed: true, subnet: 10.1.0.0/16}, {interface: f, subnet: |10.1.0.0/16}]", `x.yaml:%P: subnets[1]: subnet: 10.1.0.0/16 overlaps 10.1.0.0/16 of subnets[0]`},
		{subnet("mtu: |575"), `x.yaml:%P: subnets[0]: mtu: "575" is not an MTU from 576 to 65535`},
		{subnet("mtu: |65536"), `x.yaml:%P: subnets[0]: mtu: "65536" is not an MTU from 576 to 65535`},
		{subnet("mtu: |jumbo"), `x.yaml:%P: subnets[0]: mtu: "jumbo" is not an MTU from 576 to 65535`},
		{subnet("search: |mtl"), `x.yaml:%P: subnets[0]: search: "mtl", where a list is wanted, such as [...]`},
		{subnet("search: [mtl, |m_l]"), `x.yaml:%P: subnets[0]: search[1]: "m_l" is not a DNS name such as mtl.example.net`},
		{subnet("search: [|'']"), `x.yaml:%P: subnets[0]: search[0]: missing`},
		{subnet("search: |[" + long[:63] + "." + long[:63] + "." + long[:63] + "." + long[:61] + ", a]"), `x.yaml:%P: subnets[0]: search: 258 bytes, and an option has at most 255`},
		{subnet("routes: [|10.0.0.0/8]"), `x.yaml:%P: subnets[0]: routes[0]: "10.0.0.0/8" is not a route such as 10.0.0.0/8 via 10.1.0.254`},
		{subnet("routes: [|10.0.0.0/8 by 10.1.0.254]"), `x.yaml:%P: subnets[0]: routes[0]: "10.0.0.0/8 by 10.1.0.254" is not a route such as 10.0.0.0/8 via 10.1.0.254`},
		{subnet("routes: [|10.0.0.0 via 10.1.0.254]"), `x.yaml:%P: subnets[0]: routes[0]: "10.0.0.0" is not an IPv4 network such as 10.1.0.0/16`},
		{subnet("routes: [|10.2.3.4/8 via 10.1.0.254]"), `x.yaml:%P: subnets[0]: routes[0]: "10.2.3.4/8" has bits set after the prefix: write 10.0.0.0/8`},
		{subnet("routes: [|10.0.0.0/8 via gw]"), `x.yaml:%P: subnets[0]: routes[0]: "gw" is not an IPv4 address such as 10.1.0.1`},
		{subnet("routes: [|10.0.0.0/8 via 10.2.0.254]"), `x.yaml:%P: subnets[0]: routes[0]: 10.2.0.254 is not within subnet 10.1.0.0/16`},
		{subnet("routes: [10.0.0.0/8 via 10.1.0.2, |10.0.0.0/8 via 10.1.0.3]"), `x.yaml:%P: subnets[0]: routes[1]: 10.0.0.0/8 is in the list twice`},
		{subnet("routes: [|~]"), `x.yaml:%P: subnets[0]: routes[0]: missing`},
		{subnet("router: 10.1.0.1, routes: |[0.0.0.0/0 via 10.1.0.2]"), `x.yaml:%P: subnets[0]: routes: 0.0.0.0/0 is there, and router too: write one of them`},
		{subnet("routes: [0.0.0.0/0 via 10.1.0.2]"), ``},
		{subnet("routes: |[" + manyRoutes(29) + "]"), `x.yaml:%P: subnets[0]: routes: 261 bytes, and an option has at most 255`},
		{"subnets: [|{interface: e, subnet: 10.1.0.0/16, routes: [" + manyRoutes(26) + "]}]", `x.yaml:%P: subnets[0]: 236 bytes of options: a DHCP reply has room for 230`},
		{"subnets: [|{interface: e, domain: " + long[:63] + "." + long[:63] + "." + long[:63] + "." + long[:37] + "}]", `x.yaml:%P: subnets[0]: 231 bytes of options: a DHCP reply has room for 230`},

		// options
		{option(""), `x.yaml:%P: subnets[0]: options[0]: missing`},
		{subnet("options: |150 ip 10.1.0.1"), `x.yaml:%P: subnets[0]: options: "150 ip 10.1.0.1", where a list is wanted, such as [...]`},
		{subnet("options: [|{150: x}]"), `x.yaml:%P: subnets[0]: options[0]: keys and values, where one value is wanted`},
		{subnet("options: [|always]"), `x.yaml:%P: subnets[0]: options[0]: "always": "" is neither the number of an option nor the name of a known one`},
		{subnet("options: [|colour red]"), `x.yaml:%P: subnets[0]: options[0]: "colour red": "colour" is neither the number of an option nor the name of a known one`},
		{subnet("options: [|256 u8 1]"), `x.yaml:%P: subnets[0]: options[0]: "256 u8 1": "256" is neither the number of an option nor the name of a known one`},
		{subnet("options: [|150 10.1.0.1]"), `x.yaml:%P: subnets[0]: options[0]: "150 10.1.0.1": "10.1.0.1" is not a type: one of hex, i32, ip, names, routes, text, u16, u32, u8`},
		{subnet("options: [|150]"), `x.yaml:%P: subnets[0]: options[0]: "150": "" is not a type: one of hex, i32, ip, names, routes, text, u16, u32, u8`},
		{subnet("options: [|150 ip]"), `x.yaml:%P: subnets[0]: options[0]: "150 ip": the value is missing`},
		{subnet("options: [|tftp-servers]"), `x.yaml:%P: subnets[0]: options[0]: "tftp-servers": the value is missing`},
		{subnet("options: [|150 ip tftp.mtl]"), `x.yaml:%P: subnets[0]: options[0]: "150 ip tftp.mtl": "tftp.mtl" is not an IPv4 address such as 10.1.0.1`},
		{option("150 ip ,"), `x.yaml:%P: subnets[0]: options[0]: "150 ip ,": "," is not an IPv4 address such as 10.1.0.1`},
		{subnet("options: [|150 text x]"), `x.yaml:%P: subnets[0]: options[0]: "150 text x": option 150 is of type ip`},
		{subnet("options: [150 hex 0a010001]"), ``},
		{subnet("options: [|224 u8 256]"), `x.yaml:%P: subnets[0]: options[0]: "224 u8 256": "256" is not a number from 0 to 255`},
		{subnet("options: [|224 u16 -1]"), `x.yaml:%P: subnets[0]: options[0]: "224 u16 -1": "-1" is not a number from 0 to 65535`},
		{subnet("options: [|224 u32 4294967296]"), `x.yaml:%P: subnets[0]: options[0]: "224 u32 4294967296": "4294967296" is not a number from 0 to 4294967295`},
		{subnet("options: [|time-offset 1h]"), `x.yaml:%P: subnets[0]: options[0]: "time-offset 1h": "1h" is not a number from -2147483648 to 2147483647`},
		{subnet("options: [|224 hex 123]"), `x.yaml:%P: subnets[0]: options[0]: "224 hex 123": "123" is not bytes in hexadecimal such as 0104deadbeef`},
		{option("224 hex :"), `x.yaml:%P: subnets[0]: options[0]: "224 hex :": ":" is not bytes in hexadecimal such as 0104deadbeef`},
		{subnet("options: [|224 names a_b]"), `x.yaml:%P: subnets[0]: options[0]: "224 names a_b": "a_b" is not a DNS name such as mtl.example.net`},
		{option("224 names ,"), `x.yaml:%P: subnets[0]: options[0]: "224 names ,": the value is missing`},
		{option("249 routes 10.0.0.0/8"), `x.yaml:%P: subnets[0]: options[0]: "249 routes 10.0.0.0/8": "10.0.0.0/8" is not a route such as 10.0.0.0/8 via 10.1.0.254`},
		{subnet("options: [|224 text " + long[:256] + "]"), `x.yaml:%P: subnets[0]: options[0]: "224 text ` + long[:256] + `": the value has 256 bytes, and an option at most 255`},
		{subnet("options: [224 u8 1, |always 224 u8 2]"), `x.yaml:%P: subnets[0]: options[1]: "always 224 u8 2": option 224 is in the list twice`},
		{class("mac: [94], options: [search a, |domain-search b]"), `x.yaml:%P: classes[0] "c": options[1]: "domain-search b": option 119 is in the list twice`},
		{subnet("options: [|router 10.1.0.1]"), `x.yaml:%P: subnets[0]: options[0]: "router 10.1.0.1": option 3 is router: use that key`},
		{subnet("options: [|26 u16 1500]"), `x.yaml:%P: subnets[0]: options[0]: "26 u16 1500": option 26 is mtu: use that key`},
		{subnet("options: [|domain-search mtl]"), `x.yaml:%P: subnets[0]: options[0]: "domain-search mtl": option 119 is search: use that key`},
		{subnet("options: [|121 hex 080a0a010001]"), `x.yaml:%P: subnets[0]: options[0]: "121 hex 080a0a010001": option 121 is routes: use that key`},
		{subnet("options: [|0 hex 00]"), `x.yaml:%P: subnets[0]: options[0]: "0 hex 00": option 0 is padding`},
		{subnet("options: [|255 hex 00]"), `x.yaml:%P: subnets[0]: options[0]: "255 hex 00": option 255 ends a packet`},
		{subnet("options: [|1 ip 255.0.0.0]"), `x.yaml:%P: subnets[0]: options[0]: "1 ip 255.0.0.0": option 1 follows from subnet`},
		{host("options: [|12 text b]"), `x.yaml:%P: nodes[0] "a": options[0]: "12 text b": option 12 is the name of the node`},
		{class("mac: [94], options: [|51 u32 600]"), `x.yaml:%P: classes[0] "c": options[0]: "51 u32 600": option 51 is lease and boot-lease`},
		{role("options: [|54 ip 10.1.0.1]"), `x.yaml:%P: roles[0] "r": options[0]: "54 ip 10.1.0.1": option 54 is bootd's own`},
		{subnet("options: [|58 u32 60]"), `x.yaml:%P: subnets[0]: options[0]: "58 u32 60": option 58 is renew`},
		{subnet("options: [|always 60 text PXEClient]"), `x.yaml:%P: subnets[0]: options[0]: "always 60 text PXEClient": option 60 is bootd's own`},
		{host("options: [|66 text 10.1.0.1]"), `x.yaml:%P: nodes[0] "a": options[0]: "66 text 10.1.0.1": option 66 is what the machine loads: use loader`},
		{host("options: [|67 text pxelinux.0]"), `x.yaml:%P: nodes[0] "a": options[0]: "67 text pxelinux.0": option 67 is what the machine loads: use loader`},
		{subnet("options: [|80 hex 00]"), `x.yaml:%P: subnets[0]: options[0]: "80 hex 00": option 80 is rapid-commit`},
		{subnet("options: [|82 hex 00]"), `x.yaml:%P: subnets[0]: options[0]: "82 hex 00": option 82 is the relay's`},
		{subnet("options: [|93 u16 7]"), `x.yaml:%P: subnets[0]: options[0]: "93 u16 7": option 93 is for clients to send`},

		// secrets, BMCs
		{"bmc: |{user: root, protocol: redfish}", `x.yaml:%P: bmc: password-file: missing`},
		{"bmc: {protocol: |telnet, user: root, password-file: /s}", `x.yaml:%P: bmc: protocol: "telnet" is not one of ipmi, redfish`},
		{"bmc: |{password-file: /s}", `x.yaml:%P: bmc: user: missing`},
		{"bmc: {user: root, password-file: |/var/www/s}", `x.yaml:%P: bmc: password-file: "/var/www/s" is inside root "/var/www", which is served to everybody`},
		{"registration-token: |hunter2", `x.yaml:%P: registration-token: not an absolute path: only files hold secrets`},
		{"registration-token: |/var/www/t", `x.yaml:%P: registration-token: "/var/www/t" is inside root "/var/www", which is served to everybody`},
		{"roles: [{name: e, dir: e, squashfs: [e], registration-token: |/var/www/t}]", `x.yaml:%P: roles[0] "e": registration-token: "/var/www/t" is inside root "/var/www", which is served to everybody`},
		{"roles: [{name: e, dir: e, squashfs: [e], install: {done: |power-off}}]", `x.yaml:%P: roles[0] "e": install: done: "power-off" is seen by BMCs only: bmc: is missing`},
		{"bmc: {user: root, password-file: /s}\nroles: [{name: e, dir: e, squashfs: [e], install: {done: power-off}}]\nnodes: [|{name: a, role: e, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "a": bmc: missing: its role "e" waits for power-off`},

		// classes
		{"classes: [|{mac: [94]}]", `x.yaml:%P: classes[0]: name: missing`},
		{"classes: [{name: |ILO, mac: [94]}]", `x.yaml:%P: classes[0] "ILO": name: "ILO" is not a name in lower case (letters, digits, hyphens)`},
		{"classes: [{name: |bmc, mac: [94]}]", `x.yaml:%P: classes[0] "bmc": name: "bmc" is a class already`},
		{"classes: [{name: c, mac: [94]}, {name: |c, mac: [95]}]", `x.yaml:%P: classes[1] "c": name: defined twice`},
		{"classes: [|{name: c}]", `x.yaml:%P: classes[0] "c": no condition: set one of vendor-class, user-class, circuit-id, remote-id, arch, mac, uuid`},
		{"classes: [|{name: c, lease: 1h}]", `x.yaml:%P: classes[0] "c": no condition: set one of vendor-class, user-class, circuit-id, remote-id, arch, mac, uuid`},
		{class("arch: [7, |x64]"), `x.yaml:%P: classes[0] "c": arch[1]: "x64" is not a number of option 93 such as 7`},
		{class("arch: [|65536]"), `x.yaml:%P: classes[0] "c": arch[0]: "65536" is not a number of option 93 such as 7`},
		{class("arch: |7"), `x.yaml:%P: classes[0] "c": arch: "7", where a list is wanted, such as [...]`},
		{class("mac: [|'94:4']"), `x.yaml:%P: classes[0] "c": mac[0]: "94:4" is not the beginning of a MAC address such as 94:40:c9`},
		{class("mac: [|'94:40:c9:00:00:00:01']"), `x.yaml:%P: classes[0] "c": mac[0]: "94:40:c9:00:00:00:01" is not the beginning of a MAC address such as 94:40:c9`},
		{class("mac: [|'']"), `x.yaml:%P: classes[0] "c": mac[0]: "" is not the beginning of a MAC address such as 94:40:c9`},
		{class("uuid: [|4c4c454]"), `x.yaml:%P: classes[0] "c": uuid[0]: "4c4c454" is not the beginning of a UUID such as 4c4c4544-0042`},
		{class("circuit-id: |0x123"), `x.yaml:%P: classes[0] "c": circuit-id: "0x123" is not bytes in hexadecimal such as 0x0004000a`},
		{class("remote-id: |0x"), `x.yaml:%P: classes[0] "c": remote-id: "0x" is not bytes in hexadecimal such as 0x0004000a`},
		{class("mac: [94], lease: |1m"), `x.yaml:%P: classes[0] "c": lease: "1m" is shorter than 5m`},
		{class("mac: [94], options: |[224 text " + long[:229] + "]"), `x.yaml:%P: classes[0] "c": options: 231 bytes of options: a DHCP reply has room for 230`},
		{subnet("options: [225 text "+long[:98]+"]") + "\n" + class("mac: [94], options: |[224 text "+long[:129]+"]"), `x.yaml:%P: classes[0] "c": options: 231 bytes of options with those of subnets[0]: a DHCP reply has room for 230`},
		{subnet("options: [224 text "+long[:98]+"]") + "\n" + class("mac: [94], options: |[224 text "+long[:129]+"]"), ``}, // instead of it
		{"classes: |[" + strings.Repeat("{name: c, mac: [94]}, ", 62) + "]", `x.yaml:%P: classes: 62 classes: there can be 61`},

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
		{"retries: |0\n", `x.yaml:%P: retries: "0" is not a number from 1 to 1000`},
		{"retries: |ten\n", `x.yaml:%P: retries: "ten" is not a number from 1 to 1000`},
		{role("loader: |shim"), `x.yaml:%P: roles[0] "r": loader: "shim" is not one of snponly, ipxe, grub, snponly-shim, ipxe-shim, grub-shim`},
		{role("firmware: |legacy"), `x.yaml:%P: roles[0] "r": firmware: "legacy" is not one of bios, uefi`},
		{host("loader: |iPXE"), `x.yaml:%P: nodes[0] "a": loader: "iPXE" is not one of snponly, ipxe, grub, snponly-shim, ipxe-shim, grub-shim`},
		{role("channel: |beta"), `x.yaml:%P: roles[0] "r": channel: "beta" is not one of stable, unstable`},
		{role("release: |1/2"), `x.yaml:%P: roles[0] "r": release: "1/2" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{role("release: |1..2"), `x.yaml:%P: roles[0] "r": release: "1..2" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{role("options: [|mtu]"), `x.yaml:%P: roles[0] "r": options[0]: "mtu": the value is missing`},
		{role("args: |\"a\\nb\""), `x.yaml:%P: roles[0] "r": args: "a\nb" holds U+000A, which is not a printable character`},

		// nodes
		{"nodes: [|{role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0]: name: missing`},
		{"nodes: [{name: |NCN, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "NCN": name: "NCN" is not a host name in lower case (letters, digits, hyphens)`},
		{"nodes: [{name: |../etc, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "../etc": name: "../etc" is not a host name in lower case (letters, digits, hyphens)`},
		{"nodes: [{name: |ephemeral, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "ephemeral": name: "ephemeral" is a path of its own under the web root`},
		{"nodes: [{name: |report, role: kubernetes, macs: [52:54:00:00:00:01]}]", `x.yaml:%P: nodes[0] "report": name: "report" is a path of its own under the web root`},
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
		{host("options: [|mtu 9000000]"), `x.yaml:%P: nodes[0] "a": options[0]: "mtu 9000000": "9000000" is not a number from 0 to 65535`},
		{host("options: |[224 text " + long[:200] + ", 225 text " + long[:27] + "]"), `x.yaml:%P: nodes[0] "a": options: 231 bytes of options: a DHCP reply has room for 230`},
		{host("release: |../1"), `x.yaml:%P: nodes[0] "a": release: "../1" is not one plain path element (letters, digits, . _ + -, no "..")`},
		{subnet("") + "\n" + host("address: |10.2.0.9"), `x.yaml:%P: nodes[0] "a": address: 10.2.0.9 is not within any subnet`},
		{subnet("") + "\n" + host("address: |10.1.0.0"), `x.yaml:%P: nodes[0] "a": address: 10.1.0.0 is the network address of 10.1.0.0/16`},
		{subnet("") + "\n" + host("address: |10.1.255.255"), `x.yaml:%P: nodes[0] "a": address: 10.1.255.255 is the broadcast address of 10.1.0.0/16`},
		{subnet("server: 10.1.0.1") + "\n" + host("address: |10.1.0.1"), `x.yaml:%P: nodes[0] "a": address: 10.1.0.1 is the server of subnet 10.1.0.0/16`},
		{subnet("router: 10.1.0.2") + "\n" + host("address: |10.1.0.2"), `x.yaml:%P: nodes[0] "a": address: 10.1.0.2 is the router of subnet 10.1.0.0/16`},
		{host("address: 10.1.0.9") + "\nsubnets: [{interface: e}]", ``}, // known at start only: Resolve
		{host("address: 10.1.0.9"), ``}, // no DHCP
		{subnet("") + "\n" + host("addresses: [|10.2.0.9]"), `x.yaml:%P: nodes[0] "a": addresses[0]: 10.2.0.9 is not within any subnet`},
		{subnet("") + "\n" + host("bmc-address: |10.2.0.9"), `x.yaml:%P: nodes[0] "a": bmc-address: 10.2.0.9 is not within any subnet`},
		{subnet("") + "\n" + host("address: 10.1.0.9, addresses: [|10.1.0.10]"), `x.yaml:%P: nodes[0] "a": addresses[0]: 10.1.0.10 is in subnet 10.1.0.0/16, as 10.1.0.9 is: a node has one address of a subnet`},
		{host("address: 10.1.0.9, bmc-address: |10.1.0.9"), `x.yaml:%P: nodes[0] "a": bmc-address: 10.1.0.9 is reserved for this node already`},
		{host("addresses: [|'']"), `x.yaml:%P: nodes[0] "a": addresses[0]: missing`},
		{host("addresses: [|x]"), `x.yaml:%P: nodes[0] "a": addresses[0]: "x" is not an IPv4 address such as 10.1.0.1`},
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
