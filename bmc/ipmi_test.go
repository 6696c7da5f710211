package bmc_test

import (
	"errors"
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

	"bootd/bmc"
	"bootd/bmc/bmctest"
)

// startSim starts ipmi_sim on a port of loopback.
func startSim(t *testing.T, sim bmctest.Sim) (b bmc.BMC, dir string) {
	t.Helper()
	path, err := exec.LookPath("ipmi_sim")
	switch {
	case err == nil:
	case strings.Contains(os.Getenv("BOOT_REQUIRE"), "netns"):
		t.Fatal("BOOT_REQUIRE=netns: ipmi_sim of the Debian package openipmi is missing: run make deps")
	default:
		t.Skip("ipmi_sim of the Debian package openipmi is missing: run make deps")
	}
	sim.Name, sim.User, sim.Password = "ncn-m002", "root", "initial0"
	sim.Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	dir = t.TempDir()
	args, err := sim.Args(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("ipmi_sim: %s", out.String())
		}
	})
	b = bmc.BMC{Node: "ncn-m002", Host: "127.0.0.1", Port: sim.Addr.Port(), User: "root", Password: bmc.NewSecret("initial0"), Timeout: 10 * time.Second}
	for range 100 { // until it listens
		if _, err = b.Status(t.Context()); !errors.Is(err, bmc.ErrUnreachable) {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, dir
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func TestIPMIPower(t *testing.T) {
	b, dir := startSim(t, bmctest.Sim{})
	t.Cleanup(func() { killMachine(t, dir) })
	for _, tt := range []struct {
		set     bmc.Power
		changed bool
		is      bmc.Power
	}{
		{bmc.Off, false, bmc.Off}, {bmc.On, true, bmc.On}, {bmc.On, false, bmc.On}, {bmc.Cycle, true, bmc.On},
		{bmc.Off, true, bmc.Off}, {bmc.Cycle, true, bmc.On}, {bmc.Off, true, bmc.Off},
	} {
		changed, err := b.SetPower(t.Context(), tt.set)
		if err != nil || changed != tt.changed {
			t.Errorf("%v: got %v, %v, want %v", tt.set, changed, err, tt.changed)
		}
		st, err := b.Status(t.Context())
		if err != nil || st.Power != tt.is {
			t.Errorf("%v: then it is %v, %v, want %v", tt.set, st.Power, err, tt.is)
		}
	}
}

// killMachine ends the machine behind a Sim, which is no child of it.
func killMachine(t *testing.T, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, bmctest.PidFile))
	if err != nil {
		return // it never ran
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Error(err)
		return
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestIPMIBootOnce(t *testing.T) {
	b, dir := startSim(t, bmctest.Sim{})
	for _, legacy := range []bool{false, true} {
		for device, word := range map[bmc.Device]string{bmc.PXE: "pxe\n", bmc.CD: "cdrom\n"} {
			if err := b.BootOnce(t.Context(), device, legacy); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, bmctest.BootFile)); err != nil || string(got) != word {
				t.Errorf("%v: the BMC boots once from %q, %v, want %q", device, got, err, word)
			}
		}
	}
}

// ipmi_sim has no cold reset, so it shows who is asked for one.
func TestIPMISetDHCP(t *testing.T) {
	const noReset = "ncn-m002: BMC 127.0.0.1: reset: not supported by this BMC (completion code 0xc1)"
	for _, tt := range []struct {
		vendor  string
		iana    uint32
		channel uint8
		err     string
	}{
		{"OpenIPMI simulator", 0x1291, 1, ""}, {"HPE", 47196, 1, ""}, {"GIGABYTE", 15370, 1, noReset}, {"IANA 9999", 9999, 1, ""},
		{"Intel", 343, 3, ""}, {"HPE", 47196, 8, ""}, // the script would have set one channel for all (csm.md 1.5)
	} {
		t.Run(tt.vendor, func(t *testing.T) {
			b, _ := startSim(t, bmctest.Sim{IANA: tt.iana, Channel: tt.channel})
			st, err := b.Status(t.Context())
			if want := (bmc.Status{Vendor: tt.vendor, Source: "unspecified"}); err != nil || st != want {
				t.Errorf("got %+v, %v, want %+v", st, err, want)
			}
			if changed, err := b.SetDHCP(t.Context(), false); message(err) != tt.err || !changed {
				t.Errorf("got %v, %v, want true, %s", changed, err, tt.err)
			}
			if changed, err := b.SetDHCP(t.Context(), false); err != nil || changed {
				t.Errorf("again: got %v, %v, want false", changed, err)
			}
			if st, err := b.Status(t.Context()); err != nil || st.Source != "dhcp" {
				t.Errorf("got %+v, %v, want an address from DHCP", st, err)
			}
		})
	}
}

func TestIPMIErrors(t *testing.T) {
	b, _ := startSim(t, bmctest.Sim{IANA: 47196})
	password, user, port, name, none := b, b, b, b, b
	password.Password = bmc.NewSecret("wrong")
	user.User = "nobody"
	port.Port = freePort(t)
	name.Host = "bmc.invalid"
	none.Host = ""
	for _, tt := range []struct {
		b    bmc.BMC
		is   error
		want string
	}{
		{password, bmc.ErrPassword, "ncn-m002: BMC 127.0.0.1: connect: wrong user or password"},
		{user, bmc.ErrPassword, "ncn-m002: BMC 127.0.0.1: connect: wrong user or password"},
		{port, bmc.ErrUnreachable, "ncn-m002: BMC 127.0.0.1: connect: does not answer: read: connection refused"},
		{name, bmc.ErrUnreachable, "ncn-m002: BMC bmc.invalid: connect: does not answer: its name does not resolve"},
		{none, nil, "ncn-m002: connect: its address is not known: it has no lease, and neither conman nor a host-record names it"},
	} {
		_, err := tt.b.Status(t.Context())
		if message(err) != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("got  %v\nwant %v", err, tt.want)
		}
	}
	_, err := b.SetDHCP(t.Context(), true)
	if want := "ncn-m002: BMC 127.0.0.1: identify: not supported by this BMC: a reset, which crashes those of HPE"; message(err) != want || !errors.Is(err, bmc.ErrUnsupported) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A socket that nobody reads is a BMC that is silent.
func TestIPMISilence(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := bmc.BMC{
		Node: "ncn-m002", Host: "127.0.0.1", Port: c.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
		User: "root", Password: bmc.NewSecret("x"), Timeout: 300 * time.Millisecond,
	}
	_, err = b.Status(t.Context())
	if want := "ncn-m002: BMC 127.0.0.1: connect: does not answer"; message(err) != want || !errors.Is(err, bmc.ErrUnreachable) {
		t.Errorf("got %v, want %s", err, want)
	}
}
