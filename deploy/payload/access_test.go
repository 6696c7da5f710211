package payload_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"bootd/deploy/payload"
)

// asNobody calls f in a thread whose files are opened as user and group 65534
// open them. The thread ends with it.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread()
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0)
		syscall.RawSyscall(syscall.SYS_SETFSGID, 65534, 0, 0)
		syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Fatalf("this test needs root: %v", errno)
	}
}

// What another user may not read is told with who may, and which part of the
// path it is that keeps it out.
func TestDenied(t *testing.T) {
	top, err := os.MkdirTemp("/tmp", "payload") // not t.TempDir, which is for its owner alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	for name, mode := range map[string]os.FileMode{"open/a": 0o644, "open/b": 0o640, "closed/c": 0o644, "listed/d": 0o644} {
		if err := os.MkdirAll(filepath.Join(top, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name), []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{".": 0o755, "open": 0o755, "closed": 0o700, "listed": 0o711} {
		if err := os.Chmod(filepath.Join(top, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	const owner = ", owner root:root, is not for user "
	for name, want := range map[string]string{
		"open/a":   "",
		"open":     "",
		"open/b":   "permission denied: mode 0640" + owner,
		"closed/c": "permission denied by " + top + "/closed: mode 0700" + owner,
		"closed":   "permission denied: mode 0700" + owner,
		"listed/d": "permission denied by " + top + "/listed: mode 0711" + owner,
		"none":     "no such file or directory",
	} {
		file := filepath.Join(top, name)
		if want != "" {
			want = file + ": " + want
		}
		asNobody(t, func() {
			got := ""
			if err := payload.Unreadable(file); err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		})
	}
}

// Whatever of a payload cannot be read is named with the reason in texts that
// may not quote it; what is wrong in it is named by its place alone.
func TestTold(t *testing.T) {
	p := payloadOf(t, map[string]string{"user-data": "#cloud-config\npasswd: \"$6$hash{{.X}}\"\n"})
	told := func() string {
		_, err := payload.Render(p, data)
		return strings.ReplaceAll(payload.Told(err), p.Dir, "DIR")
	}
	if got, want := told(), "DIR/user-data:2:19: cannot be rendered"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := os.Remove(filepath.Join(p.Dir, "user-data")); err != nil {
		t.Fatal(err)
	}
	if got, want := told(), "DIR/user-data: no such file or directory"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := payload.Told(fmt.Errorf("hunter2")), "cannot be rendered"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
