// Package dnsmasq tells what a configuration of dnsmasq says about DHCP, as
// version 2.90 reads it (its manual, and read_file and one_opt of its
// option.c).
//
// Read follows conf-file, conf-dir and the files of hosts and options, and
// returns the directives in order, each with its file and line. Parse makes
// typed values of those that are about DHCP; all others it hands on as they
// are. A line that dnsmasq would refuse is a Fault, and the lines after it
// count all the same.
//
// A line is a directive: dnsmasq knows no continuation, and a backslash at the
// end of a line is part of it. "#" begins a comment at the beginning of a line
// or after a blank. Between quotes the characters , : . # have no meaning.
//
// Nothing here opens a file but through the file system that it is given.
package dnsmasq

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// A Line is a directive.
type Line struct {
	File   string // absolute path
	Number int    // from 1
	Key    string // such as dhcp-range
	value  string // with what is quoted hidden: see hide
	bare   bool   // there is no "="
}

// String returns the place of the line, such as /etc/dnsmasq.conf:3.
func (l Line) String() string { return fmt.Sprintf("%s:%d", l.File, l.Number) }

// Text returns the directive without its comment and quotes.
func (l Line) Text() string {
	if l.bare {
		return l.Key
	}
	return l.Key + "=" + show(l.value)
}

// A Fault is a line that says nothing here.
type Fault struct {
	Line
	Problem string
	Refused bool // dnsmasq would refuse it too, or miss the file
}

// Error returns the place and the problem.
func (f *Fault) Error() string { return f.Line.String() + ": " + f.Problem }

// Limits that keep a configuration that includes itself, or a device, from
// taking for ever. dnsmasq reads no file twice, nor lines longer than maxLine.
const (
	maxFile  = 16 << 20
	maxFiles = 1000
	maxLine  = 1024
)

// reader reads files, each once.
type reader struct {
	fsys   fs.FS
	seen   map[string]bool
	lines  []Line
	faults []*Fault
}

// Read reads configuration files, and the directories among paths as Debian's
// service has dnsmasq read /etc/dnsmasq.d: all files but those of a package
// manager's making. Paths are absolute; fsys is the root of the file system.
// The error is of a path that cannot be read; faults are of what the files say.
func Read(fsys fs.FS, paths ...string) (lines []Line, faults []*Fault, err error) {
	r := &reader{fsys: fsys, seen: map[string]bool{}}
	for _, p := range paths {
		fi, err := fs.Stat(fsys, inside(p))
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("%s: %w", p, reason(err))
		case fi.IsDir():
			err = r.dir(p, []string{".dpkg-dist", ".dpkg-old", ".dpkg-new"}, "")
		default:
			err = r.file(p, "")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return r.lines, r.faults, nil
}

// inside is the name of an absolute path in the root of the file system.
func inside(p string) string {
	if name := strings.TrimPrefix(path.Clean(p), "/"); name != "" {
		return name
	}
	return "."
}

// reason is why, without the name, which the caller tells.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// dir reads the files of a directory in the order of their names. An extension
// that begins with * chooses files, others leave them out.
func (r *reader) dir(p string, extensions []string, key string) error {
	entries, err := fs.ReadDir(r.fsys, inside(p))
	if err != nil {
		return reason(err)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, "~") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") || !chosen(name, extensions) {
			continue
		}
		full := path.Join(p, name)
		fi, err := fs.Stat(r.fsys, inside(full))
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, reason(err))
		case !fi.Mode().IsRegular():
			continue
		}
		if err := r.file(full, key); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func chosen(name string, extensions []string) bool {
	only, some := false, false
	for _, x := range extensions {
		if suffix, ok := strings.CutPrefix(x, "*"); ok {
			some = true
			only = only || strings.HasSuffix(name, suffix)
		} else if x != "" && strings.HasSuffix(name, x) {
			return false
		}
	}
	return only || !some
}

// file reads a file. With a key, each line is a value of that key.
func (r *reader) file(p, key string) error {
	p = path.Clean(p)
	if r.seen[p] {
		return nil
	}
	if len(r.seen) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	r.seen[p] = true
	fi, err := fs.Stat(r.fsys, inside(p))
	switch {
	case err != nil:
		return reason(err)
	case !fi.Mode().IsRegular():
		return errors.New("not a file")
	case fi.Size() > maxFile:
		return fmt.Errorf("bigger than %d MiB", maxFile>>20)
	}
	data, err := fs.ReadFile(r.fsys, inside(p))
	if err != nil {
		return reason(err)
	}
	r.text(p, key, string(data))
	return nil
}

