package lab

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bootd/internal/node"
)

func TestArgs(t *testing.T) {
	mac := node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 7}
	uuid := node.UUID{15: 9}
	for _, tt := range []struct {
		m         Machine
		has, lack []string
	}{
		{Machine{Firmware: BIOS, MAC: mac}, []string{"-boot n", "mac=52:54:00:aa:bb:07"}, []string{"romfile", "-uuid", "-smbios", "pflash"}},
		{Machine{Firmware: BIOSLoader, MAC: mac}, []string{"-kernel " + lkrn, "mac=52:54:00:aa:bb:07,romfile="}, []string{"pflash"}},
		{Machine{Firmware: UEFI, MAC: mac}, []string{"pflash", "virtio-rng-pci", "mac=52:54:00:aa:bb:07,romfile="}, []string{"-kernel"}},
		{Machine{Firmware: UEFIROM, MAC: mac}, []string{"pflash", "virtio-rng-pci"}, []string{"romfile"}},
		{Machine{Resets: true}, nil, nil},
		{Machine{UUID: uuid, Serial: "S1"}, []string{"-uuid 00000000-0000-0000-0000-000000000009", "-smbios type=1,serial=S1"}, nil},
	} {
		got := strings.Join(tt.m.args("tcg", "tap1"), " ")
		for _, want := range append(tt.has, "-accel tcg", "ifname=tap1,", "-nodefaults") {
			if !strings.Contains(got, want) {
				t.Errorf("%v: got %s, want it to contain %q", tt.m.Firmware, got, want)
			}
		}
		if ends := strings.Contains(got, "-no-reboot"); ends == tt.m.Resets {
			t.Errorf("%v: got %s, want -no-reboot unless a reset starts it anew", tt.m.Firmware, got)
		}
		for _, not := range tt.lack {
			if strings.Contains(got, not) {
				t.Errorf("%v: got %s, want it without %q", tt.m.Firmware, got, not)
			}
		}
	}
}

func TestConsole(t *testing.T) {
	c := newConsole()
	for _, piece := range []string{"\x1b[2J\x1b[1;1Hfir", "st\r\n\r", "\nsecond \x1b[0m\n", "BOOTD-LAB-FAILED step=dhcp no lease\nunfinished"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, l := range c.Lines() {
		got = append(got, l.Text)
	}
	if want := []string{"first", "second", "BOOTD-LAB-FAILED step=dhcp no lease"}; !slices.Equal(got, want) {
		t.Errorf("lines: got %q, want %q", got, want)
	}
	if l, err := c.WaitFor(t.Context(), regexp.MustCompile("^sec")); err != nil || l.Text != "second" {
		t.Errorf("got %q, %v, want second", l.Text, err)
	}
	_, err := c.WaitFor(t.Context(), regexp.MustCompile("never"))
	if want := `waiting for never: got "BOOTD-LAB-FAILED step=dhcp no lease"`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}

	silent := newConsole()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := silent.WaitFor(ctx, regexp.MustCompile("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	silent.close()
	if _, err := silent.WaitFor(t.Context(), regexp.MustCompile("x")); err == nil || !strings.Contains(err.Error(), "output ended") {
		t.Errorf("got %v, want output ended", err)
	}
}

// TestRun: what is started in a Net is inside it, and Close leaves nothing.
func TestRun(t *testing.T) {
	Need(t)
	n, err := NewNet(netip.MustParsePrefix("10.77.0.1/24"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.Run(t.Context(), "ip", "-brief", "link")
	if err != nil || !strings.Contains(out, Bridge) || strings.Contains(out, "eth0") {
		t.Errorf("ip link: got %q, %v, want %s and not the host's", out, err, Bridge)
	}
	if out, err := n.Run(t.Context(), "ip", "-brief", "link", "show", Bridge); err != nil || !strings.Contains(out, "LOWER_UP") {
		t.Errorf("without a machine: got %q, %v, want %s with a link", out, err, Bridge)
	}
	c, err := n.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ip("addr add 10.77.0.50/24 dev eth0"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Run(t.Context(), "ip", "neigh", "show", "dev", "eth0"); err != nil {
		t.Error(err)
	}
	if _, err := n.Run(t.Context(), "ls", "/no/such"); err == nil || !strings.HasPrefix(err.Error(), "ls /no/such: exit status 2: ls: cannot access") {
		t.Errorf("got %v, want the words of ls", err)
	}
	stubborn, err := n.Start("sh", "-c", "echo ready; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stubborn.WaitFor(Deadline(t), regexp.MustCompile("ready")); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-stubborn.done:
	default:
		t.Error("sleep runs on after Close")
	}
	for _, path := range []string{n.Dir, "/run/netns/" + n.Name, "/run/netns/" + c.Name} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it gone", path, err)
		}
	}
}

// TestSweep: what a dead process left is removed, what a live one has is not.
func TestSweep(t *testing.T) {
	Need(t)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := namePrefix + strconv.Itoa(dead.ProcessState.Pid()) + "-1-1-net"
	if _, err := run(exec.Command("ip", "netns", "add", left)); err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(os.TempDir(), left)
	if err := os.Mkdir(files, 0o700); err != nil {
		t.Fatal(err)
	}
	mine, err := tempDir("mine")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(mine)
	if err := sweep(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/run/netns/" + left, files} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it gone", path, err)
		}
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("got %v, want it kept", err)
	}
}

// TestReserve: no more than there is room for, and a waiter can give up.
func TestReserve(t *testing.T) {
	release, err := Reserve(t.Context(), slots)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Reserve(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	release()
}

// TestBadRoot: a machine that cannot boot says so and is off, long before the
// test's patience ends.
func TestBadRoot(t *testing.T) {
	im := ImagesForTest(t)
	n := ForTest(t, netip.MustParsePrefix("10.77.0.1/24"), 1)
	m := Machine{Name: "ncn-m001", Firmware: BIOS, MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 9}}
	servePeer(t, n, im, Release{Dir: "k8s", ID: "1.2.3", Base: "kubernetes"}, m)
	squashfs := filepath.Join(n.Dir, "www/ephemeral/data/k8s/1.2.3/kubernetes-1.2.3.squashfs")
	if err := os.WriteFile(squashfs, []byte("<?xml version=\"1.0\"?><Error>NoSuchKey</Error>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	startDnsmasq(t, n, m)
	g := n.Boot(t, m)
	if _, err := g.WaitFor(Deadline(t), regexp.MustCompile(`^BOOTD-LAB-FAILED step=magic http://10.77.0.1/ncn-m001/rootfs: not a squashfs$`)); err != nil {
		t.Error(err)
	}
	if err := g.Ended(Deadline(t)); err != nil {
		t.Error(err)
	}
}
