package phonehome_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"bootd/internal/phonehome"
)

// beat is what a Server told of a heartbeat.
type beat struct {
	node  string
	beat  phonehome.Heartbeat
	first bool
}

// serve serves agents until the test ends: key N is that of node N, for any
// name of one letter.
func serve(t *testing.T, maximum int) (s *phonehome.Server, url string, beats chan beat, stop func()) {
	t.Helper()
	beats = make(chan beat, 100)
	s = &phonehome.Server{
		Max: maximum,
		Register: func(_ netip.Addr, r phonehome.Registration) (phonehome.Credentials, error) {
			switch r.Token {
			case "good":
				return phonehome.Credentials{ID: r.Hostname, Key: "secret"}, nil
			case "broken":
				return phonehome.Credentials{}, errors.New("disk of " + r.Hostname + " is full")
			}
			return phonehome.Credentials{}, &phonehome.Refusal{Status: http.StatusUnauthorized, Text: "wrong registration token"}
		},
		Whose: func(_ netip.Addr, key string) (string, error) {
			if len(key) != 1 {
				return "", &phonehome.Refusal{Status: http.StatusUnauthorized, Text: "no such key"}
			}
			return key, nil
		},
		Beat: func(node string, _ netip.Addr, b phonehome.Heartbeat, first bool) error {
			if b.Hostname == "gone" {
				return errors.New("a is no node any more")
			}
			beats <- beat{node, b, first}
			return nil
		},
	}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx); close(ended) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, web.URL, beats, stop
}

// dial connects as the agent of Kairos does, with the library that it uses.
func dial(url, key string) (*websocket.Conn, int, error) {
	c, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/api/v1/ws?token="+key, nil)
	if res == nil {
		return nil, 0, err
	}
	return c, res.StatusCode, err
}

