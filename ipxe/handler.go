package ipxe

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// Limits of the boot plane.
const (
	maxBody     = 64 << 10         // of a check-in
	bodyTime    = 10 * time.Second // for a client to send it
	retryAfter  = "5"              // seconds, with 503
	maxHeader   = 16 << 10         // of a request
	maxWireText = 128              // of a text from the wire that goes into an event
)

// A Server answers the boot plane. Set the fields before Handler and leave
// them be. The callbacks are called from several goroutines.
type Server struct {
	// Root holds the boot directories and the artifact tree.
	Root *os.Root
	// Loaders are served under /boot/.
	Loaders Loaders
	// Advertise is the host or host:port that scripts name. Empty: the
	// address the machine reached us at, which is right on every interface.
	Advertise string

	// Decide returns what a machine does next; it must not block on the
	// network.
	Decide func(Machine) deploy.Decision
	// IsNode reports whether the inventory has a node of that name.
	IsNode func(name string) bool
	// Identify tells who holds an address: a node, or at least the MAC of a
	// lease. Both are empty for an address that is nobody's.
	Identify func(netip.Addr) (nodeName string, mac node.MAC)
	// Foreign reports whether who asks at an address for what a node boots is
	// not that node; says is the MAC that the request names, or zero. It gets
	// its answer, and the event of it is marked: it is no step of the node. Nil:
	// nobody is foreign.
	Foreign func(peer netip.Addr, says node.MAC, nodeName string) bool
	// Pinned returns the path below Root of a file of a release that a node
	// boots, or booted until a moment ago; kind is "kernel", "initrd" or
	// "rootfs". With it, scripts name /<node>/<release>/..., so that a boot
	// ends with the release it began with, whatever is linked meanwhile. An
	// error wraps fs.ErrNotExist where the node does not have that release.
	// Nil: scripts name /<node>/..., and there is no such route.
	Pinned func(nodeName, release, kind string) (path string, err error)
	// CheckIn takes what a node says of itself. It has happened when the answer
	// is sent. An error wrapping deploy.ErrNotNow is for the node to read. Nil:
	// check-ins only become events.
	CheckIn func(CheckIn) error
	// Sending is told of a file of a boot directory before its first byte is
	// sent to an address, which has answered us by then; on an error none is.
	// The function that it returns is
	// told whether all of what was asked for was sent; nil: nobody wants to
	// know. Nil: the same.
	Sending func(addr netip.Addr, file string) (sent func(whole bool), err error)
	// Redact takes the secrets of a node out of a text that it sent. Nil: there
	// are none.
	Redact func(nodeName, text string) string
	// Retries returns how often a machine that is to boot asks a server that
	// is gone before it tries its next boot device. Nil: ten times.
	Retries func() int
	// Loader returns what a machine's firmware was told to load. Nil: never
	// one that is signed.
	Loader func(Machine) node.Loader
	// Ticket issues the ticket of a node that boots with a payload to the
	// machine at an address, whom the script names it. Nil: no node has a
	// payload.
	Ticket func(d deploy.Decision, peer netip.Addr, server string) (deploy.Token, error)
	// Payload judges a request for a document and renders it; with peek the
	// ticket is not used. Nil: there is no such route.
	Payload func(r PayloadRequest, peek bool) PayloadAnswer
	// Media judges a request for a CD image and opens it. Nil: there is no
	// such route.
	Media func(MediumRequest) MediumAnswer
	// Claim returns what the QR code of a machine that waits says; empty: it
	// shows none. Nil: as empty.
	Claim func(m Machine, server string) string
	// ClaimPage answers for the URLs of claims. Nil: there is no such route.
	ClaimPage http.Handler
	// Validate returns the program by which the node at an address reports what
	// it is; nil: it is none, or nothing is expected of it. Nil: as that.
	Validate func(peer netip.Addr, server string) []byte
	// Ready reports whether boots may be served. Nil: always.
	Ready func() bool
	// Record takes each step. Nil: steps are forgotten.
	Record func(timeline.Event)

	// Agents serves those that phone home as Kairos' do. Nil: there is no such
	// route.
	Agents http.Handler

	Metrics      http.Handler // for /metrics; nil: no such route
	MaxTransfers int          // files sent at a time; zero: 1024
	MaxPerAddr   int          // of these, to one address; zero: 16
	Log          *slog.Logger // nil discards
}

