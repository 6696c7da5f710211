package config

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bootd/internal/node"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

//go:embed reference.yaml
var reference []byte

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.IgnoreFields(Config{}, "Inventory"),
	cmpopts.IgnoreUnexported(Config{}),
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func span(a, b string) Range { return Range{addr(a), addr(b)} }

// The expected values are what reference.yaml says in words.
func TestReference(t *testing.T) {
	c, err := Parse("reference.yaml", reference)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Root: "/var/www", State: "/var/lib/bootd", Loaders: "/usr/lib/ipxe", Loader: node.LoaderSNPOnly, Retries: 10, Signers: "/etc/bootd/signers.pub",
		Log:   Log{slog.LevelInfo, Text},
		Admin: Admin{"/run/bootd/bootd.sock"},
		HTTP:  HTTP{80, true}, TFTP: TFTP{true, 69},
		BMC:    BMC{"ipmi", "root", "/etc/bootd/secrets/bmc"},
		Leases: Leases{"/run/bootd/dnsmasq.leases", []string{"/usr/local/sbin/lease-changed"}},
		Subnets: []Subnet{{
			Interface: "eth1", Prefix: netip.MustParsePrefix("10.1.0.0/16"), Server: addr("10.1.0.1"),
			Pools: []Pool{
				{span("10.1.1.100", "10.1.1.200"), ""}, {span("10.1.2.7", "10.1.2.7"), ""}, {span("10.1.3.1", "10.1.3.99"), ClassBMC},
			},
			Exclude: []Range{span("10.1.1.150", "10.1.1.150"), span("10.1.1.160", "10.1.1.170")},
			Router:  addr("10.1.0.1"), DNS: []netip.Addr{addr("10.1.0.1")}, NTP: []netip.Addr{addr("10.1.0.1")},
			Domain: "mtl", Search: []string{"mtl", "nmn.mtl"}, MTU: 9000,
			Routes: []Route{{netip.MustParsePrefix("10.92.0.0/16"), addr("10.1.0.254")}},
			Options: []DHCPOption{
				{150, []byte{10, 1, 0, 1, 10, 1, 0, 2}, false}, {224, []byte("hello"), true}, {101, []byte("America/Denver"), false},
			},
			Lease: time.Hour, MinLease: 10 * time.Minute, MaxLease: 24 * time.Hour, BootLease: 20 * time.Minute,
			Renew: 20 * time.Minute, Rebind: 50 * time.Minute, IPv6Only: 30 * time.Minute,
			Probe: 200 * time.Millisecond,
		}, {
			Interface: "eth2", Prefix: netip.MustParsePrefix("10.2.0.0/16"), Mode: Proxy,
			Lease: time.Hour, MinLease: 5 * time.Minute, MaxLease: time.Hour, BootLease: 20 * time.Minute, Probe: 200 * time.Millisecond,
		}},
		Classes: []Class{{
			Name: "ilo", Lease: 2 * time.Hour, Loader: node.LoaderIPXE, Options: []DHCPOption{{43, []byte{1, 4, 0xde, 0xad, 0xbe, 0xef}, false}},
			Match: Match{
				VendorClass: "CPQRIB", UserClass: "corp", CircuitID: "port-1", RemoteID: "\x00\x06", Arch: []uint16{7, 11},
				MAC: [][]byte{{0x94, 0x40, 0xc9}}, UUID: [][]byte{{0x4c, 0x4c, 0x45, 0x44, 0, 0x42}},
			},
		}},
		Registration: Registration{
			PIN: "/etc/bootd/secrets/claim-pin", URL: "https://boot.example/claim/{{.Token}}?id={{urlquery .ID}}",
			Sites: []Site{{Name: "paris", Label: "Paris, 5e", Role: "gpu", Tags: map[string]string{"site": "paris", "project": "fr"}}},
		},
		NodeOptions: map[string][]DHCPOption{"ncn-w001": {{17, []byte("x1000"), true}}},
	}
	if diff := cmp.Diff(want, c, compare); diff != "" {
		t.Errorf("want (-) got (+):\n%s", diff)
	}
	wantNodes := []node.Node{{
		Name: "ncn-w001", Role: "kubernetes",
		MACs:   []node.MAC{{0x52, 0x54, 0, 0xaa, 0xbb, 1}, {0x52, 0x54, 0, 0xaa, 0xbb, 2}},
		BMC:    node.MAC{0x52, 0x54, 0, 0xcc, 0xdd, 1},
		UUID:   node.UUID{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0},
		Serial: "00123456", Addr: addr("10.1.0.11"), BMCAddr: addr("10.1.0.111"), Loader: node.LoaderIPXE,
		Payload: node.Payload{Family: "nocloud", Dir: "/etc/bootd/payloads/ncn-w001", Settings: "/etc/bootd/site.yaml", Secrets: map[string]string{"join": "/etc/bootd/secrets/join"}, Require: []string{"rack"}},
		Site:    node.Payload{Family: "nocloud", Dir: "/etc/bootd/payloads/ncn-w001-site", Settings: "/etc/bootd/site.yaml", Secrets: map[string]string{"join": "/etc/bootd/secrets/join"}, Require: []string{"rack"}, FirstBoot: true},
		Tags:    map[string]string{"rack": "r12"},
	}}
	if diff := cmp.Diff(wantNodes, c.Inventory.Nodes(), compare); diff != "" {
		t.Errorf("nodes: want (-) got (+):\n%s", diff)
	}
	wantRoles := map[string]node.Role{
		"gpu": {Name: "gpu", Dir: "gpu", Squashfs: []string{"gpu-worker"}, Channel: "stable", Loader: node.LoaderGRUBShim, Firmware: node.BIOS, Aliases: []string{"filesystem.squashfs", "vmlinuz=kernel"}, Signed: true, LoopLimit: 10, RegistrationToken: "/etc/bootd/secrets/registration-gpu",
			Install:  &node.Install{Done: node.DoneCallback, Within: time.Hour, CheckIn: 30 * time.Minute, Ready: node.ReadyCheckedIn},
			Validate: &node.Validate{OS: "Ubuntu 24.04*", Bond: "bond0", BondMode: "802.3ad", BondMembers: 4, Wiped: 5e12, Services: []string{"stylus-agent"}, Registered: true},
			Hosts:    hosts(t, "gpu*"), ScriptArgs: []node.ScriptArg{{Arg: "rd.luks=0", Hosts: hosts(t, "ncn-w*,fmn*")}}},
		"kubernetes": {Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}, Channel: "stable", LoopLimit: 10, RegistrationToken: "/etc/bootd/secrets/registration",
			Hosts: hosts(t, "ncn-m*,ncn-w*,fmn*"), ScriptArgs: []node.ScriptArg{{Arg: "rd.luks=0", Hosts: hosts(t, "ncn-w*,fmn*")}}},
		"storage-ceph": {Name: "storage-ceph", Dir: "ceph", Squashfs: []string{"storage-ceph"}, Channel: "stable", LoopLimit: 10, RegistrationToken: "/etc/bootd/secrets/registration", Hosts: hosts(t, "ncn-s*")},
	}
	if diff := cmp.Diff(wantRoles, c.Inventory.Roles(), cmp.AllowUnexported(node.Pattern{})); diff != "" {
		t.Errorf("roles: want (-) got (+):\n%s", diff)
	}
}

