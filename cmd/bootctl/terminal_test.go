package main

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/deploy/rollout"
	"bootd/deploy/validate"
	"bootd/internal/admin"
	"bootd/internal/lease"
	"bootd/internal/node"
	"bootd/internal/timeline"
	"bootd/links"
)

// shown is what print prints on a terminal of 80 columns.
func shown(t *testing.T, print func(io.Writer) error) string {
	t.Setenv("NO_COLOR", "1")
	master, slave := terminal(t, 24, 80)
	go func() {
		defer slave.Close()
		if err := print(slave); err != nil {
			t.Error(err)
		}
	}()
	var text strings.Builder
	io.Copy(&text, master) // until slave is closed
	return strings.ReplaceAll(text.String(), "\r\n", "\n")
}

// With the names of a site of source 004 no table is wider than a terminal of
// 80 columns, unless a single word is, and none has lost a machine or a reason.
func TestTerminal(t *testing.T) {
	const release, why = "fe775c6-1659395320990", "initrd.img-1.2.3.xz: it is not what its manifest says: 90177536 bytes, the manifest has 90177540"
	now := time.Now()
	addr, mac := netip.MustParseAddr("10.252.100.101"), node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 1}
	event := timeline.Event{Time: now.Add(-time.Minute), Node: "ncn-w001", MAC: mac, Addr: addr, Step: timeline.Script, Stage: timeline.IPXE, Arch: "x64-efi",
		Action: "boot", Release: release, Detail: "boot directory links release " + release + " of role kubernetes"}
	next := deploy.Decision{Action: deploy.Boot, Role: "kubernetes", Release: release}
	machine := admin.Status{Machine: "ncn-w001", Known: true, Role: "storage-ceph", Addr: addr, Outcome: timeline.Failed, Release: release, Stopped: why, Last: now, Next: next}
	stranger := admin.Status{Machine: mac.String(), Addr: addr, Outcome: timeline.Underway, Last: now, Next: deploy.Decision{Action: deploy.Discover}}
	for name, tt := range map[string]struct {
		print func(io.Writer) error
		want  []string
	}{
		"status": {func(w io.Writer) error { return printStatus(w, []admin.Status{machine, stranger}, now) },
			[]string{"boot " + release, mac.String(), "No room for ROLE, ADDRESS, RELEASE:"}},
		"why": {func(w io.Writer) error {
			return printSteps(w, timeline.Story{Events: []timeline.Event{event, event}, Last: now}, now)
		}, []string{"of role kubernetes)"}},
		"watch": {func(w io.Writer) error { return showEvent(w)(event) }, []string{"of role kubernetes)"}},
		"leases": {func(w io.Writer) error {
			l := leaseTable(w)
			addLease(l, &lease.Lease{Addr: addr, MAC: mac, Name: "ncn-w001-mgmt", Hostname: "ncn-w001-mgmt", State: lease.Bound, Expires: now.Add(25 * time.Hour), ClientID: "ff:00:11:22:33:44:55:66:77"}, now)
			return l.Flush()
		}, []string{"No room for CLIENT-ID, HOST NAME:"}},
		"nodes": {func(w io.Writer) error {
			return printNodes(w, []admin.Node{{Name: "ncn-w001", Role: "storage-ceph", Addr: addr, MACs: []node.MAC{mac, mac}, BMC: mac, From: "/etc/bootd/bootd.yaml:1234"}})
		}, []string{"/etc/bootd/bootd.yaml:1234"}},
		"bmcs": {func(w io.Writer) error {
			return printBMCs(w, []bmcOutcome{{Node: "ncn-w001", Host: addr.String(), Vendor: "Hewlett Packard Enterprise", Power: "off", Source: "static"}})
		}, []string{"Hewlett Packard Enterprise"}},
		"releases": {func(w io.Writer) error {
			l := releaseLine{Role: "storage-ceph", Release: release, Channel: "unstable", Arch: "x86_64", Kernel: "5.14.21-150400.24.46-default", Size: 3 << 30, Nodes: []string{"ncn-s001", "ncn-s002", "ncn-s003", "ncn-s004"}}
			bad := l
			bad.Problem = why
			return printReleases(w, []releaseLine{l, bad})
		}, []string{"NO: initrd.img-1.2.3.xz:", "90177540"}},
		"generations": {func(w io.Writer) error {
			return printGenerations(w, []genLine{{ID: 1234, Time: now, Why: "upgrade of role storage-ceph to " + release + ": ncn-s001 put back", Nodes: 900, Changed: 900}})
		}, []string{"put back"}},
		"generation": {func(w io.Writer) error {
			dir := "../ephemeral/data/ceph/" + release + "/"
			return printGeneration(w, links.Generation{Nodes: map[string]links.Links{"ncn-s001": {Kernel: dir + "5.14.kernel", Initrd: dir + "initrd.img.xz", Rootfs: dir + "secure-storage-ceph-" + release + "-x86_64.squashfs"}}})
		}, []string{"../ephemeral/data/ceph/" + release + "/secure-storage-ceph-" + release + "-x86_64.squashfs"}},
		"upgrades": {func(w io.Writer) error {
			n := rollout.Node{Name: "ncn-s001", From: release, Phase: rollout.Returned, Boots: 3, Changed: now, Reason: why}
			return printUpgrades(w, []rollout.Rollout{{Role: "storage-ceph", Release: release, Started: now, Batch: 1, Attempts: 3, Deadline: time.Hour, Nodes: []rollout.Node{n}}}, now)
		}, []string{"90177540"}},
		"registrations": {func(w io.Writer) error {
			id := "edge-4c4c4544-0051-3510-8054-b7c04f4e4732"
			return printRegistrations(w, []admin.EdgeHost{{Node: "edge-01", Site: "berlin-01", Phase: deploy.Ready, Predicted: id, Reported: id, At: now, Why: "the UUID of its SMBIOS is another one"}})
		}, []string{"another one", "No room for REPORTED, WHEN:"}},
		"validations": {func(w io.Writer) error {
			return printValidations(w, []admin.Validation{{Node: "edge-01", At: now, Checks: []validate.Check{{Name: "bond bond0", Expected: "802.3ad of eno1np0, eno2np1, up", Found: "active-backup of eno1np0, down: no carrier"}}}})
		}, []string{"no carrier", "No room for REPORTED:"}},
		"payload log": {func(w io.Writer) error {
			return printPayloadLog(w, []timeline.Event{{Time: now, Addr: addr, File: "network-config", Action: "foreign", Detail: "ticket 3f2a91c4", Err: "not from the address of the node, which is 10.252.100.102"}})
		}, []string{"10.252.100.102"}},
		"probes": {func(w io.Writer) error { return printProbes(w, rivalSite().probes) }, []string{"snponly.efi", "pxelinux.0", "(no offer)"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := shown(t, tt.print)
			words := strings.Join(strings.Fields(text), " ")
			for line := range strings.Lines(text) {
				if n := len(line) - 1; n > 80 && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("got a line of %d columns: %s", n, line)
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(words, want) {
					t.Errorf("got no %q in:\n%s", want, text)
				}
			}
		})
	}
}
