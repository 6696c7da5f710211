package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"bootd/internal/store"
)

// A MediumKind says what is on a medium.
type MediumKind string

// The kinds.
const (
	SiteMedium    MediumKind = "site"    // CD with the documents of the site payload
	InstallMedium MediumKind = "install" // CD of an installer, with the node's document in it
)

// MediumTTL is how long a BMC may read an image: an installation over its
// virtual drive takes an hour on a slow day, and a drive reads until the end.
const MediumTTL = 6 * time.Hour

// A Medium is a CD image that a BMC may fetch for a node, over and over and in
// pieces, until it is revoked or expires.
type Medium struct {
	Node    string     `json:"node"`
	Kind    MediumKind `json:"kind"`
	From    netip.Addr `json:"from,omitzero"` // of the BMC; zero: any, as its address is not known
	Server  string     `json:"server"`        // for templates: host or host:port, as the node reaches us
	Issued  time.Time  `json:"issued"`        // also the time on the files of the image
	Expires time.Time  `json:"expires"`
	Sum     string     `json:"sum"` // SHA-256 of the image in hexadecimal: what is served is this or nothing
}

// Name is the last element of its URL. Firmware of BMCs looks for the ending.
func (m *Medium) Name() string { return m.Node + "-" + string(m.Kind) + ".iso" }

// File is the name of the copy that an image of an installer is.
func (m *Medium) File() string { return m.Node + "-" + m.Sum + ".iso" }

// judge settles whether a BMC may read a medium now, and why not.
func (m *Medium) judge(now time.Time, peer netip.Addr) (Verdict, string) {
	switch {
	case m.From.IsValid() && m.From != peer:
		return Foreign, fmt.Sprintf("%v is not the address of the BMC that it was made for", peer)
	case !now.Before(m.Expires):
		return Gone, "the image has expired"
	}
	return Granted, ""
}

// mediumKey is what there is one medium of.
type mediumKey struct {
	node string
	kind MediumKind
}

// Media are the media of all nodes, at most one of each kind for a node. On
// disk is the hash of a token, never the token: a URL stays good when the daemon
// is restarted, and cannot be read from its files.
//
// The methods are safe for concurrent use; a commit is made under the lock.
type Media struct {
	table Table

	mu   sync.Mutex // guards the following
	all  map[ticketKey]Medium
	keys map[mediumKey]ticketKey
}

// OpenMedia reads the media in table. One that cannot be read is as good as
// none: it has to be attached again.
func OpenMedia(table Table) (*Media, error) {
	m := &Media{table: table, all: map[ticketKey]Medium{}, keys: map[mediumKey]ticketKey{}}
	return m, table.Scan(func(key, value []byte) error {
		var k ticketKey
		var x Medium
		if len(key) == len(k) && json.Unmarshal(value, &x) == nil {
			copy(k[:], key)
			m.all[k], m.keys[mediumKey{x.Node, x.Kind}] = x, k
		}
		return nil
	})
}

// Issue makes a medium known and returns the token of its URL, on disk first,
// and the medium whose place it takes: the node's last one of that kind.
func (m *Media) Issue(x Medium) (token Token, was Medium, err error) {
	x.Expires = x.Issued.Add(MediumTTL)
	value, err := json.Marshal(x)
	if err != nil {
		return token, was, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	token = newToken()
	key := token.key()
	changes := []store.Change{{Key: key[:], Value: value}}
	old, had := m.keys[mediumKey{x.Node, x.Kind}]
	if had {
		changes = append(changes, store.Change{Key: old[:]})
	}
	if err := m.table.Apply(changes); err != nil {
		return Token{}, was, err
	}
	was = m.all[old]
	delete(m.all, old)
	m.all[key], m.keys[mediumKey{x.Node, x.Kind}] = x, key
	return token, was, nil
}

// A MediumUse is the answer to a request for an image.
type MediumUse struct {
	Medium  Medium // zero: Unknown
	Verdict Verdict
	ID      string // such as "ticket 1a2b3c4d"; empty: it is not even the form of a token
	Reason  string // why it is not granted
}

// Look judges a request for an image.
func (m *Media) Look(now time.Time, token string, peer netip.Addr) MediumUse {
	u := MediumUse{Reason: "there is no such image"}
	secret, ok := parseToken(token)
	if !ok {
		return u
	}
	key := secret.key()
	u.ID = key.String()
	m.mu.Lock()
	x, ok := m.all[key]
	m.mu.Unlock()
	if ok {
		u.Medium = x
		u.Verdict, u.Reason = x.judge(now, peer)
	}
	return u
}

// Revoke ends the media of a node of some kinds, or of all when none is named,
// and returns those that were.
func (m *Media) Revoke(node string, kinds ...MediumKind) (ended []Medium, err error) {
	if len(kinds) == 0 {
		kinds = []MediumKind{SiteMedium, InstallMedium}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range kinds {
		key, ok := m.keys[mediumKey{node, kind}]
		if !ok {
			continue
		}
		if e := m.table.Apply([]store.Change{{Key: key[:]}}); e != nil {
			err = errors.Join(err, fmt.Errorf("image of %s: %w", node, e))
			continue
		}
		ended = append(ended, m.all[key])
		delete(m.all, key)
		delete(m.keys, mediumKey{node, kind})
	}
	return ended, err
}

// Expired ends the media whose time is over, and returns them.
func (m *Media) Expired(now time.Time) (ended []Medium, err error) {
	m.mu.Lock()
	var over []mediumKey
	for k, key := range m.keys {
		if !now.Before(m.all[key].Expires) {
			over = append(over, k)
		}
	}
	m.mu.Unlock()
	for _, k := range over {
		list, e := m.Revoke(k.node, k.kind)
		ended, err = append(ended, list...), errors.Join(err, e)
	}
	return ended, err
}

// Live returns the media that there are, in no order.
func (m *Media) Live() (list []Medium) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.all {
		list = append(list, x)
	}
	return list
}
