package dhcp

// A wheel knows which records end when, to a few seconds. To put a record in,
// or to take it out, costs the same however many there are.
type wheel struct {
	book  *book
	slots map[int64]chain // by end, in units of slotSeconds
	next  int64           // the first slot that has not been taken
}

// slotSeconds is how much later than its end a record may be noticed. An
// address is not given to anybody else for longer than that anyway.
const slotSeconds = 8

func newWheel(b *book) wheel { return wheel{book: b, slots: map[int64]chain{}} }

func (w *wheel) put(r *record) {
	slot := r.expires / slotSeconds
	c := w.slots[slot]
	if c == 0 {
		c = w.book.newChain()
		w.slots[slot] = c
		if len(w.slots) == 1 || slot < w.next {
			w.next = slot
		}
	}
	w.book.push(c, r)
}

// take removes records of slots that have ended by now, the oldest slot first
// and at most so many, and calls ended for each. It reports whether there are
// more.
func (w *wheel) take(now int64, most int, ended func(*record)) (more bool) {
	for limit := now / slotSeconds; w.next < limit; {
		c := w.slots[w.next]
		if c == 0 {
			w.skip(limit)
			continue
		}
		for r := w.book.first(c); r != nil; r = w.book.first(c) {
			if most == 0 {
				return true
			}
			most--
			w.book.unchain(r)
			ended(r)
		}
		w.book.endChain(c)
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
