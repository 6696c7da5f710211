package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/store"
)

var start = time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)

// disk is a table that survives the Tickets on it.
type disk struct {
	records map[string]string
	fail    error
}

func (d *disk) Apply(changes []store.Change) error {
	if d.fail != nil {
		return d.fail
	}
	for _, c := range changes {
		if d.records[string(c.Key)] = string(c.Value); c.Value == nil {
			delete(d.records, string(c.Key))
		}
	}
	return nil
}

func (d *disk) Scan(visit func(key, value []byte) error) error {
	for k, v := range maps.Clone(d.records) {
		if err := visit([]byte(k), []byte(v)); err != nil {
			return err
		}
	}
	return nil
}

func open(t *testing.T, d *disk) *deploy.Tickets {
	t.Helper()
	tickets, err := deploy.OpenTickets(d)
	if err != nil {
		t.Fatal(err)
	}
	return tickets
}

func bearer(i int) deploy.Bearer {
	return deploy.Bearer{
		Node: fmt.Sprintf("ncn-w%03d", i), MAC: node.MAC{0x52, 0x54, 0, 0, 0, byte(i)},
		Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i)}),
	}
}

// TestJudge is protocol.md 6.3, item 2, and D9.
func TestJudge(t *testing.T) {
	own := bearer(1)
	moved, reused, nobody := own, own, own
	moved.Addr, reused.MAC, nobody.Node = bearer(2).Addr, bearer(2).MAC, ""
	const used, fresh = "user-data", "meta-data"
	ticket := deploy.Ticket{Bearer: own, Issued: start, Used: map[string]time.Time{used: start.Add(5 * time.Minute)}}
	for _, tt := range []struct {
		name     string
		asker    deploy.Bearer
		document string
		after    time.Duration
		want     deploy.Verdict
		reason   string
	}{
		{"first", own, fresh, 0, deploy.Granted, ""},
		{"late", own, fresh, 10*time.Minute - 1, deploy.Granted, ""},
		{"too late", own, fresh, 10 * time.Minute, deploy.Gone, "the ticket has expired"},
		{"repeat", own, used, 6 * time.Minute, deploy.Granted, ""},
		{"late repeat", own, used, 6*time.Minute + 1, deploy.Gone, "it was fetched before"},
		{"other node", bearer(2), fresh, 0, deploy.Foreign, "ncn-w002 at 10.77.0.2 is not who it was issued to"},
		{"other address", moved, fresh, 0, deploy.Foreign, "ncn-w001 at 10.77.0.2 is not who it was issued to"},
		{"lease of another MAC", reused, fresh, 0, deploy.Foreign, "ncn-w001 at 10.77.0.1 is not who it was issued to"},
		{"no lease", nobody, fresh, 0, deploy.Foreign, "10.77.0.1 holds no lease of a node"},
		{"other node, repeat", bearer(2), used, 5 * time.Minute, deploy.Foreign, "ncn-w002 at 10.77.0.2 is not who it was issued to"},
		{"other node, too late", bearer(2), fresh, time.Hour, deploy.Foreign, "ncn-w002 at 10.77.0.2 is not who it was issued to"},
		{"clock set back", own, fresh, -time.Hour, deploy.Granted, ""},
	} {
		if got, reason := ticket.Judge(start.Add(tt.after), tt.asker, tt.document); got != tt.want || reason != tt.reason {
			t.Errorf("%s: got %v, %q, want %v, %q", tt.name, got, reason, tt.want, tt.reason)
		}
	}
}

