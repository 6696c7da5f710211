package tftp

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a normalised name.
const (
	maxName  = 255 // bytes
	maxDepth = 16  // path components
)

// A NameError is returned when a client asks for a name that is not served.
type NameError struct {
	Name   string // as asked for
	Reason string
	Code   uint16 // TFTP error code: 2 access violation, 4 illegal operation
}

func (e *NameError) Error() string { return fmt.Sprintf("name %q: %s", e.Name, e.Reason) }

// Normalize turns the name of a request into the name of a file relative to a
// root: slashes for backslashes, no empty or "." component, no ".." and no
// leading slash, printable UTF-8, at most 255 bytes and 16 components. The
// result is stable: normalising it again changes nothing. Any error is a
// *NameError.
func Normalize(name string) (string, error) {
	refuse := func(code uint16, reason string) (string, error) {
		return "", &NameError{Name: name, Reason: reason, Code: code}
	}
	clean := trimTail(name)
	if !utf8.ValidString(clean) || strings.ContainsFunc(clean, unicode.IsControl) {
		return refuse(codeIllegal, "is not printable UTF-8")
	}
	parts := components(clean)
	clean = strings.Join(parts, "/")
	switch {
	case clean == "":
		return refuse(codeIllegal, "is empty")
	case slices.Contains(parts, ".."):
		return refuse(codeAccess, `has a ".." component`)
	case len(clean) > maxName:
		return refuse(codeAccess, fmt.Sprintf("is longer than %d bytes", maxName))
	case len(parts) > maxDepth:
		return refuse(codeAccess, fmt.Sprintf("is deeper than %d components", maxDepth))
	}
	return clean, nil
}

// trimTail drops up to two bytes of garbage that some ROMs leave behind the
// name: 0xff and control bytes. A valid UTF-8 character there is part of the
// name, not garbage.
func trimTail(name string) string {
	for range 2 {
		r, size := utf8.DecodeLastRuneInString(name)
		if size != 1 || r != utf8.RuneError && r >= ' ' {
			break
		}
		name = name[:len(name)-1]
	}
	return name
}

// components splits at slashes of both kinds and drops what names no file.
func components(name string) []string {
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' })
	kept := parts[:0]
	for _, p := range parts {
		if p != "." {
			kept = append(kept, p)
		}
	}
	return kept
}

// printable returns a name that Normalize refused, fit for a screen.
func printable(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	return name
}