// HTTPServer returns a server for the boot plane. It has no write timeout: a
// large file takes its time, and readers that are too slow are cut off.
func (s *Server) HTTPServer() *http.Server {
	h := s.handler()
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute, // iPXE keeps a connection while it thinks
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug),
		// "OPTIONS *" gets an error like every other method.
		DisableGeneralOptionsHandler: true,
	}
}

// Handler returns the routes of the package comment. Limits count for each
// Handler on its own.
func (s *Server) Handler() http.Handler { return s.handler() }

func (s *Server) handler() *handler {
	h := &handler{Server: *s}
	if h.MaxTransfers == 0 {
		h.MaxTransfers = 1024
	}
	if h.MaxPerAddr == 0 {
		h.MaxPerAddr = 16
	}
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	if h.Ready == nil {
		h.Ready = func() bool { return true }
	}
	if h.Record == nil {
		h.Record = func(timeline.Event) {}
	}
	if h.Redact == nil {
		h.Redact = func(_, text string) string { return text }
	}
	if h.CheckIn == nil {
		h.CheckIn = func(CheckIn) error { return nil }
	}
	h.slots = newSlots(h.MaxTransfers, h.MaxPerAddr)
	return h
}

// A handler is a Server with its defaults resolved.
type handler struct {
	Server
	slots *slots
}

// A refusal is an error with its HTTP status and what the client is told.
type refusal struct {
	status int
	text   string
	allow  string // for 405
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// A call is one request on its way.
type call struct {
	*http.Request
	target
	addr   netip.Addr
	server string // host:port for URLs in scripts
}

// ServeHTTP is the one place where an error becomes an answer.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := newMeter(w)
	m.extend() // or the deadline of the last request on this connection holds
	if r.ContentLength != 0 {
		_ = m.control.SetReadDeadline(time.Now().Add(bodyTime))
	}
	c := &call{Request: r, addr: remote(r), server: h.server(r)}
	var err error
	if c.target, err = parse(r); err == nil {
		err = h.serve(m, c)
	}
	if err != nil {
		h.answer(m, c, err)
	}
	h.Log.Debug("request", "ip", c.addr, "method", r.Method, "path", cmp.Or(c.path, deploy.Redact(r.URL.Path)),
		"status", m.status, "bytes", m.sent, "err", errors.Join(err, m.err))
}

