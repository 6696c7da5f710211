package dhcpload

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []time.Duration
	for range 20000 {
		d := time.Duration(rnd.ExpFloat64()*float64(20*time.Millisecond)) / 1000 * 1000
		h.add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.99, 0.9999} {
		got, want := h.quantile(q), all[int(q*float64(len(all)))]
		// A bucket is 1/64 wide at most, and durations are cut to microseconds.
		if want-got > want/64+time.Microsecond || got > want {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if got, want := h.quantile(1), all[len(all)-1]; got != want || h.max != want {
		t.Errorf("maximum: got %v and %v, want %v", got, h.max, want)
	}
}

func TestBuckets(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 1000, 1 << 20, 1<<63 - 1, 1<<64 - 1} {
		b := bucket(v)
		if low := lowest(b); low > v || v-low > v/64 {
			t.Errorf("bucket of %d starts at %d", v, low)
		}
		if b >= len(histogram{}.buckets) {
			t.Errorf("bucket of %d: got %d of %d", v, b, len(histogram{}.buckets))
		}
	}
}
