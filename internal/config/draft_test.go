package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bootd/internal/node"
)

// write makes a state directory and a configuration file that names it, with
// the text after it. It returns the paths of both files.
func writeFiles(t *testing.T, main, nodes string) (path, nodesPath string) {
	t.Helper()
	dir := t.TempDir()
	path, nodesPath = filepath.Join(dir, "bootd.yaml"), filepath.Join(dir, NodesFile)
	for name, text := range map[string]string{path: "state: " + dir + "\n" + main, nodesPath: nodes} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path, nodesPath
}

const twoNodes = `nodes:
  - name: ncn-w001
    role: kubernetes
    macs: [52:54:00:00:00:01]
    uuid: 11223344-5566-7788-99aa-bbccddeeff00
    address: 10.1.0.11
    tags: [rack=r1]
  - {name: ncn-w002, role: kubernetes, macs: [52:54:00:00:00:02]}
`

// A key in nodes.yaml wins, even one without a value; all others stay, and
// nodes that are only there come last.
func TestNodesFile(t *testing.T) {
	path, nodesPath := writeFiles(t, twoNodes, `nodes:
  - name: ncn-s001
    role: storage-ceph
    macs: [52:54:00:00:00:09]
  - name: ncn-w001
    macs: [52:54:00:00:00:11]
    uuid: ""
`)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	addr := c.Inventory.Nodes()[0].Addr
	want := []node.Node{
		{Name: "ncn-w001", Role: "kubernetes", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 0x11}}, Addr: addr, Tags: map[string]string{"rack": "r1"}},
		{Name: "ncn-w002", Role: "kubernetes", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 2}}},
		{Name: "ncn-s001", Role: "storage-ceph", MACs: []node.MAC{{0x52, 0x54, 0, 0, 0, 9}}},
	}
	if diff := cmp.Diff(want, c.Inventory.Nodes(), compare); diff != "" || addr.String() != "10.1.0.11" {
		t.Errorf("address %v; want (-) got (+):\n%s", addr, diff)
	}
	for _, tt := range []struct {
		node      int
		key, want string
	}{
		{0, "macs", nodesPath + ":5"}, {0, "uuid", nodesPath + ":5"}, {0, "address", path + ":3"}, {0, "serial", ""},
		{1, "macs", path + ":9"}, {2, "role", nodesPath + ":2"}, {2, "tags", ""},
	} {
		if got := c.Place(tt.node).Of(tt.key); got != tt.want {
			t.Errorf("node %d: %s is of %q, want %q", tt.node, tt.key, got, tt.want)
		}
	}
	if got, want := c.Place(0).String(), path+":3, "+nodesPath+":5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	flags := Flags{Interface: "eth1", Range: "10.1.0.100-10.1.0.200", State: filepath.Dir(path)}
	d, err := OpenFlags(flags)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Config()
	wantError(t, err, nodesPath+`:5:5: nodes[1] "ncn-w001": role: missing, and the command line has no node of this name: remove it here too`)
}

