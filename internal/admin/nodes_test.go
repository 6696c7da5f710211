package admin_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bootd/internal/admin"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// inventory says what it was asked for.
type inventory struct {
	*backend
	asked string
}

func (i *inventory) Nodes() []admin.Node { return []admin.Node{wholeNode} }

func (i *inventory) did(what string, r admin.NodeRequest, dry bool) (admin.NodeChange, error) {
	i.asked = fmt.Sprint(what, " ", r, " ", dry)
	if r.Name == "bad" {
		return admin.NodeChange{}, errors.New(`nodes[0] "bad": macs[0]: missing`)
	}
	return wholeChange, nil
}

func (i *inventory) SetNode(r admin.NodeRequest, dry bool) (admin.NodeChange, error) {
	return i.did("set", r, dry)
}

func (i *inventory) ReplaceNode(r admin.NodeRequest, dry bool) (admin.NodeChange, error) {
	return i.did("replace", r, dry)
}

func (i *inventory) RemoveNode(name string, force, dry bool) (admin.NodeChange, error) {
	return i.did(fmt.Sprint("remove ", force), admin.NodeRequest{Name: name}, dry)
}

var (
	wholeNode = admin.Node{
		Name: "ncn-w001", Role: "kubernetes", MACs: []node.MAC{{2, 0, 0, 0, 0, 1}}, BMC: node.MAC{2, 0, 0, 0, 0, 2}, UUID: node.UUID{1}, Serial: "007",
		Addr: netip.MustParseAddr("10.1.0.11"), Boot: "hold", Release: "1.2.3", Args: "quiet", Loader: "ipxe", Tags: map[string]string{"a": "b"},
		Added: true, From: "x:1", Keys: map[string]string{"role": "x:1"},
	}
	wholeChange = admin.NodeChange{
		Node: "ncn-w001", Keys: []admin.KeyChange{{Key: "macs", Old: "a", New: "b"}},
		Ended: []lease.Lease{{Addr: netip.MustParseAddr("10.1.0.11"), State: lease.Bound}}, Given: []lease.Lease{{Addr: netip.MustParseAddr("10.1.0.12")}},
	}
)

// What is asked arrives, and so does the answer, with all that is in it.
func TestNodes(t *testing.T) {
	i := &inventory{backend: newBackend()}
	c := admin.NewClient(serve(t, admin.Handler(i)))
	list, err := c.Nodes(t.Context())
	if diff := cmp.Diff([]admin.Node{wholeNode}, list, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v; want (-) got (+):\n%s", err, diff)
	}
	r := admin.NodeRequest{Name: "ncn-w001", Keys: map[string][]string{"macs": {"x", "y"}}}
	for _, tt := range []struct {
		do   func() (admin.NodeChange, error)
		want string
	}{
		{func() (admin.NodeChange, error) { return c.SetNode(t.Context(), r, false) }, "set {ncn-w001 map[macs:[x y]]} false"},
		{func() (admin.NodeChange, error) { return c.SetNode(t.Context(), r, true) }, "set {ncn-w001 map[macs:[x y]]} true"},
		{func() (admin.NodeChange, error) { return c.ReplaceNode(t.Context(), r, false) }, "replace {ncn-w001 map[macs:[x y]]} false"},
		{func() (admin.NodeChange, error) { return c.ReplaceNode(t.Context(), r, true) }, "replace {ncn-w001 map[macs:[x y]]} true"},
		{func() (admin.NodeChange, error) { return c.RemoveNode(t.Context(), "ncn-w001", false, false) }, "remove false {ncn-w001 map[]} false"},
		{func() (admin.NodeChange, error) { return c.RemoveNode(t.Context(), "ncn-w001", true, true) }, "remove true {ncn-w001 map[]} true"},
	} {
		got, err := tt.do()
		if diff := cmp.Diff(wholeChange, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
			t.Errorf("%s: %v; want (-) got (+):\n%s", tt.want, err, diff)
		}
		if i.asked != tt.want {
			t.Errorf("got %q, want %q", i.asked, tt.want)
		}
	}
	if _, err := c.SetNode(t.Context(), admin.NodeRequest{Name: "bad"}, false); err == nil || err.Error() != `nodes[0] "bad": macs[0]: missing` {
		t.Errorf("got %v, want the error of the backend", err)
	}
	i.asked = ""
	for _, name := range []string{"", "..", "a/b", "A"} {
		if _, err := c.RemoveNode(t.Context(), name, false, false); err == nil || !strings.Contains(err.Error(), "there is no node") {
			t.Errorf("%q: got %v, want that there is no such node", name, err)
		}
	}
	if i.asked != "" {
		t.Errorf("asked the daemon %q for a name that no node has", i.asked)
	}
}