func mustDial(t *testing.T, url, key string) *websocket.Conn {
	t.Helper()
	c, _, err := dial(url, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// wantClosed reads until the server ends the connection.
func wantClosed(t *testing.T, c *websocket.Conn, code int, reason string) {
	t.Helper()
	_, _, err := c.ReadMessage()
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok || closed.Code != code || closed.Text != reason {
		t.Errorf("got %v, want close %d with %q", err, code, reason)
	}
}

func TestRegister(t *testing.T) {
	_, url, _, _ := serve(t, 1)
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		// As agent/internal/phonehome/config.go of v3.6 makes it.
		{"good", `{"machineID":"0a1b","hostname":"n1","registrationToken":"good","labels":{"rack":"7"},"addresses":[{"type":"InternalIP","address":"10.77.0.9"}],"bootState":"active"}`, 201, `{"id":"n1","apiKey":"secret"}`},
		{"wrong token", `{"hostname":"n1","registrationToken":"bad"}`, 401, `{"error":"wrong registration token"}`},
		{"no JSON", `hostname=n1`, 400, `{"error":"body is not a registration in JSON"}`},
		{"other types", `{"hostname":7}`, 400, `{"error":"body is not a registration in JSON"}`},
		{"too long", `{"hostname":"` + strings.Repeat("x", 64<<10) + `"}`, 413, `{"error":"body is longer than 65536 bytes"}`},
		{"our fault is not for agents", `{"hostname":"n1","registrationToken":"broken"}`, 500, `{"error":"server error, see its log"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := http.Post(url+"/api/v1/nodes/register", "application/json", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status || string(bytes.TrimSpace(got)) != tt.want {
				t.Errorf("got %d %s, want %d %s", res.StatusCode, got, tt.status, tt.want)
			}
			if got := res.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("got Cache-Control %q, want no-store", got)
			}
		})
	}
}

func TestHeartbeats(t *testing.T) {
	_, url, beats, _ := serve(t, 1)
	c := mustDial(t, url, "a")
	want := func(w beat) {
		t.Helper()
		if got := <-beats; got != w {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
	// Nothing but heartbeats counts, and nothing else ends the connection.
	send(t, c, `{"type":"command_status","data":{"id":"1","phase":"Running"}}`)
	send(t, c, `{`)
	send(t, c, `[]`)
	if err := c.WriteMessage(websocket.BinaryMessage, []byte(`{"type":"heartbeat"}`)); err != nil {
		t.Fatal(err)
	}
	send(t, c, `{"type":"heartbeat","data":{"agentVersion":"v2.27.0","osRelease":{"ID":"ubuntu"},"bootState":"active","hostname":"edge-01"}}`)
	want(beat{"a", phonehome.Heartbeat{Hostname: "edge-01", Version: "v2.27.0", Boot: "active"}, true})
	send(t, c, `{"type":"heartbeat","data":{"bootState":7}}`)
	want(beat{node: "a"})
	send(t, c, `{"type":"heartbeat"}`)
	want(beat{node: "a"})
}

func TestConnections(t *testing.T) {
	s, url, beats, stop := serve(t, 2)
	if _, status, err := dial(url, "nobody"); status != 401 {
		t.Errorf("wrong key: got %d %v, want 401", status, err)
	}
	old := mustDial(t, url, "a")
	b := mustDial(t, url, "b")
	_, status, err := dial(url, "c")
	if status != 503 {
		t.Errorf("a third node: got %d %v, want 503", status, err)
	}
	// A node that connects again has lost its connection.
	again := mustDial(t, url, "a")
	wantClosed(t, old, websocket.CloseGoingAway, "the node has connected again")
	send(t, again, `{"type":"heartbeat"}`)
	if got := <-beats; got != (beat{node: "a", first: true}) {
		t.Errorf("got %+v, want the first heartbeat of a", got)
	}
	s.HangUp("a")
	wantClosed(t, again, websocket.CloseGoingAway, "the key is void")
	again = mustDial(t, url, "a")
	// What is no node any more has no connection.
	send(t, again, `{"type":"heartbeat","data":{"hostname":"gone"}}`)
	wantClosed(t, again, websocket.CloseGoingAway, "a is no node any more")
	again = mustDial(t, url, "a")
	// A message that is too long costs the connection, and makes room.
	send(t, b, strings.Repeat("x", 64<<10+1))
	wantClosed(t, b, websocket.CloseMessageTooBig, "")
	for status != 101 { // its place is free when its handler has noticed
		if _, status, err = dial(url, "c"); status != 503 && status != 101 {
			t.Fatalf("got %d %v, want a connection", status, err)
		}
	}
	stop()
	wantClosed(t, again, websocket.CloseGoingAway, "the server stops")
	if _, status, err := dial(url, "d"); status != 503 {
		t.Errorf("after the end: got %d %v, want 503", status, err)
	}
}

// A page of another server cannot make a browser connect, and what is no
// WebSocket is told so.
func TestNoWebSocket(t *testing.T) {
	_, url, _, _ := serve(t, 1)
	_, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/api/v1/ws?token=a", http.Header{"Origin": {"http://evil.example"}})
	if err == nil || res.StatusCode != 403 {
		t.Errorf("another origin: got %v, want 403", err)
	}
	res, err = http.Get(url + "/api/v1/ws?token=a")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 400 {
		t.Errorf("plain HTTP: got %d, want 400", res.StatusCode)
	}
}

// Pings are answered, but not any number of them.
func TestPings(t *testing.T) {
	_, url, _, _ := serve(t, 1)
	c := mustDial(t, url, "a")
	pongs := 0
	c.SetPongHandler(func(string) error { pongs++; return nil })
	go func() {
		for range 100 {
			if c.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}()
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("got a message, want the end of the connection")
	}
	if pongs < 1 || pongs > 15 {
		t.Errorf("got %d pongs of 100, want about ten", pongs)
	}
}

// What an agent sends is no reason to stop, whatever it is.
func FuzzHeartbeat(f *testing.F) {
	for _, s := range []string{`{"type":"heartbeat","data":{}}`, `{"type":"heartbeat","data":null}`, `{"type":1}`, `null`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, ok := phonehome.ParseHeartbeat(text)
		if ok && !json.Valid(text) {
			t.Errorf("%q: got %+v, want no heartbeat", text, b)
		}
	})
}