// Faults name the file that the value is in, and both where two do not agree.
func TestNodesFileFaults(t *testing.T) {
	for _, tt := range []struct{ main, nodes, want string }{
		{twoNodes, "", ""},
		{twoNodes, "nodes: []\n", ""},
		{twoNodes, "nodes:\n", ""},
		{twoNodes, "# nothing\n", `NODES: file is empty: it has no nodes: key`},
		{twoNodes, "root: /a\nnodes: []", `NODES:1:1: unknown key "root": known here are nodes`},
		{twoNodes, "nodes: [{name: a, rol: b}]", `NODES:1:19: nodes[0] "a": unknown key "rol": did you mean "role"?`},
		{twoNodes, "nodes: [{name: ncn-w001, address: 10.1.0.300}]",
			`NODES:1:35: nodes[0] "ncn-w001": address: "10.1.0.300" is not an IPv4 address such as 10.1.0.1`},
		{twoNodes, "nodes: [{name: ncn-w003, role: kubernetes, macs: [52:54:00:00:00:03, 52:54:00:00:00:01]}]",
			`NODES:1:70: nodes[0] "ncn-w003": macs[1]: 52:54:00:00:00:01 belongs to node "ncn-w001" too (MAIN:5)`},
		{twoNodes, "nodes: [{name: ncn-w001, macs: [52:54:00:00:00:02]}]",
			`MAIN:9:47: nodes[1] "ncn-w002": macs[0]: 52:54:00:00:00:02 belongs to node "ncn-w001" too (NODES:1)`},
		{twoNodes, "nodes: [{name: ncn-w003, role: kubernetes, macs: [52:54:00:00:00:03], address: 10.1.0.11}]",
			`NODES:1:80: nodes[0] "ncn-w003": address: 10.1.0.11 is reserved for node "ncn-w001" too (MAIN:7)`},
		{twoNodes, "nodes: [{name: ncn-w001, serial: a}, {name: ncn-w001, serial: b}]",
			`NODES:1:38: nodes[1] "ncn-w001": role: missing` + "\n" +
				`NODES:1:38: nodes[1] "ncn-w001": macs: a node needs at least one MAC address to be known by` + "\n" +
				`NODES:1:45: nodes[1] "ncn-w001": name: used twice`},
		{"root: www\n" + twoNodes, "nodes: [{name: ncn-w001, macs: x}]",
			`MAIN:2:7: root: "www" is not an absolute path` + "\n" + `NODES:1:32: nodes[0] "ncn-w001": macs: "x", where a list is wanted, such as [...]`},
	} {
		path, nodesPath := writeFiles(t, tt.main, tt.nodes)
		_, err := Load(path)
		want := strings.NewReplacer("MAIN", path, "NODES", nodesPath).Replace(tt.want)
		if want == "" {
			want = "<nil>"
		}
		wantError(t, err, want)
	}
}

