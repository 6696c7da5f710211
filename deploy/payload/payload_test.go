package payload_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bootd/deploy/payload"
	"bootd/internal/node"
)

const hunter = "hunter2: [\"very secret\""

// payloadOf writes templates and a secret.
func payloadOf(t *testing.T, files map[string]string) node.Payload {
	t.Helper()
	dir := t.TempDir()
	p := node.Payload{Family: node.NoCloud, Dir: filepath.Join(dir, "p"), Secrets: map[string]string{"join": filepath.Join(dir, "join")}}
	if err := errors.Join(os.Mkdir(p.Dir, 0o700), os.WriteFile(p.Secrets["join"], []byte(hunter+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

var data = payload.NewData(&node.Node{
	Name: "ncn-w001", Role: "kubernetes", MACs: []node.MAC{{0x52, 0x54, 0, 0xaa, 0xbb, 1}},
	Addr: netip.MustParseAddr("10.1.0.11"), Tags: map[string]string{"site": "paris"},
}, "mtl", "10.1.0.1")

func TestRender(t *testing.T) {
	p := payloadOf(t, map[string]string{
		"user-data": "#cloud-config\nfqdn: {{.FQDN}}\njoin: {{quote .Secret.join}}\n{{template \"site.tmpl\" .}}",
		"site.tmpl": "site: {{.Tags.site}} {{.Address}} {{index .MACs 0}} {{.Server}}\n",
	})
	docs, err := payload.Render(p, data)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"user-data":      "#cloud-config\nfqdn: ncn-w001.mtl\njoin: \"hunter2: [\\\"very secret\\\"\"\nsite: paris 10.1.0.11 52:54:00:aa:bb:01 10.1.0.1\n",
		"meta-data":      "instance-id: bootd-ncn-w001\nlocal-hostname: ncn-w001\n",
		"vendor-data":    "",
		"network-config": "",
	} {
		if got := string(docs[name]); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if docs, err = payload.RenderRedacted(p, data); err != nil || !strings.Contains(string(docs["user-data"]), "join: \"<secret:join>\"\n") {
		t.Errorf("redacted: got %q, %v", docs["user-data"], err)
	}
	if errs := payload.Check(p, data); errs != nil {
		t.Errorf("check: got %v, want nothing", errs)
	}
}

func TestCheck(t *testing.T) {
	const ok = "#cloud-config\n{}\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string // after the directory
	}{
		{"no user-data", nil, "/user-data: no such file or directory"},
		{"tag", map[string]string{"user-data": "#cloud-config\nrack: {{.Tags.rack}}\n"}, `/user-data:2:14: .Tags.rack: map has no entry for key "rack"`},
		{"secret", map[string]string{"user-data": "#cloud-config\na: {{.Secret.x}}\n"}, `/user-data:2:13: .Secret.x: map has no entry for key "x"`},
		{"field", map[string]string{"user-data": "#cloud-config\na: {{.Nmae}}\n"}, `/user-data:2:6: .Nmae: there is no Nmae`},
		{"syntax", map[string]string{"user-data": "#cloud-config\na: {{.Name\n"}, `/user-data:3: unclosed action started at user-data:2`},
		{"include", map[string]string{"user-data": ok + `{{template "x.tmpl" .}}`}, `/user-data:3:12: {{template "x.tmpl" .}}: template "x.tmpl" not defined`},
		{"in include", map[string]string{"user-data": ok + `{{template "x.tmpl" .}}`, "x.tmpl": "\n{{.X}}"}, `/x.tmpl:2:3: .X: there is no X`},
		{"header", map[string]string{"user-data": "a: b\n"}, `/user-data: rendered:1:1: first line is "a: b": cloud-init ignores what does not begin with #cloud-config, #! or another of its headers`},
		{"empty", map[string]string{"user-data": "{{/* */}}\n"}, `/user-data: rendered: empty`},
		{"yaml", map[string]string{"user-data": "#cloud-config\na: [1\nb: 2\n"}, `/user-data: rendered:`},
		{"list", map[string]string{"user-data": "#cloud-config\n- a\n"}, `/user-data: rendered:1:1: not a mapping of keys and values, but a list`},
		{"unresolved", map[string]string{"user-data": "#cloud-config\na: {{printf \"%d\" .Name}}\n"}, `/user-data: rendered:2:4: "%!d(": a value is not resolved`},
		{"yaml of a secret", map[string]string{"user-data": "#cloud-config\na: {{.Secret.join}}\n"}, `not right with the values of its secrets, which are not shown`},
		{"fails with a secret", map[string]string{"user-data": "#cloud-config\na: {{if ne .Secret.join \"<secret:join>\"}}{{slice .Secret.join 99}}{{end}}\n"}, `: fails with the values of its secrets, which are not shown`},
		{"misspelt", map[string]string{"user-data": ok, "userdata": ""}, `/userdata: not a document: those are user-data, meta-data, vendor-data, network-config, and .tmpl files that they include`},
		{"network-config", map[string]string{"user-data": ok, "network-config": "version: 2\n\tx"}, `/network-config: rendered:`},
		{"script", map[string]string{"user-data": "#!/bin/sh\n{ [\n"}, ""},
		{"multipart", map[string]string{"user-data": "Content-Type: multipart/mixed\n[["}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := payloadOf(t, tt.files)
			errs := payload.Check(p, data)
			var lines []string
			for _, err := range errs {
				lines = append(lines, strings.TrimPrefix(err.Error(), p.Dir))
			}
			got := strings.Join(lines, "\n")
			if !strings.Contains(got, tt.want) || tt.want == "" && got != "" || len(lines) > 1 {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if strings.Contains(got, "hunter") || strings.Contains(got, "very secret") {
				t.Errorf("got %s, which has the secret", got)
			}
		})
	}
}

func TestSecretFile(t *testing.T) {
	p := payloadOf(t, map[string]string{"user-data": "#cloud-config\n"})
	file := p.Secrets["join"]
	for _, tt := range []struct {
		name, want string
		spoil      func() error
	}{
		{"empty", `secret "join": empty`, func() error { return os.WriteFile(file, []byte("\n"), 0o600) }},
		{"missing", `secret "join": no such file or directory`, func() error { return os.Remove(file) }},
		{"directory", `secret "join": not a regular file`, func() error { return os.Mkdir(file, 0o700) }},
	} {
		if err := tt.spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := payload.Render(p, data); err == nil || err.Error() != file+": "+tt.want {
			t.Errorf("%s: got %v, want %s: %s", tt.name, err, file, tt.want)
		}
		if _, err := payload.RenderRedacted(p, data); err != nil {
			t.Errorf("%s: redacted: got %v, want it to do without the file", tt.name, err)
		}
	}
}
