package yamltree_test

import (
	"strings"
	"testing"

	"bootd/internal/yamltree"
)

func TestPositions(t *testing.T) {
	n, err := yamltree.Parse("#cloud-config\na:\n  - b: 1\n    c: \"x\"\n  - {d: true, e: [1.5, ~]}\nf: |\n  two\n  lines\ng:\nh: &x 1\ni: *x\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		got          *yamltree.Node
		kind         yamltree.Kind
		line, column int
		text         string
	}{
		{n, yamltree.Map, 2, 1, ""},
		{n.Get("a").Items[0], yamltree.Map, 3, 5, ""},
		{n.Get("a").Items[0].Get("b"), yamltree.Int, 3, 8, "1"},
		{n.Get("a").Items[0].Get("c"), yamltree.String, 4, 8, "x"},
		{n.Get("a").Items[1], yamltree.Map, 5, 5, ""},
		{n.Get("a").Items[1].Get("e").Items[0], yamltree.Float, 5, 19, "1.5"},
		{n.Get("a").Items[1].Get("e").Items[1], yamltree.Null, 5, 24, ""},
		{n.Get("f"), yamltree.String, 6, 4, "two\nlines\n"},
		{n.Get("g"), yamltree.Null, 9, 1, ""},
		{n.Get("i"), yamltree.Opaque, 11, 4, ""},
	} {
		if g := tt.got; g.Kind != tt.kind || g.Line != tt.line || g.Column != tt.column || g.Text != tt.text {
			t.Errorf("got %v at %v %q, want %v at %d:%d %q", g.Kind, g.Position, g.Text, tt.kind, tt.line, tt.column, tt.text)
		}
	}
	if n.Get("a", "b") != nil || n.Get("x", "y") != nil {
		t.Error("a key that is not there: got a value")
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: [1\nb: 2\n":                "1:",
		"a:\n\tb: 1\n":                 "a tab in the indentation",
		"\xff":                         "not UTF-8 text",
		strings.Repeat("[", 1000):      "",
		strings.Repeat("a", 1<<20+1):   "bigger than 1048576 bytes",
		strings.Repeat("- ", 70) + "a": "nested more than 64 deep",
	} {
		if _, err := yamltree.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
	if n, err := yamltree.Parse("# nothing\n"); err != nil || n.Kind != yamltree.Null {
		t.Errorf("comments: got %v %v, want null", n, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: 1", "a: [1, {b: c}]", "- - a", "? x", "a: &b\n  c: *b", "<<: {a: 1}", "a: |\n x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := yamltree.Parse(text); err == nil && n == nil {
			t.Error("got neither a tree nor an error")
		}
	})
}
