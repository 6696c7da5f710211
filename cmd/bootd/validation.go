package main

import (
	"fmt"
	"net/netip"

	"bootd/deploy"
	"bootd/deploy/validate"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/ipxe"
)

// validateScript returns the program that a node reports with; nil: the address
// is no node's, or its role expects nothing.
func (d *daemon) validateScript(peer netip.Addr, server string) []byte {
	w := d.world.Load()
	name, _ := d.identify(peer)
	n, ok := w.inv.ByName(name)
	if !ok {
		return nil
	}
	role, _ := w.inv.Role(n.Role)
	if role.Validate == nil {
		return nil
	}
	return validate.Script(server, role.Validate.Services)
}

// expected is what the role of a node expects of it; false: nothing.
func (d *daemon) expected(w *world, n *node.Node) (validate.Expected, bool) {
	role, _ := w.inv.Role(n.Role)
	if role.Validate == nil {
		return validate.Expected{}, false
	}
	e := validate.Expected{Validate: *role.Validate, Name: n.Name, Addr: n.Addr}
	if e.Registered {
		e.HostID, _, _ = d.predict(w, n) // none: any is good
		e.HostIs = d.hostOf(n.Name).ID
	}
	return e, true
}

// validated takes a report as evidence of how the node's deployment stands.
func (d *daemon) validated(in ipxe.CheckIn) error {
	w := d.world.Load()
	n, ok := w.inv.ByName(in.Node)
	if !ok || in.Kind != "report" {
		return nil
	}
	e, ok := d.expected(w, n)
	if !ok {
		return nil
	}
	sign := deploy.Sign{Kind: deploy.Validated}
	phase := d.records.Get(n.Name).Phase
	// A node that was not seen to run yet is not given up by what it says.
	early := phase == deploy.Inventory || phase == deploy.Armed || phase == deploy.Installing
	if why := validate.Failed(validate.Judge(e, validate.Parse(in.Text))); why != "" {
		sign = deploy.Sign{Kind: deploy.Invalidated, Detail: "validation: " + why}
	}
	if early {
		return nil
	}
	_, _, err := d.sign(n.Name, sign)
	return err
}

// Validations implements admin.Validations.
func (d *daemon) Validations(name string) (list []admin.Validation, err error) {
	w := d.world.Load()
	if _, ok := w.inv.ByName(name); name != "" && !ok {
		return nil, d.unknown(name)
	}
	for _, n := range w.inv.Nodes() {
		e, ok := d.expected(w, &n)
		if name != "" && n.Name != name || !ok && name == "" {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("role %s of node %s expects nothing: it has no key validate", n.Role, n.Name)
		}
		v := admin.Validation{Node: n.Name, Role: n.Role}
		reports, err := d.reportsOf(n.Name)
		if err != nil {
			return nil, err
		}
		var facts validate.Facts
		for _, r := range reports {
			if r.Kind == "report" {
				v.At, facts = r.Time, validate.Parse([]byte(r.Text))
			}
		}
		v.Checks = validate.Judge(e, facts)
		v.OK = validate.Passed(v.Checks)
		list = append(list, v)
	}
	return list, nil
}
