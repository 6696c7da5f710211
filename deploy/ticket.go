package deploy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bootd/internal/node"
	"bootd/internal/store"
)

// Terms are the life of a ticket (protocol.md 6.3).
type Terms struct {
	TTL    time.Duration `json:"ttl,omitzero"`    // from its issue, whatever is fetched; zero: TicketTTL
	Repeat time.Duration `json:"repeat,omitzero"` // a document once given out can be fetched again; zero: TicketRepeat
}

// The terms of who asks for none.
const (
	TicketTTL    = 10 * time.Minute
	TicketRepeat = time.Minute
)

// ticketMemory is how long after its end somebody knows that there was a ticket.
const ticketMemory = time.Hour

func (t Terms) ttl() time.Duration    { return cmp.Or(t.TTL, TicketTTL) }
func (t Terms) repeat() time.Duration { return cmp.Or(t.Repeat, TicketRepeat) }

// The bounds of Tickets. Beyond them no ticket is issued and the machine waits:
// to drop one would take back an answer given.
const (
	MaxTickets     = 100_000
	maxTicketsEach = 16 // of one node, live at a time
)

// ErrTooManyTickets is returned when a bound of Tickets is reached.
var ErrTooManyTickets = errors.New("too many tickets")

// ErrNotBearer is returned when a machine asks for the ticket of a node that it
// is not.
var ErrNotBearer = errors.New("holds no lease of the node")

// A Stage is the part of a node's life that a ticket is for.
type Stage string

// The stages.
const (
	StageBoot    Stage = "boot"    // the system that the node boots from the network
	StageInstall Stage = "install" // the installer that the node boots from the network, once
	StageSite    Stage = "site"    // the first boot of the system that was installed
)

// Open reports whether a node whose deployment has come that far is at a stage.
func (s Stage) Open(r Record) bool {
	switch s {
	case StageInstall:
		return r.Phase == Armed || r.Phase == Installing
	case StageSite:
		return r.SiteOpen()
	}
	return true
}

// A Bearer is a node as it is seen on the network: a ticket is bound to one.
type Bearer struct {
	Node string     `json:"node"`
	MAC  node.MAC   `json:"mac"` // that holds the lease of Addr
	Addr netip.Addr `json:"ip"`
}

// whole reports whether a ticket can be bound to b.
func (b Bearer) whole() bool { return b.Node != "" && !b.MAC.IsZero() && b.Addr.IsValid() }

// A Ticket lets its bearer fetch the documents of a payload, each once and, for
// clients that ask again, some time after that.
type Ticket struct {
	Bearer
	Terms
	Stage  Stage                `json:"stage"`
	Issued time.Time            `json:"issued"`
	Used   map[string]time.Time `json:"used,omitempty"` // by document, when it was first given out
}

// A Verdict is what becomes of a request. The zero Verdict gives nothing out.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // no such ticket, or long ago
	Foreign                // the ticket is somebody else's
	Gone                   // it was used, or its time is over
	Granted
)

var verdicts = [...]string{Unknown: "unknown", Foreign: "foreign", Gone: "gone", Granted: "given"}

// String returns the word kept in events.
func (v Verdict) String() string { return verdicts[v] }

// Judge settles whether asker may fetch a document now, and why not. It is
// pure. Whose the ticket is counts first, so that nobody else learns what has
// become of it.
func (t *Ticket) Judge(now time.Time, asker Bearer, document string) (Verdict, string) {
	first, used := t.Used[document]
	switch {
	case asker.Node == "":
		return Foreign, fmt.Sprintf("%v holds no lease of a node", asker.Addr)
	case asker != t.Bearer:
		return Foreign, fmt.Sprintf("%s at %v is not who it was issued to", asker.Node, asker.Addr)
	case !t.live(now):
		return Gone, "the ticket has expired"
	case used && now.After(first.Add(t.repeat())):
		return Gone, "it was fetched before"
	}
	return Granted, ""
}

// live reports whether anything can still be fetched with t.
func (t *Ticket) live(now time.Time) bool { return now.Before(t.Issued.Add(t.ttl())) }

// fresh reports whether a script that is asked for again names t: early in its
// life, and while every document can still be fetched for as long as it lives.
func (t *Ticket) fresh(now time.Time) bool {
	return now.Before(t.Issued.Add(t.ttl()/2)) && (len(t.Used) == 0 || t.repeat() >= t.ttl())
}

// A Table is where tickets are kept, such as *store.Table.
type Table interface {
	Apply([]store.Change) error
	Scan(visit func(key, value []byte) error) error
}

