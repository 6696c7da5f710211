package dhcp

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

// pushFront puts r at the beginning.
func (c *chain) pushFront(r *record) {
	r.in, r.next = c, c.first
	if c.first != nil {
		c.first.prev = r
	} else {
		c.last = r
	}
	c.first = r
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

// take removes records of slots that have ended by now, the oldest slot first
// and at most so many, and calls ended for each. It reports whether there are
// more.
func (w *wheel) take(now int64, most int, ended func(*record)) (more bool) {
	for limit := now / slotSeconds; w.next < limit; {
		c := w.slots[w.next]
		if c == nil {
			w.skip(limit)
			continue
		}
		for r := c.first; r != nil; r = c.first {
			if most == 0 {
				return true
			}
			most--
			r.unchain()
			ended(r)
		}
		delete(w.slots, w.next)
		w.next++
	}
	return false
}

// skip goes on from a slot that is not there: to the next one, or, after a long
// sleep, to the next that is there.
func (w *wheel) skip(limit int64) {
	if limit-w.next <= int64(len(w.slots)) {
		w.next++
		return
	}
	next := limit
	for slot := range w.slots {
		if slot > w.next {
			next = min(next, slot)
		}
	}
	w.next = next
}
