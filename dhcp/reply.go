package dhcp

import (
	"net/netip"
	"time"

	"bootd/internal/timeline"
)

// Limits of a reply's UDP payload, in bytes.
const (
	minReply   = 300  // RFC 1542, section 2.1: BOOTP relays and old ROMs drop less
	safeReply  = 548  // RFC 2131, section 2: what every client takes
	maxReply   = 1472 // one Ethernet frame; edk2 drops more
	udpHeaders = 28   // IPv4 and UDP
	maxFile    = 127  // of the header's file field, which ends in a NUL
)

// start begins the reply to r. What is copied follows RFC 2131, table 3;
// options 61 (RFC 6842) and 82 (RFC 3046) go back as they came.
func (p *reply) start(r *request, typ MessageType, server netip.Addr) {
	p.begin()
	p.typ = typ
	p.buf[offHType] = r.htype
	if r.htype == htypeEthernet {
		p.buf[offHLen] = 6
	}
	copy(p.buf[offXID:], r.xid[:])
	p.buf[offFlags], p.buf[offFlags+1] = byte(r.flags>>8), byte(r.flags)
	p.setAddr(offGIAddr, r.GIAddr)
	copy(p.buf[offCHAddr:], r.chaddr[:])
	p.add(optMessageType, byte(typ))
	p.addAddrs(optServerID, server)
	if r.opts.has(optClientID) {
		p.add(optClientID, r.opts.get(optClientID)...)
	}
	if agent := r.opts.get(optAgent); r.opts.has(optAgent) {
		p.tail = append([]byte{optAgent, byte(len(agent))}, agent...)
	}
}

// refuse makes p a NAK: no address, no parameters, broadcast also by a relay
// (RFC 2131, section 4.3.2).
func (p *reply) refuse(r *request, server netip.Addr, why string) {
	p.start(r, Nak, server)
	if r.GIAddr.IsValid() {
		p.buf[offFlags] |= flagBroadcast >> 8
	}
	p.addString(optMessage, why)
}

// addLease adds an address and its times. T1 and T2 are what a client computes
// itself (RFC 2131, section 4.4.5), so they are sent only when asked for.
func (p *reply) addLease(r *request, s *Subnet, addr netip.Addr, d time.Duration) {
	p.setAddr(offYIAddr, addr)
	p.addSeconds(optLeaseTime, d)
	if s.Renew > 0 && s.Renew < s.Rebind && s.Rebind < d {
		p.addSeconds(optRenewal, s.Renew)
		p.addSeconds(optRebinding, s.Rebind)
		return
	}
	if r.wants(optRenewal) {
		p.addSeconds(optRenewal, d/2)
	}
	if r.wants(optRebinding) {
		p.addSeconds(optRebinding, d/8*7)
	}
}

func (p *reply) addSeconds(code byte, d time.Duration) { p.addUint32(code, uint32(d/time.Second)) }

// addOptions adds what an administrator set and the client asked for, unless a
// more specific place has set it already, be it for those who ask only. A
// client that takes classless routes ignores the router option, and should not
// be sent it (RFC 3442).
func (p *reply) addOptions(r *request, list []Option) {
	for i := range list {
		o := &list[i]
		if !o.Always && !r.wants(o.Code) {
			p.bar(o.Code)
		}
		if p.has(o.Code) {
			continue
		}
		p.add(o.Code, o.Value...)
		if o.Code == optRoutes {
			p.bar(optRouter)
			p.bar(optStaticRoutes)
		}
	}
}

// addNetwork adds the subnet's parameters. Mask, router and name servers go to
// every client, the rest to those that ask.
func (p *reply) addNetwork(r *request, s *Subnet, hostname string) {
	p.addUint32(optSubnetMask, ^uint32(0)<<(32-s.Prefix.Bits()))
	p.addAddrs(optRouter, s.Router)
	p.addAddrs(optDNS, s.DNS...)
	if r.wants(optNTP) {
		p.addAddrs(optNTP, s.NTP...)
	}
	if r.wants(optDomainName) && s.Domain != "" {
		p.addString(optDomainName, s.Domain)
	}
	if r.wants(optHostName) && hostname != "" {
		p.addString(optHostName, hostname)
	}
	if r.wants(optIPv6Only) && s.IPv6Only > 0 && !r.Client.boots() {
		p.addSeconds(optIPv6Only, s.IPv6Only)
	}
}

