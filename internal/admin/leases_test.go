package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"bootd/internal/admin"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// ledger answers for a DHCP server with n leases, of which every third is a
// node's.
type ledger struct {
	*backend
	n     int
	fail  error // of Add, EndLease and AddLease
	sizes []int // of batches
	slow  chan struct{}
}

func newLedger(n int) *ledger { return &ledger{backend: newBackend(), n: n} }

func (b *ledger) lease(i int) lease.Lease {
	l := lease.Lease{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), MAC: node.MAC{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)},
		State: lease.Bound, Start: time.Unix(1e9, 0).UTC(), Expires: time.Unix(2e9, 0).UTC(), Hostname: "<h>"}
	if i%3 == 0 {
		l.Node, l.State = fmt.Sprintf("ncn-w%03d", i), lease.Expired
	}
	return l
}

func (b *ledger) Leases(lease.Filter) iter.Seq[lease.Lease] {
	return func(yield func(lease.Lease) bool) {
		for i := range b.n {
			if b.slow != nil && i == b.n/2 {
				<-b.slow
				panic(http.ErrAbortHandler) // as a daemon that stops
			}
			if !yield(b.lease(i)) {
				return
			}
		}
	}
}
func (b *ledger) EndLease(l lease.Lease) (bool, error) { return l.State.InForce(), b.fail }
func (b *ledger) AddLease(l lease.Lease) (lease.Lease, bool, error) {
	return l, l.Addr != b.lease(0).Addr, b.fail
}
func (b *ledger) ImportLeases(dry bool) admin.Importer { return b }
func (b *ledger) Add(batch []lease.Line) (merged []admin.Merged, err error) {
	b.sizes = append(b.sizes, len(batch))
	for _, l := range batch {
		m := admin.Merged{Change: admin.Change(l.Number % 3)}
		if l.Hostname == "bad" {
			m.Err = errors.New("refused because it is bad")
		}
		merged = append(merged, m)
	}
	return merged, b.fail
}

// The routes as programs see them.
func TestLeaseRoutes(t *testing.T) {
	broken := newLedger(2)
	broken.fail = errors.New("disk full")
	for _, tt := range []struct {
		b                    *ledger
		method, target, body string
		status               int
		want                 string
	}{
		{newLedger(2), "GET", "/v1/leases", "", 200, `{"ip":"10.0.0.0","mac":"02:00:00:00:00:00","state":"expired","node":"ncn-w000","start":"2001-09-09T01:46:40Z","expires":"2033-05-18T03:33:20Z","hostname":"\u003ch\u003e"}` + "\n" +
			`{"ip":"10.0.0.1",`},
		{newLedger(2), "GET", "/v1/leases?node=ncn-w001", "", 200, ""},
		{newLedger(2), "GET", "/v1/leases?state=bound", "", 200, `{"ip":"10.0.0.1",`},
		{newLedger(2), "GET", "/v1/leases?state=x", "", 400, `{"error":"state: \"x\" is not one of bound, expired, released, declined"}`},
		{newLedger(2), "GET", "/v1/leases?nodes=x", "", 400, `{"error":"nodes: not a property of leases"}`},
		{newLedger(2), "DELETE", "/v1/leases/10.0.0.1", "", 200, `[{"ip":"10.0.0.1",`},
		{newLedger(2), "DELETE", "/v1/leases/ncn-w000", "", 200, "[]\n"},
		{newLedger(2), "DELETE", "/v1/leases/10.0.0.9", "", 404, `{"error":"no lease","no_lease":true}`},
		{newLedger(2), "DELETE", "/v1/leases/a_b", "", 500, `{"error":"\"a_b\" is no IP address, MAC address or name of a node"}`},
		{broken, "DELETE", "/v1/leases/10.0.0.1", "", 500, `{"error":"10.0.0.1: disk full"}`},
		{newLedger(2), "POST", "/v1/leases", `{"ip":"10.0.0.7","mac":"02:00:00:00:00:07","infinite":true}`, 200, `{"ip":"10.0.0.7","mac":"02:00:00:00:00:07","state":"bound","expires":"9999-12-31T23:59:59Z","changed":true}`},
		{newLedger(2), "POST", "/v1/leases", `{"ip":"10.0.0.0","mac":"02:00:00:00:00:07"}`, 200, `{"ip":"10.0.0.0","mac":"02:00:00:00:00:07","state":"bound","expires":"0001-01-01T00:00:00Z","changed":false}`},
		{newLedger(2), "POST", "/v1/leases", `{"ip":"x"}`, 400, `{"error":"ParseAddr(\"x\")`},
		{broken, "POST", "/v1/leases", `{"ip":"10.0.0.7","mac":"02:00:00:00:00:07"}`, 500, `{"error":"disk full"}`},
		{newLedger(2), "PUT", "/v1/leases", "", 404, `{"error":"no route PUT /v1/leases"}`},
	} {
		w := httptest.NewRecorder()
		admin.Handler(tt.b).ServeHTTP(w, httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body)))
		if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), tt.want) || tt.want == "" && w.Body.Len() > 0 {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.target, w.Code, w.Body, tt.status, tt.want)
		}
	}
}

