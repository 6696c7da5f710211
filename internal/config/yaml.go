package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"bootd/internal/yamltree"
)

// A position is a line and a column in runes, both from 1.
type position struct{ line, column int }

// decode reads data into r, a pointer to a raw struct, and returns its tree,
// which locate needs. It returns nil when the text as a whole cannot be read,
// and then has recorded why.
func decode(data []byte, r any, f *faults) ast.Node {
	tree, pos, problem := parse(data)
	if _, whole := r.(*raw); problem == emptyFile && !whole {
		problem = "file is empty: it has no nodes: key"
	}
	if problem != "" {
		f.addAt(place{}, pos, "%s", problem)
		return nil
	}
	d := decoder{f}
	d.value(tree, reflect.ValueOf(r).Elem(), place{})
	return tree
}

const emptyFile = "file is empty: start from what bootd config init prints"

// parse returns the only document of data, or why there is none.
func parse(data []byte) (ast.Node, position, string) {
	if len(data) > maxSize {
		return nil, position{}, fmt.Sprintf("file is bigger than %d MiB", maxSize>>20)
	}
	if pos, ok := invalidUTF8(data); ok {
		return nil, pos, "not UTF-8 text"
	}
	file, err := parseText(string(bytes.TrimPrefix(data, []byte("\ufeff"))))
	if err != nil {
		pos, problem := explain(err)
		return nil, pos, problem
	}
	return document(file)
}

// parseText turns a panic of the parser into an error: it means a file that
// the parser's authors did not foresee, and bootd must survive a reload of it.
func parseText(text string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	tokens := mend(lexer.Tokenize(text))
	if err := bounds(tokens); err != nil {
		return nil, err
	}
	// Duplicate keys are ours to report: the parser stops at the first.
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// mend corrects two things that goccy/go-yaml v1.19.2 gets wrong.
//
// Inside { } it reads [52:54:00:aa:bb:01] as a mapping (its issue 832); but a
// colon is part of plain text unless a space or one of ,[]{} follows (YAML
// 1.2.2, rule ns-plain-char). And each key without a value moves all tokens
// after it, which takes a minute for 200,000 of them; with the null written
// out it does not.
func mend(tokens token.Tokens) token.Tokens {
	out := make(token.Tokens, 0, len(tokens))
	depth := 0 // of { and [
	for i, t := range tokens {
		if n := len(out); depth > 0 && n >= 2 && isPlain(t) && isPlain(out[n-2]) && adjacent(out[n-2], out[n-1], t) {
			text := out[n-2].Value + ":" + t.Value
			t, out = token.String(text, text, out[n-2].Position), out[:n-2]
		}
		out.Add(t)
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.MappingValueType, token.SequenceEntryType:
			if !hasValue(out[max(len(out)-2, 0)], t, tokens[i+1:], depth > 0) {
				out.Add(token.New("null", " null", &token.Position{
					Line: t.Position.Line, Column: t.Position.Column + 1, Offset: t.Position.Offset + 1,
				}))
			}
		}
	}
	return out
}

// hasValue reports whether a value follows t, which is a dash, or the colon
// after before. In flow, which is inside { or [, that is anything but the end.
// Outside it is something on the same line, or further to the right, or a dash
// under a key.
func hasValue(before, t *token.Token, after token.Tokens, flow bool) bool {
	column := t.Position.Column
	if t.Type == token.MappingValueType && before.Position.Line == t.Position.Line {
		column = before.Position.Column
	}
	for _, next := range after {
		p := next.Position
		switch {
		case next.Type == token.CommentType:
			continue
		case flow:
			return !endsFlow(next)
		case p.Line == t.Position.Line || p.Column > column:
			return true
		}
		return p.Column == column && t.Type == token.MappingValueType && next.Type == token.SequenceEntryType
	}
	return false
}

// endsFlow reports whether t is one of , ] }.
func endsFlow(t *token.Token) bool {
	return t.Type == token.CollectEntryType || t.Type == token.SequenceEndType || t.Type == token.MappingEndType
}

func isPlain(t *token.Token) bool {
	return t.CharacterType == token.CharacterTypeMiscellaneous && t.Indicator == token.NotIndicator
}

// adjacent reports whether colon is one, with a and b touching it. A tab does
// not count in columns, but is in the origin of what follows it.
func adjacent(a, colon, b *token.Token) bool {
	p, q, r := a.Position, colon.Position, b.Position
	return colon.Type == token.MappingValueType && p.Line == q.Line && q.Line == r.Line &&
		p.Column+utf8.RuneCountInString(a.Value) == q.Column && q.Column+1 == r.Column &&
		strings.HasPrefix(b.Origin, b.Value)
}

