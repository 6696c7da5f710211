package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// A backend answers with what the test put there.
type backend struct {
	admin.Backend // what no test asks for
	status        []admin.Status
	stories       map[string]admin.Story
	err           error               // of Story, for machines that are not in stories
	events        chan timeline.Event // closed: the reader is too slow
	left          chan struct{}       // closed when the context of a Watch ends
}

func (b *backend) Health() admin.Health {
	return admin.Health{Version: "1.0", Started: time.Unix(1e9, 0).UTC()}
}
func (b *backend) Status(time.Time) []admin.Status { return b.status }

func (b *backend) Probe(_ context.Context, ifname string) ([]admin.Probe, error) {
	if ifname == "eth9" {
		return nil, errors.New("no subnet is on it")
	}
	return []admin.Probe{{Interface: ifname, Mode: "proxy"}}, nil
}

func (b *backend) Story(machine string, _ time.Time) (admin.Story, error) {
	s, ok := b.stories[machine]
	if !ok {
		return s, fmt.Errorf("%q: %w", machine, b.err)
	}
	return s, nil
}

func (b *backend) PayloadLog(machine string) ([]timeline.Event, error) {
	if machine != "ncn-w001" {
		return nil, admin.ErrUnknown
	}
	return []timeline.Event{{Node: machine, Step: timeline.Payload, File: "user-data", Action: "given"}}, nil
}

func (b *backend) Watch(ctx context.Context) <-chan timeline.Event {
	context.AfterFunc(ctx, func() { close(b.left) })
	return b.events
}

func newBackend() *backend {
	return &backend{
		status: []admin.Status{}, stories: map[string]admin.Story{}, err: admin.ErrUnknown,
		events: make(chan timeline.Event), left: make(chan struct{}),
	}
}

// serve serves h on a socket as the daemon does, and returns its path.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bootd.sock")
	l, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return path
}

// The routes as their callers see them: curl --unix-socket, and jq.
func TestRoutes(t *testing.T) {
	b := newBackend()
	b.stories["ncn-m001"] = admin.Story{Machine: "ncn-m001", Known: true, Boot: timeline.Tell(nil, time.Now())}
	b.stories["52:54:00:aa:bb:07"] = admin.Story{Machine: "52:54:00:aa:bb:07"}
	broken := newBackend()
	broken.err = errors.New("no world")
	for _, tt := range []struct {
		b              *backend
		method, target string
		status         int
		body           string // it begins with this
	}{
		{b, "GET", "/v1/health", 200, `{"version":"1.0","started":"2001-09-09T01:46:40Z"}` + "\n"},
		{b, "GET", "/v1/status", 200, "[]\n"},
		{b, "GET", "/v1/story/ncn-m001", 200, `{"machine":"ncn-m001","known":true,"next":{"action":"discover","reason":""},"boot":{"events":[],"outcome":"unseen"`},
		{b, "GET", "/v1/story/52:54:00:aa:bb:07", 200, `{"machine":"52:54:00:aa:bb:07"`},
		{b, "GET", "/v1/story/nobody", 404, `{"error":"\"nobody\": no such node, and nothing was ever seen of it","unknown":true}` + "\n"},
		{b, "GET", "/v1/story/a%2Fb", 404, `{"error":"\"a/b\": no such node`},
		{b, "GET", "/v1/story/", 404, `{"error":"no route GET /v1/story/"}` + "\n"},
		{b, "POST", "/v1/upgrades", 400, `{"error":"not an upgrade: EOF"}` + "\n"},
		{b, "POST", "/v1/upgrades/kubernetes/halt", 404, `{"error":"\"halt\" is not stop, abandon, resume or skip"}` + "\n"},
		{b, "GET", "/v1/dhcp/probe?interface=eth1", 200, `[{"interface":"eth1","mode":"proxy","offers":null}]` + "\n"},
		{b, "GET", "/v1/dhcp/probe?interface=eth9", 500, `{"error":"no subnet is on it"}` + "\n"},
		{b, "GET", "/v2/status", 404, `{"error":"no route GET /v2/status"}` + "\n"},
		{b, "POST", "/v1/status", 404, `{"error":"no route POST /v1/status"}` + "\n"},
		{b, "GET", "/", 404, `{"error":"no route GET /"}` + "\n"},
		{broken, "GET", "/v1/story/ncn-m001", 500, `{"error":"\"ncn-m001\": no world"}` + "\n"},
	} {
		w := httptest.NewRecorder()
		admin.Handler(tt.b).ServeHTTP(w, httptest.NewRequest(tt.method, tt.target, nil))
		if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), tt.body) {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.target, w.Code, w.Body, tt.status, tt.body)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s %s: got type %q, want application/json", tt.method, tt.target, got)
		}
	}
}

