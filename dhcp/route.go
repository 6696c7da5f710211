package dhcp

import (
	"cmp"
	"net/netip"

	"bootd/internal/node"
)

// Ports (RFC 2131, section 4.1; PXE 2.1, section 2.2.1).
const (
	ServerPort = 67
	ClientPort = 68
	PXEPort    = 4011
)

// A destination is where a reply goes, and from which of our ports.
type destination struct {
	to       netip.AddrPort
	frame    node.MAC // set: the client cannot answer ARP yet, address the frame itself
	fromPort uint16
}

var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// route says where the reply p to r goes (RFC 2131, section 4.1, in its order;
// section 4.3.2 for NAK).
func route(r *request, p *reply) destination {
	to := func(a netip.Addr, port uint16) destination {
		return destination{to: netip.AddrPortFrom(a, port), fromPort: ServerPort}
	}
	yiaddr := p.addrAt(offYIAddr)
	switch {
	case r.on4011:
		return destination{to: r.from, fromPort: PXEPort}
	case r.GIAddr.IsValid():
		return to(r.GIAddr, cmp.Or(r.relay.port, ServerPort))
	case p.typ == Nak:
		return to(everybody, ClientPort)
	case r.CIAddr.IsValid():
		return to(r.CIAddr, ClientPort)
	case r.Type == Inform && r.from.Addr().IsValid() && !r.from.Addr().IsUnspecified():
		return to(r.from.Addr(), ClientPort) // a client that forgot ciaddr
	case r.broadcasts() || !yiaddr.IsValid() || r.MAC.IsZero():
		return to(everybody, ClientPort)
	default:
		d := to(yiaddr, ClientPort)
		d.frame = r.MAC
		return d
	}
}