func hosts(t *testing.T, list string) []node.Pattern {
	t.Helper()
	ps, err := node.ParsePatterns(list)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// Every key that the parser knows is in reference.yaml and in the manual. The
// reference is decoded, so that a key in a comment does not count.
func TestEveryKeyIsDocumented(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	tree, _, problem := parse(reference)
	if problem != "" {
		t.Fatal(problem)
	}
	var visit func(typ reflect.Type, at place)
	visit = func(typ reflect.Type, at place) {
		for i, key := range keys(typ) {
			at, field := at.key(key), typ.Field(i).Type
			if pos := locate(tree, at.parent()); pos == locate(tree, at) {
				t.Errorf("reference.yaml has no %v", at)
			}
			if !strings.Contains(string(manual), "`"+key+"`") {
				t.Errorf("docs/configuration.md has no `%s`", key)
			}
			if field.Kind() == reflect.Slice {
				at, field = at.parent().item(key, 0, ""), field.Elem()
			}
			if field.Kind() == reflect.Pointer {
				field = field.Elem()
			}
			if field.Kind() == reflect.Struct {
				visit(field, at)
			}
		}
	}
	visit(reflect.TypeFor[raw](), place{})
}

func TestMinimal(t *testing.T) {
	c, err := Parse("minimal.yaml", Minimal())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Subnets) != 1 || len(c.Inventory.Nodes()) != 1 {
		t.Errorf("got %d subnets and %d nodes, want 1 and 1", len(c.Subnets), len(c.Inventory.Nodes()))
	}
	// What it shows in comments is right too.
	all := strings.ReplaceAll(minimal, "\n    # ", "\n    ")
	if _, err := Parse("minimal.yaml", []byte(all)); err != nil {
		t.Errorf("uncommented: %v", err)
	}
}

