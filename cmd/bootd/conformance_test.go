package main_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"bootd/internal/lab"
)

// A browser is a machine without firmware: busybox and curl, on the segment of a
// site.
type browser struct {
	*site
	*lab.Namespace
}

// browser makes such a machine with a MAC.
func (s *site) browser(mac string) browser {
	s.t.Helper()
	c := browser{s, s.client()}
	c.must("ip", "link", "set", "eth0", "address", mac)
	return c
}

func (c browser) must(name string, args ...string) string {
	c.t.Helper()
	out, err := c.Namespace.Run(lab.Deadline(c.t), name, args...)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// told asks DHCP as a firmware of a class and architecture, takes the address,
// and returns the boot file, next server and option 66. more are arguments of
// udhcpc.
func (c browser) told(class, arch string, more ...string) string {
	c.t.Helper()
	script := filepath.Join(c.t.TempDir(), "print")
	const text = "#!/bin/sh\nif [ $1 = deconfig ]; then exit; fi\nip addr flush dev eth0\nip addr add $ip/24 dev eth0\necho \"TOLD $boot_file $siaddr $tftp.\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		c.t.Fatal(err)
	}
	out := c.must("busybox", append([]string{"udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", script, "-V", class, "-x", "0x5d:" + arch}, more...)...)
	m := regexp.MustCompile(`TOLD (.*)\.`).FindStringSubmatch(out)
	if m == nil {
		c.t.Fatalf("udhcpc: got %q, want a lease", out)
	}
	return m[1]
}

// get asks with curl and returns status, header and body.
func (c browser) get(url string, args ...string) (int, http.Header, string) {
	c.t.Helper()
	out := c.must("curl", append([]string{"-sS", "-i", "--path-as-is", "--max-time", "10", url}, args...)...)
	head, body, _ := strings.Cut(out, "\r\n\r\n")
	first, rest, _ := strings.Cut(head, "\r\n")
	status, _ := strconv.Atoi(strings.Fields(first + " 0 0")[1])
	h := http.Header{}
	for line := range strings.SplitSeq(rest, "\r\n") {
		key, value, _ := strings.Cut(line, ": ")
		h.Add(key, value)
	}
	return status, h, body
}

// IANA, Processor Architecture Types; protocol.md 2.2.
func TestC43ArchitecturesOverTheWire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"undionly.kpxe", "ipxe-i386.efi", "snponly.efi", "ipxe-arm64.efi", "ipxe-riscv64.efi", "ipxe-loong64.efi"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "loaders: " + dir, Nodes: []siteNode{m001}})
	c := s.browser(m001.MAC.String())
	for arch, want := range map[string]string{
		"0000": "undionly.kpxe", "0006": "ipxe-i386.efi", "0007": "snponly.efi", "0009": "snponly.efi",
		"000b": "ipxe-arm64.efi", "001b": "ipxe-riscv64.efi", "0027": "ipxe-loong64.efi",
	} {
		if got, want := c.told("PXEClient:Arch:00000", arch), want+" 10.77.0.1 10.77.0.1"; got != want {
			t.Errorf("architecture %s: got %q, want %q", arch, got, want)
		}
	}
	if got := c.told("PXEClient:Arch:00000", "ffff"); strings.Contains(got, ".efi") || strings.Contains(got, ".kpxe") {
		t.Errorf("architecture ffff: got %q, want no file", got)
	}
}

