package bmc

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"bootd/internal/node"
)

// A Lease is an address that a DHCP server gave to a MAC.
type Lease struct {
	Expiry time.Time // zero: never
	MAC    node.MAC
	Addr   netip.Addr
	Host   string // name that the client has; empty: none
}

// Live reports whether the lease holds at that time. A lease file outlives the
// machines in it, so one that has ended shows nothing.
func (l Lease) Live(now time.Time) bool { return l.Expiry.IsZero() || now.Before(l.Expiry) }

// ReadLeases reads the lease file of dnsmasq. Its lines are
//
//	<expiry> <mac> <address> <host or *> <client-id or *>
//
// with the expiry in seconds since 1970, 0 meaning never. Leases of other
// hardware than Ethernet, and those of IPv6, which follow a line "duid ...",
// are passed over. The error joins a *LineError for each bad line; the other
// lines are returned with it.
func ReadLeases(r io.Reader) (leases []Lease, err error) {
	v6 := false
	err = eachLine(r, func(line string) error {
		f := strings.Fields(line)
		v6 = v6 || len(f) == 2 && f[0] == "duid"
		if v6 || len(f) == 0 || len(f) > 1 && otherHardware(f[1]) {
			return nil
		}
		l, err := parseLease(f)
		if err == nil {
			leases = append(leases, l)
		}
		return err
	})
	return leases, err
}

// otherHardware reports whether dnsmasq wrote the type of the hardware before
// the address, as in 20-00:01:..., which it does for all but Ethernet.
func otherHardware(mac string) bool {
	return len(mac) > 2 && mac[2] == '-' && strings.Contains(mac, ":")
}

func parseLease(f []string) (l Lease, err error) {
	if len(f) < 4 || len(f) > 5 {
		return l, fmt.Errorf("%d fields, want 5: expiry, MAC, address, host and client-id", len(f))
	}
	seconds, err := strconv.ParseUint(f[0], 10, 40)
	if err != nil {
		return l, fmt.Errorf("expiry: %q is not a time in seconds", f[0])
	}
	if seconds != 0 {
		l.Expiry = time.Unix(int64(seconds), 0)
	}
	if l.MAC, err = node.ParseMAC(f[1]); err != nil {
		return l, err
	}
	if l.Addr, err = netip.ParseAddr(f[2]); err != nil || !l.Addr.Is4() {
		return l, fmt.Errorf("address: %q is not an IPv4 address", f[2])
	}
	if f[3] != "*" {
		l.Host = f[3]
	}
	return l, nil
}