func TestDefault(t *testing.T) {
	want, err := Parse("x.yaml", []byte("root: /var/www\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := Default()
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("want (-) got (+):\n%s", diff)
	}
	if n := len(got.Inventory.Roles()); n != 2 {
		t.Errorf("got %d roles, want the 2 built in", n)
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		text string
		got  func(c *Config) any
		want any
	}{
		{"log: {level: debug}", func(c *Config) any { return c.Log.Level }, slog.LevelDebug},
		{"log: {level: warn}", func(c *Config) any { return c.Log.Level }, slog.LevelWarn},
		{"log: {level: error}", func(c *Config) any { return c.Log.Level }, slog.LevelError},
		{"log: {format: json}", func(c *Config) any { return c.Log.Format }, JSON},
		{"tftp: {enabled: false}", func(c *Config) any { return c.TFTP }, TFTP{false, 69}},
		{"tftp:", func(c *Config) any { return c.TFTP }, TFTP{true, 69}},
		{"root: /srv//www/", func(c *Config) any { return c.Root }, "/srv/www"},
		{"root: '/srv/www'\r\nstate: /srv/state\r\n", func(c *Config) any { return c.State }, "/srv/state"},
		{"\ufeffroot: /srv/www", func(c *Config) any { return c.Root }, "/srv/www"},
		{"---\nroot: /srv/www\n...\n", func(c *Config) any { return c.Root }, "/srv/www"},
		{"roles: [{name: kubernetes, release: 1.2.3}]", func(c *Config) any {
			r, _ := c.Inventory.Role("kubernetes")
			return fmt.Sprintln(r.Name, r.Dir, r.Squashfs, r.Channel, r.Release, r.Hosts, r.ScriptArgs)
		}, "kubernetes k8s [kubernetes] stable 1.2.3 [ncn-m* ncn-w* fmn*] [{rd.luks=0 [ncn-w* fmn*]}]\n"},
		{"roles: [{name: storage-ceph, channel: unstable, dir: c2}]", func(c *Config) any {
			r, _ := c.Inventory.Role("storage-ceph")
			return fmt.Sprintln(r.Name, r.Dir, r.Squashfs, r.Channel, r.Release, r.Hosts, r.ScriptArgs)
		}, "storage-ceph c2 [storage-ceph] unstable  [ncn-s*] []\n"},
		{"subnets: [{interface: eth1, domain: MTL.Example, mode: shared}]", func(c *Config) any {
			return fmt.Sprintf("%s %v", c.Subnets[0].Domain, c.Subnets[0].Mode)
		}, "mtl.example shared"},
		{"subnets: [{interface: eth1, pools: [10.1.0.5 - 10.1.0.9]}]", func(c *Config) any {
			return c.Subnets[0].Pools[0].String()
		}, "10.1.0.5-10.1.0.9"},
		{"subnets: [{interface: eth1, unknown: ignore, identity: client-id}]", func(c *Config) any {
			return fmt.Sprint(c.Subnets[0].Unknown, c.Subnets[0].ByClientID)
		}, "ignore true"},
		{"subnets: [{interface: eth1, unknown: quarantine, pools: [10.1.0.5 for unknown]}]", func(c *Config) any {
			return fmt.Sprint(c.Subnets[0].Unknown, c.Subnets[0].Pools)
		}, "quarantine [10.1.0.5]"},
		{"nodes: [{name: a, role: kubernetes, macs: [525400123456], boot: hold, serial: 00123}]", func(c *Config) any {
			n := c.Inventory.Nodes()[0]
			return fmt.Sprintf("%v %v %s", n.MACs[0], n.Want, n.Serial)
		}, "52:54:00:12:34:56 hold 00123"},
		{"nodes: [{name: a, role: kubernetes, macs: [52:54:00:12:34:56], boot: local, serial: 12e4}]", func(c *Config) any {
			n := c.Inventory.Nodes()[0]
			return fmt.Sprintf("%v %v %s", n.MACs[0], n.Want, n.Serial)
		}, "52:54:00:12:34:56 local 12e4"},
	} {
		c, err := Parse("x.yaml", []byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
		} else if got := tt.got(c); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.text, got, tt.want)
		}
	}
}

