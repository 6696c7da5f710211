// Package phonehome serves the agent of Kairos that phones home: it registers
// once over HTTP, and then keeps a WebSocket (RFC 6455) open, on which it sends
// a heartbeat every 30 seconds.
//
//	POST /api/v1/nodes/register     a Registration; the answer is Credentials
//	GET  /api/v1/ws?token=<apiKey>  the WebSocket
//
// A message is {"type": ..., "data": ...}. Of what the agent sends, "heartbeat"
// has a Heartbeat; everything else, such as "command_status", is ignored. It
// would carry out commands of ours; we send none.
//
// The names are those of kairos-io/kairos, agent/internal/phonehome/config.go,
// and of AuroraBoot, pkg/handlers/nodes.go, whose place we take. What that agent
// does and these rules follow from: it registers only while it has no
// credentials on its disk, and never again when they are refused (client.go,
// Register); it takes 200 and 201 for yes, 401 for a wrong registration token,
// and shows the body of any other answer in its log; it connects again after
// 5 to 60 seconds, whatever ended the connection.
//
// Everything that a node can make grow has a bound: a body and a message have
// 64 KiB, a node has one connection, of which the newest counts, all of them
// together Server.Max; messages are read no faster than one a second, and who
// says nothing for a while is cut off. A bad message costs its sender the
// message, a message that is too long the connection.
package phonehome

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

// The limits of an agent. It sends a heartbeat each 30 s, of a few kB; a status
// of a command may come between them.
const (
	maxMessage = 64 << 10
	perSecond  = 1
	burst      = 10
	patience   = 10 * time.Minute // without a message
	farewell   = time.Second      // to take in an answer
)

// A Registration is what an agent says of its node when it registers. We take
// its word for what is shown to people, and for nothing else.
type Registration struct {
	Token    string `json:"registrationToken"` // what lets it register
	Hostname string `json:"hostname"`
	Version  string `json:"agentVersion"`
	Boot     string `json:"bootState"`
}

// Credentials are what an agent keeps on its disk.
type Credentials struct {
	ID  string `json:"id"`
	Key string `json:"apiKey"`
}

// A Heartbeat is what an agent says of its node each time.
type Heartbeat struct {
	Hostname string `json:"hostname"`
	Version  string `json:"agentVersion"`
	Boot     string `json:"bootState"`
}

// A Refusal is an error that the agent is told.
type Refusal struct {
	Status int // of HTTP
	Text   string
}

// Error returns what the agent is told.
func (r *Refusal) Error() string { return r.Text }

// A Server serves agents. Set the fields before its first request and leave
// them be. The callbacks are called from several goroutines, and may block on
// the disk. Errors that are no *Refusal are the server's, and not for agents.
type Server struct {
	// Register settles whether an agent may register, and gives it its
	// credentials.
	Register func(peer netip.Addr, r Registration) (Credentials, error)
	// Whose returns the node that a key is of.
	Whose func(peer netip.Addr, key string) (node string, err error)
	// Beat takes a heartbeat of a node; first is true for the first one of a
	// connection. An error ends the connection, and is told.
	Beat func(node string, peer netip.Addr, b Heartbeat, first bool) error
	// Max bounds the connections. Zero: none is taken.
	Max int
	// Log hears of what agents do wrong. Nil discards.
	Log *slog.Logger

	mu      sync.Mutex // guards the following
	stopped bool
	open    map[string]*line // by node
	lines   sync.WaitGroup
}

// A line is a connection of a node, and ends with the cause that it is
// cancelled with.
type line struct{ cancel context.CancelCauseFunc }

// Run waits until ctx is done, then ends all connections, and returns when they
// have ended. It is to be told before the HTTP server whose requests they were,
// which does not know of them any more.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	for _, l := range s.open {
		l.cancel(errGoingAway)
	}
	s.mu.Unlock()
	s.lines.Wait()
	return nil
}

var (
	errGoingAway = errors.New("the server stops")
	errReplaced  = errors.New("the node has connected again")
	errVoid      = errors.New("the key is void")
)

