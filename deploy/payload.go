package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"unicode/utf8"

	"bootd/internal/node"
)

// Documents are what a payload consists of, in the order in which they are
// shown. A route serves these names and no other.
func Documents() []string {
	return []string{"user-data", "meta-data", "vendor-data", "network-config"}
}

// IsDocument reports whether a payload can have a document of this name.
func IsDocument(name string) bool { return slices.Contains(Documents(), name) }

// The bounds of a payload.
const (
	maxDocument = 1 << 20 // bytes, of a template and of what it renders
	maxSecret   = 64 << 10
)

// partial is the ending of templates that documents include.
const partial = ".tmpl"

// defaultMeta is the meta-data of a directory that has none. The instance id
// stays the same, so that cloud-init configures a node once.
const defaultMeta = "instance-id: {{.InstanceID}}\nlocal-hostname: {{.Name}}\n"

// PayloadData is what the templates of a node's documents see. A name that is
// not here, a tag or a secret that the node does not have is an error.
type PayloadData struct {
	Name, Role   string
	Domain       string // of its subnet; empty: none
	Serial, UUID string // empty: not known
	MACs         []string
	Tags         map[string]string
	Server       string // host or host:port of this server, as the node reaches it

	Addr   netip.Addr        // see Address
	Secret map[string]string // set by Render
}

// NewPayloadData returns the data of a node of that domain.
func NewPayloadData(n *node.Node, domain, server string) PayloadData {
	d := PayloadData{Name: n.Name, Role: n.Role, Domain: domain, Serial: n.Serial, Tags: n.Tags, Addr: n.Addr, Server: server}
	if !n.UUID.IsZero() {
		d.UUID = n.UUID.String()
	}
	for _, m := range n.MACs {
		d.MACs = append(d.MACs, m.String())
	}
	return d
}

// Address returns the address that the configuration keeps for the node.
func (d PayloadData) Address() (string, error) {
	if !d.Addr.IsValid() {
		return "", errors.New("the node has no address: in the configuration")
	}
	return d.Addr.String(), nil
}

// FQDN returns the name with the domain, if there is one.
func (d PayloadData) FQDN() string { return strings.TrimSuffix(d.Name+"."+d.Domain, ".") }

// InstanceID returns what tells cloud-init that it runs on the same machine as
// before.
func (d PayloadData) InstanceID() string { return "bootd-" + d.Name }

// functions are those that templates can use besides Go's.
var functions = template.FuncMap{
	"quote":  strconv.Quote, // a YAML string, whatever is in it
	"join":   func(sep string, list []string) string { return strings.Join(list, sep) },
	"indent": func(n int, s string) string { return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", max(0, n))) },
}

// A PayloadFault is one thing that is wrong with a document.
type PayloadFault struct {
	File         string // path of the template
	Line, Column int    // in it, or, with Rendered, in what it renders; zero: not known
	Rendered     bool
	Problem      string // may quote the template
}

// Error returns one line, such as
// `/etc/bootd/payloads/k8s/user-data:3:14: .Tags.rack: map has no entry for key "rack"`.
func (f *PayloadFault) Error() string { return f.Where() + ": " + f.Problem }

// Where returns the place alone, for texts that may not quote the template.
func (f *PayloadFault) Where() string {
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

// Render returns the documents of a payload by name, secrets and all. A
// document that is not in the directory, and may be missing, is empty. An
// error never quotes a secret.
func Render(p node.Payload, d PayloadData) (map[string][]byte, error) {
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
	return nil, &PayloadFault{File: p.Dir, Problem: "fails with the values of its secrets, which are not shown"}
}

// RenderRedacted is Render with <secret:NAME> in the place of each secret,
// whose file is not read.
func RenderRedacted(p node.Payload, d PayloadData) (map[string][]byte, error) {
	d.Secret = map[string]string{}
	for name := range p.Secrets {
		d.Secret[name] = "<secret:" + name + ">"
	}
	return render(p, d)
}

func render(p node.Payload, d PayloadData) (map[string][]byte, error) {
	templates, err := parseTemplates(p.Dir)
	if err != nil {
		return nil, err
	}
	docs := map[string][]byte{}
	var errs []error
	for _, name := range Documents() {
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
	return docs, nil
}

// bounded is a buffer that a template cannot make grow for ever.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxDocument {
		return 0, fmt.Errorf("document is bigger than %d bytes", maxDocument)
	}
	return b.Buffer.Write(p)
}

// parseTemplates reads the documents of a directory and what they include.
func parseTemplates(dir string) (*template.Template, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &PayloadFault{File: dir, Problem: reason(err)}
	}
	defer root.Close()
	names, err := partials(root)
	if err != nil {
		return nil, &PayloadFault{File: dir, Problem: reason(err)}
	}
	all := template.New("").Option("missingkey=error").Funcs(functions)
	var errs []error
	for _, name := range append(names, Documents()...) {
		text, err := readText(root, name, maxDocument)
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == "meta-data":
			text, err = defaultMeta, nil
		case errors.Is(err, fs.ErrNotExist) && name != "user-data":
			continue
		}
		if err != nil {
			errs = append(errs, &PayloadFault{File: filepath.Join(dir, name), Problem: reason(err)})
		} else if _, err := all.New(name).Parse(text); err != nil {
			errs = append(errs, templateFault(dir, name, err))
		}
	}
	return all, errors.Join(errs...)
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
		text, err := readSecret(p.Secrets[name])
		if err != nil {
			errs = append(errs, &PayloadFault{File: p.Secrets[name], Problem: fmt.Sprintf("secret %q: %s", name, reason(err))})
		}
		out[name] = text
	}
	return out, errors.Join(errs...)
}

func readSecret(path string) (string, error) {
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

// The forms of the errors of text/template.
var (
	templateAt  = regexp.MustCompile(`^template: ([^:]*):(\d+)(?::(\d+))?: (.*)$`)
	executingAt = regexp.MustCompile(`^executing ".*?" at <(.*?)>: (.*)$`)
	atField     = regexp.MustCompile(`^can't evaluate field (\S+) in type .*$`)
)

// templateFault turns an error of text/template into what a compiler would
// say. The column of text/template counts from zero.
func templateFault(dir, name string, err error) *PayloadFault {
	f := &PayloadFault{File: filepath.Join(dir, name), Problem: err.Error()}
	m := templateAt.FindStringSubmatch(err.Error())
	if m == nil {
		return f
	}
	f.File, f.Problem = filepath.Join(dir, m[1]), m[4]
	f.Line, _ = strconv.Atoi(m[2])
	if column, err := strconv.Atoi(m[3]); err == nil {
		f.Column = column + 1
	}
	if m := executingAt.FindStringSubmatch(f.Problem); m != nil {
		f.Problem = m[1] + ": " + atField.ReplaceAllString(m[2], "there is no $1")
	}
	return f
}
