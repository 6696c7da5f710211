package dhcpload

import (
	"fmt"
	"strings"
	"time"
)

// A Latency is a distribution in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func (l Latency) String() string {
	return fmt.Sprintf("p50 %.2f, p99 %.2f, max %.2f ms", l.P50, l.P99, l.Max)
}

// Wrong counts answers that no server may give.
type Wrong struct {
	Malformed  int `json:"malformed"`
	Client     int `json:"client"`     // the transaction is another client's
	Type       int `json:"type"`       // not what was due
	Address    int `json:"address"`    // none, or not the one asked for
	NAK        int `json:"nak"`        // of an address that was offered
	Duplicates int `json:"duplicates"` // an address that another client holds
}

// Any returns the sum.
func (w Wrong) Any() int { return w.Malformed + w.Client + w.Type + w.Address + w.NAK + w.Duplicates }

// Plus returns the sums of both.
func (w Wrong) Plus(v Wrong) Wrong {
	return Wrong{
		w.Malformed + v.Malformed, w.Client + v.Client, w.Type + v.Type,
		w.Address + v.Address, w.NAK + v.NAK, w.Duplicates + v.Duplicates,
	}
}

// A Result is what one Run saw. Times are in milliseconds.
type Result struct {
	Began     int     `json:"began"`
	Offers    int     `json:"offers"`
	Completed int     `json:"completed"`
	Late      int     `json:"late"` // complete, but after the timeout
	Seconds   float64 `json:"seconds"`
	Wanted    float64 `json:"wanted_rate"`  // of an open load
	Offered   float64 `json:"offered_rate"` // exchanges begun per second
	Rate      float64 `json:"rate"`         // exchanges completed per second
	Loss      float64 `json:"loss_percent"`

	Offer    Latency `json:"offer"`    // DISCOVER to OFFER
	Ack      Latency `json:"ack"`      // REQUEST to ACK
	Exchange Latency `json:"exchange"` // first DISCOVER to ACK

	Oldest    float64 `json:"oldest_answer_ms"`
	Old       int     `json:"answers_older_than_2s"`
	Repeats   int     `json:"repeated_answers"`
	Strangers int     `json:"answers_to_earlier_runs"`
	Wrong     Wrong   `json:"wrong"`

	Repeated int   `json:"retransmissions"`
	Retries  []int `json:"clients_by_highest_retry,omitempty"` // index: the highest retry an exchange reached

	Behind float64 `json:"generator_behind_ms"` // the most that the generator lagged
	Unsent int     `json:"generator_unsent"`    // packets its kernel refused
	Held   int     `json:"clients_with_address"`

	last time.Duration // when the last exchange completed
}

// MostRetries returns the highest retry that any client reached.
func (r *Result) MostRetries() int { return max(0, len(r.Retries)-1) }

// Limiting reports whether the generator could not keep the rate.
func (r *Result) Limiting() bool { return r.Offered < 0.99*r.Wanted }

// result finishes the books.
func (r *run) result() Result {
	res := r.res
	res.Began, res.Wanted = len(r.exchanges), r.Rate
	active := min(r.stopped, r.Duration)
	if r.Rate == 0 && res.last > 0 {
		active = res.last // a closed load ends when its last exchange does
	}
	res.Seconds = active.Seconds()
	if res.Seconds > 0 {
		res.Offered = float64(res.Began) / res.Seconds
		res.Rate = float64(res.Completed) / res.Seconds
	}
	if res.Began > 0 {
		res.Loss = 100 * (1 - float64(res.Completed)/float64(res.Began))
	}
	res.Offer, res.Ack, res.Exchange = r.halves[0].latency(), r.halves[1].latency(), r.total.latency()
	res.Unsent, res.Held = r.sock.unsent, len(r.owner)
	if r.Load.Retry != nil {
		res.Retries = r.retries()
	}
	return res
}

func (r *run) retries() (by []int) {
	for i := range r.exchanges {
		most := int(r.exchanges[i].most)
		for len(by) <= most {
			by = append(by, 0)
		}
		by[most]++
	}
	return by
}

// String tells the result to people, in a few lines.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "completed %.0f/s of %.0f/s offered, loss %.2f %% (%d of %d in %.1f s)\n", r.Rate, r.Offered, r.Loss, r.Began-r.Completed, r.Began, r.Seconds)
	fmt.Fprintf(&b, "offer     %v\nack       %v\nexchange  %v\n", r.Offer, r.Ack, r.Exchange)
	fmt.Fprintf(&b, "answers   oldest %.0f ms, %d older than 2 s, %d late, %d repeated, %d to earlier runs\n", r.Oldest, r.Old, r.Late, r.Repeats, r.Strangers)
	fmt.Fprintf(&b, "clients   %d with an address, %d retransmissions", r.Held, r.Repeated)
	if r.Retries != nil {
		fmt.Fprintf(&b, ", clients by highest retry %v", r.Retries)
	}
	if w := r.Wrong; w.Any() > 0 {
		fmt.Fprintf(&b, "\nWRONG     %+v", w)
	}
	if r.Behind > 50 || r.Unsent > 0 || r.Limiting() {
		fmt.Fprintf(&b, "\nGENERATOR up to %.0f ms behind, %d packets not sent", r.Behind, r.Unsent)
	}
	if r.Limiting() {
		fmt.Fprintf(&b, "; it is the limit here: %.0f/s were wanted", r.Wanted)
	}
	return b.String()
}
