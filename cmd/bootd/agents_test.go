package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bootd/internal/lab"
)

// agentRole is a role that installs, whose agents register with a token.
const agentRole = `
  - {name: edge, dir: k8s, squashfs: [kubernetes], install: {done: callback}, registration-token: %s}`

// agent is Kairos' agent as far as we can see it: requests of its form, sent
// with curl, and the WebSocket library that it uses.
type agent struct {
	browser
	s *site
}

// register registers, and returns the status and the key.
func (a agent) register(token, state string) (int, string) {
	a.s.t.Helper()
	return a.registered(m001.Name, token, state)
}

// registered registers as a node.
func (a agent) registered(name, token, state string) (int, string) {
	a.s.t.Helper()
	body := fmt.Sprintf(`{"machineID":"0a1b2c","hostname":"edge-01","registrationToken":%q,"group":"lab","addresses":[{"type":"InternalIP","address":"10.77.0.250"}],"bootState":%q}`, token, state)
	status, _, answer := a.get("http://10.77.0.1/api/v1/nodes/register", "-H", "Content-Type: application/json", "-d", body)
	var cred struct{ ID, APIKey string }
	if status == http.StatusCreated {
		if err := json.Unmarshal([]byte(answer), &cred); err != nil || cred.ID != name {
			a.s.t.Fatalf("got %q, %v, want the credentials of %s", answer, err, name)
		}
	}
	return status, cred.APIKey
}

// dial connects from the namespace of the node.
func (a agent) dial(key string) (*websocket.Conn, int) {
	a.s.t.Helper()
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = a.Namespace.Do(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}
	c, res, err := d.DialContext(lab.Deadline(a.s.t), "ws://10.77.0.1/api/v1/ws?token="+key, nil)
	if res == nil {
		a.s.t.Fatal(err)
	}
	if err == nil {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		a.s.t.Cleanup(func() { c.Close() })
	}
	return c, res.StatusCode
}

func (a agent) beat(c *websocket.Conn, state string) {
	a.s.t.Helper()
	text := fmt.Sprintf(`{"type":"heartbeat","data":{"agentVersion":"v2.27.0","osRelease":{"ID":"ubuntu"},"labels":{},"bootState":%q,"hostname":"edge-01"}}`, state)
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		a.s.t.Fatal(err)
	}
}

