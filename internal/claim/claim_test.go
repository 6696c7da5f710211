package claim_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bootd/internal/claim"
	"bootd/internal/node"
)

const pin = "314159"

var machine = claim.Machine{
	MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 9}, UUID: node.UUID{3, 15: 9}, Serial: "S<1>", ID: "edge-03163342f7f0e6fe20de095ed8548c93",
}

// desk is one of two sites, whose clock the test moves.
type desk struct {
	claim.Desk
	now   time.Time
	bound []string
	fail  error
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte(pin+"\nnot the PIN\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &desk{now: time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)}
	d.PIN = func() string { return file }
	d.Sites = func() []claim.Site { return []claim.Site{{Name: "paris", Label: "Paris & suburbs"}, {Name: "lyon"}} }
	d.Now = func() time.Time { return d.now }
	d.Bind = func(m claim.Machine, site, name string) (string, error) {
		if d.fail != nil {
			return "", d.fail
		}
		d.bound = append(d.bound, m.MAC.String()+" "+site+" "+name)
		return name, nil
	}
	return d
}

func (d *desk) ask(method, path string, form url.Values, header ...string) (int, http.Header, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	b, _ := io.ReadAll(w.Body)
	return w.Code, w.Header(), string(b)
}

func form(pin, site, name string) url.Values {
	return url.Values{"pin": {pin}, "site": {site}, "name": {name}}
}

func TestClaim(t *testing.T) {
	d := newDesk(t)
	token := d.Issue(machine)
	if again := d.Issue(machine); again != token {
		t.Errorf("asked again: got %q, want the same token", again)
	}
	if m, ok := d.Waiting(machine.MAC); !ok || m != machine {
		t.Errorf("waiting: got %+v, %v, want the machine", m, ok)
	}
	path := "/C/" + token
	status, h, page := d.ask("GET", path, nil)
	for _, want := range []string{
		"edge-03163342f7f0e6fe20de095ed8548c93", "S&lt;1&gt;", "52:54:00:aa:bb:09", "Paris &amp; suburbs", `value="lyon"`, `<form method="post">`, `width=device-width`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("page: got\n%s\nwant %q in it", page, want)
		}
	}
	for _, not := range []string{pin, "<script", "http://", "https://", "S<1>"} {
		if strings.Contains(page, not) {
			t.Errorf("page has %q", not)
		}
	}
	if status != 200 || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || len(h["Set-Cookie"]) != 0 {
		t.Errorf("got %d %v, want 200, no-store, no-referrer, a policy and no cookie", status, h)
	}

	for _, tt := range []struct {
		form   url.Values
		header []string
		status int
		text   string
	}{
		{form("271828", "paris", "edge-1"), nil, 403, "the PIN is wrong"},
		{form("", "paris", "edge-1"), nil, 403, "the PIN is wrong"},
		{form(pin, "nice", "edge-1"), nil, 422, "choose a site"},
		{form(pin, "paris", "edge-1"), []string{"Sec-Fetch-Site", "cross-site"}, 403, "sent by another page"},
		{form(pin, "paris", strings.Repeat("x", 5000)), nil, 400, "did not arrive"},
	} {
		if got, _, page := d.ask("POST", path, tt.form, tt.header...); got != tt.status || !strings.Contains(page, tt.text) || len(d.bound) != 0 {
			t.Errorf("%.60v: got %d\n%s\nbound %v, want %d with %q and nothing bound", tt.form, got, page, d.bound, tt.status, tt.text)
		}
	}
	d.fail = errors.New(`node "edge-1" is there already: choose another name`)
	if got, _, page := d.ask("POST", path, form(pin, "paris", "edge-1")); got != 422 || !strings.Contains(page, "choose another name") || !strings.Contains(page, `value="edge-1"`) || !strings.Contains(page, `value="paris" required checked`) {
		t.Errorf("refused: got %d\n%s\nwant 422, the reason, and what was typed", got, page)
	}
	d.fail = nil
	for range 2 { // the button twice
		got, _, page := d.ask("POST", path, form(pin, "paris", "edge-1"), "Sec-Fetch-Site", "same-origin")
		if got != 200 || !strings.Contains(page, "<strong>edge-1</strong> belongs to site <strong>paris</strong>") || strings.Contains(page, "<form") {
			t.Errorf("claim: got %d\n%s", got, page)
		}
	}
	if want := "52:54:00:aa:bb:09 paris edge-1"; len(d.bound) != 1 || d.bound[0] != want {
		t.Errorf("bound: got %q, want %q once", d.bound, want)
	}
	if again := d.Issue(machine); again == token {
		t.Error("after the claim: got the same token")
	}
}

// A code that is not known, in whatever form, shows nothing and takes nothing.
func TestClaimUnknown(t *testing.T) {
	d := newDesk(t)
	token := d.Issue(machine)
	for _, path := range []string{"/C/", "/C/x", "/C/AAAAAAAAAAAAAAAA", "/C/" + strings.ToLower(token), "/C/" + token[:15], "/C/" + token + "A", "/C/" + token + "/.."} {
		for _, method := range []string{"GET", "POST"} {
			got, _, page := d.ask(method, path, form(pin, "paris", "n"))
			if got != 404 || strings.Contains(page, machine.ID) || !strings.Contains(page, "scan the one on the screen") {
				t.Errorf("%s %s: got %d\n%s\nwant 404 and nothing of the machine", method, path, got, page)
			}
		}
	}
	d.now = d.now.Add(claim.TTL)
	if got, _, _ := d.ask("GET", "/C/"+token, nil); got != 404 {
		t.Errorf("after its time: got %d, want 404", got)
	}
	if got, h, _ := d.ask("DELETE", "/C/"+token, nil); got != 405 || h.Get("Allow") == "" {
		t.Errorf("DELETE: got %d, want 405", got)
	}
	if len(d.bound) != 0 {
		t.Errorf("got %v bound, want nothing", d.bound)
	}
}

