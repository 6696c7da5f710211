package lint

import (
	"fmt"
	"net/netip"
	"strings"

	"bootd/internal/yamltree"
)

// Across finds what no two machines may share: the id of the host, which is
// unique in all of Palette, and addresses. The zero Across has seen nothing.
type Across struct{ seen map[string]string }

// Add takes the document of a machine and returns what another one has
// already. where names the machine, for messages.
func (a *Across) Add(where, content string) (faults []Fault) {
	root, err := yamltree.Parse(content)
	if err != nil {
		return nil // Kairos says so
	}
	if a.seen == nil {
		a.seen = map[string]string{}
	}
	claim := func(n *yamltree.Node, what, value string) {
		key := what + " " + value
		switch other, ok := a.seen[key]; {
		case !ok:
			a.seen[key] = where
		case other != where:
			faults = append(faults, Fault{Line: n.Line, Column: n.Column, Problem: fmt.Sprintf("%s: %q is that of %s too", what, value, other)})
		}
	}
	site := root.Get("stylus", "site")
	if name := site.Get("name"); name != nil && name.Text != "" && name.Text != "$random" {
		claim(name, "stylus.site.name", strings.ToLower(name.Text))
	}
	for _, n := range addresses(site.Get("network")) {
		text, _, _ := strings.Cut(n.Text, "/")
		if a, err := netip.ParseAddr(text); err == nil {
			claim(n, "stylus.site.network: ipAddress", a.String())
		}
	}
	return faults
}

// addresses are those of either form of network.
func addresses(network *yamltree.Node) (list []*yamltree.Node) {
	if network == nil {
		return nil
	}
	if a := network.Get("ipAddress"); a != nil {
		list = append(list, a)
	}
	if interfaces := network.Get("interfaces"); interfaces != nil {
		for _, k := range interfaces.Keys {
			if a := k.Value.Get("ipAddress"); a != nil {
				list = append(list, a)
			}
		}
	}
	return list
}