// shows waits until the status of a node, as JSON, has all of these.
func (s *site) shows(name string, want ...string) {
	s.t.Helper()
	var got string
	for ctx := lab.Deadline(s.t); ctx.Err() == nil; {
		got = s.statusOf(name)
		missing := false
		for _, w := range want {
			missing = missing || !strings.Contains(got, w)
		}
		if !missing {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.t.Fatalf("status of %s: got %s, want %q", name, got, want)
}

// statusOf returns the status of a node as JSON in one line.
func (s *site) statusOf(name string) string {
	s.t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(s.bootctl("status", "--json")), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, one := range all {
		if one["machine"] == name {
			text, _ := json.Marshal(one)
			return string(text)
		}
	}
	return ""
}

// Kairos' agent registers, connects and sends heartbeats, through restarts of
// the daemon. Nobody does so in its place, its key is nowhere but with it, and
// no connection outlives its time.
func TestPhoneHome(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "registration")
	if err := os.WriteFile(token, []byte("tell-no-one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := m001
	m.Role = "edge"
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "log: {level: debug}", Roles: fmt.Sprintf(agentRole, token), Nodes: []siteNode{m, s001}})
	a, other := agent{s.browser(m.MAC.String()), s}, agent{s.browser(s001.MAC.String()), s}
	logs := []string{}

	a.must("ip", "addr", "add", "10.77.0.66/24", "dev", "eth0")
	if status, _ := a.register("tell-no-one", "active"); status != 404 {
		t.Errorf("without a lease: got %d, want 404", status)
	}
	a.told("PXEClient:Arch:00007", "0007")
	other.told("PXEClient:Arch:00007", "0007")
	for _, wrong := range []string{"", "tell-no-on", "tell-no-one\n"} {
		if status, _ := a.register(wrong, "active"); status != 401 {
			t.Errorf("token %q: got %d, want 401", wrong, status)
		}
	}

	// An installer that registers is no system that runs.
	s.bootctl("node", "arm", m.Name, "--yes")
	a.get("http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen())
	if status, key := a.register("tell-no-one", "livecd"); status != 201 || key == "" {
		t.Fatalf("installer: got %d, want 201 and a key", status)
	}
	s.shows(m.Name, `"phase":"installing"`, `"running":true`, `"boot":"livecd"`)
	a.must("curl", "-fsS", "-X", "POST", "http://10.77.0.1/checkin/installed")
	status, key := a.register("tell-no-one", "active")
	if status != 201 {
		t.Fatalf("got %d, want 201", status)
	}
	s.shows(m.Name, `"phase":"ready"`, `"boot":"active"`, `"hostname":"edge-01"`, `"outcome":"booted"`)

	// The key opens a connection for its node, and for nobody else.
	if _, status := other.dial(key); status != 403 {
		t.Errorf("from another node: got %d, want 403", status)
	}
	if _, status := a.dial("bdt_" + strings.Repeat("0", 32)); status != 401 {
		t.Errorf("wrong key: got %d, want 401", status)
	}
	c, _ := a.dial(key)
	a.beat(c, "passive")
	s.shows(m.Name, `"boot":"passive"`, `"beats":true`, `"heartbeat":"20`, `"version":"v2.27.0"`)
	again, _ := a.dial(key)
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the old connection: got %v, want that it is closed", err)
	}
	again.Close()
	// A system with an address of its own is still that system.
	a.must("ip", "addr", "flush", "dev", "eth0")
	a.must("ip", "addr", "add", "10.77.0.250/24", "dev", "eth0")
	own, status := a.dial(key)
	if status != 101 {
		t.Fatalf("static address: got %d, want 101", status)
	}

	// kill -9, then a reload, then an orderly stop.
	logs = append(logs, s.daemon.String())
	s.daemon.Kill()
	s.daemon.Ended(lab.Deadline(t))
	if _, _, err := own.ReadMessage(); err == nil {
		t.Error("after kill -9: got a message, want the end of the connection")
	}
	s.start()
	if got := s.statusOf(m.Name); strings.Contains(got, `"heartbeat"`) || !strings.Contains(got, `"beats":true`) || !strings.Contains(got, `"boot":"passive"`) {
		t.Errorf("after a restart: got %s, want that it sends heartbeats, and none yet", got)
	}
	c, status = a.dial(key)
	if status != 101 {
		t.Fatalf("after a restart: got %d, want 101", status)
	}
	a.beat(c, "active")
	s.shows(m.Name, `"boot":"active"`, `"heartbeat":"20`, `"outcome":"booted"`)
	s.reload()
	s.line(s.daemon, `configuration reloaded`)
	a.beat(c, "recovery")
	s.shows(m.Name, `"boot":"recovery"`, `"phase":"ready"`)
	// Other hardware in its place: what the old one holds is void.
	s.bootctl("node", "replace", m.Name, "--mac", "52:54:00:aa:bb:77")
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) || !strings.Contains(err.Error(), "the key is void") {
		t.Errorf("replaced: got %v, want that its key is void", err)
	}
	if _, status := a.dial(key); status != 401 {
		t.Errorf("replaced: got %d, want 401", status)
	}
	if got := s.statusOf(m.Name); strings.Contains(got, `"beats"`) || strings.Contains(got, `"agent"`) {
		t.Errorf("replaced: got %s, want that nothing is known of its system", got)
	}

	// The role of this one wants no token, and boots from the network.
	_, text := other.registered(s001.Name, "", "livecd")
	s.shows(s001.Name, `"phase":"ready"`, `"boot":"livecd"`)
	c, _ = other.dial(text)
	other.beat(c, "livecd")
	s.shows(s001.Name, `"heartbeat":"20`)
	began := time.Now()
	s.daemon.Signal(syscall.SIGTERM)
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("at the end: got %v, want that the server goes away", err)
	}
	if err := s.daemon.Ended(lab.Deadline(t)); err != nil || time.Since(began) > 4*time.Second {
		t.Errorf("the daemon ended after %v with %v, want within 4 s and well", time.Since(began), err)
	}
	logs = append(logs, s.daemon.String(), contents(t, filepath.Join(s.Dir, "state")))
	for _, text := range logs {
		for _, leak := range []string{strings.TrimPrefix(key, "bdt_"), "tell-no-one"} {
			if i := strings.Index(text, leak); i >= 0 {
				t.Errorf("%q is told: %q", leak, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// Heartbeats of any system: a line for cron. They write nothing, one after the
// other.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c := s.browser(m001.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	beat := func(want int) {
		t.Helper()
		if status, _, body := c.get("http://10.77.0.1/checkin/heartbeat", "-X", "POST"); status != want {
			t.Errorf("got %d %q, want %d", status, body, want)
		}
	}
	c.get("http://10.77.0.1/boot/script.ipxe?mac=" + m001.MAC.Hyphen())
	beat(200)
	s.shows(m001.Name, `"phase":"ready"`, `"beats":true`)
	beat(200)
	s.daemon.Signal(syscall.SIGTERM)
	s.daemon.Ended(lab.Deadline(t))
	s.start()
	before := s.statusOf(m001.Name)
	if !strings.Contains(before, `"silent_ns":`) || strings.Contains(before, `"heartbeat":`) {
		t.Errorf("after a restart: got %s, want that its silence counts from there", before)
	}
	db := filepath.Join(s.Dir, "state", "bootd.db")
	was, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		beat(200)
	}
	if is, err := os.ReadFile(db); err != nil || string(is) != string(was) {
		t.Errorf("20 heartbeats changed the store (%v), want no write", err)
	}
	_, _, metrics := c.get("http://10.77.0.1/metrics")
	for _, want := range []string{`bootd_node_phase{node="ncn-m001",phase="ready"} 1`, `bootd_node_silent_seconds{node="ncn-m001"} `, `bootd_nodes{phase="held"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	c.must("ip", "addr", "flush", "dev", "eth0")
	c.must("ip", "addr", "add", "10.77.0.66/24", "dev", "eth0")
	beat(404)
}
