package main_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bootd/dhcp"
	"bootd/internal/lab"
	"bootd/internal/lab/dhcpload"
	"bootd/internal/node"
	"bootd/internal/store"
)

// newSegment starts the daemon on a private segment with nothing to boot.
func newSegment(t *testing.T, addr netip.Prefix, subnets string) *site {
	t.Helper()
	lab.Need(t)
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	n := lab.ForTest(t, addr, 0)
	s := &site{
		Net: n, t: t, bin: bin,
		root: filepath.Join(n.Dir, "www"), config: filepath.Join(n.Dir, "bootd.yaml"), socket: filepath.Join(n.Dir, "bootd.sock"),
	}
	if err := os.Mkdir(s.root, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("bootd.yaml", fmt.Sprintf("root: %s\nstate: %s/state\nadmin: {socket: %s}\n%s", s.root, s.Dir, s.socket, subnets))
	s.start()
	return s
}

// write makes a file of the segment, which may be run, and returns its path.
func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// client returns a machine on the segment.
func (s *site) client() *lab.Namespace {
	s.t.Helper()
	c, err := s.Client(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// run runs a command in a namespace that has to succeed.
func (s *site) run(ns *lab.Namespace, command string) string {
	s.t.Helper()
	args := strings.Fields(command)
	out, err := ns.Run(lab.Deadline(s.t), args[0], args[1:]...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

const relayedSubnet = `
subnets:
  - {interface: br0, subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.199]}
  - {interface: br0, subnet: 10.88.0.0/24, relayed: true, pools: [10.88.0.100-10.88.0.199], router: 10.88.0.1}
`

// configure is a script of udhcpc that does what it is told.
const configure = `#!/bin/sh
case $1 in
deconfig) ip addr flush dev $interface ;;
bound) ip addr add $ip/$mask dev $interface; ip route add default via $router; echo "BOUND router=$router serverid=$serverid" ;;
renew) echo "RENEWED $ip" ;;
esac
`

// A machine behind a relay gets an address of the relayed subnet, and renews
// it by itself: the relay is stopped by then.
func TestRelayedSubnet(t *testing.T) {
	for _, relay := range []struct {
		name string
		args string
		up   string // what it says when it is ready
	}{
		{"dnsmasq", "dnsmasq -d --conf-file=/dev/null --port=0 --user=root --pid-file= --dhcp-relay=10.88.0.1,10.77.0.1", `DHCP relay from 10\.88\.0\.1`},
		{"isc", "dhcrelay -4 -d -a -D --no-pid -iu eth0 -id eth1 10.77.0.1", `Sending on   Socket/fallback`},
	} {
		t.Run(relay.name, func(t *testing.T) {
			t.Parallel()
			s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), relayedSubnet)
			router, c := s.client(), s.client()
			s.run(c, "ip link set eth0 down") // its way is through the router
			for _, command := range []string{
				"ip addr add 10.77.0.2/24 dev eth0",
				"ip link add eth1 type veth peer name eth1 netns " + c.Name,
				"ip addr add 10.88.0.1/24 dev eth1",
				"ip link set eth1 up",
				"busybox sysctl -w net.ipv4.ip_forward=1",
			} {
				s.run(router, command)
			}
			s.run(c, "ip link set eth1 up")
			s.run(s.Namespace, "ip route add 10.88.0.0/24 via 10.77.0.2")

			args := strings.Fields(relay.args)
			agent, err := router.Start(args[0], args[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			s.line(agent, relay.up)
			udhcpc, err := c.Start("busybox", "udhcpc", "-i", "eth1", "-f", "-s", s.write("udhcpc", configure))
			if err != nil {
				t.Fatal(err)
			}
			s.line(udhcpc, `^BOUND router=10\.88\.0\.1 serverid=10\.77\.0\.1$`)
			got := regexp.MustCompile(`lease of (\S+) obtained`).FindStringSubmatch(s.line(udhcpc, `lease of \S+ obtained`))
			if addr := netip.MustParseAddr(got[1]); !netip.MustParsePrefix("10.88.0.0/24").Contains(addr) {
				t.Errorf("address: got %v, want one of 10.88.0.0/24", addr)
			}
			if err := agent.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := udhcpc.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			s.line(udhcpc, `^RENEWED `+regexp.QuoteMeta(got[1])+`$`)
		})
	}
}

const toldSubnet = `
subnets:
  - interface: br0
    subnet: 10.77.0.0/24
    pools: [10.77.0.100-10.77.0.199]
    router: 10.77.0.1
    dns: [10.77.0.2, 10.77.0.3]
    domain: mtl
    search: [mtl, nmn.mtl]
    mtu: 1400
    routes: [10.92.0.0/16 via 10.77.0.254]
`

// report is a script of udhcpc, dhclient and dhcpcd that writes down what they
// were told.
const report = `#!/bin/sh
case $1$reason in bound|BOUND) env >%[1]s/env.new; mv %[1]s/env.new %[1]s/env ;; esac
`

// dhcpClients are the clients that people run, each with the way to start it
// and with its own words for what it was told. %[1]s is a directory of ours,
// where the file env appears in the end.
var dhcpClients = []struct {
	name, start string
	want        map[string]string
	addr        string // where its address is
}{
	{
		"udhcpc", `busybox udhcpc -f -i eth0 -s %[1]s/report -O search -O mtu -O staticroutes`,
		map[string]string{
			"subnet": "255.255.255.0", "dns": "10.77.0.2 10.77.0.3", "domain": "mtl", "search": "mtl nmn.mtl", "mtu": "1400",
			"staticroutes": "10.92.0.0/16 10.77.0.254 0.0.0.0/0 10.77.0.1", "serverid": "10.77.0.1", "router": "",
		}, "ip",
	},
	{
		"dhclient", `dhclient -4 -d -sf %[1]s/report -lf %[1]s/dhclient.leases -pf %[1]s/dhclient.pid eth0`, // with Debian's own configuration
		map[string]string{
			"new_subnet_mask": "255.255.255.0", "new_domain_name_servers": "10.77.0.2 10.77.0.3", "new_domain_name": "mtl",
			"new_domain_search": "mtl. nmn.mtl.", "new_interface_mtu": "1400",
			"new_rfc3442_classless_static_routes": "16 10 92 10 77 0 254 0 10 77 0 1", "new_routers": "",
		}, "new_ip_address",
	},
	{
		"dhcpcd", `mount -t tmpfs none /run; mount -t tmpfs none /var/lib/dhcpcd; dhcpcd -B -4 -A -c %[1]s/report eth0`, // as dhclient
		map[string]string{
			"new_subnet_mask": "255.255.255.0", "new_domain_name_servers": "10.77.0.2 10.77.0.3", "new_domain_name": "mtl",
			"new_domain_search": "mtl nmn.mtl", "new_interface_mtu": "1400",
			"new_classless_static_routes": "10.92.0.0/16 10.77.0.254 0.0.0.0/0 10.77.0.1", "new_routers": "",
		}, "new_ip_address",
	},
	{
		// It wants a /run of its own, and waits for udev where /sys can be written.
		"systemd-networkd", `mount -t sysfs -o ro none /sys; mount -t tmpfs none /run
mkdir -p /run/systemd/network /run/systemd/netif; chown systemd-network /run/systemd/netif
printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n[DHCPv4]\nUseMTU=yes\nUseDomains=yes\n' >/run/systemd/network/eth0.network
(until grep -q ^ADDRESS= /run/systemd/netif/leases/* 2>/dev/null; do sleep 0.1; done; cat /run/systemd/netif/leases/* >%[1]s/env.new; mv %[1]s/env.new %[1]s/env) &
/lib/systemd/systemd-networkd`,
		map[string]string{
			"NETMASK": "255.255.255.0", "DNS": "10.77.0.2 10.77.0.3", "DOMAINNAME": "mtl", "DOMAIN_SEARCH_LIST": "mtl nmn.mtl", "MTU": "1400",
			"CLASSLESS_ROUTES": "10.92.0.0/16,10.77.0.254 0.0.0.0/0,10.77.0.1", "SERVER_ADDRESS": "10.77.0.1", "ROUTER": "",
		}, "ADDRESS",
	},
}

// Every client is told what was configured, in its own words; and one machine
// has one address, whichever of them asks and whatever it calls itself.
func TestClientsAreTold(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), toldSubnet)
	s.write("report", fmt.Sprintf(report, s.Dir))
	c := s.client()
	first := ""
	for _, client := range dhcpClients {
		s.run(c, "ip addr flush dev eth0")
		told := s.told(c, fmt.Sprintf(client.start, s.Dir))
		for key, want := range client.want {
			if got := told[key]; got != want {
				t.Errorf("%s: %s: got %q, want %q", client.name, key, got, want)
			}
		}
		addr := told[client.addr]
		if first == "" {
			first = addr
		}
		if addr != first || addr == "" {
			t.Errorf("%s: address: got %q, want %q, which %s got", client.name, addr, first, dhcpClients[0].name)
		}
	}
}

// told runs a client until it was told something, in name spaces of its own so
// that it leaves nothing behind, and returns that.
func (s *site) told(c *lab.Namespace, start string) map[string]string {
	s.t.Helper()
	env := filepath.Join(s.Dir, "env")
	script := fmt.Sprintf("(%s) >&2 & until [ -e %s ]; do sleep 0.1; done; cat %[2]s; rm %[2]s", start, env)
	out, err := c.Run(lab.Deadline(s.t), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script)
	if err != nil {
		s.t.Fatal(err)
	}
	told := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		told[key] = value
	}
	return told
}

const placesSubnet = `
subnets:
  - interface: br0
    subnet: 10.77.0.0/24
    pools: [10.77.0.100-10.77.0.119, 10.77.0.120-10.77.0.139 for lab, 10.77.0.140-10.77.0.159 for unknown]
    unknown: quarantine
    lease: 2h
    mtu: 1400
    options: [always 224 hex 01, 225 u8 1, 226 u8 1, 227 u8 1]
classes:
  - {name: lab, vendor-class: LAB, lease: 1h, options: [225 u8 2, 226 u8 2, 227 u8 2]}
roles: [{name: kubernetes, options: [226 u8 3, 227 u8 3]}]
nodes:
  - {name: known-by-its-mac, role: kubernetes, macs: [52:54:00:00:00:01, 52:54:00:00:00:11], options: [227 u8 4]}
  - {name: and-by-its-class, role: storage-ceph, macs: [52:54:00:00:00:02]}
  - {name: sixteen-letter-x, role: storage-ceph, macs: [52:54:00:00:00:05], options: [224 text %[1]s, 228 text %[1]s.and.seventeen.mo]}
`

// full is 98 bytes: with the 17 of the other option and the 13 of the subnet
// they make the 230 that a reply has room for.
var full = strings.Repeat("x", 98)

// Pools, leases and options are those of the machine: node, role, class,
// subnet, the first that says something.
func TestOptionsByPlace(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), fmt.Sprintf(placesSubnet, full))
	s.write("report", fmt.Sprintf(report, s.Dir))
	c := s.client()
	inHex := hex.EncodeToString
	for _, tt := range []struct {
		mac, args string
		pool      string // first address
		want      map[string]string
	}{
		{"52:54:00:00:00:01", "-V OTHER", "10.77.0.100", map[string]string{"opt224": "01", "opt225": "01", "opt226": "03", "opt227": "04", "lease": "7200", "hostname": "known-by-its-mac"}},
		{"52:54:00:00:00:11", "-V LAB-1", "10.77.0.120", map[string]string{"opt224": "01", "opt225": "02", "opt226": "03", "opt227": "04", "lease": "3600"}},
		{"52:54:00:00:00:02", "-V LAB-1", "10.77.0.120", map[string]string{"opt224": "01", "opt225": "02", "opt226": "02", "opt227": "02", "lease": "3600"}},
		{"52:54:00:00:00:03", "-V OTHER", "10.77.0.140", map[string]string{"opt224": "01", "opt225": "01", "opt226": "01", "opt227": "01", "lease": "7200"}},
		// All of the room that the configuration gives, with a client-id of RFC 4361.
		{"52:54:00:00:00:05", "-V OTHER -O 224 -O 228 -x 61:ff0000000100020000ab110102030405060708", "10.77.0.100", map[string]string{
			"opt224": inHex([]byte(full)), "opt228": inHex([]byte(full + ".and.seventeen.mo")), "opt225": "01", "opt226": "01", "opt227": "01",
			"mtu": "1400", "hostname": "sixteen-letter-x", "lease": "7200",
		}},
		{"52:54:00:00:00:04", "-o", "10.77.0.140", map[string]string{"opt224": "01", "opt225": "", "opt227": "", "mtu": ""}},
	} {
		s.run(c, "ip addr flush dev eth0")
		s.run(c, "ip link set eth0 address "+tt.mac)
		start := fmt.Sprintf("busybox udhcpc -f -i eth0 -s %s/report %s", s.Dir, tt.args)
		if tt.args != "-o" {
			start += " -O 225 -O 226 -O 227 -O mtu -O hostname -O lease"
		}
		told := s.told(c, start)
		for key, want := range tt.want {
			if got := told[key]; got != want {
				t.Errorf("%s %s: %s: got %q, want %q", tt.mac, tt.args, key, got, want)
			}
		}
		addr, err := netip.ParseAddr(told["ip"])
		if first := netip.MustParseAddr(tt.pool).As4()[3]; err != nil || addr.As4()[3] < first || addr.As4()[3] >= first+20 {
			t.Errorf("%s %s: address: got %q, want one of the 20 from %s", tt.mac, tt.args, told["ip"], tt.pool)
		}
	}
}

