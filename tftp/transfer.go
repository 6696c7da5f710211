package tftp

import (
	"errors"
	"fmt"
	"time"
)

// Retransmission: RFC 1123 section 4.2.3.2.
const (
	minResend     = 250 * time.Millisecond
	maxResend     = 5 * time.Second
	unknownResend = time.Second // no round trip measured yet
	maxSilence    = 30 * time.Second

	maxResends = 6
	fewResends = 3 // address may be forged, or machine may have left with the file
	roundTrips = 3 // to wait for before a resend
	smoothing  = 8 // part of a new round trip in the mean of them: one in eight
)

var errNoAnswer = errors.New("client does not answer")

// A span is the blocks first to last, to be sent in this order. Block 0 is the
// OACK, which is always alone. None if last is below first.
type span struct{ first, last int64 }

var nothing = span{1, 0}

// A transfer is the state of one file on its way to one client. Its methods
// take what happened and when, and return the blocks to send. It does no I/O
// and reads no clock. Blocks are counted without wrapping.
type transfer struct {
	window int64 // blocks per ACK
	last   int64 // block that ends the file, shorter than the others
	probe  bool  // client that aborts after the OACK only wanted the size

	acked int64 // client has all blocks to here; -1: not even the OACK
	sent  int64 // highest block sent
	heard bool  // client answered at least once

	resends  int           // since progress
	wait     time.Duration // for an answer, until the next resend
	deadline time.Time     // of the next resend, or the end
	progress time.Time     // of acked
	sentAt   time.Time     // window
	once     bool          // no block of the window was sent before
	mean     time.Duration // round trip; zero: not known

	over   bool
	probed bool  // client was content with the size
	err    error // nil: client has the file, or all of it was sent
}

// newTransfer returns a transfer that begins with an OACK or with block 1.
func newTransfer(t terms, size int64) *transfer {
	tr := &transfer{window: int64(t.window), last: size/int64(t.block) + 1, probe: t.tsize, wait: unknownResend}
	if t.oack != nil {
		tr.acked, tr.sent = -1, -1
	}
	return tr
}

// begin sends the answer to the request.
func (t *transfer) begin(now time.Time) span {
	t.progress = now
	return t.next(now)
}

// next sends the window behind the last block acknowledged, all of it: what
// follows a lost block was dropped by the client (RFC 7440 section 4).
func (t *transfer) next(now time.Time) span {
	s := span{t.acked + 1, min(t.acked+t.window, t.last)}
	if t.acked < 0 {
		s = span{0, 0}
	}
	t.once = s.first > t.sent
	t.sent = max(t.sent, s.last)
	t.sentAt = now
	t.deadline = now.Add(t.wait)
	if end := t.progress.Add(maxSilence); t.deadline.After(end) {
		t.deadline = end
	}
	return s
}

// ack takes the number of an ACK, which is that of a block modulo 65536. Every
// number is answered once at most: a duplicate must not cause a second window
// (the Sorcerer's Apprentice, RFC 1123 section 4.2.3.1), and edk2 sends one
// for each block behind a lost one. Numbers outside the window are stale.
func (t *transfer) ack(now time.Time, number uint16) span {
	step := int64(number - uint16(t.acked))
	if t.over || step == 0 || step > t.sent-t.acked {
		return nothing
	}
	t.acked += step
	t.heard = true
	t.resends = 0
	t.progress = now
	if t.acked == t.last {
		t.over = true
		return nothing
	}
	if t.acked == t.sent && t.once {
		t.measure(now.Sub(t.sentAt))
	}
	t.wait = t.patience()
	return t.next(now)
}

// measure takes the round trip of a window that was sent once: that of another
// is not known (Karn).
func (t *transfer) measure(trip time.Duration) {
	trip = max(trip, 1) // zero means that it is not known
	if t.mean == 0 {
		t.mean = trip
		return
	}
	t.mean += (trip - t.mean) / smoothing
}

// patience returns how long to wait for an answer at first.
func (t *transfer) patience() time.Duration {
	if t.mean == 0 {
		return unknownResend
	}
	return min(max(roundTrips*t.mean, minResend), maxResend)
}

// tick resends when the deadline has passed, or gives up.
func (t *transfer) tick(now time.Time) span {
	if t.over || now.Before(t.deadline) {
		return nothing
	}
	if t.resends == t.limit() || now.Sub(t.progress) >= maxSilence {
		t.giveUp()
		return nothing
	}
	t.resends++
	t.wait = min(2*t.wait, maxResend)
	return t.next(now)
}

// mute reports whether a resend is due to a client that never answered.
func (t *transfer) mute(now time.Time) bool {
	return !t.heard && !now.Before(t.deadline)
}

// limit returns how many resends without progress are enough.
func (t *transfer) limit() int {
	if !t.heard || t.sent == t.last {
		return fewResends
	}
	return maxResends
}

// giveUp ends a transfer whose client is silent. Machines start what they have
// without the last ACK, so that is no failure.
func (t *transfer) giveUp() {
	t.over = true
	if !t.heard || t.sent < t.last {
		t.err = errNoAnswer
	}
}

// repeat takes a repeat of the request, which says that our answer was lost.
// It does not put off the deadline.
func (t *transfer) repeat(now time.Time) span {
	if t.over || t.heard {
		return nothing
	}
	deadline := t.deadline
	s := t.next(now)
	t.deadline = deadline
	return s
}

// abort takes an ERROR of the client.
func (t *transfer) abort(code uint16, text string) {
	if t.over {
		return
	}
	t.over = true
	if t.probe && !t.heard && (code == codeUndefined || code == codeOption) {
		t.probed = true
		return
	}
	t.err = fmt.Errorf("client sent error %d %q", code, text)
}
