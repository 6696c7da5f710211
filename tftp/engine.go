package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	pin "github.com/pin/tftp/v3"
)

// Retransmission.
const (
	resendAfter  = time.Second
	maxResends   = 6
	firstResends = 3 // until the client answers: its address may be forged
)

var (
	errNoAnswer = errors.New("client does not answer")
	errStopping = errors.New("server is stopping")
	errRead     = errors.New("read error")
	errShrank   = errors.New("file shrank while it was sent")
)

// A job is one file to send to one client.
type job struct {
	peer  netip.AddrPort
	local netip.Addr // address the client asked; invalid: not known
	block int        // size of a block to agree to; zero: not asked for
	tsize bool       // client wants to know the size
	size  int64
	body  io.Reader // of size bytes
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

// send is the engine by pin/tftp. Each job gets a server of its own, which
// reads its one request from us (oneRequest) and not from the network. So what
// the library calls back belongs to this job.
func send(ctx context.Context, j job) outcome {
	r := &run{ctx: ctx, job: j, addr: net.UDPAddrFromAddrPort(j.peer)}
	srv := pin.NewServer(r.transfer, nil)
	srv.SetTimeout(resendAfter)
	srv.SetRetries(maxResends)
	srv.SetBackoff(r.beforeResend)
	srv.SetHook(r)
	// The request holds the block size agreed on. SetBlockSize must not be
	// called: with it a client that sends an OACK when block numbers wrap
	// makes v3.2.0 write to a nil map.
	srv.SetBlockSizeNegotiation(false)
	if err := srv.Serve(&oneRequest{run: r, srv: srv}); err != nil {
		return outcome{err: err}
	}
	return r.outcome()
}

// oneRequest is the net.PacketConn that a server of one job reads from.
type oneRequest struct {
	net.PacketConn
	run  *run
	srv  *pin.Server
	read bool
}

// ReadFrom returns the request, and when called again waits for the end of the
// transfer and makes Serve return.
func (c *oneRequest) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.read {
		c.run.over = true
		c.srv.Shutdown()
		return 0, nil, net.ErrClosed
	}
	c.read = true
	return copy(b, c.run.job.request()), c.run.addr, nil
}

func (c *oneRequest) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4zero} }
func (c *oneRequest) Close() error        { return nil }

// request returns the RRQ of a job in the form that the library understands.
// It never sees the name. It copies our tsize to its answer unless that is
// "0", so the size of an empty file is spelled "00".
func (j job) request() string {
	rrq := "\x00\x01file\x00octet\x00"
	if j.tsize {
		size := strconv.FormatInt(j.size, 10)
		if j.size == 0 {
			size = "00"
		}
		rrq += "tsize\x00" + size + "\x00"
	}
	if j.block >= defaultBlock {
		rrq += "blksize\x00" + strconv.Itoa(j.block) + "\x00"
	}
	return rrq
}

// options reports whether the answer begins with an OACK.
func (j job) options() bool { return j.tsize || j.block >= defaultBlock }

// A run is the state of one job. The library calls transfer, and inside it all
// other methods, from one goroutine.
type run struct {
	ctx  context.Context
	job  job
	addr *net.UDPAddr // where the library sends to

	sent   int64 // bytes read from the body
	heard  bool  // client answered at least once
	ended  bool  // last block is under way, or arrived
	speak  bool  // library may send its ERROR packet: the text is ours
	over   bool  // library reads its next request, which there is not
	err    error // of the library
	reason error // of ours, better than err
}

// transfer is the read handler. It returns nil, since ReadFrom has closed the
// socket and has told the client already, or an error if it could not.
func (r *run) transfer(_ string, to io.ReaderFrom) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.reason = &panicError{p, debug.Stack()}
			err = errRead
		}
	}()
	_, r.err = to.ReadFrom(r)
	return nil
}

// Read gives the library the body. A block is read when the one before it, or
// the OACK, has been acknowledged. Errors are sent to the client: fixed texts.
func (r *run) Read(p []byte) (int, error) {
	r.heard = r.heard || r.job.options() || r.sent >= defaultBlock
	if r.ctx.Err() != nil {
		return r.fail(errStopping, errStopping)
	}
	left := r.job.size - r.sent
	if left == 0 {
		r.ended = true
		return 0, io.EOF
	}
	n, err := r.job.body.Read(p[:min(int64(len(p)), left)])
	r.sent += int64(n)
	switch {
	case n > 0:
		return n, nil
	case err == io.EOF:
		return r.fail(errRead, errShrank)
	case err != nil:
		return r.fail(errRead, err)
	}
	return 0, nil
}

func (r *run) fail(told, reason error) (int, error) {
	r.speak, r.reason = true, reason
	return 0, told
}

// beforeResend is called before each resend of a block, count from zero.
func (r *run) beforeResend(count int) time.Duration {
	switch {
	case r.reason != nil:
	case r.ctx.Err() != nil:
		r.abandon(errStopping)
	case !r.heard && count >= firstResends:
		r.abandon(r.job.silence())
	}
	return 0
}

// abandon ends the transfer: nothing can be sent to port 0, so the library
// fails, without waiting, as often as it would resend.
func (r *run) abandon(reason error) {
	r.reason = reason
	r.addr.Port = 0
}

// OnSuccess does nothing; it is part of the library's Hook.
func (r *run) OnSuccess(pin.TransferStats) {}

// OnFailure is called before the library tells the client about err. What it
// would say is a Go error, and often the answer to an ERROR or to silence, so
// most of the time it is kept from saying it.
func (r *run) OnFailure(stats pin.TransferStats, err error) {
	if stats.RemoteAddr != nil {
		if !r.speak {
			r.addr.Port = 0
		}
		return
	}
	if !r.over {
		r.reason = fmt.Errorf("start: %v", err) // no socket left
	}
}

// outcome judges the end of the transfer.
func (r *run) outcome() outcome {
	out := outcome{bytes: r.sent}
	code, text, aborted := clientError(r.err)
	switch {
	case r.reason != nil:
		out.err = r.reason
	case r.err == nil:
	case aborted && r.job.tsize && !r.heard && (code == 0 || code == 8):
		out.probe = true
	case aborted:
		out.err = fmt.Errorf("client sent error %d %q", code, text)
	case isTimeout(r.err) && r.heard && r.ended:
		// Machines start what they have without the last ACK.
	case isTimeout(r.err):
		out.err = errNoAnswer
	default:
		out.err = fmt.Errorf("send: %v", r.err)
	}
	return out
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// clientError finds the client's ERROR in the library's words for it.
func clientError(err error) (code int, text string, ok bool) {
	if err == nil {
		return 0, "", false
	}
	var block int
	head, text, ok := strings.Cut(err.Error(), ", error: ")
	if !ok {
		return 0, "", false
	}
	if _, err := fmt.Sscanf(head, "sending block %d: code=%d", &block, &code); err != nil {
		return 0, "", false
	}
	text, _, _ = strings.Cut(text, "\x00")
	return code, text, true
}

// silence says why a client may never have answered: the usual reason is that
// our answers come from an address it did not ask.
func (j job) silence() error {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(j.peer))
	if err != nil {
		return fmt.Errorf("%w: %v", errNoAnswer, err)
	}
	defer c.Close()
	from := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if j.local.IsValid() && from != j.local {
		return fmt.Errorf("%w: it asked %v, and the answers left from %v", errNoAnswer, j.local, from)
	}
	return errNoAnswer
}
