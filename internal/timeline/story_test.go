package timeline_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
)

var (
	powerOn = time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)
	addr    = netip.MustParseAddr("10.1.1.101")
	nic     = node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 7}
)

// noTable is a table for logs that are not about the disk.
type noTable struct{}

func (noTable) Apply([]store.Change) error               { return nil }
func (noTable) Scan(func(key, value []byte) error) error { return nil }

// A step is an event and when it happened, in seconds after power-on.
type step struct {
	at float64
	timeline.Event
}

func (s step) event() timeline.Event {
	e := s.Event
	e.Time = powerOn.Add(time.Duration(s.at * float64(time.Second)))
	if e.Node == "" {
		e.Node = "ncn-m002"
	}
	e.MAC = nic
	if e.Step != timeline.Discover {
		e.Addr = addr
	}
	return e
}

// The programs of a boot, as protocol.md 2.1 and 2.9 have them.
const (
	fw   = timeline.Firmware
	uefi = timeline.UEFIHTTP
	ip   = timeline.IPXE
	sys  = timeline.OS
)

const scriptURL = "http://10.1.1.1/boot/script.ipxe?mac=${netX/mac:hexhyp}"

// lease is the four steps of an address, a tenth of a second each.
func lease(at float64, stage timeline.Stage, file string) []step {
	return []step{
		{at, timeline.Event{Step: timeline.Discover, Stage: stage}},
		{at + 0.1, timeline.Event{Step: timeline.Offer, Stage: stage, File: file}},
		{at + 0.2, timeline.Event{Step: timeline.Request, Stage: stage}},
		{at + 0.3, timeline.Event{Step: timeline.Ack, Stage: stage, File: file}},
	}
}

func renewal(at float64) []step { return lease(at, sys, "")[2:] }

func loader(at float64, err string) []step {
	return []step{{at, timeline.Event{Step: timeline.TFTP, Stage: fw, File: "undionly.kpxe", Bytes: 70000, Err: err}}}
}

func script(at float64, action, why string) []step {
	return []step{{at, timeline.Event{Step: timeline.Script, Stage: ip, File: "boot/script.ipxe", Action: action, Release: map[string]string{"boot": "1.2.3"}[action], Detail: why}}}
}

func file(at float64, stage timeline.Stage, name, err string) []step {
	return []step{{at, timeline.Event{Step: timeline.HTTP, Stage: stage, File: "ncn-m002/" + name, Bytes: 1000, Err: err}}}
}

func report(at float64) []step {
	return []step{{at, timeline.Event{Step: timeline.Report, Stage: ip, File: "report", Detail: "kernel", Err: "iPXE error 2d0c618e: HTTP 404"}}}
}

func checkIn(at float64) []step {
	return []step{{at, timeline.Event{Step: timeline.CheckIn, Stage: sys, File: "checkin/booted", Release: "1.2.3"}}}
}

func one(at float64, s timeline.Step, stage timeline.Stage, err string) []step {
	return []step{{at, timeline.Event{Step: s, Stage: stage, Err: err}}}
}

func join(parts ...[]step) (all []step) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// kernelOn is what follows a script that boots: the files, the lease of the
// initrd, its root file system and the check-in.
func kernelOn(at float64) []step {
	return join(script(at, "boot", "linked"), file(at+1, ip, "kernel", ""), file(at+2, ip, "initrd.img.xz", ""),
		lease(at+20, sys, ""), file(at+25, sys, "rootfs", ""), checkIn(at+30))
}

// The ways to a script: iPXE as the NIC's ROM asks DHCP once; a firmware is
// given iPXE, which asks again, or, iPXE 2.0 with autoexec, does not.
func rom(at float64) []step { return lease(at, ip, scriptURL) }
func pxe(at float64) []step {
	return join(lease(at, fw, "undionly.kpxe"), loader(at+1, ""), lease(at+3, ip, scriptURL))
}
func autoexec(at float64) []step { return join(lease(at, fw, "ipxe.efi"), loader(at+1, "")) }
func uefiHTTP(at float64) []step {
	get := step{at + 1, timeline.Event{Step: timeline.HTTP, Stage: uefi, File: "boot/ipxe.efi", Bytes: 1000}}
	return join(lease(at, uefi, "http://10.1.1.1/boot/ipxe.efi"), []step{get}, lease(at+3, ip, scriptURL))
}