const loadedSubnet = `
subnets:
  - {interface: br0, subnet: 10.76.0.0/14, pools: [10.77.0.0-10.79.199.255], probe: off}
`

// No lease that was acknowledged is lost by kill -9, at whatever moment of a
// load that keeps the disk busy. Each round has clients of its own, so that
// what the store holds can only come from what was committed in time. Whoever
// asks after the last restart has the address it had.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.76.0.1/14"), loadedSubnet)
	c := s.client()
	held := map[node.MAC]netip.Addr{}
	for round := range 8 {
		g := s.load(c, round)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond+rand.N(500*time.Millisecond), func() {
			s.daemon.Kill()
			time.AfterFunc(50*time.Millisecond, cancel) // for answers under way
		})
		res, err := g.Run(ctx, dhcpload.Load{Window: 200, Duration: 2 * time.Second, Timeout: 5 * time.Second})
		<-ctx.Done()
		if err != nil {
			t.Fatal(err)
		}
		if w := res.Wrong.Any(); w > 0 || res.Completed == 0 {
			t.Fatalf("round %d: got %v, want leases and nothing wrong", round, res)
		}
		maps.Insert(held, g.Holders())
		s.wantStored(held)
		s.start()
	}
	g := s.load(c, 0)
	if _, err := g.Run(t.Context(), dhcpload.Load{Window: 50, Count: 500, Duration: 30 * time.Second, Timeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	for mac, addr := range g.Holders() {
		if was, ok := held[mac]; ok && was != addr {
			t.Errorf("%v: got %v after the last restart, want its %v", mac, addr, was)
		}
	}
	t.Logf("%d leases acknowledged, all of them stored; %d clients asked again", len(held), g.Held())
}

// load returns a load generator whose clients are those of one round.
func (s *site) load(ns *lab.Namespace, round int) (g *dhcpload.Generator) {
	s.t.Helper()
	const clients = 20_000
	err := ns.Do(func() (err error) {
		g, err = dhcpload.Open(dhcpload.Config{Mode: dhcpload.Direct, Interface: "eth0", Clients: clients, First: round * clients})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(g.Close)
	return g
}

// wantStored checks that the store of a daemon that does not run holds leases.
func (s *site) wantStored(held map[node.MAC]netip.Addr) {
	s.t.Helper()
	journal, err := store.OpenJournal(filepath.Join(s.Dir, "state", "leases"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer journal.Close()
	leases, lost := dhcp.NewLeases(), 0
	if err := leases.Load(journal); err != nil {
		s.t.Fatal(err)
	}
	for mac, addr := range held {
		l, ok := leases.ByAddr(addr)
		if ok && l.MAC == mac && l.Active(time.Now()) {
			continue
		}
		if lost++; lost <= 10 {
			s.t.Errorf("%v: got lease %+v (%v), want one of %v", addr, l, ok, mac)
		}
	}
	if lost > 0 {
		s.t.Fatalf("%d of %d acknowledged leases are lost", lost, len(held))
	}
}

// Kea's own load generator has no drop and no complaint at a rate that is no
// load: it checks xid, server identifier and address of each exchange itself.
func TestPerfdhcp(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ip", "addr", "add", "10.77.0.50/24", "dev", "eth0"}, {"ip", "link", "set", "eth0", "up"}} {
		if out, err := c.Run(lab.Deadline(t), args[0], args[1:]...); err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	out, err := c.Run(lab.Deadline(t), "perfdhcp", "-4", "-l", "eth0", "-r", "20", "-R", "60", "-n", "60", "-W", "2000000", "10.77.0.1")
	if err != nil {
		t.Fatalf("perfdhcp: %v\n%s", err, out)
	}
	for _, want := range []string{`(?s)DISCOVER-OFFER.*sent packets: 60\nreceived packets: 60\ndrops: 0\n`, `(?s)REQUEST-ACK.*sent packets: 60\nreceived packets: 60\ndrops: 0\n`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("got\n%s\nwant it to match %q", out, want)
		}
	}
}
