package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bootd/internal/admin"
	"bootd/internal/cli"
)

// An interrupt ends a command that waits for more of its standard input, at
// once, and leaves nothing that is half done.
func TestInterruptedInput(t *testing.T) {
	dir := t.TempDir()
	root, socket := filepath.Join(dir, "root"), filepath.Join(dir, "bootd.sock")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	book := &site{book: someLeases()}
	had := len(book.list)
	serve(t, socket, book)
	for args, in := range map[string]string{
		"release import kubernetes - --root " + root:                "no tar yet",
		"release import storage-ceph - --root " + root:              begunTar(t),
		"leases import - --format dnsmasq --socket " + socket:       "1893456000 52:54:00:00:00:01 10.1.1.1 ncn-m001 *\n",
		"leases import - --format csv --dry-run --socket " + socket: "address,",
		"release import storage-ceph /dev/stdin --root " + root:     "H4sI",
	} {
		t.Run(args, func(t *testing.T) {
			cmd := exec.Command("bootctl", strings.Fields(args)...)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			more := begin(t, cmd, in)
			defer more.Close()
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if got := statusOf(t, cmd); got != cli.Interrupted || stdout.String() != "" || !strings.HasPrefix(stderr.String(), "bootctl: interrupted") {
				t.Errorf("got status %d, %q and %q, want %d and that it was interrupted", got, stdout.String(), stderr.String(), cli.Interrupted)
			}
		})
	}
	if left, err := filepath.Glob(filepath.Join(root, "ephemeral/data/*/.*")); err != nil || left != nil {
		t.Errorf("got %v, %v, want nothing left", left, err)
	}
	if got := len(book.list); got != had {
		t.Errorf("got %d leases, want %d", got, had)
	}
}

// An interrupt at a question is neither yes nor no.
func TestInterruptedQuestion(t *testing.T) {
	master, slave := terminal(t, 24, 80)
	cmd := exec.Command("bootctl", "node", "arm", "edge-01", "--socket", filepath.Join(t.TempDir(), "none"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	start(t, cmd)
	slave.Close()
	var shown strings.Builder
	for b := make([]byte, 256); !strings.Contains(shown.String(), "[y/N] "); {
		n, err := master.Read(b)
		if shown.Write(b[:n]); err != nil {
			t.Fatalf("got %q, then %v, want a question", shown.String(), err)
		}
	}
	if _, err := master.WriteString("\x03"); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	io.Copy(&shown, master) // to the end of the terminal
	got := statusOf(t, cmd)
	if text := shown.String(); got != cli.Interrupted || !strings.HasSuffix(text, "\r\nbootctl: interrupted, nothing was done\r\n") {
		t.Errorf("got status %d and %q, want %d and that nothing was done", got, text, cli.Interrupted)
	}
}

// A command that hangs where no interrupt is heard, as in a file of a server
// that is gone, is ended by the second one.
func TestInterruptedTwice(t *testing.T) {
	dir := t.TempDir()
	warns, hangs := filepath.Join(dir, "user-data"), filepath.Join(dir, "pipe")
	text := "#cloud-config\nstylus:\n  site:\n    network:\n      type: static\n"
	if err := errors.Join(os.WriteFile(warns, []byte(text), 0o600), syscall.Mkfifo(hangs, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bootctl", "payload", "check", "--stage", "site", "--file", warns, "--file", hangs)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	if _, err := stderr.Read(make([]byte, 1)); err != nil { // it warned, and hears signals
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for err = nil; err == nil; {
		select {
		case <-again.C:
			cmd.Process.Signal(os.Interrupt)
		case err = <-done:
		}
	}
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGINT {
		t.Errorf("got %v, want an end by the signal", err)
	}
}

// serve serves a daemon on a socket until the end of the test.
func serve(t *testing.T, socket string, at *site) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: admin.Handler(at)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// begunTar is a tar that stops in its first file.
func begunTar(t *testing.T) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "6.4.0.kernel", Mode: 0o644, Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "the beginning")
	return b.String()
}

// begin starts a command and returns when it has read in. There is no end of
// its standard input before more is closed.
func begin(t *testing.T, cmd *exec.Cmd, in string) (more *os.File) {
	r, more, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdin = r
	if _, err := more.WriteString(in); err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	for left := 1; left > 0; <-time.After(time.Millisecond) {
		if left, err = unix.IoctlGetInt(int(more.Fd()), unix.TIOCINQ); err != nil {
			t.Fatal(err)
		}
	}
	return more
}

// start starts a command that is killed when it does not end.
func start(t *testing.T, cmd *exec.Cmd) {
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	t.Cleanup(func() { kill.Stop(); cmd.Process.Kill() })
}

// statusOf waits for the end of a command.
func statusOf(t *testing.T, cmd *exec.Cmd) int {
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// terminal returns both ends of a new one.
func terminal(t *testing.T, rows, columns uint16) (master, slave *os.File) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})); err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
