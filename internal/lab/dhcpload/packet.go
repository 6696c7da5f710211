package dhcpload

import (
	"encoding/binary"
	"net/netip"
)

// Message types (RFC 2132, section 9.6).
const (
	discover = 1
	offer    = 2
	request  = 3
	ack      = 5
	nak      = 6
)

// Places in a DHCP message (RFC 2131, section 2).
const (
	atHops    = 3
	atXID     = 4
	atFlags   = 10
	atYiaddr  = 16
	atGiaddr  = 24
	atChaddr  = 28
	atCookie  = 236
	atOptions = 240

	minMessage = 300 // RFC 1542, section 2.1
	cookie     = 0x63825363
)

// Places of the options that are patched: they come first in a template.
const (
	atType      = atOptions + 2
	atRequested = atOptions + 3 + 2
	atServerID  = atRequested + 4 + 2
)

// Headers in front of a message in the modes that send frames.
const (
	etherLen  = 14
	ipLen     = 20
	udpLen    = 8
	frameLen  = etherLen + ipLen + udpLen
	atSrcMAC  = 6
	serverUDP = 67
	clientUDP = 68
)

// A template is a finished packet in which only the client, the transaction
// and the address are missing. In relay mode it starts with the DHCP message,
// else with the Ethernet header.
type template struct {
	bytes []byte
	dhcp  int // where the DHCP message starts
}

func newTemplate(mode Mode, relay netip.Addr, kind byte) template {
	m := message(kind)
	switch mode {
	case Relay:
		giaddr := relay.As4()
		m[atHops] = 1
		copy(m[atGiaddr:], giaddr[:])
		return template{m, 0}
	case Broadcast:
		m[atFlags] = 0x80
	}
	return template{append(headers(len(m)), m...), frameLen}
}

// message returns a request with the options of an ordinary client. In a
// DISCOVER the places of options 50 and 54 are pads.
func message(kind byte) []byte {
	m := make([]byte, atOptions, minMessage)
	copy(m, []byte{1, 1, 6, 0})
	binary.BigEndian.PutUint32(m[atCookie:], cookie)
	m = append(m, 53, 1, kind)
	if kind == request {
		m = append(m, 50, 4, 0, 0, 0, 0, 54, 4, 0, 0, 0, 0)
	} else {
		m = append(m, make([]byte, 12)...)
	}
	m = append(m,
		57, 2, 0x05, 0xdc, // maximum message size 1500
		55, 9, 1, 3, 6, 12, 15, 26, 28, 42, 51,
		255)
	return m[:minMessage]
}

// headers returns the Ethernet, IP and UDP headers of a client without an
// address for a message of n bytes. The UDP checksum is absent, as RFC 768
// allows.
func headers(n int) []byte {
	b := make([]byte, frameLen)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(b[12:], []byte{0x08, 0x00})
	ip := b[etherLen : etherLen+ipLen]
	copy(ip, []byte{0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+udpLen+n))
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	udp := b[etherLen+ipLen:]
	binary.BigEndian.PutUint16(udp[0:], clientUDP)
	binary.BigEndian.PutUint16(udp[2:], serverUDP)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpLen+n))
	return b
}

// checksum is the Internet checksum of an even number of bytes (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// fill copies the template into b for one client and transaction and returns
// its length.
func (t *template) fill(b []byte, mac uint64, xid uint32) int {
	n := copy(b, t.bytes)
	m := b[t.dhcp:]
	binary.BigEndian.PutUint32(m[atXID:], xid)
	putMAC(m[atChaddr:], mac)
	if t.dhcp != 0 {
		putMAC(b[atSrcMAC:], mac)
	}
	return n
}

// fillRequest is fill for a REQUEST.
func (t *template) fillRequest(b []byte, mac uint64, xid, addr, server uint32) int {
	n := t.fill(b, mac, xid)
	binary.BigEndian.PutUint32(b[t.dhcp+atRequested:], addr)
	binary.BigEndian.PutUint32(b[t.dhcp+atServerID:], server)
	return n
}

func putMAC(b []byte, mac uint64) {
	binary.BigEndian.PutUint16(b, uint16(mac>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(mac))
}

func getMAC(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

// An answer is what the generator looks at in a reply.
type answer struct {
	kind         byte
	xid          uint32
	mac          uint64
	addr, server uint32
}

// decode reads a reply; ok is false when it is none.
func decode(m []byte) (a answer, ok bool) {
	if len(m) < atOptions || m[0] != 2 || m[2] != 6 || binary.BigEndian.Uint32(m[atCookie:]) != cookie {
		return answer{}, false
	}
	a.xid = binary.BigEndian.Uint32(m[atXID:])
	a.addr = binary.BigEndian.Uint32(m[atYiaddr:])
	a.mac = getMAC(m[atChaddr:])
	for o := m[atOptions:]; len(o) > 0 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		if len(o) < 2 || len(o) < 2+int(o[1]) {
			return answer{}, false
		}
		switch v := o[2 : 2+o[1]]; {
		case o[0] == 53 && len(v) == 1:
			a.kind = v[0]
		case o[0] == 54 && len(v) == 4:
			a.server = binary.BigEndian.Uint32(v)
		}
		o = o[2+o[1]:]
	}
	return a, a.kind != 0
}

// payload returns the DHCP message of a received packet; nil when it is none
// for a client.
func payload(mode Mode, b []byte) []byte {
	if mode == Relay {
		return b
	}
	if len(b) < frameLen {
		return nil
	}
	ihl := int(b[etherLen]&15) * 4
	if len(b) < etherLen+ihl+udpLen {
		return nil
	}
	udp := b[etherLen+ihl:]
	if b[etherLen+9] != 17 || binary.BigEndian.Uint16(udp[2:]) != clientUDP {
		return nil
	}
	return udp[udpLen:]
}
