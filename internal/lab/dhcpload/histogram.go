package dhcpload

import (
	"math/bits"
	"time"
)

// A histogram counts durations in microseconds: exact below 128, then in
// buckets of less than 1 % width. Its size does not depend on what it holds.
type histogram struct {
	count   uint64
	max     time.Duration
	buckets [(64 - subBits) << subBits]uint32
}

const subBits = 7

func (h *histogram) add(d time.Duration) {
	h.count++
	h.max = max(h.max, d)
	h.buckets[bucket(uint64(max(d, 0)/time.Microsecond))]++
}

// bucket returns the place of v: its highest bits, after the number of the
// others.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	drop := bits.Len64(v) - subBits
	return drop<<(subBits-1) + int(v>>drop)
}

// lowest is the smallest value in a bucket.
func lowest(b int) uint64 {
	if b < 1<<subBits {
		return uint64(b)
	}
	drop := b>>(subBits-1) - 1
	return uint64(b-drop<<(subBits-1)) << drop
}

// quantile returns the value that a share q of all is not above.
func (h *histogram) quantile(q float64) time.Duration {
	left := uint64(q * float64(h.count))
	for i, n := range h.buckets {
		if left < uint64(n) {
			return min(h.max, time.Duration(lowest(i))*time.Microsecond)
		}
		left -= uint64(n)
	}
	return h.max
}

// latency is what a result says of a histogram.
func (h *histogram) latency() Latency {
	return Latency{P50: ms(h.quantile(0.50)), P99: ms(h.quantile(0.99)), Max: ms(h.max)}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
