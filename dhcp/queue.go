package dhcp

// A queue is offers in the order in which they expire. The links are in the
// offers, and offers that are no longer open are used again: there are thousands
// a second. The zero queue is empty.
type queue struct {
	first, last *offer
	spent       *offer // to use again, linked by next
	kept        int    // of these
}

// maxSpent is how many offers are kept to be used again.
const maxSpent = 4096

// add returns a new offer at the end.
func (q *queue) add() *offer {
	o := q.spent
	if o == nil {
		o = new(offer)
	} else {
		q.spent, o.next = o.next, nil
		q.kept--
	}
	q.push(o)
	return o
}

// drop takes o out. It must not be used any more.
func (q *queue) drop(o *offer) {
	q.unlink(o)
	*o = offer{}
	if q.kept < maxSpent {
		o.next, q.spent = q.spent, o
		q.kept++
	}
}

func (q *queue) toEnd(o *offer) {
	q.unlink(o)
	q.push(o)
}

func (q *queue) push(o *offer) {
	o.prev = q.last
	if q.last != nil {
		q.last.next = o
	} else {
		q.first = o
	}
	q.last = o
}

func (q *queue) unlink(o *offer) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		q.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		q.last = o.prev
	}
	o.prev, o.next = nil, nil
}