// take is one whole request.
func take(t *testing.T, ts *deploy.Tickets, at time.Time, token string, who deploy.Bearer, document string, complete bool) deploy.Verdict {
	t.Helper()
	u, err := ts.Take(at, token, who, document)
	if err == nil {
		err = u.Done(complete)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u.Verdict
}

func TestSameTicketWithinBoot(t *testing.T) {
	d := &disk{records: map[string]string{}}
	ts := open(t, d)
	issue := func(after time.Duration, b deploy.Bearer) string {
		token, err := ts.Issue(start.Add(after), b, deploy.StageBoot, deploy.Terms{})
		if err != nil {
			t.Fatal(err)
		}
		return token.Reveal()
	}
	first := issue(0, bearer(1))
	if got := issue(4*time.Minute, bearer(1)); got != first {
		t.Error("script asked for again: got another ticket, want the same")
	}
	if got := issue(0, bearer(2)); got == first {
		t.Error("another node: got the same ticket")
	}
	late := issue(6*time.Minute, bearer(1))
	if late == first {
		t.Error("script asked for again after six minutes: got the old ticket, which has four left")
	}
	take(t, ts, start.Add(6*time.Minute), late, bearer(1), "user-data", true)
	next := issue(7*time.Minute, bearer(1))
	if next == late {
		t.Error("next boot: got the ticket of the last")
	}
	// A crash: the one given out is still good.
	ts = open(t, d)
	if got := take(t, ts, start.Add(8*time.Minute), next, bearer(1), "user-data", true); got != deploy.Granted {
		t.Errorf("after a crash: got %v, want given", got)
	}
}

// What did not arrive was not given out; what may have arrived was.
func TestIncomplete(t *testing.T) {
	d := &disk{records: map[string]string{}}
	ts := open(t, d)
	token, _ := ts.Issue(start, bearer(1), deploy.StageBoot, deploy.Terms{})
	s, later := token.Reveal(), start.Add(5*time.Minute)
	take(t, ts, start, s, bearer(1), "user-data", false)
	if got := take(t, ts, later, s, bearer(1), "user-data", true); got != deploy.Granted {
		t.Errorf("after an incomplete one: got %v, want given", got)
	}
	take(t, ts, later.Add(time.Second), s, bearer(1), "user-data", false) // a repeat that fails
	if got := take(t, ts, later.Add(2*time.Minute), s, bearer(1), "user-data", true); got != deploy.Gone {
		t.Errorf("after a complete one: got %v, want gone", got)
	}
	if _, err := ts.Take(start, s, bearer(1), "meta-data"); err != nil { // and a crash while it is sent
		t.Fatal(err)
	}
	ts = open(t, d)
	if got := take(t, ts, start.Add(time.Minute), s, bearer(1), "meta-data", false); got != deploy.Granted {
		t.Errorf("repeat after a crash: got %v, want given", got)
	}
	if got := take(t, ts, start.Add(2*time.Minute), s, bearer(1), "meta-data", true); got != deploy.Gone {
		t.Errorf("a document that may have been given out before a crash: got %v, want gone", got)
	}
}

func TestDiskFails(t *testing.T) {
	d := &disk{records: map[string]string{}}
	ts := open(t, d)
	token, _ := ts.Issue(start, bearer(1), deploy.StageBoot, deploy.Terms{})
	d.fail = errors.New("disk full")
	if _, err := ts.Issue(start, bearer(2), deploy.StageBoot, deploy.Terms{}); err == nil || err.Error() != "disk full" {
		t.Errorf("issue: got %v, want disk full", err)
	}
	if _, err := ts.Take(start, token.Reveal(), bearer(1), "user-data"); err == nil || err.Error() != "disk full" {
		t.Errorf("take: got %v, want disk full", err)
	}
	d.fail = nil
	if got := take(t, ts, start, token.Reveal(), bearer(1), "user-data", true); got != deploy.Granted {
		t.Errorf("when the disk works again: got %v, want given", got)
	}
}

func TestTicketBounds(t *testing.T) {
	d := &disk{records: map[string]string{}}
	ts := open(t, d)
	boot := func(after time.Duration) error {
		token, err := ts.Issue(start.Add(after), bearer(1), deploy.StageBoot, deploy.Terms{})
		if err == nil {
			take(t, ts, start.Add(after), token.Reveal(), bearer(1), "user-data", true)
		}
		return err
	}
	for i := range 16 {
		if err := boot(time.Duration(i)); err != nil {
			t.Fatalf("ticket %d: %v", i, err)
		}
	}
	if err := boot(time.Minute); !errors.Is(err, deploy.ErrTooManyTickets) {
		t.Errorf("17th ticket: got %v, want too many", err)
	}
	if err := boot(11 * time.Minute); err != nil {
		t.Errorf("when they expired: got %v, want a ticket", err)
	}
	if err := boot(2 * time.Hour); err != nil || len(d.records) != 1 {
		t.Errorf("two hours later: got %d tickets on disk, %v, want 1", len(d.records), err)
	}
	if _, err := ts.Issue(start, deploy.Bearer{Node: "x", Addr: bearer(1).Addr}, deploy.StageBoot, deploy.Terms{}); err == nil || !strings.Contains(err.Error(), "10.77.0.1 holds no lease of a node") {
		t.Errorf("without a MAC: got %v, want that there is no lease", err)
	}
}

// However a token is printed, it is not there.
func TestTokenIsNotPrinted(t *testing.T) {
	ts := open(t, &disk{records: map[string]string{}})
	token, _ := ts.Issue(start, bearer(1), deploy.StageBoot, deploy.Terms{})
	s := token.Reveal()
	if len(s) != len("bdt_")+32 {
		t.Errorf("got %d characters, want 128 bits in hexadecimal after bdt_", len(s))
	}
	j, _ := json.Marshal(token)
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s %q %x", token, token, token, token, token, token), string(j),
		deploy.Redact("GET /t/" + s + "/user-data"), deploy.Redact(strings.ToUpper(s)), deploy.Redact(s + s), deploy.Redact(s[:20])} {
		if strings.Contains(strings.ToLower(text), s[4:20]) {
			t.Errorf("got %q, which has the token", text)
		}
	}
	if got, want := deploy.Redact("t/"+s+"/user-data"), "t/("+token.String()+")/user-data"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := deploy.Redact("boot_a 0123456789abcdef0123456789abcdef"); got != "boot_a 0123456789abcdef0123456789abcdef" {
		t.Errorf("got %q: that is no token", got)
	}
}

