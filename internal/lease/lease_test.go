package lease_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bootd/internal/lease"
	"bootd/internal/node"
)

func read(t testing.TB, in string, f lease.Format) (good []lease.Lease, bad []lease.Line) {
	t.Helper()
	err := lease.Read(strings.NewReader(in), f, func(l lease.Line) error {
		if l.Err != nil {
			bad = append(bad, l)
			return nil
		}
		good = append(good, l.Lease)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return good, bad
}

func write(t testing.TB, list []lease.Lease, f lease.Format) string {
	t.Helper()
	var b bytes.Buffer
	w := lease.NewWriter(&b, f)
	for i := range list {
		if err := w.Write(&list[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What dnsmasq 2.90 wrote for udhcpc with a name and a domain, without a
// client identifier, with a name that is none, with an identifier of its own
// and with an infinite lease, is read and written as it was.
func TestDnsmasqFile(t *testing.T) {
	file, err := os.ReadFile("testdata/dnsmasq-2.90.leases")
	if err != nil {
		t.Fatal(err)
	}
	good, bad := read(t, string(file), lease.Dnsmasq)
	if len(bad) > 0 || len(good) != 5 {
		t.Fatalf("got %d leases and %+v, want 5 and no fault", len(good), bad)
	}
	want := lease.Lease{Addr: netip.MustParseAddr("10.77.0.57"), MAC: node.MAC{0x52, 0x54, 0, 0, 0, 5}, State: lease.Bound,
		Expires: lease.Never, ClientID: "01:52:54:00:00:00:05", Hostname: "good"}
	if good[0] != want {
		t.Errorf("got %+v\nwant %+v", good[0], want)
	}
	for i := range good {
		good[i].Name = lease.Label(good[i].Hostname)
	}
	if got := write(t, good, lease.Dnsmasq); got != string(file) {
		t.Errorf("got\n%swant\n%s", got, file)
	}
}

func TestRoundTrip(t *testing.T) {
	end := time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)
	list := []lease.Lease{
		{Addr: netip.MustParseAddr("10.0.0.1"), MAC: node.MAC{2, 0, 0, 0, 0, 1}, State: lease.Bound, Start: end.Add(-time.Hour), Expires: end, ClientID: "01:02", Hostname: `a,"b" c`},
		{Addr: netip.MustParseAddr("10.0.0.2"), MAC: node.MAC{2, 0, 0, 0, 0, 2}, State: lease.Released, Expires: end, Node: "ncn-m001", Name: "ncn-m001"},
		{Addr: netip.MustParseAddr("10.0.0.3"), State: lease.Declined, Expires: end},
		{Addr: netip.MustParseAddr("10.0.0.4"), State: lease.Bound, Expires: lease.Never, ClientID: "ff:00"},
	}
	for _, f := range []lease.Format{lease.JSON, lease.CSV} {
		got, bad := read(t, write(t, list, f), f)
		for i := range got {
			got[i].Node, got[i].Name = list[i].Node, list[i].Name // who a machine is, is not for files to say
		}
		if len(bad) > 0 || !slices.Equal(got, list) {
			t.Errorf("%v: got %+v, %+v\nwant %+v", f, got, bad, list)
		}
	}
}

// Each line that is wrong is told with its own reason; the others are read.
func TestBadLines(t *testing.T) {
	const good = "1900000000 52:54:00:00:00:01 10.1.2.1 * *"
	const goodJSON = `{"ip":"10.1.2.1","mac":"52:54:00:00:00:01","expires":"2031-01-01T00:00:00Z"}`
	const heading = "ip,mac,expires,start,state,client_id,hostname\n"
	for _, tt := range []struct {
		f          lease.Format
		line, want string
	}{
		{lease.Dnsmasq, "1900000000 52:54:00:00:00:01 10.1.2.1 *", "4 fields, where dnsmasq writes 5: expiry, MAC, address, name and client-id"},
		{lease.Dnsmasq, "-1 52:54:00:00:00:01 10.1.2.1 * *", `"-1" is not a time in seconds`},
		{lease.Dnsmasq, "9223372036854775807 52:54:00:00:00:01 10.1.2.1 * *", "expires: no lease was ever valid until then"},
		{lease.Dnsmasq, "99999999999999999999 52:54:00:00:00:01 10.1.2.1 * *", `"99999999999999999999" is not a time in seconds`},
		{lease.Dnsmasq, "1 52:54:00:00:00 10.1.2.1 * *", `"52:54:00:00:00" is not a MAC address such as 52:54:00:aa:bb:07`},
		{lease.Dnsmasq, "1 01:00:5e:00:00:01 10.1.2.1 * *", "mac: 01:00:5e:00:00:01 is a multicast address, which no machine has"},
		{lease.Dnsmasq, "1 20-52:54 10.1.2.1 * 01:02", `"20-52:54" is not the address of an Ethernet card`},
		{lease.Dnsmasq, "1 20- 10.1.2.1 * *", "neither mac nor client_id: whose lease is it?"},
		{lease.Dnsmasq, "1 52:54:00:00:00:01 10.1.2 * *", `"10.1.2" is not an IP address`},
		{lease.Dnsmasq, "1 52:54:00:00:00:01 fd00::1 * *", "fd00::1 is an IPv6 lease"},
		{lease.Dnsmasq, "1 52:54:00:00:00:01 10.1.2.1 * 1:2", `"1:2" is not a client identifier such as 01:52:54:00:aa:bb:07`},
		{lease.Dnsmasq, "1 52:54:00:00:00:01 10.1.2.1 " + strings.Repeat("x", 256) + " *", "hostname: 256 bytes, where DHCP allows 255"},
		{lease.Dnsmasq, strings.Repeat("x", 17<<10), "longer than 16384 bytes"},
		{lease.JSON, "[]", "not a lease in JSON: : a array"},
		{lease.JSON, `{"ip":7}`, "not a lease in JSON: ip: a number"},
		{lease.JSON, `{`, "not a lease in JSON: unexpected end of JSON input"},
		{lease.JSON, `{}`, "ip: missing"},
		{lease.JSON, `{"ip":"fd00::1"}`, "ip: fd00::1 is not an IPv4 address"},
		{lease.JSON, `{"ip":"10.1.2.1","mac":"52:54:00:00:00:01"}`, "expires: missing"},
		{lease.JSON, `{"ip":"10.1.2.1","state":"lost"}`, `state: "lost" is not one of bound, expired, released, declined`},
		{lease.CSV, "10.1.2.1,52:54:00:00:00:01", "2 fields, where the heading has 7"},
		{lease.CSV, `"10.1.2.1,52:54:00:00:00:01,,,,,`, "not CSV: extraneous or missing \" in quoted-field"},
		{lease.CSV, "10.1.2.1,52:54:00:00:00:01,tomorrow,,,,", `expires: "tomorrow" is not a time such as 2026-01-02T15:04:05Z`},
		{lease.CSV, ",,,,,,", `"" is not an IP address`},
	} {
		in := map[lease.Format]string{lease.Dnsmasq: good + "\n", lease.JSON: goodJSON + "\n", lease.CSV: heading}[tt.f] + tt.line + "\n"
		after := map[lease.Format]string{lease.Dnsmasq: good, lease.JSON: goodJSON, lease.CSV: "10.1.2.1,52:54:00:00:00:01,2031-01-01T00:00:00Z,,,,"}[tt.f]
		list, bad := read(t, in+"\r\n"+after, tt.f)
		if len(bad) != 1 || bad[0].Number != 2 || !strings.HasPrefix(bad[0].Err.Error(), tt.want) {
			t.Errorf("%v %.60q: got %+v, want %q on line 2", tt.f, tt.line, bad, tt.want)
		}
		if want := strings.Count(in+after, "10.1.2.1"); len(list) == 0 || len(list) > want {
			t.Errorf("%v %.60q: got %d leases of the other lines", tt.f, tt.line, len(list))
		}
	}
}

func TestBadHeading(t *testing.T) {
	for in, want := range map[string]string{
		"ip,mac\n":                 "line 1: the heading has no column expires",
		"ip,mac,expires,colour\n":  `line 1: "colour" is no column of leases, or there twice: known are ip, mac,`,
		"ip,mac,expires,ip\n":      `line 1: "ip" is no column of leases, or there twice`,
		"\ufeffmac,ip,expires\r\n": "",
	} {
		err := lease.Read(strings.NewReader(in), lease.CSV, func(lease.Line) error { return nil })
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
}

func TestReadEnds(t *testing.T) {
	broken := errors.New("broken pipe")
	if err := lease.Read(io.MultiReader(strings.NewReader("duid x\n"), iotestErr{broken}), lease.Dnsmasq, nil); err != broken {
		t.Errorf("got %v, want the error of the reader", err)
	}
	stop := errors.New("stop")
	if err := lease.Read(strings.NewReader("x\ny\n"), lease.JSON, func(lease.Line) error { return stop }); err != stop {
		t.Errorf("got %v, want the error of visit", err)
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{
		"foo.example.com": "foo", "Foo": "Foo", "bad_na%me": "", "": "", ".x": "", "-a": "", "a\x1b[2J": "", "ncn-m001": "ncn-m001",
	} {
		if got := lease.Label(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestFilter(t *testing.T) {
	l := lease.Lease{Addr: netip.MustParseAddr("10.1.1.7"), MAC: node.MAC{2, 0, 0, 0, 0, 1}, Node: "ncn-m001", State: lease.Expired}
	for query, want := range map[string]bool{
		"": true, "ip=10.1.1.7": true, "ip=10.1.1.8": false, "mac=02-00-00-00-00-01": true, "mac=02:00:00:00:00:02": false,
		"node=ncn-m001": true, "node=ncn-m001-mgmt": false, "subnet=10.1.9.9/16": true, "subnet=10.2.0.0/16": false,
		"state=expired": true, "state=bound": false, "in-force=no": true, "in-force=yes": false, "ip=10.1.1.7&state=bound": false,
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := lease.ParseFilter(v)
		if err != nil || f.Match(&l) != want {
			t.Errorf("%q: got %v, %v, want %v", query, f.Match(&l), err, want)
		}
		if again, err := lease.ParseFilter(f.Values()); err != nil || again != f {
			t.Errorf("%q: got %+v, %v after Values, want %+v", query, again, err, f)
		}
	}
	for query, want := range map[string]string{
		"ip=x": `ip: "x" is not an IP address`, "mac=x": `mac: "x" is not a MAC address`, "subnet=10.1.0.0": `subnet: "10.1.0.0" is not a network`,
		"state=x": `state: "x" is not one of`, "in-force=x": `in-force: "x" is not yes or no`, "colour=red": "colour: not a property of leases",
	} {
		v, _ := url.ParseQuery(query)
		if _, err := lease.ParseFilter(v); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", query, err, want)
		}
	}
}

// Whatever is in a file, a lease that is read has an address and an owner, and
// can be written and read again.
func FuzzRead(f *testing.F) {
	f.Add("1900000000 52:54:00:00:00:01 10.1.2.1 guest 01:52:54:00:00:00:01\nduid 00\n", uint8(lease.Dnsmasq))
	f.Add("0 20- 10.1.2.1 * ff\n", uint8(lease.Dnsmasq))
	f.Add("ip,mac,expires,hostname\n10.1.2.1,52:54:00:00:00:01,2031-01-01T00:00:00Z,\"a,\"\"b\"\n", uint8(lease.CSV))
	f.Add(`{"ip":"10.1.2.1","mac":"52:54:00:00:00:01","expires":"2031-01-01T00:00:00Z","state":"released"}`, uint8(lease.JSON))
	f.Fuzz(func(t *testing.T, in string, format uint8) {
		number := 0
		err := lease.Read(strings.NewReader(in), lease.Format(format%3), func(l lease.Line) error {
			if l.Number <= number {
				t.Errorf("line %d after %d", l.Number, number)
			}
			if number = l.Number; l.Err != nil {
				return nil
			}
			if !l.Addr.Is4() || l.MAC.IsZero() && l.ClientID == "" && l.State != lease.Declined || l.Expires.IsZero() {
				t.Errorf("got %+v", l.Lease)
			}
			l.Expires, l.Start = l.Expires.UTC().Truncate(time.Second), l.Start.UTC().Truncate(time.Second)
			l.Hostname, l.Node, l.Name = lease.Printable(l.Hostname), "", ""
			for _, f := range []lease.Format{lease.JSON, lease.CSV} {
				if again, bad := read(t, write(t, []lease.Lease{l.Lease}, f), f); len(bad) > 0 || len(again) != 1 || again[0] != l.Lease {
					t.Errorf("%v: got %+v, %+v, want %+v", f, again, bad, l.Lease)
				}
			}
			return nil
		})
		if err != nil && lease.Format(format%3) != lease.CSV {
			t.Error(err)
		}
	})
}
