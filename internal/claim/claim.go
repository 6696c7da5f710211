// Package claim lets a person at a site say which site a machine belongs to, by
// scanning the code on its screen with a phone.
//
// A claim is a URL with a token in it, for one machine, once. Who opens it sees
// what the machine says of itself and the names of the sites, and binds one to
// the other with the PIN of the people who may. There is no session and no
// cookie: the PIN is in the request that does it, so no other page can make a
// browser do it. Guesses are few: five for a token, and of all tokens ten at
// once and one a minute.
//
// Claims are in memory. After a restart of the daemon the machine, which asks
// again every half minute, shows another one.
package claim

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"bootd/internal/node"
)

// A Machine is what is to be claimed: one that waits, or a node.
type Machine struct {
	Node   string // in the inventory; empty: it is in none
	MAC    node.MAC
	UUID   node.UUID
	Serial string
	ID     string // edge host id that it will have; empty: not known
}

// same reports whether a claim for m is one for other.
func (m Machine) same(other Machine) bool {
	if m.Node != "" || other.Node != "" {
		return m.Node == other.Node
	}
	return m.MAC == other.MAC
}

// A Site is a choice on the page.
type Site struct {
	Name  string
	Label string // shown; empty: the name
}

// The bounds of claims.
const (
	TTL      = 12 * time.Hour // of a claim that nobody uses
	maxOpen  = 1024           // claims at a time; the oldest gives way
	maxTries = 5              // wrong PINs of one claim
	minPIN   = 6              // characters
	maxPIN   = 1024           // bytes of its file
)

// All claims together: wrong PINs that may come at once, and how often another.
const (
	burstTries = 10
	everyTry   = time.Minute
)

// A Desk gives out claims and takes them. Set the fields before use and leave
// them be. Its methods are safe for concurrent use.
type Desk struct {
	// PIN returns the file whose first line is the PIN. It is read for each
	// claim.
	PIN func() string
	// Sites returns the choices; none: there is nothing to claim.
	Sites func() []Site
	// Bind makes a machine belong to a site, under a name, and returns the node
	// it is. Its error is shown to the person. It may take its time: nobody waits
	// for it but those who claim the same machine. It is not called for one
	// claim twice at a time.
	Bind func(m Machine, site, name string) (node string, err error)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	mu     sync.Mutex // guards the following
	claims []*claim   // by issue
	tries  *rate.Limiter
}

// A claim is a token and what has become of it.
type claim struct {
	token   string
	machine Machine
	issued  time.Time
	wrong   int    // PINs
	node    string // that it became; empty: it is open
	site    string
	busy    chan struct{} // closed when the try that binds it ends; nil: there is none
}

func (d *Desk) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// tokenBytes make 16 letters of a token: 80 random bits.
const tokenBytes = 10

// letters need no quoting in a URL, and little room in a QR code.
var letters = base32.StdEncoding

var tokenRule = regexp.MustCompile(`^[A-Z2-7]{16}$`)

// Issue returns the token of the claim for a machine: the one it has, while it
// is open.
func (d *Desk) Issue(m Machine) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	d.forgetLocked(now)
	for _, c := range d.claims {
		if c.node == "" && c.wrong < maxTries && c.machine.same(m) {
			c.machine = m
			return c.token
		}
	}
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // crypto/rand: never fails
	c := &claim{token: letters.EncodeToString(b[:]), machine: m, issued: now}
	d.claims = append(d.claims, c)
	return c.token
}

func (d *Desk) forgetLocked(now time.Time) {
	for len(d.claims) > 0 && (len(d.claims) >= maxOpen || now.Sub(d.claims[0].issued) >= TTL) {
		d.claims = d.claims[1:]
	}
}

// Waiting returns the machine without a node that has this MAC and an open
// claim.
func (d *Desk) Waiting(mac node.MAC) (Machine, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.claims {
		if c.node == "" && c.machine.Node == "" && c.machine.MAC == mac {
			return c.machine, true
		}
	}
	return Machine{}, false
}

