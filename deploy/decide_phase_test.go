package deploy_test

import (
	"fmt"
	"testing"

	"bootd/deploy"
	"bootd/internal/node"
)

// TestDecideEveryPhase is every phase of a deployment, for a role that installs
// and for one that boots from the network, with every boot directory, every
// want, for the node itself and for somebody else. What is not in the table is
// told to do nothing that touches a disk.
func TestDecideEveryPhase(t *testing.T) {
	type of struct {
		phase deploy.Phase
		what  string // what else its record says
	}
	plain := func(p deploy.Phase) of { return of{p, ""} }
	// The action of a node whose boot directory is good, and that asks itself.
	installs := map[of]string{
		plain(deploy.Inventory):   "local",
		plain(deploy.Armed):       "install",
		{deploy.Armed, "wipe"}:    "install+wipe",
		plain(deploy.Installing):  "install",
		{deploy.Installing, "up"}: "hold",
		plain(deploy.Installed):   "local",
		plain(deploy.Configuring): "local",
		plain(deploy.CheckedIn):   "local",
		plain(deploy.Registered):  "local",
		plain(deploy.Ready):       "local",
		plain(deploy.Failed):      "hold",
		{deploy.Failed, "disk"}:   "local",
		plain(deploy.Held):        "hold",
	}
	netboots := map[of]string{
		plain(deploy.Inventory):   "boot",
		{deploy.Armed, "wipe"}:    "boot+wipe",
		plain(deploy.Configuring): "boot",
		plain(deploy.CheckedIn):   "boot",
		plain(deploy.Ready):       "boot",
		plain(deploy.Failed):      "boot",
		plain(deploy.Held):        "hold",
	}
	record := func(x of) deploy.Record {
		r := deploy.Record{Phase: x.phase, Reason: "because", Wipe: x.what == "wipe", Running: x.what == "up"}
		if x.what == "disk" {
			r.From = deploy.Configuring
		}
		return r
	}
	dirs := map[string]deploy.BootDir{"good": good, "bad": bad, "none": none, "empty": {}}
	instead := map[string]string{"bad": "hold", "empty": "hold", "none": "discover"} // of booting
	wants := map[node.Want]string{node.WantLocal: "local", node.WantHold: "hold"}
	for _, kind := range []struct {
		role node.Role
		all  map[of]string
	}{{node.Role{Name: "r", Install: &node.Install{}}, installs}, {node.Role{Name: "r"}, netboots}} {
		for x, own := range kind.all {
			for dirName, dir := range dirs {
				for _, want := range []node.Want{node.WantRelease, node.WantLocal, node.WantHold} {
					for _, foreign := range []bool{false, true} {
						o := deploy.Observation{Dir: dir, Record: record(x), Foreign: foreign}
						expected := own
						boots := own == "boot" || own == "boot+wipe" || own == "install" || own == "install+wipe"
						switch {
						case want != node.WantRelease:
							expected = wants[want]
						case boots && dirName != "good":
							expected = instead[dirName]
						case boots && foreign && kind.role.Install != nil:
							expected = "hold"
						}
						d := deploy.Decide(&node.Node{Name: "n", Role: "r", Want: want}, kind.role, o)
						got := d.Action.String()
						if d.Install {
							got = "install"
						}
						if d.Wipe {
							got += "+wipe"
						}
						if got != expected || d.Reason == "" {
							t.Errorf("installs %v, phase %v %s, directory %s, want %v, foreign %v: got %s because %q, want %s",
								kind.role.Install != nil, x.phase, x.what, dirName, want, foreign, got, d.Reason, expected)
						}
					}
				}
			}
		}
	}
	for p := deploy.Inventory; p <= deploy.Held; p++ { // none was forgotten
		if _, ok := installs[plain(p)]; !ok {
			t.Errorf("the table has no %v", p)
		}
		var q deploy.Phase
		if err := q.UnmarshalText([]byte(p.String())); err != nil || q != p {
			t.Errorf("%v: got %v, %v from its word", p, q, err)
		}
	}
	if got, want := fmt.Sprint(new(deploy.Phase).UnmarshalText([]byte("reddy"))), `"reddy" is not a phase`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
