package tftp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// Defaults of Server.
const (
	defaultBlockSize    = 1468 // fills an Ethernet frame: 1500 - overhead
	defaultWindow       = 16   // RFC 7440 section 5: more gains little
	defaultMaxTransfers = 512
	defaultMaxPerClient = 8
)

// largestWindow bounds what one ACK may set off, whatever is configured.
const largestWindow = 64

// grace is how long Run waits for transfers when it has to stop.
const grace = 3 * time.Second

// A Server answers TFTP read requests. Set the fields before Run and leave
// them be.
type Server struct {
	// Open returns the file for a normalised name; peer is the address of the
	// client. Files are closed after use. An error wrapping fs.ErrNotExist is
	// answered with "file not found", any other with a fixed text, and logged.
	// It is called by several goroutines at once, and must not block for long
	// (as opening a FIFO does): the client waits for an answer. A returned
	// file that says by its Stat method that it is not regular is refused.
	Open func(name string, peer netip.Addr) (io.ReadSeekCloser, error)

	// Done is called once for every transfer that ends, and for names that
	// are missing or refused, by several goroutines at once. It must not
	// block. Nil: nobody is told.
	Done func(Transfer)

	BlockSize    int          // largest blksize to agree to, in bytes, 512 to 65464, less if the route's MTU is; zero: 1468
	Window       int          // largest windowsize to agree to, in blocks, 1 to 64; zero: 16
	MaxTransfers int          // at one time; zero: 512
	MaxPerClient int          // at one time for one client address; zero: 8
	Log          *slog.Logger // nil discards
}

// A Transfer is how one request ended.
type Transfer struct {
	Name  string         // normalised; as asked for where it was refused, made printable
	Peer  netip.AddrPort // client
	Bytes int64          // sent, the last block included even if the client never acknowledged it
	Dur   time.Duration  // from the request to the end
	Probe bool           // client asked for the size only, and left; not a failure
	Err   error          // nil: the client has the file, or it was a probe
}

// Run answers requests that come to c, a bound udp4 socket, until ctx is done,
// and then returns nil within a few seconds. Transfers under way are ended
// first. Any other return means that the socket has failed. Run leaves c open.
func (s *Server) Run(ctx context.Context, c *net.UDPConn) error {
	sock, err := newSocket(c)
	if err != nil {
		return err
	}
	return s.handler(sock, send).run(ctx)
}

// handler resolves the defaults.
func (s *Server) handler(c conn, send engine) *handler {
	h := &handler{
		conn:   c,
		send:   send,
		open:   s.Open,
		done:   s.Done,
		block:  max(defaultBlock, min(maxBlock, cmp.Or(s.BlockSize, defaultBlockSize))),
		window: max(1, min(largestWindow, cmp.Or(s.Window, defaultWindow))),
		gate:   newGate(cmp.Or(s.MaxTransfers, defaultMaxTransfers), cmp.Or(s.MaxPerClient, defaultMaxPerClient)),
		log:    s.Log,
	}
	if h.done == nil {
		h.done = func(Transfer) {}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// A handler is a Server that runs.
type handler struct {
	conn   conn
	send   engine
	open   func(string, netip.Addr) (io.ReadSeekCloser, error)
	done   func(Transfer)
	block  int // largest block
	window int // largest window
	gate   *gate
	log    *slog.Logger
	busy   sync.WaitGroup
}

// run is Run with the defaults resolved. It alone reads requests; each transfer
// then has a goroutine.
func (h *handler) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer h.wait()
	defer cancel()
	stop := context.AfterFunc(ctx, h.conn.interrupt)
	defer stop()
	buf := make([]byte, maxRequest+1)
	for {
		n, from, err := h.conn.receive(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		h.handle(ctx, buf[:n], from)
	}
}

// wait gives transfers time to end. One that does not is stuck in Open or in
// the file system, where nobody can reach it.
func (h *handler) wait() {
	ended := make(chan struct{})
	go func() {
		h.busy.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(grace):
		h.log.Error("stopped while files were still being read")
	}
}

// handle answers one packet. It does not keep b.
func (h *handler) handle(ctx context.Context, b []byte, from origin) {
	log := h.log.With("ip", from.peer)
	defer rescue(log)
	if from.silent() {
		log.Debug("packet ignored", "group", from.group)
		return
	}
	start := time.Now()
	req, err := parse(b)
	if err != nil {
		log.Debug("no request", "err", err)
		h.refuse(log, from, err)
		return
	}
	name, err := Normalize(req.name)
	if err != nil {
		log.Warn("name refused", "err", err)
		h.refuse(log, from, err)
		h.done(Transfer{Name: printable(req.name), Peer: from.peer, Dur: time.Since(start), Err: err})
		return
	}
	req.name = name
	t := ticket{from.peer, req}
	again, closed := h.gate.enter(t)
	if closed != "" {
		log.Debug("request ignored", "file", name, "err", closed)
		return
	}
	h.busy.Go(func() {
		defer h.gate.leave(t)
		defer rescue(log)
		h.serve(ctx, log, job{
			to: from, req: req, again: again,
			crowded: func() bool { return h.gate.crowded(from.peer.Addr()) },
		}, start)
	})
}

// serve sends the file, or says why not.
func (h *handler) serve(ctx context.Context, log *slog.Logger, j job, start time.Time) {
	t := Transfer{Name: j.req.name, Peer: j.to.peer}
	file, size, err := openFile(h.open, j.req.name, j.to.peer.Addr())
	if err != nil {
		t.Err = err
		h.refuse(log, j.to, err)
	} else {
		defer file.Close()
		j.block, j.window, j.size, j.body = h.block, h.window, size, file
		out := h.send(ctx, j)
		t.Bytes, t.Probe, t.Err = out.bytes, out.probe, out.err
	}
	t.Dur = time.Since(start)
	h.report(log, t)
	h.done(t)
}

// report logs how a transfer ended. A missing file is normal: loaders try
// several names.
func (h *handler) report(log *slog.Logger, t Transfer) {
	level := slog.LevelDebug
	if t.Err != nil && replyTo(t.Err).code != codeNotFound {
		level = slog.LevelWarn
	}
	if p := (*panicError)(nil); errors.As(t.Err, &p) {
		level, log = slog.LevelError, log.With("stack", string(p.stack))
	}
	log.Log(context.Background(), level, "transfer", "file", t.Name, "bytes", t.Bytes, "dur", t.Dur, "probe", t.Probe, "err", t.Err)
}

// refuse answers with the ERROR packet for err, if there is one.
func (h *handler) refuse(log *slog.Logger, to origin, err error) {
	if errors.Is(err, errSilence) {
		return
	}
	if err := h.conn.answer(to, replyTo(err).packet()); err != nil {
		log.Warn("cannot answer", "err", err)
	}
}

// rescue keeps a fault of ours from ending the server.
func rescue(log *slog.Logger) {
	if p := recover(); p != nil {
		log.Error("panic", "err", p, "stack", string(debug.Stack()))
	}
}
