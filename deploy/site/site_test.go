package site_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"bootd/deploy/lint"
	"bootd/deploy/site"
)

// source000 are the settings of source 000: three hosts, four NICs in a bond,
// disks of 7 TB beside a boot disk of 223 GB.
const source000 = `paletteEndpoint: 10.25.232.155
edgeHostToken: secret:token
registryCredentials:
  domain: 10.25.232.155:30003/spectro-content
  username: admin
  password: secret:registry
users:
  kairos: {passwd: secret:kairos, groups: [admin]}
tags: {row: 7}
install:
  device: /dev/sda
  poweroff: true
  wipe: {largerThan: 5T, onReset: true}
network:
  type: static
  bond:
    members: [enp134s0f0np0, enp134s0f0np1, enp175s0f0np0, enp175s0f0np1]
    bridge: br0
nodes:
  stg-wahvp006:
    tags: {spare: "yes"}
`

var machine = site.Machine{
	Name: "stg-wahvp004", Domain: "lab.example", Addr: netip.MustParsePrefix("10.25.233.4/24"), Router: netip.MustParseAddr("10.25.233.1"),
	DNS: []string{"10.25.232.2"}, NTP: []string{"10.25.232.3"}, Server: "10.25.233.2",
}

func secret(name string) (string, error) { return "hunter2 " + name + ": #", nil }

func settings(t *testing.T, text string, m site.Machine) site.Settings {
	t.Helper()
	f, err := site.Parse("site.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.For(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// look finds the value at a way of keys and indices in a document.
func look(t *testing.T, doc []byte, way ...any) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(doc, &v); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
	for _, step := range way {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			list, _ := v.([]any)
			if v = nil; step < len(list) {
				v = list[step]
			}
		}
	}
	return v
}

// content is that of a file of the network in a stage.
func content(t *testing.T, doc []byte, stage, name string) string {
	t.Helper()
	for i := range 9 {
		if look(t, doc, "stages", stage, 0, "files", i, "path") == "/etc/systemd/network/"+name {
			return look(t, doc, "stages", stage, 0, "files", i, "content").(string)
		}
	}
	t.Fatalf("no file %s in stage %s of\n%s", name, stage, doc)
	return ""
}

func TestInstallDocument(t *testing.T) {
	doc, err := settings(t, source000, machine).InstallDocument(machine)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		way  []any
		want any
	}{
		{[]any{"install", "device"}, "/dev/sda"},
		{[]any{"install", "auto"}, true},
		{[]any{"install", "poweroff"}, true},
		{[]any{"install", "reboot"}, nil},
		{[]any{"stylus", "site", "paletteEndpoint"}, "10.25.232.155"},
		{[]any{"stylus", "site", "name"}, nil},
		{[]any{"stylus", "registryCredentials"}, nil},
		{[]any{"stages", "before-install"}, nil}, // not armed
		{[]any{"stages", "after-install", 0, "commands", 0}, "curl -fsS --max-time 10 --retry 3 --retry-connrefused -X POST http://10.25.233.2/checkin/installed || true"},
	} {
		if got := look(t, doc, tt.way...); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.way, got, tt.want)
		}
	}
	if got, want := content(t, doc, "initramfs", "10-bond0.netdev"), "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\nLACPTransmitRate=fast\nTransmitHashPolicy=layer3+4\n"; got != want {
		t.Errorf("bond: got %q, want %q", got, want)
	}
	if got, want := content(t, doc, "initramfs", "10-bond0-members.network"), "[Match]\nName=enp134s0f0np0 enp134s0f0np1 enp175s0f0np0 enp175s0f0np1\n\n[Network]\nBond=bond0\n"; got != want {
		t.Errorf("members: got %q, want %q", got, want)
	}
	if got := string(doc); strings.Contains(got, "hunter2") || strings.Contains(got, "stg-wahvp004") {
		t.Errorf("got a document with a secret, or with the name of the host:\n%s", got)
	}
	if faults := lint.Kairos(string(doc), lint.Context{Install: true, Disks: 9}); faults != nil {
		t.Errorf("lint: got %v, want nothing", faults)
	}
	armed := machine
	armed.Wipe = true
	doc, _ = settings(t, source000, armed).InstallDocument(armed)
	if got := look(t, doc, "stages", "before-install", 0, "commands", 0); got == nil || got != look(t, doc, "stages", "before-reset", 0, "commands", 0) {
		t.Errorf("armed: got %v, want the script that is there for a reset too", got)
	}
}

