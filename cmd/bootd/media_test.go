package main_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bootd/bmc/bmctest"
	"bootd/internal/lab"
)

// payloadDir writes the templates of a payload with a secret in it.
func payloadDir(t *testing.T, secret, userData string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "p")
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+".join", []byte(secret+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "user-data"), []byte(userData), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A redfishBMC is a BMC with a lease of its own, which reads images over the
// segment.
type redfishBMC struct {
	*bmctest.Redfish
	browser
	port string
}

func (s *site) redfish(mac, port string) redfishBMC {
	s.t.Helper()
	b := redfishBMC{browser: s.browser(mac)}
	b.told("PXEClient:Arch:00007", "0007") // takes the address that is leased
	var l net.Listener
	if err := b.Namespace.Do(func() (err error) { l, err = net.Listen("tcp4", ":"+port); return err }); err != nil {
		s.t.Fatal(err)
	}
	_, b.port, _ = net.SplitHostPort(l.Addr().String())
	fetch := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
		err = b.Namespace.Do(func() (err error) { c, err = net.Dial(network, addr); return err })
		return c, err
	}}}
	b.Redfish = bmctest.StartRedfish(l, bmctest.Quirks{Tasks: true, Fetch: fetch})
	s.t.Cleanup(b.Redfish.Close)
	return b
}

var attached = regexp.MustCompile(`^http://10\.77\.0\.1/media/(bdt_[0-9a-f]{32})/ncn-m001-(site|install)\.iso$`)

