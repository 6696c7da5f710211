package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"bootd/internal/node"
)

// CheckPayload returns everything that is wrong with a payload for one node:
// what does not render, what is not YAML where it has to be, values that are
// not resolved, and files that are no document. No error quotes a secret.
func CheckPayload(p node.Payload, d PayloadData) []error {
	errs := strangers(p.Dir)
	docs, err := Render(p, d)
	if err != nil {
		return append(errs, split(err)...)
	}
	shown, err := RenderRedacted(p, d)
	if err != nil { // secrets decide what is rendered: then nothing of it may be quoted
		shown = map[string][]byte{}
	}
	for _, name := range Documents() {
		f := checkDocument(name, docs[name])
		if f == nil {
			continue
		}
		f.File = filepath.Join(p.Dir, name)
		if same := checkDocument(name, shown[name]); same != nil && same.Line == f.Line && err == nil {
			f.Problem = same.Problem
		} else {
			f.Problem = "not right with the values of its secrets, which are not shown"
		}
		errs = append(errs, f)
	}
	return errs
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
func strangers(dir string) (errs []error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil // Render says so
	}
	for _, e := range list {
		name := e.Name()
		if !IsDocument(name) && !strings.HasSuffix(name, partial) && !strings.HasPrefix(name, ".") {
			errs = append(errs, &PayloadFault{File: filepath.Join(dir, name),
				Problem: "not a document: those are " + strings.Join(Documents(), ", ") + ", and " + partial + " files that they include"})
		}
	}
	return errs
}

// unresolved are traces of a value that was not there.
var unresolved = regexp.MustCompile(`<no value>|<nil>|%!.?\(|invalid IP`)

// checkDocument returns the first thing that is wrong with a rendered
// document, or nil.
func checkDocument(name string, text []byte) *PayloadFault {
	s := string(text)
	first, _, _ := strings.Cut(s, "\n")
	first = strings.TrimRight(first, " \r")
	fault := func(line, column int, format string, args ...any) *PayloadFault {
		return &PayloadFault{Rendered: true, Line: line, Column: column, Problem: fmt.Sprintf(format, args...)}
	}
	isData := name == "user-data" || name == "vendor-data"
	switch {
	case strings.TrimSpace(s) == "" && name == "user-data":
		return fault(0, 0, "empty")
	case strings.TrimSpace(s) == "":
		return nil
	case isData && strings.HasPrefix(first, "## template:"):
		return nil // cloud-init renders it further
	case isData && first != "#cloud-config" && !otherKind(first):
		return fault(1, 1, "first line is %.40q: cloud-init ignores what does not begin with #cloud-config, #! or another of its headers", first)
	case isData && first != "#cloud-config":
		return nil
	}
	if at := unresolved.FindStringIndex(s); at != nil {
		before := s[:at[0]]
		return fault(strings.Count(before, "\n")+1, at[0]-strings.LastIndexByte(before, '\n'), "%q: a value is not resolved", s[at[0]:at[1]])
	}
	line, column, problem := notYAML(text)
	if problem != "" {
		return fault(line, column, "%s", problem)
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
