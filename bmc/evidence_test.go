package bmc_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bootd/bmc"
	"bootd/internal/node"
)

func mac(last byte) node.MAC { return node.MAC{0x52, 0x54, 0, 0xb, 0xc, last} }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var equal = cmp.Options{cmp.AllowUnexported(bmc.Secret{}), cmpopts.EquateComparable(netip.Addr{})}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// The lines are of dnsmasq 2.90 (lease_update_file in lease.c writes them).
func TestReadLeases(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []bmc.Lease
		err        string
	}{
		{name: "none"},
		{
			name: "BMC", text: "1795222800 52:54:00:0b:0c:02 10.254.1.6 ncn-m002-mgmt *\n",
			want: []bmc.Lease{{time.Unix(1795222800, 0), mac(2), addr("10.254.1.6"), "ncn-m002-mgmt"}},
		},
		{
			name: "never ends, no name, client-id", text: "0 52:54:00:0b:0c:02 10.254.1.6 * 01:52:54:00:0b:0c:02",
			want: []bmc.Lease{{MAC: mac(2), Addr: addr("10.254.1.6")}},
		},
		{
			name: "IPv6 and other hardware",
			text: "1 20-00:01:02:03:04:05:06:07 10.0.0.1 * *\n\nduid 00:01:00:01:2a:2b\n1 12345 fd00::2 ncn-m009-mgmt 00:01\n",
		},
		{name: "fields", text: "\n1 52:54:00:0b:0c:02", err: "line 2: 2 fields, want 5: expiry, MAC, address, host and client-id"},
		{name: "expiry", text: "-1 52:54:00:0b:0c:02 10.0.0.1 a *", err: `line 1: expiry: "-1" is not a time in seconds`},
		{name: "MAC", text: "1 52:54 10.0.0.1 a *", err: `line 1: "52:54" is not a MAC address such as 52:54:00:aa:bb:07`},
		{name: "address", text: "1 52:54:00:0b:0c:02 10.0.0 a *", err: `line 1: address: "10.0.0" is not an IPv4 address`},
		{
			name: "a bad line hides no other", text: "x\n0 52:54:00:0b:0c:03 10.254.1.7 a *\ny\n",
			want: []bmc.Lease{{MAC: mac(3), Addr: addr("10.254.1.7"), Host: "a"}},
			err:  "line 1: 1 fields, want 5: expiry, MAC, address, host and client-id\nline 3: 1 fields, want 5: expiry, MAC, address, host and client-id",
		},
		{name: "too long", text: "\n" + strings.Repeat("x", 70000), err: "line 2: longer than 65536 bytes; it and what follows was not read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := bmc.ReadLeases(strings.NewReader(tt.text))
			if message(err) != tt.err {
				t.Errorf("got error %q, want %q", message(err), tt.err)
			}
			if diff := cmp.Diff(tt.want, got, equal); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestReadConman(t *testing.T) {
	m002 := []bmc.Console{{"ncn-m002-mgmt", "10.254.1.6", "root", bmc.NewSecret("s3cret")}}
	for _, tt := range []struct {
		name, text string
		want       []bmc.Console
		err        string
	}{
		{"csi before 2.0", `console name="ncn-m002-mgmt" dev="ipmi:10.254.1.6" ipmiopts="U:root,P:s3cret,W:solpayloadsize"`, m002, ""},
		{"csi since 2.0", `console name="ncn-m002-mgmt" ipmiopts="U:root,P:s3cret,W:solpayloadsize" dev="ipmi:10.254.1.6"`, m002, ""},
		{"name last, single quotes", `CONSOLE Dev='ipmi:10.254.1.6' IpmiOpts='P:s3cret,U:root' NAME='ncn-m002-mgmt'`, m002, ""},
		{"no quotes, blanks", "console\tname = ncn-m002-mgmt dev= ipmi:10.254.1.6 ipmiopts =U:root,P:s3cret # BMC", m002, ""},
		{"two lines", "console name=ncn-m002-mgmt \\\n  dev=ipmi:10.254.1.6 ipmiopts=U:root,P:s3cret", m002, ""},
		{"global", "global ipmiopts=\"U:root,P:s3cret\"\nconsole name=ncn-m002-mgmt dev=ipmi:10.254.1.6", m002, ""},
		{"hash and colon in the password", `console name="a-mgmt" dev="ipmi:h" ipmiopts="U:root,P:a#b:c=d"`, []bmc.Console{{"a-mgmt", "h", "root", bmc.NewSecret("a#b:c=d")}}, ""},
		{"others", "server keepalive=ON\nglobal seropts=\"115200,8n1\"\nconsole name=x dev=/dev/ttyS0\n# console dev=ipmi:y\n", nil, ""},
		{"no dev", "console name=x", nil, "line 1: console: no dev"},
		{"no name", "\nconsole dev=ipmi:x", nil, "line 2: console: no name"},
		{"no host", "console name=x dev=ipmi:", nil, `line 1: console "x": dev: "ipmi:" has no host`},
		{"quote", `console name="x dev=ipmi:y` + "\nconsole name=a-mgmt dev=ipmi:h", []bmc.Console{{Name: "a-mgmt", Host: "h"}}, `line 1: quote " is not closed`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := bmc.ReadConman(strings.NewReader(tt.text))
			if message(err) != tt.err {
				t.Errorf("got error %q, want %q", message(err), tt.err)
			}
			if diff := cmp.Diff(tt.want, got, equal); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestReadStatics(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []bmc.Record
		err        string
	}{
		{"host-record", "host-record=ncn-m002-mgmt,ncn-m002-mgmt.hmn,10.254.1.6", []bmc.Record{{Name: "ncn-m002-mgmt", Addr: addr("10.254.1.6")}}, ""},
		{"other order", "host-record=ncn-m002.mtl,ncn-m002-mgmt,10.254.1.6,fd00::6", []bmc.Record{{Name: "ncn-m002-mgmt", Addr: addr("10.254.1.6")}}, ""},
		{"fabric manager", "host-record=fmn001-mgmt,10.254.1.9", []bmc.Record{{Name: "fmn001-mgmt", Addr: addr("10.254.1.9")}}, ""},
		{"dhcp-host", "dhcp-host=52:54:00:0b:0c:06,10.254.1.6,ncn-m002-mgmt,20m #HMN", []bmc.Record{{"ncn-m002-mgmt", addr("10.254.1.6"), mac(6)}}, ""},
		{"others", "dhcp-host=id:x1,set:ncn-m002,52:54:00:00:00:01,10.1.1.2,ncn-m002,20m\nhost-record=ncn-m002,ncn-m002.nmn,10.252.1.5\n#host-record=ncn-m003-mgmt,10.254.1.7\ndomain=nmn\n", nil, ""},
		{"no address", "\nhost-record=ncn-m002-mgmt,ncn-m002-mgmt.hmn", nil, `line 2: host-record "ncn-m002-mgmt": no IPv4 address`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := bmc.ReadStatics(strings.NewReader(tt.text))
			if message(err) != tt.err {
				t.Errorf("got error %q, want %q", message(err), tt.err)
			}
			if diff := cmp.Diff(tt.want, got, equal); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func inventory(t *testing.T, nodes ...node.Node) *node.Inventory {
	t.Helper()
	inv, err := node.NewInventory(nodes, []node.Role{{Name: "kubernetes"}})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

var now = time.Unix(1795000000, 0)

func TestFind(t *testing.T) {
	lease := func(last byte, host string) bmc.Lease {
		return bmc.Lease{MAC: mac(last), Addr: netip.AddrFrom4([4]byte{10, 254, 1, last}), Host: host}
	}
	record := func(last byte, name string) bmc.Record {
		return bmc.Record{Name: name, Addr: netip.AddrFrom4([4]byte{10, 254, 1, last})}
	}
	ended := lease(2, "ncn-m002-mgmt")
	ended.Expiry = now
	m002 := node.Node{Name: "ncn-m002", Role: "kubernetes", MACs: []node.MAC{mac(0x22)}, BMC: mac(2)}
	for _, tt := range []struct {
		name string
		e    bmc.Evidence
		want []bmc.Target
	}{
		{"a lease", bmc.Evidence{Leases: []bmc.Lease{lease(2, "ncn-m002-mgmt")}},
			[]bmc.Target{{Node: "ncn-m002", MAC: mac(2), Host: "10.254.1.2", Leased: true}}},
		{"the lease of a node is not of its BMC", bmc.Evidence{Leases: []bmc.Lease{lease(2, "ncn-m002"), lease(3, "")}}, nil},
		{"an ended lease", bmc.Evidence{Leases: []bmc.Lease{ended}}, nil},
		{"the inventory, by MAC", bmc.Evidence{Inventory: inventory(t, m002), Leases: []bmc.Lease{lease(2, "")}},
			[]bmc.Target{{Node: "ncn-m002", MAC: mac(2), Host: "10.254.1.2", Expected: true, Leased: true}}},
		{"the inventory is truth", bmc.Evidence{Inventory: inventory(t, m002), Leases: []bmc.Lease{lease(9, "ncn-m002-mgmt")}},
			[]bmc.Target{{Node: "ncn-m002", MAC: mac(2), Expected: true, Note: `the lease "ncn-m002-mgmt" is of 52:54:00:0b:0c:09, the inventory says 52:54:00:0b:0c:02`}}},
		{"a dhcp-host, by MAC", bmc.Evidence{Records: []bmc.Record{{Name: "ncn-m002-mgmt", MAC: mac(2)}}, Leases: []bmc.Lease{lease(2, "")}},
			[]bmc.Target{{Node: "ncn-m002", MAC: mac(2), Host: "10.254.1.2", Expected: true, Leased: true}}},
		{"conman before the record", bmc.Evidence{
			Records:  []bmc.Record{record(6, "ncn-m002-mgmt")},
			Consoles: []bmc.Console{{"ncn-m002-mgmt", "10.254.1.99", "root", bmc.NewSecret("x")}},
		}, []bmc.Target{{Node: "ncn-m002", Host: "10.254.1.99", User: "root", Password: bmc.NewSecret("x"), Expected: true}}},
		{"conman by name", bmc.Evidence{
			Records:  []bmc.Record{record(6, "ncn-m002-mgmt")},
			Consoles: []bmc.Console{{Name: "ncn-m002-mgmt", Host: "ncn-m002-mgmt"}, {Name: "sw-spine-001", Host: "10.254.1.50"}},
		}, []bmc.Target{{Node: "ncn-m002", Host: "10.254.1.6", Expected: true}}},
		{"the lease before conman", bmc.Evidence{
			Leases:   []bmc.Lease{lease(2, "ncn-m002-mgmt")},
			Consoles: []bmc.Console{{Name: "ncn-m002-mgmt", Host: "10.254.1.99"}},
		}, []bmc.Target{{Node: "ncn-m002", MAC: mac(2), Host: "10.254.1.2", Expected: true, Leased: true}}},
		{"not self", bmc.Evidence{Self: "ncn-m001", Leases: []bmc.Lease{lease(1, "ncn-m001-mgmt"), lease(2, "ncn-m002-mgmt")}, Records: []bmc.Record{record(1, "ncn-m001-mgmt")}},
			[]bmc.Target{{Node: "ncn-m002", MAC: mac(2), Host: "10.254.1.2", Leased: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.e.Now = now
			if diff := cmp.Diff(tt.want, bmc.Find(tt.e), equal); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// Defects 3, 4 and 5 of table 1.7 (csm.md): who is missing is told by name, an
// extra lease is nobody's BMC, and no lease file means that all are missing.
func TestMissing(t *testing.T) {
	records := []bmc.Record{{Name: "ncn-m002-mgmt"}, {Name: "ncn-s001-mgmt"}}
	extra := []bmc.Lease{{MAC: mac(1), Addr: addr("10.254.1.1"), Host: "ncn-m001-mgmt"}, {MAC: mac(7), Addr: addr("10.254.1.7"), Host: "sw-leaf-mgmt"}, {MAC: mac(2), Addr: addr("10.254.1.2"), Host: "ncn-m002-mgmt"}}
	for _, tt := range []struct {
		leases []bmc.Lease
		want   []string
	}{
		{nil, []string{"ncn-m002", "ncn-s001"}},
		{extra, []string{"ncn-s001"}},
		{append(slices.Clone(extra), bmc.Lease{MAC: mac(3), Addr: addr("10.254.1.3"), Host: "ncn-s001-mgmt"}), nil},
	} {
		got := bmc.Missing(bmc.Find(bmc.Evidence{Records: records, Leases: tt.leases, Now: now}))
		if !slices.Equal(got, tt.want) {
			t.Errorf("got %v, want %v", got, tt.want)
		}
	}
}

func TestSelfAmong(t *testing.T) {
	nodes := []string{"ncn-m001", "ncn-m002"}
	for hostname, want := range map[string]string{
		"ncn-m001": "ncn-m001", "NCN-m001.local": "ncn-m001", "surtur-ncn-m002-pit": "ncn-m002", "ncn-m001-pit": "ncn-m001",
		"": "", "ncn-m0011": "", "xncn-m001": "", "ncn-m001-mgmt": "", "boot": "",
	} {
		if got := bmc.SelfAmong(hostname, nodes); got != want {
			t.Errorf("%q: got %q, want %q", hostname, got, want)
		}
	}
}

// However a password is printed, it is not there.
func TestSecret(t *testing.T) {
	s := bmc.NewSecret("hunter2")
	target := bmc.Target{Node: "a", Password: s}
	asJSON, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "target", target, "s", s, "p", &s)
	hidden := struct{ inner struct{ s bmc.Secret } }{}
	hidden.inner.s = s
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, any(s)), fmt.Sprintf("%+v %#v", hidden, hidden), fmt.Sprintf("%v %+v %#v", target, target, &target),
		string(asJSON), log.String(), fmt.Sprint(fmt.Errorf("x: %v", s)),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("got %s, want no password in it", text)
		}
	}
	if s.Reveal() != "hunter2" || s.IsZero() || !(bmc.Secret{}).IsZero() {
		t.Error("Reveal or IsZero: got another password")
	}
}

// The parsers take any text without a panic, and what they take is valid.
func FuzzEvidence(f *testing.F) {
	for _, s := range []string{
		"0 52:54:00:0b:0c:02 10.254.1.6 ncn-m002-mgmt *\nduid 00", `console name="a-mgmt" ipmiopts="U:root,P:x" dev='ipmi:h' # c`,
		"console name=a \\\n dev = ipmi:h", "host-record=a-mgmt,10.0.0.1", "dhcp-host=52:54:00:0b:0c:06,10.254.1.6,a-mgmt,20m", "global ipmiopts=\"", "=", "a = =",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		leases, _ := bmc.ReadLeases(strings.NewReader(text))
		consoles, _ := bmc.ReadConman(strings.NewReader(text))
		records, _ := bmc.ReadStatics(strings.NewReader(text))
		for _, c := range consoles {
			if c.Host == "" || c.Name == "" {
				t.Errorf("got %+v, want a name and a host", c)
			}
		}
		for _, target := range bmc.Find(bmc.Evidence{Leases: leases, Consoles: consoles, Records: records, Now: now}) {
			if !node.ValidName(target.Node) {
				t.Errorf("got %q, want a valid name", target.Node)
			}
		}
	})
}

func TestHosts(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	got := bmc.Hosts([]bmc.Lease{
		{MAC: mac(1), Host: "ncn-w002-mgmt"},
		{MAC: mac(2), Host: "NCN-M002-mgmt.hmn", Expiry: now.Add(time.Second)},
		{MAC: mac(3), Host: "ncn-m002"},
		{MAC: mac(4), Host: "ncn-s001.nmn"},
		{MAC: mac(5), Host: "ncn-s002-mgmt", Expiry: now},
		{MAC: mac(6)},
		{MAC: mac(7), Host: "../etc"},
		{MAC: mac(8), Host: "-mgmt"},
	}, now)
	if want := []string{"ncn-m002", "ncn-s001", "ncn-w002"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
