package dhcp

import (
	"maps"
	"slices"
)

// A chain is records in a row. A record is in one chain at most, so the links
// are in the record itself.
type chain struct{ first, last *record }

// push puts r at the end.
func (c *chain) push(r *record) {
	r.in, r.prev = c, c.last
	if c.last != nil {
		c.last.next = r
	} else {
		c.first = r
	}
	c.last = r
}

// unchain takes r out of whatever chain it is in.
func (r *record) unchain() {
	if r.in == nil {
		return
	}
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		r.in.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		r.in.last = r.prev
	}
	r.in, r.prev, r.next = nil, nil, nil
}

// A wheel knows which records end when, to a few seconds. To put a record in,
// or to take it out, costs the same however many there are.
type wheel struct {
	slots map[int64]*chain // by end, in units of slotSeconds
	next  int64            // the first slot that has not been taken
}

// slotSeconds is how much later than its end a record may be noticed. An
// address is not given to anybody else for longer than that anyway.
const slotSeconds = 8

func newWheel() wheel { return wheel{slots: map[int64]*chain{}} }

func (w *wheel) put(r *record) {
	slot := r.expires / slotSeconds
	c := w.slots[slot]
	if c == nil {
		c = new(chain)
		w.slots[slot] = c
		if len(w.slots) == 1 || slot < w.next {
			w.next = slot
		}
	}
	c.push(r)
}

// take removes the slots that have ended by now and calls ended for each of
// their records, the oldest slot first.
func (w *wheel) take(now int64, ended func(*record)) {
	limit := now / slotSeconds
	if w.next >= limit {
		return
	}
	for _, slot := range w.due(limit) {
		c := w.slots[slot]
		delete(w.slots, slot)
		for r := c.first; r != nil; r = c.first {
			r.unchain()
			ended(r)
		}
	}
	w.next = limit
}

// due returns the slots before limit, in order: by counting up to it, or, after
// a long sleep, by looking through those that there are.
func (w *wheel) due(limit int64) (slots []int64) {
	if limit-w.next > int64(len(w.slots)) {
		for _, slot := range slices.Sorted(maps.Keys(w.slots)) {
			if slot < limit {
				slots = append(slots, slot)
			}
		}
		return slots
	}
	for slot := w.next; slot < limit; slot++ {
		if w.slots[slot] != nil {
			slots = append(slots, slot)
		}
	}
	return slots
}
