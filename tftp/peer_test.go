package tftp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// wantFetched runs a client and checks what it has put at local. One that got
// nothing may leave no file.
func wantFetched(t *testing.T, want []byte, local string, client *exec.Cmd) {
	t.Helper()
	if out, err := client.CombinedOutput(); err != nil {
		t.Errorf("%v, %d bytes: %v\n%s", client, len(want), err, out)
		return
	}
	got, err := os.ReadFile(local)
	if err != nil && (len(want) > 0 || !errors.Is(err, fs.ErrNotExist)) {
		t.Error(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%v: got %d bytes, want the %d of the file", client, len(got), len(want))
	}
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
			args := append(slices.Clip(options), "-g", "-r", "/boot/f", "-l", local, "127.0.0.1", fmt.Sprint(s.addr.Port()))
			wantFetched(t, pattern(size), local, exec.Command(atftp, args...))
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
			wantFetched(t, pattern(size), local,
				exec.Command(busybox, "tftp", "-g", "-b", blksize, "-r", "/boot/f", "-l", local, "127.0.0.1", fmt.Sprint(s.addr.Port())))
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
			wantFetched(t, pattern(size), local, exec.Command(curl, args...))
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