// Five wrong PINs end a claim; ten of all stop everybody for a minute each.
func TestClaimGuesses(t *testing.T) {
	d := newDesk(t)
	for i := range 2 {
		m := claim.Machine{MAC: node.MAC{2, 0, 0, 0, 0, byte(i)}}
		token := d.Issue(m)
		for range 5 {
			if got, _, _ := d.ask("POST", "/C/"+token, form("000000", "paris", "n")); got != 403 {
				t.Errorf("a wrong PIN: got %d, want 403", got)
			}
		}
		if got, _, _ := d.ask("POST", "/C/"+token, form(pin, "paris", "n")); got != 404 {
			t.Errorf("after five wrong PINs: got %d, want 404", got)
		}
		if d.Issue(m) == token {
			t.Error("after five wrong PINs: got the same token")
		}
	}
	other := d.Issue(machine)
	got, h, page := d.ask("POST", "/C/"+other, form(pin, "paris", "n"))
	if got != 429 || h.Get("Retry-After") != "60" || !strings.Contains(page, "too many wrong PINs") || len(d.bound) != 0 {
		t.Errorf("after ten wrong PINs: got %d %q, bound %v, want 429 even for the right one", got, h.Get("Retry-After"), d.bound)
	}
	d.now = d.now.Add(time.Minute)
	if got, _, _ := d.ask("POST", "/C/"+other, form(pin, "paris", "n")); got != 200 || len(d.bound) != 1 {
		t.Errorf("a minute later: got %d, bound %v, want it bound", got, d.bound)
	}
}

func TestClaimPIN(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{"12345\n": "has 5 characters, a PIN has at least 6", "": "has 0 characters", "123456": "", " 123456 \nx": ""} {
		file := filepath.Join(dir, "pin")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := claim.CheckPIN(file)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	d := newDesk(t)
	d.PIN = func() string { return filepath.Join(dir, "none") }
	if got, _, page := d.ask("POST", "/C/"+d.Issue(machine), form("", "paris", "n")); got != 422 || !strings.Contains(page, "the server cannot read its PIN") {
		t.Errorf("without a PIN: got %d\n%s", got, page)
	}
}

// A node of the inventory keeps its name.
func TestClaimNode(t *testing.T) {
	d := newDesk(t)
	m := machine
	m.Node = "edge-7"
	path := "/C/" + d.Issue(m)
	if _, _, page := d.ask("GET", path, nil); strings.Contains(page, `name="name"`) || !strings.Contains(page, "edge-7") {
		t.Errorf("got\n%s\nwant the node, and no field for its name", page)
	}
	if _, ok := d.Waiting(machine.MAC); ok {
		t.Error("a node waits for no name")
	}
}

// While a claim is being bound, which is a matter of disks, everybody else goes
// on. Who claims the same machine meanwhile waits, and it is bound once; where
// the first try fails, the second one has its turn.
func TestClaimWhileBinding(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			begun, end := make(chan string), make(chan error)
			d.Bind = func(_ claim.Machine, site, _ string) (string, error) {
				begun <- site
				return "edge-1", <-end
			}
			path := "/C/" + d.Issue(machine)
			answers := make(chan string, 2)
			for _, site := range []string{"paris", "lyon"} {
				go func() {
					status, _, page := d.ask("POST", path, form(pin, site, "edge-1"))
					answers <- fmt.Sprint(status, " ", strings.Contains(page, "<strong>edge-1</strong> belongs to"))
				}()
				synctest.Wait()
			}
			if site := <-begun; site != "paris" {
				t.Fatalf("got %s bound first, want paris", site)
			}
			synctest.Wait() // lyon waits for it

			if status, _, page := d.ask("GET", path, nil); status != 200 || !strings.Contains(page, "<form") {
				t.Errorf("the page meanwhile: got %d\n%s", status, page)
			}
			other := machine
			other.MAC[5]++
			if d.Issue(other) == d.Issue(machine) {
				t.Error("two machines have one token")
			}
			if _, ok := d.Waiting(other.MAC); !ok {
				t.Error("another machine does not wait")
			}
			if status, _, _ := d.ask("POST", path, form("271828", "paris", "edge-1")); status != 403 {
				t.Errorf("a wrong PIN meanwhile: got %d, want 403", status)
			}

			want := []string{"200 true", "200 true"}
			if fails {
				end <- errors.New("disk full")
				if site := <-begun; site != "lyon" {
					t.Errorf("got %s bound next, want lyon", site)
				}
				want[1] = "422 false"
			}
			end <- nil
			if got := slices.Sorted(slices.Values([]string{<-answers, <-answers})); !slices.Equal(got, want) {
				t.Errorf("fails %v: got %q, want %q", fails, got, want)
			}
			if status, _, page := d.ask("GET", path, nil); status != 200 || !strings.Contains(page, "<strong>edge-1</strong> belongs to") {
				t.Errorf("the page in the end: got %d\n%s", status, page)
			}
		})
	}
}

// A bind that panics lets the next one try.
func TestClaimAfterPanic(t *testing.T) {
	d := newDesk(t)
	bind := d.Bind
	d.Bind = func(claim.Machine, string, string) (string, error) { panic("bind") }
	path := "/C/" + d.Issue(machine)
	func() {
		defer func() { _ = recover() }()
		d.ask("POST", path, form(pin, "paris", "edge-1"))
	}()
	d.Bind = bind
	if status, _, _ := d.ask("POST", path, form(pin, "paris", "edge-1")); status != 200 || len(d.bound) != 1 {
		t.Errorf("got %d, bound %v, want it bound", status, d.bound)
	}
}
