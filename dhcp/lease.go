package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bootd/internal/node"
	"bootd/internal/store"
)

// key is a client's identity: its hardware address within a subnet, or its
// client identifier where the hardware has no address (RFC 4390).
type key struct {
	subnet uint32 // network address
	id     string // hardware type and address, or 0xff and the client identifier; empty: nobody
}

func keyOf(s *Subnet, r *request) key {
	if r.htype == htypeEthernet && !(s.ByClientID && r.opts.has(optClientID)) {
		var id [7]byte
		id[0] = htypeEthernet
		copy(id[1:], r.MAC[:])
		return key{number(s.Prefix.Addr()), string(id[:])}
	}
	return key{number(s.Prefix.Addr()), "\xff" + string(r.opts.get(optClientID))}
}

// mac returns the hardware address in k; zero when there is none.
func (k key) mac() node.MAC {
	if len(k.id) != 7 || k.id[0] != htypeEthernet {
		return node.MAC{}
	}
	return node.MAC([]byte(k.id[1:]))
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
// small, and times are Unix seconds.
type record struct {
	addr     uint32
	state    State
	key      key
	start    int64
	expires  int64
	clientID string
	hostname string
	known    bool // its client is of the inventory: strangers do not get the address; not stored

	in         *chain // of leases that end at the same time, or of idle ones; nil: none
	prev, next *record
}

func (r *record) view() Lease {
	return Lease{
		Addr: address(r.addr), State: r.state, MAC: r.key.mac(), Start: time.Unix(r.start, 0), Expires: time.Unix(r.expires, 0),
		ClientID: r.clientID, Hostname: r.hostname,
	}
}

// recordVersion is the first byte of every stored lease.
const recordVersion = 1

var errRecord = errors.New("not a lease record")

// put returns the change that stores r. Its key is the address, so an address
// cannot have two records.
func (r *record) put() store.Change {
	b := make([]byte, 0, 32+len(r.key.id)+len(r.clientID)+len(r.hostname))
	b = append(b, recordVersion, byte(r.state))
	b = binary.BigEndian.AppendUint32(b, r.key.subnet)
	b = binary.BigEndian.AppendUint64(b, uint64(r.start))
	b = binary.BigEndian.AppendUint64(b, uint64(r.expires))
	for _, s := range [...]string{r.key.id, r.clientID, r.hostname} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return store.Change{Key: storeKey(r.addr), Value: b}
}

// remove returns the change that removes the record of an address.
func remove(addr uint32) store.Change { return store.Change{Key: storeKey(addr)} }

func storeKey(addr uint32) []byte { return binary.BigEndian.AppendUint32(nil, addr) }

// decodeKey reads the key of a stored lease.
func decodeKey(k []byte) (addr uint32, err error) {
	if len(k) != 4 {
		return 0, fmt.Errorf("%w: key %x", errRecord, k)
	}
	return binary.BigEndian.Uint32(k), nil
}

// decodeRecord reads what put wrote.
func decodeRecord(addr uint32, b []byte) (*record, error) {
	const fixed = 2 + 4 + 8 + 8
	if len(b) < fixed || b[0] != recordVersion || State(b[1]) < Bound || State(b[1]) > Declined {
		return nil, fmt.Errorf("%w: address %v", errRecord, address(addr))
	}
	r := &record{
		addr: addr, state: State(b[1]), key: key{subnet: binary.BigEndian.Uint32(b[2:])},
		start: int64(binary.BigEndian.Uint64(b[6:])), expires: int64(binary.BigEndian.Uint64(b[14:])),
	}
	rest := b[fixed:]
	for _, s := range []*string{&r.key.id, &r.clientID, &r.hostname} {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			return nil, fmt.Errorf("%w: address %v", errRecord, address(addr))
		}
		*s, rest = string(rest[w:w+int(n)]), rest[w+int(n):]
	}
	return r, nil
}
