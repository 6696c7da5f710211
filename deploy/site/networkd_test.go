package site_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bootd/internal/lab"
)

// networkd shows what systemd-networkd says of the files in a directory, up to
// where it has read them all. It runs in name spaces of its own, which have no
// interface but lo.
func networkd(t *testing.T, dir string) string {
	t.Helper()
	lab.Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
		`mount -t sysfs -o ro none /sys; mount -t tmpfs none /run; mount --bind "$0" /etc/systemd/network && SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=debug /lib/systemd/systemd-networkd; exit`, dir)
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "lo: ") {
			break
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
	return said.String()
}

// complaint is what networkd says of a line that it does not understand.
var complaint = regexp.MustCompile(`(?m)^/etc/systemd/network/.*:\d+: .*$`)

// TestNetworkdReads holds that systemd-networkd understands every line of the
// files for the bond, those of the installer and those that the first boot puts
// over them.
func TestNetworkdReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay := func(doc []byte) {
		t.Helper()
		for i := range 9 {
			name, ok := look(t, doc, "stages", "initramfs", 0, "files", i, "path").(string)
			if !ok {
				return
			}
			text := look(t, doc, "stages", "initramfs", 0, "files", i, "content").(string)
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := settings(t, source000, machine)
	install, err := s.InstallDocument(machine)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.SiteDocument(machine, secret)
	if err != nil {
		t.Fatal(err)
	}
	lay(install)
	if said := networkd(t, dir); complaint.MatchString(said) || !strings.Contains(said, `bond0: loaded "bond"`) || !strings.Contains(said, `br0: loaded "bridge"`) {
		t.Errorf("the installer's: got %q in\n%s", complaint.FindAllString(said, -1), said)
	}
	lay(first)
	if said := networkd(t, dir); complaint.MatchString(said) {
		t.Errorf("the first boot's: got %q", complaint.FindAllString(said, -1))
	}
	if err := os.WriteFile(filepath.Join(dir, "40-bad.network"), []byte("[Match]\nName=br0\n[Network]\nGateways=10.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := networkd(t, dir); !strings.Contains(strings.Join(complaint.FindAllString(said, -1), ""), "40-bad.network:4: Unknown key 'Gateways'") {
		t.Errorf("a line that is wrong: got\n%s, want it told", said)
	}
}
