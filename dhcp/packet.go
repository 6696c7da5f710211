package dhcp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
)

// Why a packet is dropped. Only the name is used, as a metric label and in the
// log at debug level.
var (
	errShort  = errors.New("shorter than a DHCP header")
	errOp     = errors.New("not a client's packet")
	errCookie = errors.New("no DHCP magic cookie")
	errHLen   = errors.New("impossible hardware address")
	errNoType = errors.New("no DHCP message type")
	errCodec  = errors.New("does not parse")
	errLooped = errors.New("too many relays")
)

// The fixed part of a DHCP packet, in bytes (RFC 2131, section 2).
const (
	offFile   = 108
	offSname  = 44
	offCookie = 236
	headerLen = 240
	maxHops   = 16
	maxOption = 255 // no option we read or echo is longer; joined beyond this it is somebody's test
)

// Hardware types (RFC 1700).
const (
	htypeEthernet   = 1
	htypeInfiniBand = 32 // hlen 0: the client identifier is the identity (RFC 4390)
)

// A request is a client's packet with what the server reads from it.
type request struct {
	*dhcpv4.DHCPv4
	Type    dhcpv4.MessageType
	MAC     node.MAC   // zero when the hardware type has no MAC
	Asked   netip.Addr // option 50; zero: absent
	Server  netip.Addr // option 54; zero: absent
	CIAddr  netip.Addr // zero: 0.0.0.0
	GIAddr  netip.Addr // relay agent; zero: none
	Client  Client
	link    *link
	from    netip.AddrPort // source of the packet
	arrived time.Time
	unicast bool // sent to us, not to everybody
	on4011  bool // arrived on the PXE port
}

// parse makes a request of a packet. It accepts what deployed firmware gets
// wrong: options that end without END, padding anywhere, a truncated last
// option, options repeated (RFC 3396) or continued in file and sname (RFC
// 2131, section 4.1). It refuses what cannot be answered.
func parse(b []byte) (*request, error) {
	clean, err := normalize(b)
	if err != nil {
		return nil, err
	}
	p, err := dhcpv4.FromBytes(clean)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errCodec, err)
	}
	for code, value := range p.Options {
		if len(value) > maxOption {
			delete(p.Options, code)
		}
	}
	r := &request{DHCPv4: p, Type: p.MessageType()}
	if r.Type == dhcpv4.MessageTypeNone {
		return nil, errNoType
	}
	if p.HWType == htypeEthernet {
		r.MAC = node.MAC(p.ClientHWAddr)
	}
	r.Asked = addrOption(p, dhcpv4.OptionRequestedIPAddress)
	r.Server = addrOption(p, dhcpv4.OptionServerIdentifier)
	r.CIAddr, r.GIAddr = addrOf(p.ClientIPAddr), addrOf(p.GatewayIPAddr)
	r.Client = classify(p, r.MAC)
	return r, nil
}

// normalize checks the header and rewrites the options of b into the form the
// codec takes: each option once, in one area, with END.
func normalize(b []byte) ([]byte, error) {
	switch {
	case len(b) < headerLen:
		return nil, errShort
	case b[0] != byte(dhcpv4.OpcodeBootRequest):
		return nil, errOp
	case !bytes.Equal(b[offCookie:headerLen], []byte{0x63, 0x82, 0x53, 0x63}):
		return nil, errCookie
	case b[3] > maxHops:
		return nil, errLooped
	case !plausibleHW(b[1], b[2], node.MAC(b[28:34])):
		return nil, errHLen
	}
	opts := scan(nil, b[headerLen:])
	overload := first(opts, byte(dhcpv4.OptionOptionOverload))
	out := bytes.Clone(b[:headerLen])
	if len(overload) == 1 && overload[0]&1 != 0 {
		opts = scan(opts, b[offFile:offCookie])
		clear(out[offFile:offCookie])
	}
	if len(overload) == 1 && overload[0]&2 != 0 {
		opts = scan(opts, b[offSname:offFile])
		clear(out[offSname:offFile])
	}
	return rewrite(out, opts), nil
}

// plausibleHW reports whether a hardware address can be a client's: Ethernet
// with a unicast MAC, or a type whose clients are known by option 61.
func plausibleHW(htype, hlen byte, mac node.MAC) bool {
	if htype == htypeEthernet {
		return hlen == 6 && !mac.IsZero() && !mac.IsGroup()
	}
	return hlen == 0
}

// An option is one option as it stands in a packet.
type option struct {
	code byte
	data []byte
}

// scan appends the options of one area. A last option that runs past the end
// is dropped: the rest of the packet is still worth an answer.
func scan(opts []option, area []byte) []option {
	for len(area) > 0 {
		switch code := area[0]; {
		case code == 0: // pad
			area = area[1:]
		case code == 255, len(area) < 2, len(area) < 2+int(area[1]):
			return opts
		default:
			end := 2 + int(area[1])
			opts = append(opts, option{code, area[2:end]})
			area = area[end:]
		}
	}
	return opts
}

func first(opts []option, code byte) []byte {
	for _, o := range opts {
		if o.code == code {
			return o.data
		}
	}
	return nil
}

// single lists the options whose repetition is an error and not a
// continuation: the first one counts.
func single(code byte) bool {
	switch code {
	case dhcpv4.OptionDHCPMessageType.Code(), dhcpv4.OptionRequestedIPAddress.Code(), dhcpv4.OptionServerIdentifier.Code():
		return true
	}
	return false
}

// rewrite appends options to a header so that the codec joins repeated ones,
// and closes them with END.
func rewrite(out []byte, opts []option) []byte {
	var seen [256]bool
	for _, o := range opts {
		if seen[o.code] && single(o.code) || o.code == byte(dhcpv4.OptionOptionOverload) {
			continue
		}
		seen[o.code] = true
		out = append(append(out, o.code, byte(len(o.data))), o.data...)
	}
	return append(out, 255)
}

// addrOption returns an option that holds one IPv4 address; the zero Addr when
// it is absent or has another length.
func addrOption(p *dhcpv4.DHCPv4, code dhcpv4.OptionCode) netip.Addr {
	return addrOf(p.Options.Get(code))
}

// addrOf converts an address of the codec; 0.0.0.0 and nonsense become the
// zero Addr.
func addrOf(ip []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
