package timeline

import (
	"fmt"
	"path"
	"time"
)

// A Story is one boot of a machine and how far it came.
type Story struct {
	Events  []Event       `json:"events"`            // oldest first; empty: nothing was ever seen
	Outcome Outcome       `json:"outcome"`           //
	Stopped string        `json:"stopped,omitempty"` // last thing that worked or failed, for people
	Hint    string        `json:"hint,omitempty"`    // where to look next; empty: nothing is wrong
	Took    time.Duration `json:"took_ns"`           // from first to last event
}

// An Outcome is how a boot stands.
type Outcome string

// The outcomes.
const (
	Unseen   Outcome = "unseen"   // no packet of this machine has arrived
	Underway Outcome = "underway" // the last step is recent
	Booted   Outcome = "booted"   // the system checked in
	Waiting  Outcome = "waiting"  // told to wait (hold, discover) and does
	Left     Outcome = "local"    // told to boot from its disk
	Failed   Outcome = "failed"   // a step failed
	Stuck    Outcome = "stuck"    // nothing failed, and nothing more came
)

// How long a machine may be silent before a boot counts as stuck. Firmware
// retries DHCP after up to 32 s; a kernel with a large initrd needs longer.
const patience = 90 * time.Second

// Silence that separates two boots when the steps alone do not tell.
const betweenBoots = 10 * time.Minute

// LastBoot returns the events from the start of the last boot on.
func LastBoot(events []Event) []Event {
	start := 0
	for i := 1; i < len(events); i++ {
		if startsBoot(events[start:i], &events[i]) {
			start = i
		}
	}
	return events[start:]
}

// startsBoot reports whether e begins a new boot after the boot so far. A
// power-on shows itself as a DISCOVER of the firmware, or of an iPXE in the
// NIC's ROM, once the boot so far got beyond DHCP; before that it is a retry.
func startsBoot(boot []Event, e *Event) bool {
	if e.Step != Discover {
		return false
	}
	if e.Time.Sub(boot[len(boot)-1].Time) > betweenBoots {
		return true
	}
	switch e.Stage {
	case Firmware, UEFIHTTP:
		return beyond(boot, IPXE)
	case IPXE:
		return beyond(boot, OS)
	}
	return false
}

// beyond reports whether a boot came so far that a DISCOVER of the stage
// before limit can only be a new power-on.
func beyond(boot []Event, limit Stage) bool {
	for i := range boot {
		switch e := &boot[i]; {
		case e.Step == Script || e.Step == HTTP || e.Step == CheckIn,
			e.Step == TFTP && limit == IPXE,
			e.Stage == OS,
			e.Stage == limit:
			return true
		}
	}
	return false
}

// Tell returns the story of the last boot in events, as it stands at now.
func Tell(events []Event, now time.Time) Story {
	if len(events) == 0 {
		return Story{Outcome: Unseen, Stopped: "nothing was ever seen of this machine",
			Hint: "is it powered on, set to network boot, and on a VLAN this server listens on?"}
	}
	boot := LastBoot(events)
	last := &boot[len(boot)-1]
	s := Story{Events: boot, Took: last.Time.Sub(boot[0].Time)}
	s.Outcome, s.Stopped, s.Hint = judge(boot, last)
	if s.Outcome == Stuck && now.Sub(last.Time) < patience {
		s.Outcome, s.Hint = Underway, ""
	}
	return s
}

// judge tells how a boot stands from its decisive event.
func judge(boot []Event, last *Event) (Outcome, string, string) {
	if e := final(boot); e != nil {
		return Booted, "checked in" + of(" on release ", e.Release), ""
	}
	if last.Err != "" {
		return Failed, fmt.Sprintf("%s%s: %s", last.Step, of(" ", last.File), last.Err), hint(last)
	}
	if e := lastOf(boot, Script); e != nil && e.Seq >= lastTransfer(boot) {
		switch e.Action {
		case "hold", "discover":
			return Waiting, "waits: " + e.Detail, ""
		case "local":
			return Left, "left the network: " + e.Detail, ""
		}
	}
	return Stuck, describe(last), hint(last)
}

// final returns the check-in of a boot, if it got there.
func final(boot []Event) *Event {
	e := lastOf(boot, CheckIn)
	if e == nil || e.Err != "" {
		return nil
	}
	return e
}

func lastOf(boot []Event, step Step) *Event {
	for i := len(boot) - 1; i >= 0; i-- {
		if boot[i].Step == step {
			return &boot[i]
		}
	}
	return nil
}

// lastTransfer returns the Seq of the last file sent over HTTP.
func lastTransfer(boot []Event) uint64 {
	if e := lastOf(boot, HTTP); e != nil {
		return e.Seq
	}
	return 0
}

func of(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// describe puts an event that did not fail into words.
func describe(e *Event) string {
	who := map[Stage]string{Firmware: "firmware", UEFIHTTP: "UEFI HTTP boot", IPXE: "iPXE", OS: "the system"}[e.Stage]
	switch e.Step {
	case Discover:
		return who + " asked for an address and was not answered"
	case NoAddr:
		return who + " asked for an address and none was left"
	case Offer:
		return fmt.Sprintf("%s was offered %v and did not take it", who, e.Addr)
	case Request:
		return who + " asked for its address and was not answered"
	case Ack:
		return fmt.Sprintf("%s has address %v%s and was not heard of again", who, e.Addr, of(" and was told to load ", e.File))
	case TFTP, HTTP:
		return e.File + " was sent and nothing came after it"
	case Script:
		return fmt.Sprintf("the %s script was sent and nothing came after it", e.Action)
	default:
		return string(e.Step) + " and nothing came after it"
	}
}

// hint names the usual cause of a boot that ends with this event.
func hint(e *Event) string {
	switch e.Step {
	case Discover:
		return "is the machine's subnet configured here, and has its pool free addresses?"
	case NoAddr:
		return "the pool is exhausted: widen it, or see who holds its addresses"
	case Offer:
		return "another DHCP server may have answered first, or the reply does not reach the machine (VLAN, relay, spanning tree)"
	case Nak:
		return "the machine asked for an address it may not have; it will ask again from the start"
	case Ack:
		return ackHint(e.Stage)
	case TFTP:
		if e.Err != "" {
			return "is the loader in the loaders directory, and UDP open from any port of the machine?"
		}
		return "the firmware did not start the loader: Secure Boot refuses unsigned ones; check the architecture too"
	case Script:
		return "the machine did not fetch the files the script names: check TCP port and route"
	case HTTP, Report:
		return fileHint(path.Base(e.File))
	}
	return ""
}

func ackHint(stage Stage) string {
	switch stage {
	case Firmware:
		return "the loader was never asked for: is UDP port 69 of this server reachable from the machine?"
	case IPXE, UEFIHTTP:
		return "the URL was never asked for: is this server's HTTP port reachable from the machine?"
	default:
		return "the system has an address but never fetched its root file system or checked in: see its console"
	}
}

func fileHint(file string) string {
	switch file {
	case "rootfs":
		return "the root file system was sent; the system did not check in: see its console"
	case "kernel", "initrd.img.xz":
		return "see the machine's console: kernel and initrd must fit its memory and its architecture"
	}
	return "see the machine's console"
}
