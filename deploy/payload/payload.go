// Package payload knows what nodes fetch to configure themselves: which
// documents each family of clients asks for, how they are rendered for a node,
// and what is wrong with them.
//
// Documents are templates in a directory, read again for each request, so a
// change counts from the next one on. Nothing here keeps, logs or quotes a
// secret: an error names a place, and RenderRedacted and Check never show what
// came from the file of one.
package payload

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"unicode/utf8"

	"bootd/internal/node"
	"bootd/internal/tmplerr"
)

// The bounds of a payload.
const (
	maxDocument = 1 << 20 // bytes, of a template and of what it renders
	maxSecret   = 64 << 10
)

// partial is the ending of templates that documents include.
const partial = ".tmpl"

// Data is what the templates of a node's documents see. A name that is
// not here, a tag or a secret that the node does not have is an error.
type Data struct {
	Name, Role   string
	Domain       string // of its subnet; empty: none
	Serial, UUID string // empty: not known
	MACs         []string
	Tags         map[string]string
	Server       string // host or host:port of this server, as the node reaches it
	Wipe         bool   // the boot is to wipe the disks
	Disks        int    // how many the node has, by its tag disks; zero: not known

	Addr   netip.Addr        // see Address
	Subnet Subnet            // that Addr is in; zero: not known
	Secret map[string]string // set by Render

	settings string // see Settings
}

// A Subnet is what a node without DHCP has to know of its network.
type Subnet struct {
	Prefix netip.Prefix
	Router netip.Addr // zero: none
	DNS    []netip.Addr
	NTP    []netip.Addr
}

// Settings returns what the settings of the payload make of its user-data,
// without the header, for a template to build on.
func (d Data) Settings() (string, error) {
	if d.settings == "" {
		return "", errors.New("the payload has no key settings")
	}
	return d.settings, nil
}

// NewData returns the data of a node of that domain.
func NewData(n *node.Node, domain, server string) Data {
	d := Data{Name: n.Name, Role: n.Role, Domain: domain, Serial: n.Serial, Tags: n.Tags, Addr: n.Addr, Server: server}
	d.Disks, _ = strconv.Atoi(n.Tags["disks"])
	if !n.UUID.IsZero() {
		d.UUID = n.UUID.String()
	}
	for _, m := range n.MACs {
		d.MACs = append(d.MACs, m.String())
	}
	return d
}

// Address returns the address that the configuration keeps for the node.
func (d Data) Address() (string, error) {
	if !d.Addr.IsValid() {
		return "", errors.New("the node has no address: in the configuration")
	}
	return d.Addr.String(), nil
}

// FQDN returns the name with the domain, if there is one.
func (d Data) FQDN() string { return strings.TrimSuffix(d.Name+"."+d.Domain, ".") }

// InstanceID returns what tells cloud-init that it runs on the same machine as
// before.
func (d Data) InstanceID() string { return "bootd-" + d.Name }

// functions are those that templates can use besides Go's.
var functions = template.FuncMap{
	"quote":  strconv.Quote, // a YAML string, whatever is in it
	"join":   func(sep string, list []string) string { return strings.Join(list, sep) },
	"indent": func(n int, s string) string { return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", max(0, n))) },
}

// A Fault is one thing that is wrong with a document.
type Fault struct {
	File         string // path of the template
	Line, Column int    // in it, or, with Rendered, in what it renders; zero: not known
	Rendered     bool
	Problem      string // may quote the template, unless Unread
	Unread       bool   // the file could not be read
}

// Error returns one line, such as
// `/etc/bootd/payloads/k8s/user-data:3:14: .Tags.rack: map has no entry for key "rack"`.
func (f *Fault) Error() string { return f.Where() + ": " + f.Problem }

// Where returns the place alone, for texts that may not quote the template.
func (f *Fault) Where() string {
	at := f.File
	if f.Rendered {
		at += ": rendered"
	}
	if f.Line > 0 {
		at += fmt.Sprintf(":%d", f.Line)
	}
	if f.Line > 0 && f.Column > 0 {
		at += fmt.Sprintf(":%d", f.Column)
	}
	return at
}

// Told returns what of an error of Render is fit for a log: where its faults are,
// and why a file could not be read. It quotes no template.
func Told(err error) string {
	return eachFault(err, func(f *Fault) string {
		if f.Unread {
			return f.Error()
		}
		return f.Where() + ": " + unfit
	})
}

// Shown returns what of an error of Render is fit for the screen of a machine:
// where its faults are.
func Shown(err error) string {
	return eachFault(err, func(f *Fault) string { return f.Where() + ": " + unfit })
}

const unfit = "cannot be rendered"

func eachFault(err error, say func(*Fault) string) string {
	var list []string
	for _, err := range split(err) {
		if f, ok := errors.AsType[*Fault](err); ok {
			list = append(list, say(f))
		}
	}
	if list == nil {
		return unfit
	}
	return strings.Join(list, ", ")
}

// Render returns the documents of a payload by name, secrets and all. A
// document that is not in the directory, and may be missing, is empty. An
// error never quotes a secret.
func Render(p node.Payload, d Data) (map[string][]byte, error) {
	var err error
	if d.Secret, err = readSecrets(p); err != nil {
		return nil, err
	}
	docs, err := render(p, d)
	if err == nil {
		return docs, nil
	}
	if _, shown := RenderRedacted(p, d); shown != nil {
		return nil, shown
	}
	return nil, &Fault{File: p.Dir, Problem: "fails with the values of its secrets, which are not shown"}
}

// RenderRedacted is Render with <secret:NAME> in the place of each secret,
// whose file is not read.
func RenderRedacted(p node.Payload, d Data) (map[string][]byte, error) {
	d.Secret = map[string]string{}
	for name := range p.Secrets {
		d.Secret[name] = "<secret:" + name + ">"
	}
	return render(p, d)
}

func render(p node.Payload, d Data) (map[string][]byte, error) {
	settings, err := settingsDocument(p, d)
	if err != nil {
		return nil, err
	}
	_, d.settings, _ = strings.Cut(string(settings), "\n")
	templates, err := parseTemplates(p)
	if err != nil {
		return nil, err
	}
	docs := map[string][]byte{}
	var errs []error
	for _, name := range sources(p) {
		t := templates.Lookup(name)
		if t == nil {
			docs[name] = nil
			continue
		}
		b := &bounded{}
		if err := t.Execute(b, d); err != nil {
			errs = append(errs, templateFault(p.Dir, name, err))
		}
		docs[name] = b.Bytes()
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	if p.Dir == "" {
		docs[settingsTo] = settings
	}
	if p.Family == node.Basecamp {
		return basecamp(p, d, docs[basecampFile])
	}
	return docs, nil
}

// sources are the files that the documents of a payload come from.
func sources(p node.Payload) []string {
	if p.Family == node.Basecamp {
		return []string{basecampFile}
	}
	return Documents(p)
}

// bounded is a buffer that a template cannot make grow for ever.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxDocument {
		return 0, fmt.Errorf("document is bigger than %d bytes", maxDocument)
	}
	return b.Buffer.Write(p)
}

