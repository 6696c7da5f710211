package tftp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"time"
)

var (
	errShrank   = errors.New("file shrank while it was sent")
	errStopping = errors.New("server is stopping")
)

// What a client is told that a transfer ends early, or is not its own.
var (
	readError  = refusal{codeUndefined, "read error"}
	stopping   = refusal{codeUndefined, "server is stopping"}
	unknownTID = refusal{codeUnknownTID, "unknown transfer ID"}
)

// batchSize is how much is held to be sent, in bytes, unless a block is larger.
const batchSize = 64 << 10

// maxIdle is how often a file may return neither bytes nor an error.
const maxIdle = 100

// A job is one file to send to one client.
type job struct {
	to     origin
	req    request
	block  int           // largest block to agree to
	window int           // largest window to agree to
	size   int64         // of body
	body   io.ReadSeeker // at its beginning
	again  *bell         // rings when the request is repeated

	// crowded reports whether others wait for the place of this job.
	crowded func() bool
}

// An outcome is how a job ended.
type outcome struct {
	bytes int64 // handed to the network
	probe bool  // client left as soon as it knew the size
	err   error
}

// An engine does a job. It returns soon after ctx is done, or when the client
// stops answering.
type engine func(ctx context.Context, j job) outcome

// A link is the socket of one transfer. Errors of its send methods are like
// packets lost on the way. Only wake may be called by others than the owner.
type link interface {
	// receive returns a packet that came to this transfer, from whomever, or
	// os.ErrDeadlineExceeded. It does so early after wake.
	receive(b []byte) (n int, from netip.AddrPort, err error)
	setDeadline(time.Time) // of receive
	wake()                 // moves the deadline to the past

	// send sends one packet.
	send(to netip.AddrPort, packet []byte) error
	// sendBatch sends b as packets of size bytes, the last one shorter or not.
	sendBatch(to netip.AddrPort, b []byte, size int) error

	mtu() int // of the route
	close()
}

// send is the engine over the network.
func send(ctx context.Context, j job) outcome {
	l, err := openLink(j.to)
	if err != nil {
		return outcome{err: fmt.Errorf("start: %w", err)}
	}
	defer l.close()
	return sendOver(ctx, l, j)
}

// A sender joins the state of a transfer to its file and its link. It has one
// goroutine, and allocates nothing once it runs.
type sender struct {
	job   job
	link  link
	terms terms
	state *transfer

	armed   time.Time // deadline of link; zero: has passed
	pos     int64     // of body
	in, out []byte
	lost    error // why the last packet did not leave; nil: it did
}

// sendOver is send over a link, which it leaves open. A panic of the file ends
// the transfer alone.
func sendOver(ctx context.Context, l link, j job) (out outcome) {
	s := newSender(l, j)
	defer func() {
		if p := recover(); p != nil {
			s.fail(readError, &panicError{p, debug.Stack()})
			out = s.outcome()
		}
	}()
	s.run(ctx)
	return s.outcome()
}

// newSender settles the terms of a job. The MTU of the route, which takes a socket
// to look up, matters to clients only that ask for blocks above the default.
func newSender(l link, j job) *sender {
	limit := j.block
	if j.req.blksize > defaultBlock {
		limit = max(minBlock, min(limit, l.mtu()-overhead))
	}
	t := agree(j.req, limit, j.window, j.size)
	packet := header + t.block
	return &sender{
		job:   j,
		link:  l,
		terms: t,
		state: newTransfer(t, j.size),
		in:    make([]byte, maxRequest),
		out:   make([]byte, packet*max(1, min(t.window, batchSize/packet))),
	}
}

// run sends until the transfer is over.
func (s *sender) run(ctx context.Context) {
	defer context.AfterFunc(ctx, s.link.wake)()
	s.job.again.listen(s.link.wake)
	defer s.job.again.listen(nil)
	s.emit(s.state.begin(time.Now()))
	for !s.state.over {
		s.arm()
		// From here on, what is looked at below ends the wait.
		if ctx.Err() != nil {
			s.fail(stopping, errStopping)
			return
		}
		if s.job.again.take() {
			s.emit(s.state.repeat(time.Now()))
		}
		s.turn()
	}
}

