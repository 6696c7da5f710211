package dhcp

import (
	"encoding/binary"
	"hash/fnv"
	"math/bits"
	"net/netip"
)

// A pool tells which addresses of a range were never given to anybody: one bit
// an address, so that the search for a free one costs the same however many
// are taken.
type pool struct {
	first, size uint32
	used        []uint64
}

func newPool(r Range) *pool {
	first, last := number(r.First), number(r.Last)
	size := last - first + 1
	p := &pool{first: first, size: size, used: make([]uint64, (size+63)/64)}
	for i := size; i < uint32(len(p.used)*64); i++ { // bits past the end are never free
		p.used[i/64] |= 1 << (i % 64)
	}
	return p
}

// mark takes or frees an address; one outside the pool is no concern of it.
func (p *pool) mark(a netip.Addr, taken bool) {
	i := number(a) - p.first
	switch {
	case i >= p.size:
	case taken:
		p.used[i/64] |= 1 << (i % 64)
	default:
		p.used[i/64] &^= 1 << (i % 64)
	}
}

// free returns the first free address at or after the position that hash
// gives, wrapping around. A machine whose record was lost so gets the same
// address again, most of the time.
func (p *pool) free(hash uint32) (netip.Addr, bool) {
	start := hash % p.size
	word, bit := start/64, start%64
	n := uint32(len(p.used))
	for i := range n + 1 { // the first word twice: its upper, then its lower bits
		w := ^p.used[(word+i)%n]
		switch i {
		case 0:
			w &= ^uint64(0) << bit
		case n:
			w &= 1<<bit - 1
		}
		if w != 0 {
			return address(p.first + (word+i)%n*64 + uint32(bits.TrailingZeros64(w))), true
		}
	}
	return netip.Addr{}, false
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func hash(k Key) uint32 {
	h := fnv.New32a()
	h.Write([]byte(k.Subnet.String()))
	h.Write([]byte(k.ID))
	return h.Sum32()
}