// parseTemplates reads the documents of a payload and what they include.
func parseTemplates(p node.Payload) (*template.Template, error) {
	all := template.New("").Option("missingkey=error").Funcs(functions)
	if p.Dir == "" { // settings are all there is
		for _, d := range documents(p) {
			if d.Default != "" {
				template.Must(all.New(d.Name).Parse(d.Default))
			}
		}
		return all, nil
	}
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return nil, unreadable(p.Dir, "", err)
	}
	defer root.Close()
	names, err := partials(root)
	if err != nil {
		return nil, unreadable(p.Dir, "", err)
	}
	var errs []error
	for _, name := range append(names, sources(p)...) {
		text, err := readText(root, name, maxDocument)
		if d := documentOf(p, name); errors.Is(err, fs.ErrNotExist) && !d.Required {
			if d.Default == "" {
				continue
			}
			text, err = d.Default, nil
		}
		if err != nil {
			errs = append(errs, unreadable(filepath.Join(p.Dir, name), "", err))
		} else if _, err := all.New(name).Parse(text); err != nil {
			errs = append(errs, templateFault(p.Dir, name, err))
		}
	}
	return all, errors.Join(errs...)
}

// documentOf returns the document that a file of a payload becomes; one that
// is no document itself is required.
func documentOf(p node.Payload, name string) Document {
	for _, d := range documents(p) {
		if d.Name == name {
			return d
		}
	}
	return Document{Name: name, Required: true}
}

func partials(root *os.Root) (names []string, err error) {
	list, err := fs.ReadDir(root.FS(), ".")
	for _, e := range list {
		if strings.HasSuffix(e.Name(), partial) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// readText reads a small file of text, which must be a regular one.
func readText(root *os.Root, name string, most int64) (string, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return "", err
	case int64(len(b)) > most:
		return "", fmt.Errorf("bigger than %d bytes", most)
	case !utf8.Valid(b):
		return "", errors.New("not UTF-8 text")
	}
	return string(b), nil
}

// readSecrets reads the files of a payload's secrets, without the line end
// that editors put there.
func readSecrets(p node.Payload) (map[string]string, error) {
	out := map[string]string{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		text, err := ReadSecret(p.Secrets[name])
		if err != nil {
			errs = append(errs, unreadable(p.Secrets[name], fmt.Sprintf("secret %q: ", name), err))
		}
		out[name] = text
	}
	return out, errors.Join(errs...)
}

// ReadSecret returns what is in a file of a secret, without the end of its last
// line. An empty file is an error.
func ReadSecret(path string) (string, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	defer root.Close()
	text, err := readText(root, filepath.Base(path), maxSecret)
	text = strings.TrimRight(text, "\r\n")
	if err == nil && text == "" {
		err = errors.New("empty")
	}
	return text, err
}

// reason is an error without the path, which the fault names.
func reason(err error) string {
	var named *fs.PathError
	if errors.As(err, &named) {
		return named.Err.Error()
	}
	return err.Error()
}

// templateFault turns an error of text/template into what a compiler would
// say.
func templateFault(dir, name string, err error) *Fault {
	f := tmplerr.Of(err)
	return &Fault{File: filepath.Join(dir, cmp.Or(f.Template, name)), Line: f.Line, Column: f.Column, Problem: f.Problem}
}
