package tftp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bootd/tftp"
)

const (
	opDATA  = 3
	opACK   = 4
	opERROR = 5
	opOACK  = 6
)

// openIn opens names below a directory as the daemon does. Without O_NONBLOCK
// a FIFO would wait for its writer.
func openIn(t testing.TB, dir string) func(string, netip.Addr) (io.ReadSeekCloser, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return func(name string, _ netip.Addr) (io.ReadSeekCloser, error) {
		f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// A server is a Server on a loopback socket.
type server struct {
	dir  string
	addr netip.AddrPort
	stop func() // ends Run and waits for it

	mu    sync.Mutex
	ended []tftp.Transfer
	end   chan struct{} // one for each of ended
}

// serve starts s on listen, with a directory to serve, until the test ends. It
// returns when s answers.
func serve(t testing.TB, s *tftp.Server, listen string) *server {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(listen)))
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{dir: t.TempDir(), addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), end: make(chan struct{}, 5000)}
	if s.Open == nil {
		s.Open = openIn(t, srv.dir)
	}
	s.Done = func(tr tftp.Transfer) {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		srv.ended = append(srv.ended, tr)
		srv.end <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx, c) }()
	srv.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		c.Close()
	})
	t.Cleanup(srv.stop)
	ready := dial(t, "127.0.0.1")
	ready.send(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), srv.addr.Port()), rrq("f", "mail"))
	ready.want("first answer", errorPacket(4, "unknown transfer mode"))
	return srv
}

func start(t testing.TB) *server { return serve(t, &tftp.Server{}, "127.0.0.1:0") }

