package deploy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// A Token is the secret in the URL of a ticket: 128 random bits (protocol.md
// 6.3). However it is printed, marshalled or logged, it shows as its ID; only
// Reveal returns it, for the one script that carries it.
type Token struct{ secret [16]byte }

// tokenPrefix makes a token recognisable in any text, so that Redact finds it
// there and takes nothing else for one.
const tokenPrefix = "bdt_"

func newToken() (t Token) {
	_, _ = rand.Read(t.secret[:]) // crypto/rand: never fails
	return t
}

// parseToken reads the form of Reveal, in which a token has one spelling.
func parseToken(s string) (t Token, ok bool) {
	text, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok || len(text) != 2*len(t.secret) || strings.ToLower(text) != text {
		return t, false
	}
	_, err := hex.Decode(t.secret[:], []byte(text))
	return t, err == nil
}

// IsZero reports whether there is no token.
func (t Token) IsZero() bool { return t == Token{} }

// Reveal returns the token as it stands in a URL.
func (t Token) Reveal() string { return tokenPrefix + hex.EncodeToString(t.secret[:]) }

// String returns the ID, such as "ticket 1a2b3c4d": enough to tell two apart,
// and nothing to fetch with.
func (t Token) String() string { return t.key().String() }

// GoString is String, for %#v.
func (t Token) GoString() string { return t.String() }

// MarshalText returns the ID.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// A ticketKey is the SHA-256 of a token: what is kept of one on disk.
type ticketKey [sha256.Size]byte

func (t Token) key() ticketKey { return sha256.Sum256([]byte(t.Reveal())) }

func (k ticketKey) String() string { return fmt.Sprintf("ticket %x", k[:4]) }

// tokenRule is wider than a token: half of one, or one in capitals, is not for
// a log either.
var tokenRule = regexp.MustCompile(`(?i)` + tokenPrefix + `(?:[0-9a-f]{32}|[0-9a-f]+)`)

// Redact replaces what is a token in a text, or looks like one, by its ID. It
// is for every text from the wire that is kept or logged.
func Redact(text string) string {
	if !strings.ContainsAny(text, "_") {
		return text
	}
	return tokenRule.ReplaceAllStringFunc(text, func(s string) string {
		if t, ok := parseToken(s); ok {
			return "(" + t.String() + ")"
		}
		return "(ticket)"
	})
}