func TestSiteDocument(t *testing.T) {
	doc, err := settings(t, source000, machine).SiteDocument(machine, secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		way  []any
		want any
	}{
		{[]any{"install"}, nil},
		{[]any{"stylus", "site", "edgeHostToken"}, "hunter2 token: #"},
		{[]any{"stylus", "site", "name"}, "stg-wahvp004"},
		{[]any{"stylus", "site", "tags", "row"}, "7"},
		{[]any{"stylus", "site", "ntpServers", 0}, "10.25.232.3"},
		{[]any{"stylus", "site", "network"}, nil}, // the bond is not the agent's
		{[]any{"stylus", "registryCredentials", "password"}, "hunter2 registry: #"},
		{[]any{"stages", "initramfs", 0, "hostname"}, "stg-wahvp004"},
		{[]any{"stages", "initramfs", 0, "users", "kairos", "passwd"}, "hunter2 kairos: #"},
		{[]any{"stages", "initramfs", 0, "users", "kairos", "groups", 0}, "admin"},
		{[]any{"stages", "boot.after", 0, "commands", 0}, "curl -fsS --max-time 10 --retry 3 --retry-connrefused -X POST http://10.25.233.2/checkin/booted || true"},
	} {
		if got := look(t, doc, tt.way...); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.way, got, tt.want)
		}
	}
	if got, want := content(t, doc, "initramfs", "30-br0.network"), "[Match]\nName=br0\n\n[Network]\nAddress=10.25.233.4/24\nGateway=10.25.233.1\nDNS=10.25.232.2\nDomains=lab.example\nNTP=10.25.232.3\n"; got != want {
		t.Errorf("bridge: got %q, want %q", got, want)
	}
	if faults := lint.Kairos(string(doc), lint.Context{}); faults != nil {
		t.Errorf("lint: got %v, want nothing", faults)
	}
	spare := machine
	spare.Name = "stg-wahvp006"
	doc, _ = settings(t, source000, spare).SiteDocument(spare, secret)
	if row, own := look(t, doc, "stylus", "site", "tags", "row"), look(t, doc, "stylus", "site", "tags", "spare"); row != "7" || own != "yes" {
		t.Errorf("tags of a node: got %v and %v, want its own beside those of all", row, own)
	}
	if _, err := settings(t, source000, machine).SiteDocument(machine, func(string) (string, error) { return "", errors.New("gone") }); err == nil || err.Error() != "gone" {
		t.Errorf("without its secret: got %v, want gone", err)
	}
}

