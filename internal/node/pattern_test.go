package node

import (
	"slices"
	"testing"
)

func TestPatterns(t *testing.T) {
	names := []string{"fmn001", "ncn-m001", "ncn-m002", "ncn-m003", "ncn-m010", "ncn-s001", "ncn-s002"}
	for _, tt := range []struct {
		list string
		want []string
	}{
		{"ncn-m001", names[1:2]},
		{"ncn-m[001-003],ncn-s*", []string{"ncn-m001", "ncn-m002", "ncn-m003", "ncn-s001", "ncn-s002"}},
		{"ncn-m[001,003]", []string{"ncn-m001", "ncn-m003"}},
		{"ncn-m[002-010]", []string{"ncn-m002", "ncn-m003", "ncn-m010"}},
		{"ncn-m[1-3]", nil}, // as many digits as the names have
		{"ncn-?[001]", []string{"ncn-m001", "ncn-s001"}},
		{"*", names},
	} {
		ps, err := ParsePatterns(tt.list)
		if err != nil {
			t.Fatalf("%q: %v", tt.list, err)
		}
		var got []string
		for _, name := range names {
			if slices.ContainsFunc(ps, func(p Pattern) bool { return p.Match(name) }) {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.list, got, tt.want)
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for list, want := range map[string]string{
		"":                `"" is not a list of nodes such as ncn-m[001-003],ncn-s*`,
		"a,,b":            `"" is not a list of nodes such as ncn-m[001-003],ncn-s*`,
		"../etc":          `"../etc" is not a list of nodes such as ncn-m[001-003],ncn-s*`,
		"n[1-":            `"n[1-" is not a list of nodes such as ncn-m[001-003],ncn-s*`,
		"n[1]]":           `"n[1]]" is not a list of nodes such as ncn-m[001-003],ncn-s*`,
		"n[3-1]":          `"n[3-1]": "3-1" ends before it begins`,
		"n[1-2-3]":        `"n[1-2-3]": "1-2-3" is not a number or a range such as 001-003`,
		"n[1,]":           `"n[1,]": "" is not a number or a range such as 001-003`,
		"n[0-4294967295]": `"n[0-4294967295]": "0-4294967295" is more than 100000 nodes`,
	} {
		if _, err := ParsePatterns(list); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", list, err, want)
		}
	}
}

func FuzzParsePatterns(f *testing.F) {
	f.Add("ncn-m[001-003],ncn-s*")
	f.Fuzz(func(t *testing.T, list string) {
		ps, err := ParsePatterns(list)
		if err != nil {
			return
		}
		for _, p := range ps {
			p.Match("ncn-m001")
		}
	})
}