func TestClient(t *testing.T) {
	b := newBackend()
	b.status = []admin.Status{{Machine: "ncn-m001", Known: true, Role: "k", Next: deploy.Decision{Action: deploy.Boot, Release: "1.2.3"},
		Outcome: timeline.Booted, MAC: node.MAC{2, 0, 0, 0, 0, 1}}}
	b.stories["ncn-m001"] = admin.Story{Machine: "ncn-m001", Next: deploy.Decision{Action: deploy.Hold}}
	b.stories["a b"] = admin.Story{Machine: "a b"}
	c := admin.NewClient(serve(t, admin.Handler(b)))
	ctx := t.Context()
	if h, err := c.Health(ctx); err != nil || h.Version != "1.0" {
		t.Errorf("health: got %+v, %v", h, err)
	}
	if s, err := c.Status(ctx); err != nil || len(s) != 1 || s[0] != b.status[0] {
		t.Errorf("status: got %+v, %v, want %+v", s, err, b.status)
	}
	for _, machine := range []string{"ncn-m001", "a b"} {
		if s, err := c.Story(ctx, machine); err != nil || s.Machine != machine {
			t.Errorf("story of %q: got %+v, %v", machine, s, err)
		}
	}
	for _, machine := range []string{"nobody", "", ".", "..", "...", "a/b", "../health", "/", "%2e", "a?b", "a#b", "a\nb", strings.Repeat("x", 5000)} {
		if _, err := c.Story(ctx, machine); !errors.Is(err, admin.ErrUnknown) {
			t.Errorf("story of %.20q: got %v, want ErrUnknown", machine, err)
		}
	}
	b.err = errors.New("no world")
	if _, err := c.Story(ctx, "nobody"); err == nil || err.Error() != `"nobody": no world` {
		t.Errorf("story: got %v, want the error of the daemon", err)
	}
}

