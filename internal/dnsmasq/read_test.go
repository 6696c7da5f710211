package dnsmasq

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// real runs dnsmasq, the peer whose reading ours has to be.
func real(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if path = "/usr/sbin/dnsmasq"; !exists(path) {
			if os.Getenv("BOOT_REQUIRE") != "" {
				t.Fatal("dnsmasq is not installed, and CI requires it")
			}
			t.Skip("dnsmasq is not installed")
		}
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestLines(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"# comment\n\n  # another\n", ""},
		{"domain=mtl", "1:domain=mtl"},
		{"  domain =  mtl  # why\n", "1:domain=mtl"},
		{"enable-tftp\t#x", "1:enable-tftp"},
		{"dhcp-option=17,a#b", "1:dhcp-option=17,a#b"},
		{`dhcp-option=17,"a # b, c"`, "1:dhcp-option=17,a # b, c"},
		{`dhcp-option=17,"a\"\\\t\n\q"`, "1:dhcp-option=17,a\"\\\t\n\\q"},
		{"domain=a\\\ndomain=b", "1:domain=a\\ 2:domain=b"},
		{"domain=a\r\ndomain=b", "1:domain=a 2:domain=b"},
		{`domain="a`, `fault 1: missing "`},
		{"domain=" + strings.Repeat("x", 4000), "fault 1: longer than the 1024 bytes that dnsmasq reads"},
	} {
		r := &reader{fsys: nothing{}, seen: map[string]bool{}}
		r.text("f", "", tt.text)
		var got []string
		for _, l := range r.lines {
			got = append(got, fmt.Sprintf("%d:%s", l.Number, l.Text()))
		}
		for _, f := range r.faults {
			got = append(got, fmt.Sprintf("fault %d: %s", f.Number, f.Problem))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%.60q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestRead(t *testing.T) {
	site := fstest.MapFS{}
	for name, text := range map[string]string{
		"etc/dnsmasq.conf":        "conf-dir=/etc/dnsmasq.d,*.conf\nconf-file=/etc/dnsmasq.d/b.conf\nport=0\ndhcp-hostsfile=/etc/hosts.d\ndhcp-optsfile=/etc/opts\n",
		"etc/dnsmasq.d/b.conf":    "domain=b\nconf-file=/etc/dnsmasq.conf\n",
		"etc/dnsmasq.d/a.conf":    "domain=a\nconf-file=/missing\n",
		"etc/dnsmasq.d/c.conf~":   "domain=c\n",
		"etc/dnsmasq.d/.d.conf":   "domain=d\n",
		"etc/dnsmasq.d/#e.conf#":  "domain=e\n",
		"etc/dnsmasq.d/f.bak":     "domain=f\n",
		"etc/hosts.d/x":           "52:54:00:00:00:01,10.0.0.1\n",
		"etc/opts":                "3,10.0.0.254\n",
		"etc/debian.d/a":          "domain=a\n",
		"etc/debian.d/a.dpkg-old": "domain=old\n",
		"etc/plain.d/y.bak":       "",
		"etc/plain.d/x":           "domain=x\n",
		"etc/skip":                "conf-dir=/etc/plain.d,.bak\n",
	} {
		site[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for _, tt := range []struct {
		paths string
		want  []string
	}{
		{"/etc/dnsmasq.conf", []string{
			"/etc/dnsmasq.conf:1 conf-dir=/etc/dnsmasq.d,*.conf", "/etc/dnsmasq.d/a.conf:1 domain=a", "/etc/dnsmasq.d/a.conf:2 conf-file=/missing",
			"/etc/dnsmasq.d/b.conf:1 domain=b", "/etc/dnsmasq.d/b.conf:2 conf-file=/etc/dnsmasq.conf", "/etc/dnsmasq.conf:2 conf-file=/etc/dnsmasq.d/b.conf",
			"/etc/dnsmasq.conf:3 port=0", "/etc/dnsmasq.conf:4 dhcp-hostsfile=/etc/hosts.d", "/etc/hosts.d/x:1 dhcp-host=52:54:00:00:00:01,10.0.0.1",
			"/etc/dnsmasq.conf:5 dhcp-optsfile=/etc/opts", "/etc/opts:1 dhcp-option=3,10.0.0.254",
			"/etc/dnsmasq.d/a.conf:2: /missing: file does not exist",
		}},
		{"/etc/debian.d", []string{"/etc/debian.d/a:1 domain=a"}},
		{"/etc/skip", []string{"/etc/skip:1 conf-dir=/etc/plain.d,.bak", "/etc/plain.d/x:1 domain=x"}},
		{"/etc/debian.d /etc/debian.d/a", []string{"/etc/debian.d/a:1 domain=a"}},
	} {
		lines, faults, err := Read(site, strings.Fields(tt.paths)...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range lines {
			got = append(got, l.String()+" "+l.Text())
		}
		for _, f := range faults {
			got = append(got, f.Error())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: want (-) got (+):\n%s", tt.paths, diff)
		}
	}
	if _, _, err := Read(site, "/nowhere"); err == nil || err.Error() != "/nowhere: file does not exist" {
		t.Errorf("got %v, want that there is no such file", err)
	}
}

// The names and numbers of options are dnsmasq's own.
func TestKnownOptions(t *testing.T) {
	out, err := real(t, "--help", "dhcp")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^ *(\d+) (\S+)$`).FindAllStringSubmatch(out, -1)
	if len(list) < 50 {
		t.Fatalf("got %d options of\n%s", len(list), out)
	}
	for _, m := range list {
		if k, ok := known[m[2]]; !ok || fmt.Sprint(k.code) != m[1] {
			t.Errorf("%s: got %d, %v, dnsmasq has %s", m[2], k.code, ok, m[1])
		}
	}
}

// refuses reports whether dnsmasq refuses the text of a file.
func refuses(t *testing.T, text string) (string, bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dnsmasq.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := real(t, "--test", "--conf-file="+path)
	return out, err != nil
}

// What we take for a fault is one to dnsmasq, and nothing else is. The last
// column is the fault, or what is understood.
func TestAsDnsmasq(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"dhcp-range=10.1.1.9,10.1.1.2", "10.1.1.2-10.1.1.9 mode 0 /0 0s"},
		{"dhcp-range=10.1.1.2,10.1.1.9,255.255.0.0,10.1.255.255,45m", "10.1.1.2-10.1.1.9 mode 0 /16 45m0s"},
		{"dhcp-range=10.1.1.2,10.1.1.9,30", "10.1.1.2-10.1.1.9 mode 0 /0 2m0s"},
		{"dhcp-range=10.1.1.2,10.1.1.9,1w", "10.1.1.2-10.1.1.9 mode 0 /0 168h0m0s"},
		{"dhcp-range=10.1.1.2,10.1.1.9,infinite", "10.1.1.2-10.1.1.9 mode 0 /0 2562047h47m16.854775807s"},
		{"dhcp-range=interface:bond0,10.1.1.2,10.1.1.9,10m", "10.1.1.2-10.1.1.9 mode 0 /0 10m0s set interface:bond0"},
		{"dhcp-range=tag:a,tag:!b,set:c,10.1.1.2,10.1.1.9", "10.1.1.2-10.1.1.9 mode 0 /0 0s set c tags [a !b]"},
		{"dhcp-range=lan,10.1.1.2,static", "10.1.1.2-10.1.1.2 mode 1 /0 0s set lan"},
		{"dhcp-range=10.1.0.0,proxy,255.255.0.0", "10.1.0.0-10.1.0.0 mode 2 /16 0s"},
		{"dhcp-range=::,static", "IPv6"},
		{"dhcp-range=10.1.1.2", "fault: the end of the range is missing"},
		{"dhcp-range=10.1.1.2,10.2.1.9,255.255.0.0", "fault: 10.1.1.2 and 10.2.1.9 are not in one network of netmask 255.255.0.0"},
		{"dhcp-range=set:a,set:b,10.1.1.2,10.1.1.9", "fault: only one tag can be set"},
		{"dhcp-range=10.1.1.2,nine", `fault: "nine" is not an IPv4 address, static or proxy`},
		{"dhcp-range=10.1.1.2,10.1.1.9,1x", `fault: "1x" is not a lease time such as 45m`},

		{"dhcp-host=52:54:0:0:0:1,52:54:00:00:00:02,10.1.1.5,ncn-w001,20m", "macs [52:54:00:00:00:01 52:54:00:00:00:02] 10.1.1.5 ncn-w001 20m0s"},
		{"dhcp-host=id:x3000,set:a,set:b,tag:c,52:54:00:00:00:01", "macs [52:54:00:00:00:01] invalid IP  0s id x3000 sets [a b] tags [c]"},
		{"dhcp-host=ID:*,52:54:00:00:00:01,infinite", "macs [52:54:00:00:00:01] invalid IP  2562047h47m16.854775807s id *"},
		{"dhcp-host=52:54:00:*:*:*,ignore", "macs [] invalid IP  0s ignore strange [52:54:00:*:*:*]"},
		{"dhcp-host=06-52:54:00:00:00:01,1.2.3.4", "macs [] 1.2.3.4  0s strange [06-52:54:00:00:00:01]"},
		{"dhcp-host=01-52:54:00:00:00:01,1.2.3.4", "macs [52:54:00:00:00:01] 1.2.3.4  0s"},
		{"dhcp-host=lap,[fd00::1]", "macs [] invalid IP lap 0s strange [[fd00::1]]"},
		{"dhcp-host=lap.example.com,192.168.0.199", "macs [] 192.168.0.199 lap.example.com 0s"},
		{"dhcp-host=52:54:00:00:00:zz", `fault: "52:54:00:00:00:zz" is not bytes such as 01:2a:ff`},
		{"dhcp-host=52:54:00:00:00:01,a b", `fault: "a b" is not a host name`},

		{"host-record=a,a.example.com,10.1.1.5,fd00::5,3600", "record [a a.example.com] 10.1.1.5"},
		{"host-record=a,fd00::5", "record [a] invalid IP"},
		{"host-record=10.1.1.5", "fault: no name in it"},

		{"dhcp-option=3,10.1.0.1", "3 addrs [10.1.0.1]"},
		{"dhcp-option = option:router , 10.1.0.1", "3 addrs [10.1.0.1]"},
		{"dhcp-option=interface:bond0,option:dns-server,10.1.0.1,10.1.0.2", "6 addrs [10.1.0.1 10.1.0.2] tags [interface:bond0]"},
		{"dhcp-option=tag:a,tag:!b,42,0.0.0.0", "42 addrs [0.0.0.0] tags [a !b]"},
		{"dhcp-option=option:router", "3 empty"},
		{"dhcp-option-force=tag:x,17,x3000c0s1b0n0", "17 text x3000c0s1b0n0 tags [x] always"},
		{"dhcp-option=26,9000", "26 u16 9000"},
		{"dhcp-option=option:T1,1h", "58 u32 3600"},
		{"dhcp-option=224,5", "224 u8 5"},
		{"dhcp-option=224,500", "224 u16 500"},
		{"dhcp-option=224,5i", "224 u32 5"},
		{"dhcp-option=224,-1s", "224 u16 -1"},
		{"dhcp-option=224,01:a:ff", "224 bytes 010aff"},
		{"dhcp-option=224,10.1.0.1,10.1.0.2", "224 addrs [10.1.0.1 10.1.0.2]"},
		{`dhcp-option=66,"10.1.0.1"`, "66 text 10.1.0.1"},
		{`dhcp-option=224,"10.1.0.1"`, "224 text 10.1.0.1"},
		{"dhcp-option=224,/some/path", "224 text /some/path"},
		{`dhcp-option=224,"a, b",c`, "224 text a, b,c"},
		{"dhcp-option=121,10.0.0.0/8,10.1.0.254,0.0.0.0/0,10.1.0.1", "121 addrs [10.1.0.254 10.1.0.1] routes [10.0.0.0/8 0.0.0.0/0]"},
		{"dhcp-option=option:domain-search,mtl,nmn.mtl", "119 names [mtl nmn.mtl]"},
		{"dhcp-option=vendor:PXEClient,6,2b", "options within an option: write the bytes as CODE hex"},
		{"dhcp-option=encap:175,190,x", "options within an option: write the bytes as CODE hex"},
		{"dhcp-option=option6:dns-server,[::]", "DHCPv6"},
		{"dhcp-option=option:rooter,10.1.0.1", `fault: unknown option "rooter"`},
		{"dhcp-option=3,10.1.0", `fault: "10.1.0" is not an IPv4 address`},
		{"dhcp-option=tag:a", "fault: no option in it"},

		{"dhcp-vendorclass=set:efi,PXEClient:Arch:00007", "match efi 0 PXEClient:Arch:00007"},
		{"dhcp-userclass=ipxe,iPXE", "match ipxe 1 iPXE"},
		{"dhcp-circuitid=set:c,00:04:00:0a", "match c 2 \x00\x04\x00\n"},
		{"dhcp-remoteid=set:r,port-1", "match r 3 port-1"},
		{"dhcp-mac=set:m,94:40:c9:*:*:*", "match m 4 9440c9"},
		{"dhcp-match=set:a,option:client-arch,7", "match a 5 7"},
		{"dhcp-match=set:a,option:client-arch,7,9", `fault: "7,9" is not a number of option 93`},
		{"dhcp-match=set:a,60,PXEClient", "match a 0 PXEClient"},
		{"dhcp-match=set:a,175", "match a 6 code 175"},
		{"dhcp-mac=set:m,94:*:c9:*:*:*", "wildcards that are not at the end"},
		{"dhcp-mac=set:m,06-94:40:c9:*:*:*", "hardware that is not Ethernet"},
		{"dhcp-vendorclass=efi", "fault: a tag and what it is set for are wanted"},
		{"dhcp-match=set:a,option:arch,7", `fault: unknown option "arch"`},

		{"domain=mtl", "domain mtl"},
		{"domain=mtl,10.1.0.0/16,local", "domain mtl 10.1.0.0-10.1.255.255"},
		{"domain=mtl,10.1.0.5,10.1.0.9", "domain mtl 10.1.0.5-10.1.0.9"},
		{"domain=#", "the domain of resolv.conf"},
		{"domain=mtl,eth0", "the domain of an interface, or of IPv6"},
		{"dhcp-ignore=tag:!known", "ignore [!known]"},
		{"enable-tftp", "rest enable-tftp"},
	} {
		c := ParseText(tt.line)
		if got := describe(c); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.line, got, tt.want)
		}
		if tt.line == "domain=#" {
			continue // whether dnsmasq takes it depends on /etc/resolv.conf
		}
		out, refused := refuses(t, tt.line+"\n")
		if want := strings.HasPrefix(tt.want, "fault: "); refused != want {
			t.Errorf("%s: dnsmasq refuses it: %v, want %v: %s", tt.line, refused, want, out)
		}
	}
}

// describe is what is understood of one line.
func describe(c *Config) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	list := func(word string, l []string) {
		if len(l) > 0 {
			say(" %s %v", word, l)
		}
	}
	for _, f := range c.Faults {
		if f.Refused {
			say("fault: ")
		}
		say("%s", f.Problem)
	}
	for _, r := range c.Ranges {
		say("%v-%v mode %d /%d %v", r.Start, r.End, r.Mode, r.Bits, r.Lease)
		if r.Set != "" {
			say(" set %s", r.Set)
		}
		list("tags", r.Tags)
	}
	for _, h := range c.Hosts {
		say("macs %v %v %s %v", h.MACs, h.Addr, h.Name, h.Lease)
		if h.ID != "" {
			say(" id %s", h.ID)
		}
		list("sets", h.Sets)
		list("tags", h.Tags)
		if h.Ignore {
			say(" ignore")
		}
		list("strange", h.Strange)
	}
	for _, r := range c.Records {
		say("record %v %v", r.Names, r.Addr)
	}
	for _, o := range c.Options {
		say("%d", o.Code)
		switch {
		case o.Empty():
			say(" empty")
		case len(o.Addrs) > 0:
			say(" addrs %v", o.Addrs)
		case o.Size > 0:
			say(" u%d %d", 8*o.Size, o.Number)
		case len(o.Bytes) > 0:
			say(" bytes %x", o.Bytes)
		case len(o.Names) > 0:
			say(" names %v", o.Names)
		default:
			say(" text %s", o.Text)
		}
		if len(o.Routes) > 0 {
			say(" routes %v", o.Routes)
		}
		list("tags", o.Tags)
		if o.Always {
			say(" always")
		}
	}
	for _, m := range c.Matches {
		say("match %s %d ", m.Tag, m.What)
		switch m.What {
		case ClientArch:
			say("%d", m.Arch)
		case HardwareAddr:
			say("%x", m.MAC)
		case SomeOption:
			say("code %d", m.Code)
		default:
			say("%s", m.Text)
		}
	}
	for _, d := range c.Domains {
		if say("domain %s", d.Name); d.First.IsValid() {
			say(" %v-%v", d.First, d.Last)
		}
	}
	for _, i := range c.Ignores {
		say("ignore %v", i.Tags)
	}
	for _, l := range c.Rest {
		say("rest %s", l.Text())
	}
	return b.String()
}

// FuzzParse holds that no text makes Parse panic, and that each line is
// somewhere: understood, at fault, or handed on.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"dhcp-range=interface:b,10.1.1.2,10.1.1.9,255.255.0.0,10m", "dhcp-host=id:x,set:a,52:54:00:00:00:01,10.0.0.1,n,infinite", "dhcp-option-force=tag:x,17,\"a, b\"",
		"dhcp-match=set:a,93,7", "dhcp-mac=set:m,94:*", "domain=a,10.0.0.0/8", "host-record=a,10.0.0.1", "dhcp-option=121,10.0.0.0/8,10.0.0.1", "conf-file=/a", "=", "\"\\", "dhcp-option=1,s", "dhcp-range=,", "dhcp-ignore",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := ParseText(text)
		n := len(c.Ranges) + len(c.Hosts) + len(c.Records) + len(c.Options) + len(c.Matches) + len(c.Domains) + len(c.Ignores) + len(c.Rest) + len(c.Faults)
		r := &reader{fsys: nothing{}, seen: map[string]bool{}}
		r.text("", "", text)
		read := 0
		for _, l := range r.lines {
			if !slices.Contains([]string{"conf-file", "conf-dir", "dhcp-hostsfile", "dhcp-hostsdir", "dhcp-optsfile", "dhcp-optsdir"}, l.Key) {
				read++
			}
		}
		if want := read + len(r.faults); n != want {
			t.Errorf("%q: %d lines are somewhere, want %d", text, n, want)
		}
		for _, h := range c.Hosts {
			if h.Addr.IsValid() && !h.Addr.Is4() {
				t.Errorf("%q: got %v, want IPv4", text, h.Addr)
			}
		}
		for _, o := range c.Options {
			if o.Code == 0 || len(o.Routes) > 0 && len(o.Routes) != len(o.Addrs) {
				t.Errorf("%q: got %+v", text, o)
			}
		}
	})
}