// addBoot tells a client what to load. Header and options say the same,
// because shim and GRUB read only the header and old Raspberry Pis only option
// 66. Both options end in a counted NUL: without it edk2 writes a zero over the
// code of the option that follows (docs/booting.md, "Deviations"). Option 60
// goes only to UEFI HTTP Boot, which needs it: sent alone to a PXE client it
// would send that to port 4011.
func (p *reply) addBoot(r *request, server netip.Addr, boot Boot) {
	if uuid := r.opts.get(optMachineID); len(uuid) > 0 {
		p.add(optMachineID, uuid...) // RFC 4578, section 2.3
	}
	if boot.File == "" {
		return
	}
	p.setAddr(offSIAddr, server)
	p.addString(optTFTPServer, server.String()+"\x00")
	p.addString(optBootFile, boot.File+"\x00")
	if len(boot.File) <= maxFile { // a part of a name helps nobody, and iPXE prefers the header
		copy(p.buf[offFile:], boot.File)
	}
	if r.Client.Arch == ArchPi {
		p.addString(optClass, classPXE)
		p.addString(optVendor, piMenu)
		return
	}
	switch r.Client.Stage {
	case timeline.UEFIHTTP:
		p.addString(optClass, classHTTP)
	case timeline.IPXE:
		p.add(optIPXE, 0xb0, 1, 1) // no-pxedhcp: do not wait for a proxy
	}
}

// addPXE makes the reply one of a PXE server, which is what firmware and iPXE
// want of an offer without an address, and on port 4011: option 60, and option
// 43 with PXE_DISCOVERY_CONTROL 8: load the file named here, no discovery, no
// menu. UEFI HTTP Boot and a Raspberry Pi have what they want already.
func (p *reply) addPXE(r *request) {
	if r.Client.Stage == timeline.UEFIHTTP || r.Client.Arch == ArchPi {
		return
	}
	p.addString(optClass, classPXE)
	p.add(optVendor, 6, 1, 8, 255)
}

// piMenu is the PXE menu that the boot loader of a Raspberry Pi looks for, as
// dnsmasq sends it: no discovery by broadcast or multicast, a prompt of no
// seconds, and one entry with the name. Without it a Pi takes the server for
// none of its own.
const piMenu = "\x06\x01\x03" + "\x0a\x04\x00PXE" + "\x09\x14\x00\x00\x11Raspberry Pi Boot" + "\xff"

// sizeLimit is the largest payload r's client takes. Option 57 counts the IP
// and UDP headers for some clients and not for others; subtracting them is
// right under both readings. OVMF claims 65280 in its REQUEST. No reply is sent
// in fragments, which firmware does not put together.
func sizeLimit(r *request) int {
	b := r.opts.get(optMaxSize)
	if len(b) != 2 {
		return safeReply
	}
	most := min(maxReply, r.link.conn().MTU()-udpHeaders)
	return min(max(int(uint16At(b, 0)), safeReply+udpHeaders)-udpHeaders, most)
}

// marshal closes p within the limit of r's client. Left out is first what was
// not asked for, then what was asked for last; never what makes the reply a
// reply, or a boot.
func (p *reply) marshal(r *request) []byte {
	asked := r.opts.get(optParameters)
	return p.finish(sizeLimit(r), func(code byte) int {
		switch code {
		case optSubnetMask, optVendor, optLeaseTime, optMessageType, optServerID, optClass, optClientID,
			optTFTPServer, optBootFile, optMachineID, optIPXE:
			return -1
		}
		for i, c := range asked {
			if c == code {
				return i
			}
		}
		return 256 + int(code)
	})
}