// serve answers a call, or returns an error having sent nothing.
func (h *handler) serve(w *meter, c *call) error {
	if c.kind == nowhere {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	if c.kind == claimPage && h.ClaimPage != nil {
		h.ClaimPage.ServeHTTP(w, c.Request)
		return nil
	}
	if want := c.method(); c.Method != want && (want != http.MethodGet || c.Method != http.MethodHead) {
		return notAllowed(want)
	}
	switch c.kind {
	case health:
		return plain(w, "ok")
	case metrics:
		return h.metrics(w, c)
	}
	if !h.Ready() {
		return refuse(http.StatusServiceUnavailable, "not ready yet, ask again")
	}
	switch c.kind {
	case bootScript, nodeScript:
		return h.script(w, c)
	case autoexec:
		return h.autoexec(w, c)
	case grubFile:
		return h.grub(w, c)
	case checkIn:
		return h.checkIn(w, c)
	case report:
		return h.report(w, c)
	case document, held, metadata, basecamp:
		return h.payload(w, c)
	case validateScript:
		return h.validate(w, c)
	case medium:
		return h.media(w, c)
	case agentEntry, agentLine:
		return h.agents(w, c)
	}
	return h.file(w, c)
}

func notAllowed(want string) error {
	allow := want
	if want == http.MethodGet {
		allow = "GET, HEAD"
	}
	return &refusal{status: http.StatusMethodNotAllowed, text: "only " + allow + " here", allow: allow}
}

// answer tells the client of an error: a script where iPXE will run it, else
// one line of text. 503 stays what it is, because iPXE then waits by itself.
func (h *handler) answer(w *meter, c *call, err error) {
	r := status(err)
	if c.isScript() && (r.status == http.StatusNotFound || r.status >= 500) && r.status != http.StatusServiceUnavailable {
		sendScript(w, trouble(c.server, err.Error()))
		return
	}
	if r.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	if r.allow != "" {
		w.Header().Set("Allow", r.allow)
	}
	http.Error(w, r.text, r.status)
}

// status returns what the outside learns of an error: the name of a file on
// our disk, or the reason why it cannot be read, is for the log.
func status(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, fs.ErrNotExist):
		return &refusal{status: http.StatusNotFound, text: "no such file"}
	case errors.Is(err, deploy.ErrNotNow):
		return &refusal{status: http.StatusConflict, text: err.Error()}
	}
	return &refusal{status: http.StatusInternalServerError, text: "server error, see its log"}
}

func plain(w http.ResponseWriter, line string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(line)+1))
	_, _ = io.WriteString(w, line+"\n") // kept by the meter
	return nil
}

func sendScript(w http.ResponseWriter, script []byte) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(script)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(script) // kept by the meter
}

