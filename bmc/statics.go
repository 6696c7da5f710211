package bmc

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"bootd/internal/node"
)

// A Record is what the configuration of dnsmasq says of a name: an address of
// a host-record, or an address and a MAC of a dhcp-host.
type Record struct {
	Name string
	Addr netip.Addr // zero: not said
	MAC  node.MAC   // zero: not said
}

// ReadStatics reads the names of BMCs, those that end in -mgmt, out of a file
// of dnsmasq's configuration such as statics.conf of source 004:
//
//	host-record=ncn-m002-mgmt,ncn-m002-mgmt.hmn,10.254.1.6
//	dhcp-host=52:54:00:00:00:06,10.254.1.6,ncn-m002-mgmt,20m #HMN
//
// All other lines are dnsmasq's. The error joins a *LineError for each bad
// line; the other records are returned with it.
func ReadStatics(r io.Reader) (records []Record, err error) {
	err = eachLine(r, func(line string) error {
		if before, _, comment := strings.Cut(line, "#"); comment {
			line = before
		}
		key, value, _ := strings.Cut(line, "=")
		var rec Record
		var err error
		switch strings.TrimSpace(key) {
		case "host-record":
			rec, err = parseHostRecord(strings.Split(value, ","))
		case "dhcp-host":
			rec = parseDHCPHost(strings.Split(value, ","))
		}
		if _, ok := hostOf(rec.Name); ok && err == nil {
			records = append(records, rec)
		}
		return err
	})
	return records, err
}

// parseHostRecord takes the first short name that is a BMC's and the first
// IPv4 address. Only records of BMCs can be bad.
func parseHostRecord(fields []string) (r Record, err error) {
	for _, f := range fields {
		f = strings.TrimSpace(f)
		if addr, err := netip.ParseAddr(f); err == nil && addr.Is4() && !r.Addr.IsValid() {
			r.Addr = addr
		} else if _, ok := hostOf(f); ok && r.Name == "" {
			r.Name = f
		}
	}
	if r.Name != "" && !r.Addr.IsValid() {
		return r, fmt.Errorf("host-record %q: no IPv4 address", r.Name)
	}
	return r, nil
}

// parseDHCPHost takes the first MAC; a BMC has one.
func parseDHCPHost(fields []string) (r Record) {
	for _, f := range fields {
		f = strings.TrimSpace(f)
		if addr, err := netip.ParseAddr(f); err == nil && addr.Is4() {
			r.Addr = addr
		} else if mac, err := node.ParseMAC(f); err == nil && r.MAC.IsZero() {
			r.MAC = mac
		} else if _, ok := hostOf(f); ok {
			r.Name = f
		}
	}
	return r
}

// suffix is what the name of a BMC has after that of its node.
const suffix = "-mgmt"

// hostOf returns the node that a BMC of this name belongs to.
func hostOf(name string) (host string, ok bool) {
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	host, ok = strings.CutSuffix(name, suffix)
	return host, ok && node.ValidName(host)
}