func (s *server) put(t testing.TB, name string, data []byte) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// transfers stops the server and returns what ended.
func (s *server) transfers() []tftp.Transfer {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// await waits for one transfer to end, and returns those that have.
func (s *server) await(t testing.TB) []tftp.Transfer {
	t.Helper()
	select {
	case <-s.end:
	case <-time.After(20 * time.Second):
		t.Fatal("no transfer ended")
	}
	return s.transfers()
}

// A client speaks raw TFTP from one port.
type client struct {
	t    testing.TB
	conn *net.UDPConn
	from netip.AddrPort // of the last answer
}

func dial(t testing.TB, local string) *client {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{t: t, conn: c}
}

func (c *client) send(to netip.AddrPort, b []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort(b, to); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the next packet, or nil after d.
func (c *client) receive(d time.Duration) []byte {
	c.t.Helper()
	b := make([]byte, 1<<16)
	c.conn.SetReadDeadline(time.Now().Add(d))
	n, from, err := c.conn.ReadFromUDPAddrPort(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.from = from
	return b[:n]
}

// want receives one packet, soon, and compares it.
func (c *client) want(what string, want []byte) {
	c.t.Helper()
	if got := c.receive(2 * time.Second); !bytes.Equal(got, want) {
		c.t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func (c *client) wantSilence(d time.Duration) {
	c.t.Helper()
	if got := c.receive(d); got != nil {
		c.t.Fatalf("got %q, want silence", got)
	}
}

func (c *client) ack(n uint16) { c.t.Helper(); c.send(c.from, numbered(opACK, n, nil)) }

// get acknowledges blocks until the last, and returns the file. What comes
// twice it drops.
func (c *client) get(blksize int) []byte {
	c.t.Helper()
	var file []byte
	for n := uint16(1); ; n++ {
		b := c.receive(3 * time.Second)
		if bytes.HasPrefix(b, numbered(opDATA, n-1, nil)) {
			n-- // we were slow, and it was sent again
			continue
		}
		if len(b) < 4 || !bytes.Equal(b[:4], numbered(opDATA, n, nil)) {
			c.t.Fatalf("after %d bytes: got %.40q, want DATA %d", len(file), b, n)
		}
		file = append(file, b[4:]...)
		c.ack(n)
		if len(b) < 4+blksize {
			return file
		}
	}
}

func numbered(op, n uint16, rest []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, op)
	return append(binary.BigEndian.AppendUint16(b, n), rest...)
}

var vector, rrq = tftp.Vector, tftp.RRQ

func errorPacket(code uint16, text string) []byte {
	return numbered(opERROR, code, []byte(text+"\x00"))
}

// insist repeats a request, as firmware does, until an OACK comes: a flood may
// have filled the socket of the server.
func (c *client) insist(to netip.AddrPort, rrq []byte) {
	c.t.Helper()
	for range 5 {
		c.send(to, rrq)
		if b := c.receive(time.Second); len(b) > 1 && b[1] == opOACK {
			return
		}
	}
	c.t.Fatalf("%q: got no OACK after five requests", rrq)
}

// wantOACK receives an OACK and compares its options, which have no order.
func (c *client) wantOACK(want map[string]string) {
	c.t.Helper()
	b := c.receive(2 * time.Second)
	if len(b) < 2 || binary.BigEndian.Uint16(b) != opOACK {
		c.t.Fatalf("got %q, want OACK", b)
	}
	f := strings.Split(strings.TrimSuffix(string(b[2:]), "\x00"), "\x00")
	got := map[string]string{}
	for i := 0; i+1 < len(f); i += 2 {
		got[f[i]] = f[i+1]
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Fatalf("OACK: got %v, want %v", got, want)
	}
}

// pattern returns n bytes that differ from block to block.
func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestC56_ExactMultiple(t *testing.T) {
	s := start(t)
	data := pattern(1024)
	s.put(t, "f", data)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	c.want("block 1", numbered(opDATA, 1, data[:512]))
	if c.from.Port() == s.addr.Port() {
		t.Errorf("got source port %d, want a new one", c.from.Port())
	}
	c.ack(1)
	c.want("block 2", numbered(opDATA, 2, data[512:]))
	c.ack(2)
	c.want("block 3", numbered(opDATA, 3, nil))
	c.ack(3)
	c.wantSilence(50 * time.Millisecond)
	got := s.await(t)
	if len(got) != 1 || got[0].Err != nil || got[0].Bytes != 1024 || got[0].Name != "f" || got[0].Probe {
		t.Errorf("got transfers %+v, want one of f, 1024 bytes", got)
	}
	if want := c.conn.LocalAddr().(*net.UDPAddr).AddrPort(); got[0].Peer != want {
		t.Errorf("got peer %v, want %v", got[0].Peer, want)
	}
}

func TestC57_UpperCaseOptions(t *testing.T) {
	s := start(t)
	data := pattern(3000)
	s.put(t, "f", data)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "OCTET", "BLKSIZE", "1468", "TSIZE", "0"))
	c.wantOACK(map[string]string{"blksize": "1468", "tsize": "3000"})
	c.ack(0)
	if got := c.get(1468); !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, want the file", len(got))
	}
}

func TestC58_OptionValues(t *testing.T) {
	s := start(t)
	s.put(t, "f", []byte("hello"))
	s.put(t, "empty", nil)
	for _, tt := range []struct {
		in   []byte
		want map[string]string // nil: DATA 1 at once
	}{
		{rrq("f", "octet", "blksize", "70000"), map[string]string{"blksize": "1468"}},
		{rrq("f", "octet", "blksize", "65464"), map[string]string{"blksize": "1468"}},
		{rrq("f", "octet", "blksize", "1024", "tsize", "0"), map[string]string{"blksize": "1024", "tsize": "5"}},
		{rrq("f", "octet", "blksize", "512"), map[string]string{"blksize": "512"}},
		{rrq("f", "octet", "tsize", "99"), map[string]string{"tsize": "5"}},
		{rrq("empty", "octet", "tsize", "0"), map[string]string{"tsize": "0"}},
		{rrq("f", "octet", "blksize", "511"), map[string]string{"blksize": "511"}},
		{rrq("f", "octet", "blksize", "8"), map[string]string{"blksize": "8"}},
		{rrq("f", "octet", "blksize", "7"), nil},
		{rrq("f", "octet", "timeout", "3"), map[string]string{"timeout": "3"}},
		{rrq("f", "octet", "timeout", "255"), map[string]string{"timeout": "255"}},
		{rrq("f", "octet", "timeout", "0"), nil},
		{rrq("f", "octet", "timeout", "256"), nil},
		{rrq("f", "octet", "windowsize", "4"), map[string]string{"windowsize": "4"}},
		{rrq("f", "octet", "windowsize", "1"), map[string]string{"windowsize": "1"}},
		{rrq("f", "octet", "windowsize", "65535"), map[string]string{"windowsize": "16"}},
		{rrq("f", "octet", "windowsize", "0"), nil},
		{rrq("f", "octet", "timeout", "5", "blksize", "1468", "tsize", "0", "windowsize", "8", "multicast", ""),
			map[string]string{"timeout": "5", "blksize": "1468", "tsize": "5", "windowsize": "8"}},
		{rrq("f", "octet", "multicast", ""), nil},
	} {
		c := dial(t, "127.0.0.1")
		c.send(s.addr, tt.in)
		if tt.want != nil {
			c.wantOACK(tt.want)
			c.send(c.from, errorPacket(8, "stop"))
			continue
		}
		c.want(string(tt.in), numbered(opDATA, 1, []byte("hello")))
		c.ack(1)
	}
}

// The operator's caps hold where the route has room: loopback's MTU is 65536.
func TestC58_Caps(t *testing.T) {
	s := serve(t, &tftp.Server{BlockSize: 1400, Window: 1}, "127.0.0.1:0")
	s.put(t, "f", nil)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet", "blksize", "1468", "windowsize", "4"))
	c.wantOACK(map[string]string{"blksize": "1400", "windowsize": "1"})
	large := serve(t, &tftp.Server{BlockSize: 65464, Window: 64}, "127.0.0.1:0")
	data := pattern(3*65464 + 1)
	large.put(t, "f", data)
	c = dial(t, "127.0.0.1")
	c.send(large.addr, rrq("f", "octet", "blksize", "70000", "windowsize", "100"))
	c.wantOACK(map[string]string{"blksize": "65464", "windowsize": "64"})
	c.ack(0)
	if got := c.get(65464); !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, want the file", len(got))
	}
}