func TestWatch(t *testing.T) {
	b := newBackend()
	c := admin.NewClient(serve(t, admin.Handler(b)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, done := make(chan timeline.Event), make(chan error)
	go func() { done <- c.Watch(ctx, func(e timeline.Event) error { seen <- e; return nil }) }()
	for i := range 3 {
		b.events <- timeline.Event{Seq: uint64(i), Node: "a", Detail: strings.Repeat("x", 100_000)}
		if e := <-seen; e.Seq != uint64(i) {
			t.Errorf("got event %d, want %d, at once", e.Seq, i)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after its context ended: got %v, want nil", err)
	}
	<-b.left // the stream ends when the caller leaves
	if err := c.Watch(ctx, nil); err != nil {
		t.Errorf("with a context that has ended: got %v, want nil", err)
	}
}

func TestWatchEnds(t *testing.T) {
	stop := errors.New("stop")
	b := newBackend()
	c := admin.NewClient(serve(t, admin.Handler(b)))
	go func() { b.events <- timeline.Event{} }()
	if err := c.Watch(t.Context(), func(timeline.Event) error { return stop }); err != stop {
		t.Errorf("got %v, want the error of visit", err)
	}
	<-b.left

	b = newBackend()
	close(b.events) // as a Log does for a reader that is too slow
	c = admin.NewClient(serve(t, admin.Handler(b)))
	if err := c.Watch(t.Context(), nil); !errors.Is(err, admin.ErrBehind) {
		t.Errorf("a reader that is too slow: got %v, want ErrBehind", err)
	}

	for name, h := range map[string]http.HandlerFunc{
		"before the answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"within an event": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "\n[{\"seq\":1")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"within the answer": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "\n")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		c := admin.NewClient(serve(t, h))
		if err := c.Watch(t.Context(), nil); !errors.Is(err, admin.ErrStopped) {
			t.Errorf("daemon stops %s of a watch: got %v, want ErrStopped", name, err)
		}
		if _, err := c.Status(t.Context()); !errors.Is(err, admin.ErrStopped) {
			t.Errorf("daemon stops %s: got %v, want ErrStopped", name, err)
		}
	}
}

// clientSocket is the environment variable that makes this test binary a
// client of the socket it names.
const clientSocket = "BOOTD_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(clientSocket); path != "" {
		_, err := admin.NewClient(path).Status(context.Background())
		fmt.Println(errors.Is(err, fs.ErrPermission), err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestPermission(t *testing.T) {
	path := serve(t, admin.Handler(newBackend()))
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.WriteFile(filepath.Join(dir, "client"), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0); err != nil { // for a run without root: the owner may not either
		t.Fatal(err)
	}
	client := exec.Command(filepath.Join(dir, "client"))
	client.Env = []string{clientSocket + "=" + path}
	if os.Geteuid() == 0 {
		const nobody = 65534
		client.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := client.CombinedOutput()
	if want := "true " + path + ": permission denied\n"; err != nil || string(out) != want {
		t.Errorf("got %s, %v, want %s", out, err, want)
	}
}

// Somebody else's server is not mistaken for the daemon.
func TestForeignServer(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"moved": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://bootd/v1/status2", http.StatusFound)
		},
		"empty": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "{}")
		},
	} {
		c := admin.NewClient(serve(t, h))
		if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "not an answer of bootd") {
			t.Errorf("%s: got %v, want that it is not an answer of bootd", name, err)
		}
	}
}

// deadSocket makes what a daemon leaves that was killed.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	deadSocket(t, dead)
	for _, path := range []string{filepath.Join(dir, "missing"), filepath.Join(dir, "no", "dir"), dead} {
		_, err := admin.NewClient(path).Status(t.Context())
		if want := path + ": the daemon is not running"; !errors.Is(err, admin.ErrNotRunning) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if err := admin.NewClient(path).Watch(t.Context(), nil); !errors.Is(err, admin.ErrNotRunning) {
			t.Errorf("watch: got %v, want ErrNotRunning", err)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "bootd.sock")
	l, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if want := fs.ModeSocket | 0o600; err != nil || info.Mode() != want {
		t.Errorf("mode: got %v, %v, want %v", info.Mode(), err, want)
	}
	if old := syscall.Umask(0o022); old == 0o177 {
		t.Errorf("umask: got %o, want what it was before", old)
	} else {
		syscall.Umask(old)
	}
	if _, err := admin.Listen(path); err == nil || err.Error() != path+": another bootd answers on this socket" {
		t.Errorf("a second daemon: got %v, want that another one answers", err)
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first daemon's socket: got %v, want it untouched", err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: got %v, want no socket", err)
	}
}

