// Package layout_test holds the rules of docs/architecture.md that can be
// checked by reading the tree: who may import whom, what every package has to
// say of itself, and that the documents point to what exists.
package layout_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

// forbidden says which packages of the module a package must not depend on,
// not even through others, and why.
var forbidden = map[string]map[string]string{
	"dhcp":              {"tftp": protocols, "ipxe": protocols, "deploy": "dhcp asks what to load through its Machines interface", "bmc": protocols, "links": protocols, "artifacts": protocols, "internal/config": plumbing},
	"ipxe":              {"dhcp": protocols, "tftp": protocols, "bmc": protocols, "internal/config": plumbing},
	"artifacts":         {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "deploy": "artifacts are found, not chosen, here"},
	"links":             {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "bmc": "links must work where no BMC answers", "deploy": "links has no policy"},
	"bmc":               {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "links": "power works without boot directories", "artifacts": "power works without releases", "deploy": "bmc does what it is told", "internal/config": plumbing},
	"deploy":            {"dhcp": protocols, "tftp": protocols, "ipxe": protocols},
	"deploy/payload":    {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "internal/config": plumbing},
	"deploy/site":       {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "internal/config": plumbing, "deploy/payload": "settings are one way to a payload, and know of none"},
	"deploy/lint":       {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "internal/config": plumbing, "deploy/payload": "a document is judged wherever it comes from"},
	"internal/config":   {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "links": protocols, "deploy": protocols},
	"internal/admin":    {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "bmc": protocols, "internal/config": plumbing},
	"internal/lease":    {"dhcp": leaf, "deploy": leaf, "internal/admin": leaf, "internal/config": leaf, "internal/store": leaf},
	"internal/takeover": {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "links": protocols, "deploy": "it makes a configuration and decides nothing"},
	"cmd/bootctl":       {"dhcp": "the daemon speaks protocols, bootctl speaks to the daemon", "tftp": protocols, "internal/lab": "the lab is for tests"},
	"cmd/bootd":         {"internal/lab": "the lab is for tests"},
	"internal/claim":    {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "bmc": protocols, "internal/config": plumbing},
	"deploy/validate":   {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "internal/config": plumbing},
	"deploy/edge":       {"dhcp": protocols, "tftp": protocols, "ipxe": protocols, "internal/config": plumbing},
}

// alone names the packages that depend on no package of the module but these:
// they can be read, and used, without bootd.
var alone = map[string][]string{
	"tftp":               nil,
	"internal/node":      nil,
	"internal/store":     nil,
	"internal/timeline":  {"internal/node", "internal/store"},
	"internal/dnsmasq":   {"internal/node"},
	"internal/phonehome": nil,
	"internal/yamltree":  nil,
	"internal/tmplerr":   nil,
	"internal/hook":      nil,
	"internal/iso9660":   nil,
	"internal/isofs":     nil,
	"internal/qr":        nil,
	"internal/xorriso":   nil,
	"internal/cli":       nil,
	"deploy/rollout":     nil,
	"deploy/edge":        {"internal/node"},
	"deploy/validate":    {"internal/node"},
}

const (
	protocols = "a protocol's room must work, and be read, without the others"
	leaf      = "shared nouns depend on nothing that shares them"
	plumbing  = "rooms take values, cmd reads the configuration"
)

type pkg struct {
	ImportPath string
	Dir        string
	Deps       []string
	GoFiles    []string
}

func packages(t *testing.T) (list []pkg) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Deps,GoFiles,Standard", "./...")
	cmd.Dir = top
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, "bootd/") {
			list = append(list, p)
		}
	}
	return list
}

func TestImports(t *testing.T) {
	deps := map[string][]string{}
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, "bootd/")
		deps[room] = []string{}
		for _, dep := range p.Deps {
			if dep, ours := strings.CutPrefix(dep, "bootd/"); ours {
				deps[room] = append(deps[room], dep)
			}
		}
	}
	for room, banned := range forbidden {
		if deps[room] == nil {
			t.Errorf("the table names %s, which is no package", room)
		}
		for _, dep := range deps[room] {
			if reason := banned[dep]; reason != "" {
				t.Errorf("%s depends on %s: %s", room, dep, reason)
			}
		}
	}
	for room, allowed := range alone {
		if deps[room] == nil {
			t.Errorf("the table names %s, which is no package", room)
		}
		for _, dep := range deps[room] {
			if !slices.Contains(allowed, dep) {
				t.Errorf("%s depends on %s, and must stand alone, but for %v", room, dep, allowed)
			}
		}
	}
}

