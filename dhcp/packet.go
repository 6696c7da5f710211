package dhcp

import (
	"bytes"
	"errors"
	"net/netip"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// Why a packet is dropped: metric labels, and the log at debug level.
var (
	errShort  = errors.New("shorter than a DHCP header")
	errOp     = errors.New("not a client's packet")
	errCookie = errors.New("no DHCP magic cookie")
	errHLen   = errors.New("impossible hardware address")
	errRelay  = errors.New("impossible relay address")
	errNoID   = errors.New("neither a hardware address nor a client identifier")
	errNoType = errors.New("no DHCP message type")
	errLooped = errors.New("too many relays")
)

// Hardware types (RFC 1700).
const (
	htypeEthernet   = 1
	htypeInfiniBand = 32 // hlen 0: the client identifier is the identity (RFC 4390)
)

const (
	maxHops       = 16
	minClientID   = 2   // RFC 2132, section 9.14
	maxOption     = 255 // no option we read or echo is longer; joined beyond this it is somebody's test
	flagBroadcast = 0x8000
)

// A request is a client's packet with what the server reads from it. Its
// options are parts of the packet.
type request struct {
	Type    MessageType
	htype   byte
	xid     [4]byte
	flags   uint16
	chaddr  [16]byte
	opts    options
	wanted  [4]uint64  // set of option 55
	MAC     node.MAC   // zero when the hardware type has no MAC
	Asked   netip.Addr // option 50; zero: absent
	Server  netip.Addr // option 54; zero: absent
	CIAddr  netip.Addr // zero: 0.0.0.0
	GIAddr  netip.Addr // relay agent; zero: none
	Client  Client
	relay   relayInfo
	link    *link
	from    netip.AddrPort // source of the packet
	unicast bool           // sent to us, not to everybody
	on4011  bool           // arrived on the PXE port
}

// wants reports whether the client asked for an option.
func (r *request) wants(code byte) bool { return r.wanted[code/64]>>(code%64)&1 != 0 }

// parse reads a packet into r, of which only the memory of its options is used
// again. It accepts what deployed firmware gets wrong: options that end
// without END, padding anywhere, a truncated last option, options repeated
// (RFC 3396) or continued in file and sname (RFC 2131, section 4.1). It
// refuses what cannot be answered.
func (r *request) parse(b []byte) error {
	switch {
	case len(b) < headerLen:
		return errShort
	case b[offOp] != opRequest:
		return errOp
	case !bytes.Equal(b[offCookie:headerLen], cookie[:]):
		return errCookie
	case b[offHops] > maxHops:
		return errLooped
	case !plausibleHW(b[offHType], b[offHLen], node.MAC(b[offCHAddr:offCHAddr+6])):
		return errHLen
	}
	*r = request{
		opts:  readOptions(r.opts[:0], b),
		htype: b[offHType], xid: [4]byte(b[offXID:]), flags: uint16At(b, offFlags), chaddr: [16]byte(b[offCHAddr:]),
		CIAddr: addrOf(b[offCIAddr : offCIAddr+4]), GIAddr: addrOf(b[offGIAddr : offGIAddr+4]),
	}
	typ := r.opts.get(optMessageType)
	if len(typ) != 1 || typ[0] == 0 {
		return errNoType
	}
	switch {
	case !plausibleRelay(r.GIAddr):
		return errRelay
	case r.htype != htypeEthernet && len(r.opts.get(optClientID)) < minClientID:
		return errNoID
	}
	r.Type = MessageType(typ[0])
	if r.htype == htypeEthernet {
		r.MAC = node.MAC(r.chaddr[:6])
	}
	for _, code := range r.opts.get(optParameters) {
		r.wanted[code/64] |= 1 << (code % 64)
	}
	r.Asked, r.Server = r.opts.addr(optRequestedAddr), r.opts.addr(optServerID)
	r.Client = classify(r.opts, r.MAC)
	return nil
}

// plausibleHW reports whether a hardware address can be a client's: Ethernet
// with a unicast MAC, or a type whose clients are known by option 61.
func plausibleHW(htype, hlen byte, mac node.MAC) bool {
	if htype == htypeEthernet {
		return hlen == 6 && !mac.IsZero() && !mac.IsGroup()
	}
	return hlen == 0
}

// plausibleRelay reports whether a can be the address of a relay agent.
func plausibleRelay(a netip.Addr) bool {
	return !a.IsValid() || !a.IsLoopback() && !a.IsMulticast() && a != everybody
}

// readOptions reads the options of a packet from all the areas they are in.
func readOptions(opts options, b []byte) options {
	opts = opts.scan(b[headerLen:])
	if overload := opts.get(optOverload); len(overload) == 1 {
		if overload[0]&1 != 0 {
			opts = opts.scan(b[offFile:offCookie])
		}
		if overload[0]&2 != 0 {
			opts = opts.scan(b[offSname:offFile])
		}
	}
	kept := opts[:0]
	for _, o := range opts {
		if len(o.data) <= maxOption {
			kept = append(kept, o)
		}
	}
	return kept
}

// broadcasts reports whether the client cannot take a unicast reply.
func (r *request) broadcasts() bool { return r.flags&flagBroadcast != 0 }

// boots reports whether the client is one that loads what we name.
func (c *Client) boots() bool { return c.Stage != timeline.OS }