func open(t *testing.T, path string) *Draft {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What is set is in force in the same draft and, after Save, for everybody who
// loads the configuration.
func TestSetNode(t *testing.T) {
	path, nodesPath := writeFiles(t, twoNodes, "")
	if err := os.Chmod(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	for name, set := range map[string]Keys{
		"ncn-w001": {"macs": {"52:54:00:00:00:11"}, "uuid": nil},
		"ncn-s001": {"role": {"storage-ceph"}, "macs": {"52-54-00-00-00-09"}, "serial": {`0012 "3"`}, "tags": {"rack=r2", "note=a: b #c"}},
	} {
		if changed, err := d.SetNode(name, set); err != nil || !changed {
			t.Fatalf("%s: got %v, %v", name, changed, err)
		}
		if changed, err := d.SetNode(name, set); err != nil || changed {
			t.Fatalf("%s again: got %v, %v", name, changed, err)
		}
	}
	before, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(nodesPath); !os.IsNotExist(err) {
		t.Fatalf("before Save: got %v, want no file", err)
	}
	if err := d.Save(); err != nil {
		t.Fatal(err)
	}
	after, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Inventory.Nodes(), after.Inventory.Nodes(), compare); diff != "" {
		t.Errorf("in the draft (-), loaded (+):\n%s", diff)
	}
	n, _ := after.Inventory.ByName("ncn-s001")
	if n == nil || n.Serial != `0012 "3"` || n.Tags["note"] != "a: b #c" {
		t.Errorf("got %+v", n)
	}
	if n, _ := after.Inventory.ByName("ncn-w001"); !n.UUID.IsZero() || n.MACs[0] != (node.MAC{0x52, 0x54, 0, 0, 0, 0x11}) {
		t.Errorf("got %+v", n)
	}
	wantMode(t, nodesPath, 0o640)
	if err := os.Chmod(nodesPath, 0o600); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	if changed, err := d.DropNode("ncn-s001"); !changed || err != nil {
		t.Errorf("got %v, %v", changed, err)
	}
	if changed, err := d.DropNode("ncn-s001"); changed || err != nil {
		t.Errorf("again: got %v, %v", changed, err)
	}
	if err := d.Save(); err != nil {
		t.Fatal(err)
	}
	wantMode(t, nodesPath, 0o600)
	if c, err := Load(path); err != nil || len(c.Inventory.Nodes()) != 2 {
		t.Errorf("got %+v, %v, want the two nodes of the configuration", c, err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 2 {
		t.Errorf("got %v, want the two files and nothing else", entries)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != want {
		t.Errorf("%s: mode %v, want %v", path, got, want)
	}
}

func TestSetNodeFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  Keys
		want string
	}{
		{"ncn-w003", Keys{"rol": {"x"}}, `"rol" is not a key of a node that can be set`},
		{"ncn-w003", Keys{"payload": {"x"}}, `"payload" is not a key of a node that can be set`},
		{"ncn-w003", Keys{"role": {"x", "y"}}, `role has one value, not 2`},
		{"ncn-w003", Keys{"role": {"x"}, "macs": {"zz"}}, `NODES: nodes[0] "ncn-w003": macs[0]: "zz" is not a MAC address such as 52:54:00:aa:bb:07` + "\n" +
			`NODES: nodes[0] "ncn-w003": role: "x" is not defined`},
		{"ncn-w003", Keys{"role": {"kubernetes"}, "macs": {"52:54:00:00:00:02"}},
			`NODES: nodes[0] "ncn-w003": macs[0]: 52:54:00:00:00:02 belongs to node "ncn-w002" too (MAIN:9)`},
		{"ncn-w001", Keys{"macs": {"52:54:00:00:00:02"}},
			`MAIN:9:47: nodes[1] "ncn-w002": macs[0]: 52:54:00:00:00:02 belongs to node "ncn-w001" too (NODES)`},
		{"ncn-w003", Keys{"role": {"kubernetes"}, "macs": {"52:54:00:00:00:03"}, "serial": {"\x1b[2J"}},
			`NODES: nodes[0] "ncn-w003": serial: "\x1b[2J" holds U+001B, which is not a printable character`},
	} {
		path, nodesPath := writeFiles(t, twoNodes, "")
		d := open(t, path)
		_, err := d.SetNode(tt.name, tt.set)
		if err == nil {
			_, err = d.Config()
		}
		wantError(t, err, strings.NewReplacer("MAIN", path, "NODES", nodesPath).Replace(tt.want))
	}
}

// A file of nodes that cannot be read is not written over.
func TestSetNodeInBadFile(t *testing.T) {
	path, nodesPath := writeFiles(t, twoNodes, "nodes: [{nam: x}]")
	d := open(t, path)
	want := nodesPath + `:1:10: nodes[0]: unknown key "nam": did you mean "name"?`
	_, err := d.SetNode("ncn-w003", nil)
	wantError(t, err, want)
	_, err = d.DropNode("ncn-w003")
	wantError(t, err, want)
	_, err = parseMain("x.yaml", []byte("root: /a\n"), nil).SetNode("ncn-w003", nil)
	wantError(t, err, "no state directory, so no file of nodes")
}

// FuzzNodesFile holds that what is written of a file of nodes reads as the
// same nodes.
func FuzzNodesFile(f *testing.F) {
	for _, s := range []string{
		"", "nodes: []", "nodes:\n- name: a\n  macs: [52:54:00:00:00:01, '']\n  uuid:\n", "nodes: [{}, {name: ~, serial: 'null'}]",
		"nodes: [{name: a, payload: {family: nocloud, dir: /x, secrets: [a=/b]}, tags: [\"a=\\\"b\\\\\"]}]",
		"nodes: [{serial: 'a: b'}, {args: '- x'}, {args: '#'}, {args: '@x'}, {args: 'é'}]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d, again Draft
		d.parseNodes("x", []byte(text))
		if len(d.nodesFaults) > 0 {
			return
		}
		again.parseNodes("x", encodeNodes(d.written))
		if len(again.nodesFaults) > 0 {
			t.Fatalf("%s\n%v", encodeNodes(d.written), again.textFaults())
		}
		if got, want := fmt.Sprint(again.written), fmt.Sprint(d.written); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", encodeNodes(d.written), got, want)
		}
	})
}
