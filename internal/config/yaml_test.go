package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// The trees are what YAML 1.2.2 says, as PyYAML 6 (block) and the examples of
// its chapter 7 (colons in flow) read them; nil is written as -.
func TestMend(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"a: {b: [52:54:00, x]}", "{a: {b: [52:54:00 x]}}"},
		{"a: {b: [52:54:00:aa:bb:01,52:54:00:aa:bb:02]}", "{a: {b: [52:54:00:aa:bb:01 52:54:00:aa:bb:02]}}"},
		{"a: {b: 52:54, c: d:e}", "{a: {b: 52:54, c: d:e}}"},
		{"a: {b: http://x/y:z}", "{a: {b: http://x/y:z}}"},
		{"a:\tb\nc: {d:\te, f: [g:\th]}", "{a: b, c: {d: e, f: [{g: h}]}}"},
		{"a:\n-\nb:", "{a: [-], b: -}"},
		{"a: {'b':c}", "{a: {b: c}}"},
		{"a: [b: c]", "{a: [{b: c}]}"},
		{"a: {é: [é:é]}", "{a: {é: [é:é]}}"},
		{"a:\nb:\n  c:\n  d: 1\n", "{a: -, b: {c: -, d: 1}}"},
		{"a:\n- b\n-\n- c:\n  d:\n- - e\n  -\nf: 1", "{a: [b - {c: -, d: -} [e -]], f: 1}"},
		{"a: # x\n  # y\n  b\nc: # z\n# w\nd: 1", "{a: b, c: -, d: 1}"},
		{"a:\n  - b:\n      - c\n    d:\n    - e", "{a: [{b: [c], d: [e]}]}"},
		{"a: |\n  x\n\nb: >-\n\n  y\n", "{a: x\n, b: \ny}"},
		{"a:\n  'b'\nc:\n  \"d\"\n", "{a: b, c: d}"},
		{"a: {b: , c: }", "{a: {b: -, c: -}}"},
		{"'a':\n\"b\":\n  c", "{a: -, b: c}"},
	} {
		file, err := parseText(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		} else if got := show(file.Docs[0].Body); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.text, got, tt.want)
		}
	}
}

// show writes a tree in one line.
func show(n ast.Node) string {
	var parts []string
	if list, ok := pairs(n); ok {
		for _, p := range list {
			parts = append(parts, keyText(p)+": "+show(p.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "-"
	case *ast.SequenceNode:
		for _, item := range n.Values {
			parts = append(parts, show(item))
		}
		return fmt.Sprint(parts)
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return n.GetToken().Value
}

// FuzzParse holds that no text makes Parse panic, that a fault has a place in
// the text, and that a configuration which Parse accepts keeps what the types
// promise. It also holds that mend changes nothing but what it is for: without
// { or [, the unmended tree is the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		string(reference), minimal, "", "a", "a:\n-\n- b\n", "root: [", "subnets: [{interface: e, pools: [1.2.3.4-1.2.3.9]}]",
		"nodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01], address: 10.0.0.1}]",
		"a: {b: [1:2]}", "? a", "a: &b c", "\"\\u", "a: |\n x", "- - - a", ": a", "a: 'b", "{}", "{a: }", "!!x", "--- a\n--- b", "a:\nb:\n-\rc:",
		"subnets:\n- {interface: e, subnet: 10.0.0.0/8, pools: [10.0.0.1-10.0.0.9, 10.0.0.9]}\n- interface: e\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("x.yaml", data)
		if err == nil {
			checkInvariants(t, c)
		} else {
			checkFaults(t, data, err)
		}
		if !strings.ContainsAny(string(data), "{[") {
			checkMend(t, string(data))
		}
	})
}

func checkFaults(t *testing.T, data []byte, err error) {
	list, ok := err.(Faults)
	if !ok || len(list) == 0 {
		t.Fatalf("got %T %v, want Faults", err, err)
	}
	lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 2
	for i, f := range list {
		if f.Problem == "" || f.Line > lines || i > 0 && f.Line < list[i-1].Line {
			t.Errorf("fault %+v of %d lines, after %+v", f, lines, list[max(i-1, 0)])
		}
		if strings.ContainsAny(f.Error(), "\n\x00") {
			t.Errorf("not one line of text: %q", f.Error())
		}
	}
}

// loneDash is where mend is right and the parser wrong: in "a:\n-\nb:" it takes
// b for what the dash holds. A carriage return ends a line, too.
var loneDash = regexp.MustCompile(`(?m)-[ \t]*(#.*)?(\r|$)`)

func checkMend(t *testing.T, text string) {
	defer func() { recover() }() // the parser's own, without our bounds
	mended, err := parseText(text)
	if err != nil || loneDash.MatchString(text) {
		return
	}
	plain, err := parser.Parse(lexer.Tokenize(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return
	}
	for i := range plain.Docs {
		if got, want := show(mended.Docs[i].Body), show(plain.Docs[i].Body); got != want {
			t.Errorf("%q: mended %s, plain %s", text, got, want)
		}
	}
}

func checkInvariants(t *testing.T, c *Config) {
	for _, p := range []string{c.Root, c.State, c.Loaders, c.Admin.Socket} {
		if !strings.HasPrefix(p, "/") {
			t.Errorf("path %q", p)
		}
	}
	if c.Root == "/" || inside(c.State, c.Root) || inside(c.Admin.Socket, c.Root) {
		t.Errorf("root %q, state %q, socket %q", c.Root, c.State, c.Admin.Socket)
	}
	if c.HTTP.Port == 0 || c.TFTP.Port == 0 {
		t.Errorf("ports %d, %d", c.HTTP.Port, c.TFTP.Port)
	}
	var pools []Pool
	for _, s := range c.Subnets {
		if s.Interface == "" || s.Lease < MinLease || s.Lease > MaxLease || s.BootLease < MinBootLease || s.BootLease > MaxBootLease {
			t.Errorf("subnet %+v", s)
		}
		for _, p := range s.Pools {
			if p.Size() < 1 || s.Prefix.IsValid() && !(s.Prefix.Contains(p.First) && s.Prefix.Contains(p.Last)) {
				t.Errorf("pool %v of %v", p, s.Prefix)
			}
			for _, q := range pools {
				if p.overlaps(q.Range) {
					t.Errorf("pools %v and %v overlap", p, q)
				}
			}
			pools = append(pools, p)
		}
	}
	seen := map[any]bool{}
	for _, n := range c.Inventory.Nodes() {
		keys := []any{n.Name}
		for _, m := range n.MACs {
			keys = append(keys, m)
		}
		if n.Addr.IsValid() {
			keys = append(keys, n.Addr)
		}
		for _, k := range keys {
			if seen[k] || reflect.ValueOf(k).IsZero() {
				t.Errorf("%v is used twice, or zero", k)
			}
			seen[k] = true
		}
		if _, ok := c.Inventory.Role(n.Role); !ok || len(n.MACs) == 0 || strings.ContainsAny(n.Name+n.Release, "/ \n") {
			t.Errorf("node %+v", n)
		}
	}
	for _, r := range c.Inventory.Roles() {
		if r.Dir == "" || len(r.Squashfs) == 0 || strings.ContainsAny(r.Dir+r.Release+strings.Join(r.Squashfs, ""), "/* \n") {
			t.Errorf("role %+v", r)
		}
	}
}