func TestVectors(t *testing.T) {
	s := start(t)
	s.put(t, "boot.efi", pattern(5000))
	s.put(t, "grub/grub.cfg", []byte("set timeout=1\n"))
	for _, tt := range []struct {
		vector string
		oack   map[string]string
		block  int
		file   string
	}{
		{"ovmf_tftp_rrq_data", map[string]string{"blksize": "1468", "windowsize": "4"}, 1468, "boot.efi"},
		{"grub_tftp_rrq", map[string]string{"blksize": "1024", "tsize": "14"}, 1024, "grub/grub.cfg"},
	} {
		c := dial(t, "127.0.0.1")
		c.send(s.addr, vector(t, tt.vector))
		c.wantOACK(tt.oack)
		c.ack(0)
		got := c.get(tt.block)
		if want, _ := os.ReadFile(filepath.Join(s.dir, tt.file)); !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, want %s of %d", tt.vector, len(got), tt.file, len(want))
		}
	}
}

func TestC59_LostBlockOfWindow(t *testing.T) {
	t.Parallel()
	s := start(t)
	data := pattern(6 * 512)
	s.put(t, "f", data)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet", "windowsize", "4"))
	c.wantOACK(map[string]string{"windowsize": "4"})
	window := func(first, last uint16) {
		t.Helper()
		for n := first; n <= last; n++ {
			c.want(fmt.Sprintf("block %d", n), numbered(opDATA, n, data[(n-1)*512:min(int(n)*512, len(data))]))
		}
	}
	c.ack(0)
	window(1, 4) // block 2 is lost on the way
	for range 3 {
		c.ack(1)
	}
	window(2, 5)
	c.wantSilence(150 * time.Millisecond)
	c.ack(5)
	window(6, 7)
	c.ack(7)
	if got := s.await(t); len(got) != 1 || got[0].Err != nil || got[0].Bytes != int64(len(data)) {
		t.Errorf("got %+v, want one transfer of %d bytes", got, len(data))
	}
}