// The two forms of network of sources 002 and later.
func TestNetworkForms(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       map[string]string // below stylus.site.network; by key
		nic        string            // ipAddress of eth0
	}{
		{"flat, from the inventory", "network: {type: static}\n", map[string]string{"type": "static", "ipAddress": "10.25.233.4", "mask": "255.255.255.0", "gateway": "10.25.233.1", "nameserver": "10.25.232.2"}, ""},
		{"flat, written", "network: {type: static, ipAddress: 10.0.0.9, mask: 255.255.254.0, gateway: 10.0.1.1, nameserver: 10.0.0.2, httpProxy: \"http://p:3128\"}\n", map[string]string{"type": "static", "ipAddress": "10.0.0.9", "mask": "255.255.254.0", "gateway": "10.0.1.1", "nameserver": "10.0.0.2", "httpProxy": "http://p:3128"}, ""},
		{"by interface", "network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.9, mask: \"23\", gateway: 10.0.1.1}}}\n", map[string]string{"nameserver": "10.25.232.2"}, "10.0.0.9/23"},
		{"dhcp", "network: {type: dhcp}\n", map[string]string{"type": "dhcp"}, ""},
	} {
		doc, err := settings(t, "paletteEndpoint: x\n"+tt.text, machine).SiteDocument(machine, secret)
		if err != nil {
			t.Fatal(err)
		}
		network, _ := look(t, doc, "stylus", "site", "network").(map[string]any)
		for key, want := range tt.want {
			if network[key] != want {
				t.Errorf("%s: %s: got %v, want %s", tt.name, key, network[key], want)
			}
		}
		if got := look(t, doc, "stylus", "site", "network", "interfaces", "eth0", "ipAddress"); tt.nic != "" && got != tt.nic || tt.nic == "" && len(network) != len(tt.want) {
			t.Errorf("%s: got %v", tt.name, network)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"- a\n", "site.yaml:1:1: a list, where keys and values are wanted"},
		{"a: [\n", "site.yaml:1:4: not YAML: "},
		{"paletteEndPoint: x\n", `site.yaml:1:1: unknown key "paletteEndPoint": did you mean "paletteEndpoint"?`},
		{"edgeHostToken: hunter2\n", "site.yaml:1:16: edgeHostToken: not secret:NAME with a name under secrets: of the payload: only files hold secrets"},
		{"install: {poweroff: yes-please}\n", "site.yaml:1:21: install.poweroff: a string, where true or false is wanted"},
		{"install: {poweroff: true, reboot: true}\n", "site.yaml:1:35: install.reboot: true, and install.poweroff too: only one of them can be"},
		{"install: {device: sda}\n", `site.yaml:1:19: install.device: "sda" is not auto, a path below /dev or script://FILE`},
		{"install: {device: auto, wipe: {largerThan: 5T}}\n", "site.yaml:1:31: install.wipe: install.device has to name the disk that is spared, such as /dev/sda"},
		{"install: {device: \"/dev/sd$(x)\", wipe: {largerThan: 5T}}\n", `install.device: "/dev/sd$(x)" is not the path of a disk`},
		{"install: {device: /dev/sda, wipe: {}}\n", "install.wipe.largerThan: missing"},
		{"install: {device: /dev/sda, wipe: {largerThan: big}}\n", `site.yaml:1:48: install.wipe.largerThan: "big" is not a size such as 5T or 500G`},
		{"network: {type: static, ipAddress: 10.0.0.4/24}\n", ""},
		{"network: {type: static, ipAddress: 10.0.0.4}\n", `network.ipAddress: "10.0.0.4" without a prefix, as in 10.0.0.4/24, and without mask`},
		{"network: {type: static, ipAddress: 10.0.0.4/24, gateway: 10.0.1.1}\n", "site.yaml:1:58: network.gateway: 10.0.1.1 is not in 10.0.0.0/24, so it cannot be reached"},
		{"network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.4/24}}}\n", "site.yaml:1:37: network.interfaces.eth0.type: static without gateway"},
		{"network: {bond: {bridge: br0}}\n", "network.bond.members: missing"},
		{"network: {bond: {members: [eth0, \"52:54:00:00:00:01\"]}}\n", `network.bond.members[1]: "52:54:00:00:00:01": either all members are names or all are MACs`},
		{"network: {bond: {members: [eth0], mode: lacp}}\n", `network.bond.mode: "lacp" is not one of balance-rr,`},
		{"name: a.b\n", `site.yaml:1:7: name: "a.b" has the character '.', which Palette refuses in the id of a host`},
		{"nodes: {n1: {name: \"a b\"}}\n", `site.yaml:1:20: name: "a b" has the character ' '`},
		{"caCerts: [\"no, cert\"]\n", "site.yaml:1:11: caCerts[0]: neither PEM"},
		{"projectName: a\nprojectUid: b\n", "site.yaml:2:13: projectUid: projectName is there too"},
		{"tags: {a: 1}\ntags: {b: 2}\n", "site.yaml:2:1: tags: key is there twice, first on line 1"},
		{"managementMode: edge\n", `managementMode: "edge" is not central or local`},
	} {
		f, err := site.Parse("site.yaml", tt.text)
		if err == nil {
			_, err = f.For(site.Machine{Name: "n1", Router: netip.MustParseAddr("10.0.0.1")})
		}
		switch {
		case tt.want == "":
			if err != nil {
				t.Errorf("%q: got %v, want none", tt.text, err)
			}
		case err == nil || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%q: got %v, want %s", tt.text, err, tt.want)
		case strings.Contains(err.Error(), "hunter"):
			t.Errorf("%q: got %v, which has the secret", tt.text, err)
		}
	}
}

