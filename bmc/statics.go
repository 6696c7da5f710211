package bmc

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"bootd/internal/dnsmasq"
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
		said := dnsmasq.ParseText(line)
		for _, h := range said.Hosts {
			if _, ok := hostOf(h.Name); ok {
				rec := Record{Name: h.Name, Addr: h.Addr}
				if len(h.MACs) > 0 {
					rec.MAC = h.MACs[0] // a BMC has one
				}
				records = append(records, rec)
			}
		}
		for _, x := range said.Records {
			i := slices.IndexFunc(x.Names, func(name string) bool { _, ok := hostOf(name); return ok })
			if i < 0 {
				continue
			}
			if !x.Addr.IsValid() {
				return fmt.Errorf("host-record %q: no IPv4 address", x.Names[i])
			}
			records = append(records, Record{Name: x.Names[i], Addr: x.Addr})
		}
		return nil
	})
	return records, err
}

// NodeOf returns the node that a BMC of this name belongs to, and reports
// whether the name is a BMC's: <node>-mgmt, with a domain or without.
func NodeOf(name string) (host string, ok bool) { return hostOf(name) }

// suffix is what the name of a BMC has after that of its node.
const suffix = "-mgmt"

// hostOf returns the node that a BMC of this name belongs to.
func hostOf(name string) (host string, ok bool) {
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	host, ok = strings.CutSuffix(name, suffix)
	return host, ok && node.ValidName(host)
}
