package main

import (
	"testing"

	"bootd/dhcp"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// What a node said to DHCP is how it started, until it says otherwise; what its
// system asks without an architecture changes nothing.
func TestFirmwareByDHCP(t *testing.T) {
	d := &daemon{}
	for _, tt := range []struct {
		arch dhcp.Arch
		want node.Firmware
	}{
		{dhcp.ArchUnknown, ""}, {0, node.BIOS}, {dhcp.ArchUnknown, node.BIOS}, {7, node.UEFI}, {0, node.BIOS}, {16, node.UEFI}, {11, node.UEFI},
		{0, node.BIOS}, {9, node.UEFI}, {0, node.BIOS}, {17, node.UEFI}, {0, node.BIOS}, {dhcp.ArchPi, node.BIOS}, {6, node.UEFI}, {4242, node.UEFI},
	} {
		d.observe(&timeline.Event{Node: "edge-1", Step: timeline.Discover, Arch: tt.arch.String()})
		d.observe(&timeline.Event{Step: timeline.Discover, Arch: tt.arch.String()}) // nobody's
		if got := d.firmware.of("edge-1"); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.arch, got, tt.want)
		}
	}
	if len(d.firmware.last) != 1 {
		t.Errorf("got %v, want the one node", d.firmware.last)
	}
}
