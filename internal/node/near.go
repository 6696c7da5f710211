package node

import (
	"fmt"
	"regexp"
	"strings"
)

// Unknown says that no node has a name, and which one was probably meant.
func (inv *Inventory) Unknown(name string) error { return Unknown(name, inv.Names()) }

// Names returns the names of the nodes in their order. A nil inventory has none.
func (inv *Inventory) Names() (names []string) {
	if inv == nil {
		return nil
	}
	for i := range inv.nodes {
		names = append(names, inv.nodes[i].Name)
	}
	return names
}

// Unknown is that of an inventory with these names.
func Unknown(name string, known []string) error {
	err := fmt.Errorf("there is no node %q", name)
	if near := Near(name, known); near != "" {
		err = fmt.Errorf("%w: did you mean %q?", err, near)
	}
	return err
}

// Near returns the one of known that a name nobody has was probably meant to be:
// one that differs in case, hyphens, leading zeros, or one letter, or that ends
// like it. Empty: there is none, or more than one. A number is never taken for
// another one: of a thousand nodes each has neighbours that are one digit away,
// and to name the wrong machine is worse than to name none.
func Near(name string, known []string) (near string) {
	if len(name) > maxName {
		return ""
	}
	want := plain(name)
	for _, k := range known {
		is := plain(k)
		switch {
		case is == want:
			return k
		case digits(is) != digits(want):
		case !oneApart(is, want) && !(hasLetter(want) && strings.HasSuffix(is, want)):
		case near != "" && near != k:
			return ""
		default:
			near = k
		}
	}
	return near
}

// maxName is the longest name of a node, a DNS label.
const maxName = 63

var numberRule = regexp.MustCompile(`[0-9]+`)

// plain is a name without what people leave out: capitals, hyphens, and the
// zeros before a number, which begins with a mark instead.
func plain(name string) string {
	name = numberRule.ReplaceAllStringFunc(strings.ToLower(name), func(n string) string { return "#" + strings.TrimLeft(n, "0") })
	return strings.ReplaceAll(name, "-", "")
}

// digits are the numbers in a plain name.
func digits(plain string) string {
	return strings.Map(func(c rune) rune {
		if c == '#' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, plain)
}

func hasLetter(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c >= 'a' && c <= 'z' })
}

// oneApart reports whether one letter is too many in a or in b, or another one,
// or two have changed places.
func oneApart(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return max(len(a), len(b)) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
