package payload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"bootd/deploy/lint"
	"bootd/internal/node"
)

// Check returns everything that is wrong with a payload for one node:
// what does not render, what is not YAML where it has to be, values that are
// not resolved, and files that are no document. No error quotes a secret.
func Check(p node.Payload, d Data) []error {
	errs := strangers(p)
	docs, err := Render(p, d)
	if err != nil {
		return append(errs, split(err)...)
	}
	shown, err := RenderRedacted(p, d)
	if err != nil { // secrets decide what is rendered: then nothing of it may be quoted
		shown = map[string][]byte{}
	}
	for _, doc := range documents(p) {
		f := checkDocument(doc, string(docs[doc.Name]))
		if f == nil {
			continue
		}
		f.File = documentFile(p, doc.Name)
		if same := checkDocument(doc, string(shown[doc.Name])); same != nil && same.Line == f.Line && err == nil {
			f.Problem = same.Problem
		} else {
			f.Problem = "not right with the values of its secrets, which are not shown"
		}
		errs = append(errs, f)
	}
	return append(errs, lintShown(p, d, shown)...)
}

// lintShown has the rules of the system that a document is for. They see the
// document without its secrets, so that they can quote it.
func lintShown(p node.Payload, d Data, shown map[string][]byte) (errs []error) {
	if p.Family != node.Kairos || len(shown[settingsTo]) == 0 {
		return nil
	}
	for _, f := range lint.Kairos(string(shown[settingsTo]), lint.Context{Install: !p.FirstBoot, Disks: d.Disks}) {
		if !f.Warning {
			errs = append(errs, &Fault{File: documentFile(p, settingsTo), Rendered: true, Line: f.Line, Column: f.Column, Problem: f.Problem})
		}
	}
	return errs
}

// documentFile is the file that a document is made of.
func documentFile(p node.Payload, document string) string {
	if p.Dir == "" {
		return p.Settings
	}
	return filepath.Join(p.Dir, document)
}

// split undoes errors.Join.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// strangers are files that a directory of documents should not have: mostly
// misspelt ones.
func strangers(p node.Payload) (errs []error) {
	list, err := os.ReadDir(p.Dir)
	if err != nil {
		return nil // Render says so
	}
	known := sources(p)
	for _, e := range list {
		name := e.Name()
		if !slices.Contains(known, name) && !strings.HasSuffix(name, partial) && !strings.HasPrefix(name, ".") {
			errs = append(errs, &Fault{File: filepath.Join(p.Dir, name),
				Problem: "not a document: those are " + strings.Join(known, ", ") + ", and " + partial + " files that they include"})
		}
	}
	return errs
}

// unresolved are traces of a value that was not there.
var unresolved = regexp.MustCompile(`<no value>|<nil>|%!.?\(|invalid IP`)

// checkDocument returns the first thing that is wrong with a rendered
// document, or nil.
func checkDocument(d Document, text string) *Fault {
	switch {
	case strings.TrimSpace(text) == "" && d.Required:
		return rendered(0, 0, "empty")
	case strings.TrimSpace(text) == "":
		return nil
	}
	if at := unresolved.FindStringIndex(text); at != nil && !strings.HasPrefix(text, "#!") {
		line, column := position(text, at[0])
		return rendered(line, column, "%q: a value is not resolved", text[at[0]:at[1]])
	}
	if d.check == nil {
		return nil
	}
	return d.check(text)
}

// rendered is a fault of what a template renders.
func rendered(line, column int, format string, args ...any) *Fault {
	return &Fault{Rendered: true, Line: line, Column: column, Problem: fmt.Sprintf(format, args...)}
}

// position turns an offset into a line and a column, from 1.
func position(text string, offset int) (line, column int) {
	before := text[:offset]
	return strings.Count(before, "\n") + 1, offset - strings.LastIndexByte(before, '\n')
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimRight(line, " \r")
}

// checkUserData checks what cloud-init takes as user-data or vendor-data.
func checkUserData(text string) *Fault {
	switch first := firstLine(text); {
	case strings.HasPrefix(first, "## template:"), otherKind(first):
		return nil // cloud-init renders it further, or it is no YAML
	case first != "#cloud-config":
		return rendered(1, 1, "first line is %.40q: cloud-init ignores what does not begin with #cloud-config, #! or another of its headers", first)
	}
	return checkMapping(text)
}

// checkMapping checks a document that has to be keys and values in YAML.
func checkMapping(text string) *Fault {
	if line, column, problem := notYAML([]byte(text)); problem != "" {
		return rendered(line, column, "%s", problem)
	}
	return nil
}

// otherKind reports whether cloud-init takes a document of this first line for
// something that is not YAML.
func otherKind(first string) bool {
	for _, header := range []string{"#!", "#include", "#cloud-boothook", "#cloud-config-archive", "#cloud-config-jsonp", "#part-handler", "Content-Type:", "MIME-Version:", "From "} {
		if strings.HasPrefix(first, header) {
			return true
		}
	}
	return false
}

// notYAML says why a text is not a mapping in YAML, and where. A panic of the
// parser is a text that its authors did not foresee.
func notYAML(text []byte) (line, column int, problem string) {
	defer func() {
		if p := recover(); p != nil {
			problem = "not YAML: the parser gave up"
		}
	}()
	_, err := parser.ParseBytes(text, 0)
	if err == nil {
		var v any
		if err = yaml.Unmarshal(text, &v); err == nil {
			if _, ok := v.(map[string]any); !ok {
				return 1, 1, fmt.Sprintf("not a mapping of keys and values, but %s", kindOf(v))
			}
			return 0, 0, ""
		}
	}
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil && at.GetToken().Position != nil {
		line, column = at.GetToken().Position.Line, at.GetToken().Position.Column
		return line, column, "not YAML: " + at.GetMessage()
	}
	return 0, 0, "not YAML"
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case []any:
		return "a list"
	}
	return "a single value"
}