// every repeats steps n times with a pause in seconds.
func every(pause float64, n int, first float64, f func(at float64) []step) (all []step) {
	for i := range n {
		all = append(all, f(first+float64(i)*pause)...)
	}
	return all
}

const hour, day = 3600.0, 24 * 3600.0

func holdOn(at float64) []step { return script(at, "hold", "held by the administrator") }

// holding is a node that waits as the script of package ipxe has it: it asks
// every 30 s, and DHCP before every tenth time.
func holding(first, seconds float64) []step {
	return every(300, int(seconds/300), first, func(at float64) []step {
		return join(every(30, 10, at, holdOn), rom(at+299))
	})
}

func TestTell(t *testing.T) {
	foreign := step{1, timeline.Event{Step: timeline.Request, Stage: ip, Detail: "chose server 10.1.1.9"}}
	noLoader := step{0.1, timeline.Event{Step: timeline.Offer, Stage: fw, Detail: "no loader exists for architecture 13"}}
	browser := step{0, timeline.Event{Step: timeline.HTTP, Stage: sys, File: "favicon.ico", Err: "no such file"}}
	for _, tt := range []struct {
		name    string
		steps   []step
		now     float64 // seconds after the last step
		outcome timeline.Outcome
		begins  float64 // of the last boot
		took    float64 // 0: not checked
		stopped string
		hint    string // empty: none
	}{
		// Boots that end well.
		{"ROM", join(rom(0), kernelOn(1)), day, timeline.Booted, 0, 31, "checked in on release 1.2.3", ""},
		{"PXE", join(pxe(0), kernelOn(5)), day, timeline.Booted, 0, 35, "checked in", ""},
		{"PXE with autoexec", join(autoexec(0), kernelOn(5)), day, timeline.Booted, 0, 35, "checked in", ""},
		{"UEFI HTTP", join(uefiHTTP(0), kernelOn(5)), day, timeline.Booted, 0, 35, "checked in", ""},
		{"retries of DISCOVER", join(one(0, timeline.Discover, fw, ""), one(4, timeline.Discover, fw, ""), pxe(12), kernelOn(20)),
			0, timeline.Booted, 0, 50, "checked in", ""},
		{"retries for an hour", join(every(60, 60, 0, func(at float64) []step { return one(at, timeline.Discover, fw, "") }), pxe(hour), kernelOn(hour+9)),
			0, timeline.Booted, 0, 0, "checked in", ""},
		{"second power-on, PXE", join(pxe(0), kernelOn(5), pxe(200), kernelOn(205)), 0, timeline.Booted, 200, 35, "checked in", ""},
		{"second power-on, ROM", join(rom(0), kernelOn(5), rom(200), kernelOn(205)), 0, timeline.Booted, 200, 35, "checked in", ""},
		{"second power-on after the loader", join(autoexec(0), autoexec(30), kernelOn(40)), 0, timeline.Booted, 30, 40, "checked in", ""},
		{"second power-on before anything was sent", join(rom(0), rom(hour), kernelOn(hour+1)), 0, timeline.Booted, hour, 31, "checked in", ""},
		{"power cycle of a machine that waited", join(rom(0), holdOn(1), rom(150), kernelOn(151)), 0, timeline.Booted, 150, 31, "checked in", ""},

		// A booted system stays booted.
		{"renewals", join(pxe(0), kernelOn(5), every(1800, 2000, 1800, renewal)), day, timeline.Booted, 0, 35, "checked in", ""},
		{"a new lease after a week", join(pxe(0), kernelOn(5), lease(7*day, sys, "")), day, timeline.Booted, 0, 35, "checked in", ""},
		{"no address after a week", join(pxe(0), kernelOn(5), one(7*day, timeline.NoAddr, sys, "no address left")), day, timeline.Booted, 0, 35, "checked in", ""},
		{"lease ended and given by hand", join(pxe(0), kernelOn(5), one(hour, timeline.Freed, "", ""), one(2*hour, timeline.Assigned, "", ""), one(3*hour, timeline.Lapsed, "", "")),
			day, timeline.Booted, 0, 35, "checked in", ""},
		{"shut down", join(pxe(0), kernelOn(5), one(hour, timeline.Release, sys, "")), day, timeline.Booted, 0, 35, "checked in", ""},

		// Machines that wait.
		{"hold for a week, asking", join(rom(0), holding(1, 7*day)), 30, timeline.Waiting, 0, 0, "held by the administrator", ""},
		{"hold for a week, then boots", join(rom(0), holding(1, 7*day), script(7*day+10, "hold", "held by the administrator"), kernelOn(7*day+40)),
			0, timeline.Booted, 0, 7*day + 70, "checked in", ""},
		{"discovery", join(rom(0), script(1, "discover", "machine is not in the inventory")), 30, timeline.Waiting, 0, 1, "machine is not in the inventory", ""},
		{"switched off while it waited", join(rom(0), holdOn(1)), hour, timeline.Gone, 0, 1, "was told to wait, and stopped asking: held by", "switched off"},
		{"asked DHCP while it waited", join(rom(0), holdOn(1), holdOn(31), rom(61)), 5, timeline.Waiting, 0, 0, "held by the administrator", ""},
		{"local disk", join(rom(0), script(1, "local", "set to boot from the local disk")), day, timeline.Left, 0, 1, "set to boot from the local disk", ""},
		{"local disk, and its system leases", join(rom(0), script(1, "local", "local"), lease(900, sys, ""), every(1800, 99, 1800, renewal)), hour,
			timeline.Left, 0, 0, "local", ""},
		{"sent to hold after a failure", join(rom(0), script(1, "boot", "x"), file(2, ip, "kernel", "no such file"), report(3), holdOn(8)), 1,
			timeline.Waiting, 0, 0, "held by", ""},
		{"fails again after a hold", join(rom(0), script(1, "boot", "x"), file(2, ip, "kernel", "no such file"), report(3), holdOn(8),
			script(13, "boot", "x"), file(14, ip, "kernel", "no such file"), report(15)), 1, timeline.Failed, 0, 0, "iPXE gave up at step kernel", "set-links"},

		// Machines that do not boot from the network.
		{"BMC", join(lease(0, sys, ""), every(1800, 999, 1800, renewal)), 3 * day, timeline.None, 0, 0, "leased 10.1.1.101, and did not boot from the network", ""},
		{"BMC without an address", join(one(0, timeline.Discover, sys, ""), one(0, timeline.NoAddr, sys, "no address left")), day, timeline.Failed, 0, 0,
			"the system got no address: no address left", "widen the pool"},
		{"BMC with an address at last", join(one(0, timeline.NoAddr, sys, "no address left"), lease(60, sys, "")), day, timeline.None, 0, 0, "leased", ""},
		{"browser", []step{browser}, day, timeline.None, 0, 0, "did not boot from the network", ""},
		{"system says goodbye", join(renewal(-0.2), one(9, timeline.Release, sys, "")), day, timeline.None, 0, 0, "gave 10.1.1.101 back", ""},

		// Every place a boot can stop.
		{"only an administrator", one(0, timeline.Assigned, "", ""), 0, timeline.Unseen, 0, 0, "nothing was ever seen", "is it powered on"},
		{"only an upgrade", join(one(0, timeline.Switched, "", ""), one(1200, timeline.PutBack, "", "")), 0, timeline.Unseen, 0, 0, "nothing was ever seen", "is it powered on"},
		{"booted, and an upgrade", join(rom(0), kernelOn(1), one(hour, timeline.Switched, "", ""), one(2*hour, timeline.PutBack, "", "")), 0, timeline.Booted, 0, 31, "checked in on release 1.2.3", ""},
		{"stuck, and an upgrade", join(one(0, timeline.Discover, fw, ""), one(100, timeline.Switched, "", "")), 0, timeline.Stuck, 0, 0,
			"the firmware asked for an address and was not answered", "subnet in the configuration"},
		{"stuck, and its lease ended", join(one(0, timeline.Discover, fw, ""), one(hour, timeline.Lapsed, "", "")), hour + 1, timeline.Stuck, 0, 0,
			"the firmware asked for an address and was not answered", "subnet in the configuration"},
		{"unseen", nil, 0, timeline.Unseen, 0, 0, "nothing was ever seen", "is it powered on"},
		{"DISCOVER", one(0, timeline.Discover, fw, ""), 91, timeline.Stuck, 0, 0, "the firmware asked for an address and was not answered", "subnet in the configuration"},
		{"DISCOVER just now", one(0, timeline.Discover, fw, ""), 32, timeline.Underway, 0, 0, "the firmware asked for an address", ""},
		{"NoAddr", join(one(0, timeline.Discover, fw, ""), one(0, timeline.NoAddr, fw, "no address left in 10.1.1.0/24")), 0, timeline.Failed, 0, 0,
			"got no address: no address left in 10.1.1.0/24", "widen the pool"},
		{"OFFER", lease(0, ip, scriptURL)[:2], 91, timeline.Stuck, 0, 0, "iPXE was offered 10.1.1.101 and did not take it", "another DHCP server"},
		{"OFFER not sent", one(0, timeline.Offer, fw, "reply not sent: network is down"), 0, timeline.Failed, 0, 0, "not sent: network is down", "log of bootd"},
		{"OFFER without a loader", join(one(0, timeline.Discover, fw, ""), []step{noLoader}), 0, timeline.Failed, 0, 0,
			"the firmware was given nothing to load: no loader exists for architecture 13", "loaders:"},
		{"REQUEST", lease(0, ip, scriptURL)[:3], 91, timeline.Stuck, 0, 0, "asked for 10.1.1.101 and was not answered", "authoritative"},
		{"loader refused, then HTTP", join(lease(0, fw, "undionly.kpxe"), loader(1, ""), one(2, timeline.Discover, uefi, "")), 0, timeline.Failed, 0, 0,
			"the firmware loaded undionly.kpxe, which was not heard of", "Secure Boot"},
		{"loader refused by PXE and by HTTP", join(lease(0, fw, "ipxe.efi"), loader(1, ""), uefiHTTP(2)[:5]), 91, timeline.Failed, 0, 0,
			"which was not heard of", "Secure Boot"},
		{"loader refused by PXE, taken by HTTP", join(lease(0, fw, "ipxe.efi"), loader(1, ""), uefiHTTP(2), kernelOn(9)), 0, timeline.Booted, 0, 39, "checked in", ""},
		{"REQUEST to another server", join(lease(0, ip, scriptURL)[:2], []step{foreign}), 91, timeline.Stuck, 0, 0,
			"asked for 10.1.1.101 of another DHCP server (chose server 10.1.1.9)", "two DHCP servers"},
		{"address of the other server", one(0, timeline.Elsewhere, fw, ""), 91, timeline.Stuck, 0, 0,
			"the firmware takes address 10.1.1.101 of the other DHCP server and was not heard of again", "UDP port 69"},
		{"system beside a proxy", one(0, timeline.Elsewhere, sys, ""), day, timeline.None, 0, 0, "takes address 10.1.1.101 of the other DHCP server, and did not boot", ""},
		{"NAK", join(one(0, timeline.Request, ip, ""), one(0, timeline.Nak, ip, "")), 91, timeline.Stuck, 0, 0, "may not have 10.1.1.101", "from the start"},
		{"DECLINE", join(rom(0), one(1, timeline.Decline, ip, "another host uses the address")), 0, timeline.Failed, 0, 0, "iPXE refused 10.1.1.101: another host", "arping"},
		{"ACK, firmware", lease(0, fw, "undionly.kpxe"), 91, timeline.Stuck, 0, 0, "the firmware has address 10.1.1.101 and was told to load undionly.kpxe and was not heard of again", "UDP port 69"},
		{"ACK, iPXE", rom(0), 91, timeline.Stuck, 0, 0, "told to load http://10.1.1.1/boot/script.ipxe and was not heard", "HTTP port"},
		{"ACK not on disk", join(lease(0, fw, "x.efi")[:3], one(1, timeline.Ack, fw, "lease could not be written to disk")), 0, timeline.Failed, 0, 0, "lease could not be written", "log of bootd"},
		{"loader missing", join(lease(0, fw, "undionly.kpxe"), loader(1, "no such file")), 0, timeline.Failed, 0, 0, "undionly.kpxe was not sent: no such file", "loaders directory"},
		{"loader sent", join(lease(0, fw, "undionly.kpxe"), loader(1, "")), 91, timeline.Stuck, 0, 0, "undionly.kpxe was sent and nothing came after it", "Secure Boot"},
		{"loader sent over HTTP", uefiHTTP(0)[:5], 301, timeline.Stuck, 0, 0, "boot/ipxe.efi was sent", "Secure Boot"},
		{"script not made", join(rom(0), []step{{1, timeline.Event{Step: timeline.Script, Stage: ip, Action: "boot", Err: "args: bad"}}}), 0, timeline.Failed, 0, 0, "args: bad", "args: of the node"},
		{"script sent", join(rom(0), script(1, "boot", "x")), 301, timeline.Stuck, 0, 0, "the boot script of release 1.2.3 was sent and nothing", "TCP port"},
		{"kernel missing", join(rom(0), script(1, "boot", "x"), file(2, ip, "kernel", "no such file")), 0, timeline.Failed, 0, 0, "ncn-m002/kernel was not sent: no such file", "set-links"},
		{"kernel missing, asks again", join(rom(0), every(30, 999, 1, func(at float64) []step {
			return join(script(at, "boot", "x"), file(at+1, ip, "kernel", "no such file"), report(at+2))
		})), 20, timeline.Failed, 0, 0, "iPXE gave up at step kernel: iPXE error 2d0c618e: HTTP 404", "set-links"},
		{"local disk, and the agent of its system", join(rom(0), script(1, "local", "local"), []step{{60, timeline.Event{Step: timeline.CheckIn, Stage: sys, Action: "running", Detail: "agent connected, active system"}}}), day,
			timeline.Booted, 0, 60, "checked in", ""},
		{"local disk, and an agent of its recovery system", join(rom(0), script(1, "local", "local"), []step{{60, timeline.Event{Step: timeline.CheckIn, Stage: sys, Action: "agent", Detail: "agent connected, recovery system"}}}), hour,
			timeline.Stuck, 0, 60, "the system said: agent connected, recovery system and nothing more", "console"},
		{"local disk does not boot", join(rom(0), script(1, "local", "local"), []step{{2, timeline.Event{Step: timeline.Report, Stage: ip, Detail: "local-disk", Err: "iPXE error 1"}}}), 0,
			timeline.Failed, 0, 0, "gave up at step local-disk", "first disk"},
		{"kernel missing, then mended", join(rom(0), script(1, "boot", "x"), file(2, ip, "kernel", "no such file"), report(3), kernelOn(33)), 0, timeline.Booted, 0, 63, "checked in", ""},
		{"kernel sent", join(rom(0), script(1, "boot", "x"), file(2, ip, "kernel", "")), 301, timeline.Stuck, 0, 0, "kernel was sent and nothing", "memory"},
		{"kernel unpacks its initrd", join(rom(0), script(1, "boot", "x"), file(2, ip, "initrd.img.xz", "")), 299, timeline.Underway, 0, 0, "initrd.img.xz was sent", ""},
		{"initrd has an address", join(rom(0), kernelOn(1)[:7]), 301, timeline.Stuck, 0, 0, "the system has address 10.1.1.101 and was not heard", "root file system"},
		{"rootfs missing", join(rom(0), kernelOn(1)[:7], file(30, sys, "rootfs", "no such file")), 0, timeline.Failed, 0, 0, "rootfs was not sent: no such file", "set-links"},
		{"rootfs missing, and renewals", join(rom(0), kernelOn(1)[:7], file(30, sys, "rootfs", "no such file"), every(600, 9, 600, renewal)), 0,
			timeline.Failed, 0, 0, "rootfs was not sent: no such file", "set-links"},
		{"rootfs sent", join(rom(0), kernelOn(1)[:8]), 301, timeline.Stuck, 0, 0, "rootfs was sent and nothing came after it", "did not check in"},
		{"check-in refused", join(rom(0), kernelOn(1)[:8], one(60, timeline.CheckIn, sys, "no")), 0, timeline.Failed, 0, 0, "the check-in was not taken: no", "log of bootd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := timeline.Open(noTable{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			now := powerOn
			var last time.Time
			ofOthers := []timeline.Step{timeline.Freed, timeline.Assigned, timeline.Lapsed, timeline.Switched, timeline.PutBack}
			for _, s := range tt.steps {
				e := s.event()
				l.Record(e)
				now = e.Time
				if !slices.Contains(ofOthers, e.Step) {
					last = now
				}
			}
			now = now.Add(time.Duration(tt.now * float64(time.Second)))
			got := timeline.Tell(l.Events("ncn-m002"), now)
			if got.Outcome != tt.outcome {
				t.Errorf("outcome: got %q, want %q", got.Outcome, tt.outcome)
			}
			if !strings.Contains(got.Stopped, tt.stopped) {
				t.Errorf("stopped: got %q, want %q in it", got.Stopped, tt.stopped)
			}
			if !strings.Contains(got.Hint, tt.hint) || (got.Hint == "") != (tt.hint == "") {
				t.Errorf("hint: got %q, want %q in it", got.Hint, tt.hint)
			}
			if got.Events == nil {
				t.Error("events: got nil, which is null in JSON, want a list")
			}
			if len(tt.steps) == 0 {
				return
			}
			if begins := got.Events[0].Time.Sub(powerOn).Seconds(); begins != tt.begins {
				t.Errorf("begins: got %v s after the first power-on, want %v", begins, tt.begins)
			}
			if tt.took != 0 && got.Took.Seconds() != tt.took {
				t.Errorf("took: got %v, want %v s", got.Took, tt.took)
			}
			if !got.Last.Equal(last) {
				t.Errorf("last: got %v, want %v", got.Last, last)
			}
		})
	}
}

