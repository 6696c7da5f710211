package dhcp

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// A MessageType is the value of option 53 (RFC 2132, section 9.6).
type MessageType uint8

// The message types of clients and servers.
const (
	Discover MessageType = iota + 1
	Offer
	Request
	Decline
	Ack
	Nak
	Release
	Inform
)

var messageTypes = [...]string{
	Discover: "DISCOVER", Offer: "OFFER", Request: "REQUEST", Decline: "DECLINE",
	Ack: "ACK", Nak: "NAK", Release: "RELEASE", Inform: "INFORM",
}

// String returns the name in the RFC, or the number of a type that is not of
// RFC 2131.
func (t MessageType) String() string {
	if t >= Discover && t <= Inform {
		return messageTypes[t]
	}
	return strconv.Itoa(int(t))
}

// Options (RFC 2132 and IANA's BOOTP Vendor Extensions and DHCP Options).
const (
	optPad           = 0
	optSubnetMask    = 1
	optRouter        = 3
	optStaticRoutes  = 33
	optDNS           = 6
	optHostName      = 12
	optDomainName    = 15
	optNTP           = 42
	optVendor        = 43
	optRequestedAddr = 50
	optLeaseTime     = 51
	optOverload      = 52
	optMessageType   = 53
	optServerID      = 54
	optParameters    = 55
	optMessage       = 56
	optMaxSize       = 57
	optRenewal       = 58
	optRebinding     = 59
	optClass         = 60
	optClientID      = 61
	optTFTPServer    = 66
	optBootFile      = 67
	optUserClass     = 77
	optRapidCommit   = 80
	optAgent         = 82
	optArch          = 93
	optMachineID     = 97
	optIPv6Only      = 108
	optAutoConfigure = 116
	optSubnetSelect  = 118
	optRoutes        = 121
	optIPXE          = 175 // iPXE's own sub-options
	optEnd           = 255
)

// The fixed part of a packet (RFC 2131, section 2): offsets in bytes.
const (
	offOp     = 0
	offHType  = 1
	offHLen   = 2
	offHops   = 3
	offXID    = 4
	offFlags  = 10
	offCIAddr = 12
	offYIAddr = 16
	offSIAddr = 20
	offGIAddr = 24
	offCHAddr = 28
	offSname  = 44
	offFile   = 108
	offCookie = 236
	headerLen = 240

	opRequest = 1
	opReply   = 2
)

var cookie = [4]byte{0x63, 0x82, 0x53, 0x63}

// An option is one option of a packet; data is a part of the packet.
type option struct {
	code byte
	data []byte
}

// options are the options of a packet, each code once.
type options []option

// get returns the value of an option; nil when it is absent.
func (o options) get(code byte) []byte {
	for i := range o {
		if o[i].code == code {
			return o[i].data
		}
	}
	return nil
}

// has reports whether an option is there, be it empty.
func (o options) has(code byte) bool {
	for i := range o {
		if o[i].code == code {
			return true
		}
	}
	return false
}

// addr returns an option that holds one address; the zero Addr when it is
// absent or has another length.
func (o options) addr(code byte) netip.Addr { return addrOf(o.get(code)) }

// scan adds the options of one area. A last option that runs past the end is
// dropped: the rest of the packet is still worth an answer.
func (o options) scan(area []byte) options {
	for len(area) > 0 {
		switch code := area[0]; {
		case code == optPad:
			area = area[1:]
		case code == optEnd, len(area) < 2, len(area) < 2+int(area[1]):
			return o
		default:
			end := 2 + int(area[1])
			o = o.add(code, area[2:end:end])
			area = area[end:]
		}
	}
	return o
}

// add adds an option. One that was there is continued (RFC 3396, section 7),
// unless its repetition can only be an error: then the first one counts.
func (o options) add(code byte, data []byte) options {
	for i := range o {
		if o[i].code != code {
			continue
		}
		switch code {
		case optMessageType, optRequestedAddr, optServerID, optOverload:
		default:
			o[i].data = append(o[i].data[:len(o[i].data):len(o[i].data)], data...)
		}
		return o
	}
	return append(o, option{code, data})
}

