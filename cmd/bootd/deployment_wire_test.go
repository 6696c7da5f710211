package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// crash ends the daemon as kill -9 does, and starts it again.
func (s *site) crash() {
	s.t.Helper()
	s.daemon.Kill()
	s.daemon.Ended(lab.Deadline(s.t))
	s.start()
}

// wirePayload makes the directory of a payload with a secret.
func wirePayload(t *testing.T, secret string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "p")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+".join", []byte(secret+"\n"), 0o600),
		os.WriteFile(dir+"/user-data", []byte("#cloud-config\nhostname: {{.Name}}\njoin: {{.Secret.join}}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// edge is the role of nodes that are installed from the release of the lab.
const wireRole = "\n  - {name: edge, dir: k8s, squashfs: [kubernetes], args: console=ttyS0, install: {done: callback}}"

// An installation over the wire, step by step, with kill -9 of the daemon after
// each: nothing that was said is taken back, the installer is given out again
// only until it ran, and who is not the node moves nothing.
func TestInstallSurvivesCrashes(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-cluster"
	m := m001
	m.Role, m.Payload = "edge", wirePayload(t, secret)
	s := newSiteOf(t, 0, site{Subnet: leases, Roles: wireRole, Nodes: []siteNode{m, s001}})
	c, other := s.browser(m.MAC.String()), s.browser(s001.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	other.told("PXEClient:Arch:00007", "0007")
	script := "http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen()
	byName := "http://10.77.0.1/" + m.Name + "/script.ipxe"

	// is checks the phase, before and after a crash.
	is := func(phase string, more ...string) {
		t.Helper()
		for _, when := range []string{"now", "after kill -9"} {
			got := s.statusOf(m.Name)
			for _, want := range append(more, `"phase":"`+phase+`"`) {
				if !strings.Contains(got, want) {
					t.Fatalf("%s: got %s, want %s", when, got, want)
				}
			}
			if when == "now" {
				s.crash()
			}
		}
	}
	const installs = "/kernel"
	told := func(who browser, url, want, not string) {
		t.Helper()
		_, _, text := who.get(url)
		if !strings.Contains(text, want) || not != "" && strings.Contains(text, not) {
			t.Fatalf("%s: got script\n%s\nwant %q in it and not %q", url, text, want, not)
		}
	}
	post := func(who browser, path string, status int, args ...string) string {
		t.Helper()
		got, _, body := who.get("http://10.77.0.1/checkin/"+path, append([]string{"-X", "POST"}, args...)...)
		if got != status {
			t.Errorf("%s: got %d %q, want %d", path, got, body, status)
		}
		return body
	}

	told(c, script, "sanboot", installs)
	post(c, "installed", 409)
	s.bootctl("node", "arm", m.Name, "--yes")
	is("armed")

	// Nobody but the node moves it, and looking moves nothing.
	c.get(script, "--head")
	c.get(byName, "--head")
	for _, url := range []string{script, byName} {
		told(other, url, "holds no lease of ncn-m001", installs)
	}
	post(other, "installed", 409)
	if got := s.statusOf(m.Name); strings.Contains(got, `"outcome":"waiting"`) || !strings.Contains(got, `"ip":"10.77.0.11"`) {
		t.Errorf("another machine looked at its script: got %s, want its own boot alone", got)
	}
	is("armed")

	told(c, script, installs, "")
	is("installing", `"installs":1`)
	told(c, script, installs, "") // a cable was pulled
	is("installing", `"installs":1`)
	c.must("curl", "-fsS", "-o", "/dev/null", "http://10.77.0.1/ncn-m001/kernel")
	is("installing")
	_, _, text := c.get(script)
	seed := seedURL.FindStringSubmatch(text)
	if seed == nil || !strings.Contains(text, installs) {
		t.Fatalf("got script\n%s\nwant the installer once more, with its seed", text)
	}
	other.must("curl", "-fsS", "-o", "/dev/null", "http://10.77.0.1/ncn-m001/rootfs")
	other.get(seed[1] + "user-data")
	if got := s.statusOf(m.Name); strings.Contains(got, `"running"`) {
		t.Errorf("another machine fetched its root file system: got %s, want that nothing runs", got)
	}
	if status, _, doc := c.get(seed[1] + "user-data"); status != 200 || !strings.Contains(doc, secret) {
		t.Fatalf("got %d %q, want the document", status, doc)
	}
	is("installing", `"running":true`, `"installs":1`)
	c.must("curl", "-fsS", "-o", "/dev/null", "http://10.77.0.1/ncn-m001/rootfs")
	told(other, byName, "the installer was seen running", installs)

	if got := strings.TrimSpace(post(c, "installed", 200)); got != "ok" {
		t.Errorf("got %q, want ok", got)
	}
	is("installed", `"deadline":"20`)
	post(c, "installed", 200) // said twice
	told(c, script, "sanboot", installs)
	told(c, byName, "sanboot", installs)
	is("installed")
	post(c, "booted", 200, "-d", "release=1.2.3")
	is("ready")
	for range 3 {
		told(c, script, "sanboot", installs)
		s.crash()
	}
	is("ready", `"installs":1`)

	// What does not fit is told so, and what the node says is kept without its
	// secrets.
	post(c, "nonsense", 404)
	if status, _, _ := c.get("http://10.77.0.1/checkin/installed"); status != 405 {
		t.Errorf("GET: got %d, want 405", status)
	}
	large := s.write("large.log", strings.Repeat("x", 64<<10+1))
	post(c, "report", 413, "--data-binary", "@"+large)
	is("ready")
	long := s.write("long.log", "the first line\n"+strings.Repeat("of very many\n", 20_000)+"no space left on sda\n")
	post(c, "failed", 200, "--data-binary", "@"+long)
	is("failed", "the node said: no space left on sda")
	if got := s.bootctl("node", "log", m.Name); strings.Contains(got, "first line") || !strings.HasSuffix(got, "of very many\n  no space left on sda\n") || len(got) > 90<<10 {
		t.Errorf("node log of a long log: got %d bytes ending in %q, want its end", len(got), got[max(0, len(got)-100):])
	}
	post(c, "booted", 200)
	is("ready")
	log := s.write("install.log", "joining with "+secret+"\n\x1b[2Jgiving up on "+secret+"\n")
	post(c, "failed", 200, "--data-binary", "@"+log)
	is("failed", "the node said: ", "giving up on \\u003csecret:join\\u003e")
	if got := s.bootctl("node", "log", m.Name); !strings.Contains(got, "joining with <secret:join>") || strings.ContainsRune(got, '\x1b') {
		t.Errorf("node log: got %q, want it without secret and escape", got)
	}
	told(c, script, "sanboot", installs) // it has a system all the same
	c.must("ip", "addr", "flush", "dev", "eth0")
	c.must("ip", "addr", "add", "10.77.0.66/24", "dev", "eth0")
	post(c, "booted", 404)
	is("failed")
	all := s.daemon.String() + s.bootctl("why", m.Name, "--json") + s.bootctl("status", "--json") + contents(t, filepath.Join(s.Dir, "state"))
	if i := strings.Index(all, secret); i >= 0 {
		t.Errorf("the secret is told: %q", all[max(0, i-200):min(len(all), i+100)])
	}
}

// A disk without room: what a node would be told cannot be kept, so it waits
// and is given nothing. With room again it gets its installer, once.
func TestFullDiskMakesNodesWait(t *testing.T) {
	t.Parallel()
	m := m001
	m.Role = "edge"
	s := newSiteOf(t, 0, site{Subnet: leases, Roles: wireRole, Nodes: []siteNode{m}})
	state := filepath.Join(s.Dir, "state")
	stop := func() {
		s.daemon.Signal(syscall.SIGTERM)
		s.daemon.Ended(lab.Deadline(t))
	}
	stop()
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		stop()
		if err := unix.Unmount(state, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s.start()
	c := s.browser(m.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	s.bootctl("node", "arm", m.Name, "--yes")
	stop()
	punch(t, filepath.Join(state, "bootd.db"))
	s.start()
	filler := fill(t, filepath.Join(state, "filler"))

	script := "http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen()
	for range 2 {
		if _, _, text := c.get(script); strings.Contains(text, "/kernel") || !strings.Contains(text, "the server cannot write its state") {
			t.Fatalf("disk full: got script\n%s\nwant that it waits", text)
		}
		if got := s.statusOf(m.Name); !strings.Contains(got, `"phase":"armed"`) {
			t.Errorf("disk full: got %s, want it armed", got)
		}
	}
	if n := strings.Count(s.daemon.String(), "cannot be kept"); n != 1 {
		t.Errorf("disk full, asked twice: got %d lines in the log, want one a minute", n)
	}
	if status, _, _ := c.get("http://10.77.0.1/checkin/booted", "-X", "POST"); status != 200 {
		t.Errorf("a check-in of the system before it, which moves nothing: got %d, want 200", status)
	}
	if out, err := exec.Command(s.bin+"/bootctl", "--socket", s.socket, "node", "hold", m.Name).CombinedOutput(); err == nil || !strings.Contains(string(out), "no space left on device") {
		t.Errorf("hold: got %v %q, want that the disk is full", err, out)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if _, _, text := c.get(script); !strings.Contains(text, "/kernel") {
		t.Fatalf("disk with room: got script\n%s\nwant the installer", text)
	}
	s.crash()
	if got := s.statusOf(m.Name); !strings.Contains(got, `"phase":"installing"`) || !strings.Contains(got, `"installs":1`) {
		t.Errorf("got %s, want it installing for the first time", got)
	}
}

// punch gives the free pages of a store back to the disk, so that every further
// write needs room there.
func punch(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(db.Info().PageSize)
	err = db.View(func(tx *bolt.Tx) error {
		for id := 0; ; id++ {
			page, err := tx.Page(id)
			if page == nil || err != nil {
				return err
			}
			if page.Type == "free" {
				err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(id)*size, size)
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill fills a disk and returns the file that does.
func fill(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// A storm: 500 armed nodes ask at once. Each gets its installer, and each that
// got it is known to have after kill -9.
func TestInstallStorm(t *testing.T) {
	t.Parallel()
	const count = 500
	var nodes []siteNode
	var addrs, lines strings.Builder
	for i := range count {
		n := siteNode{Name: fmt.Sprintf("edge-%03d", i), Role: "edge", MAC: node.MAC{0x52, 0x54, 0, 0xed, byte(i >> 8), byte(i)}, Address: fmt.Sprintf("10.77.%d.%d", 1+i>>8, i&255)}
		nodes = append(nodes, n)
		fmt.Fprintf(&addrs, "addr add %s/16 dev eth0\n", n.Address)
		fmt.Fprintf(&lines, "%d %v %s * *\n", time.Now().Add(time.Hour).Unix(), n.MAC, n.Address)
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Roles: wireRole, Nodes: nodes, Prefix: "10.77.0.1/16"})
	s.bootctl("leases", "import", s.write("leases", lines.String()), "--format", "dnsmasq")
	c := s.client()
	s.run(c, "ip -batch "+s.write("addrs", addrs.String()))
	began := time.Now()
	if got := strings.Count(s.bootctl("node", "arm", "edge-*", "--yes"), ": armed (was inventory)"); got != count {
		t.Fatalf("got %d nodes armed, want %d", got, count)
	}
	t.Logf("armed %d nodes in %v", count, time.Since(began))

	began = time.Now()
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() {
			text, err := scriptFrom(c, n)
			if err != nil || !strings.Contains(text, "/kernel") {
				t.Errorf("%s: got %q, %v, want the installer", n.Name, text, err)
			}
		})
	}
	all.Wait()
	t.Logf("%d installers given out in %v", count, time.Since(began))
	s.crash()
	if got := strings.Count(s.bootctl("status", "--json", "--phase", "installing"), `"installs": 1,`); got != count {
		t.Errorf("after kill -9: got %d nodes that install for the first time, want %d", got, count)
	}
}

// scriptFrom asks for the boot script from the address of a node.
func scriptFrom(ns *lab.Namespace, n siteNode) (string, error) {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(n.Address)}}
		err = ns.Do(func() error {
			conn, err = d.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}}
	res, err := client.Get("http://10.77.0.1/boot/script.ipxe?mac=" + n.MAC.Hyphen())
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}
