package timeline

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// A Story is one boot of a machine and how far it came.
type Story struct {
	Events  []Event       `json:"events"`            // by first time; empty: nothing was ever seen
	Outcome Outcome       `json:"outcome"`           //
	Stopped string        `json:"stopped,omitempty"` // where and why the boot stands, for people
	Hint    string        `json:"hint,omitempty"`    // where to look next; empty: nothing is wrong
	Took    time.Duration `json:"took_ns"`           // from the first step to the check-in, else to the last step
	Last    time.Time     `json:"last,omitzero"`     // when the last step was taken; zero: never
}

// An Outcome is how a boot stands.
type Outcome string

// The outcomes.
const (
	Unseen   Outcome = "unseen"   // no packet of this machine has arrived
	None     Outcome = "none"     // it uses the network, and did not boot from it: a BMC, a system on a disk
	Underway Outcome = "underway" // the last step is recent
	Booted   Outcome = "booted"   // the system checked in
	Waiting  Outcome = "waiting"  // told to wait (hold, discover) and does
	Gone     Outcome = "gone"     // told to wait, and stopped asking
	Left     Outcome = "local"    // told to boot from its disk
	Failed   Outcome = "failed"   // a step failed
	Stuck    Outcome = "stuck"    // nothing failed, and nothing more came
)

// How long a machine may be silent before its boot counts as stuck. Firmware
// retries DHCP after up to 32 s. A machine that waits asks again within 60 s;
// a kernel unpacks its initrd and finds its NICs, or the system reads a large
// file, for minutes without a word.
const (
	patience     = 90 * time.Second
	longPatience = 5 * time.Minute
)

// Tell returns the story of the last boot in events, as it stands at now.
// Events are one machine's, in the order Log returns them.
func Tell(events []Event, now time.Time) Story {
	boot := LastBoot(events)
	own := slices.DeleteFunc(slices.Clone(boot), func(e Event) bool { return !e.ofMachine() })
	if len(own) == 0 {
		return Story{Events: append([]Event{}, boot...), Outcome: Unseen, Stopped: "nothing was ever seen of this machine",
			Hint: "is it powered on, set to boot from the network, on a VLAN this server listens on, and at a switch port that forwards at once?"}
	}
	s := judge(byLatest(own), now)
	s.Events, s.Last = boot, lastSeen(own)
	end := s.Last
	if e := lastOf(own, checkedIn); e != nil {
		end = e.Time
	}
	s.Took = end.Sub(own[0].Time)
	return s
}

// judge tells how a boot stands by its steps, the latest last.
func judge(steps []Event, now time.Time) Story {
	e := decisive(steps)
	silence := now.Sub(lastSeen(steps))
	switch {
	case gaveUp(&steps[len(steps)-1]):
		return Story{Outcome: Failed, Stopped: "the node said that it failed" + of(": ", steps[len(steps)-1].Detail), Hint: "what it said: bootctl node log NODE"}
	case lastOf(steps, checkedIn) != nil:
		return Story{Outcome: Booted, Stopped: "checked in" + of(" on release ", lastOf(steps, checkedIn).Release)}
	case lastOf(steps, installed) != nil:
		return Story{Outcome: Booted, Stopped: "the installer said that it is through"}
	case !netboots(steps):
		return withoutBoot(steps)
	case e.Err != "":
		return Story{Outcome: Failed, Stopped: failure(e), Hint: failureHint(e)}
	case refused(steps) != nil:
		return Story{Outcome: Failed, Stopped: "the firmware loaded " + refused(steps).File + ", which was not heard of, and tried its next boot option", Hint: notStarted}
	case nothingToLoad(e):
		return Story{Outcome: Failed, Stopped: who(e) + " was given nothing to load" + of(": ", e.Detail),
			Hint: "is the loader of its architecture in the directory that loaders: of the configuration names?"}
	}
	if script := lastOf(steps, func(e *Event) bool { return !ofDHCP(e) }); script != nil && script.Step == Script {
		switch script.Action {
		case hold, discover:
			return waiting(script, silence)
		case local:
			return Story{Outcome: Left, Stopped: script.Detail}
		}
	}
	if silence < patienceAfter(e) {
		return Story{Outcome: Underway, Stopped: describe(e, false)}
	}
	return Story{Outcome: Stuck, Stopped: describe(e, true), Hint: hint(e)}
}

