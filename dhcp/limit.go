package dhcp

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// Packets answered per second. A machine sends a handful while it boots; what
// sends more is broken or hostile.
const (
	clientRate = 20  // of one hardware address
	portRate   = 100 // of one port of a relay that names its ports
)

// A limiter counts packets per key and second, in a table of fixed size: two
// keys that share a place share its rate, which at 65,536 places takes tens of
// thousands of packets a second to matter. The zero limiter is not ready; see
// newLimiter.
type limiter struct {
	seed   maphash.Seed
	places [1 << 16]atomic.Uint32 // upper half: second, lower half: packets in it
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed()} }

// allow counts one packet of a key and reports whether it is within rate.
func (l *limiter) allow(key []byte, rate uint32, now time.Time) bool {
	place := &l.places[maphash.Bytes(l.seed, key)%uint64(len(l.places))]
	second := uint32(now.Unix()) << 16
	for {
		old := place.Load()
		next := second | 1
		if old&^0xffff == second {
			next = old + 1
		}
		if next&0xffff > rate {
			return false
		}
		if place.CompareAndSwap(old, next) {
			return true
		}
	}
}

// tooMany reports whether the client, or the relay port it is behind, sends
// more than anybody needs.
func (s *Server) tooMany(r *request, now time.Time) bool {
	if !r.MAC.IsZero() && !s.limit.allow(r.MAC[:], clientRate, now) {
		return true
	}
	if r.relay.circuit == nil {
		return false
	}
	var b [4 + 2*maxOption]byte
	relay := r.GIAddr.AsSlice()
	port := append(append(append(b[:0], relay...), r.relay.remote...), r.relay.circuit...)
	return !s.limit.allow(port, portRate, now)
}
