package ipxe

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

const secret = "SECRET"

// site makes a root as source 004 shows it, with things in it and beside it
// that must never be served.
func site(t testing.TB) *os.Root {
	t.Helper()
	top := t.TempDir()
	root := filepath.Join(top, "www")
	put := func(name, text string) {
		t.Helper()
		name = filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, target string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	put("shadow", secret)
	put("www/ephemeral/configs/data.json", secret)
	put("www/ephemeral/data/k8s/top", secret)
	put("www/ephemeral/data/k8s/6.2.0/.part", secret)
	put("www/stranger/kernel", secret)
	put("www/ncn-w001/user-data", secret)
	put("www/index.html", secret)
	put("www/ephemeral/data/k8s/6.2.0/5.14.kernel", strings.Repeat("0123456789", 100))
	put("www/ephemeral/data/k8s/6.2.0/initrd.img-6.2.0.xz", "initrd")
	link("ncn-w001/kernel", "../ephemeral/data/k8s/6.2.0/5.14.kernel")
	link("ncn-w001/initrd.img.xz", "../ephemeral/data/k8s/6.2.0/initrd.img-6.2.0.xz")
	link("ncn-w001/rootfs", "../ephemeral/data/k8s/6.2.0/gone.squashfs")
	link("ncn-w002/kernel", "../../shadow")
	link("ncn-w002/rootfs", filepath.Join(top, "shadow"))
	link("ncn-w002/initrd.img.xz", "../ephemeral/data")
	r, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// events collects what a Server records.
type events struct {
	mu  sync.Mutex
	all []timeline.Event
}

func (e *events) record(v timeline.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, v)
}

func (e *events) take() []timeline.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

var (
	leased    = netip.MustParseAddr("10.1.1.101") // of ncn-w001
	stranger  = netip.MustParseAddr("10.1.1.150") // leased to a machine not in the inventory
	foreigner = netip.MustParseAddr("192.0.2.1")
)

func server(t testing.TB) (*Server, *events) {
	ev := &events{}
	return &Server{
		Root:      site(t),
		Advertise: "10.1.1.1",
		Record:    ev.record,
		IsNode:    func(name string) bool { return name == "ncn-w001" || name == "ncn-w002" },
		Identify: func(a netip.Addr) (string, node.MAC) {
			switch a {
			case leased:
				return "ncn-w001", mac
			case stranger:
				return "", node.MAC{2, 0, 0, 0, 0, 1}
			}
			return "", node.MAC{}
		},
		Decide: func(m Machine) deploy.Decision {
			if m.MAC == mac || m.Name == "ncn-w001" || m.Serial == "S1" || m.UUID == (node.UUID{15: 7}) || m.UUID.String() == "00112233-4455-6677-8899-aabbccddeeff" {
				return boot("").Decision
			}
			return deploy.Decision{Reason: "machine is not in the inventory"}
		},
	}, ev
}

func ask(h http.Handler, from netip.Addr, method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", body)
	r.URL.Path, r.RequestURI = path, path
	if u, err := url.ParseRequestURI(path); err == nil { // as net/http does
		r.URL = u
	}
	r.RemoteAddr = netip.AddrPortFrom(from, 5000).String()
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	s, _ := server(t)
	s.Loaders.Dir = loaderDir(t)
	h := s.Handler()
	tests := []struct {
		from   netip.Addr
		method string
		path   string
		status int
		body   string // a part of it
	}{
		{leased, "GET", "/healthz", 200, "ok\n"},
		{leased, "GET", "/metrics", 404, "\"metrics\": no such file\n"},
		{leased, "GET", "/boot/script.ipxe?mac=52-54-00-aa-bb-07", 200, "kernel --timeout 60000 http://10.1.1.1/ncn-w001/kernel "},
		{foreigner, "GET", "/boot/script.ipxe?mac=52:54:00:aa:bb:07&uuid=", 200, "BOOTIF=01-52-54-00-aa-bb-07 "},
		{foreigner, "GET", "/boot/script.ipxe?serial=S1", 200, "kernel "},
		{foreigner, "GET", "/boot/script.ipxe?uuid=00000000-0000-0000-0000-000000000007", 200, "kernel "},
		{leased, "GET", "/boot/script.ipxe", 200, "kernel "}, // known by its lease
		{foreigner, "GET", "/boot/script.ipxe?mac=zz&uuid=zz", 200, "because: machine is not in the inventory\n"},
		{foreigner, "GET", "/ncn-w001/script.ipxe", 200, "autofree http://10.1.1.1/ncn-w001/script.ipxe?fw=${platform} "},
		{foreigner, "GET", "/ncn-x/script.ipxe", 200, "because: ,ncn-x, is not a node of the inventory\n"}, // C74
		{leased, "GET", "/autoexec.ipxe", 200, "script.ipxe?mac="},                                         // C76
		{stranger, "GET", "/boot/autoexec.ipxe", 200, "script.ipxe?mac="},                                  // C76
		{foreigner, "GET", "/autoexec.ipxe", 404, "\"autoexec.ipxe\": no such file\n"},                     // C76
		{leased, "GET", "/boot/x86_64-sb/autoexec.ipxe", 200, "script.ipxe?mac="},
		{foreigner, "GET", "/boot/x86_64-sb/autoexec.ipxe", 404, "\"boot/x86_64-sb/autoexec.ipxe\": no such file\n"},
		{foreigner, "GET", "/boot/x86_64-sb/snponly.efi", 200, "MZ x86_64-sb/snponly.efi"},
		{foreigner, "GET", "/boot/x86_64-sb/secret.efi", 404, "\"boot/x86_64-sb/secret.efi\": no such file\n"},
		{foreigner, "GET", "/boot/shimx64.efi", 200, "MZ shimx64.efi"},
		{foreigner, "GET", "/boot/revocations_sku.efi", 404, "\"boot/revocations_sku.efi\": no such file\n"},
		{leased, "GET", "/grub/grub.cfg", 200, "linux '(http,10.1.1.1)/ncn-w001/kernel'"},
		{leased, "GET", "/grub/next.cfg", 200, "linux '(http,10.1.1.1)/ncn-w001/kernel'"},
		{leased, "GET", "/grub/x86_64-efi/command.lst", 404, "\"grub/x86_64-efi/command.lst\": no such file\n"},
		{foreigner, "GET", "//boot//snponly.efi", 200, "MZ snponly.efi"}, // C72
		{foreigner, "GET", "/boot/ipxe-i386.efi", 404, "no such file\n"},
		{foreigner, "GET", "/boot/secret.efi", 404, "\"boot/secret.efi\": no such file\n"},
		{foreigner, "GET", "/boot/", 404, "\"boot\": no such file\n"},
		{foreigner, "GET", "/", 404, "\"\": no such file\n"},
		{foreigner, "GET", "/ncn-w001/kernel", 200, "0123456789"},
		{foreigner, "GET", "/ncn-w001/initrd.img.xz", 200, "initrd"},
		{foreigner, "GET", "/ncn-w001/rootfs", 404, "\"ncn-w001/rootfs\": no such file\n"},
		{foreigner, "GET", "/ncn-w001/user-data", 404, "\"ncn-w001/user-data\": no such file\n"},
		{foreigner, "GET", "/ncn-w001/", 404, "\"ncn-w001\": no such file\n"},
		{foreigner, "GET", "/ncn-w002/kernel", 404, "no such file\n"},
		{foreigner, "GET", "/ncn-w002/rootfs", 404, "no such file\n"},
		{foreigner, "GET", "/ncn-w002/initrd.img.xz", 404, "no such file\n"}, // a directory
		{foreigner, "GET", "/stranger/kernel", 404, "\"stranger\" is not a node of the inventory\n"},
		{foreigner, "GET", "/ephemeral/data/k8s/6.2.0/5.14.kernel", 200, "0123456789"},
		{foreigner, "GET", "/ephemeral/data/k8s/6.2.0/.part", 404, "no such file\n"},
		{foreigner, "GET", "/ephemeral/data/k8s/6.2.0", 404, "no such file\n"},
		{foreigner, "GET", "/ephemeral/data/k8s/top", 404, "no such file\n"},
		{foreigner, "GET", "/ephemeral/configs/data.json", 404, "no such file\n"},
		{foreigner, "GET", "/index.html", 404, "no such file\n"},
		{foreigner, "GET", "/boot/../index.html", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/boot/%2e%2e/index.html", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/boot/snponly%2Eefi", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/boot%2fsnponly.efi", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/boot/%252e%252e/x", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", `/boot\snponly.efi`, 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/boot/snponly.efi%00", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/./boot/snponly.efi", 400, "path has a character or an element that is not allowed\n"},
		{foreigner, "GET", "/" + strings.Repeat("a", 10_000), 400, "path or query is too long\n"},
		{foreigner, "GET", "/boot/script.ipxe?mac=" + strings.Repeat("a", 10_000), 400, "path or query is too long\n"},
		{foreigner, "OPTIONS", "*", 400, "not a path\n"},
		{foreigner, "POST", "/boot/script.ipxe", 405, "only GET, HEAD here\n"},
		{foreigner, "DELETE", "/ncn-w001/kernel", 405, "only GET, HEAD here\n"},
		{leased, "GET", "/checkin/booted", 405, "only POST here\n"},
		{leased, "POST", "/checkin/other", 404, "no such file\n"},
		{foreigner, "POST", "/checkin/booted", 404, "address 192.0.2.1 is no node's\n"},
		{stranger, "POST", "/checkin/booted", 404, "address 10.1.1.150 is no node's\n"},
		{leased, "POST", "/checkin/booted", 200, "ok\n"},
		{stranger, "GET", "/report?step=kernel&err=2d0c618e", 200, "ok\n"},
		{foreigner, "GET", "/report?step=kernel&err=2d0c618e", 404, "address 192.0.2.1 is nobody's\n"},
		{leased, "GET", "/report?step=%1b[2J&err=1", 400, "report wants step= and err= of a boot script\n"},
		{leased, "GET", "/report", 400, "report wants step= and err= of a boot script\n"},
	}
	for _, tt := range tests {
		name := tt.path[:min(len(tt.path), 60)]
		w := ask(h, tt.from, tt.method, tt.path, nil)
		body := w.Body.String()
		if w.Code != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s %s: got %d %q, want %d with %q in it", tt.method, name, w.Code, body, tt.status, tt.body)
		}
		if w.Code >= 400 && strings.Count(body, "\n") != 1 {
			t.Errorf("%s %s: got %q, want one line", tt.method, name, body)
		}
		if strings.Contains(body, secret) {
			t.Errorf("%s %s: got a file that is not for serving", tt.method, name)
		}
		if w.Code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: Allow is missing", tt.method, name)
		}
	}
}

