// Package yamltree reads YAML into a tree that knows where everything stands,
// so that whoever judges a document can say file, line and column.
//
// A text that the parser cannot take is an error, and texts over MaxSize, or
// nested over maxDepth, are refused. It is for documents of administrators: a
// text that is made to take the parser's time does. It resolves no aliases: what
// one stands for has Kind Opaque, as has anything else that is not a plain
// value.
package yamltree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize is the longest text that is read, in bytes.
const MaxSize = 1 << 20

const maxDepth = 64

// A Kind is what a node is.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	String
	Bool
	Int
	Float
	List
	Map
	Opaque // an alias, a tag, a merge: not looked into
)

var kinds = [...]string{"null", "a string", "true or false", "an integer", "a number", "a list", "keys and values", "an alias"}

// String returns what a message calls the kind.
func (k Kind) String() string { return kinds[k] }

// A Position is a line and a column in characters, both from 1.
type Position struct{ Line, Column int }

// A Node is one value.
type Node struct {
	Kind Kind
	Position
	Text  string  // of a scalar, as it is meant, without quotes
	Items []*Node // of a List
	Keys  []Key   // of a Map, in the order of the text; a key can be there twice
}

// A Key is a key of a Map with its value.
type Key struct {
	Name string
	Position
	Value *Node
}

// Get returns the value of a key, or nil where n is no Map or does not have it.
func (n *Node) Get(names ...string) *Node {
	for _, name := range names {
		if n == nil {
			return nil
		}
		i := slices.IndexFunc(n.Keys, func(k Key) bool { return k.Name == name })
		if i < 0 {
			return nil
		}
		n = n.Keys[i].Value
	}
	return n
}

// An Error is why a text is not one document of YAML.
type Error struct {
	Position // zero: not known
	Problem  string
}

// Error returns the position and the problem.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Problem)
}

// Parse reads the first document of a text. A text with nothing but comments
// is a Null. The error is an *Error.
func Parse(text string) (n *Node, err error) {
	defer func() { // a text that the parser's authors did not foresee
		if p := recover(); p != nil {
			n, err = nil, &Error{Problem: "not YAML: the parser gave up"}
		}
	}()
	switch {
	case len(text) > MaxSize:
		return nil, &Error{Problem: fmt.Sprintf("bigger than %d bytes", MaxSize)}
	case !utf8.ValidString(text):
		return nil, &Error{Problem: "not UTF-8 text"}
	}
	file, err := parser.Parse(lexer.Tokenize(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, parseError(err)
	}
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			return build(d.Body, 0)
		}
	}
	return &Node{Position: Position{1, 1}}, nil
}

func parseError(err error) *Error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return &Error{Problem: "not YAML"}
	}
	p := at.GetToken().Position
	problem := strings.ReplaceAll(at.GetMessage(), "\n", " ")
	if strings.ContainsRune(problem, '\t') {
		problem = "a tab in the indentation, where only spaces are allowed"
	}
	return &Error{Position{p.Line, p.Column}, "not YAML: " + problem}
}

func build(n ast.Node, depth int) (*Node, error) {
	out := &Node{Position: positionOf(n)}
	if depth > maxDepth {
		return nil, &Error{out.Position, fmt.Sprintf("nested more than %d deep", maxDepth)}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return out, buildMap(out, n.Values, depth)
	case *ast.MappingValueNode:
		return out, buildMap(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.Kind = List
		for _, v := range n.Values {
			item, err := build(v, depth+1)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, item)
		}
	default:
		out.Kind, out.Text = scalar(n)
	}
	return out, nil
}

func scalar(n ast.Node) (Kind, string) {
	switch n := n.(type) {
	case *ast.StringNode:
		return String, n.Value
	case *ast.LiteralNode:
		return String, n.Value.Value
	case *ast.NullNode:
		return Null, ""
	case *ast.BoolNode:
		return Bool, n.GetToken().Value
	case *ast.IntegerNode:
		return Int, n.GetToken().Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return Float, n.GetToken().Value
	}
	return Opaque, ""
}

func buildMap(out *Node, values []*ast.MappingValueNode, depth int) error {
	out.Kind = Map
	for _, pair := range values {
		key := Key{Position: at(pair.Key), Name: pair.Key.GetToken().Value}
		if s, ok := pair.Key.(*ast.StringNode); ok {
			key.Name = s.Value
		}
		if _, ok := pair.Key.(*ast.MergeKeyNode); ok {
			continue
		}
		value, err := build(pair.Value, depth+1)
		if err != nil {
			return err
		}
		if value.Kind == Null {
			value.Position = key.Position
		}
		key.Value = value
		out.Keys = append(out.Keys, key)
	}
	return nil
}

func at(n ast.Node) Position {
	p := n.GetToken().Position
	return Position{p.Line, p.Column}
}

// positionOf returns where a node begins; a block mapping begins with its first
// key, whose colon is the node's token.
func positionOf(n ast.Node) Position {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return at(n.Values[0].Key)
		}
		return Position{n.Start.Position.Line, n.Start.Position.Column}
	case *ast.MappingValueNode:
		return at(n.Key)
	}
	return at(n)
}

// Meant ends a message about an unknown name with the known one that it is
// close to, or with all of them.
func Meant(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ": known here are " + strings.Join(known, ", ")
}

// Nearest returns the one of known that name was probably meant to be; empty:
// none is close.
func Nearest(name string, known []string) (near string) {
	if len(name) > 64 {
		return ""
	}
	least := 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least && d < len(k) {
			near, least = k, d
		}
	}
	return near
}

// distance is the number of letters to insert, remove or replace to turn a
// into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
