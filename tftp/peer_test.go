package tftp_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pin "github.com/pin/tftp/v3"
)

// need returns the path of a client that we did not write.
func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	switch {
	case err == nil:
		return path
	case os.Getenv("BOOT_REQUIRE") != "":
		t.Fatalf("%s is missing", tool)
	default:
		t.Skipf("%s is missing", tool)
	}
	return ""
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// sizes are the edges of blocks of 512 and 1468 bytes and of windows of four
// and sixteen, and a loader.
var sizes = []int{0, 1, 511, 512, 513, 1467, 1468, 1469, 4 * 512, 4*1468 - 1, 16*1468 + 1, 300_001}

func TestPeerAtftp(t *testing.T) {
	atftp := need(t, "atftp")
	s := start(t)
	for _, options := range [][]string{
		nil,
		{"--option", "tsize"},
		{"--option", "blksize 1468"},
		{"--option", "blksize 8192", "--option", "tsize"},
		{"--option", "blksize 8", "--option", "windowsize 16"},
		{"--option", "windowsize 1"},
		{"--option", "windowsize 4", "--option", "timeout 3"},
		{"--option", "windowsize 16", "--option", "blksize 1468", "--option", "tsize"},
	} {
		for _, size := range sizes {
			s.put(t, "boot/f", pattern(size))
			local := filepath.Join(t.TempDir(), "f")
			args := append(options, "-g", "-r", "/boot/f", "-l", local, "127.0.0.1", fmt.Sprint(s.addr.Port()))
			out, err := exec.Command(atftp, args...).CombinedOutput()
			if err != nil {
				t.Errorf("atftp %q, %d bytes: %v\n%s", options, size, err, out)
				continue
			}
			if got, want := sum(t, local), sum(t, filepath.Join(s.dir, "boot/f")); got != want {
				t.Errorf("atftp %q, %d bytes: got SHA-256 %s, want %s", options, size, got, want)
			}
		}
	}
}

func TestPeerAtftpErrors(t *testing.T) {
	atftp := need(t, "atftp")
	s := start(t)
	for _, tt := range []struct{ verb, name, want string }{
		{"-g", "missing", "file not found"},
		{"-g", "../../etc/shadow", "access violation"},
		{"-p", "upload", "read only"},
	} {
		local := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(local, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(atftp, tt.verb, "-r", tt.name, "-l", local, "127.0.0.1", fmt.Sprint(s.addr.Port())).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("atftp %s %s: got %v, %s, want %s", tt.verb, tt.name, err, out, tt.want)
		}
	}
}

func TestPeerBusybox(t *testing.T) {
	busybox := need(t, "busybox")
	s := start(t)
	for _, blksize := range []string{"100", "512", "1468", "65464"} { // with 24 it refuses its own request
		for _, size := range sizes {
			s.put(t, "boot/f", pattern(size))
			local := filepath.Join(t.TempDir(), "f")
			args := []string{"tftp", "-g", "-b", blksize, "-r", "/boot/f", "-l", local, "127.0.0.1", fmt.Sprint(s.addr.Port())}
			out, err := exec.Command(busybox, args...).CombinedOutput()
			if err != nil {
				t.Errorf("busybox blksize %s, %d bytes: %v\n%s", blksize, size, err, out)
				continue
			}
			if got, want := sum(t, local), sum(t, filepath.Join(s.dir, "boot/f")); got != want {
				t.Errorf("busybox blksize %s, %d bytes: got SHA-256 %s, want %s", blksize, size, got, want)
			}
		}
	}
}

func TestPeerCurl(t *testing.T) {
	curl := need(t, "curl")
	s := start(t)
	for _, size := range sizes {
		s.put(t, "boot/f", pattern(size))
		for _, args := range [][]string{{"--tftp-no-options"}, {"--tftp-blksize", "512"}, {"--tftp-blksize", "1468"}} {
			if size == 0 && args[0] == "--tftp-blksize" {
				continue // curl 7.88 calls tsize 0 an invalid value
			}
			local := filepath.Join(t.TempDir(), "f")
			args = append(args, "-sS", "--max-time", "20", "-o", local, fmt.Sprintf("tftp://%s//boot/f", s.addr))
			out, err := exec.Command(curl, args...).CombinedOutput()
			if err != nil {
				t.Errorf("curl %q, %d bytes: %v: %s", args, size, err, out)
				continue
			}
			got, _ := os.ReadFile(local) // curl makes no file of nothing
			if !bytes.Equal(got, pattern(size)) {
				t.Errorf("curl %q: got %d bytes, want the %d of the file", args, len(got), size)
			}
		}
	}
	// Exit 68: "File not found on TFTP server", curl(1).
	err := exec.Command(curl, "-s", fmt.Sprintf("tftp://%s/missing", s.addr)).Run()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 68 {
		t.Errorf("curl of a missing file: got %v, want exit status 68", err)
	}
}

func TestPeerPinClient(t *testing.T) {
	s := start(t)
	for _, block := range []int{0, 512, 1468, 9000} {
		for _, size := range sizes {
			s.put(t, "f", pattern(size))
			c, err := pin.NewClient(s.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			c.RequestTSize(true)
			if block > 0 {
				c.SetBlockSize(block)
			}
			from, err := c.Receive("f", "octet")
			if err != nil {
				t.Errorf("blksize %d, %d bytes: %v", block, size, err)
				continue
			}
			if n, ok := from.(pin.IncomingTransfer).Size(); !ok || n != int64(size) {
				t.Errorf("blksize %d: got size %d, %v, want %d", block, n, ok, size)
			}
			var got bytes.Buffer
			if _, err := from.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), pattern(size)) {
				t.Errorf("blksize %d: got %d bytes, %v, want the %d of the file", block, got.Len(), err, size)
			}
		}
	}
}
