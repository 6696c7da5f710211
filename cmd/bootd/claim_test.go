package main

import (
	"errors"
	"reflect"
	"testing"

	"bootd/internal/claim"
	"bootd/internal/config"
	"bootd/internal/node"
)

// What a claim writes of a node, and when it may not be.
func TestClaimKeys(t *testing.T) {
	paris := config.Site{Name: "paris", Role: "edge", Tags: map[string]string{"site": "paris", "zone": "eu"}}
	mac := node.MAC{0x52, 0x54, 0, 0, 0, 1}
	for _, tt := range []struct {
		name    string
		machine claim.Machine
		was     *node.Node
		want    config.Keys
		err     string
	}{
		{"a stranger", claim.Machine{MAC: mac, Serial: "S1"}, nil,
			config.Keys{"tags": {"site=paris", "zone=eu"}, "role": {"edge"}, "macs": {mac.String()}, "serial": {"S1"}}, ""},
		{"a stranger, under a name that is taken", claim.Machine{MAC: mac}, &node.Node{Name: "n1"},
			nil, `node "n1" is there already: choose another name`},
		{"a node", claim.Machine{Node: "n1"}, &node.Node{Name: "n1", Tags: map[string]string{"rack": "7", "zone": "us"}},
			config.Keys{"tags": {"rack=7", "site=paris", "zone=eu"}}, ""},
		{"a node of the site", claim.Machine{Node: "n1"}, &node.Node{Name: "n1", Tags: map[string]string{"site": "paris"}},
			config.Keys{"tags": {"site=paris", "zone=eu"}}, ""},
		{"a node of another site", claim.Machine{Node: "n1"}, &node.Node{Name: "n1", Tags: map[string]string{"site": "rome"}},
			nil, `node "n1" belongs to site rome already`},
	} {
		got, err := claimKeys(tt.machine, paris, "n1", tt.was)
		if err == nil {
			err = errors.New("")
		}
		if err.Error() != tt.err || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, %q, want %v, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
}
