package node

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// A MAC is an Ethernet hardware address. It is an array, so that it can be a
// map key and never shares memory with a packet buffer. The zero MAC means
// "not known".
type MAC [6]byte

// ParseMAC reads the notations in use: 52:54:00:aa:bb:07, 52-54-00-aa-bb-07,
// 5254.00aa.bb07 and 525400aabb07, in either case.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	digits := strings.NewReplacer(":", "", "-", "", ".", "").Replace(s)
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(m) || !separated(s) {
		return MAC{}, fmt.Errorf("%q is not a MAC address such as 52:54:00:aa:bb:07", s)
	}
	return MAC(b), nil
}

// separated reports whether s uses one separator in one of the usual places.
func separated(s string) bool {
	switch len(s) {
	case 12:
		return true
	case 14:
		return s[4] == '.' && s[9] == '.'
	case 17:
		sep := s[2]
		for i := 2; i < len(s); i += 3 {
			if s[i] != sep || sep != ':' && sep != '-' {
				return false
			}
		}
		return true
	}
	return false
}

// IsZero reports whether m is the zero MAC.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsGroup reports whether m is a multicast or broadcast address, which no
// machine can have as its own.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// String returns the colon notation in lower case.
func (m MAC) String() string { return m.join(':') }

// Hyphen returns the notation of iPXE's :hexhyp and of BOOTIF.
func (m MAC) Hyphen() string { return m.join('-') }

func (m MAC) join(sep byte) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, x := range m {
		if i > 0 {
			b = append(b, sep)
		}
		b = append(b, digits[x>>4], digits[x&15])
	}
	return string(b)
}

// MarshalText writes the zero MAC as an empty string.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText wrote, and every notation of ParseMAC.
func (m *MAC) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	*m, err = ParseMAC(string(b))
	return err
}
