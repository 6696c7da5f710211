package artifacts

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Compare orders release ids from old to new and returns -1, 0 or +1. The
// dotted version at the front counts first, number by number (1.9.0 < 1.10.0);
// an id without one is older than any with one. Then counts the build time in
// milliseconds since 1970 at the end, then what is between them, digits as
// numbers (1.2.3 < 1.2.3-9 < 1.2.3-23). Ids that differ are never equal.
func Compare(a, b string) int {
	x, y := parse(a), parse(b)
	return cmp.Or(
		slices.CompareFunc(x.version, y.version, compareNumber),
		compareNumber(x.built, y.built),
		slices.CompareFunc(x.rest, y.rest, compareRun),
		strings.Compare(a, b),
	)
}

// An id is a release id taken apart.
type id struct {
	version []string // numbers of the dotted version
	rest    []string // runs of digits and of other characters
	built   string   // build time; empty: none, which is before any
}

var (
	// A build time has 12 digits at least (1973), so that neither a build
	// number nor a date is taken for one.
	idForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)+)?(.*?)(?:-([0-9]{12,}))?$`)
	runs   = regexp.MustCompile(`[0-9]+|[^0-9]+`)
)

func parse(s string) id {
	m := idForm.FindStringSubmatch(s)
	if m == nil { // a line break, which no valid id has
		return id{rest: []string{s}}
	}
	v := id{rest: runs.FindAllString(m[2], -1), built: m[3]}
	if m[1] != "" {
		v.version = strings.Split(m[1], ".")
	}
	return v
}

// compareNumber compares strings of digits of any length as numbers.
func compareNumber(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// compareRun puts numbers before words.
func compareRun(a, b string) int {
	x, y := isDigit(a), isDigit(b)
	switch {
	case x && y:
		return compareNumber(a, b)
	case x:
		return -1
	case y:
		return 1
	}
	return strings.Compare(a, b)
}

func isDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
