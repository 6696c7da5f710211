package config

import (
	"reflect"
	"strings"
	"testing"

	"bootd/internal/node"
)

func TestValidate(t *testing.T) {
	parse := func(text string) (*node.Validate, error) {
		c, err := Parse("x.yaml", []byte("roles: [{name: edge, dir: edge, squashfs: [edge], validate: {"+text+"}}]\n"))
		if err != nil {
			return nil, err
		}
		role, _ := c.Inventory.Role("edge")
		return role.Validate, nil
	}
	got, err := parse("os: Ubuntu 24.04*, bond: bond0, bond-mode: 802.3ad, bond-members: 4, wiped: 5TB, services: [stylus-agent], registered: true")
	want := &node.Validate{OS: "Ubuntu 24.04*", Bond: "bond0", BondMode: "802.3ad", BondMembers: 4, Wiped: 5e12, Services: []string{"stylus-agent"}, Registered: true}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for text, want := range map[string]string{
		`os: "[a"`:               `roles[0] "edge": validate: os: "[a" is not a pattern`,
		"bond: 'b;c'":            `validate: bond: "b;c" is not the name of an interface`,
		"bond-members: 4":        `validate: bond: missing: of which bond?`,
		"bond: b, bond-mode: 4":  `validate: bond-mode: "4" is not one of balance-rr, active-backup`,
		"wiped: 7T":              `validate: wiped: "7T" is not a size of drives such as 5TB or 800GB`,
		"wiped: 0TB":             `validate: wiped: "0TB" is not a size`,
		"services: ['a b']":      `validate: services[0]: "a b" is not the name of a unit`,
		"services: [\"a'; rm\"]": `validate: services[0]: "a'; rm" is not the name of a unit`,
		"registered: yes":        `validate: registered: "yes" is not true or false`,
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
