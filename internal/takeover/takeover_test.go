package takeover

import (
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bootd/internal/config"
	"bootd/internal/dnsmasq"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// host is this host's interfaces in the tests.
var host = map[string][]netip.Prefix{
	"eth1":   {netip.MustParsePrefix("10.1.0.1/16")},
	"eth1.4": {netip.MustParsePrefix("10.4.0.1/17")},
	"eth2":   {netip.MustParsePrefix("10.2.0.1/24"), netip.MustParsePrefix("10.3.0.1/24")},
}

// take makes a plan of the text of one file, which is called f.
func take(t *testing.T, text string, change ...func(*Site)) *Plan {
	t.Helper()
	lines, faults, err := dnsmasq.Read(fstest.MapFS{"f": &fstest.MapFile{Data: []byte(text)}}, "/f")
	if err != nil {
		t.Fatal(err)
	}
	said := dnsmasq.Parse(lines)
	said.Faults = append(faults, said.Faults...)
	roles := config.Default().Inventory.Roles()
	site := Site{Config: said, Lines: lines, Addrs: host, Roles: []node.Role{roles["kubernetes"], roles["storage-ceph"]}}
	for _, f := range change {
		f(&site)
	}
	p, err := Make(site)
	if err != nil {
		t.Fatalf("%s\n%v\n%s", text, err, p.YAML())
	}
	return p
}

// body is the configuration without its heading, the spaces before comments
// and the file that all lines are of.
func body(p *Plan) string {
	_, text, _ := strings.Cut(string(p.YAML()), "#   /f\n")
	text = regexp.MustCompile(` +# /f:`).ReplaceAllString(text, " # ")
	return strings.TrimSpace(strings.ReplaceAll(text, ", /f:", " "))
}

func notes(p *Plan) string {
	var list []string
	for _, n := range p.Notes {
		if strings.HasPrefix(n.Why, "dnsmasq tells machines that it is their") {
			continue // of every subnet below
		}
		list = append(list, strings.ReplaceAll(n.String(), "/f:", ""))
	}
	return strings.Join(list, "\n")
}

const base = "dhcp-authoritative\ndhcp-range=10.1.1.100,10.1.1.200\n"

// baseOut is what base becomes, with further keys of the subnet in the place of
// the bar.
const baseOut = `subnets:
  - interface: eth1
    subnet: 10.1.0.0/16 # 2
    pools:
      - 10.1.1.100-10.1.1.200 # 2
|    router: 10.1.0.1`

func with(keys string) string { return strings.Replace(baseOut, "|", keys, 1) }

// routed is with for a subnet that is told its router.
func routed(keys string) string {
	return strings.TrimSuffix(strings.Replace(baseOut, "|    router: 10.1.0.1", keys, 1), "\n")
}

// Each row is a directive in base, what it becomes, and what is noted.
func TestDirectives(t *testing.T) {
	for _, tt := range []struct{ line, want, notes string }{
		{"", with(""), ""},

		// ranges
		{"dhcp-range=10.4.1.10,10.4.1.20,12h", with("") + `
  - interface: eth1.4
    subnet: 10.4.0.0/17 # 3
    pools:
      - 10.4.1.10-10.4.1.20 # 3
    lease: 12h # 3
    router: 10.4.0.1`, ""},
		{"dhcp-range=10.1.3.1,10.1.3.9", strings.Replace(with(""), "200 # 2\n", "200 # 2\n      - 10.1.3.1-10.1.3.9 # 3\n", 1), ""},
		{"dhcp-range=10.1.3.1,10.1.3.9,2h", strings.Replace(with(""), "200 # 2\n", "200 # 2\n      - 10.1.3.1-10.1.3.9 # 3\n", 1),
			"3: lease time 2h, where the subnet has 1h of an earlier range"},
		{"dhcp-range=10.1.1.150,10.1.1.250", with(""),
			"3: bootd refuses it: 10.1.1.150-10.1.1.250 overlaps 10.1.1.100-10.1.1.200 of subnets[0]: pools[0]"},
		{"dhcp-range=10.3.0.0,10.3.0.255,2m", with("") + `
  - interface: eth2
    subnet: 10.3.0.0/24 # 3
    pools:
      - 10.3.0.1-10.3.0.254 # 3
    lease: 5m # 3
    router: 10.3.0.1`, "3: lease time 2m0s, where bootd has 5m to 720h"},
		{"dhcp-range=10.3.0.5,static,infinite", with("") + `
  - interface: eth2
    subnet: 10.3.0.0/24 # 3
    lease: 720h # 3
    router: 10.3.0.1`, "3: lease time infinite, where bootd has 5m to 720h"},
		{"dhcp-range=10.3.0.0,proxy", with("") + `
  - interface: eth2
    subnet: 10.3.0.0/24 # 3
    mode: proxy # 3`, ""},
		{"dhcp-range=10.9.1.1,10.9.1.9,255.255.255.0\ninterface=eth1", with("") + `
  - interface: eth1
    subnet: 10.9.1.0/24 # 3
    relayed: true
    pools:
      - 10.9.1.1-10.9.1.9 # 3`, "3: no interface of this host is in its network: taken for one behind a relay"},
		{"dhcp-range=172.16.1.1,172.16.1.9", with("") + `
  - interface: CHANGE-ME
    subnet: 172.16.0.0/16 # 3
    relayed: true
    pools:
      - 172.16.1.1-172.16.1.9 # 3`, "3: no netmask: 172.16.0.0/16 is a guess\n" +
			"3: no interface of this host is in its network: taken for one behind a relay\n" +
			"3: no interface is known for subnet 172.16.0.0/16: write it in the place of CHANGE-ME"},
		{"dhcp-range=tag:known,10.1.3.1,10.1.3.9", strings.Replace(with(""), "200 # 2\n", "200 # 2\n      - 10.1.3.1-10.1.3.9 for known # 3\n", 1), ""},
		{"dhcp-range=tag:!known,10.1.3.1,10.1.3.9", strings.Replace(with(""), "200 # 2\n", "200 # 2\n      - 10.1.3.1-10.1.3.9 for unknown # 3\n", 1), ""},
		{"dhcp-range=tag:ilo,10.1.3.1,10.1.3.9\ndhcp-vendorclass=set:ilo,CPQRIB", strings.Replace(with(""), "200 # 2\n", "200 # 2\n      - 10.1.3.1-10.1.3.9 for ilo # 3\n", 1) + `

classes:
  - name: ilo # 4
    vendor-class: CPQRIB # 4`, ""},
		{"dhcp-range=tag:x,10.1.3.1,10.1.3.9", with(""), `3: a range for tag "x", which is not one class of machines here`},
		{"dhcp-range=tag:x,tag:y,10.1.3.1,10.1.3.9", with(""), "3: a range for several tags at once"},
		{"dhcp-range=fd00::1,fd00::9", with(""), "3: IPv6: bootd serves none"},
		{"dhcp-range=10.1.1.2", with(""), "3: dnsmasq would refuse it: the end of the range is missing"},

		// interfaces
		{"except-interface=eth1.4\ndhcp-range=10.4.1.10,10.4.1.20", with(""), "4: interface eth1.4 is excepted, so dnsmasq does not serve this"},
		{"no-dhcp-interface=eth1*\ndhcp-range=10.4.1.10,10.4.1.20", "subnets: []",
			"2: interface eth1 is excepted, so dnsmasq does not serve this\n4: interface eth1.4 is excepted, so dnsmasq does not serve this"},
		{"interface=eth1\ndhcp-range=10.4.1.10,10.4.1.20", with(""), "4: interface eth1.4 is not among those of interface=, so dnsmasq does not serve this"},

		// options
		{"dhcp-option=3,10.1.0.254", routed("    router: 10.1.0.254 # 3"), ""},
		{"dhcp-option=3,10.1.0.254,10.1.0.253", routed("    router: 10.1.0.254 # 3"), "3: bootd tells one router: the first"},
		{"dhcp-option=3", routed(""), ""},
		{"dhcp-option=3,0.0.0.0", routed("    router: 10.1.0.1 # 3"), ""},
		{"dhcp-option=6,10.1.0.2,10.1.0.3\ndhcp-option=6,10.1.0.4", with("    dns:\n      - 10.1.0.4 # 4\n"), ""},
		{"dhcp-option=option:ntp-server,10.1.0.2", with("    ntp:\n      - 10.1.0.2 # 3\n"), ""},
		{"dhcp-option=option:domain-name,mtl", with("    domain: mtl # 3\n"), ""},
		{"dhcp-option=option:domain-search,mtl,nmn.mtl", with("    search:\n      - mtl # 3\n      - nmn.mtl # 3\n"), ""},
		{"dhcp-option=26,9000", with("    mtu: 9000 # 3\n"), ""},
		{"dhcp-option=121,10.92.0.0/16,10.1.0.254", with("    routes:\n      - 10.92.0.0/16 via 10.1.0.254 # 3\n"), ""},
		{"dhcp-option=1,255.255.0.0", with(""), "3: bootd tells the netmask and the broadcast address of the subnet"},
		{"dhcp-option=150,10.1.0.1,10.1.0.2\ndhcp-option-force=224,hello", with("    options:\n      - 150 ip 10.1.0.1 10.1.0.2 # 3\n      - always 224 text hello # 4\n"), ""},
		{"dhcp-option=43,01:04:de:ad\ndhcp-option=224,-2\ndhcp-option=225,300\ndhcp-option=226,\" x\"", with("    options:\n      - 43 hex 0104dead # 3\n      - 224 hex fffffffe # 4\n      - 225 u16 300 # 5\n      - 226 hex 2078 # 6\n"), ""},
		{"dhcp-option=43,\"a: #b\"", with("    options:\n      - 43 hex 613a202362 # 3\n"), ""},
		{"dhcp-option=224,\"a: #b\"\ndhcp-option=2,3600", with("    options:\n      - \"224 text a: #b\" # 3\n      - 2 i32 3600 # 4\n"), ""},
		{"dhcp-option=interface:lan,42,10.1.0.2\ndhcp-range=interface:lan,10.2.0.10,10.2.0.20", with("") + `
  - interface: eth2
    subnet: 10.2.0.0/24 # 4
    pools:
      - 10.2.0.10-10.2.0.20 # 4
    ntp:
      - 10.1.0.2 # 3
    router: 10.2.0.1`, ""},
		{"dhcp-option=tag:eth1,42,10.1.0.2\ndhcp-option=42,10.1.0.9", with("    ntp:\n      - 10.1.0.2 # 3\n"), ""},
		{"dhcp-vendorclass=set:ilo,CPQRIB\ndhcp-option=tag:ilo,42,10.1.0.2", with("") + `

classes:
  - name: ilo # 3
    vendor-class: CPQRIB # 3
    options:
      - 42 ip 10.1.0.2 # 4`, ""},
		{"dhcp-match=set:efi,93,7\ndhcp-userclass=set:efi,corp\ndhcp-mac=set:efi,94:40:c9:*:*:*\ndhcp-circuitid=set:efi,00:04\ndhcp-remoteid=set:efi,port\ndhcp-option=tag:efi,224,5", with("") + `

classes:
  - name: efi # 3
    arch:
      - 7 # 3
    options:
      - 224 u8 5 # 8
  - name: efi-2 # 4
    user-class: corp # 4
    options:
      - 224 u8 5 # 8
  - name: efi-3 # 5
    mac:
      - 94:40:c9 # 5
    options:
      - 224 u8 5 # 8
  - name: efi-4 # 6
    circuit-id: 0x0004 # 6
    options:
      - 224 u8 5 # 8
  - name: efi-5 # 7
    remote-id: port # 7
    options:
      - 224 u8 5 # 8`, ""},
		{"dhcp-vendorclass=set:efi,PXEClient:Arch:00007\ndhcp-boot=tag:efi,ipxe.efi,pit", with(""),
			"4: what to boot: bootd says that itself, to each machine by its architecture and role (see loader: and bootctl set-links)"},
		{"dhcp-match=set:v,224\ndhcp-option=tag:v,225,5", with(""),
			"3: a tag for clients that send an option: bootd has classes by vendor class, user class, architecture, relay and MAC\n" + `4: an option for tag "v", which stands for no machines here`},
		{"dhcp-option=tag:nobody,42,10.1.0.2", with(""), `3: an option for tag "nobody", which stands for no machines here`},
		{"dhcp-option=tag:a,tag:b,42,10.1.0.2", with(""), "3: an option for several tags at once"},
		{"dhcp-option=tag:!a,42,10.1.0.2", with(""), "3: an option for those without a tag"},
		{"dhcp-option=224", with(""), "3: an option without a value"},
		{"dhcp-option=66,10.1.0.9", with(""), `3: bootd refuses it: "66 text 10.1.0.9": option 66 is what the machine loads: use loader`},
		{"dhcp-option=vendor:PXEClient,6,2b", with(""), "3: options within an option: write the bytes as CODE hex: bootd has nothing like it"},
		{"dhcp-option=option:rooter,10.1.0.1", with(""), `3: dnsmasq would refuse it: unknown option "rooter"`},
		{"domain=mtl\ndomain=nmn,10.1.0.0/16", with("    domain: nmn # 4\n"), ""},
		{"domain=mtl,10.99.0.0/16", with(""), "3: a domain for addresses of no subnet, or whose clients are told another"},

		// hosts
		{"dhcp-host=52:54:00:00:00:01,52:54:00:00:00:02,10.1.0.11,ncn-w001", with("") + `

nodes:
  - name: ncn-w001 # 3
    role: kubernetes
    macs:
      - 52:54:00:00:00:01 # 3
      - 52:54:00:00:00:02 # 3
    address: 10.1.0.11 # 3`, ""},
		{"dhcp-range=10.4.1.10,10.4.1.20\ndhcp-host=52:54:00:00:00:01,10.4.0.11,ncn-s001.nmn\ndhcp-host=52:54:00:00:00:01,10.1.0.11,ncn-s001", with("") + `
  - interface: eth1.4
    subnet: 10.4.0.0/17 # 3
    pools:
      - 10.4.1.10-10.4.1.20 # 3
    router: 10.4.0.1

nodes:
  - name: ncn-s001 # 4
    role: storage-ceph
    macs:
      - 52:54:00:00:00:01 # 4
    address: 10.1.0.11 # 5
    addresses:
      - 10.4.0.11 # 4`, ""},
		{"dhcp-host=set:w1,52:54:00:00:00:01,ncn-w001\ndhcp-option-force=tag:w1,17,x3000\ndhcp-host=52:54:00:00:0b:01,10.1.0.111,ncn-w001-mgmt,20m", with("") + `

nodes:
  - name: ncn-w001 # 3
    role: kubernetes
    macs:
      - 52:54:00:00:00:01 # 3
    bmc: 52:54:00:00:0b:01 # 5
    bmc-address: 10.1.0.111 # 5
    options:
      - always 17 text x3000 # 4`, "5: a host's own lease time: bootd has one for each subnet"},
		{"dhcp-host=52:54:00:00:00:01,ncn-w001\nhost-record=ncn-w001-mgmt,ncn-w001-mgmt.hmn,10.1.0.111\nhost-record=ncn-w001,10.1.0.11", with("") + `

nodes:
  - name: ncn-w001 # 3
    role: kubernetes
    macs:
      - 52:54:00:00:00:01 # 3
    bmc-address: 10.1.0.111 # 4`, "5: DNS: bootd answers no names; dnsmasq can go on with that, without dhcp-range"},
		{"dhcp-host=52:54:00:00:0b:01,10.1.0.111,ncn-w009-mgmt", with("") + `

nodes:
  - name: ncn-w009-mgmt # 3
    role: kubernetes
    macs:
      - 52:54:00:00:0b:01 # 3
    address: 10.1.0.111 # 3`, ""},
		{"dhcp-host=52:54:00:00:00:01,ncn-w001\ndhcp-host=set:b,52:54:00:00:0b:01,52:54:00:00:0b:02,ncn-w001-mgmt\ndhcp-option=tag:b,224,1", with("") + `

nodes:
  - name: ncn-w001 # 3
    role: kubernetes
    macs:
      - 52:54:00:00:00:01 # 3
    bmc: 52:54:00:00:0b:01 # 4`, "4: a BMC has one MAC address: the first\n5: options of one BMC"},
		{"dhcp-host=52:54:00:00:00:01,10.1.0.77,Printer\ndhcp-host=52:54:00:00:00:02,10.1.0.78\ndhcp-host=52:54:00:00:00:03,a_b", with("") + `

roles:
  - name: other
    dir: other
    squashfs:
      - other

nodes:
  - name: printer # 3
    role: other
    macs:
      - 52:54:00:00:00:01 # 3
    address: 10.1.0.77 # 3
    boot: local
  - name: host-10-1-0-78 # 4
    role: other
    macs:
      - 52:54:00:00:00:02 # 4
    address: 10.1.0.78 # 4
    boot: local
  - name: host-52-54-00-00-00-03 # 5
    role: other
    macs:
      - 52:54:00:00:00:03 # 5
    boot: local`, "3-5: names that are of no role: they have role other, and boot their disk\n4: a host without a name is called by its address\n" +
			`5: "a_b" is no name of a node (letters, digits, hyphens): called host-52-54-00-00-00-03`},
		{"dhcp-host=id:abc,10.1.1.150,ncn-w001\ndhcp-host=lap,10.1.0.5", with("") + "\n    exclude:\n      - 10.1.1.150 # 3\n      - 10.1.0.5 # 4",
			"3-4: a host without a MAC address, by which bootd knows machines"},
		{"dhcp-host=52:54:00:00:00:01,ignore\ndhcp-host=tag:x,52:54:00:00:00:02,ncn-w001\ndhcp-host=52:54:00:*:*:*,10.1.1.199", with("") + "\n    exclude:\n      - 10.1.1.199 # 5",
			"3: a machine that is not answered: bootd has only unknown: ignore, for all that are not in the inventory\n4: a host that counts only with a tag\n" +
				"5: hardware addresses with wildcards or of other networks than Ethernet, and IPv6 addresses\n5: a host without a MAC address, by which bootd knows machines"},
		{"dhcp-host=id:x,52:54:00:00:00:01,ncn-w001\ndhcp-host=52:54:00:00:00:01,10.1.0.12,ncn-w002", with("") + `

nodes:
  - name: ncn-w001 # 3
    role: kubernetes
    macs:
      - 52:54:00:00:00:01 # 3`, "3: client identifiers of hosts that have a MAC address, by which bootd knows them\n" +
			`4: bootd refuses it: 52:54:00:00:00:01 belongs to node "ncn-w001" too`},
		{"dhcp-host=52:54:00:00:00:01,10.99.0.12,ncn-w001", with("") + `

nodes:
  - name: ncn-w001 # 3
    role: kubernetes
    macs:
      - 52:54:00:00:00:01 # 3`, "3: bootd refuses it: 10.99.0.12 is not within any subnet"},
		{"dhcp-host=52:54:00:00:00:zz,ncn-w001", with(""), `3: dnsmasq would refuse it: "52:54:00:00:00:zz" is not bytes such as 01:2a:ff`},

		// the rest
		{"dhcp-ignore=tag:!known", with("") + "\n    unknown: ignore # 3", ""},
		{"dhcp-ignore=tag:x", with(""), "3: machines that are not answered: bootd has only unknown: ignore, for all that are not in the inventory"},
		{"no-ping\ndhcp-rapid-commit", with("") + "\n    probe: off # 3\n    rapid-commit: true # 4", ""},
		{"enable-tftp\ntftp-root=/var/www/boot\ntftp-secure", with(""), "4-5: files for TFTP: bootd serves its loaders only (see loaders:)"},
		{"server=10.0.0.2\nport=0\ncname=a,b", with(""), "3-5: DNS: bootd answers no names; dnsmasq can go on with that, without dhcp-range"},
		{"user=dnsmasq\nlog-dhcp\nbind-dynamic", with(""), "3-5: about dnsmasq itself"},
		{"enable-ra", with(""), "3: IPv6: bootd serves none"},
		{"dhcp-relay=10.1.0.1,10.9.0.1\ntag-if=set:a,tag:b\nshared-network=eth1,10.9.0.1", with(""), "3-5: bootd has nothing like it"},
		{"dhcp-leasefile=/x", with(""), "3: leases: bootctl import dnsmasq --leases FILE takes them in"},
		{"dhcp-script=/x", with(""), "3: a program that is told of leases: write it as leases: {hooks: [PROGRAM]}"},
		{"conf-script=/x", with(""), "3: what a program prints is not read: put it into a file, and name that with --conf"},
		{"read-ethers", with(""), "3: hosts of /etc/ethers: write them under nodes:"},
		{"foo=bar", with(""), "3: not a directive that dnsmasq 2.90 tells of"},
		{`domain="mtl`, with(""), `3: dnsmasq would refuse it: missing "`},
		{"conf-file=/missing", with(""), "3: dnsmasq would refuse it: /missing: file does not exist"},
	} {
		p := take(t, base+tt.line+"\n")
		if diff := cmp.Diff(tt.want, body(p)); diff != "" {
			t.Errorf("%s: want (-) got (+):\n%s", tt.line, diff)
		}
		if diff := cmp.Diff(tt.notes, notes(p)); diff != "" {
			t.Errorf("%s: notes: want (-) got (+):\n%s", tt.line, diff)
		}
	}
}

// What dnsmasq does where nothing is said is written out, or noted.
func TestDefaults(t *testing.T) {
	p := take(t, "dhcp-range=10.1.1.100,10.1.1.200\ndhcp-range=172.16.0.5,172.16.0.9,255.255.0.0\n", func(s *Site) {
		s.State, s.Root, s.Role = "/srv/state", "/srv/www", "kubernetes"
	})
	got := string(p.YAML())
	for _, want := range []string{"state: /srv/state\nroot: /srv/www\n", "    mode: shared\n    router: 10.1.0.1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
	var all []string
	for _, n := range p.Notes {
		all = append(all, n.String())
	}
	if got := strings.Join(all, "\n"); !strings.Contains(got, "bootd is none, so write dns: for subnet 10.1.0.0/16") {
		t.Errorf("got notes\n%s", got)
	}
	// Elsewhere than on the host of dnsmasq, its tags and names have to do.
	away := func(s *Site) { s.Addrs = nil }
	p = take(t, "interface=bond0\ninterface=bond0.4\ndhcp-range=interface:bond0,10.1.1.1,10.1.1.9,255.255.0.0\ndhcp-range=set:bond0.4,10.4.1.1,10.4.1.9\n", away)
	if got := body(p); strings.Contains(got, "CHANGE-ME") || !strings.Contains(got, "- interface: bond0\n    subnet: 10.1.0.0/16") || !strings.Contains(got, "- interface: bond0.4\n    subnet: 10.4.0.0/14") {
		t.Errorf("got\n%s", got)
	}
	if got := notes(p); !strings.Contains(got, "4: no netmask: 10.4.0.0/14 is a guess") {
		t.Errorf("got notes\n%s", got)
	}
	p = take(t, "", away)
	if got := string(p.YAML()); !strings.HasSuffix(got, "\nsubnets: []\n") {
		t.Errorf("nothing: got\n%s", got)
	}
}

// Every directive that dnsmasq has is known here: carried over, or with a
// reason why it is not.
func TestEveryDirective(t *testing.T) {
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatal("dnsmasq is not installed, and CI requires it")
		}
		t.Skip("dnsmasq is not installed")
	}
	out, err := exec.Command(path, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^(?:-., |    )--([a-zA-Z0-9-]+)`).FindAllStringSubmatch(string(out), -1)
	if len(list) < 150 {
		t.Fatalf("got %d directives of\n%s", len(list), out)
	}
	for _, m := range list {
		c := dnsmasq.ParseText(m[1])
		if _, known := reasons[m[1]]; !known && len(c.Rest) > 0 {
			t.Errorf("%s: is known to dnsmasq and not here", m[1])
		}
	}
}

func TestKeeper(t *testing.T) {
	p := take(t, base+"dhcp-range=10.3.0.0,proxy\ndhcp-host=52:54:00:00:00:01,10.1.0.11,ncn-w001\ndhcp-host=52:54:00:00:0b:01,10.1.0.111,ncn-w001-mgmt\ndhcp-host=lap,10.1.1.150\n")
	k := p.Keeper()
	for _, tt := range []struct{ mac, addr, want string }{
		{"52:54:00:00:00:09", "10.1.1.100", ""},
		{"52:54:00:00:00:01", "10.1.0.11", ""},
		{"52:54:00:00:0b:01", "10.1.0.111", ""},
		{"52:54:00:00:00:09", "10.1.0.11", `reserved for node "ncn-w001", whose MAC is another`},
		{"52:54:00:00:00:01", "10.1.0.111", `reserved for node "ncn-w001", whose MAC is another`},
		{"52:54:00:00:00:01", "10.1.1.100", "the address reserved for its machine is 10.1.0.11"},
		{"52:54:00:00:0b:01", "10.1.1.100", "the address reserved for its machine is 10.1.0.111"},
		{"52:54:00:00:00:09", "10.1.1.150", "excluded in subnet 10.1.0.0/16"},
		{"52:54:00:00:00:09", "10.1.2.1", "in no pool of subnet 10.1.0.0/16"},
		{"52:54:00:00:00:09", "10.3.0.9", "another server leases the addresses of subnet 10.3.0.0/24"},
		{"52:54:00:00:00:09", "192.0.2.1", "in no subnet that was carried over"},
	} {
		mac, err := node.ParseMAC(tt.mac)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Refuses(mac, netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s of %s: got %q, want %q", tt.addr, tt.mac, got, tt.want)
		}
	}
}

// A host that is written without a MAC address has that of its lease.
func TestMACOfLease(t *testing.T) {
	p := take(t, base+"dhcp-host=id:x3000,10.1.0.11,ncn-w001\ndhcp-host=ncn-w002,10.1.0.12\ndhcp-host=ncn-w003,10.1.0.13\n", func(s *Site) {
		s.Leases = []lease.Lease{
			{Addr: netip.MustParseAddr("10.1.0.11"), MAC: node.MAC{0x52, 0x54, 0, 0, 0, 1}},
			{Addr: netip.MustParseAddr("10.1.1.112"), MAC: node.MAC{0x52, 0x54, 0, 0, 0, 2}, Hostname: "NCN-w002"},
		}
	})
	nodes := p.Result.Inventory.Nodes()
	if len(nodes) != 2 || nodes[0].MACs[0][5] != 1 || nodes[0].Addr.String() != "10.1.0.11" || nodes[1].MACs[0][5] != 2 || nodes[1].Addr.String() != "10.1.0.12" {
		t.Errorf("got %+v", nodes)
	}
	const want = "3-4: a host without a MAC address: it has that of its lease\n" +
		"3: client identifiers of hosts that have a MAC address, by which bootd knows them\n5: a host without a MAC address, by which bootd knows machines"
	if diff := cmp.Diff(want, notes(p)); diff != "" {
		t.Errorf("notes: want (-) got (+):\n%s", diff)
	}
}

func TestNote(t *testing.T) {
	line := func(file string, n int) dnsmasq.Line { return dnsmasq.Line{File: file, Number: n} }
	n := Note{Why: "why", Lines: []dnsmasq.Line{line("/a", 1), line("/a", 2), line("/a", 3), line("/a", 5), line("/b", 6)}}
	if got, want := n.String(), "/a:1-3, /a:5, /b:6: why"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzMake holds that whatever dnsmasq's files say, what comes out is a
// configuration that bootd takes.
func FuzzMake(f *testing.F) {
	for _, s := range []string{
		base, base + "dhcp-host=52:54:00:00:00:01,10.1.0.11,ncn-w001\ndhcp-host=52:54:00:00:0b:01,10.1.0.111,ncn-w001-mgmt\ndhcp-option=tag:x,17,y",
		"dhcp-range=tag:a,10.1.0.0,10.1.255.255,infinite\ndhcp-mac=set:a,94:*\ndhcp-option=tag:a,3,0.0.0.0", "dhcp-range=0.0.0.0,255.255.255.255", "dhcp-range=10.1.0.1,proxy\ndhcp-ignore=tag:!known\nno-ping",
		"domain=\"a b\"\ndhcp-range=10.1.0.1,10.1.0.9", "dhcp-option=224,\"\x01\"\ndhcp-range=10.1.0.1,static", "dhcp-host=52:54:00:00:00:01,known\ndhcp-vendorclass=set:known,\"\"\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := take(t, text)
		if _, err := config.Parse("x", p.YAML()); err != nil {
			t.Errorf("%q:\n%s\n%v", text, p.YAML(), err)
		}
	})
}