// document returns the only document of a file, which holds keys.
func document(file *ast.File) (ast.Node, position, string) {
	var docs []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d.Body)
		}
	}
	switch {
	case len(docs) == 0:
		return nil, position{}, emptyFile
	case len(docs) > 1:
		return nil, positionOf(docs[1]), "a second YAML document: the file must be one"
	}
	if _, ok := pairs(docs[0]); !ok {
		return nil, positionOf(docs[0]), kind(docs[0]) + ", where the file must be keys and values"
	}
	return docs[0], position{}, ""
}

// invalidUTF8 returns where data stops being UTF-8, if it does.
func invalidUTF8(data []byte) (position, bool) {
	if utf8.Valid(data) {
		return position{}, false
	}
	pos := position{1, 1}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		pos.column++
		if r == '\n' {
			pos = position{pos.line + 1, 1}
		}
		data = data[n:]
	}
	return pos, true
}

// explain turns an error of parseText into one line.
func explain(err error) (position, string) {
	var bad *tokenError
	var e yaml.Error
	switch {
	case errors.As(err, &bad):
		return at(bad.token), bad.problem
	case !errors.As(err, &e) || e.GetToken() == nil:
		line, _, _ := strings.Cut(err.Error(), "\n")
		return position{}, "not valid YAML: " + line
	}
	msg := strings.ReplaceAll(e.GetMessage(), "\n", " ")
	if strings.ContainsRune(msg, '\t') {
		msg = "a tab in the indentation, where only spaces are allowed"
	}
	return at(e.GetToken()), "not valid YAML: " + msg
}

// A tokenError is something that YAML allows and this file does not.
type tokenError struct {
	token   *token.Token
	problem string
}

func (e *tokenError) Error() string { return e.problem }

// The parser is recursive, and its time grows with the square of the nesting
// and of the keys of one mapping. This file nests five deep and has ten keys.
const (
	maxNesting = 20
	maxKeys    = 200
)

// refused are the tokens of YAML that this file has no use for.
var refused = map[token.Type]string{
	token.AnchorType:     "anchors and aliases (& and *) are not allowed: quote the value if it is text",
	token.AliasType:      "anchors and aliases (& and *) are not allowed: quote the value if it is text",
	token.TagType:        "tags (!) are not allowed: quote the value if it is text",
	token.DirectiveType:  "directives (%) are not allowed: quote the value if it is text",
	token.MergeKeyType:   "merge keys (<<) are not allowed",
	token.MappingKeyType: `explicit keys ("? key") are not allowed: write "key: value"`,
}

// bounds looks at the tokens for what the parser must not see: what would take
// it more than linear time, and what this file may not use. It returns the
// first such thing.
func bounds(tokens token.Tokens) error {
	var open []level
	dashes := 0 // on this line without a key or value between
	for _, t := range tokens {
		if t.Type != token.SequenceEntryType || t.Prev != nil && t.Prev.Position.Line != t.Position.Line {
			dashes = 0
		}
		if problem, ok := refused[t.Type]; ok {
			return &tokenError{t, problem}
		}
		if endsFlow(t) && len(open) > 0 && open[len(open)-1].braces && isLoneKey(t.Prev) {
			return &tokenError{t.Prev, fmt.Sprintf(`%.60q is a key without a colon and a value`, t.Prev.Value)}
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, level{flow: true, braces: t.Type == token.MappingStartType})
		case token.SequenceEndType, token.MappingEndType:
			open = closeFlow(open)
		case token.SequenceEntryType:
			dashes++
			open = closeBlock(open, t.Position.Column+1)
		case token.MappingValueType:
			if open = countKey(open, t); open[len(open)-1].keys > maxKeys {
				return &tokenError{t, fmt.Sprintf("more than %d keys in one mapping", maxKeys)}
			}
		}
		if len(open)+dashes > maxNesting {
			return &tokenError{t, fmt.Sprintf("nested more than %d deep", maxNesting)}
		}
	}
	return nil
}

// A level is a mapping, or a flow sequence, that a token is inside of.
type level struct {
	flow   bool // { or [; else a block mapping
	braces bool // {
	column int  // of the keys of a block mapping
	keys   int
}

// isLoneKey reports whether t, the token before the end of something in { },
// is all there is in it. Besides being a mistake here, it costs the parser as
// much as a missing value does: see mend.
func isLoneKey(t *token.Token) bool {
	return t.Indicator != token.FlowCollectionIndicator && t.Prev != nil &&
		(t.Prev.Type == token.MappingStartType || t.Prev.Type == token.CollectEntryType)
}

// closeFlow leaves the innermost { or [.
func closeFlow(open []level) []level {
	for len(open) > 0 && !open[len(open)-1].flow {
		open = open[:len(open)-1]
	}
	return open[:max(len(open)-1, 0)]
}