// addrOf reads an address; 0.0.0.0 and other lengths become the zero Addr.
func addrOf(b []byte) netip.Addr {
	if len(b) != 4 || [4]byte(b) == [4]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// A reply is a packet under construction. Options are kept in the order they
// were added, except that option 82 goes last (RFC 3046, section 2.1).
type reply struct {
	typ  MessageType
	buf  []byte // header, then options
	opts []span
	seen [4]uint64 // set of the codes that are in, or must not come in
	tail []byte    // option 82, whole
}

// span is where an option stands in reply.buf.
type span struct {
	code       byte
	start, end int
}

// begin makes p an empty packet, using its memory again.
func (p *reply) begin() {
	if cap(p.buf) < headerLen {
		p.buf = make([]byte, 0, 1024)
	}
	p.buf = p.buf[:headerLen]
	clear(p.buf)
	p.opts, p.seen, p.tail = p.opts[:0], [4]uint64{}, nil
	p.buf[offOp] = opReply
	copy(p.buf[offCookie:], cookie[:])
}

// has reports whether an option is in, or must not come in.
func (p *reply) has(code byte) bool { return p.seen[code/64]>>(code%64)&1 != 0 }

// bar keeps an option out.
func (p *reply) bar(code byte) { p.seen[code/64] |= 1 << (code % 64) }

// add adds an option, unless it is there already. A value over 255 bytes is
// split (RFC 3396, section 5).
func (p *reply) add(code byte, value ...byte) {
	if p.has(code) {
		return
	}
	p.bar(code)
	start := len(p.buf)
	for {
		n := min(len(value), 255)
		p.buf = append(append(p.buf, code, byte(n)), value[:n]...)
		if value = value[n:]; len(value) == 0 {
			break
		}
	}
	p.opts = append(p.opts, span{code, start, len(p.buf)})
}

func (p *reply) addString(code byte, s string) { p.add(code, []byte(s)...) }

func (p *reply) addUint32(code byte, v uint32) {
	p.add(code, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// addAddrs adds a list of addresses unless it is empty.
func (p *reply) addAddrs(code byte, addrs ...netip.Addr) {
	var b [256]byte
	value := b[:0]
	for _, a := range addrs {
		if a.IsValid() {
			v := a.As4()
			value = append(value, v[:]...)
		}
	}
	if len(value) > 0 {
		p.add(code, value...)
	}
}

// setAddr sets an address of the header.
func (p *reply) setAddr(offset int, a netip.Addr) {
	if a.IsValid() {
		v := a.As4()
		copy(p.buf[offset:], v[:])
	}
}

// addrAt returns an address of the header.
func (p *reply) addrAt(offset int) netip.Addr { return addrOf(p.buf[offset : offset+4]) }

// size is the length of the finished packet.
func (p *reply) size() int { return len(p.buf) + len(p.tail) + 1 }

// drop takes the i-th option out.
func (p *reply) drop(i int) {
	s := p.opts[i]
	n := s.end - s.start
	p.buf = append(p.buf[:s.start], p.buf[s.end:]...)
	p.opts = append(p.opts[:i], p.opts[i+1:]...)
	for j := i; j < len(p.opts); j++ {
		p.opts[j].start -= n
		p.opts[j].end -= n
	}
}

// finish closes the packet and returns it, within limit and at least minReply
// long. What is left out of one that is too long goes by rank: a higher one
// goes first, a negative one never.
func (p *reply) finish(limit int, rank func(code byte) int) []byte {
	for p.size() > limit {
		worst, at := -1, 0
		for i := range p.opts {
			if r := rank(p.opts[i].code); r > worst {
				worst, at = r, i
			}
		}
		if worst < 0 {
			break
		}
		p.drop(at)
	}
	p.buf = append(append(p.buf, p.tail...), optEnd)
	for len(p.buf) < minReply {
		p.buf = append(p.buf, optPad)
	}
	return p.buf
}

func uint16At(b []byte, offset int) uint16 { return binary.BigEndian.Uint16(b[offset:]) }
