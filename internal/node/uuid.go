package node

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// A UUID is a machine's SMBIOS system UUID in the byte order of its text form,
// which is what SMBIOS tools and iPXE's ${uuid} print. The zero UUID means
// "not known".
type UUID [16]byte

// ParseUUID reads the text form, with or without hyphens, in either case.
func ParseUUID(s string) (UUID, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return UUID{}, fmt.Errorf("%q is not a UUID such as 11223344-5566-7788-99aa-bbccddeeff00", s)
	}
	return UUID(b), nil
}

// IsZero reports whether u is the zero UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// Plausible reports whether u can tell one machine from another. Boards ship
// with all zeroes, all ones, and one vendor's sample value (protocol.md 2.1).
func (u UUID) Plausible() bool {
	sample := UUID{0x03, 0, 2, 0, 4, 0, 5, 0, 0, 6, 0, 7, 0, 8, 0, 9}
	for _, b := range u {
		if b != u[0] {
			return u != sample
		}
	}
	return false
}

// Swapped returns u with its first three fields turned round: what SMBIOS
// stores and DHCP sends, which is little-endian in them (SMBIOS 7.2.1).
func (u UUID) Swapped() UUID {
	u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
	u[4], u[5] = u[5], u[4]
	u[6], u[7] = u[7], u[6]
	return u
}

// String returns the hyphenated text form in lower case.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// MarshalText writes the zero UUID as an empty string.
func (u UUID) MarshalText() ([]byte, error) {
	if u.IsZero() {
		return nil, nil
	}
	return []byte(u.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*u = UUID{}
		return nil
	}
	*u, err = ParseUUID(string(b))
	return err
}
