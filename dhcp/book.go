package dhcp

import "bootd/internal/node"

// A book is the records of leases, found by address or by client. Records
// stand in slabs without pointers and refer to each other by number, so that
// the garbage collector does not go through a million of them while packets
// wait: with 620,000 it took 125 ms of the only processor.
//
// A *record is good until it is dropped. The zero book is not usable.
type book struct {
	slabs  []*slab
	used   ref // records that were ever in use: the first ones
	spent  ref // those to be used again, linked by next
	byKey  map[key]ref
	byAddr map[uint32]ref
	said   map[uint32]said // by address
}

// A ref is the number of a record; zero: none.
type ref uint32

const slabLen = 1024

// A slab never moves, and is never given back.
type slab [slabLen]record

func newBook() book {
	return book{byKey: map[key]ref{}, byAddr: map[uint32]ref{}, said: map[uint32]said{}}
}

// at returns the record with a number; nil for zero.
func (b *book) at(i ref) *record {
	if i == 0 {
		return nil
	}
	return &b.slabs[(i-1)/slabLen][(i-1)%slabLen]
}

// ofAddr returns the record of an address, or nil.
func (b *book) ofAddr(a uint32) *record { return b.at(b.byAddr[a]) }

// ofClient returns the record of a client's last lease, or nil.
func (b *book) ofClient(k key) *record { return b.at(b.byKey[k]) }

// add takes in a record of an address that has none. Its client, if there is
// one, is found by it from now on.
func (b *book) add(r record, s said) *record {
	to := b.take()
	r.self = to.self
	*to = r
	b.byAddr[r.addr] = r.self
	if r.key.id != 0 {
		b.byKey[r.key] = r.self
	}
	b.note(to, s)
	return to
}

// drop forgets r, which must not be used any more.
func (b *book) drop(r *record) {
	b.unchain(r)
	if b.byKey[r.key] == r.self {
		delete(b.byKey, r.key)
	}
	delete(b.byAddr, r.addr)
	b.note(r, said{})
	b.give(r)
}

// index finds clients anew, after their keys changed. Of two leases of one
// client in a subnet, the one that ends later is the one it has.
func (b *book) index() {
	clear(b.byKey)
	for _, i := range b.byAddr {
		r := b.at(i)
		if other := b.ofClient(r.key); r.key.id != 0 && (other == nil || other.expires < r.expires) {
			b.byKey[r.key] = i
		}
	}
}

// take returns a record that is in no use.
func (b *book) take() *record {
	if r := b.at(b.spent); r != nil {
		b.spent, r.next = r.next, 0
		return r
	}
	if b.used%slabLen == 0 {
		b.slabs = append(b.slabs, new(slab))
	}
	b.used++
	r := b.at(b.used)
	r.self = b.used
	return r
}

// give is the opposite of take.
func (b *book) give(r *record) {
	*r = record{self: r.self, next: b.spent}
	b.spent = r.self
}

// hear keeps what the client of r says of itself.
func (b *book) hear(r *record, id, host []byte) {
	r.saidMAC = len(id) == 7 && id[0] == htypeEthernet && node.MAC(id[1:]) == r.key.mac()
	if r.saidMAC {
		id = nil
	}
	if s := b.of(r); s.clientID != string(id) || s.hostname != string(host) {
		b.note(r, said{string(id), string(host)})
	}
}

// of returns what the client of r said, but for its MAC address.
func (b *book) of(r *record) said {
	if !r.talks {
		return said{}
	}
	return b.said[r.addr]
}

func (b *book) note(r *record, s said) {
	was := r.talks
	switch r.talks = s != (said{}); {
	case r.talks:
		b.said[r.addr] = s
	case was:
		delete(b.said, r.addr)
	}
}

func (b *book) view(r *record) Lease { return r.view(b.of(r)) }

// A chain is records in a row. It is the number of a record that stands for no
// lease and closes the row to a ring; zero: no chain. A record is in one chain at
// most, so the links are in the record itself.
type chain ref

// newChain returns an empty chain.
func (b *book) newChain() chain {
	head := b.take()
	head.prev, head.next = head.self, head.self
	return chain(head.self)
}

// endChain gives back an empty chain.
func (b *book) endChain(c chain) { b.give(b.at(ref(c))) }

// first returns the first record of a chain, or nil.
func (b *book) first(c chain) *record {
	head := b.at(ref(c))
	if head.next == head.self {
		return nil
	}
	return b.at(head.next)
}

// push puts r, which is in no chain, at the end.
func (b *book) push(c chain, r *record) { b.insert(c, b.at(b.at(ref(c)).prev), r) }

// pushFront puts r, which is in no chain, at the beginning.
func (b *book) pushFront(c chain, r *record) { b.insert(c, b.at(ref(c)), r) }

func (b *book) insert(c chain, after, r *record) {
	r.in, r.prev, r.next = c, after.self, after.next
	b.at(after.next).prev = r.self
	after.next = r.self
}

// unchain takes r out of whatever chain it is in.
func (b *book) unchain(r *record) {
	if r.in == 0 {
		return
	}
	b.at(r.prev).next = r.next
	b.at(r.next).prev = r.prev
	r.in, r.prev, r.next = 0, 0, 0
}