// What the boot plane owes to firmware and iPXE: UEFI 2.10, section 24.7; RFC
// 9110, sections 13 and 14; protocol.md 0 and 2.7 to 2.9.
func TestHTTPOverTheWire(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	release := filepath.Join(s.root, "ephemeral/data/k8s/1.2.3")
	if err := errors.Join(os.WriteFile(release+"/x.iso", make([]byte, 5000), 0o644), os.WriteFile(release+"/x.img", make([]byte, 3000), 0o644)); err != nil {
		t.Fatal(err)
	}
	c := s.browser(m001.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	const at = "http://10.77.0.1"
	kernel := at + "/" + m001.Name + "/kernel"

	t.Run("C71", func(t *testing.T) {
		for path, want := range map[string]string{
			"/boot/snponly.efi":               "application/efi",
			"/ephemeral/data/k8s/1.2.3/x.iso": "application/vnd.efi-iso",
			"/ephemeral/data/k8s/1.2.3/x.img": "application/vnd.efi-img",
		} {
			status, head, _ := c.get(at+path, "--head")
			status2, get, body := c.get(at+path, "--output", "/dev/null", "--dump-header", "-", "--no-include")
			_ = body
			if status != 200 || status2 != 200 || head.Get("Content-Length") != get.Get("Content-Length") || head.Get("Content-Length") == "" {
				t.Errorf("%s: got %d %q for HEAD, %d %q for GET, want 200 and the same length", path, status, head.Get("Content-Length"), status2, get.Get("Content-Length"))
			}
			if got := head.Get("Content-Type"); got != want || head.Get("ETag") == "" {
				t.Errorf("%s: got type %q ETag %q, want %q and an ETag", path, got, head.Get("ETag"), want)
			}
		}
	})
	t.Run("C72", func(t *testing.T) {
		if status, _, _ := c.get(at+"//boot//snponly.efi", "--head"); status != 200 {
			t.Errorf("got %d, want 200", status)
		}
	})
	t.Run("C73", func(t *testing.T) {
		for _, tt := range []struct {
			args []string
			want int
			size string
		}{
			{[]string{"-H", "Range: bytes=0-511"}, 206, "512"},
			{[]string{"-H", "Range: bytes=100-199"}, 206, "100"},
			{[]string{"-H", "Range: bytes=100-", "-H", `If-Match: "another"`}, 412, ""},
		} {
			status, h, _ := c.get(kernel, append(tt.args, "--head")...)
			if status != tt.want || tt.size != "" && h.Get("Content-Length") != tt.size {
				t.Errorf("%q: got %d with %s bytes, want %d with %s", tt.args, status, h.Get("Content-Length"), tt.want, tt.size)
			}
		}
	})
	t.Run("C74", func(t *testing.T) {
		status, _, body := c.get(at + "/boot/script.ipxe?mac=52-54-00-00-00-99&uuid=&serial=")
		if status != 200 || !strings.HasPrefix(body, "#!ipxe\n") || !strings.Contains(body, "\nsleep ") || strings.Contains(body, "\nkernel ") {
			t.Errorf("got %d %q, want a script that waits", status, body)
		}
	})
	t.Run("C76", func(t *testing.T) {
		for _, path := range []string{"/autoexec.ipxe", "/boot/autoexec.ipxe", "/boot/x86_64-sb/autoexec.ipxe"} {
			if status, _, body := c.get(at + path); status != 200 || !strings.HasPrefix(body, "#!ipxe\n") {
				t.Errorf("%s: got %d %q, want a script", path, status, body)
			}
		}
		if got := c.must("curl", "-sS", "--max-time", "5", "tftp://10.77.0.1/autoexec.ipxe"); !strings.HasPrefix(got, "#!ipxe\n") {
			t.Errorf("TFTP: got %q, want a script", got)
		}
		c.must("ip", "addr", "flush", "dev", "eth0")
		c.must("ip", "addr", "add", "10.77.0.250/24", "dev", "eth0") // no lease
		if status, _, _ := c.get(at + "/autoexec.ipxe"); status != 404 {
			t.Errorf("without a lease: got %d, want 404", status)
		}
		if out, err := c.Namespace.Run(lab.Deadline(t), "curl", "-sS", "--max-time", "5", "tftp://10.77.0.1/autoexec.ipxe"); err == nil {
			t.Errorf("TFTP without a lease: got %q, want an error", out)
		}
	})
}

// Machines that the lab has not: what busybox is told when it says what they
// say, and what curl gets of it. The files are stand-ins for the signed set of
// iPXE 2.x and for the firmware of a Raspberry Pi, laid out as those are.
func TestLoadersOfMachinesNotHere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"x86_64-sb/snponly-shim.efi", "x86_64-sb/snponly.efi", "x86_64-sb/ipxe.efi", "arm64-sb/snponly-shim.efi", "undionly.kpxe", "ipxe.efi",
		"rpi/bootcode.bin", "rpi/start4.elf", "rpi/9a3f1c02/config.txt",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("this is "+name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "loaders: " + dir + "\nloader: snponly-shim\nclasses: [{name: old, mac: [\"02:0d\"], loader: ipxe}]\n", Nodes: []siteNode{m001}})
	machines := map[string]browser{}
	const uefi, http, bios = "PXEClient:Arch:00007", "HTTPClient:Arch:00016", "PXEClient:Arch:00000"
	for _, tt := range []struct {
		mac, class, arch string
		file             string
		get              map[string]string // URL: a part of the answer; empty: an error
	}{
		{m001.MAC.String(), uefi, "0007", "x86_64-sb/snponly-shim.efi", map[string]string{
			"tftp://10.77.0.1/x86_64-sb/snponly-shim.efi":    "this is x86_64-sb/snponly-shim.efi",
			"tftp://10.77.0.1/x86_64-sb/snponly.efi":         "this is x86_64-sb/snponly.efi",
			"tftp://10.77.0.1/x86_64-sb/autoexec.ipxe":       "chain --timeout 30000 --replace --autofree http://10.77.0.1/boot/script.ipxe?",
			"tftp://10.77.0.1/x86_64-sb/revocations_sku.efi": "",
			"tftp://10.77.0.1/x86_64-sb/shimx64.efi":         "",
		}},
		{m001.MAC.String(), http, "0010", "http://10.77.0.1/boot/x86_64-sb/snponly-shim.efi", map[string]string{
			"http://10.77.0.1/boot/x86_64-sb/snponly.efi":   "this is x86_64-sb/snponly.efi",
			"http://10.77.0.1/boot/x86_64-sb/autoexec.ipxe": "chain --timeout 30000 --replace --autofree http://10.77.0.1/boot/script.ipxe?",
		}},
		{m001.MAC.String(), uefi, "000b", "arm64-sb/snponly-shim.efi", nil},
		{m001.MAC.String(), bios, "0000", "undionly.kpxe", nil}, // a BIOS knows no shim
		{"02:0d:00:01:02:03", uefi, "0007", "ipxe.efi", nil},    // of a class with a loader
		{"dc:a6:32:01:02:03", bios, "0000", "bootcode.bin", map[string]string{
			"tftp://10.77.0.1/9a3f1c02/start4.elf": "this is rpi/start4.elf",
			"tftp://10.77.0.1/9a3f1c02/config.txt": "this is rpi/9a3f1c02/config.txt",
			"tftp://10.77.0.1/bootsig.bin":         "",
		}},
	} {
		c, ok := machines[tt.mac]
		if !ok {
			c = s.browser(tt.mac)
			machines[tt.mac] = c
		}
		if got, want := c.told(tt.class, tt.arch), tt.file+" 10.77.0.1 10.77.0.1"; got != want {
			t.Errorf("%s %s: got %q, want %q", tt.class, tt.mac, got, want)
		}
		for url, want := range tt.get {
			got, err := c.Namespace.Run(lab.Deadline(t), "curl", "-sSf", "--max-time", "5", url)
			if (want == "") != (err != nil) || !strings.Contains(got, want) {
				t.Errorf("%s: got %v %q, want %q", url, err, got, want)
			}
		}
	}
}