// checkedIn reports whether e is a system that says that it runs. Check-ins
// had no Action at first.
func checkedIn(e *Event) bool {
	switch e.Action {
	case "", "booted", "phone-home", "registered", "running":
		return e.Step == CheckIn && e.Err == ""
	}
	return false
}

// gaveUp reports whether e is a node that says that it failed.
func gaveUp(e *Event) bool { return e.Step == CheckIn && e.Action == "failed" && e.Err == "" }

// installed reports whether e is an installer that says that it is through.
func installed(e *Event) bool { return e.Step == CheckIn && e.Action == "installed" && e.Err == "" }

// withoutBoot is the story of a machine that only leases an address or fetches
// files. Only its DHCP can go wrong: a file that a browser asks for in vain is
// nobody's boot.
func withoutBoot(steps []Event) Story {
	e := lastOf(steps, ofDHCP)
	switch {
	case e == nil:
		return Story{Outcome: None, Stopped: "fetched files, and did not boot from the network"}
	case e.Err != "":
		return Story{Outcome: Failed, Stopped: failure(e), Hint: failureHint(e)}
	case e.Step == Ack:
		return Story{Outcome: None, Stopped: fmt.Sprintf("leased %v, and did not boot from the network", e.Addr)}
	}
	return Story{Outcome: None, Stopped: describe(e, false) + ", and did not boot from the network"}
}

func waiting(script *Event, silence time.Duration) Story {
	if silence < longPatience {
		return Story{Outcome: Waiting, Stopped: script.Detail}
	}
	return Story{Outcome: Gone, Stopped: "was told to wait, and stopped asking: " + script.Detail,
		Hint: "it was switched off, or its network is cut"}
}

// nothingToLoad reports whether a machine that wants to boot was answered
// without the name of a file.
func nothingToLoad(e *Event) bool {
	return (e.Step == Offer || e.Step == Ack) && e.Stage != OS && e.File == ""
}

func patienceAfter(e *Event) time.Duration {
	if e.Stage == OS || e.Step == Script || e.Step == HTTP && !isLoader(e.File) {
		return longPatience
	}
	return patience
}