// Tickets are all tickets that were issued within the last hour.
//
// A ticket is on disk before Issue returns it, so no crash makes the URL in a
// script a dead one. That a document was given out is on disk before its first
// byte is sent, so no crash makes it fetchable anew: after one, the repeat
// counts from there. On disk is the hash of a token, never the token, so after
// a restart a script that is asked for again names a second ticket; the first
// one is as good as before.
//
// The methods are safe for concurrent use. Those that wait for the disk at the
// same time share one commit.
type Tickets struct {
	disk *group

	mu     sync.Mutex // guards all following fields
	all    map[ticketKey]*issued
	order  []*issued            // by issue; the front is forgotten first
	byNode map[string][]*issued // live ones, and some that were
}

// issued is a ticket and what is known of it only while we run.
type issued struct {
	Ticket
	key    ticketKey
	token  Token           // zero: issued before we were started
	sends  map[string]int  // of a document, under way
	proven map[string]bool // document was sent to its end
	saved  *batch          // with which it became durable; nil: it was read from there
}

// OpenTickets reads the tickets in table. One that cannot be read is as good
// as none: its bearer gets another at its next boot.
func OpenTickets(table Table) (*Tickets, error) {
	t := &Tickets{disk: newGroup(table), all: map[ticketKey]*issued{}, byNode: map[string][]*issued{}}
	err := table.Scan(func(key, value []byte) error {
		x := &issued{}
		if len(key) != len(x.key) || json.Unmarshal(value, &x.Ticket) != nil || !x.whole() {
			return nil
		}
		copy(x.key[:], key)
		t.addLocked(x)
		for document := range x.Used { // to its end, as far as anybody knows
			x.proven[document] = true
		}
		return nil
	})
	return t, err
}

// addLocked keeps order by insertion: scanned ones come in the order of their
// hashes, which only delays forgetting them.
func (t *Tickets) addLocked(x *issued) {
	x.sends, x.proven = map[string]int{}, map[string]bool{}
	t.all[x.key] = x
	t.order = append(t.order, x)
	t.byNode[x.Node] = append(t.byNode[x.Node], x)
}

// Issue returns the ticket of b for a stage: within one boot the same, whose
// documents can all be fetched yet, else a new one.
func (t *Tickets) Issue(now time.Time, b Bearer, stage Stage, terms Terms) (Token, error) {
	if !b.whole() {
		return Token{}, fmt.Errorf("%v holds no lease of a node", b.Addr)
	}
	return t.keep(t.issue(now, b, stage, terms, func(x *issued) bool { return x.fresh(now) }))
}

// Hold returns a ticket of b for a stage with which it can fetch a document: one
// that it has, else a new one. It is for clients that are given no URL.
func (t *Tickets) Hold(now time.Time, b Bearer, stage Stage, terms Terms, document string) (Token, error) {
	if !b.whole() {
		return Token{}, fmt.Errorf("%v holds no lease of a node", b.Addr)
	}
	return t.keep(t.issue(now, b, stage, terms, func(x *issued) bool {
		verdict, _ := x.Judge(now, b, document)
		return verdict == Granted
	}))
}

// keep returns the token of a ticket when it is durable.
func (t *Tickets) keep(x *issued, err error) (Token, error) {
	if err != nil {
		return Token{}, err
	}
	if err := t.disk.wait(x.saved); err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.removeLocked(x)
		return Token{}, err
	}
	return x.token, nil
}

// issue finds a ticket that will do or makes one, which may not be durable yet.
func (t *Tickets) issue(now time.Time, b Bearer, stage Stage, terms Terms, will func(*issued) bool) (*issued, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	live := t.byNode[b.Node][:0:0]
	for _, x := range t.byNode[b.Node] {
		if !x.live(now) {
			continue
		}
		if x.Bearer == b && x.Stage == stage && x.Terms == terms && !x.token.IsZero() && will(x) {
			return x, nil
		}
		live = append(live, x)
	}
	t.byNode[b.Node] = live
	changes := t.forgetLocked(now)
	if len(live) >= maxTicketsEach || len(t.all) >= MaxTickets {
		t.disk.add(changes...) // with the next commit
		return nil, ErrTooManyTickets
	}
	x := &issued{Ticket: Ticket{Bearer: b, Terms: terms, Stage: stage, Issued: now}, token: newToken()}
	x.key = x.token.key()
	t.addLocked(x)
	x.saved = t.disk.add(append(changes, x.change())...)
	return x, nil
}

// removeLocked takes back a ticket that nobody has seen.
func (t *Tickets) removeLocked(x *issued) {
	if t.all[x.key] != x {
		return // somebody else who waited for it was first
	}
	delete(t.all, x.key)
	t.dropLocked(x)
	t.order = slices.DeleteFunc(t.order, func(y *issued) bool { return y == x })
}

