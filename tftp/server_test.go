package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

type packet struct {
	to   origin
	data string
}

// fakeConn is a public socket made of channels.
type fakeConn struct {
	in   chan packet
	out  chan packet
	stop chan struct{}
}

func newFakeConn() *fakeConn {
	return &fakeConn{make(chan packet), make(chan packet, 5000), make(chan struct{})}
}

func (c *fakeConn) receive(b []byte) (int, origin, error) {
	select {
	case p := <-c.in:
		return copy(b, p.data), p.to, nil
	case <-c.stop:
		return 0, origin{}, os.ErrDeadlineExceeded
	}
}

func (c *fakeConn) answer(to origin, b []byte) error {
	c.out <- packet{to, string(b)}
	return nil
}

func (c *fakeConn) interrupt() { close(c.stop) }

// file is a ReadSeekCloser in memory.
type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func from(addrPort string) origin {
	return origin{peer: netip.MustParseAddrPort(addrPort), local: netip.MustParseAddr("10.77.0.1")}
}

// bench runs a Server on a fakeConn in the bubble of t.
type bench struct {
	*fakeConn
	cancel context.CancelFunc
	result chan error
	ended  []Transfer // complete after stop
}

func start(t *testing.T, s *Server, send engine) *bench {
	ctx, cancel := context.WithCancel(t.Context())
	b := &bench{fakeConn: newFakeConn(), cancel: cancel, result: make(chan error, 1)}
	done := make(chan Transfer, 5000)
	s.Done = func(t Transfer) { done <- t }
	h := s.handler(b.fakeConn, send)
	go func() {
		err := h.run(ctx)
		close(done)
		for t := range done {
			b.ended = append(b.ended, t)
		}
		b.result <- err
	}()
	return b
}

func (b *bench) stop(t *testing.T) {
	t.Helper()
	b.cancel()
	if err := <-b.result; err != nil {
		t.Errorf("run after cancel: got %v, want nil", err)
	}
}

func (b *bench) give(from origin, data []byte) {
	b.in <- packet{from, string(data)}
	synctest.Wait()
}

func (b *bench) answers() (got []string) {
	for len(b.out) > 0 {
		got = append(got, (<-b.out).data)
	}
	return got
}

func openEmpty(string, netip.Addr) (io.ReadSeekCloser, error) {
	return file{bytes.NewReader(nil)}, nil
}

func sendNothing(context.Context, job) outcome { return outcome{} }

// sendUntilDone holds its place until the server stops.
func sendUntilDone(ctx context.Context, _ job) outcome {
	<-ctx.Done()
	return outcome{err: errStopping}
}

func TestServerAnswersOpenErrors(t *testing.T) {
	path := "/srv/secret/tree"
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fs.ErrNotExist, "\x00\x05\x00\x01file not found\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: syscall.ENOENT}, "\x00\x05\x00\x01file not found\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: syscall.ENOTDIR}, "\x00\x05\x00\x01file not found\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: syscall.ENAMETOOLONG}, "\x00\x05\x00\x01file not found\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: syscall.EACCES}, "\x00\x05\x00\x02access violation\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: errors.New("path escapes from parent")}, "\x00\x05\x00\x02access violation\x00"},
		{errors.New("not routed: " + path), "\x00\x05\x00\x02access violation\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: syscall.EMFILE}, "\x00\x05\x00\x00server error\x00"},
		{&fs.PathError{Op: "openat", Path: path, Err: syscall.EIO}, "\x00\x05\x00\x00server error\x00"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Server{Open: func(string, netip.Addr) (io.ReadSeekCloser, error) { return nil, tt.err }}, sendNothing)
			b.give(from("10.77.0.9:2000"), rrq("/f", "octet"))
			got := b.answers()
			b.stop(t)
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
			}
			if len(b.ended) != 1 || b.ended[0].Name != "f" || !errors.Is(b.ended[0].Err, tt.err) {
				t.Errorf("%v: got transfers %+v, want one of f with that error", tt.err, b.ended)
			}
		})
	}
}

