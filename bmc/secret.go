package bmc

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// A Secret is a password. It prints as "[redacted]" by every verb of fmt, in
// logs and as JSON; only Reveal returns it. The zero Secret means that there is
// no password.
type Secret struct {
	text *string // fmt shows the fields of a field that is not exported, but follows no pointer there
}

// NewSecret makes text a secret; "" is none.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// IsZero reports whether there is no password.
func (s Secret) IsZero() bool { return s.text == nil }

// Reveal returns the password, for the wire and for nothing else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String hides the password.
func (s Secret) String() string { return redacted }

// Format hides the password from every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the password from JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the password from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
