package main_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/node"
)

var (
	m002 = siteNode{Name: "ncn-m002", Role: "kubernetes", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 3}, Address: "10.77.0.12"}
	m003 = siteNode{Name: "ncn-m003", Role: "kubernetes", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 4}, Address: "10.77.0.13"}
)

// Of three nodes the first comes up on the new release. Then its squashfs loses
// its init, so the second one does not: it comes back on the old release by
// itself, the upgrade stops there, and the third is never touched. In between
// the daemon is killed.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newDracutSite(t, 1, m001, m002, m003)
	s.release(lab.Release{Dir: "k8s", ID: "1.2.4", Base: "kubernetes"})
	p, err := s.Start(s.bin+"/bootctl", "--socket", s.socket, "upgrade", "--role", "kubernetes", "--release", "1.2.4", "--attempts", "1", "--deadline", "10m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("bootctl upgrade:\n%s", p)
		}
	})
	s.line(p, `ncn-m001: linked to 1\.2\.4, was 1\.2\.3, and has to be rebooted`)
	s.wantBooted(s.Boot(t, machine(m001, lab.BIOS)), m001, "1.2.4")
	s.line(p, `ncn-m001: checked in on 1\.2\.4`)

	s.line(p, `ncn-m002: linked to 1\.2\.4, was 1\.2\.3`)
	s.release(lab.Release{Dir: "k8s", ID: "1.2.4", Base: "kubernetes", Dead: true})
	s.daemon.Kill()
	s.line(p, `the daemon is away; the upgrade goes on when it is back`)
	s.start()
	resets := machine(m002, lab.BIOS)
	resets.Resets = true
	g := s.Boot(t, resets)
	s.line(g, `Cannot find init!`)
	s.line(p, `ncn-m002: put back to 1\.2\.3: it asks for its script again: 1 boot and no check-in`)
	s.wantBooted(g, m002, "1.2.3")

	var status *exec.ExitError
	if err := p.Ended(lab.Deadline(t)); !errors.As(err, &status) || status.ExitCode() != 3 {
		t.Errorf("bootctl upgrade: got %v, want exit status 3", err)
	}
	if want := "bootctl: upgrade of role kubernetes to 1.2.4: failed: node ncn-m002: it asks for its script again: 1 boot and no check-in\n"; !strings.Contains(p.String(), want) {
		t.Errorf("got\n%swant it to contain %s", p, want)
	}
	if why := s.bootctl("why", m002.Name); !strings.Contains(why, "put-back") ||
		!strings.Contains(why, "upgrade to 1.2.4, failed: put back to 1.2.3, on which it checked in: it asks for its script again") {
		t.Errorf("why: got\n%swant that it was put back, and why", why)
	}
	metrics, err := s.Run(lab.Deadline(t), "curl", "-s", "http://10.77.0.1/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{role="kubernetes",state="upgraded"} 1`, `{role="kubernetes",state="back"} 1`, `{role="kubernetes",state="waiting"} 1`} {
		if !strings.Contains(metrics, "bootd_rollout_nodes"+want+"\n") {
			t.Errorf("metrics lack bootd_rollout_nodes%s", want)
		}
	}
	s.bootctl("set-links", "--config", s.config) // keeps to it, although 1.2.4 is newer
	s.wantLinked("1.2.4", "1.2.3", "1.2.3")
}

// wantLinked checks what the nodes are linked to, in the order of the site.
func (s *site) wantLinked(releases ...string) {
	s.t.Helper()
	for i, n := range s.Nodes {
		target, err := os.Readlink(filepath.Join(s.root, n.Name, "rootfs"))
		if err != nil {
			s.t.Fatal(err)
		}
		if got := filepath.Base(filepath.Dir(target)); got != releases[i] {
			s.t.Errorf("node %s: got linked to %s, want %s", n.Name, got, releases[i])
		}
	}
}

// With --cycle the BMC of a node reboots it into the new release, and nobody
// needs to do anything.
func TestUpgradeCycle(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, m001)
	s.release(lab.Release{Dir: "k8s", ID: "1.2.4", Base: "kubernetes"})
	conman, _ := startBMC(t, s, m001)
	out, err := s.Run(lab.Deadline(t), s.bin+"/bootctl", "--socket", s.socket, "upgrade", "--role", "kubernetes", "--release", "1.2.4",
		"--cycle", "--yes", "--config", s.config, "--conman", conman)
	if err != nil {
		t.Fatalf("bootctl upgrade: %v\n%s", err, out)
	}
	for _, want := range []string{"ncn-m001: power cycled\n", "ncn-m001: checked in on 1.2.4\n", "Upgraded role kubernetes to 1.2.4: 1 node. Role kubernetes is pinned to 1.2.4, until bootctl release unpin.\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got\n%swant it to contain %s", out, want)
		}
	}
	var settings struct{ Roles, Nodes map[string]string }
	text, err := os.ReadFile(filepath.Join(s.root, ".bootd/settings.json"))
	if err == nil {
		err = json.Unmarshal(text, &settings)
	}
	if err != nil || settings.Roles["kubernetes"] != "1.2.4" || len(settings.Nodes) > 0 {
		t.Errorf("pins: got %+v, %v, want the role on 1.2.4 and no node", settings, err)
	}
}
