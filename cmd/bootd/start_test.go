package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bootd/internal/lab"
)

// A start that cannot work ends with status 1, one clear error and, where we
// know one, a hint. Nothing is left behind.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	n := lab.ForTest(t, netip.MustParsePrefix("10.77.0.1/24"), 0)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // one case runs as nobody
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	damaged, www := filepath.Join(dir, "damaged"), filepath.Join(dir, "www")
	for _, d := range []string{damaged, www} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(damaged, "bootd.db"), []byte(strings.Repeat("not a store ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	badLeases := filepath.Join(dir, "bad")
	if err := os.MkdirAll(filepath.Join(badLeases, "leases"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(badLeases, "leases", "1.journal"), []byte(strings.Repeat("not a journal ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := func(change ...string) []string {
		set := map[string]string{
			"--interface": lab.Bridge, "--range": "10.77.0.100-10.77.0.199", "--root": www,
			"--state": filepath.Join(dir, "state"), "--socket": filepath.Join(dir, "sock"),
		}
		for i := 0; i < len(change); i += 2 {
			set[change[i]] = change[i+1]
		}
		args := []string{bin + "/bootd", "run"}
		for flag, value := range set {
			args = append(args, flag, value)
		}
		return args
	}
	asNobody := append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, flags("--state", "/tmp/bootd-nobody-state", "--socket", "/tmp/bootd-nobody.sock")...)
	t.Cleanup(func() { os.RemoveAll("/tmp/bootd-nobody-state") })

	for _, c := range []struct {
		name string
		hold []string // a process that has what bootd needs
		up   string   // what that says when it does
		args []string
		want []string
	}{
		{"interface", nil, "", flags("--interface", "eth9"), []string{`bootd: .*there is no network interface "eth9"; there are .*br0`}},
		{"root", nil, "", flags("--root", filepath.Join(dir, "nowhere")), []string{`bootd: root: open .*nowhere: no such file or directory`, `hint: make the web root`}},
		{"range", nil, "", flags("--range", "10.99.0.1-10.99.0.9"), []string{`bootd: .*10\.99\.0\.1-10\.99\.0\.9 is not within subnet 10\.77\.0\.0/24`}},
		{"store", nil, "", flags("--state", damaged), []string{`bootd: state: .*damaged/bootd.db: damaged: invalid database`, `hint: move the file away`}},
		{"leases", nil, "", flags("--state", badLeases), []string{`bootd: leases: .*1.journal: not a journal: damaged`, `hint: move the directory away`}},
		{"capability", nil, "", asNobody, []string{`bootd: .*not permitted`, `CAP_NET_BIND_SERVICE`}},
		{"DHCP port", []string{"dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--port=0", "--user=root", "--interface=br0", "--dhcp-range=10.77.0.50,10.77.0.60", "--pid-file="}, `DHCP, IP range`,
			flags(), []string{`bootd: interface br0: UDP port 67: in use by another server`}},
		{"HTTP port", []string{"busybox", "httpd", "-f", "-vv", "-p", "10.77.0.1:80"}, "", flags(), []string{`bootd: HTTP: TCP port 10\.77\.0\.1:80 is in use by another server`, `hint: see who: ss -lntup sport = :80`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.hold != nil {
				p, err := n.Start(c.hold[0], c.hold[1:]...)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Kill()
				waitPort(t, n, p, c.up)
			}
			p, err := n.Start(c.args[0], c.args[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Ended(lab.Deadline(t))
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
				t.Errorf("end: got %v, want exit status 1", err)
			}
			for _, want := range c.want {
				if !regexp.MustCompile(want).MatchString(p.String()) {
					t.Errorf("got %q, want %q", p.String(), want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "sock")); err == nil {
				t.Error("the admin socket is still there")
			}
		})
	}
}

// waitPort waits until a process says that it is up, or has its port.
func waitPort(t *testing.T, n *lab.Net, p *lab.Proc, up string) {
	t.Helper()
	if up != "" {
		if _, err := p.WaitFor(lab.Deadline(t), regexp.MustCompile(up)); err != nil {
			t.Fatal(err)
		}
		return
	}
	waitListening(t, n, "-lnt", 80)
}

// waitListening waits until something in the segment's namespace has a port; ss
// is told by kind whether it is TCP's or UDP's.
func waitListening(t *testing.T, n *lab.Net, kind string, port int) {
	t.Helper()
	for range 200 {
		out, err := n.Run(lab.Deadline(t), "ss", kind, "sport", "=", fmt.Sprint(":", port))
		if err == nil && strings.Contains(out, fmt.Sprint(":", port)) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("nothing listens on port %d", port)
}

// SIGTERM ends the daemon in order within five seconds, with a download under
// way and a watcher connected; what it promised is there at the next start.
func TestStopInOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	if err := os.WriteFile(filepath.Join(s.root, "ephemeral/data/k8s/1.2.3/big.img"), make([]byte, 64<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	slow, err := s.Start("curl", "-sS", "--limit-rate", "100k", "-o", "/dev/null", "http://10.77.0.1/ephemeral/data/k8s/1.2.3/big.img")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Kill()
	watch := exec.Command(s.bin+"/bootctl", "--socket", s.socket, "watch")
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch.Wait()
	defer watch.Process.Kill()

	began := time.Now()
	if err := s.daemon.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.daemon.Ended(lab.Deadline(t)); err != nil {
		t.Errorf("end: got %v, want exit status 0\n%s", err, s.daemon)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stop took %v, want at most 5s", took)
	}
	out, err := exec.Command(s.bin+"/bootctl", "--socket", s.socket, "status").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the daemon is not running") || !strings.Contains(string(out), "hint: ") {
		t.Errorf("bootctl status without a daemon: got %q, want an error with a hint", out)
	}
}

// Packets, requests and names that nobody should send: the daemon answers what
// there is to answer and goes on.
func TestBadInputDoesNotStopTheDaemon(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := c.Run(lab.Deadline(t), args[0], args[1:]...)
		if err != nil {
			t.Logf("%v: %v", args, err)
		}
		return out
	}
	run("ip", "addr", "add", "10.77.0.50/24", "dev", "eth0")
	run("ip", "link", "set", "eth0", "up")
	long := "/" + strings.Repeat("a", 10_000)
	for path, want := range map[string]string{
		"/../../etc/passwd": "400", "/ncn-m001/%2e%2e/%2e%2e/etc/passwd": "400", "/a%00b": "400", long: "404",
		"/ephemeral/": "404", "/.bootd-links.lock": "404", "//ncn-m001//kernel": "200",
	} {
		got := run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", "-I", "http://10.77.0.1"+path)
		if got != want && !(want == "404" && got == "400") {
			t.Errorf("HTTP %.40s: got %s, want %s", path, got, want)
		}
	}
	for _, name := range []string{"../../etc/shadow", "/etc/shadow", `..\..\etc\shadow`, strings.Repeat("a", 400)} {
		if out := run("curl", "-s", "-m", "5", "tftp://10.77.0.1/"+strings.NewReplacer("/", "%2f", `\`, "%5c").Replace(name)); strings.Contains(out, "root:") {
			t.Errorf("TFTP %q gave out /etc/shadow", name)
		}
	}
	for _, send := range []string{
		`printf '\000\001no-terminator' | busybox nc -u -w 1 10.77.0.1 69`,
		`head -c 100 /dev/urandom | busybox nc -u -w 1 10.77.0.1 67`,
		`head -c 60000 /dev/urandom | busybox nc -u -w 1 10.77.0.1 67`,
		`head -c 60000 /dev/zero | busybox nc -u -w 1 10.77.0.1 4011`,
	} {
		run("timeout", "3", "sh", "-c", send)
	}
	run("ip", "addr", "flush", "dev", "eth0")
	p, err := c.Start("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	s.line(p, `lease of 10\.77\.0\.\d+ obtained from 10\.77\.0\.1`)
}

// An interface that is deleted and made again is served again, and nothing
// else stops meanwhile.
func TestInterfaceMadeAgain(t *testing.T) {
	t.Parallel()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	n := lab.ForTest(t, netip.MustParsePrefix("10.77.0.1/24"), 0)
	run := func(args ...string) {
		t.Helper()
		if out, err := n.Run(lab.Deadline(t), args[0], args[1:]...); err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	up := func() {
		run("ip", "link", "add", "x0", "type", "veth", "peer", "name", "x1")
		run("ip", "addr", "add", "10.66.0.1/24", "dev", "x0")
		run("ip", "link", "set", "x0", "up")
		run("ip", "link", "set", "x1", "up")
	}
	up()
	www, socket := t.TempDir(), filepath.Join(n.Dir, "sock")
	d, err := n.Start(bin+"/bootd", "run", "--interface", "x0", "--range", "10.66.0.100-10.66.0.199", "--root", www,
		"--state", filepath.Join(n.Dir, "state"), "--socket", socket)
	if err != nil {
		t.Fatal(err)
	}
	wait := func(pattern string) {
		t.Helper()
		if _, err := d.WaitFor(lab.Deadline(t), regexp.MustCompile(pattern)); err != nil {
			t.Fatal(err)
		}
	}
	lease := func() {
		t.Helper()
		p, err := n.Start("busybox", "udhcpc", "-i", "x1", "-n", "-q", "-f", "-s", "/bin/true")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WaitFor(lab.Deadline(t), regexp.MustCompile(`lease of 10\.66\.0\.\d+ obtained from 10\.66\.0\.1`)); err != nil {
			t.Error(err)
		}
	}
	wait("msg=ready")
	lease()
	run("ip", "link", "del", "x0")
	wait("interface lost")
	up()
	wait("interface is back.*port=67")
	lease()
	if out, err := exec.Command(bin+"/bootctl", "--socket", socket, "status").CombinedOutput(); err != nil {
		t.Errorf("bootctl status: %v\n%s", err, out)
	}
}
