package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Root is refused nothing itself, so it was the daemon that may not.
func TestWriteHint(t *testing.T) {
	denied := "run bootctl as root or as the owner of /srv/www"
	if os.Geteuid() == 0 {
		denied = "bootd, which does the work, may not: chown -Rh --reference=/srv/www /srv/www"
	}
	for err, want := range map[error]string{
		syscall.EACCES: denied, syscall.EROFS: "mounted read-only", syscall.ENOSPC: "bootctl release prune", syscall.EXDEV: "put the root on ext4",
	} {
		if got := writeHint(fmt.Errorf("rename a b: %w", err), "/srv/www"); !strings.Contains(got, want) {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
	if got := writeHint(syscall.EIO, "/srv/www"); got != "" {
		t.Errorf("EIO: got %q, want none", got)
	}
}