// A directory, and whatever else says that it is not regular, is refused even
// where Open lets it through.
func TestC62_Directory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := start(t, &Server{Open: func(string, netip.Addr) (io.ReadSeekCloser, error) { return os.Open(dir) }}, sendNothing)
		b.give(from("10.77.0.9:2000"), rrq("d", "octet"))
		got := b.answers()
		b.stop(t)
		if want := "\x00\x05\x00\x02access violation\x00"; len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestServerSurvivesPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &Server{
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			Open: func(name string, _ netip.Addr) (io.ReadSeekCloser, error) {
				switch name {
				case "nil":
					return nil, nil
				case "panic":
					panic("open of /srv/secret")
				}
				return openEmpty(name, netip.Addr{})
			},
		}
		b := start(t, s, func(_ context.Context, j job) outcome {
			if j.req.tsize {
				panic("engine")
			}
			return outcome{bytes: 7}
		})
		peer := from("10.77.0.9:2000")
		b.give(peer, rrq("panic", "octet"))
		b.give(peer, rrq("nil", "octet"))
		b.give(peer, rrq("f", "octet", "tsize", "0"))
		b.give(peer, rrq("f", "octet"))
		got := b.answers()
		b.stop(t)
		want := []string{"\x00\x05\x00\x00server error\x00", "\x00\x05\x00\x00server error\x00"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(b.ended) != 3 || b.ended[2].Bytes != 7 {
			t.Errorf("got %+v, want the last transfer to have sent 7 bytes", b.ended)
		}
		for _, want := range []string{"panic: open of /srv/secret", "stack=", "msg=panic"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log: got %s, want %q in it", log.String(), want)
			}
		}
	})
}

// Who gets no answer: protocol.md 4.2, RFC 1123 section 4.2.3.5.
func TestServerSilence(t *testing.T) {
	group := from("10.77.0.9:2000")
	group.group = true
	for _, o := range []origin{
		from("10.77.0.9:0"), from("10.77.0.9:69"), from("0.0.0.0:2000"),
		from("255.255.255.255:2000"), from("224.0.0.1:2000"), group,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Server{Open: openEmpty}, sendNothing)
			b.give(o, rrq("f", "octet"))
			b.give(o, rrq("f", "mail"))
			got := b.answers()
			b.stop(t)
			if len(got) != 0 || len(b.ended) != 0 {
				t.Errorf("%v: got answers %q, transfers %v, want none", o, got, b.ended)
			}
		})
	}
}

// What the engine is asked to do, with the caps of the server.
func TestServerJob(t *testing.T) {
	for _, tt := range []struct {
		s             Server
		block, window int
	}{
		{Server{}, 1468, 16},
		{Server{BlockSize: 1400, Window: 1}, 1400, 1},
		{Server{BlockSize: 9000, Window: 64}, 9000, 64},
		{Server{BlockSize: 100, Window: -1}, 512, 1},
		{Server{BlockSize: 1 << 20, Window: 1000}, 65464, 64},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got job
			s := tt.s
			s.Open = openEmpty
			b := start(t, &s, func(_ context.Context, j job) outcome {
				got = j
				return outcome{}
			})
			b.give(from("10.77.0.9:2000"), rrq("/f", "octet", "windowsize", "4"))
			b.stop(t)
			if got.block != tt.block || got.window != tt.window {
				t.Errorf("%+v: got block %d, window %d, want %d, %d", &s, got.block, got.window, tt.block, tt.window)
			}
			if want := (request{name: "f", window: 4}); got.req != want || got.to != from("10.77.0.9:2000") {
				t.Errorf("got %+v from %+v, want %+v", got.req, got.to, want)
			}
		})
	}
}

func TestServerLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{MaxTransfers: 10, MaxPerClient: 4, Open: openEmpty}
		jobs := make(chan job, 100)
		b := start(t, s, func(ctx context.Context, j job) outcome {
			jobs <- j
			return sendUntilDone(ctx, j)
		})
		for client := range 5 {
			for port := range 20 {
				b.give(from(fmt.Sprintf("10.77.0.%d:%d", 10+client, 2000+port)), rrq("f", "octet"))
			}
		}
		got := b.answers()
		b.stop(t)
		count := map[netip.Addr]int{}
		for len(jobs) > 0 {
			count[(<-jobs).to.peer.Addr()]++
		}
		want := "map[10.77.0.10:4 10.77.0.11:4 10.77.0.12:2]"
		if fmt.Sprint(count) != want || len(got) != 0 {
			t.Errorf("got transfers %v, answers %q, want %s and none", count, got, want)
		}
	})
}

// The gate must not remember who has left.
func TestGateForgets(t *testing.T) {
	g := newGate(2, 1)
	a := ticket{netip.MustParseAddrPort("10.77.0.9:1"), request{name: "f"}}
	b, got := g.enter(a)
	if got != "" || b.take() {
		t.Fatalf("first: got %q, want none", got)
	}
	if _, got := g.enter(a); got != "repeated request" || !b.take() || b.take() {
		t.Errorf("repeat: got %q, want repeated request, and the bell rung once", got)
	}
	other := ticket{a.peer, request{name: "g"}}
	if _, got := g.enter(other); got != "client has too many transfers" {
		t.Errorf("second of a client: got %q, want client has too many transfers", got)
	}
	g.leave(a)
	if len(g.live) != 0 || len(g.client) != 0 {
		t.Errorf("got %v and %v, want nothing kept", g.live, g.client)
	}
	if _, got := g.enter(other); got != "" {
		t.Errorf("after leave: got %q, want none", got)
	}
}

