package ipxe

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// A Machine is what a request tells of the machine that sent it.
type Machine struct {
	Name   string     // node whose script was asked for by name; empty: by what follows
	MAC    node.MAC   // zero: not known
	UUID   node.UUID  // zero: not known
	Serial string     // empty: not known, or the placeholder of a board maker
	Addr   netip.Addr // where the request came from
	Peek   bool       // it only looks: nothing follows from the answer

	Firmware node.Firmware // how it started; empty: not known
}

// machine reads the query of EntryURL. Values that do not parse count as not
// given: firmware is not to be argued with.
func machine(q url.Values, addr netip.Addr) Machine {
	m := Machine{Addr: addr, Serial: serial(q.Get("serial")), Firmware: platforms[q.Get("fw")]}
	if mac, err := node.ParseMAC(q.Get("mac")); err == nil && !mac.IsGroup() {
		m.MAC = mac
	}
	if u, err := node.ParseUUID(q.Get("uuid")); err == nil && u.Plausible() {
		m.UUID = u
	}
	return m
}

// platforms are what iPXE says in ${platform}.
var platforms = map[string]node.Firmware{"pcbios": node.BIOS, "efi": node.UEFI}

// maxSerial is longer than any serial number seen.
const maxSerial = 64

// serial returns s, or "" when s cannot be a serial number: too long, not
// printable, or what boards carry that nobody gave one.
func serial(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxSerial || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	switch strings.ToLower(strings.TrimRight(s, ". ")) {
	case "to be filled by o.e.m", "to be filled by oem", "default string",
		"system serial number", "serial number", "not specified", "not applicable",
		"not available", "none", "n/a", "na", "null", "invalid", "unknown", "oem", "empty",
		"123456789", "0123456789", "1234567890":
		return ""
	}
	if strings.Trim(s, s[:min(1, len(s))]) == "" { // 0000000, xxxxxxx
		return ""
	}
	return s
}

// stage returns which program of the boot chain sent a request.
func stage(r *http.Request) timeline.Stage {
	switch ua := r.UserAgent(); {
	case strings.HasPrefix(ua, "iPXE/"):
		return timeline.IPXE
	case strings.HasPrefix(ua, "UefiHttpBoot/"):
		return timeline.UEFIHTTP
	case strings.HasPrefix(ua, "GRUB "):
		return timeline.GRUB
	}
	return timeline.OS
}

// remote returns the address a request came from.
func remote(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}
