package config

import (
	"fmt"
	"net"
	"net/netip"
)

// InterfaceAddrs returns the IPv4 addresses of a network interface of this
// machine, for Resolve.
func InterfaceAddrs(name string) (list []netip.Prefix, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("there is no network interface %q; there are %s", name, interfaceNames())
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			list = append(list, p)
		}
	}
	return list, nil
}

func interfaceNames() string {
	all, _ := net.Interfaces()
	var names string
	for i, ifi := range all {
		if i > 0 {
			names += ", "
		}
		names += ifi.Name
	}
	return names
}
