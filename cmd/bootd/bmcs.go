package main

import (
	"fmt"
	"time"

	"bootd/bmc"
	"bootd/deploy/payload"
	"bootd/internal/node"
)

// bmcsOf returns how to talk to the BMCs with these MACs, each under the name
// given for it and at the address that it leases; without one its Host is empty,
// which is an error of whatever is asked of it. An error here is that of all.
func (d *daemon) bmcsOf(macs map[node.MAC]string, timeout time.Duration) ([]bmc.BMC, error) {
	cfg := d.config().BMC
	password, err := payload.ReadSecret(cfg.Password)
	if err != nil {
		return nil, fmt.Errorf("bmc: password-file: %w", err)
	}
	protocol, err := bmc.ParseProtocol(cfg.Protocol)
	if err != nil {
		return nil, err
	}
	hosts, bmcs := d.leasedTo(macs), make([]bmc.BMC, 0, len(macs))
	for _, name := range macs {
		bmcs = append(bmcs, bmc.BMC{Node: name, Host: hosts[name], Protocol: protocol, User: cfg.User, Password: bmc.NewSecret(password), Timeout: timeout})
	}
	return bmcs, nil
}

// leasedTo returns the addresses that NICs hold, by the names given for them.
func (d *daemon) leasedTo(macs map[node.MAC]string) map[string]string {
	hosts, now := map[string]string{}, d.dhcp.Now()
	for l := range d.dhcp.Leases.Each() {
		if name, ok := macs[l.MAC]; ok && l.Active(now) {
			hosts[name] = l.Addr.String()
		}
	}
	return hosts
}