func TestC66_RepeatedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		starts := 0
		b := start(t, &Server{Open: openEmpty}, func(ctx context.Context, j job) outcome {
			starts++
			time.Sleep(time.Second) // of the bubble
			return outcome{}
		})
		peer := from("10.77.0.9:2000")
		for range 3 {
			b.give(peer, rrq("f", "octet", "tsize", "0"))
		}
		if starts != 1 {
			t.Errorf("three equal requests: got %d transfers, want 1", starts)
		}
		b.give(peer, rrq("f", "octet"))
		if starts != 2 {
			t.Errorf("other request from that port: got %d transfers, want 2", starts)
		}
		time.Sleep(2 * time.Second)
		b.give(peer, rrq("f", "octet", "tsize", "0"))
		if starts != 3 {
			t.Errorf("same request after the end: got %d transfers, want 3", starts)
		}
		b.stop(t)
	})
}

// Names that are refused are answered, told to Done, and logged as a warning.
func TestC62_RefusedNames(t *testing.T) {
	for _, tt := range []struct{ name, answer, done string }{
		{"../../etc/passwd", "\x00\x05\x00\x02access violation\x00", "../../etc/passwd"},
		{`..\..\x`, "\x00\x05\x00\x02access violation\x00", `..\..\x`},
		{"a\x1bb", "\x00\x05\x00\x04bad file name\x00", "a?b"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			b := start(t, &Server{Open: openEmpty, Log: slog.New(slog.NewTextHandler(&log, nil))}, sendNothing)
			b.give(from("10.77.0.9:2000"), rrq(tt.name, "octet"))
			got := b.answers()
			b.stop(t)
			if len(got) != 1 || got[0] != tt.answer {
				t.Errorf("%q: got %q, want %q", tt.name, got, tt.answer)
			}
			if len(b.ended) != 1 || b.ended[0].Name != tt.done || b.ended[0].Err == nil {
				t.Errorf("%q: got transfers %+v, want one of %q that failed", tt.name, b.ended, tt.done)
			}
			if !strings.Contains(log.String(), "level=WARN msg=\"name refused\" ip=10.77.0.9:2000") {
				t.Errorf("%q: got log %s, want a warning with the client", tt.name, &log)
			}
		})
	}
}

func TestRunStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &Server{Open: openEmpty}, sendUntilDone)
		b.give(from("10.77.0.9:2000"), rrq("f", "octet"))
		began := time.Now()
		b.stop(t)
		if d := time.Since(began); d != 0 {
			t.Errorf("got %v, want no wait: the transfer ended", d)
		}
		if len(b.ended) != 1 || b.ended[0].Err != errStopping {
			t.Errorf("got %+v, want one transfer ended by the stop", b.ended)
		}
	})
}

// Open may hang on a dead file server. Run must not.
func TestRunStopsWithOpenStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		release := make(chan struct{})
		c := newFakeConn()
		s := &Server{Log: slog.New(slog.NewTextHandler(&log, nil))}
		s.Open = func(string, netip.Addr) (io.ReadSeekCloser, error) {
			<-release
			return nil, fs.ErrNotExist
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- s.handler(c, sendNothing).run(ctx) }()
		c.in <- packet{from("10.77.0.9:2000"), string(rrq("f", "octet"))}
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-result; err != nil {
			t.Errorf("got %v, want nil", err)
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("got %v, want 3s", d)
		}
		if want := "level=ERROR msg=\"stopped while files were still being read\""; !strings.Contains(log.String(), want) {
			t.Errorf("log: got %s, want %s", &log, want)
		}
		close(release)
	})
}

type brokenConn struct{ *fakeConn }

func (brokenConn) receive([]byte) (int, origin, error) { return 0, origin{}, net.ErrClosed }

func TestRunReportsBrokenSocket(t *testing.T) {
	s := &Server{Open: openEmpty}
	err := s.handler(brokenConn{newFakeConn()}, sendNothing).run(t.Context())
	if !errors.Is(err, net.ErrClosed) || err.Error() != "receive: use of closed network connection" {
		t.Errorf("got %v, want receive: %v", err, net.ErrClosed)
	}
}
