// Package timeline keeps the steps each machine takes from power-on to
// check-in, so that "why did my node not boot" has an answer.
//
// A Log holds the last events of each machine in memory, writes them to a
// table in the background, and hands them to those who watch. Recording never
// waits for the disk: a crash may lose the last quarter of a second of events
// (leases are kept elsewhere and are durable). The number of machines, the
// events kept of each and the text in an event are bounded. A step that a
// machine repeats within one boot is kept once, with a count: a node may wait
// for a week and its story is still there.
//
// Tell makes the story of the last boot of such events.
package timeline

import (
	"net/netip"
	"strings"
	"time"

	"bootd/internal/node"
)

// A Step names what happened. Steps are part of the JSON output of bootctl, so
// a name is never changed.
type Step string

// The steps, in the order a boot takes them.
const (
	Discover  Step = "dhcp-discover"  // machine asks for an address
	Offer     Step = "dhcp-offer"     // we offered Addr
	Request   Step = "dhcp-request"   // machine asks for the offered, or its old, address
	Ack       Step = "dhcp-ack"       // Addr is leased, and that is on disk
	Nak       Step = "dhcp-nak"       // machine may not use the address it asked for
	Conflict  Step = "dhcp-conflict"  // Addr was not offered: another host has it
	Decline   Step = "dhcp-decline"   // machine found Addr in use by somebody else
	Release   Step = "dhcp-release"   // machine gave Addr back
	Inform    Step = "dhcp-inform"    // machine with an address asks for options
	NoAddr    Step = "dhcp-no-addr"   // no address left to offer
	Elsewhere Step = "dhcp-elsewhere" // machine takes Addr of the other DHCP server, beside which we are a proxy
	Freed     Step = "lease-freed"    // an administrator ended the lease of Addr
	Assigned  Step = "lease-added"    // an administrator leased Addr to the machine
	Lapsed    Step = "lease-ended"    // the lease of Addr ended, and the machine had not renewed it
	TFTP      Step = "tftp"           // file sent over TFTP
	HTTP      Step = "http"           // file sent over HTTP
	Script    Step = "script"         // decision rendered as a boot script
	Payload   Step = "payload"        // document of the node's payload was asked for
	BMC       Step = "bmc"            // the node's BMC was asked for its power; told when its answer changes
	Media     Step = "media"          // BMC asked for the image in the node's virtual drive
	CheckIn   Step = "check-in"       // the node said of itself what Action says: booted, installed, failed, ...
	Beat      Step = "heartbeat"      // the node's heartbeats began, stopped or came back, as Action says
	Report    Step = "report"         // boot script reported an error
	Switched  Step = "switched"       // an upgrade linked the node to Release
	PutBack   Step = "put-back"       // an upgrade linked the node to Release again, which it came from
	Claim     Step = "claim"          // somebody claimed the machine for the site that Detail says
	Deploy    Step = "deployment"     // the node came to the phase that Action says, because of Detail
)

// A Stage is which program of the boot chain is speaking.
type Stage string

// The stages.
const (
	Firmware Stage = "firmware" // PXE ROM, UEFI PXE
	UEFIHTTP Stage = "uefi-http"
	IPXE     Stage = "ipxe"
	GRUB     Stage = "grub"
	OS       Stage = "os" // initrd, operating system, BMC: nothing that netboots
)

// An Event is one step of one machine, or the same step taken Count times
// within one boot. Time and place in the list are those of the first time;
// Last and Seq are of the latest.
type Event struct {
	Seq     uint64        `json:"seq"`               // set by Record; grows, never reused
	Time    time.Time     `json:"time"`              // zero: Record sets it
	Node    string        `json:"node,omitempty"`    // empty: not in the inventory
	MAC     node.MAC      `json:"mac,omitzero"`      // zero: not known, as for a foreign address
	Addr    netip.Addr    `json:"ip,omitzero"`       // address of the machine
	Step    Step          `json:"step"`              //
	Stage   Stage         `json:"stage,omitempty"`   // empty: does not apply
	Arch    string        `json:"arch,omitempty"`    // client architecture of DHCP option 93
	File    string        `json:"file,omitempty"`    // file or URL asked for or offered
	Action  string        `json:"action,omitempty"`  // decision, for Script; what became of it, for Payload
	Release string        `json:"release,omitempty"` //
	Detail  string        `json:"detail,omitempty"`  // one line for people
	Bytes   int64         `json:"bytes,omitempty"`   // sent, the most of all times
	Dur     time.Duration `json:"dur_ns,omitempty"`  // of the transfer of Bytes
	Err     string        `json:"err,omitempty"`     // why the step failed; empty: it did not
	Count   int           `json:"count,omitempty"`   // times the step was taken; 0: once
	Last    time.Time     `json:"last,omitzero"`     // of the latest time; zero: Time
}

// Machine returns the key that an event's machine is kept under: its node name
// where there is one, else its MAC, else its address.
func (e *Event) Machine() string {
	switch {
	case e.Node != "":
		return e.Node
	case !e.MAC.IsZero():
		return e.MAC.String()
	case e.Addr.IsValid():
		return e.Addr.String()
	}
	return "(nobody)" // a client without any address, as over InfiniBand
}

// ofMachine reports whether the machine took the step. What befell its lease or
// its links without it, and what others fetched of what it boots, is told, and
// says nothing of how its boot stands.
func (e *Event) ofMachine() bool {
	if e.Action == foreign {
		return false
	}
	switch e.Step {
	case Freed, Assigned, Lapsed, Beat, BMC, Deploy, Media, Claim, Switched, PutBack:
		return false
	}
	return true
}

// Seen returns when the step was taken last.
func (e *Event) Seen() time.Time {
	if e.Last.IsZero() {
		return e.Time
	}
	return e.Last
}

// repeats reports whether e is the step of old taken once more.
func (e *Event) repeats(old *Event) bool {
	if e.Step != old.Step || e.File != old.File || e.Stage != old.Stage {
		return false // most are not: spare the copies
	}
	a, b := *e, *old
	for _, x := range []*Event{&a, &b} {
		x.Seq, x.Time, x.Bytes, x.Dur, x.Count, x.Last = 0, time.Time{}, 0, 0, 0, time.Time{}
	}
	return a == b
}

// again counts e, which repeats old, into old.
func (old *Event) again(e *Event) {
	old.Count = max(old.Count, 1) + 1
	old.Seq, old.Last = e.Seq, e.Time
	if e.Bytes > old.Bytes {
		old.Bytes, old.Dur = e.Bytes, e.Dur
	}
}

// maxText is the longest text kept in a field of an event, in bytes. Longer
// ones come from nobody honest.
const maxText = 1024

// tidy bounds the texts of e, most of which come from the wire, and makes them
// what JSON can carry.
func (e *Event) tidy() {
	for _, s := range []*string{&e.Arch, &e.File, &e.Action, &e.Release, &e.Detail, &e.Err} {
		*s = strings.ToValidUTF8(*s, "?")
		if len(*s) > maxText {
			*s = strings.ToValidUTF8((*s)[:maxText-len("...")], "") + "..."
		}
	}
}