// find returns the claim of a token; nil: there is none. The page shows what
// find returned, never what a request said.
func (d *Desk) find(token string) *claim {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgetLocked(d.now())
	if !tokenRule.MatchString(token) {
		return nil
	}
	for _, c := range d.claims {
		if subtle.ConstantTimeCompare([]byte(c.token), []byte(token)) == 1 {
			copied := *c
			return &copied
		}
	}
	return nil
}

// The refusals of a claim.
var (
	errNone  = errors.New("this code is not good any more: scan the one on the screen of the machine again")
	errTries = errors.New("too many wrong PINs: wait a minute")
	errPIN   = errors.New("the PIN is wrong")
	errUsed  = errors.New("this machine was claimed just now")
)

// take binds the machine of a token. A claim is taken by one at a time: of two
// people who press the button, one does it, and the other waits and sees what
// came of it. Nobody else waits for files: they are read and written without
// the lock.
func (d *Desk) take(ctx context.Context, token, pin, site, name string) (claim, error) {
	if d.find(token) == nil {
		return claim{}, errNone
	}
	want, unread := readPIN(d.PIN())
	for {
		open, c, err := d.begin(token, pin, want, unread, site)
		switch {
		case err != nil:
			return c, err
		case open != nil:
			return d.bind(open, c.machine, site, name)
		}
		select {
		case <-c.busy:
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}

// begin judges a try, and makes the claim the caller's to bind. Nil: another try
// has it, until busy is closed.
func (d *Desk) begin(token, pin, want string, unread error, site string) (open *claim, was claim, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.claims {
		if x.token == token {
			open = x
		}
	}
	switch {
	case open == nil || open.wrong >= maxTries:
		return nil, claim{}, errNone
	case open.node != "":
		return nil, *open, errUsed
	}
	if err := d.checkPINLocked(open, pin, want, unread); err != nil {
		return nil, *open, err
	}
	switch {
	case !d.isSite(site):
		return nil, *open, errors.New("choose a site")
	case open.busy != nil:
		return nil, *open, nil
	}
	open.busy = make(chan struct{})
	return open, *open, nil
}

// bind binds what begin gave, and lets the next try go on, whatever happens.
func (d *Desk) bind(c *claim, m Machine, site, name string) (is claim, err error) {
	var bound string
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if err == nil && bound != "" { // and did not panic
			c.node, c.site = bound, site
		}
		close(c.busy)
		c.busy, is = nil, *c
	}()
	bound, err = d.Bind(m, site, name)
	return is, err
}

func (d *Desk) isSite(name string) bool {
	for _, s := range d.Sites() {
		if s.Name == name {
			return true
		}
	}
	return false
}

// checkPINLocked counts a wrong PIN. Where too many were wrong even the right
// one waits, so that an answer tells nothing.
func (d *Desk) checkPINLocked(c *claim, pin, want string, unread error) error {
	if d.tries == nil {
		d.tries = rate.NewLimiter(rate.Every(everyTry), burstTries)
	}
	switch {
	case d.tries.TokensAt(d.now()) < 1:
		return errTries
	case unread != nil:
		return errors.New("no claim can be made now: the server cannot read its PIN")
	}
	a, b := sha256.Sum256([]byte(strings.TrimSpace(pin))), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return nil
	}
	d.tries.AllowN(d.now(), 1)
	c.wrong++
	return errPIN
}

// readPIN returns the first line of a file.
func readPIN(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPIN))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSpace(line)
	if len(line) < minPIN {
		return "", fmt.Errorf("%s: its first line has %d characters, a PIN has at least %d", path, len(line), minPIN)
	}
	return line, nil
}

// CheckPIN reports what is wrong with the file of a PIN.
func CheckPIN(path string) error {
	_, err := readPIN(path)
	return err
}