// forgetLocked removes what is so old that nobody asks for it, and returns the
// changes to make on disk. Where those fail, the next start reads old tickets
// and forgets them again.
func (t *Tickets) forgetLocked(now time.Time) (changes []store.Change) {
	for len(t.order) > 0 && !now.Before(t.order[0].Issued.Add(t.order[0].ttl()+ticketMemory)) {
		x := t.order[0]
		t.order = t.order[1:]
		delete(t.all, x.key)
		t.dropLocked(x)
		changes = append(changes, store.Change{Key: x.key[:]})
	}
	return changes
}

// dropLocked takes a forgotten ticket from its node's list, which is short.
func (t *Tickets) dropLocked(x *issued) {
	kept := t.byNode[x.Node][:0:0]
	for _, y := range t.byNode[x.Node] {
		if y != x {
			kept = append(kept, y)
		}
	}
	if t.byNode[x.Node] = kept; len(kept) == 0 {
		delete(t.byNode, x.Node)
	}
}

func (x *issued) change() store.Change {
	value, err := json.Marshal(x.Ticket)
	if err != nil {
		panic("deploy: a ticket has no JSON form: " + err.Error())
	}
	return store.Change{Key: x.key[:], Value: value}
}

// A Use is the answer to one request for a document.
type Use struct {
	Verdict Verdict
	ID      string // such as "ticket 1a2b3c4d"; empty: it is not even the form of a token
	Ticket  Bearer // whose it is; zero: Unknown
	Stage   Stage
	Reason  string // why it is not granted

	tickets  *Tickets
	issued   *issued
	document string
}

// Look judges a request without using the ticket.
func (t *Tickets) Look(now time.Time, token string, asker Bearer, document string) Use {
	t.mu.Lock()
	defer t.mu.Unlock()
	u, _ := t.lookLocked(now, token, asker, document)
	return u
}

func (t *Tickets) lookLocked(now time.Time, token string, asker Bearer, document string) (Use, *issued) {
	u := Use{Reason: "there is no such ticket"}
	secret, ok := parseToken(token)
	if !ok {
		return u, nil
	}
	key := secret.key()
	u.ID = key.String()
	x := t.all[key]
	if x == nil {
		return u, nil
	}
	u.Ticket, u.Stage = x.Bearer, x.Stage
	u.Verdict, u.Reason = x.Judge(now, asker, document)
	return u, x
}

// Take judges a request, and when it is granted counts the document as given
// out; then Done must follow. An error means that this could not be put on
// disk, and nothing may be given out.
func (t *Tickets) Take(now time.Time, token string, asker Bearer, document string) (Use, error) {
	u, saved := t.take(now, token, asker, document)
	if u.issued == nil {
		return u, nil
	}
	err := t.disk.wait(saved)
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		x := u.issued
		if x.sends[document]--; x.Used[document].Equal(now) && !x.proven[document] {
			delete(x.Used, document)
		}
		u.issued = nil
	}
	return u, err
}

// take counts a document as given out, which may not be durable yet.
func (t *Tickets) take(now time.Time, token string, asker Bearer, document string) (Use, *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u, x := t.lookLocked(now, token, asker, document)
	if u.Verdict != Granted {
		return u, nil
	}
	if _, used := x.Used[document]; !used {
		t.useLocked(x, document, now)
	}
	x.sends[document]++
	u.tickets, u.issued, u.document = t, x, document
	return u, x.saved
}

// useLocked sets when a document was first given out; zero: never.
func (t *Tickets) useLocked(x *issued, document string, at time.Time) {
	if x.Used == nil {
		x.Used = map[string]time.Time{}
	}
	if x.Used[document] = at; at.IsZero() {
		delete(x.Used, document)
	}
	x.saved = t.disk.add(x.change())
}

// Done ends a use. A document that was not sent to its end was not given out,
// unless another request got it. An error means that it counts as given out
// all the same.
func (u Use) Done(complete bool) error {
	if u.issued == nil {
		return nil
	}
	t, x := u.tickets, u.issued
	first, saved := u.end(complete)
	err := t.disk.wait(saved)
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if _, used := x.Used[u.document]; !used {
			x.Used[u.document] = first
		}
	}
	return err
}

// end takes back a use that gave nothing out, and returns when it was and the
// batch that this becomes durable with; nil: it stays.
func (u Use) end(complete bool) (first time.Time, saved *batch) {
	t, x := u.tickets, u.issued
	t.mu.Lock()
	defer t.mu.Unlock()
	x.sends[u.document]--
	if complete {
		x.proven[u.document] = true
	}
	if x.sends[u.document] > 0 || x.proven[u.document] || t.all[x.key] != x {
		return first, nil
	}
	first = x.Used[u.document]
	t.useLocked(x, u.document, time.Time{})
	return first, x.saved
}