// A list of any length costs neither side memory.
func TestLeasesAreStreamed(t *testing.T) {
	const n = 60_000
	c := admin.NewClient(serve(t, admin.Handler(newLedger(n))))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, most := 0, uint64(0)
	err := c.Leases(t.Context(), lease.Filter{}, func(l lease.Lease) error {
		if got++; got%(n/10) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapAlloc)
		}
		return nil
	})
	if err != nil || got != n {
		t.Errorf("got %d leases, %v, want %d", got, err, n)
	}
	if grown := int64(most) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("memory grew by %d bytes with %d leases, want at most 4 MiB", grown, n)
	}
}

func TestLeasesEndEarly(t *testing.T) {
	b := newLedger(1000)
	c := admin.NewClient(serve(t, admin.Handler(b)))
	stop := errors.New("enough")
	if err := c.Leases(t.Context(), lease.Filter{}, func(lease.Lease) error { return stop }); err != stop {
		t.Errorf("visit: got %v, want its error", err)
	}
	b.slow = make(chan struct{})
	close(b.slow)
	n := 0
	if err := c.Leases(t.Context(), lease.Filter{}, func(lease.Lease) error { n++; return nil }); !errors.Is(err, admin.ErrStopped) || n >= 1000 {
		t.Errorf("daemon that stops: got %d leases and %v, want ErrStopped", n, err)
	}
}

func numbered(n int, bad func(int) bool) iter.Seq[lease.Line] {
	return func(yield func(lease.Line) bool) {
		for i := 1; i <= n; i++ {
			l := lease.Line{Number: i, Lease: lease.Lease{Addr: netip.MustParseAddr("10.0.0.1"), Expires: lease.Never}}
			if bad(i) {
				l.Hostname = "bad"
			}
			if !yield(l) {
				return
			}
		}
	}
}

func TestImport(t *testing.T) {
	b := newLedger(0)
	c := admin.NewClient(serve(t, admin.Handler(b)))
	var refused []admin.Report
	tell := func(r admin.Report) { refused = append(refused, r) }
	got, err := c.Import(t.Context(), false, numbered(2500, func(i int) bool { return i == 7 || i == 2500 }), tell)
	if want := (admin.Totals{Added: 832, Updated: 833, Kept: 833, Refused: 2}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if len(refused) != 2 || refused[0].Line != 7 || refused[0].Error != "10.0.0.1: refused because it is bad" || refused[1].Line != 2500 {
		t.Errorf("refused: got %+v", refused)
	}
	if fmt.Sprint(b.sizes) != "[1000 1000 500]" {
		t.Errorf("batches: got %v, want 1000, 1000 and 500", b.sizes)
	}
	// So many refusals that neither end can hold them while the other writes.
	refused = nil
	if got, err = c.Import(t.Context(), true, numbered(40_000, func(int) bool { return true }), tell); err != nil || got.Refused != 40_000 || len(refused) != 40_000 {
		t.Errorf("all refused: got %+v, %v and %d reports", got, err, len(refused))
	}
	if got, err = c.Import(t.Context(), false, numbered(0, nil), tell); err != nil || got != (admin.Totals{}) {
		t.Errorf("nothing: got %+v, %v", got, err)
	}
	b.fail = errors.New("disk full")
	if _, err = c.Import(t.Context(), false, numbered(1_000_000, func(int) bool { return false }), tell); err == nil || err.Error() != "lines 1 to 1000: disk full" {
		t.Errorf("disk full: got %v", err)
	}
}

// An import whose answer ends without sums is not complete.
func TestImportCutOff(t *testing.T) {
	c := admin.NewClient(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })))
	if _, err := c.Import(t.Context(), false, numbered(10, func(int) bool { return false }), nil); !errors.Is(err, admin.ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Import(ctx, false, numbered(10, func(int) bool { return false }), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	// What is no lease ends it, with the sums of what came before.
	w := httptest.NewRecorder()
	b := newLedger(0)
	srv := httptest.NewServer(admin.Handler(b))
	defer srv.Close()
	res, err := http.Post(srv.URL+"/v1/leases/import", "", strings.NewReader(`{"line":1,"ip":"10.0.0.1"} x`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(w, res.Body)
	var rep admin.Report
	if err := json.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(&rep); err != nil || !strings.HasPrefix(rep.Error, "after line 1: invalid character") || rep.Totals == nil || len(b.sizes) != 0 {
		t.Errorf("garbage: got %s, %v and batches %v", w.Body, err, b.sizes)
	}
}

// A program that sends anything to the import route is told what is wrong, and
// nothing else happens.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"line":1,"ip":"10.0.0.1","mac":"02:00:00:00:00:01","state":"bound","expires":"2033-05-18T03:33:20Z"}`))
	f.Add([]byte(`{"line":-1}[]{"ip":null,"expires":"9999-12-31T23:59:59Z"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := &duplex{httptest.NewRecorder()}
		admin.Handler(newLedger(0)).ServeHTTP(w, httptest.NewRequest("POST", "/v1/leases/import", bytes.NewReader(body)))
		lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
		var last admin.Report
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Totals == nil {
			t.Errorf("got %s, %v, want sums at the end", w.Body, err)
		}
	})
}

// duplex is a recorder that can answer while it is asked.
type duplex struct{ *httptest.ResponseRecorder }

func (*duplex) EnableFullDuplex() error { return nil }
