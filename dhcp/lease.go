package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
	"bootd/internal/store"
)

// A Key is a client's identity: its hardware address within a subnet, or its
// client identifier where the hardware has no address (RFC 4390).
type Key struct {
	Subnet netip.Prefix
	ID     string // hardware type and address, or 0xff and the client identifier
}

func keyOf(s *Subnet, r *request) Key {
	if r.HWType == htypeEthernet {
		return Key{s.Prefix, string([]byte{htypeEthernet}) + string(r.MAC[:])}
	}
	return Key{s.Prefix, "\xff" + string(r.Options.Get(dhcpv4.OptionClientIdentifier))}
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

// A Lease is the record of one address.
type Lease struct {
	Addr     netip.Addr
	Key      Key // its ID is empty when the address is declined
	State    State
	Start    time.Time // when it was first bound to this client
	Expires  time.Time
	ClientID string // as last sent, raw; empty: none
	Hostname string // option 12 as last sent, raw and not to be trusted

	heapIndex int // position in Leases.ending; -1: not there
	idle      idleMark
}

// MAC returns the hardware address of the lease's client; zero when it has
// none.
func (l *Lease) MAC() node.MAC {
	if len(l.Key.ID) != 7 || l.Key.ID[0] != htypeEthernet {
		return node.MAC{}
	}
	return node.MAC([]byte(l.Key.ID[1:]))
}

// Active reports whether the lease holds its address at now.
func (l *Lease) Active(now time.Time) bool { return l.State != Released && now.Before(l.Expires) }

// recordVersion is the first byte of every stored lease.
const recordVersion = 1

var errRecord = errors.New("not a lease record")

// put returns the change that stores l. Its key is the address, so an address
// cannot have two records.
func (l *Lease) put() store.Change {
	b := []byte{recordVersion, byte(l.State), byte(l.Key.Subnet.Bits())}
	subnet := l.Key.Subnet.Addr().As4()
	b = append(b, subnet[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Start.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Expires.Unix()))
	for _, s := range []string{l.Key.ID, l.ClientID, l.Hostname} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return store.Change{Key: l.Addr.AsSlice(), Value: b}
}

func remove(addr netip.Addr) store.Change { return store.Change{Key: addr.AsSlice()} }

// decodeLease reads what put wrote.
func decodeLease(key, b []byte) (*Lease, error) {
	const fixed = 3 + 4 + 8 + 8
	addr, ok := netip.AddrFromSlice(key)
	if !ok || !addr.Is4() || len(b) < fixed || b[0] != recordVersion || b[1] < byte(Bound) || b[1] > byte(Declined) || b[2] > 32 {
		return nil, fmt.Errorf("%w: key %x", errRecord, key)
	}
	l := &Lease{
		Addr: addr, State: State(b[1]), heapIndex: -1,
		Key:     Key{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte(b[3:7])), int(b[2]))},
		Start:   time.Unix(int64(binary.BigEndian.Uint64(b[7:])), 0),
		Expires: time.Unix(int64(binary.BigEndian.Uint64(b[15:])), 0),
	}
	rest := b[fixed:]
	for _, s := range []*string{&l.Key.ID, &l.ClientID, &l.Hostname} {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			return nil, fmt.Errorf("%w: key %x", errRecord, key)
		}
		*s, rest = string(rest[w:w+int(n)]), rest[w+int(n):]
	}
	return l, nil
}
