package site

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bootd/internal/yamltree"
)

// A Fault is one thing that is wrong with a file of settings.
type Fault struct {
	File         string
	Line, Column int
	Problem      string // never quotes what may be a secret
}

// Error returns one line, such as `site.yaml:3:7: install.device: missing`.
func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Problem
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Problem)
}

// A Secret is the name of a secret of the payload, written secret:NAME.
type Secret string

// A Size is a number of bytes, written with the units of disk makers: 5T.
type Size uint64

// decoder copies a tree into Settings, whose tags are the keys. What is not in
// the tree stays, so that a node's own values go over those of all.
type decoder struct {
	file   string
	faults []error
	at     map[string]yamltree.Position // of the values by their paths
}

func (d *decoder) add(at yamltree.Position, format string, args ...any) {
	d.faults = append(d.faults, &Fault{d.file, at.Line, at.Column, fmt.Sprintf(format, args...)})
}

// addAt adds a fault with the value at a path, or with the nearest one around it.
func (d *decoder) addAt(path, format string, args ...any) {
	for at := path; ; {
		if pos, ok := d.at[at]; ok || at == "" {
			d.add(pos, "%s: %s", path, fmt.Sprintf(format, args...))
			return
		}
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
	}
}

func (d *decoder) value(path string, n *yamltree.Node, v reflect.Value) {
	d.at[path] = n.Position
	if n.Kind == yamltree.Null {
		return
	}
	switch v.Interface().(type) {
	case Secret, Size, netip.Addr:
		d.special(path, n, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(path, n, v.Elem())
	case reflect.Struct:
		d.object(path, n, v)
	case reflect.Map:
		d.free(path, n, v)
	case reflect.Slice:
		d.list(path, n, v)
	case reflect.Bool:
		if d.want(path, n, yamltree.Bool) {
			v.SetBool(strings.EqualFold(n.Text, "true"))
		}
	default:
		if d.want(path, n, yamltree.String) {
			v.SetString(n.Text)
		}
	}
}

// want reports whether n is of a kind. A number is text as well: nobody puts
// a rack 12 in quotes.
func (d *decoder) want(path string, n *yamltree.Node, kind yamltree.Kind) bool {
	if n.Kind == kind || kind == yamltree.String && (n.Kind == yamltree.Int || n.Kind == yamltree.Float) {
		return true
	}
	d.add(n.Position, "%s: %v, where %v is wanted", path, n.Kind, kind)
	return false
}

var secretRule = regexp.MustCompile(`^secret:([A-Za-z][A-Za-z0-9_]{0,63})$`)

func (d *decoder) special(path string, n *yamltree.Node, v reflect.Value) {
	if !d.want(path, n, yamltree.String) {
		return
	}
	switch v.Interface().(type) {
	case Secret:
		m := secretRule.FindStringSubmatch(n.Text)
		if m == nil {
			d.add(n.Position, "%s: not secret:NAME with a name under secrets: of the payload: only files hold secrets", path)
			return
		}
		v.SetString(m[1])
	case Size:
		size, ok := parseSize(n.Text)
		if !ok {
			d.add(n.Position, "%s: %q is not a size such as 5T or 500G", path, n.Text)
		}
		v.SetUint(size)
	case netip.Addr:
		a, err := netip.ParseAddr(n.Text)
		if err != nil {
			d.add(n.Position, "%s: %q is not an address", path, n.Text)
		}
		v.Set(reflect.ValueOf(a))
	}
}

// parseSize reads the units of disk makers, which are powers of ten.
func parseSize(s string) (uint64, bool) {
	s = strings.TrimSuffix(s, "B")
	for i, unit := range "KMGTP" {
		if number, ok := strings.CutSuffix(s, string(unit)); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			for range i + 1 {
				n *= 1000
			}
			return n, err == nil && n > 0
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n > 0
}

func (d *decoder) object(path string, n *yamltree.Node, v reflect.Value) {
	if !d.want(path, n, yamltree.Map) {
		return
	}
	var known []string
	for i := range v.NumField() {
		known = append(known, v.Type().Field(i).Tag.Get("yaml"))
	}
	seen := map[string]int{}
	for _, k := range n.Keys {
		below := strings.TrimPrefix(path+"."+k.Name, ".")
		field := slices.Index(known, k.Name)
		switch line, twice := seen[k.Name]; {
		case twice:
			d.add(k.Position, "%s: key is there twice, first on line %d", below, line)
		case field < 0:
			d.add(k.Position, "unknown key %.60q%s", below, yamltree.Meant(k.Name, known))
		default:
			d.value(below, k.Value, v.Field(field))
		}
		seen[k.Name] = k.Line
	}
}

func (d *decoder) free(path string, n *yamltree.Node, v reflect.Value) {
	if !d.want(path, n, yamltree.Map) {
		return
	}
	all := reflect.MakeMap(v.Type()) // what v has may be shared
	for iter := v.MapRange(); iter.Next(); {
		all.SetMapIndex(iter.Key(), iter.Value())
	}
	for _, k := range n.Keys {
		item := reflect.New(v.Type().Elem()).Elem()
		if old := all.MapIndex(reflect.ValueOf(k.Name)); old.IsValid() {
			item.Set(old)
		}
		d.value(path+"."+k.Name, k.Value, item)
		all.SetMapIndex(reflect.ValueOf(k.Name), item)
	}
	v.Set(all)
}

func (d *decoder) list(path string, n *yamltree.Node, v reflect.Value) {
	items := n.Items
	if n.Kind != yamltree.List { // one value is a list of one
		items = []*yamltree.Node{n}
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.value(fmt.Sprintf("%s[%d]", path, i), item, list.Index(i))
	}
	v.Set(list)
}