var roomInDocs = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| [^|]* \\|$")

// docs/architecture.md has a row for every package but those of tests, and none
// for what is no package.
func TestRooms(t *testing.T) {
	text, _, _ := strings.Cut(read(t, "docs/architecture.md"), "\n## One boot")
	told := map[string]bool{}
	for _, m := range roomInDocs.FindAllStringSubmatch(text, -1) {
		told[m[1]] = true
	}
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, "bootd/")
		ofTests := len(p.GoFiles) == 0 || strings.HasSuffix(room, "test") || strings.HasPrefix(room, "internal/lab/")
		if !ofTests && !told[room] {
			t.Errorf("docs/architecture.md has no row for %s: say what it knows, and what it must not depend on", room)
		}
		delete(told, room)
	}
	for room := range told {
		t.Errorf("docs/architecture.md has a row for %s, which is no package", room)
	}
}

// mayExec says which packages may start processes, besides the lab, and why.
var mayExec = map[string]string{
	"bmc":              "it drives ipmitool where a BMC understands nothing else",
	"internal/hook":    "the programs of the site that follow leases",
	"internal/xorriso": "nothing in Go changes a CD image so that it still boots",
}

// Processes are started only where a peer has to be driven or the site asks
// for it, and only commands end the process.
func TestEdges(t *testing.T) {
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, "bootd/")
		for _, f := range p.GoFiles {
			file := parse(t, filepath.Join(p.Dir, f), 0)
			for _, imp := range file.Imports {
				if imp.Path.Value == `"os/exec"` && mayExec[room] == "" && !strings.HasPrefix(room, "internal/lab") {
					t.Errorf("%s/%s starts processes: only %v, the lab and tests may", room, f, slices.Sorted(maps.Keys(mayExec)))
				}
			}
			if calls(file, "os", "Exit") && !strings.HasPrefix(room, "cmd/") && !strings.HasPrefix(room, "internal/lab/") {
				t.Errorf("%s/%s calls os.Exit: only commands may", room, f)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		var with []string
		for _, f := range p.GoFiles {
			if parse(t, filepath.Join(p.Dir, f), parser.ParseComments|parser.PackageClauseOnly).Doc != nil {
				with = append(with, f)
			}
		}
		if len(with) != 1 && len(p.GoFiles) > 0 { // a package of tests alone says it in its test
			t.Errorf("%s: package comment in %d files %v, want 1", p.ImportPath, len(with), with)
		}
	}
}

func parse(t *testing.T, path string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func calls(f *ast.File, pkg, name string) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if ok && sel.Sel.Name == name {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
				found = true
			}
		}
		return true
	})
	return found
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestDocumentLinks(t *testing.T) {
	for _, doc := range documents(t) {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", doc, m[1])
			}
		}
	}
}

func documents(t *testing.T) (docs []string) {
	t.Helper()
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{".git", "build", "bin"}, d.Name()) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			docs = append(docs, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

var (
	moduleInDocs = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
	moduleInMod  = regexp.MustCompile(`(?m)^\t(\S+) v\S+( // indirect)?$`)
)

// Every module that go.mod requires directly has a line in
// docs/dependencies.md, and every line there is a module of go.mod.
func TestDependencies(t *testing.T) {
	told, required := map[string]bool{}, map[string]bool{}
	for _, m := range moduleInDocs.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		told[m[1]] = true
	}
	for _, m := range moduleInMod.FindAllStringSubmatch(read(t, "go.mod"), -1) {
		required[m[1]] = true
		if direct := m[2] == ""; direct && !told[m[1]] {
			t.Errorf("docs/dependencies.md has no line for %s: say what it is for, why this one, what it costs", m[1])
		}
	}
	for module := range told {
		if !required[module] {
			t.Errorf("docs/dependencies.md has a line for %s, which go.mod does not require", module)
		}
	}
	if len(required) == 0 || len(told) == 0 {
		t.Errorf("got %d modules in go.mod and %d in docs/dependencies.md, want some", len(required), len(told))
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