// ServeHTTP answers the routes of the package comment, of which it looks at the
// last element alone: who routes to it has looked at the rest.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	peer := remote(r)
	var err error
	if r.Method == http.MethodPost {
		err = s.register(w, r, peer)
	} else {
		err = s.connect(w, r, peer)
	}
	if err == nil {
		return
	}
	s.log().Debug("agent refused", "ip", peer, "err", err)
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		s.log().Error("agent not served", "ip", peer, "err", err)
		refusal = &Refusal{http.StatusInternalServerError, "server error, see its log"}
	}
	if refusal.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "30")
	}
	answer(w, refusal.Status, map[string]string{"error": refusal.Text})
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// answer sends v. That nobody may keep it is for the key in it.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the agent asks again
}

func (s *Server) register(w http.ResponseWriter, r *http.Request, peer netip.Addr) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return &Refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("body is longer than %d bytes", maxMessage)}
	case err != nil:
		return &Refusal{http.StatusBadRequest, "body did not arrive"}
	}
	var reg Registration
	if json.Unmarshal(body, &reg) != nil {
		return &Refusal{http.StatusBadRequest, "body is not a registration in JSON"}
	}
	cred, err := s.Register(peer, reg)
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, cred)
	return nil
}

// connect serves a connection until it ends.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, peer netip.Addr) error {
	key := r.URL.Query().Get("token")
	node, err := s.Whose(peer, key)
	if err != nil {
		return err
	}
	// Not the context of the request, which is over when the connection is
	// no longer the HTTP server's (http.Hijacker).
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	l := &line{cancel: cancel}
	if err := s.enter(node, l); err != nil {
		return err
	}
	defer s.leave(node, l)
	if _, err := s.Whose(peer, key); err != nil { // HangUp came before enter
		return err
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil { // and the client has been told
		s.log().Debug("no websocket", "node", node, "ip", peer, "err", err)
		return nil
	}
	defer conn.Close()
	err = s.listen(ctx, cancel, conn, node, peer)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	s.log().Debug("agent left", "node", node, "ip", peer, "err", err)
	return nil
}

// upgrader refuses browsers that a page of another server sent here.
var upgrader = websocket.Upgrader{HandshakeTimeout: farewell}

// enter makes room for a connection: in the place of the one that the node had,
// which may be dead without our having noticed.
func (s *Server) enter(node string, l *line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.open[node]
	switch {
	case s.stopped:
		return &Refusal{http.StatusServiceUnavailable, errGoingAway.Error()}
	case old == nil && len(s.open) >= s.Max:
		return &Refusal{http.StatusServiceUnavailable, "too many agents, try again"}
	case old != nil:
		old.cancel(errReplaced)
	}
	if s.open == nil {
		s.open = map[string]*line{}
	}
	s.open[node] = l
	s.lines.Add(1)
	return nil
}

func (s *Server) leave(node string, l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[node] == l {
		delete(s.open, node)
	}
	s.lines.Done()
}

// HangUp ends the connection of a node, whose key is void.
func (s *Server) HangUp(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.open[node]; l != nil {
		l.cancel(errVoid)
	}
}

// Connected reports how many agents are connected.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// listen takes messages until the connection ends or ctx is done, which end
// does, and tells the agent why.
func (s *Server) listen(ctx context.Context, end context.CancelCauseFunc, conn *websocket.Conn, node string, peer netip.Addr) error {
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		bye := websocket.FormatCloseMessage(websocket.CloseGoingAway, context.Cause(ctx).Error())
		_ = conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(farewell)) // it may be gone
		conn.Close()
	})
	defer func() {
		if !stop() {
			<-told
		}
	}()
	limit := rate.NewLimiter(perSecond, burst)
	conn.SetReadLimit(maxMessage)
	conn.SetPingHandler(func(data string) error {
		if !limit.Allow() {
			return errors.New("too many pings")
		}
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(farewell))
	})
	for first := true; ; {
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		kind, text, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		if b, ok := ParseHeartbeat(text); ok && kind == websocket.TextMessage {
			if err := s.Beat(node, peer, b, first); err != nil {
				end(err)
				return err
			}
			first = false
		}
	}
}

// ParseHeartbeat reads a message, and reports whether it is a heartbeat. One with
// data that we do not understand is one all the same.
func ParseHeartbeat(text []byte) (b Heartbeat, ok bool) {
	var m struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(text, &m) != nil || m.Type != "heartbeat" {
		return b, false
	}
	if json.Unmarshal(m.Data, &b) != nil {
		b = Heartbeat{}
	}
	return b, true
}

func remote(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}