// The wipe spares the disk of the system, whatever its size and by whatever
// name the settings have it. lsblk, wipefs and dd are stand-ins that say what
// they are asked: the disks of the machine that runs the tests are not ours.
func TestWipeScript(t *testing.T) {
	dir := t.TempDir()
	tool := func(name, script string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tool("lsblk", `cat <<'X'
/dev/null 240000000000 disk 0
/dev/zero 7681501126656 disk 0
/dev/full 7681501126656 disk 0
/dev/random 7681501126656 disk 1
/dev/urandom 7681501126656 part 0
/dev/tty 1000204886016 disk 0
X`)
	tool("wipefs", `echo "wipefs $2" >>`+dir+"/log")
	tool("sgdisk", `echo "sgdisk $2" >>`+dir+"/log")
	tool("dd", `echo "dd $2" >>`+dir+"/log")
	byID := filepath.Join(dir, "by-id") // a test cannot have one in /dev
	if err := os.Symlink("/dev/full", byID); err != nil {
		t.Fatal(err)
	}
	run := func(text string) string {
		t.Helper()
		m := machine
		m.Wipe = true
		doc, err := settings(t, text, m).InstallDocument(m)
		if err != nil {
			t.Fatal(err)
		}
		script := look(t, doc, "stages", "before-install", 0, "commands", 0).(string)
		// A block device is what the test has none of; all else is as it is.
		cmd := exec.Command("sh", "-c", strings.NewReplacer("[ -b ", "[ -e ", "/dev/disk/by-id/x", byID).Replace(script))
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		os.Remove(filepath.Join(dir, "log"))
		if err != nil {
			return string(out) + string(log)
		}
		return string(log)
	}
	lines := func(disks ...string) (s string) {
		for _, d := range disks {
			s += "wipefs " + d + "\nsgdisk " + d + "\ndd of=" + d + "\n"
		}
		return s
	}
	for _, tt := range []struct{ text, want string }{
		{"install: {device: /dev/null, wipe: {largerThan: 5T}}\n", lines("/dev/zero", "/dev/full")},
		{"install: {device: /dev/zero, wipe: {largerThan: 5T}}\n", lines("/dev/full")},
		{"install: {device: /dev/null, wipe: {largerThan: 5T, spare: [/dev/zero]}}\n", lines("/dev/full")},
		{"install: {device: /dev/disk/by-id/x, wipe: {largerThan: 5T}}\n", lines("/dev/zero")},
		{"install: {device: /dev/null, wipe: {largerThan: 900G}}\n", lines("/dev/zero", "/dev/full", "/dev/tty")},
		{"install: {device: /dev/nosuchdisk, wipe: {largerThan: 5T}}\n", "no disk is wiped: /dev/nosuchdisk, which is to be spared, is not there\n"},
	} {
		if got := run(tt.text); got != tt.want {
			t.Errorf("%s: got\n%swant\n%s", tt.text, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(source000)
	f.Add("nodes: {stg-wahvp004: {network: {interfaces: {a: {type: static}}}}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := site.Parse("x", text)
		if err != nil {
			return
		}
		s, err := file.For(machine)
		if err != nil {
			return
		}
		for _, doc := range []func() ([]byte, error){
			func() ([]byte, error) { return s.InstallDocument(machine) },
			func() ([]byte, error) { return s.SiteDocument(machine, secret) },
		} {
			if _, err := doc(); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
