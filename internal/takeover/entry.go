package takeover

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bootd/internal/dnsmasq"
)

// An item is a value and where it comes from.
type item struct {
	text string
	from []dnsmasq.Line
	gone bool // refused
}

// A field is a key with its value, or its values where it has a list.
type field struct {
	name  string
	items []*item
	list  bool
}

// An entry is keys and values: the top of the file, or an item of one of its
// lists. The zero entry is empty.
type entry struct {
	fields []*field
	gone   bool
}

// field returns the field of a name, or a new one.
func (e *entry) field(name string) *field {
	if f := e.get(name); f != nil {
		return f
	}
	f := &field{name: name}
	e.fields = append(e.fields, f)
	return f
}

func (e *entry) get(name string) *field {
	if i := slices.IndexFunc(e.fields, func(f *field) bool { return f.name == name }); i >= 0 {
		return e.fields[i]
	}
	return nil
}

// set gives a key its value, instead of what it had.
func (e *entry) set(name, text string, from ...dnsmasq.Line) {
	e.field(name).items = []*item{{text: text, from: from}}
}

// add adds a value to a list, once.
func (e *entry) add(name, text string, from ...dnsmasq.Line) {
	f := e.field(name)
	f.list = true
	for _, it := range f.items {
		if it.text == text {
			return
		}
	}
	f.items = append(f.items, &item{text: text, from: from})
}

// clear takes a key away.
func (e *entry) clear(name string) {
	e.fields = slices.DeleteFunc(e.fields, func(f *field) bool { return f.name == name })
}

// value returns the value of a key that has one.
func (e *entry) value(name string) string {
	if f := e.get(name); f != nil && len(f.items) > 0 {
		return f.items[0].text
	}
	return ""
}

// from returns where the values of an entry come from.
func (e *entry) from() (lines []dnsmasq.Line) {
	for _, f := range e.fields {
		for _, it := range f.items {
			for _, l := range it.from {
				if !slices.Contains(lines, l) {
					lines = append(lines, l)
				}
			}
		}
	}
	return lines
}

// sweep takes away what is refused.
func (e *entry) sweep() {
	for _, f := range e.fields {
		f.items = slices.DeleteFunc(f.items, func(it *item) bool { return it.gone })
	}
	e.fields = slices.DeleteFunc(e.fields, func(f *field) bool { return len(f.items) == 0 })
}

// YAML returns the configuration with a comment at each value that comes from
// a line of dnsmasq's.
func (p *Plan) YAML() []byte {
	var b bytes.Buffer
	b.WriteString("# Made of dnsmasq's configuration by bootctl import dnsmasq. The comments name\n# the lines that values come from, in these files:\n#\n")
	for _, f := range dnsmasq.Files(p.site.Lines) {
		b.WriteString("#   " + clean(f) + "\n")
	}
	if len(p.top.fields) > 0 {
		b.WriteByte('\n')
	}
	p.top.write(&b, "", "")
	list(&b, "subnets", p.subnets, func(s *subnet) *entry { return &s.entry })
	list(&b, "classes", p.classes, func(e *entry) *entry { return e })
	list(&b, "roles", p.roles, func(e *entry) *entry { return e })
	list(&b, "nodes", p.nodes, func(m *machine) *entry { return &m.entry })
	if len(p.top.fields)+len(p.subnets)+len(p.nodes) == 0 {
		b.WriteString("\nsubnets: []\n")
	}
	return b.Bytes()
}

func list[T any](b *bytes.Buffer, name string, items []T, of func(T) *entry) {
	if len(items) == 0 {
		return
	}
	b.WriteString("\n" + name + ":\n")
	for _, it := range items {
		of(it).write(b, "  - ", "    ")
	}
}

// write writes an entry, its first line after one indent and the others after
// another.
func (e *entry) write(b *bytes.Buffer, first, rest string) {
	indent := first
	for _, f := range e.fields {
		if f.list {
			b.WriteString(indent + f.name + ":\n")
			for _, it := range f.items {
				writeValue(b, rest+"  - ", it)
			}
		} else {
			writeValue(b, indent+f.name+": ", f.items[0])
		}
		indent = rest
	}
}

func writeValue(b *bytes.Buffer, before string, it *item) {
	line := before + scalar(it.text)
	b.WriteString(line)
	if len(it.from) > 0 {
		b.WriteString(strings.Repeat(" ", max(1, 50-len(line))) + "# ")
		for i, l := range it.from {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(clean(l.String()))
		}
	}
	b.WriteByte('\n')
}

// plainRule is text that needs no quotes in YAML, wherever it is.
var plainRule = regexp.MustCompile(`^[A-Za-z0-9/]([A-Za-z0-9 ._/=:-]*[A-Za-z0-9])?$`)

// scalar writes a value. What YAML would take for a comment, a mapping or
// nothing is quoted.
func scalar(s string) string {
	if plainRule.MatchString(s) && !strings.EqualFold(s, "null") && !strings.Contains(s, ": ") && !strings.Contains(s, "  ") {
		return s
	}
	return strconv.Quote(s)
}

// clean makes the name of a file fit for a comment.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