// closeBlock leaves the block mappings whose keys are at column or further
// right. Inside { or [ there are none.
func closeBlock(open []level, column int) []level {
	for len(open) > 0 && !open[len(open)-1].flow && open[len(open)-1].column >= column {
		open = open[:len(open)-1]
	}
	return open
}

// countKey counts the key before the colon t.
func countKey(open []level, t *token.Token) []level {
	if n := len(open); n > 0 && open[n-1].flow {
		open[n-1].keys++
		return open
	}
	column := t.Position.Column
	if t.Prev != nil {
		column = t.Prev.Position.Column
	}
	open = closeBlock(open, column+1)
	if n := len(open); n == 0 || open[n-1].column < column {
		open = append(open, level{column: column})
	}
	open[len(open)-1].keys++
	return open
}

// A decoder copies a tree into the raw types.
type decoder struct{ *faults }

// value copies n, which is at a place, into v: text, a list, a struct or a
// pointer to one.
func (d decoder) value(n ast.Node, v reflect.Value, at place) {
	if n == nil || n.Type() == ast.NullType {
		return // as if the key were not there
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(d.text(n, at))
	case reflect.Struct:
		d.mapping(n, v, at)
	case reflect.Pointer: // that the key is there means something of its own
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), at)
	default:
		d.list(n, v, at)
	}
}

func (d decoder) text(n ast.Node, at place) string {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	case ast.ScalarNode:
		s = n.GetToken().Value
	default:
		d.add(at, "%s, where one value is wanted", kind(n))
		return ""
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		d.add(at, "%.60q holds %U, which is not a printable character", s, r)
	}
	return s
}

func (d decoder) list(n ast.Node, v reflect.Value, at place) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(at, "%s, where a list is wanted, such as [...]", kind(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		d.value(item, v.Index(i), place{at.last.up}.item(at.last.name, i, label(item)))
	}
}

func (d decoder) mapping(n ast.Node, v reflect.Value, at place) {
	list, ok := pairs(n)
	if !ok {
		d.add(at, "%s, where keys and values are wanted", kind(n))
		return
	}
	known := keys(v.Type())
	lines := map[string]int{}
	for _, pair := range list {
		key, pos := keyText(pair), positionOf(pair.Key)
		field := slices.Index(known, key)
		switch first, dup := lines[key]; {
		case field < 0:
			d.addAt(at, pos, "unknown key %.60q%s", key, yamltree.Meant(key, known))
		case dup:
			d.addAt(at, pos, "key %q is there twice, first on line %d", key, first)
		default:
			lines[key] = pos.line
			d.value(pair.Value, v.Field(field), at.key(key))
		}
	}
}

// keys returns the keys of a raw struct.
func keys(t reflect.Type) (list []string) {
	for i := range t.NumField() {
		list = append(list, t.Field(i).Tag.Get("yaml"))
	}
	return list
}

// pairs returns the keys and values of n and reports whether it is a mapping.
func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func keyText(pair *ast.MappingValueNode) string {
	if s, ok := pair.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return pair.Key.GetToken().Value
}

// label returns the name by which messages call an item of a list.
func label(n ast.Node) string {
	list, _ := pairs(n)
	for _, pair := range list {
		if s, ok := pair.Value.(ast.ScalarNode); ok && keyText(pair) == "name" && s.Type() != ast.NullType {
			return s.GetToken().Value
		}
	}
	return ""
}

// kind says what n is.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%.60q", n.GetToken().Value)
}

func at(t *token.Token) position { return position{t.Position.Line, t.Position.Column} }

// positionOf returns where n begins; a block mapping begins with its first key.
func positionOf(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && m.IsFlowStyle {
		return at(m.Start)
	}
	if list, ok := pairs(n); ok && len(list) > 0 {
		return at(list[0].Key.GetToken())
	}
	return at(n.GetToken())
}

// locate returns the position of the value at a place, or of the nearest thing
// around it when there is none.
func locate(n ast.Node, p place) position {
	pos := positionOf(n)
	for _, s := range p.steps() {
		pair := lookup(n, s.name)
		if pair == nil {
			return pos
		}
		n, pos = pair.Value, positionOf(pair.Key)
		if n == nil || n.Type() == ast.NullType {
			return pos
		}
		if seq, ok := n.(*ast.SequenceNode); ok && s.index >= 0 && s.index < len(seq.Values) {
			n = seq.Values[s.index]
		}
		pos = positionOf(n)
	}
	return pos
}

func lookup(n ast.Node, key string) *ast.MappingValueNode {
	list, _ := pairs(n)
	for _, pair := range list {
		if keyText(pair) == key {
			return pair
		}
	}
	return nil
}