func TestC60_DuplicateAck(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.put(t, "f", pattern(1500))
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	c.want("block 1", numbered(opDATA, 1, pattern(1500)[:512]))
	c.ack(1)
	c.want("block 2", numbered(opDATA, 2, pattern(1500)[512:1024]))
	c.ack(1)
	c.ack(1)
	c.wantSilence(200 * time.Millisecond)
	c.ack(2)
	c.want("block 3", numbered(opDATA, 3, pattern(1500)[1024:]))
	c.ack(3)
}

func TestC61_LostBlock(t *testing.T) {
	t.Parallel()
	s := start(t)
	data := pattern(700)
	s.put(t, "f", data)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	c.want("block 1", numbered(opDATA, 1, data[:512]))
	c.ack(1)
	c.want("block 2", numbered(opDATA, 2, data[512:]))
	lost := time.Now()
	c.want("block 2 again", numbered(opDATA, 2, data[512:]))
	if d := time.Since(lost); d < 250*time.Millisecond || d > 1500*time.Millisecond {
		t.Errorf("resend: got it after %v, want 0.25s to 1.5s", d)
	}
	c.ack(2)
}

// A client that asks and never answers gets its OACK four times (its address
// may be forged), and the transfer then ends without an ERROR.
func TestC61_NoAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.put(t, "f", pattern(700))
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet", "tsize", "0"))
	for range 4 {
		if got, want := c.receive(6*time.Second), "\x00\x06tsize\x00700\x00"; string(got) != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	got := s.await(t)
	c.wantSilence(50 * time.Millisecond)
	if len(got) != 1 || got[0].Err == nil || got[0].Err.Error() != "client does not answer" || got[0].Bytes != 0 {
		t.Errorf("got %+v, want one transfer: client does not answer", got)
	}
}

// Machines start their kernel without the last ACK: not a failure (4.4).
func TestLastAckLost(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.put(t, "f", pattern(700))
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	c.receive(time.Second)
	c.ack(1)
	for range 4 {
		c.want("block 2", numbered(opDATA, 2, pattern(700)[512:]))
	}
	got := s.await(t)
	c.wantSilence(50 * time.Millisecond)
	if len(got) != 1 || got[0].Err != nil || got[0].Bytes != 700 {
		t.Errorf("got %+v, want one transfer of 700 bytes without error", got)
	}
}

