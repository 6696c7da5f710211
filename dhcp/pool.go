package dhcp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// A pool tells which addresses of a range were never given to anybody: one bit
// an address, so that the search for a free one costs the same however many
// are taken.
type pool struct {
	first, size uint32
	used        []uint64
	class       classSet // zero: for all
	idle        [2]chain // leases that ended, oldest first, the next to reuse: of strangers, of known machines
}

func (p *pool) contains(a uint32) bool { return a-p.first < p.size }

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
func (p *pool) mark(addr uint32, taken bool) {
	i := addr - p.first
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
func (p *pool) free(hash uint32) (uint32, bool) {
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
			return p.first + (word+i)%n*64 + uint32(bits.TrailingZeros64(w)), true
		}
	}
	return 0, false
}

// number is an IPv4 address as a number; zero for the zero Addr.
func number(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// address is the opposite of number.
func address(n uint32) netip.Addr {
	if n == 0 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// hash spreads clients over a pool (FNV-1a). It must not change from one start
// to the next.
func (k key) hash() uint32 {
	h := uint32(2166136261)
	for id := k.id; id != 0; id >>= 8 {
		h = (h ^ uint32(id&0xff)) * 16777619
	}
	return (h ^ k.subnet) * 16777619
}