func (h *handler) metrics(w http.ResponseWriter, c *call) error {
	if h.Metrics == nil {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	h.Metrics.ServeHTTP(w, c.Request)
	return nil
}

// agents hands a request on; one for a WebSocket with the ResponseWriter of
// net/http, which can let go of its connection.
func (h *handler) agents(w *meter, c *call) error {
	if h.Agents == nil {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	if c.kind == agentLine {
		h.Agents.ServeHTTP(w.ResponseWriter, c.Request)
		return nil
	}
	h.Agents.ServeHTTP(w, c.Request)
	return nil
}

// script renders the decision for the machine that asks.
func (h *handler) script(w *meter, c *call) error {
	m := machine(c.URL.Query(), c.addr)
	says := m.MAC
	if m.MAC.IsZero() {
		_, m.MAC = h.identify(c.addr)
	}
	if c.kind == nodeScript {
		if !h.isNode(c.node) {
			return refuse(http.StatusNotFound, "%q is not a node of the inventory", c.node)
		}
		m.Name = c.node
	}
	m.Peek = c.Method == http.MethodHead
	d := h.Decide(m)
	s := Script{Server: c.server, MAC: m.MAC, ByName: m.Name != "", Retries: h.retries(), Signed: h.signed(m), Firmware: m.Firmware, Pinned: h.Pinned != nil, Decision: d}
	if h.Claim != nil && (d.Action == deploy.Discover || d.Action == deploy.Hold) {
		s.Claim = h.Claim(m, c.server)
	}
	var text []byte
	var err error
	if s.Ticket, err = h.ticket(d, c.addr, c.server); err == nil {
		text, err = s.Render()
	}
	if err != nil {
		text = trouble(c.server, shown(err))
	}
	begin := time.Now()
	sendScript(w, text)
	e := h.event(c, w, begin, timeline.Script)
	e.Node, e.MAC = d.Node, m.MAC
	e.Action, e.Release, e.Detail = d.Action.String(), d.Release, d.Reason
	if errors.Is(err, deploy.ErrNotBearer) || h.foreign(&e, says) {
		markForeign(&e)
	}
	h.record(c, e, errors.Join(err, w.err))
	return nil
}

// foreign reports whether somebody else than the node of an event asked.
func (s *Server) foreign(e *timeline.Event, says node.MAC) bool {
	return s.Foreign != nil && e.Node != "" && s.Foreign(e.Addr, says, e.Node)
}

// markForeign makes an event one of somebody who looks at what a node boots,
// which is no step of the node.
func markForeign(e *timeline.Event) {
	e.Action, e.Release, e.Stage = deploy.Foreign.String(), "", ""
}

// signed reports whether a machine runs the signed iPXE.
func (s *Server) signed(m Machine) bool {
	if s.Loader == nil {
		return false
	}
	l := s.Loader(m)
	return l == node.LoaderSNPOnlyShim || l == node.LoaderIPXEShim
}

func (s *Server) retries() int {
	if s.Retries == nil {
		return defaultRetries
	}
	return s.Retries()
}

// Open opens a loader or a file of a boot directory by the path it has over
// HTTP, for TFTP: a loader may be asked for without the leading boot/. All
// other names are those of files for Raspberry Pis.
func (s *Server) Open(name string) (*os.File, error) {
	t := match(strings.Split(name, "/"))
	switch {
	case isLoader(name):
		return s.Loaders.Open(name)
	case t.kind == loader:
		return s.Loaders.Open(t.file)
	case t.kind == nodeFile && s.IsNode != nil && s.IsNode(t.node):
		h := handler{Server: *s}
		return h.open(t)
	}
	return s.Loaders.openPi(name)
}

// autoexec answers those who boot with an address of ours. To others a quick
// miss is better: iPXE then asks DHCP.
func (h *handler) autoexec(w *meter, c *call) error {
	if name, mac := h.identify(c.addr); name == "" && mac.IsZero() {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	begin := time.Now()
	sendScript(w, Autoexec(c.server, h.retries()))
	h.record(c, h.event(c, w, begin, timeline.HTTP), w.err)
	return nil
}

// file sends a loader, a file of a boot directory or an artifact.
func (h *handler) file(w *meter, c *call) error {
	if c.kind == nodeFile && !h.isNode(c.node) {
		return refuse(http.StatusNotFound, "%q is not a node of the inventory", c.node)
	}
	if !h.slots.take(c.addr) {
		return refuse(http.StatusServiceUnavailable, "too many transfers, ask again")
	}
	defer h.slots.give(c.addr)
	begin := time.Now()
	err := h.transfer(w, c)
	e := h.event(c, w, begin, timeline.HTTP)
	if e.Node == "" {
		if e.Node = c.node; h.foreign(&e, node.MAC{}) {
			markForeign(&e)
		}
	}
	switch {
	case err == nil && w.err != nil:
		h.record(c, e, w.err)
	case err == nil && w.status >= 400:
		h.record(c, e, fmt.Errorf("answered %d %s", w.status, http.StatusText(w.status)))
	default:
		h.record(c, e, err)
	}
	return err
}

func (h *handler) transfer(w *meter, c *call) error {
	f, err := h.open(c.target)
	if err != nil {
		return err
	}
	defer f.Close()
	if h.Sending != nil && c.kind == nodeFile && c.Method != http.MethodHead {
		sent, err := h.Sending(c.addr, c.path)
		if err != nil {
			return err
		}
		if sent != nil {
			whole := false
			defer func() { sent(whole) }()
			err := serveFile(w, c.Request, c.file, f)
			whole = err == nil && w.err == nil
			return err
		}
	}
	return serveFile(w, c.Request, c.file, f)
}

// open opens the file of a target. A link that leads out of the root is as
// good as no file.
func (h *handler) open(t target) (*os.File, error) {
	if t.kind == loader {
		return h.Loaders.Open(t.file)
	}
	if t.rel != "" {
		var err error
		if t.file, err = h.pinned(t); err != nil {
			return nil, err
		}
	}
	// A FIFO must not block the server.
	f, err := h.Root.OpenFile(t.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case err == nil:
		return regular(f)
	case errors.Is(err, fs.ErrPermission):
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse(http.StatusNotFound, "%q: no such file", t.path)
	}
	return nil, fmt.Errorf("%w: %w", err, fs.ErrNotExist)
}

// pinned returns the path of a file of the release that a boot began with.
func (h *handler) pinned(t target) (string, error) {
	if h.Pinned == nil {
		return "", refuse(http.StatusNotFound, "%q: no such file", t.path)
	}
	kind := t.file
	switch {
	case t.file == initrdName:
		kind = "initrd"
	case IsRootfs(t.file):
		kind = "rootfs"
	}
	file, err := h.Pinned(t.node, t.rel, kind)
	if errors.Is(err, fs.ErrNotExist) {
		return "", refuse(http.StatusNotFound, "%q: no such file: the node does not boot that release", t.path)
	}
	return file, err
}

// The values a script puts into a report.
var (
	stepRule  = regexp.MustCompile(`^[a-z-]{1,16}$`)
	errnoRule = regexp.MustCompile(`^[0-9a-f]{1,8}$`)
)

// report takes the failure of a boot script.
func (h *handler) report(w *meter, c *call) error {
	if name, mac := h.identify(c.addr); name == "" && mac.IsZero() {
		return refuse(http.StatusNotFound, "address %v is nobody's", c.addr)
	}
	q := c.URL.Query()
	step, errno := q.Get("step"), q.Get("err")
	if !stepRule.MatchString(step) || !errnoRule.MatchString(errno) {
		return refuse(http.StatusBadRequest, "report wants step= and err= of a boot script")
	}
	why := "iPXE error " + errno
	if text := explain(errno); text != "" {
		why += ": " + text
	}
	e := h.event(c, w, time.Now(), timeline.Report)
	e.Stage, e.Detail = timeline.IPXE, step
	h.record(c, e, errors.New(why))
	return plain(w, "ok")
}

// event begins the event of a call with what every step has. Whose address it
// came from says whose step it is.
func (h *handler) event(c *call, w *meter, begin time.Time, step timeline.Step) timeline.Event {
	e := timeline.Event{Addr: c.addr, Step: step, Stage: stage(c.Request), File: c.path, Bytes: w.sent, Dur: time.Since(begin)}
	e.Node, e.MAC = h.identify(c.addr)
	return e
}

// record hands an event on and logs it. A HEAD is a question, not a step.
func (h *handler) record(c *call, e timeline.Event, err error) {
	if c.Method == http.MethodHead {
		return
	}
	if err != nil {
		e.Err = err.Error()
	}
	h.Record(e)
	h.Log.Log(c.Context(), level(&e), string(e.Step), "node", e.Node, "mac", e.MAC, "ip", e.Addr,
		"file", e.File, "action", e.Action, "release", e.Release, "bytes", e.Bytes, "dur", e.Dur, "err", e.Err)
}

// level keeps what is not about a node of the inventory out of the way.
func level(e *timeline.Event) slog.Level {
	switch {
	case e.Node == "":
		return slog.LevelDebug
	case e.Err != "":
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// server returns the host:port that the machine reaches us at.
func (h *handler) server(r *http.Request) string {
	if h.Advertise != "" {
		return h.Advertise
	}
	a, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string })
	if !ok {
		return ""
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	return strings.TrimSuffix(ap.String(), ":80")
}

func (h *handler) identify(a netip.Addr) (string, node.MAC) {
	if h.Identify == nil {
		return "", node.MAC{}
	}
	return h.Identify(a)
}

func (h *handler) isNode(name string) bool { return h.IsNode != nil && h.IsNode(name) }

// WireText makes a text from the wire fit for an event: short and printable.
func WireText(s string) string {
	s = deploy.Redact(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSpace(s)))
	return s[:min(len(s), maxWireText)]
}