func TestCheckArgs(t *testing.T) {
	text := `
roles: [{name: kubernetes, args: "quiet bad"}]
nodes:
  - {name: a, role: kubernetes, macs: [52:54:00:00:00:01], args: bad}
  - {name: b, role: kubernetes, macs: [52:54:00:00:00:02], args: quiet}
  - {name: c, role: kubernetes, macs: [52:54:00:00:00:03]}
`
	check := func(s string) error {
		if strings.Contains(s, "bad") {
			return fmt.Errorf("%q is bad", s)
		}
		return nil
	}
	_, err := Parse("x.yaml", []byte(text), CheckArgs(check))
	wantError(t, err, `x.yaml:2:34: roles[0] "kubernetes": args: "quiet bad" is bad
x.yaml:4:66: nodes[0] "a": args: "bad" is bad`)
	if _, err := Parse("x.yaml", []byte(text)); err != nil {
		t.Errorf("without the option: %v", err)
	}
}

func TestFlags(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := draftFlags(Flags{Interface: "eth1", Range: "10.1.1.100-10.1.1.200", Root: "www", State: "/s/"}).Config()
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Root, want.State = filepath.Join(dir, "www"), "/s"
	want.Subnets = []Subnet{{
		Interface: "eth1", Pools: []Pool{{span("10.1.1.100", "10.1.1.200"), ""}},
		Lease: time.Hour, MinLease: 5 * time.Minute, MaxLease: time.Hour, BootLease: 20 * time.Minute, Probe: 200 * time.Millisecond,
	}}
	if diff := cmp.Diff(want, c, compare); diff != "" {
		t.Errorf("want (-) got (+):\n%s", diff)
	}

	c, err = draftFlags(Flags{Interface: "eth1", Proxy: true}).Config()
	if err != nil {
		t.Fatal(err)
	}
	want.Subnets[0].Mode, want.Subnets[0].Pools = Proxy, nil
	if diff := cmp.Diff(want.Subnets, c.Subnets, compare); diff != "" {
		t.Errorf("--proxy: want (-) got (+):\n%s", diff)
	}
	_, err = draftFlags(Flags{Interface: "eth1", Proxy: true, Range: "10.1.1.100-10.1.1.200"}).Config()
	wantError(t, err, `--range: not in mode proxy: another server leases the addresses of this subnet`)

	_, err = draftFlags(Flags{Root: "/w", State: "/w/s"}).Config()
	wantError(t, err, `--state: "/w/s" is inside root "/w", which is served to everybody
--interface: missing
--range: missing`)
	_, err = draftFlags(Flags{Interface: "e/1", Range: "10.1.1.9-10.1.1.2", Root: "/", Socket: "/" + strings.Repeat("s", 107)}).Config()
	wantError(t, err, `--root: "/" would serve every file of this host
--interface: "e/1" is not the name of an interface such as eth1
--range: "10.1.1.9-10.1.1.2" is reversed: write 10.1.1.2-10.1.1.9`)
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yaml")
	if _, err := Load(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
	path := filepath.Join(dir, "bootd.yaml")
	for _, tt := range []struct{ text, want string }{
		{"root: www\n", path + `:1:7: root: "www" is not an absolute path`},
		{strings.Repeat("#", maxSize+1), path + ": file is bigger than 16 MiB"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		wantError(t, err, tt.want)
	}
	if err := os.WriteFile(path, Minimal(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory: got no error")
	}
	fifo := filepath.Join(dir, "fifo") // that nobody writes to: it is read as empty, at once
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(fifo)
	wantError(t, err, fifo+": file is empty: start from what bootd config init prints")
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	got := "<nil>"
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got  %s\nwant %s", strings.ReplaceAll(got, "\n", "\n     "), strings.ReplaceAll(want, "\n", "\n     "))
	}
}

// Ten thousand nodes, the size of the largest sites, are to take about a
// second.
func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	text.WriteString("subnets: [{interface: eth1, subnet: 10.0.0.0/8, pools: [10.200.0.1-10.250.0.0]}]\nnodes:\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "  - name: ncn-w%05d\n    role: kubernetes\n    macs: [52:54:00:00:%02x:%02x, 52:54:00:01:%02x:%02x]\n"+
			"    bmc: 52:54:00:02:%02[2]x:%02[3]x\n    serial: S%[1]d\n    address: 10.1.%[2]d.%[3]d\n", i, i>>8, i&255, i>>8, i&255)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		c, err := Parse("x.yaml", []byte(text.String()))
		if err != nil || len(c.Inventory.Nodes()) != 10_000 {
			b.Fatal(err)
		}
	}
}
