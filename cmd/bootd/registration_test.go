package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// scan reads the QR codes in a picture with zbarimg, which we did not write;
// empty: there is none.
func scan(t *testing.T, picture string) string {
	t.Helper()
	out, err := exec.Command("zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture).Output()
	if ee, ok := err.(*exec.ExitError); err != nil && (!ok || ee.ExitCode() != 4) { // 4: no code (zbarimg(1))
		t.Fatalf("zbarimg, of the package zbar-tools: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// awaitCode takes pictures of a screen until there is a code on one.
func awaitCode(t *testing.T, g *lab.Guest) string {
	t.Helper()
	ctx := lab.Deadline(t)
	picture := filepath.Join(t.TempDir(), "screen.png")
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := g.Screenshot(ctx, picture); err != nil {
			t.Fatal(err)
		}
		if text := scan(t, picture); text != "" {
			return text
		}
		select {
		case <-ctx.Done():
			t.Fatal("no code on the screen")
		case <-tick.C:
		}
	}
}

// registration is what a site has in its configuration. The role is one that
// the lab's site has releases of.
const registration = `
registration:
  pin: PIN
  sites:
    - {name: paris, label: "Paris, 5e", role: kubernetes, tags: [project=fr]}
    - {name: lyon, role: storage-ceph}
`

func registering(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte("314159\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(registration, "PIN", file, 1)
}

var m009 = node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 9}

// A machine that nobody knows shows a code on its screen, by each firmware. A
// person scans it, sees what the machine is, and binds it to a site; the machine
// becomes a node, and boots.
func TestClaim(t *testing.T) {
	for _, fw := range []lab.Firmware{lab.BIOS, lab.UEFI} {
		t.Run(fw.String(), func(t *testing.T) {
			t.Parallel()
			s := newSiteOf(t, 1, site{Subnet: leases, Extra: "log: {level: debug}\n" + registering(t), Nodes: []siteNode{s001}})
			g := s.Boot(t, lab.Machine{Name: "new", Firmware: fw, MAC: m009, UUID: node.UUID{0x03, 0x16, 0x33, 0x42, 15: 9}, Serial: "S-9", Screen: true})
			url := awaitCode(t, g)
			m := regexp.MustCompile(`^HTTP://10\.77\.0\.1/C/([A-Z2-7]{16})$`).FindStringSubmatch(url)
			if m == nil {
				t.Fatalf("the code says %q, want the URL of a claim", url)
			}
			phone := s.browser("52:54:00:f0:00:01")
			phone.told("phone", "0007")
			status, _, page := phone.get(url)
			for _, want := range []string{"edge-03163342000000000000000000000009", "S-9", m009.String(), "Paris, 5e", "lyon"} {
				if status != 200 || !strings.Contains(page, want) {
					t.Errorf("page: got %d\n%s\nwant %q in it", status, page, want)
				}
			}
			claim := func(pin string) (int, string) {
				status, _, page := phone.get(url, "-d", "pin="+pin, "-d", "site=paris", "-d", "name=edge-paris-1")
				return status, page
			}
			if status, page := claim("000000"); status != 403 || !strings.Contains(page, "the PIN is wrong") {
				t.Errorf("a wrong PIN: got %d\n%s", status, page)
			}
			// bootctl shows the same code of the machine that waits.
			if out := s.bootctl("qr", m009.String()); !strings.Contains(out, url) || !strings.Contains(out, "edge host id: edge-03163342000000000000000000000009") {
				t.Errorf("bootctl qr: got\n%s\nwant %s and the edge host id", out, url)
			}
			if status, page := claim("314159"); status != 200 || !strings.Contains(page, "<strong>edge-paris-1</strong> belongs to site <strong>paris</strong>") {
				t.Fatalf("claim: got %d\n%s", status, page)
			}
			wantMatch(t, "node", s.bootctl("node", "show", "edge-paris-1"), `project=fr\s[^\n]*\n\s+site=paris\s`)
			s.bootctl("set-links", "--config", s.config)
			line := s.line(g, `^BOOTD-LAB-BOOTED`) + " "
			if !strings.Contains(line, " node=edge-paris-1 ") || !strings.Contains(line, " release=1.2.3 ") {
				t.Errorf("got %q, want it to boot as edge-paris-1", line)
			}
			wantMatch(t, "log", s.daemon.String(), `path="?C/\(claim\)"?`)
			for what, text := range map[string]string{"log": s.daemon.String(), "why": s.bootctl("why", "edge-paris-1", "--json")} {
				for _, secret := range []string{m[1], "314159"} {
					if strings.Contains(text, secret) {
						t.Errorf("%s has %q", what, secret)
					}
				}
			}
		})
	}
}

// What a node reports upstream is compared with what was predicted.
func TestRegistrationReported(t *testing.T) {
	t.Parallel()
	n := m001
	n.Site = payloadDir(t, "s", "#cloud-config\nstylus: {site: {name: 'stg-{{.Name}}'}}\n")
	s := newSiteOf(t, 0, site{Subnet: leases, Nodes: []siteNode{n, s001}})
	host := s.browser(n.MAC.String())
	host.told("PXEClient:Arch:00007", "0007")
	list := func() map[string][2]string {
		t.Helper()
		var hosts []struct{ Node, Predicted, Reported, Verdict string }
		if err := json.Unmarshal([]byte(s.bootctl("registration", "--json")), &hosts); err != nil {
			t.Fatal(err)
		}
		m := map[string][2]string{}
		for _, h := range hosts {
			m[h.Node] = [2]string{h.Predicted, h.Verdict}
		}
		return m
	}
	if got, want := list()[n.Name], [2]string{"stg-ncn-m001", "not reported"}; got != want {
		t.Errorf("before: got %q, want %q", got, want)
	}
	for id, verdict := range map[string]string{"stg-ncn-m001": "as predicted", "edge-1": "another id"} {
		host.must("curl", "-sS", "-f", "-d", "id="+id, "http://10.77.0.1/checkin/registered")
		s.restart()
		if got := list()[n.Name]; got != [2]string{"stg-ncn-m001", verdict} {
			t.Errorf("reported %s: got %q, want %q", id, got, verdict)
		}
	}
	wantMatch(t, "table", s.bootctl("registration"), `^ncn-s001 .* not reported: the edge host id is not known before the host reports it: the UUID of its machine is not known$`)

	// Without registration: the code leads nowhere, and there is no page.
	if status, _, _ := host.get("http://10.77.0.1/C/AAAAAAAAAAAAAAAA"); status != 404 {
		t.Errorf("claim page: got %d, want 404", status)
	}
}

// A node of the inventory that waits shows a code, to its own lease alone, and
// is claimed once. What is kept of its deployment stays.
func TestClaimNode(t *testing.T) {
	t.Parallel()
	held := s001
	held.Boot = "hold"
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: registering(t), Nodes: []siteNode{held, m001}})
	host, other := s.browser(held.MAC.String()), s.browser(m001.MAC.String())
	for _, c := range []browser{host, other} {
		c.told("PXEClient:Arch:00007", "0007")
	}
	host.must("curl", "-sS", "-f", "-X", "POST", "http://10.77.0.1/checkin/booted")
	script := func(c browser) string {
		t.Helper()
		_, _, text := c.get("http://10.77.0.1/boot/script.ipxe?mac=" + held.MAC.Hyphen())
		return text
	}
	code := regexp.MustCompile(`(?i)open (http://10\.77\.0\.1/c/[a-z2-7]{16})`)
	m := code.FindStringSubmatch(script(host))
	if m == nil {
		t.Fatalf("got a script without a code:\n%s", script(host))
	}
	if text := script(other); code.MatchString(text) {
		t.Errorf("another machine gets the code:\n%s", text)
	}
	if got := s.qr(held.Name); got != m[1] {
		t.Errorf("bootctl qr: got %q, want %q", got, m[1])
	}
	// What phones are told to reach is completed with our port, and is not an
	// address at which nobody answers.
	for _, server := range []string{"boot.example", "10.77.0.1", "192.0.2.7:8080"} {
		wantMatch(t, "server "+server, s.bootctl("qr", held.Name, "--json", "--server", server), `"url": "HTTP://`+regexp.QuoteMeta(server)+`/C/[A-Z2-7]{16}"`)
	}
	if got := s.bootctlStatus(1, "qr", held.Name, "--server", "10.77.0.1:81"); !strings.Contains(got, "nobody listens at 10.77.0.1:81, so the code would lead nowhere; bootd listens at 10.77.0.1:80") {
		t.Errorf("a port of nobody's: got %s", got)
	}
	claim := func(site string) (int, string) {
		status, _, page := other.get(s.qr(held.Name), "-d", "pin=314159", "-d", "site="+site)
		return status, page
	}
	if status, page := claim("lyon"); status != 200 || !strings.Contains(page, "<strong>ncn-s001</strong> belongs to site <strong>lyon</strong>") {
		t.Errorf("claim: got %d\n%s", status, page)
	}
	wantMatch(t, "node", s.bootctl("node", "show", held.Name), `^ +tags +site=lyon `)
	if status, page := claim("paris"); status != 422 || !strings.Contains(page, "belongs to site lyon already") {
		t.Errorf("claim for another site: got %d\n%s", status, page)
	}
	if text := script(host); code.MatchString(text) {
		t.Errorf("a claimed node still shows a code:\n%s", text)
	}
	wantMatch(t, "phase", s.bootctl("status"), held.Name+` .*ready`)
}

// qr returns the URL in the code of a node.
func (s *site) qr(name string) string {
	s.t.Helper()
	var offer struct{ URL string }
	if err := json.Unmarshal([]byte(s.bootctl("qr", name, "--json")), &offer); err != nil {
		s.t.Fatal(err)
	}
	return offer.URL
}
