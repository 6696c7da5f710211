package dhcp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bootd/internal/node"
)

// key is a client's identity: its hardware address within a subnet, or its
// client identifier where the hardware has no address (RFC 4390).
type key struct {
	subnet uint32 // network address
	id     clientID
}

// A clientID is a hardware address, or the digest of a client identifier; zero
// is nobody. It is a number, because there may be a million of them.
type clientID uint64

// What a clientID is made of is in its upper byte.
const (
	idMAC    clientID = 1 << 56
	idDigest clientID = 2 << 56
)

func keyOf(s *Subnet, r *request) key {
	k := key{subnet: number(s.Prefix.Addr())}
	if r.htype == htypeEthernet && !(s.ByClientID && r.opts.has(optClientID)) {
		k.id = macID(r.MAC)
	} else {
		k.id = digestID(r.opts.get(optClientID))
	}
	return k
}

func macID(m node.MAC) clientID {
	return idMAC | clientID(m[0])<<40 | clientID(m[1])<<32 | clientID(binary.BigEndian.Uint32(m[2:]))
}

// digestID is 56 bits of a SHA-256: to be mistaken for another client takes
// more than anybody will spend on it.
func digestID(id []byte) clientID {
	sum := sha256.Sum256(id)
	return idDigest | clientID(binary.BigEndian.Uint64(sum[:])>>8)
}

// mac returns the hardware address in k; zero when there is none.
func (k key) mac() (m node.MAC) {
	if k.id&^(idMAC-1) == idMAC {
		m[0], m[1] = byte(k.id>>40), byte(k.id>>32)
		binary.BigEndian.PutUint32(m[2:], uint32(k.id))
	}
	return m
}

// A State is what a lease record says of its address.
type State uint8

// The states. They are written to disk: never renumber.
const (
	Bound    State = 1 // leased until Expires; after that kept for its client while nobody else needs it
	Released State = 2 // given back at Expires; kept likewise
	Declined State = 3 // in use by a stranger; not leased to anybody before Expires
)

var states = [...]string{Bound: "bound", Released: "released", Declined: "declined"}

// String returns the word shown to administrators.
func (s State) String() string { return states[s] }

// A Lease is what is known of one address.
type Lease struct {
	Addr     netip.Addr
	State    State
	MAC      node.MAC  // zero: the client has none, or the address is declined
	Start    time.Time // when it was first bound to this client
	Expires  time.Time
	ClientID string // as last sent, raw; empty: none
	Hostname string // option 12 as last sent, raw and not to be trusted
}

// Active reports whether the lease holds its address at now.
func (l *Lease) Active(now time.Time) bool { return l.State != Released && now.Before(l.Expires) }

// record is a Lease as it is kept: there may be a million of them, so it is
// small and holds no pointer, and times are Unix seconds. A book has it, and
// what its client said of itself.
type record struct {
	key     key
	start   int64
	expires int64
	addr    uint32
	state   State
	known   bool // its client is of the inventory: strangers do not get the address; not stored
	booting bool // it was firmware or iPXE that asked; not stored
	told    bool // a Turn said that it began, or it did before the start; not stored
	renamed bool // since then its client calls itself something else; not stored
	saidMAC bool // its client identifier was its MAC address, as that of most
	talks   bool // the book has something else that its client said

	self       ref
	in         chain // of leases that end at the same time, or of idle ones; zero: none
	prev, next ref
}

// said is what a client said of itself, and is not in its key.
type said struct{ clientID, hostname string }

func (r *record) view(s said) Lease {
	l := Lease{
		Addr: address(r.addr), State: r.state, MAC: r.key.mac(), Start: time.Unix(r.start, 0), Expires: time.Unix(r.expires, 0),
		ClientID: s.clientID, Hostname: s.hostname,
	}
	if r.saidMAC {
		l.ClientID = string(append([]byte{htypeEthernet}, l.MAC[:]...))
	}
	return l
}

// recordVersion is the first byte of every stored lease.
const recordVersion = 1

var errRecord = errors.New("not a lease record")

// The fixed part of a stored record, in bytes: version, state with the flag
// saidMAC, subnet, client, start, end.
const (
	recordLen  = 1 + 1 + 4 + 8 + 8 + 8
	saidMACBit = 0x80
)

// append appends what is stored of r, whose client said s. Its key is the
// address, so an address cannot have two records.
func (r *record) append(b []byte, s said) []byte {
	state := byte(r.state)
	if r.saidMAC {
		state |= saidMACBit
	}
	b = append(b, recordVersion, state)
	b = binary.BigEndian.AppendUint32(b, r.key.subnet)
	b = binary.BigEndian.AppendUint64(b, uint64(r.key.id))
	b = binary.BigEndian.AppendUint64(b, uint64(r.start))
	b = binary.BigEndian.AppendUint64(b, uint64(r.expires))
	if s != (said{}) {
		for _, s := range [...]string{s.clientID, s.hostname} {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
	}
	return b
}

// decodeKey reads the key of a stored lease.
func decodeKey(k []byte) (addr uint32, err error) {
	if len(k) != 4 {
		return 0, fmt.Errorf("%w: key %x", errRecord, k)
	}
	return binary.BigEndian.Uint32(k), nil
}

// decodeRecord reads what append wrote.
func decodeRecord(addr uint32, b []byte) (r record, s said, err error) {
	if len(b) < recordLen || b[0] != recordVersion {
		return r, s, badRecord(addr)
	}
	state := State(b[1] &^ saidMACBit)
	if state < Bound || state > Declined {
		return r, s, badRecord(addr)
	}
	r = record{
		addr: addr, state: state, saidMAC: b[1]&saidMACBit != 0, key: key{binary.BigEndian.Uint32(b[2:]), clientID(binary.BigEndian.Uint64(b[6:]))},
		start: int64(binary.BigEndian.Uint64(b[14:])), expires: int64(binary.BigEndian.Uint64(b[22:])),
	}
	rest := b[recordLen:]
	if len(rest) == 0 {
		return r, s, nil
	}
	for _, text := range [...]*string{&s.clientID, &s.hostname} {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			return r, s, badRecord(addr)
		}
		*text, rest = string(rest[w:w+int(n)]), rest[w+int(n):]
	}
	return r, s, nil
}

func badRecord(addr uint32) error { return fmt.Errorf("%w: address %v", errRecord, address(addr)) }
