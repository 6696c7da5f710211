// Package lease holds a DHCP lease as administrators and their tools see it,
// and the notations in which files keep many: JSON (an object per line), CSV,
// and the lease file of dnsmasq.
//
// Reading takes one line at a time and never more than maxLine bytes of it, so
// that a file of any size costs the same memory. A line that is wrong is
// handed on with its number and what is wrong with it; the lines after it are
// read all the same.
package lease

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"bootd/internal/node"
)

// Waiting is the file in the state directory with leases of another server, in
// JSON. The daemon takes them in when it starts, before it answers anybody, and
// then removes the file.
const Waiting = "leases.import"

// A State is how a lease stands.
type State string

// The states.
const (
	Bound    State = "bound"    // its machine may use the address until Expires
	Expired  State = "expired"  // was bound; kept for its machine while nobody else needs the address
	Released State = "released" // given back at Expires; kept likewise
	Declined State = "declined" // a stranger uses the address; leased to nobody before Expires
)

// InForce reports whether the address can be had by nobody else.
func (s State) InForce() bool { return s == Bound || s == Declined }

// ParseState reads the word that String writes.
func ParseState(s string) (State, error) {
	switch st := State(s); st {
	case Bound, Expired, Released, Declined:
		return st, nil
	}
	return "", fmt.Errorf("%q is not one of bound, expired, released, declined", s)
}

// Never is when an infinite lease expires.
var Never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// A Lease is what is known of one address. Times are whole seconds, in UTC.
type Lease struct {
	Addr     netip.Addr `json:"ip"`
	MAC      node.MAC   `json:"mac,omitzero"` // zero: the machine has none, or the address is declined
	State    State      `json:"state"`
	Node     string     `json:"node,omitempty"`      // of the inventory; <node>-mgmt: its BMC; empty: a stranger
	Name     string     `json:"name,omitempty"`      // what to call the machine: Node, or else its own host name where that is one
	Start    time.Time  `json:"start,omitzero"`      // when the machine first got the address; zero: not known
	Expires  time.Time  `json:"expires"`             // Never: it does not
	ClientID string     `json:"client_id,omitempty"` // in pairs of hex digits: 01:52:54:00:aa:bb:07; empty: none
	Hostname string     `json:"hostname,omitempty"`  // what the machine calls itself; what does not print is "?"
}

// FormatID writes a client identifier in pairs of hex digits.
func FormatID(id string) string {
	if id == "" {
		return ""
	}
	b := make([]byte, 0, 3*len(id)-1)
	for i := range len(id) {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{id[i]})
	}
	return string(b)
}

// maxID is the most bytes that a DHCP option holds.
const maxID = 255

// ParseID reads what FormatID wrote.
func ParseID(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) > maxID || len(s) != 3*len(b)-1 {
		return "", fmt.Errorf("%.80q is not a client identifier such as 01:52:54:00:aa:bb:07", s)
	}
	return string(b), nil
}

// Printable makes of what a machine sent a text that is harmless everywhere.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Label returns the host name in what a machine calls itself, without its
// domain, as dnsmasq takes it; "" when it is no host name (RFC 1123, section
// 2.1).
func Label(hostname string) string {
	label, _, _ := strings.Cut(hostname, ".")
	if !node.ValidName(strings.ToLower(label)) {
		return ""
	}
	return label
}