// From "bootctl bmc attach" to a node that checked in and an empty drive, over
// Redfish: the BMC, which leases its address, reads the image in pieces. Nobody
// else can, and nothing of it is in a log.
func TestVirtualMedia(t *testing.T) {
	t.Parallel()
	const secret = "token-of-the-edge-host"
	n := m001
	n.BMC = "52:54:00:bc:00:01"
	n.Site = payloadDir(t, secret, "#cloud-config\nname: {{.Name}}\njoin: {{.Secret.join}}\nserver: {{.Server}}\n")
	n.Payload = payloadDir(t, secret, "#cloud-config\ninstall: {device: /dev/sda}\n")
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "log: {level: debug}", Nodes: []siteNode{n, s001}})
	bmc, host, thief := s.redfish(n.BMC, "0"), s.browser(n.MAC.String()), s.browser(s001.MAC.String())
	for _, c := range []browser{host, thief} {
		c.told("PXEClient:Arch:00007", "0007")
	}
	bmcArgs := []string{n.Name, "--config", s.config, "--port", bmc.port, "--password-file", s.write("password", bmc.Password)}
	bootctl := func(args ...string) string {
		t.Helper()
		out, err := s.Run(lab.Deadline(t), s.bin+"/bootctl", append([]string{"--socket", s.socket, "bmc"}, append(args, bmcArgs...)...)...)
		if err != nil {
			t.Fatalf("bootctl bmc %v: %v", args, err)
		}
		return out
	}
	var tokens []string
	url := func() string {
		t.Helper()
		m := attached.FindStringSubmatch(bmc.Image())
		if m == nil {
			t.Fatalf("in the drive: got %q, want the URL of an image", bmc.Image())
		}
		tokens = append(tokens, m[1])
		return m[0]
	}
	want := func(who browser, url string, status int, text string) {
		t.Helper()
		if got, _, body := who.get(url); got != status || !strings.Contains(body, text) {
			t.Errorf("got %d %.60q, want %d with %q", got, body, status, text)
		}
	}

	// Attach, restart, wait for the node, eject.
	waiting, err := s.Start(s.bin+"/bootctl", append([]string{"--socket", s.socket, "bmc", "attach", "--site", "--restart", "--yes", "--wait", "80s"}, bmcArgs...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := bmc.Await(lab.Deadline(t), "ComputerSystem.Reset"); err != nil {
		t.Fatalf("%v\n%s", err, waiting)
	}
	first := url()
	image := string(bmc.Media())
	for _, text := range []string{"cidata", "#cloud-config\nname: ncn-m001\njoin: " + secret + "\nserver: 10.77.0.1\n", "instance-id: bootd-ncn-m001\n"} {
		if !strings.Contains(image, text) {
			t.Errorf("the BMC read %d bytes without %q", len(image), text)
		}
	}
	want(bmc.browser, first, 200, secret)
	want(thief, first, 403, "is not the address of the BMC")
	want(host, first, 403, "is not the address of the BMC")
	want(bmc.browser, strings.Replace(first, "ncn-m001-site", "ncn-m001-install", 1), 404, "there is no such image")
	want(bmc.browser, strings.Replace(first, ".iso", ".img", 1), 404, "no such file")
	if got, h, body := bmc.get(first, "-r", "32769-32773"); got != 206 || body != "CD001" || !strings.HasPrefix(h.Get("Content-Range"), "bytes 32769-32773/") || h.Get("Cache-Control") != "no-store" {
		t.Errorf("range: got %d %q %v, want 206 CD001", got, body, h)
	}
	host.must("curl", "-sS", "-f", "-X", "POST", "http://10.77.0.1/checkin/booted")
	if err := waiting.Ended(lab.Deadline(t)); err != nil {
		t.Errorf("bootctl bmc attach: %v\n%s", err, waiting)
	}
	wantMatch(t, "attach", waiting.String(), `^ncn-m001: attached its site image, 5\d\.\d KiB, restarted, checked in, ejected$`)
	if bmc.Image() != "" {
		t.Errorf("in the drive: got %q, want nothing", bmc.Image())
	}
	want(bmc.browser, first, 404, "there is no such image")

	// A URL outlives the daemon, and not the payload.
	bootctl("attach", "--site")
	second := url()
	logs := []string{s.daemon.String()}
	s.restart()
	want(bmc.browser, second, 200, secret)
	if err := os.WriteFile(filepath.Join(n.Site, "user-data"), []byte("#cloud-config\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(bmc.browser, second, 410, "the site payload has changed since: attach the image again")
	wantMatch(t, "detach", bootctl("detach"), `^ncn-m001: detached$`)
	want(bmc.browser, second, 404, "there is no such image")
	if bmc.Image() != "" {
		t.Errorf("in the drive: got %q, want nothing", bmc.Image())
	}

	// The installer's image with the node's document in it, once from CD.
	iso := filepath.Join(t.TempDir(), "installer.iso")
	if err := s.images.WriteInstaller(t.Context(), iso); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, "attach", bootctl("attach", "--install", "--image", iso, "--legacy"), `^ncn-m001: attached its install image, .*, boots once from cd$`)
	third := url()
	// A machine boots from what the BMC has read.
	read, firmware := filepath.Join(t.TempDir(), "read.iso"), lab.BIOS
	if err := os.WriteFile(read, bmc.Media(), 0o600); err != nil {
		t.Fatal(err)
	}
	baked := fmt.Sprintf("nojoliet config.yaml %x", sha256.Sum256([]byte("#cloud-config\ninstall: {device: /dev/sda}\n")))
	if lines, err := s.images.ReadCD(t.Context(), read, &firmware); err != nil || !slices.Contains(lines, baked) || !slices.Contains(lines, "label COS_LIVE") {
		t.Errorf("booted from the image: got %q, %v, want %q and the label", lines, err, baked)
	}
	wantMatch(t, "redfish", strings.Join(bmc.Log(), "\n"), `"BootSourceOverrideMode":"Legacy","BootSourceOverrideTarget":"Cd"`)
	copies := func() []os.DirEntry {
		list, err := os.ReadDir(filepath.Join(s.Dir, "state/media"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := copies(); len(list) != 1 {
		t.Errorf("copies: got %v, want one", list)
	} else if info, err := list[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("copy: got %v, %v, want mode 0600", info, err)
	}
	logs = append(logs, s.daemon.String())
	s.restart()
	if got, _, body := bmc.get(third, "-r", "32769-32773"); got != 206 || body != "CD001" {
		t.Errorf("after a restart: got %d %q, want 206 CD001", got, body)
	}
	host.must("curl", "-sS", "-f", "-X", "POST", "http://10.77.0.1/checkin/booted")
	want(bmc.browser, third, 404, "there is no such image")
	if list := copies(); len(list) != 0 {
		t.Errorf("copies after the check-in: got %v, want none", list)
	}

	logs = append(logs, s.bootctl("why", n.Name, "--json"), s.bootctl("status", "--json"))
	wantMatch(t, "timeline", logs[len(logs)-2], `"step": "media",\s+"file": "ncn-m001-site.iso",\s+"action": "given",\s+"detail": "ticket [0-9a-f]{8}"`)
	s.daemon.Signal(syscall.SIGTERM)
	s.daemon.Ended(lab.Deadline(t))
	logs = append(logs, s.daemon.String(), contents(t, filepath.Join(s.Dir, "state")))
	for _, text := range logs {
		for _, leak := range append(tokens, secret) {
			if i := strings.Index(text, strings.TrimPrefix(leak, "bdt_")); i >= 0 {
				t.Errorf("%q is told: %q", leak, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// The daemon empties the drive by itself when the node has checked in, where it
// may: bootctl has long gone.
func TestDaemonEjects(t *testing.T) {
	t.Parallel()
	n := m001
	n.BMC = "52:54:00:bc:00:02"
	n.Site = payloadDir(t, "s", "#cloud-config\n{}\n")
	password := filepath.Join(t.TempDir(), "bmc")
	if err := os.WriteFile(password, []byte("initial0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "bmc: {protocol: redfish, user: root, password-file: " + password + "}", Nodes: []siteNode{n}})
	bmc, host := s.redfish(n.BMC, "443"), s.browser(n.MAC.String())
	host.told("PXEClient:Arch:00007", "0007")
	if _, err := s.Run(lab.Deadline(t), s.bin+"/bootctl", "--socket", s.socket, "bmc", "attach", "--site", n.Name, "--config", s.config, "--password-file", password); err != nil {
		t.Fatal(err)
	}
	if bmc.Image() == "" {
		t.Fatal("got an empty drive, want the image")
	}
	host.must("curl", "-sS", "-f", "-X", "POST", "http://10.77.0.1/checkin/booted")
	if err := bmc.Await(lab.Deadline(t), "VirtualMedia.EjectMedia"); err != nil {
		t.Fatalf("%v\n%s", err, s.daemon)
	}
	if bmc.Image() != "" {
		t.Errorf("in the drive: got %q, want nothing", bmc.Image())
	}
}