// A story must not change when the log was closed and opened in between, so
// neither may where boots begin.
func TestStoryOfRepeats(t *testing.T) {
	l, err := timeline.Open(noTable{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range join(pxe(-hour), kernelOn(5-hour), pxe(0), holding(10, 7*day)) {
		l.Record(s.event())
	}
	events := l.Events("ncn-m002")
	if len(events) >= timeline.MaxEvents/8 {
		t.Errorf("events of a node that waits for a week: got %d, want few", len(events))
	}
	boot := timeline.LastBoot(events)
	if first := boot[0]; first.Step != timeline.Discover || first.Stage != fw || !first.Time.Equal(powerOn) {
		t.Errorf("first step of the boot: got %v %v at %v, want the firmware's DISCOVER at %v", first.Step, first.Stage, first.Time, powerOn)
	}
	for _, e := range boot {
		if e.Step == timeline.Script && e.Count != 7*24*120 {
			t.Errorf("script: got %d times, want one every 30 s for a week, %d", e.Count, 7*24*120)
		}
		if e.Step == timeline.Script && e.Last.Sub(e.Time) != time.Duration(7*day-30)*time.Second {
			t.Errorf("script: got %v from first to last, want a week less 30 s", e.Last.Sub(e.Time))
		}
	}
}

// A proxy's offer has no address, so that the other server is to blame when
// nothing follows.
func TestTellProxyOffer(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := timeline.Tell([]timeline.Event{{Time: now.Add(-2 * time.Minute), Step: timeline.Offer, Stage: timeline.Firmware, File: "snponly.efi"}}, now)
	if want := "the firmware was told to load snponly.efi and did not ask for it"; s.Outcome != timeline.Stuck || s.Stopped != want {
		t.Errorf("got %s %q, want stuck %q", s.Outcome, s.Stopped, want)
	}
	if !strings.Contains(s.Hint, "bootctl dhcp probe") {
		t.Errorf("hint: got %q, want bootctl dhcp probe", s.Hint)
	}
}
