// Package timeline keeps the steps each machine takes from power-on to
// check-in, so that "why did my node not boot" has an answer.
//
// A Log holds the last events of each machine in memory, writes them to a
// table in the background, and hands them to those who watch. Recording never
// waits for the disk: a crash may lose the last quarter of a second of events
// (leases and decisions are kept elsewhere and are durable). Both the number
// of machines and the events kept of each are bounded.
package timeline

import (
	"net/netip"
	"time"

	"bootd/internal/node"
)

// A Step names what happened. Steps are part of the JSON output of bootctl, so
// a name is never changed.
type Step string

// The steps, in the order a boot takes them.
const (
	Discover Step = "dhcp-discover" // machine asks for an address
	Offer    Step = "dhcp-offer"    // we offered Addr
	Request  Step = "dhcp-request"  // machine asks for the offered, or its old, address
	Ack      Step = "dhcp-ack"      // Addr is leased, and that is on disk
	Nak      Step = "dhcp-nak"      // machine may not use the address it asked for
	Decline  Step = "dhcp-decline"  // machine found Addr in use by somebody else
	Release  Step = "dhcp-release"  // machine gave Addr back
	Inform   Step = "dhcp-inform"   // machine with an address asks for options
	NoAddr   Step = "dhcp-no-addr"  // no address left to offer
	TFTP     Step = "tftp"          // file sent over TFTP
	HTTP     Step = "http"          // file sent over HTTP
	Script   Step = "script"        // decision rendered as a boot script
	CheckIn  Step = "check-in"      // booted system reported back
	Report   Step = "report"        // boot script reported an error
)

// A Stage is which program of the boot chain is speaking.
type Stage string

// The stages.
const (
	Firmware Stage = "firmware" // PXE ROM, UEFI PXE
	UEFIHTTP Stage = "uefi-http"
	IPXE     Stage = "ipxe"
	OS       Stage = "os" // initrd, operating system, BMC: nothing that netboots
)

// An Event is one step of one machine.
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
	Action  string        `json:"action,omitempty"`  // decision, for Script
	Release string        `json:"release,omitempty"` //
	Detail  string        `json:"detail,omitempty"`  // one line for people
	Bytes   int64         `json:"bytes,omitempty"`   // sent
	Dur     time.Duration `json:"dur_ns,omitempty"`  // of the transfer
	Err     string        `json:"err,omitempty"`     // why the step failed; empty: it did not
}

// Machine returns the key that an event's machine is kept under: its node name
// where there is one, else its MAC, else its address.
func (e *Event) Machine() string {
	switch {
	case e.Node != "":
		return e.Node
	case !e.MAC.IsZero():
		return e.MAC.String()
	default:
		return e.Addr.String()
	}
}