// arm has receive return at the deadline of the transfer. That moves with each
// ACK, so the link may have an earlier one, which costs a look at the clock.
func (s *sender) arm() {
	if s.armed.IsZero() || s.armed.After(s.state.deadline) {
		s.armed = s.state.deadline
		s.link.setDeadline(s.armed)
	}
}

// turn waits for one packet or the deadline, and acts on both: packets of
// strangers must not put off a resend.
func (s *sender) turn() {
	n, from, err := s.link.receive(s.in)
	now := time.Now()
	switch {
	case err == nil:
		s.emit(s.take(now, s.in[:n], from))
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.armed = time.Time{}
	default:
		s.end(fmt.Errorf("receive: %w", err))
	}
	if s.state.mute(now) && s.job.crowded() {
		s.end(errNoAnswer)
	}
	s.emit(s.state.tick(now))
}

// take acts on a packet. What is no ACK and no ERROR is not worth an answer.
func (s *sender) take(now time.Time, b []byte, from netip.AddrPort) span {
	if len(b) < 2 {
		return nothing
	}
	op := binary.BigEndian.Uint16(b)
	if from != s.job.to.peer {
		s.refuseStranger(op, from)
		return nothing
	}
	switch {
	case op == opERROR:
		s.state.abort(parseError(b))
	case op == opACK && len(b) >= header:
		return s.state.ack(now, binary.BigEndian.Uint16(b[2:]))
	}
	return nothing
}

// refuseStranger answers a packet of another transfer (RFC 1350 section 4),
// but never an ERROR.
func (s *sender) refuseStranger(op uint16, from netip.AddrPort) {
	if op != opERROR && !(origin{peer: from}).silent() {
		s.link.send(from, unknownTID.packet())
	}
}

// emit sends blocks, as many at a time as fit.
func (s *sender) emit(blocks span) {
	if blocks == (span{}) {
		s.lost = s.link.send(s.job.to.peer, s.terms.oack)
		return
	}
	for n := blocks.first; n <= blocks.last; {
		b, count, err := s.fill(n, blocks.last)
		if err != nil {
			s.fail(readError, err)
			return
		}
		s.lost = s.link.sendBatch(s.job.to.peer, b, header+s.terms.block)
		n += count
	}
}

// fill makes DATA packets of blocks first to last, or of those that fit.
func (s *sender) fill(first, last int64) (packets []byte, count int64, err error) {
	size := int64(s.terms.block)
	count = min(last-first+1, int64(len(s.out)/(header+s.terms.block)))
	packets = s.out[:0]
	for n := first; n < first+count; n++ {
		start := (n - 1) * size
		packets = binary.BigEndian.AppendUint16(packets, opDATA)
		packets = binary.BigEndian.AppendUint16(packets, uint16(n))
		body := packets[len(packets) : int64(len(packets))+min(size, s.job.size-start)]
		if err := s.read(body, start); err != nil {
			return nil, 0, err
		}
		packets = packets[:len(packets)+len(body)]
	}
	return packets, count, nil
}

// read fills b from the body. It seeks for resends only.
func (s *sender) read(b []byte, start int64) error {
	if s.pos != start {
		if _, err := s.job.body.Seek(start, io.SeekStart); err != nil {
			return err
		}
		s.pos = start
	}
	for idle := 0; len(b) > 0; {
		n, err := s.job.body.Read(b)
		s.pos += int64(n)
		b = b[n:]
		switch {
		case n > 0:
			idle = 0
		case err == io.EOF:
			return errShrank
		case err != nil:
			return err
		case idle == maxIdle:
			return io.ErrNoProgress
		default:
			idle++
		}
	}
	return nil
}

// fail tells the client that the transfer ends, and ends it.
func (s *sender) fail(told refusal, err error) {
	s.link.send(s.job.to.peer, told.packet())
	s.end(err)
}

func (s *sender) end(err error) {
	if !s.state.over {
		s.state.over, s.state.err = true, err
	}
}

// outcome judges the end of the transfer.
func (s *sender) outcome() outcome {
	out := outcome{
		bytes: min(max(0, s.state.sent)*int64(s.terms.block), s.job.size),
		probe: s.state.probed,
		err:   s.state.err,
	}
	if out.err == errNoAnswer && s.lost != nil {
		out.err = fmt.Errorf("%w: %v", errNoAnswer, s.lost)
	}
	return out
}