// TestTicketModel plays nodes that boot, fetch, fetch from elsewhere, lose
// connections and wait, and a server that crashes, against what protocol.md 6.3
// promises, kept here in the simplest way.
func TestTicketModel(t *testing.T) {
	type issued struct {
		who  deploy.Bearer
		at   time.Time
		done map[string]time.Time // first complete, or perhaps complete, sending
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		d := &disk{records: map[string]string{}}
		ts, now := open(t, d), start
		model, tokens := map[string]*issued{}, []string{}
		for range 300 {
			now = now.Add(time.Duration(r.Int64N(int64(40 * time.Second))))
			who, document := bearer(r.IntN(4)), []string{"user-data", "meta-data", "vendor-data", "network-config"}[r.IntN(4)]
			switch op := r.IntN(10); {
			case op == 0:
				ts = open(t, d)
			case op < 3 || len(tokens) == 0:
				token, err := ts.Issue(now, who, deploy.StageBoot, deploy.Terms{})
				if errors.Is(err, deploy.ErrTooManyTickets) {
					continue
				}
				s := token.Reveal()
				if m := model[s]; m == nil {
					model[s] = &issued{who, now, map[string]time.Time{}}
					tokens = append(tokens, s)
				} else if m.who != who || len(m.done) > 0 || now.Sub(m.at) >= 10*time.Minute {
					t.Fatalf("seed %d: ticket of %+v issued again to %+v", seed, m, who)
				}
			default:
				s := tokens[r.IntN(len(tokens))]
				m := model[s]
				if r.IntN(4) > 0 {
					who = m.who
				}
				complete, crash := r.IntN(3) > 0, r.IntN(8) == 0
				u, err := ts.Take(now, s, who, document)
				if err != nil {
					t.Fatal(err)
				}
				first, used := m.done[document]
				good := who == m.who && now.Sub(m.at) < 10*time.Minute && (!used || now.Sub(first) <= time.Minute)
				if (u.Verdict == deploy.Granted) != good {
					t.Fatalf("seed %d: %+v asks for %s of %+v at %v: got %v (%s)", seed, who, document, m, now, u.Verdict, u.Reason)
				}
				if crash {
					ts = open(t, d)
				} else if err := u.Done(complete); err != nil {
					t.Fatal(err)
				}
				if good && !used && (complete || crash) {
					m.done[document] = now
				}
				if strings.Contains(fmt.Sprintf("%+v", u.Reason+u.ID), s[4:]) {
					t.Fatalf("token in %q", u.Reason+u.ID)
				}
			}
		}
		for k, v := range d.records {
			for _, s := range tokens {
				if strings.Contains(k+v, s) || strings.Contains(k+v, s[4:]) {
					t.Fatalf("seed %d: token on disk", seed)
				}
			}
		}
	}
}

// slowDisk holds each commit until it is told to go on.
type slowDisk struct {
	disk
	begun, goOn chan struct{}
}

func (d *slowDisk) Apply(changes []store.Change) error {
	d.begun <- struct{}{}
	<-d.goOn
	return d.disk.Apply(changes)
}

// TestTicketsShareCommits holds that those who come while the disk works are
// committed together, that none is answered before its commit, and that a
// commit that fails fails them all and nobody else.
func TestTicketsShareCommits(t *testing.T) {
	d := &slowDisk{disk: disk{records: map[string]string{}}, begun: make(chan struct{}), goOn: make(chan struct{})}
	ts, err := deploy.OpenTickets(d)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		token deploy.Token
		err   error
	}
	answers := make(chan answer, 100)
	ask := func(i int) {
		token, err := ts.Issue(start, bearer(i), deploy.StageBoot, deploy.Terms{})
		answers <- answer{token, err}
	}
	synctest.Test(t, func(t *testing.T) {
		d.begun, d.goOn = make(chan struct{}), make(chan struct{})
		go ask(0)
		<-d.begun
		for i := range 49 {
			go ask(i + 1)
		}
		synctest.Wait() // all of them wait for the disk
		if len(answers) != 0 {
			t.Errorf("got %d answers before the first commit, want none", len(answers))
		}
		d.goOn <- struct{}{}
		<-d.begun
		synctest.Wait()
		if len(answers) != 1 || len(d.records) != 1 {
			t.Errorf("after the first commit: got %d answers and %d records, want 1 and 1", len(answers), len(d.records))
		}
		d.fail = errors.New("disk full")
		d.goOn <- struct{}{}
		synctest.Wait()
		if len(answers) != 50 || len(d.records) != 1 {
			t.Errorf("after the second commit: got %d answers and %d records, want 50 in two commits, and 1", len(answers), len(d.records))
		}
	})
	d.fail = nil
	failed := 0
	for range len(answers) {
		if a := <-answers; a.err != nil {
			failed++
			if !a.token.IsZero() || a.err.Error() != "disk full" {
				t.Errorf("got %v, %v, want no ticket and disk full", a.token, a.err)
			}
		}
	}
	if failed != 49 {
		t.Errorf("got %d that failed, want the 49 of the second commit", failed)
	}
}