func TestC62_Traversal(t *testing.T) {
	s := start(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(s.dir, "abs")),
		os.Symlink("../../"+filepath.Base(outside)+"/secret", filepath.Join(s.dir, "rel")),
		os.Symlink(outside, filepath.Join(s.dir, "out")),
		os.Mkdir(filepath.Join(s.dir, "dir"), 0o755),
		syscall.Mkfifo(filepath.Join(s.dir, "fifo"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	denied, missing := errorPacket(2, "access violation"), errorPacket(1, "file not found")
	for name, want := range map[string][]byte{
		"../../etc/passwd": denied,
		`..\..\x`:          denied,
		"dir/../../x":      denied,
		"abs":              denied,
		"rel":              denied,
		"out/secret":       denied,
		"dir":              denied,
		"dir/":             denied,
		"fifo":             denied,
		"/etc/passwd":      missing,
		"/":                errorPacket(4, "bad file name"),
	} {
		c := dial(t, "127.0.0.1")
		began := time.Now()
		c.send(s.addr, rrq(name, "octet", "tsize", "0"))
		c.want(name, want)
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("%s: got the answer after %v, want it at once", name, d)
		}
	}
}

func TestC63_Names(t *testing.T) {
	s := start(t)
	s.put(t, "boot/X.EFI", []byte("upper"))
	s.put(t, "boot/x.efi", []byte("lower"))
	for name, want := range map[string]string{
		`\boot\X.EFI`:    "upper",
		"//boot//x.efi":  "lower",
		"boot/x.efi\xff": "lower",
		"./boot/x.efi":   "lower",
	} {
		c := dial(t, "127.0.0.1")
		c.send(s.addr, rrq(name, "octet"))
		if got := c.get(512); string(got) != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestC64_Missing(t *testing.T) {
	s := start(t)
	c := dial(t, "127.0.0.1")
	began := time.Now()
	c.send(s.addr, rrq("pxelinux.cfg/default", "octet", "tsize", "0"))
	c.want("answer", errorPacket(1, "file not found"))
	if d := time.Since(began); d > 100*time.Millisecond {
		t.Errorf("got it after %v, want 100ms", d)
	}
	c.wantSilence(50 * time.Millisecond)
	got := s.await(t)
	if len(got) != 1 || !errors.Is(got[0].Err, fs.ErrNotExist) || got[0].Name != "pxelinux.cfg/default" {
		t.Errorf("got %+v, want one transfer of pxelinux.cfg/default, file does not exist", got)
	}
}

// Size probes as OVMF, GRUB and Intel's ROM (4.1) end them.
func TestC65_SizeProbe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rrq, abort []byte
		probe      bool
		err        string
	}{
		"OVMF":    {vector(t, "ovmf_tftp_rrq_tsize"), vector(t, "ovmf_tftp_abort"), true, ""},
		"Intel":   {rrq("boot.efi", "octet", "tsize", "0"), errorPacket(0, "TFTP Aborted"), true, ""},
		"full":    {rrq("boot.efi", "octet", "tsize", "0"), errorPacket(3, "disk\nfull"), false, `client sent error 3 "disk\nfull"`},
		"options": {rrq("boot.efi", "octet", "blksize", "1024"), errorPacket(8, "no"), false, `client sent error 8 "no"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.put(t, "boot.efi", pattern(5000))
			c := dial(t, "127.0.0.1")
			c.send(s.addr, tt.rrq)
			if b := c.receive(time.Second); len(b) < 2 || b[1] != opOACK {
				t.Fatalf("got %q, want OACK", b)
			}
			c.send(c.from, tt.abort)
			c.wantSilence(100 * time.Millisecond)
			got := s.await(t)
			if len(got) != 1 || got[0].Probe != tt.probe || got[0].Bytes != 0 {
				t.Fatalf("got %+v, want one transfer, probe %v", got, tt.probe)
			}
			if text := fmt.Sprint(got[0].Err); text != tt.err && !(tt.err == "" && got[0].Err == nil) {
				t.Errorf("got error %s, want %s", text, tt.err)
			}
		})
	}
}

// GRUB closes a file it has read enough of.
func TestClientAborts(t *testing.T) {
	s := start(t)
	s.put(t, "f", pattern(5000))
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet", "tsize", "0"))
	c.wantOACK(map[string]string{"tsize": "5000"})
	c.ack(0)
	c.receive(time.Second)
	c.send(c.from, errorPacket(0, "closed"))
	c.wantSilence(100 * time.Millisecond)
	got := s.await(t)
	if want := `client sent error 0 "closed"`; len(got) != 1 || got[0].Err == nil || got[0].Err.Error() != want || got[0].Probe {
		t.Errorf("got %+v, want %s", got, want)
	}
}

func TestC66_RepeatedRequestOnTheWire(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ rrq, want []byte }{
		"OACK": {rrq("f", "octet", "tsize", "0"), []byte("\x00\x06tsize\x001000\x00")},
		"DATA": {rrq("f", "octet"), numbered(opDATA, 1, pattern(1000)[:512])},
	} {
		s := start(t)
		s.put(t, "f", pattern(1000))
		c := dial(t, "127.0.0.1")
		var first netip.AddrPort
		for i := range 3 {
			c.send(s.addr, tt.rrq)
			c.want(name, tt.want)
			if i == 0 {
				first = c.from
			}
			if c.from != first {
				t.Errorf("%s: got an answer from %v, want it from %v", name, c.from, first)
			}
		}
		if name == "OACK" {
			c.ack(0)
			c.want("block 1", numbered(opDATA, 1, pattern(1000)[:512]))
		}
		c.ack(1)
		c.want("block 2", numbered(opDATA, 2, pattern(1000)[512:]))
		c.send(s.addr, tt.rrq) // delayed on the way: the transfer is past that
		c.wantSilence(100 * time.Millisecond)
		c.ack(2)
		if got := s.await(t); len(got) != 1 || got[0].Err != nil {
			t.Errorf("%s: got %+v, want one transfer", name, got)
		}
	}
}

func TestC67_ForeignPort(t *testing.T) {
	s := start(t)
	data := pattern(1000)
	s.put(t, "f", data)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	c.want("block 1", numbered(opDATA, 1, data[:512]))
	stranger := dial(t, "127.0.0.1")
	stranger.send(c.from, numbered(opACK, 1, nil))
	stranger.want("stranger", errorPacket(5, "unknown transfer ID"))
	if stranger.from != c.from {
		t.Errorf("got ERROR 5 from %v, want it from %v", stranger.from, c.from)
	}
	stranger.send(c.from, errorPacket(0, "stop"))
	stranger.wantSilence(50 * time.Millisecond)
	c.wantSilence(50 * time.Millisecond)
	c.ack(1)
	c.want("block 2", numbered(opDATA, 2, data[512:]))
	c.ack(2)
}

func TestC68_BadRequests(t *testing.T) {
	s := start(t)
	s.put(t, "f", []byte("hello"))
	for _, tt := range []struct {
		in   []byte
		want []byte // nil: silence
	}{
		{[]byte("\x00\x02f\x00octet\x00"), errorPacket(2, "read only")},
		{[]byte("\x00\x09f\x00octet\x00"), errorPacket(4, "unknown operation")},
		{rrq("f", "mail"), errorPacket(4, "unknown transfer mode")},
		{rrq("f", "netascii"), errorPacket(0, "netascii not supported")},
		{[]byte("\x00\x01f\x00octet"), errorPacket(4, "request not terminated")},
		{rrq(strings.Repeat("x", 600), "octet"), errorPacket(4, "request too long")},
		{errorPacket(0, "stop"), nil},
		{nil, nil},
	} {
		c := dial(t, "127.0.0.1")
		c.send(s.addr, tt.in)
		if tt.want == nil {
			c.wantSilence(100 * time.Millisecond)
			continue
		}
		c.want(fmt.Sprintf("%.20q", tt.in), tt.want)
		if c.from.Port() == s.addr.Port() {
			t.Errorf("%.20q: got source port %d, want a new one", tt.in, c.from.Port())
		}
	}
}

func TestC69_BlockNumbersWrap(t *testing.T) {
	t.Parallel()
	s := start(t)
	data := pattern(40 << 20)
	s.put(t, "f", data)
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet", "blksize", "512"))
	c.wantOACK(map[string]string{"blksize": "512"})
	c.ack(0)
	if got, want := sha256.Sum256(c.get(512)), sha256.Sum256(data); got != want {
		t.Errorf("got SHA-256 %x, want %x", got, want)
	}
}

// An OACK where block numbers wrap to 0 must not hurt anybody: in pin/tftp
// with SetBlockSize it is a write to a nil map.
func TestC69_OptionsAtWrap(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.put(t, "f", make([]byte, 65540*512))
	s.put(t, "g", []byte("hello"))
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	for n := uint16(1); n != 0; n++ {
		c.receive(time.Second)
		c.ack(n)
	}
	c.receive(time.Second)
	c.send(c.from, []byte("\x00\x06blksize\x0065464\x00"))
	other := dial(t, "127.0.0.1")
	other.send(s.addr, rrq("g", "octet"))
	if got := other.get(512); string(got) != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}

// sockets counts the open sockets of this process.
func sockets(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(link, "socket:") {
			n++
		}
	}
	return n
}

// flood sends requests from 2000 ports of some addresses, and never
// acknowledges.
func flood(t *testing.T, to netip.AddrPort, addresses int) {
	t.Helper()
	for i := range 2000 {
		local := net.IPv4(127, 0, 1, byte(i%addresses))
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: local}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(rrq("f", "octet", "tsize", "0", "blksize", "1468")); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// A flood costs the eight places of one address, or all of those there are,
// and no more. It cannot hold them for long, so everybody is served.
func TestC70_RequestFlood(t *testing.T) {
	const places = 32
	for name, tt := range map[string]struct {
		addresses int
		max       int // transfers
		good      string
	}{
		"other client":   {1, 8, "127.0.0.2"},
		"same client":    {1, 8, "127.0.1.0"},
		"many addresses": {200, places, "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, &tftp.Server{MaxTransfers: places}, "127.0.0.1:0")
			data := pattern(2000)
			s.put(t, "f", data)
			before, goroutines := sockets(t), runtime.NumGoroutine()
			flood(t, s.addr, tt.addresses)
			if got := runtime.NumGoroutine() - goroutines; got > tt.max {
				t.Errorf("got %d more goroutines, want at most %d transfers", got, tt.max)
			}
			if got := sockets(t) - before; got > 2*tt.max { // each may ask for its route
				t.Errorf("got %d more sockets, want at most %d transfers", got, tt.max)
			}
			good := dial(t, tt.good)
			good.insist(s.addr, rrq("f", "octet", "blksize", "1468"))
			good.ack(0)
			if got := good.get(1468); !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, want the file", len(got))
			}
		})
	}
}

func TestServerSurvivesMutations(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.put(t, "boot.efi", pattern(2000))
	var seeds [][]byte
	for _, v := range []string{"ovmf_tftp_rrq_tsize", "ovmf_tftp_rrq_data", "ovmf_tftp_abort", "grub_tftp_rrq"} {
		seeds = append(seeds, vector(t, v))
	}
	c := dial(t, "127.0.0.3")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		b := bytes.Clone(seeds[rnd.IntN(len(seeds))])
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		}
		c.send(s.addr, b[:rnd.IntN(len(b)+1)])
	}
	good := dial(t, "127.0.0.2")
	good.insist(s.addr, vector(t, "ovmf_tftp_rrq_data"))
	good.ack(0)
	if got := good.get(1468); !bytes.Equal(got, pattern(2000)) {
		t.Errorf("got %d bytes, want the file", len(got))
	}
}

// A request to a broadcast address is none to us (RFC 1123 section 4.2.3.5),
// and one to our second address is answered from there.
func TestLocalAddress(t *testing.T) {
	s := serve(t, &tftp.Server{}, "0.0.0.0:0")
	port := s.addr.Port()
	c := dial(t, "127.0.0.1")
	c.send(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.5"), port), rrq("missing", "octet"))
	c.want("answer", errorPacket(1, "file not found"))
	if got, want := c.from.Addr().Unmap().String(), "127.0.0.5"; got != want {
		t.Errorf("got the answer from %s, want %s", got, want)
	}
	c.send(netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), port), rrq("missing", "octet"))
	c.wantSilence(100 * time.Millisecond)
}

// A request may lie in the socket before Run looks at it.
func TestEarlyRequest(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := dial(t, "127.0.0.1")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	c.send(to, rrq("missing", "octet"))
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	s := &tftp.Server{Open: openIn(t, t.TempDir())}
	go func() { result <- s.Run(ctx, conn) }()
	c.want("answer", errorPacket(1, "file not found"))
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

// Data comes from the address that the client asked, or clients drop it.
func TestAskedAddress(t *testing.T) {
	s := serve(t, &tftp.Server{}, "0.0.0.0:0")
	s.put(t, "f", []byte("hello"))
	c := dial(t, "127.0.0.1")
	c.send(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.5"), s.addr.Port()), rrq("f", "octet"))
	c.want("data", numbered(opDATA, 1, []byte("hello")))
	if got, want := c.from.Addr().String(), "127.0.0.5"; got != want || c.from.Port() == s.addr.Port() {
		t.Errorf("got the data from %v, want a new port of %s", c.from, want)
	}
	c.ack(1)
}

// badFile fails in the middle.
type badFile struct {
	*bytes.Reader
	fail func() (int, error)
}

func (f badFile) Read(b []byte) (int, error) {
	if f.Reader.Len() < 2000 {
		return f.fail()
	}
	return f.Reader.Read(b)
}

func (badFile) Close() error { return nil }

// A file that fails under way ends the transfer, with a fixed text for the
// client and the whole story for us.
func TestReadErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fail func() (int, error)
		want string
	}{
		{func() (int, error) { return 0, &fs.PathError{Op: "read", Path: "/srv/x", Err: syscall.EIO} }, "read /srv/x: input/output error"},
		{func() (int, error) { return 0, io.ErrUnexpectedEOF }, "unexpected EOF"},
		{func() (int, error) { return 0, io.EOF }, "file shrank while it was sent"},
		{func() (int, error) { panic("/srv/x") }, "panic: /srv/x"},
	} {
		s := serve(t, &tftp.Server{Open: func(string, netip.Addr) (io.ReadSeekCloser, error) {
			return badFile{bytes.NewReader(make([]byte, 3000)), tt.fail}, nil
		}}, "127.0.0.1:0")
		c := dial(t, "127.0.0.1")
		c.send(s.addr, rrq("f", "octet"))
		for {
			b := c.receive(time.Second)
			if len(b) < 4 || b[1] != opDATA {
				if !bytes.Equal(b, errorPacket(0, "read error")) {
					t.Errorf("%s: got %q, want ERROR 0 read error", tt.want, b)
				}
				break
			}
			c.ack(binary.BigEndian.Uint16(b[2:]))
		}
		got := s.await(t)
		if len(got) != 1 || got[0].Err == nil || got[0].Err.Error() != tt.want {
			t.Errorf("got %+v, want error %s", got, tt.want)
		}
	}
}

// A file that grows is sent at the size that was announced.
func TestGrowingFile(t *testing.T) {
	s := start(t)
	s.put(t, "f", pattern(600))
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet", "tsize", "0"))
	c.wantOACK(map[string]string{"tsize": "600"})
	f, err := os.OpenFile(filepath.Join(s.dir, "f"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.ack(0)
	if got := c.get(512); !bytes.Equal(got, pattern(600)) {
		t.Errorf("got %d bytes, want the first 600", len(got))
	}
}

// Run ends at once, whether clients answer or not.
func TestRunStopsUnderWay(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.put(t, "f", pattern(1<<20))
	for range 4 {
		silent := dial(t, "127.0.0.2")
		silent.send(s.addr, rrq("f", "octet"))
		silent.receive(time.Second)
	}
	c := dial(t, "127.0.0.1")
	c.send(s.addr, rrq("f", "octet"))
	c.receive(time.Second)
	began := time.Now()
	stopped := make(chan []tftp.Transfer)
	go func() { stopped <- s.transfers() }()
	c.want("told", errorPacket(0, "server is stopping"))
	got := <-stopped
	if d := time.Since(began); d > time.Second {
		t.Errorf("Run took %v to stop, want at most a second", d)
	}
	if len(got) != 5 {
		t.Errorf("got %d transfers, want 5", len(got))
	}
	for _, tr := range got {
		if tr.Err == nil || tr.Err.Error() != "server is stopping" {
			t.Errorf("got %+v, want server is stopping", tr)
		}
	}
}
