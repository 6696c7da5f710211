package main

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
	"regexp"
	"strconv"
	"strings"
	"time"

	"bootd/internal/lab"
)

// leaseTime is what every server gives, in seconds.
const leaseTime = 3600

// A recipe is how to run a server on a directory that holds its store.
type recipe struct {
	name   string
	many   int                                                // distinct clients of the search
	what   string                                             // for the table
	files  func(b *bed, dir string, p pool) map[string]string // configuration
	argv   func(b *bed, dir string, p pool) []string          // command line
	binary func(b *bed) string
}

var recipes = []recipe{kea, bootd, dnsmasq}

func serverNames() (names []string) {
	for _, r := range recipes {
		names = append(names, r.name)
	}
	return names
}

func inPath(name string) func(*bed) string { return func(*bed) string { return name } }

// Kea in the configuration that is its fastest with every lease appended to
// its file: UDP sockets, one thread, no clean-up of the file during the run.
// Its cache-threshold stays off, as it is by default: with it a client that
// returns is acknowledged without a word in the file.
var kea = recipe{
	name: "kea", many: 60_000, what: "memfile, append, no fsync", binary: inPath("kea-dhcp4"),
	files: func(_ *bed, dir string, p pool) map[string]string {
		return map[string]string{"kea.json": fmt.Sprintf(`{"Dhcp4": {
	"interfaces-config": {"interfaces": [%q], "dhcp-socket-type": "udp"},
	"lease-database": {"type": "memfile", "persist": true, "name": %q, "lfc-interval": 0},
	"multi-threading": {"enable-multi-threading": false},
	"valid-lifetime": %d, "authoritative": true,
	"loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stderr"}]}],
	"subnet4": [{"id": 1, "subnet": %q, "interface": %q, "pools": [{"pool": %q}],
		"option-data": [{"name": "routers", "data": %q}, {"name": "domain-name-servers", "data": %q}]}]
}}`, serverIf, dir+"/leases.csv", leaseTime, network, serverIf, p, server, server)}
	},
	argv: func(_ *bed, dir string, _ pool) []string {
		return []string{"env", "KEA_LOCKFILE_DIR=" + dir, "KEA_PIDFILE_DIR=" + dir, "kea-dhcp4", "-c", dir + "/kea.json"}
	},
}

// dnsmasq is spared: its cost per packet grows with its leases, so with the
// 60,000 clients of the others it comes to a stop.
var dnsmasq = recipe{
	name: "dnsmasq", many: 2000, what: "rewrites its file, no fsync; 2,000 clients only", binary: inPath("dnsmasq"),
	files: func(*bed, string, pool) map[string]string { return nil },
	argv: func(_ *bed, dir string, p pool) []string {
		return []string{
			"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file",
			"--interface=" + serverIf, "--bind-interfaces", "--no-ping", "--quiet-dhcp", "--dhcp-authoritative",
			"--dhcp-leasefile=" + dir + "/leases", "--dhcp-lease-max=1000000",
			fmt.Sprintf("--dhcp-range=%v,%v,255.0.0.0,%d", p.first.Next(), p.last, leaseTime),
		}
	},
}

// bootd asks no network before it offers an address, unless told to: neither
// do the others here.
var bootd = recipe{
	name: "bootd", many: 60_000, what: "on disk before each ACK", binary: func(b *bed) string { return b.bootd },
	files: func(b *bed, dir string, p pool) map[string]string {
		return map[string]string{"root/.keep": "", "bootd.yaml": fmt.Sprintf(`root: %s/root
state: %s/state
log: {level: warn}
admin: {socket: %s}
subnets:
  - {interface: %s, subnet: %v, server: %v, pools: [%v], router: %v, dns: [%v], lease: %ds, probe: %s}
`, dir, dir, socket(dir), serverIf, network, server, p, server, server, leaseTime, b.probe)}
	},
	argv: func(b *bed, dir string, _ pool) []string {
		return []string{"env", "GOMAXPROCS=1", b.bootd, "run", "--config", dir + "/bootd.yaml"}
	},
}

// socket is where bootd's admin socket is. The lab's directory has a short
// name; a socket's must be below 108 bytes.
func socket(dir string) string { return dir + "/sock" }

// A daemon is a server that runs.
type daemon struct {
	recipe
	proc *lab.Proc
	dir  string
}

// start runs a server on a directory, empty or left by an earlier one, and
// returns when it answers, and how long that took.
func (b *bed) start(ctx context.Context, r recipe, dir string, p pool) (*daemon, time.Duration, error) {
	if _, err := exec.LookPath(r.binary(b)); err != nil {
		return nil, 0, fmt.Errorf("%s: %w: run make build deps", r.name, err)
	}
	for name, text := range r.files(b, dir, p) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return nil, 0, err
		}
	}
	argv := append([]string{"-c", strconv.Itoa(b.serverCore)}, r.argv(b, dir, p)...)
	began := time.Now()
	proc, err := b.net.Start("taskset", argv...)
	if err != nil {
		return nil, 0, err
	}
	s := &daemon{r, proc, dir}
	if err := b.answers(ctx, s); err != nil {
		proc.Kill()
		return nil, 0, err
	}
	return s, time.Since(began), nil
}

// fresh starts a server with nothing in its store.
func (b *bed) fresh(ctx context.Context, r recipe, p pool) (*daemon, error) {
	dir, err := b.freshDir(r.name)
	if err != nil {
		return nil, err
	}
	s, _, err := b.start(ctx, r, dir, p)
	return s, err
}

// stop ends the server and removes its store.
func (s *daemon) stop() {
	s.proc.Kill()
	os.RemoveAll(s.dir)
}

func (s *daemon) ended() bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return !errors.Is(s.proc.Ended(ctx), context.Canceled)
}

func (s *daemon) output() string {
	out := strings.TrimSpace(s.proc.String())
	return out[max(0, len(out)-2000):]
}

// times returns the processor time used so far: proc(5), stat, fields 14 and
// 15.
func (s *daemon) times() (user, system time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.proc.Pid()))
	if err != nil {
		return 0, 0, err
	}
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the name may hold anything
	u, err1 := strconv.Atoi(f[11])
	k, err2 := strconv.Atoi(f[12])
	return time.Duration(u) * tick, time.Duration(k) * tick, errors.Join(err1, err2)
}

var vmRSS = regexp.MustCompile(`VmRSS:\s*(\d+) kB`)

// rss returns the resident memory in bytes.
func (s *daemon) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.proc.Pid()))
	if err != nil {
		return 0, err
	}
	m := vmRSS.FindSubmatch(b)
	if m == nil {
		return 0, fmt.Errorf("%s: no VmRSS", s.name)
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10, err
}

var heapAlloc = regexp.MustCompile(`# HeapAlloc = (\d+)`)

// heap returns the bytes of live Go heap, after a collection.
func (s *daemon) heap(ctx context.Context) (int64, error) {
	b, err := s.get(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	m := heapAlloc.FindSubmatch(b)
	if m == nil {
		return 0, fmt.Errorf("%s: heap profile without HeapAlloc", s.name)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// profile writes a CPU profile of the next d to a file.
func (s *daemon) profile(ctx context.Context, file string, d time.Duration) error {
	b, err := s.get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(d.Seconds())))
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// get asks the admin socket.
func (s *daemon) get(ctx context.Context, path string) ([]byte, error) {
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket(s.dir))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bootd"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