func TestListenReplacesOnlyDeadSockets(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	deadSocket(t, dead)
	l, err := admin.Listen(dead)
	if err != nil {
		t.Fatalf("dead socket: got %v, want it replaced", err)
	}
	l.Close()

	file, link, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Symlink(file, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, fifo, dir} {
		if _, err := admin.Listen(path); err == nil || err.Error() != path+": exists and is not a socket" {
			t.Errorf("%s: got %v, want that it is not a socket", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file: got %q, %v, want it untouched", b, err)
	}
	long := filepath.Join(dir, strings.Repeat("x", 120))
	if _, err := admin.Listen(long); err == nil || !strings.Contains(err.Error(), "longer than the 107 bytes") {
		t.Errorf("long path: got %v, want that it is too long", err)
	}
}

// A daemon too busy to accept is not dead: its socket stays.
func TestListenLeavesBusyDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bootd.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	var last error
	for range 10 { // fill its queue
		c, err := net.DialTimeout("unix", path, time.Second)
		if last = err; err != nil {
			break
		}
		defer c.Close()
	}
	if last == nil {
		t.Fatal("the queue of the socket did not fill")
	}
	if _, err := admin.Listen(path); err == nil || !strings.Contains(err.Error(), "somebody holds this socket") {
		t.Errorf("got %v, want that somebody holds the socket", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("got %v, want the socket still there", err)
	}
}

// A daemon whose answer is from a newer version has fields we do not know.
func TestJSONIsAdditive(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `[{"machine":"a","known":true,"outcome":"sideways","next":{"action":"boot","reason":"r","new":1},"new":{}}]`)
	}
	s, err := admin.NewClient(serve(t, http.HandlerFunc(h))).Status(t.Context())
	if err != nil || len(s) != 1 || s[0].Outcome != "sideways" || s[0].Next.Action != deploy.Boot {
		t.Errorf("got %+v, %v", s, err)
	}
	got, err := json.Marshal(admin.Status{Machine: "a", Outcome: timeline.Unseen, Stopped: "s"})
	want := `{"machine":"a","known":false,"next":{"action":"discover","reason":""},"outcome":"unseen","stopped":"s"}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func (b *backend) Unreadable(paths []string) (list []admin.Unreadable) {
	for _, path := range paths {
		if path == "/secret" {
			list = append(list, admin.Unreadable{Path: path, Why: "/secret: permission denied"})
		}
	}
	return list
}

func TestUnreadable(t *testing.T) {
	c := admin.NewClient(serve(t, admin.Handler(newBackend())))
	list, err := c.Unreadable(t.Context(), []string{"/open", "/secret"})
	if err != nil || len(list) != 1 || list[0] != (admin.Unreadable{Path: "/secret", Why: "/secret: permission denied"}) {
		t.Errorf("got %+v, %v, want the one that it cannot read", list, err)
	}
}

// A list of nothing is a list in JSON, whoever asks.
func TestEmptyList(t *testing.T) {
	w := httptest.NewRecorder()
	admin.Handler(newBackend()).ServeHTTP(w, httptest.NewRequest("POST", "/v1/readable", strings.NewReader(`["/open"]`)))
	if w.Body.String() != "[]\n" {
		t.Errorf("got %q, want []", w.Body)
	}
	for _, v := range []any{[]admin.Validation(nil), []admin.Status{}, []string(nil)} {
		if got, err := json.Marshal(admin.List(v)); err != nil || string(got) != "[]" {
			t.Errorf("%T: got %s, %v, want []", v, got, err)
		}
	}
	if got, err := json.Marshal(admin.List(admin.KeyChange{Key: "a"})); err != nil || string(got) != `{"key":"a"}` {
		t.Errorf("got %s, %v, want it as it is", got, err)
	}
}

func TestPayloadLog(t *testing.T) {
	c := admin.NewClient(serve(t, admin.Handler(newBackend())))
	list, err := c.PayloadLog(t.Context(), "ncn-w001")
	if err != nil || len(list) != 1 || list[0].File != "user-data" {
		t.Errorf("got %+v, %v, want one event", list, err)
	}
	for _, machine := range []string{"ncn-w999", "..", "a/b"} {
		if _, err := c.PayloadLog(t.Context(), machine); !errors.Is(err, admin.ErrUnknown) {
			t.Errorf("%s: got %v, want that it is unknown", machine, err)
		}
	}
}