// text reads the text of a file.
func (r *reader) text(p, key, text string) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		r.line(Line{File: p, Number: number, Key: key}, strings.TrimSuffix(line, "\n"))
	}
}

// line takes one line, whose key is set where the file is all of one.
func (r *reader) line(l Line, text string) {
	fault := func(format string, args ...any) {
		r.faults = append(r.faults, &Fault{l, fmt.Sprintf(format, args...), true})
	}
	text, ok := hide(text)
	switch {
	case !ok:
		fault(`missing "`)
		return
	case len(text) > maxLine*len(string(rune(hidden))):
		fault("longer than the %d bytes that dnsmasq reads", maxLine)
		return
	case text == "":
		return
	case l.Key != "":
		l.value = text
	default:
		key, value, has := strings.Cut(text, "=")
		l.Key, l.value, l.bare = strings.TrimRight(key, " "), strings.TrimLeft(value, " "), !has
	}
	r.lines = append(r.lines, l)
	if err := r.include(l); err != nil {
		fault("%s: %v", show(l.value), err)
	}
}

// include reads what a directive includes.
func (r *reader) include(l Line) error {
	fields := split(l.value)
	if l.value == "" {
		return nil
	}
	target := show(fields[0])
	switch l.Key {
	case "conf-file":
		return r.file(target, "")
	case "conf-dir":
		var extensions []string
		for _, x := range fields[1:] {
			extensions = append(extensions, show(x))
		}
		return r.dir(target, extensions, "")
	case "dhcp-hostsfile", "dhcp-hostsdir":
		return r.either(target, "dhcp-host")
	case "dhcp-optsfile", "dhcp-optsdir":
		return r.either(target, "dhcp-option")
	}
	return nil
}

// either reads a file or all files of a directory.
func (r *reader) either(p, key string) error {
	fi, err := fs.Stat(r.fsys, inside(p))
	if err != nil {
		return reason(err)
	}
	if fi.IsDir() {
		return r.dir(p, nil, key)
	}
	return r.file(p, key)
}

// hidden is what is added to a character between quotes, so that it is nobody's
// separator. Runes from there on mean nothing in Unicode.
const hidden = 0xE000

var escapes = map[byte]byte{'"': '"', '\\': '\\', 't': '\t', 'n': '\n', 'b': '\b', 'r': '\r', 'e': 033}

// hide takes comment, quotes and surrounding blanks off a line, and hides what
// was between the quotes. It reports whether each quote is closed.
func hide(text string) (string, bool) {
	var b strings.Builder
	white := true
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			end, ok := quoted(&b, text, i+1)
			if !ok {
				return "", false
			}
			i, white = end, false
		case c == ' ' || c >= '\t' && c <= '\r':
			b.WriteByte(' ')
			white = true
		case white && c == '#':
			return strings.Trim(b.String(), " "), true
		default:
			b.WriteByte(c)
			white = false
		}
	}
	return strings.Trim(b.String(), " "), true
}

// quoted writes what is between quotes, of which the first is before i, and
// returns where the second is.
func quoted(b *strings.Builder, text string, i int) (end int, ok bool) {
	for ; i < len(text) && text[i] != '"'; i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			if e, ok := escapes[text[i+1]]; ok {
				c = e
				i++
			}
		}
		b.WriteRune(hidden + rune(c))
	}
	return i, i < len(text)
}

// show undoes hide.
func show(text string) string {
	if !strings.ContainsFunc(text, isHidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isHidden(r) {
			b.WriteByte(byte(r - hidden))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isHidden(r rune) bool { return r >= hidden && r < hidden+256 }

// split returns the fields of a value, without the blanks around commas.
func split(value string) []string {
	fields := strings.Split(value, ",")
	for i := range fields {
		fields[i] = strings.Trim(fields[i], " ")
	}
	return fields
}

// Files returns the files that lines are of, in order.
func Files(lines []Line) (list []string) {
	for _, l := range lines {
		if !slices.Contains(list, l.File) {
			list = append(list, l.File)
		}
	}
	return list
}
