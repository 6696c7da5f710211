package tmplerr_test

import (
	"errors"
	"strings"
	"testing"
	"text/template"

	"bootd/internal/tmplerr"
)

// The errors are those of text/template itself, whose forms may change with it.
func TestOf(t *testing.T) {
	for text, want := range map[string]string{
		"a={{.Nope}}":             "character 5: .Nope: there is no Nope",
		"a\nb={{.Nope}}":          "line 2: character 5: .Nope: there is no Nope",
		"{{if}}":                  "missing value for if",
		"\n{{.Name":               "line 2: unclosed action",
		"{{.Tags.rack}}":          `character 8: .Tags.rack: map has no entry for key "rack"`,
		"{{index .Name 99}}":      "character 3: index .Name 99: error calling index: index out of range: 99",
		`{{template "x.tmpl" .}}`: `character 12: {{template "x.tmpl" .}}: template "x.tmpl" not defined`,
	} {
		tmpl, err := template.New("t").Option("missingkey=error").Parse(text)
		if err == nil {
			err = tmpl.Execute(&strings.Builder{}, struct {
				Name string
				Tags map[string]string
			}{"n", map[string]string{}})
		}
		if err == nil {
			t.Errorf("%q: got no error", text)
		} else if got := tmplerr.Of(err).String(); got != want || tmplerr.Of(err).Template != "t" {
			t.Errorf("%q: got %s of %q, want %s of t", text, got, tmplerr.Of(err).Template, want)
		}
	}
	if got := tmplerr.Of(errors.New("too big")); got != (tmplerr.Fault{Problem: "too big"}) {
		t.Errorf("got %+v, want it as it is", got)
	}
}
