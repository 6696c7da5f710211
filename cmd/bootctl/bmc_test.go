package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/bmc/bmctest"
)

// TestBMCScripts runs testdata/bmc/*.txtar. The command "sim" starts BMCs by
// name, each on an address of loopback of its own (127.0.5.1 and so on), and
// one port for all, $PORT. The command "redfish" starts one over Redfish at
// 127.0.0.1 and $PORT.
func TestBMCScripts(t *testing.T) {
	if _, err := exec.LookPath("ipmi_sim"); err != nil {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatal("BOOT_REQUIRE: ipmi_sim of the Debian package openipmi is missing: run make deps")
		}
		t.Skip("ipmi_sim of the Debian package openipmi is missing: run make deps")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/bmc",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status, "sim": simCmd, "redfish": redfishCmd},
	})
}

func simCmd(ts *testscript.TestScript, neg bool, names []string) {
	if neg || len(names) == 0 {
		ts.Fatalf("usage: sim NAME...")
	}
	c, err := net.ListenPacket("udp4", "127.0.5.1:0")
	ts.Check(err)
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	c.Close()
	ts.Setenv("PORT", strconv.Itoa(int(port)))
	for i, name := range names {
		dir := ts.MkAbs(name + ".sim")
		ts.Check(os.MkdirAll(dir, 0o755))
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 5, byte(i + 1)}), port)
		args, err := bmctest.Sim{Name: name, Addr: at, User: "root", Password: "initial0"}.Args(dir)
		ts.Check(err)
		cmd := exec.Command("ipmi_sim", args...)
		ts.Check(cmd.Start())
		ts.Defer(func() {
			cmd.Process.Kill()
			cmd.Wait()
			if text, err := os.ReadFile(filepath.Join(dir, bmctest.PidFile)); err == nil {
				if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		})
		b := bmc.BMC{Node: name, Host: at.Addr().String(), Port: port, User: "root", Password: bmc.NewSecret("initial0")}
		for range 100 { // until it listens
			if _, err = b.Status(context.Background()); err == nil {
				break
			}
			<-time.After(20 * time.Millisecond)
		}
		ts.Check(err)
	}
}

func redfishCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: redfish")
	}
	r := bmctest.NewRedfish(bmctest.Quirks{Tasks: true})
	ts.Defer(r.Close)
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	ts.Check(err)
	ts.Setenv("PORT", port)
}

// Whoever does not say yes is left alone.
func TestConfirmed(t *testing.T) {
	for answer, want := range map[string]string{
		"y\n": "", "YES\n": "", "yes": "",
		"": "power off of a, b was not confirmed, nothing was done", "\n": "power off of a, b was not confirmed, nothing was done",
		"n\n": "power off of a, b was not confirmed, nothing was done", "yy\n": "power off of a, b was not confirmed, nothing was done",
	} {
		var cmd cobra.Command
		var asked strings.Builder
		cmd.SetIn(strings.NewReader(answer))
		cmd.SetErr(&asked)
		got := ""
		if err := confirmed(&cmd, false, "power off of a, b"); err != nil {
			got = err.Error()
		}
		if got != want || asked.String() != "power off of a, b? [y/N] " {
			t.Errorf("%q: got %q after %q, want %q", answer, got, asked.String(), want)
		}
	}
}