func of(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// who names the program that took a step.
func who(e *Event) string {
	name := map[Stage]string{Firmware: "the firmware", UEFIHTTP: "UEFI HTTP boot", IPXE: "iPXE", GRUB: "GRUB", OS: "the system"}[e.Stage]
	return cmp.Or(name, "the machine")
}

// failure puts a step that failed into words.
func failure(e *Event) string {
	what := map[Step]string{
		NoAddr: who(e) + " got no address", Offer: who(e) + " was not offered its address",
		Ack: who(e) + " was not given its address", Decline: who(e) + of(" refused ", address(e)),
		TFTP: e.File + " was not sent", HTTP: e.File + " was not sent",
		Script: "the boot script was not sent", Payload: e.File + " of its payload was not given out", CheckIn: "the check-in was not taken",
		Report: "iPXE gave up" + of(" at step ", e.Detail),
	}[e.Step]
	return cmp.Or(what, string(e.Step)) + ": " + e.Err
}

func address(e *Event) string {
	if e.Addr.IsValid() {
		return e.Addr.String()
	}
	return ""
}

// describe puts a step that did not fail into words, and, when it was the
// last one, what did not follow it.
func describe(e *Event, stuck bool) string {
	did, missing := "took the step "+string(e.Step), "nothing came after it"
	switch e.Step {
	case Discover:
		did, missing = "asked for an address", "was not answered"
	case Offer:
		did, missing = "was offered "+address(e), "did not take it"
		if !e.Addr.IsValid() {
			did, missing = "was told to load "+short(e.File), "did not ask for it"
		}
	case Elsewhere:
		did, missing = "takes address "+address(e)+" of the other DHCP server", "was not heard of again"
	case Request:
		did, missing = "asked for "+address(e), "was not answered"
		if e.Detail != "" {
			did, missing = did+" of another DHCP server ("+e.Detail+")", "did not come back"
		}
	case Ack:
		did, missing = "has address "+address(e)+of(" and was told to load ", short(e.File)), "was not heard of again"
	case Nak:
		did, missing = "may not have "+address(e), "did not ask for another"
	case Release:
		did, missing = "gave "+address(e)+" back", "was not heard of again"
	case CheckIn:
		did, missing = "said: "+cmp.Or(e.Detail, e.Action), "nothing more"
	case Inform:
		did, missing = "asked for options", "was not heard of again"
	case TFTP, HTTP, Payload:
		return ended(short(e.File)+" was sent", "nothing came after it", stuck)
	case Script:
		return ended("the "+e.Action+" script"+of(" of release ", e.Release)+" was sent", "nothing came after it", stuck)
	}
	return ended(who(e)+" "+did, missing, stuck)
}

func ended(did, missing string, stuck bool) string {
	if stuck {
		return did + " and " + missing
	}
	return did
}

// short returns a file or URL without its query.
func short(file string) string {
	for i, c := range file {
		if c == '?' {
			return file[:i]
		}
	}
	return file
}

// failureHint names the usual cause of a step that failed.
func failureHint(e *Event) string {
	switch e.Step {
	case NoAddr:
		return "widen the pool of the subnet, or find out who holds its addresses"
	case Decline:
		return "find the host that uses the address (arping shows its MAC), or exclude the address from the pool"
	case TFTP:
		return "does the file exist in the loaders directory, and may UDP pass between any ports of the machine and this server?"
	case HTTP:
		return missingFile
	case Script:
		if strings.HasPrefix(e.Err, "payload: ") {
			return unfit
		}
		return "see args: of the node and of its role in the configuration"
	case Payload:
		if e.Action == failed {
			return unfit
		}
		return "who asked for what: bootctl payload log NODE; the node gets a new ticket at its next boot"
	case Report:
		return reportHint(e.Detail)
	}
	return "see the log of bootd: journalctl -u bootd"
}

const unfit = "bootctl payload check says what is wrong with its documents, and what the daemon cannot read"

const missingFile = "see what its boot directory should have: bootctl set-links --dry-run"

// reportHint goes by the step that the boot script was at.
func reportHint(step string) string {
	switch step {
	case "kernel", "initrd":
		return missingFile
	case "start":
		return "kernel and initrd must fit the machine's memory and architecture: see its console"
	case "local-disk":
		return "its first disk does not boot: is anything installed there, and is it first in the BIOS?"
	}
	return "it asks again; see its console"
}

// hint names the usual cause of a boot that ends with this step, which did not
// fail.
func hint(e *Event) string {
	switch e.Step {
	case Discover:
		return "is the machine's subnet in the configuration, and has its pool free addresses?"
	case Offer:
		if !e.Addr.IsValid() {
			return "another DHCP server gives the address here: does it offer one, and does its offer say what to boot? see bootctl dhcp probe"
		}
		return "another DHCP server may have answered first, or the offer does not reach the machine (VLAN, relay, spanning tree)"
	case Request:
		if e.Detail != "" {
			return "two DHCP servers answer on this network: stop the other, or exclude the machine there"
		}
		return "is its subnet authoritative in the configuration, or does the address belong to another server?"
	case Elsewhere:
		return "did it get the address, and can it reach UDP port 69 and the HTTP port of this server? the other DHCP server may say what to boot: see bootctl dhcp probe"
	case Nak:
		return "a machine asks again from the start; see its console"
	case Ack:
		return ackHint(e.Stage)
	case TFTP:
		return fileHint(e.File)
	case Script:
		return "the machine did not fetch the files the script names: check TCP port and route"
	case HTTP:
		return fileHint(e.File)
	}
	return "see the machine's console"
}

func ackHint(stage Stage) string {
	switch stage {
	case Firmware:
		return "the loader was never asked for: can the machine reach UDP port 69 of this server?"
	case IPXE, UEFIHTTP:
		return "the URL was never asked for: can the machine reach the HTTP port of this server?"
	}
	return "the system has an address, and did not fetch its root file system or check in: see its console"
}

// notStarted is the usual cause of a loader that was sent and did nothing.
const notStarted = "Secure Boot refuses unsigned loaders (choose another with loader: in the configuration); a switch port with spanning tree or LACP lets no DHCP through when the loader opens the NIC anew; check the architecture too"

func fileHint(file string) string {
	switch base := path.Base(short(file)); {
	case base == "rootfs":
		return "the root file system was sent, and the system did not check in: see its console"
	case base == "kernel", base == "initrd.img.xz":
		return "kernel and initrd must fit the machine's memory and architecture, and the switch port must let the DHCP of the initrd through: see its console"
	case isLoader(base):
		return notStarted
	}
	return "see the machine's console"
}
