package main_test

import (
	"os"
	"strings"
	"testing"

	"bootd/internal/lab"
)

// The daemon switches the boot directories that set-links and a rollback plan,
// and logs it.
func TestDaemonIsTheOneWriter(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	im := lab.ImagesForTest(t)
	if err := im.WriteRelease(t.Context(), s.root, lab.Release{Dir: "k8s", ID: "1.2.4", Base: "kubernetes"}); err != nil {
		t.Fatal(err)
	}
	out := s.bootctl("set-links", "--config", s.config)
	if !strings.Contains(out, "changed ncn-m001: 1.2.3 -> 1.2.4\n") {
		t.Errorf("got %s, want ncn-m001 changed", out)
	}
	const logged = `msg="boot directory changed" node=ncn-m001 release=1.2.4 by=set-links`
	if log := s.daemon.String(); !strings.Contains(log, logged) {
		t.Errorf("got log %s, want %s", log, logged)
	}
	if target, err := os.Readlink(s.root + "/ncn-m001/rootfs"); err != nil || !strings.Contains(target, "/1.2.4/") {
		t.Errorf("rootfs: got %q, %v, want that of 1.2.4", target, err)
	}
	out = s.bootctl("links", "rollback", "--config", s.config)
	if log := s.daemon.String(); !strings.Contains(out, "changed ncn-m001: 1.2.4 -> 1.2.3\n") || !strings.Contains(log, `by="rollback to 1"`) {
		t.Errorf("rollback: got %s and log %s, want it done by the daemon", out, log)
	}
}
