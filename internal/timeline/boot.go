package timeline

import (
	"cmp"
	"path"
	"slices"
	"time"
)

// Silence that separates two boots when the steps alone do not tell.
const betweenBoots = 10 * time.Minute

// LastBoot returns the events from the start of the last boot on. Without any
// sign of a boot that is all of them.
func LastBoot(events []Event) []Event {
	start := 0
	for i := 1; i < len(events); i++ {
		if startsBoot(events[start:i], &events[i]) {
			start = i
		}
	}
	return events[start:]
}

// startsBoot reports whether e begins a new boot after the boot so far, which
// is not empty. A power-on shows itself as a DISCOVER of the firmware, or of
// an iPXE in the NIC's ROM, once the boot so far got beyond DHCP; before that
// it is a retry. A DISCOVER of an operating system is never a power-on: it may
// lose its lease after a week.
func startsBoot(boot []Event, e *Event) bool {
	if e.Step != Discover || e.Stage == OS {
		return false
	}
	silence := e.Time.Sub(lastSeen(boot))
	switch {
	case silence > betweenBoots:
		return true
	case nextOption(boot, e) && silence < patience:
		return false
	case e.Stage == IPXE:
		return lastOf(boot, beyondIPXE) != nil && !(waits(boot) && silence < patience)
	}
	return lastOf(boot, beyondFirmware) != nil
}

// nextOption reports whether e is a firmware that tries HTTP after PXE, or the
// other way round, because what it loaded did not start: no power-on.
func nextOption(boot []Event, e *Event) bool {
	return byFirmware(e.Stage) && lastOf(boot, started) == nil &&
		lastOf(boot, func(old *Event) bool { return byFirmware(old.Stage) && old.Stage != e.Stage && old.Step == Discover }) != nil
}

func byFirmware(s Stage) bool { return s == Firmware || s == UEFIHTTP }

// started reports whether a step was taken by something that the firmware
// loaded.
func started(e *Event) bool {
	return e.Stage == IPXE || e.Stage == GRUB || e.Stage == OS || e.Step == Script || e.Step == CheckIn || e.Step == Report
}

// refused returns the loader that was sent in a boot and never started, when
// the firmware went on to its next boot option; nil when none was.
func refused(steps []Event) *Event {
	if lastOf(steps, started) != nil {
		return nil
	}
	var loader *Event
	for i := range steps {
		switch e := &steps[i]; {
		case (e.Step == TFTP || e.Step == HTTP) && e.Err == "" && isLoader(e.File):
			loader = e
		case loader != nil && e.Step == Discover && e.Stage != loader.Stage:
			return loader
		}
	}
	return nil
}

// beyondFirmware reports whether a DISCOVER of the firmware that comes after e
// can only be a new power-on.
func beyondFirmware(e *Event) bool {
	switch e.Step {
	case TFTP, HTTP, Script, Report, CheckIn:
		return true
	}
	return e.Stage == IPXE || e.Stage == OS
}

// beyondIPXE reports the same for a DISCOVER of iPXE. An iPXE that the
// firmware loaded asks after the loader was sent.
func beyondIPXE(e *Event) bool {
	return e.Step == Script || e.Step == CheckIn || e.Stage == OS
}

// waits reports whether our script keeps the machine waiting at the end of
// boot. It then asks DHCP again from time to time, since iPXE never renews.
func waits(boot []Event) bool {
	for i := len(boot) - 1; i >= 0; i-- {
		e := &boot[i]
		if !e.ofMachine() {
			continue
		}
		switch e.Step {
		case Script:
			return e.Action == hold || e.Action == discover
		case HTTP, Report:
			return e.Err != ""
		case TFTP, CheckIn:
			return false
		}
	}
	return false
}

// The actions of a Script that change the story; package deploy defines them.
const (
	hold     = "hold"
	discover = "discover"
	local    = "local"
	foreign  = "foreign" // of a Payload and of a file too: another machine, or this host, asked for it
	failed   = "failed"  // of a Payload
)

// lastSeen returns when the last step of boot was taken.
func lastSeen(boot []Event) (t time.Time) {
	for i := range boot {
		if seen := boot[i].Seen(); boot[i].ofMachine() && seen.After(t) {
			t = seen
		}
	}
	return t
}

// byLatest returns the steps of a boot in the order of their latest times.
func byLatest(boot []Event) []Event {
	steps := slices.Clone(boot)
	slices.SortStableFunc(steps, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return steps
}

// netboots reports whether a boot shows anything of a network boot. A BMC, or
// a system that booted from its disk, only leases an address.
func netboots(boot []Event) bool {
	return slices.ContainsFunc(boot, func(e Event) bool {
		return e.Stage != OS || e.Step == Script || e.Step == CheckIn || e.Step == Report
	})
}

// ofDHCP reports whether e is a step of DHCP.
func ofDHCP(e *Event) bool {
	switch e.Step {
	case TFTP, HTTP, Script, Payload, CheckIn, Report:
		return false
	}
	return true
}

// decisive returns the step that a boot stands or falls with: the latest, or,
// where only the DHCP of a running system came after it, the failure before
// that. steps is not empty.
func decisive(steps []Event) *Event {
	last := &steps[len(steps)-1]
	for i := len(steps) - 1; i >= 0; i-- {
		if e := &steps[i]; e.Stage != OS || !ofDHCP(e) {
			if e.Err != "" {
				return e
			}
			break
		}
	}
	return last
}

// lastOf returns the last step of the machine that f holds for, or nil.
func lastOf(steps []Event, f func(*Event) bool) *Event {
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i].ofMachine() && f(&steps[i]) {
			return &steps[i]
		}
	}
	return nil
}

// isLoader reports whether a file is a program for the firmware.
func isLoader(file string) bool {
	switch path.Ext(file) {
	case ".efi", ".kpxe", ".pxe", ".kkpxe", ".0":
		return true
	}
	return false
}
