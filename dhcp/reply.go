package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

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

// newReply starts the reply to r. What is copied follows RFC 2131, table 3;
// options 61 (RFC 6842) and 82 (RFC 3046) go back as they came.
func newReply(r *request, typ dhcpv4.MessageType, server netip.Addr) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: r.HWType, TransactionID: r.TransactionID,
		Flags: r.Flags, GatewayIPAddr: r.GatewayIPAddr, ClientHWAddr: r.ClientHWAddr,
		Options: dhcpv4.Options{},
	}
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionClientIdentifier, dhcpv4.OptionRelayAgentInformation} {
		if b := r.Options.Get(code); r.Options.Has(code) {
			p.UpdateOption(dhcpv4.OptGeneric(code, b))
		}
	}
	p.UpdateOption(dhcpv4.OptMessageType(typ))
	p.UpdateOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
	return p
}

// newNak is a refusal: no address, no parameters, broadcast also by a relay
// (RFC 2131, section 4.3.2).
func newNak(r *request, server netip.Addr, why string) *dhcpv4.DHCPv4 {
	p := newReply(r, dhcpv4.MessageTypeNak, server)
	if r.GIAddr.IsValid() {
		p.Flags |= flagBroadcast
	}
	p.UpdateOption(dhcpv4.OptMessage(why))
	return p
}

const flagBroadcast = 0x8000

// setLease adds an address and its times. T1 and T2 are what a client computes
// itself (RFC 2131, section 4.4.5), so they are sent only when asked for.
func setLease(p *dhcpv4.DHCPv4, r *request, addr netip.Addr, d time.Duration) {
	p.YourIPAddr = addr.AsSlice()
	p.UpdateOption(dhcpv4.OptIPAddressLeaseTime(d))
	if r.IsOptionRequested(dhcpv4.OptionRenewTimeValue) {
		p.UpdateOption(seconds(dhcpv4.OptionRenewTimeValue, d/2))
	}
	if r.IsOptionRequested(dhcpv4.OptionRebindingTimeValue) {
		p.UpdateOption(seconds(dhcpv4.OptionRebindingTimeValue, d/8*7))
	}
}

func seconds(code dhcpv4.OptionCode, d time.Duration) dhcpv4.Option {
	return dhcpv4.OptGeneric(code, binary.BigEndian.AppendUint32(nil, uint32(d/time.Second)))
}

// setNetwork adds the subnet's parameters. Mask, router and name servers go to
// every client, the rest to those that ask.
func setNetwork(p *dhcpv4.DHCPv4, r *request, s *Subnet, hostname string) {
	mask := ^uint32(0) << (32 - s.Prefix.Bits())
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionSubnetMask, binary.BigEndian.AppendUint32(nil, mask)))
	setAddrs(p, dhcpv4.OptionRouter, s.Router)
	setAddrs(p, dhcpv4.OptionDomainNameServer, s.DNS...)
	if r.IsOptionRequested(dhcpv4.OptionNTPServers) {
		setAddrs(p, dhcpv4.OptionNTPServers, s.NTP...)
	}
	if r.IsOptionRequested(dhcpv4.OptionDomainName) && s.Domain != "" {
		p.UpdateOption(dhcpv4.OptDomainName(s.Domain))
	}
	if r.IsOptionRequested(dhcpv4.OptionHostName) && hostname != "" {
		p.UpdateOption(dhcpv4.OptHostName(hostname))
	}
}

// setAddrs adds a list of addresses unless it is empty.
func setAddrs(p *dhcpv4.DHCPv4, code dhcpv4.OptionCode, addrs ...netip.Addr) {
	var b []byte
	for _, a := range addrs {
		if a.IsValid() {
			b = append(b, a.AsSlice()...)
		}
	}
	if b != nil {
		p.UpdateOption(dhcpv4.OptGeneric(code, b))
	}
}

// setBoot tells a client what to load. Header and options say the same,
// because shim and GRUB read only the header and old Raspberry Pis only option
// 66. Both options end in a counted NUL: without it edk2 writes a zero over the
// code of the option that follows (docs/booting.md, "Deviations"). Option 60
// goes only to UEFI HTTP Boot, which needs it: sent alone to a PXE client it
// would send that to port 4011.
func setBoot(p *dhcpv4.DHCPv4, r *request, server netip.Addr, boot Boot) {
	if uuid := r.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(uuid) > 0 {
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, uuid)) // RFC 4578, section 2.3
	}
	if boot.File == "" {
		return
	}
	p.ServerIPAddr = server.AsSlice()
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionTFTPServerName, nulled(server.String())))
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionBootfileName, nulled(boot.File)))
	if len(boot.File) <= maxFile { // the codec would cut a longer one, and iPXE prefers the header
		p.BootFileName = boot.File
	}
	switch r.Client.Stage {
	case timeline.UEFIHTTP:
		p.UpdateOption(dhcpv4.OptClassIdentifier(classHTTP))
	case timeline.IPXE:
		p.UpdateOption(dhcpv4.OptGeneric(optIPXE, []byte{0xb0, 1, 1})) // no-pxedhcp: do not wait for a proxy
	}
}

func nulled(s string) []byte { return append([]byte(s), 0) }

// sizeLimit is the largest payload r's client takes. Option 57 counts the IP
// and UDP headers for some clients and not for others; subtracting them is
// right under both readings. OVMF claims 65280 in its REQUEST.
func sizeLimit(r *request) int {
	b := r.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize)
	if len(b) != 2 {
		return safeReply
	}
	return min(max(int(binary.BigEndian.Uint16(b)), safeReply+udpHeaders)-udpHeaders, maxReply)
}

// marshal returns p as bytes within the client's limit and at least minReply
// long.
func marshal(p *dhcpv4.DHCPv4, r *request) []byte {
	limit := sizeLimit(r)
	b := p.ToBytes()
	for len(b) > limit {
		code, ok := expendable(p, r)
		if !ok {
			break
		}
		p.Options.Del(code)
		b = p.ToBytes()
	}
	if pad := minReply - len(b); pad > 0 {
		b = append(b, make([]byte, pad)...)
	}
	return b
}

// expendable names the option to leave out of a reply that is too long: first
// one that was not asked for, then the one asked for last. What makes the
// reply a reply, or a boot, is never left out; option 82 only as a whole.
func expendable(p *dhcpv4.DHCPv4, r *request) (dhcpv4.OptionCode, bool) {
	asked := r.ParameterRequestList()
	worst, rank := uint8(0), -1
	for code := range p.Options {
		if slices.Contains(essential, code) {
			continue
		}
		at := slices.IndexFunc(asked, func(c dhcpv4.OptionCode) bool { return c.Code() == code })
		if at < 0 {
			at = 256 + int(code)
		}
		if at > rank {
			worst, rank = code, at
		}
	}
	return dhcpv4.GenericOptionCode(worst), rank >= 0
}

var essential = []uint8{1, 43, 51, 53, 54, 60, 61, 66, 67, 82, 97, 175}