// peer starts the real server on loopback and returns its address.
func peer(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := s.HTTPServer()
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: got %v, want %v", err, http.ErrServerClosed)
		}
	})
	return l.Addr().String()
}

// C71 and C73, with curl as the client.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("BOOT_REQUIRE") == "netns" {
			t.Fatal("curl is missing")
		}
		t.Skip("curl is missing")
	}
	s, _ := server(t)
	s.Loaders.Dir = loaderDir(t)
	addr := peer(t, s)
	curl := func(args ...string) string {
		t.Helper()
		url := "http://" + addr + args[len(args)-1]
		args = append([]string{"--silent", "--show-error", "--path-as-is", "--max-time", "10"}, args[:len(args)-1]...)
		out, err := exec.Command("curl", append(args, url)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	head := curl("--head", "/boot/snponly.efi")
	for _, want := range []string{"HTTP/1.1 200 OK", "Content-Length: 14\r", "Content-Type: application/efi\r", "Etag: \"", "Last-Modified: ", "Accept-Ranges: bytes"} {
		if !strings.Contains(head, want) {
			t.Errorf("HEAD: got %q, want %q in it", head, want)
		}
	}
	const code = "%{http_code} %{size_download} %{num_redirects} "
	kernel := "/ncn-w001/kernel"
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-o", "/dev/null", "-w", code, kernel}, "200 1000 0 "},
		{[]string{"-r", "0-9", "-w", code, kernel}, "0123456789206 10 0 "},
		{[]string{"-r", "995-", "-w", code, kernel}, "56789206 5 0 "},
		{[]string{"-r", "-3", "-w", code, kernel}, "789206 3 0 "},
		{[]string{"-r", "1000-", "-o", "/dev/null", "-w", "%{http_code}", kernel}, "416"},
		{[]string{"-r", "0-1,4-5", "-o", "/dev/null", "-w", code, kernel}, "200 1000 0 "},
		{[]string{"-H", `If-Match: "other"`, "-w", code, kernel}, "412 0 0 "},
		{[]string{"-r", "0-1", "-H", `If-Range: "other"`, "-o", "/dev/null", "-w", code, kernel}, "200 1000 0 "},
		{[]string{"-L", "-w", code, "//boot//snponly.efi"}, "MZ snponly.efi200 14 0 "},
		{[]string{"-L", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", "/boot/../../etc/shadow"}, "400 0"},
		{[]string{"-L", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", "/%2e%2e/%2e%2e/etc/shadow"}, "400 0"},
		{[]string{"-L", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", "/" + strings.Repeat("a", 10_000)}, "400 0"},
		{[]string{"-d", "release=6.2.0", "-o", "/dev/null", "-w", "%{http_code}", "/checkin/booted"}, "404"},
	}
	for _, tt := range tests {
		if got := curl(tt.args...); got != tt.want {
			t.Errorf("curl %.80q: got %q, want %q", tt.args, got, tt.want)
		}
	}
	tag := strings.TrimSpace(strings.SplitN(strings.SplitN(curl("--head", kernel), "Etag: ", 2)[1], "\r", 2)[0])
	if got, want := curl("-r", "2-3", "-H", "If-Match: "+tag, kernel), "23"; got != want {
		t.Errorf("range with our own ETag %s: got %q, want %q", tag, got, want)
	}
}

// The address in scripts is the one the machine reached us at.
func TestServerAddress(t *testing.T) {
	s, _ := server(t)
	s.Advertise = ""
	addr := peer(t, s)
	resp, err := http.Get("http://" + addr + "/ncn-w001/script.ipxe")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := "kernel --timeout 60000 http://" + addr + "/ncn-w001/kernel "; err != nil || !bytes.Contains(body, []byte(want)) {
		t.Errorf("got %v\n%s\nwant %q in it", err, body, want)
	}
}

// What net/http refuses by itself is one line too, and no redirect.
func TestRawRequests(t *testing.T) {
	s, _ := server(t)
	addr := peer(t, s)
	for _, req := range []string{
		"GET /boot/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 100_000) + "\r\n\r\n",
		"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, req) // the server may not read all of it
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%.40q: got %v, want an answer", req, err)
		} else if resp.StatusCode < 400 || resp.StatusCode > 431 {
			t.Errorf("%.40q: got %s, want 4xx", req, resp.Status)
		}
		c.Close()
	}
}

func TestNotReady(t *testing.T) {
	s, _ := server(t)
	s.Ready = func() bool { return false }
	h := s.Handler()
	for _, path := range []string{"/boot/script.ipxe", "/ncn-w001/kernel", "/autoexec.ipxe"} {
		w := ask(h, leased, "GET", path, nil)
		if w.Code != 503 || w.Header().Get("Retry-After") != "5" || w.Body.String() != "not ready yet, ask again\n" {
			t.Errorf("%s: got %d, Retry-After %q, %q, want 503, 5 and one line", path, w.Code, w.Header().Get("Retry-After"), w.Body)
		}
	}
	if w := ask(h, leased, "GET", "/healthz", nil); w.Code != 200 {
		t.Errorf("/healthz: got %d, want 200", w.Code)
	}
}

func TestSlots(t *testing.T) {
	s := newSlots(3, 2)
	a, b := leased, foreigner
	for i, step := range []struct {
		addr netip.Addr
		want bool
	}{{a, true}, {a, true}, {a, false}, {b, true}, {b, false}} {
		if got := s.take(step.addr); got != step.want {
			t.Errorf("take %d: got %v, want %v", i, got, step.want)
		}
	}
	s.give(a)
	if !s.take(b) {
		t.Errorf("take after give: got false, want true")
	}
	s.give(a)
	s.give(b)
	s.give(b)
	if s.total != 0 || len(s.each) != 0 {
		t.Errorf("at the end: got %d transfers and %d addresses, want none", s.total, len(s.each))
	}
}

func TestFull(t *testing.T) {
	s, ev := server(t)
	s.MaxPerAddr = 1
	h := s.handler()
	h.slots.take(leased)
	w := ask(h, leased, "GET", "/ncn-w001/kernel", nil)
	if w.Code != 503 || w.Header().Get("Retry-After") != "5" {
		t.Errorf("second transfer: got %d, Retry-After %q, want 503, 5", w.Code, w.Header().Get("Retry-After"))
	}
	if w := ask(h, foreigner, "GET", "/ncn-w001/kernel", nil); w.Code != 200 {
		t.Errorf("transfer to another: got %d, want 200", w.Code)
	}
	if got := len(ev.take()); got != 1 {
		t.Errorf("got %d events, want 1", got)
	}
}

func TestEvents(t *testing.T) {
	s, ev := server(t)
	var told []string
	s.CheckIn = func(in CheckIn) error {
		switch {
		case in.Release == "bad":
			return fmt.Errorf("node ncn-w001: %w", fs.ErrNotExist)
		case in.Kind == "installed":
			return fmt.Errorf("%w: the node is ready, not installing", deploy.ErrNotNow)
		}
		told = append(told, fmt.Sprintf("%s %v %s %q", in.Node, in.Addr, in.Kind, in.Text))
		return nil
	}
	h := s.Handler()
	form := "application/x-www-form-urlencoded"
	tests := []struct {
		name, method, path, body, ctype, agent string
		status                                 int
		want                                   timeline.Event // Node, MAC and Addr are those of leased
	}{
		{"script", "GET", "/boot/script.ipxe?mac=525400aabb07", "", "", "iPXE/1.0.0", 200,
			timeline.Event{Step: timeline.Script, Stage: timeline.IPXE, File: "boot/script.ipxe", Action: "boot", Release: "6.2.0", Detail: "boot release 6.2.0 of role kubernetes"}},
		{"kernel", "GET", "//ncn-w001/kernel", "", "", "iPXE/1.0.0", 200,
			timeline.Event{Step: timeline.HTTP, Stage: timeline.IPXE, File: "ncn-w001/kernel", Bytes: 1000}},
		{"miss", "GET", "/ncn-w001/rootfs", "", "", "curl/7", 404,
			timeline.Event{Step: timeline.HTTP, Stage: timeline.OS, File: "ncn-w001/rootfs", Err: `"ncn-w001/rootfs": no such file`}},
		{"form", "POST", "/checkin/booted", "release=6.2.0%2b1&detail=x", form, "curl/7", 200,
			timeline.Event{Step: timeline.CheckIn, Stage: timeline.OS, File: "checkin/booted", Action: "booted", Release: "6.2.0+1", Detail: "x"}},
		{"plain", "POST", "/checkin/booted", "release=6.2.0+1\ndetail=a\x1b[2Jb\n", "text/plain", "Wget", 200,
			timeline.Event{Step: timeline.CheckIn, Stage: timeline.OS, File: "checkin/booted", Action: "booted", Release: "6.2.0+1", Detail: "a?[2Jb"}},
		{"refused", "POST", "/checkin/booted", "release=bad", form, "curl/7", 404,
			timeline.Event{Step: timeline.CheckIn, Stage: timeline.OS, File: "checkin/booted", Action: "booted", Release: "bad", Err: "node ncn-w001: file does not exist"}},
		{"installed", "POST", "/checkin/installed", "", form, "curl/7", 409,
			timeline.Event{Step: timeline.CheckIn, Stage: timeline.OS, File: "checkin/installed", Action: "installed", Err: "not now: the node is ready, not installing"}},
		{"failed", "POST", "/checkin/failed", "disk sda: 100%\nno space=left\n\n", form, "curl/7", 200,
			timeline.Event{Step: timeline.CheckIn, Stage: timeline.OS, File: "checkin/failed", Action: "failed", Detail: "no space=left"}},
		{"failed without a word", "POST", "/checkin/failed?detail=sda+is+full", "", form, "curl/7", 200,
			timeline.Event{Step: timeline.CheckIn, Stage: timeline.OS, File: "checkin/failed", Action: "failed", Detail: "sda is full"}},
		{"report", "GET", "/report?step=initrd&err=2d0c618e", "", "", "iPXE/1.0.0", 200,
			timeline.Event{Step: timeline.Report, Stage: timeline.IPXE, File: "report", Detail: "initrd", Err: "iPXE error 2d0c618e: file missing on the server (HTTP 404)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(h, leased, tt.method, tt.path, strings.NewReader(tt.body), "Content-Type", tt.ctype, "User-Agent", tt.agent)
			if w.Code != tt.status {
				t.Errorf("status: got %d, want %d", w.Code, tt.status)
			}
			all := ev.take()
			if len(all) != 1 {
				t.Fatalf("got %d events, want 1: %+v", len(all), all)
			}
			got, want := all[0], tt.want
			want.Node, want.MAC, want.Addr = "ncn-w001", mac, leased
			if got.Dur = 0; got.Step == timeline.Script {
				want.Bytes = int64(w.Body.Len())
			}
			if got != want {
				t.Errorf("got  %+v,\nwant %+v", got, want)
			}
		})
	}
	want := []string{
		`ncn-w001 10.1.1.101 booted ""`, `ncn-w001 10.1.1.101 booted ""`,
		`ncn-w001 10.1.1.101 failed "disk sda: 100%\nno space=left\n\n"`, `ncn-w001 10.1.1.101 failed ""`,
	}
	if !slices.Equal(told, want) {
		t.Errorf("check-ins: got %q, want %q", told, want)
	}
	if w := ask(h, leased, "POST", "/checkin/wiped", nil); w.Code != 404 {
		t.Errorf("a check-in of an unknown kind: got %d, want 404", w.Code)
	}
	ev.take()
	for _, path := range []string{"/boot/script.ipxe", "/ncn-w001/kernel"} {
		if w := ask(h, leased, "HEAD", path, nil); w.Code != 200 {
			t.Errorf("HEAD %s: got %d, want 200", path, w.Code)
		}
	}
	for _, path := range []string{"/", "/index.html", "/stranger/kernel", "/boot/../x", "/healthz"} {
		ask(h, foreigner, "GET", path, nil)
	}
	if all := ev.take(); len(all) != 0 {
		t.Errorf("HEAD and paths that are nothing: got %+v, want no event", all)
	}
}

func TestCheckInTooLong(t *testing.T) {
	s, ev := server(t)
	w := ask(s.Handler(), leased, "POST", "/checkin/booted", strings.NewReader(strings.Repeat("a", 64<<10+1)))
	if w.Code != 413 || w.Body.String() != "body is longer than 65536 bytes\n" {
		t.Errorf("got %d %q, want 413 and one line", w.Code, w.Body)
	}
	if all := ev.take(); len(all) != 0 {
		t.Errorf("got %+v, want no event", all)
	}
}

// A decision that cannot be rendered parks the machine and tells why.
func TestBadDecision(t *testing.T) {
	s, ev := server(t)
	s.Decide = func(Machine) deploy.Decision { return boot("a || shell").Decision }
	w := ask(s.Handler(), leased, "GET", "/boot/script.ipxe", nil)
	commands(t, w.Body.Bytes())
	if want := "because: args: ,??, may not go into a script\n"; w.Code != 200 || !strings.Contains(w.Body.String(), want) {
		t.Errorf("got %d\n%s\nwant 200 with %q in it", w.Code, w.Body, want)
	}
	if all := ev.take(); len(all) != 1 || all[0].Err != `args: "||" may not go into a script` {
		t.Errorf("got %+v, want one event with the error", all)
	}
}

func TestMachine(t *testing.T) {
	tests := map[string]string{
		"": "", "S1": "S1", " 4ZX-1 ": "4ZX-1", "To be filled by O.E.M.": "", "Default string": "",
		"0000000": "", "0": "", "Not Specified": "", "None": "", "a\x1b[2J": "", strings.Repeat("ab", 33): "",
	}
	for in, want := range tests {
		if got := serial(in); got != want {
			t.Errorf("serial %q: got %q, want %q", in, got, want)
		}
	}
	q := map[string][]string{"mac": {"01:00:5e:00:00:01"}, "uuid": {"ffffffff-ffff-ffff-ffff-ffffffffffff"}}
	if got, want := machine(q, leased), (Machine{Addr: leased}); got != want {
		t.Errorf("group MAC and junk UUID: got %+v, want %+v", got, want)
	}
}

// pipes is a net.Listener of connections in memory, so that deadlines run on
// the clock of a synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// C77: a reader of 1 B/s is cut off after the limit, one of 2 kB/s is not, and
// others do not notice.
func TestSlowReader(t *testing.T) {
	const size = 600_000
	s, ev := server(t)
	f, err := s.Root.Create("ephemeral/data/k8s/6.2.0/big")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	// read fetches the file at a rate and returns how much came in what time.
	read := func(l pipes, bytes int, each time.Duration) (n int64, took time.Duration) {
		c := l.dial()
		defer c.Close()
		io.WriteString(c, "GET /ephemeral/data/k8s/6.2.0/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		begin := time.Now()
		buf := make([]byte, bytes)
		for {
			k, err := c.Read(buf)
			n += int64(k)
			if err != nil {
				return n, time.Since(begin)
			}
			time.Sleep(each)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		srv := s.HTTPServer()
		served := make(chan struct{})
		go func() { srv.Serve(l); close(served) }()

		slow := make(chan time.Duration)
		go func() {
			_, took := read(l, 1, time.Second)
			slow <- took
		}()
		if n, _ := read(l, 4096, 0); n < size {
			t.Errorf("fast reader beside a slow one: got %d bytes, want at least %d", n, size)
		}
		if took := <-slow; took > 2*time.Minute {
			t.Errorf("1 B/s: cut off after %v, want at most 2m", took)
		}
		if n, took := read(l, 2000, time.Second); n < size || took < 4*time.Minute {
			t.Errorf("2 kB/s: got %d bytes in %v, want all of %d", n, took, size)
		}
		srv.Close()
		<-served
	})
	var errs []string
	for _, e := range ev.take() {
		errs = append(errs, e.Err)
	}
	if got, want := fmt.Sprintf("%q", errs), `["" "reader is slower than 1 kB/s" ""]`; got != want {
		t.Errorf("events: got %s, want %s", got, want)
	}
}

// A connection that served one request keeps serving after a long pause: the
// deadline of the first does not end the second.
func TestKeepAlive(t *testing.T) {
	s, _ := server(t)
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		srv := s.HTTPServer()
		served := make(chan struct{})
		go func() { srv.Serve(l); close(served) }()
		c := l.dial()
		in := bufio.NewReader(c)
		for i := range 3 {
			io.WriteString(c, "GET /ncn-w001/kernel HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			if b, err := io.ReadAll(resp.Body); len(b) != 1000 || err != nil {
				t.Errorf("request %d: got %d bytes and %v, want 1000", i, len(b), err)
			}
			time.Sleep(100 * time.Second)
		}
		c.Close()
		srv.Close()
		<-served
	})
}

// A client that goes away in the middle is an event with an error.
func TestAborted(t *testing.T) {
	s, ev := server(t)
	f, err := s.Root.Create("ephemeral/data/k8s/6.2.0/big")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	recorded := make(chan struct{})
	s.Record = func(e timeline.Event) { ev.record(e); close(recorded) }
	c, err := net.Dial("tcp", peer(t, s))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /ephemeral/data/k8s/6.2.0/big HTTP/1.1\r\nHost: x\r\n\r\n")
	io.CopyN(io.Discard, c, 1<<20)
	c.Close()
	<-recorded
	e := ev.take()[0]
	if e.Err == "" || e.Bytes < 1<<19 || e.Bytes >= 64<<20 {
		t.Errorf("got %d bytes and error %q, want a part and an error", e.Bytes, e.Err)
	}
}

// FuzzPath asserts what must hold for any path: no redirect, no file that is
// not for serving, no panic.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/boot/script.ipxe", "//ncn-w001//kernel", "/ncn-w002/kernel", "/../shadow", "/%2e%2e/shadow", "/ncn-w001/../index.html",
		"/ephemeral/data/k8s/6.2.0/.part", "/ephemeral/data/../configs/data.json", "\\", "*", "", "/\x00", "/ephemeral//data/k8s/./top",
		"/boot/../../shadow?mac=1", "/stranger/kernel", "/ephemeral/data/k8s/6.2.0/..%2ftop",
	} {
		f.Add(seed)
	}
	s, _ := server(f)
	h := s.Handler()
	f.Fuzz(func(t *testing.T, path string) {
		w := ask(h, leased, "GET", path, nil)
		if w.Code >= 300 && w.Code < 400 {
			t.Errorf("%q: got %d, want no redirect", path, w.Code)
		}
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%q: got a file that is not for serving", path)
		}
		if w.Code == 200 && strings.HasSuffix(path, ".ipxe") {
			commands(t, w.Body.Bytes())
		}
	})
}

// No node has the name of a route: it could not boot.
func TestRoutesAreReserved(t *testing.T) {
	for name := range top {
		if node.ValidName(name) && !node.Reserved(name) {
			t.Errorf("/%s is a route, and a node may have that name", name)
		}
	}
	if got := match([]string{"report", "kernel"}); got != (target{}) {
		t.Errorf("/report/kernel: got %+v, want nothing", got)
	}
}
