package claim_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// A phone is Chromium at the width of one, driven over its debugging protocol.
type phone struct {
	t       *testing.T
	conn    *websocket.Conn
	id      int
	session string // of the page
}

// width of its screen, in pixels of CSS.
const width = 390

// newPhone starts Chromium, without a network but loopback's, and opens a page.
func newPhone(t *testing.T) *phone {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatal("BOOT_REQUIRE: chromium of the Debian package of that name is missing: run make deps")
		}
		t.Skip(err)
	}
	home := t.TempDir()
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--disable-component-update", "--no-first-run", "--user-data-dir="+home, "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	listening := regexp.MustCompile(`DevTools listening on (ws://\S+)`)
	var said strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := stderr.Read(buf)
		said.Write(buf[:n])
		if m := listening.FindStringSubmatch(said.String()); m != nil {
			conn, err := websocket.Dial(m[1], "", "http://127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			go func() { // or it blocks when its pipe is full; ends with the process
				for {
					if _, err := stderr.Read(buf); err != nil {
						return
					}
				}
			}()
			return (&phone{t: t, conn: conn}).open()
		}
		if err != nil {
			t.Fatalf("chromium: %v\n%s", err, &said)
		}
	}
}

func (p *phone) open() *phone {
	p.t.Helper()
	p.t.Cleanup(func() { p.conn.Close() })
	p.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	var target struct{ TargetID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	p.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p.session = attached.SessionID
	p.call("Page.enable", nil, nil)
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": true}, nil)
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	return p
}

// call makes one call and waits for its answer, whatever events come before.
func (p *phone) call(method string, params map[string]any, result any) {
	p.t.Helper()
	p.id++
	msg := map[string]any{"id": p.id, "method": method}
	if params != nil {
		msg["params"] = params
	}
	if p.session != "" && !strings.HasPrefix(method, "Target.") {
		msg["sessionId"] = p.session
	}
	if err := websocket.JSON.Send(p.conn, msg); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	for {
		var answer struct {
			ID     int
			Error  json.RawMessage
			Result json.RawMessage
		}
		if err := websocket.JSON.Receive(p.conn, &answer); err != nil {
			p.t.Fatalf("%s: %v", method, err)
		}
		if answer.ID != p.id {
			continue
		}
		if answer.Error != nil {
			p.t.Fatalf("%s: %s", method, answer.Error)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				p.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// awaitLoad waits for the event that a page has loaded.
func (p *phone) awaitLoad() {
	p.t.Helper()
	for {
		var event struct{ Method string }
		if err := websocket.JSON.Receive(p.conn, &event); err != nil {
			p.t.Fatalf("page: %v", err)
		}
		if event.Method == "Page.loadEventFired" {
			return
		}
	}
}

func (p *phone) browse(url string) {
	p.t.Helper()
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	p.awaitLoad()
}

// at returns the middle of the first element that a selector finds, as shown.
func (p *phone) at(selector string) (x, y float64) {
	p.t.Helper()
	var doc struct{ Root struct{ NodeID int } }
	p.call("DOM.getDocument", nil, &doc)
	var found struct{ NodeID int }
	p.call("DOM.querySelector", map[string]any{"nodeId": doc.Root.NodeID, "selector": selector}, &found)
	if found.NodeID == 0 {
		p.t.Fatalf("page has no %s:\n%s", selector, p.html())
	}
	p.call("DOM.scrollIntoViewIfNeeded", map[string]any{"nodeId": found.NodeID}, nil)
	var box struct{ Model struct{ Content []float64 } }
	p.call("DOM.getBoxModel", map[string]any{"nodeId": found.NodeID}, &box)
	c := box.Model.Content
	return (c[0] + c[4]) / 2, (c[1] + c[5]) / 2
}

func (p *phone) html() string {
	p.t.Helper()
	var doc struct{ Root struct{ NodeID int } }
	p.call("DOM.getDocument", nil, &doc)
	var html struct{ OuterHTML string }
	p.call("DOM.getOuterHTML", map[string]any{"nodeId": doc.Root.NodeID}, &html)
	return html.OuterHTML
}

func (p *phone) tap(selector string) {
	p.t.Helper()
	x, y := p.at(selector)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}, nil)
	}
}

func (p *phone) write(selector, text string) {
	p.t.Helper()
	p.tap(selector)
	p.call("Input.insertText", map[string]any{"text": text}, nil)
}

// picture checks that the page fits the width of the screen, and keeps what is
// on it where BOOT_PICTURES says.
func (p *phone) picture(name string) {
	p.t.Helper()
	if over := p.wide(); over > 0 {
		p.t.Errorf("%s: the page is %v pixels wider than the screen", name, over)
	}
	var shot struct{ Data string }
	p.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	b, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil || len(b) < 1000 {
		p.t.Fatalf("picture of %d bytes: %v", len(b), err)
	}
	if dir := os.Getenv("BOOT_PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), b, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

// wide reports how much wider than the screen the page is.
func (p *phone) wide() float64 {
	p.t.Helper()
	var m struct{ CSSContentSize struct{ Width float64 } }
	p.call("Page.getLayoutMetrics", nil, &m)
	if m.CSSContentSize.Width == 0 {
		p.t.Fatal("the page has no width")
	}
	return m.CSSContentSize.Width - width
}

// A person claims a machine with a phone whose browser runs no scripts: a wrong
// PIN, then the right one. Another page that sends the form is refused.
func TestClaimWithPhone(t *testing.T) {
	d := newDesk(t)
	s := httptest.NewServer(d)
	defer s.Close()
	p := newPhone(t)
	target := s.URL + "/C/" + d.Issue(machine)

	p.browse(target)
	p.picture("claim")
	p.tap("input[value=lyon]")
	p.write("#pin", "000000")
	p.tap("button")
	p.awaitLoad()
	p.picture("wrong-pin")
	if html := p.html(); !strings.Contains(html, "the PIN is wrong") || len(d.bound) != 0 {
		t.Errorf("after a wrong PIN: bound %v\n%s", d.bound, html)
	}
	p.write("#pin", pin) // the site is still chosen
	p.tap("button")
	p.awaitLoad()
	p.picture("claimed")
	if want := machine.MAC.String() + " lyon " + machine.ID; len(d.bound) != 1 || d.bound[0] != want {
		t.Errorf("bound: got %q, want %q\n%s", d.bound, want, p.html())
	}

	other := d.Issue(machine)
	// localhost and 127.0.0.1 are two sites.
	form := fmt.Sprintf(`<form method=post action="%s"><input name=site value=lyon><input name=name value=n><input name=pin value=%s><button>win</button></form>`,
		strings.Replace(s.URL, "127.0.0.1", "localhost", 1)+"/C/"+other, pin)
	p.browse("data:text/html," + url.PathEscape(form))
	p.tap("button")
	p.awaitLoad()
	if html := p.html(); !strings.Contains(html, "sent by another page") || len(d.bound) != 1 {
		t.Errorf("from another page: bound %v\n%s", d.bound, html)
	}
	p.browse(s.URL + "/C/AAAAAAAAAAAAAAAA")
	p.picture("unknown")
}
