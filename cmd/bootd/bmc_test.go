package main_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bootd/bmc/bmctest"
	"bootd/internal/lab"
)

// From "bootctl bmc power on" over IPMI to a booted node: the BMC is ipmi_sim,
// and its power control is a machine of the lab.
func TestPowerOnToBooted(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, m001)
	conman, sim := startBMC(t, s, m001)
	bootctl := func(args ...string) string {
		t.Helper()
		out, err := s.Run(lab.Deadline(t), s.bin+"/bootctl", append([]string{"--socket", s.socket, "bmc"}, append(args, "--config", s.config, "--conman", conman)...)...)
		if err != nil {
			t.Fatalf("bootctl bmc %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}

	if got := bootctl("boot-once", "pxe", "ncn-m001"); got != "ncn-m001: boots once from pxe\n" {
		t.Errorf("got %q, want that it boots once from pxe", got)
	}
	if got := bootctl("power", "on", "ncn-m001", "--yes"); got != "ncn-m001: power on\n" {
		t.Errorf("got %q, want that it is on", got)
	}
	booted := " node=ncn-m001 release=1.2.3 role=kubernetes ip=10.77.0.11 "
	console := awaitConsole(lab.Deadline(t), filepath.Join(sim, bmctest.ConsoleFile), "BOOTD-LAB-CHECKED-IN HTTP/1.1 200 OK")
	if !strings.Contains(console, booted) || !strings.Contains(console, "BOOTD-LAB-CHECKED-IN HTTP/1.1 200 OK") {
		t.Errorf("got console %q, want %q and a check-in", console, booted)
	}
	if got := s.bootctl("status"); !strings.Contains(got, "booted") {
		t.Errorf("got %s, want ncn-m001 booted", got)
	}
	off := func() bool { return strings.Contains(bootctl("status", "ncn-m001"), " off ") }
	for i := 0; i < 50 && !off(); i++ { // it powers itself off
		<-time.After(100 * time.Millisecond)
	}
	if !off() {
		t.Error("the BMC says that the machine is on, want off")
	}
}

// startBMC starts the BMC of a node, whose power control is a machine of the
// lab, and returns a conman.conf with its console, and the directory that the
// machine's console is kept in.
func startBMC(t *testing.T, s *site, n siteNode) (conman, sim string) {
	t.Helper()
	needIPMI(t)
	sim = t.TempDir()
	dir, command, err := s.Command(t.Context(), machine(n, lab.BIOS))
	if err != nil {
		t.Fatal(err)
	}
	args, err := bmctest.Sim{
		Name: n.Name, Addr: netip.MustParseAddrPort("10.77.0.1:623"), User: "root", Password: "initial0",
		Start: "env -C '" + dir + "' '" + strings.Join(command, "' '") + "'",
	}.Args(sim)
	if err != nil {
		t.Fatal(err)
	}
	bmc, err := s.Start("ipmi_sim", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endMachine(t, sim, bmc) })
	waitListening(t, s.Net, "-lnu", 623)
	conman = filepath.Join(sim, "conman.conf")
	if err := os.WriteFile(conman, []byte("console name=\""+n.Name+"-mgmt\" ipmiopts=\"U:root,P:initial0\" dev=\"ipmi:10.77.0.1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return conman, sim
}

// awaitConsole returns what is in a file once that has text in it, or when ctx
// ends.
func awaitConsole(ctx context.Context, path, text string) string {
	for {
		b, _ := os.ReadFile(path) // not there before the machine is on
		if strings.Contains(string(b), text) {
			return string(b)
		}
		select {
		case <-ctx.Done():
			return string(b)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// endMachine ends the BMC, and its machine if that still runs.
func endMachine(t *testing.T, sim string, bmc *lab.Proc) {
	bmc.Kill()
	if t.Failed() {
		t.Logf("ipmi_sim: %s", bmc)
	}
	text, err := os.ReadFile(filepath.Join(sim, bmctest.PidFile))
	if err != nil {
		return // it was never on
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
