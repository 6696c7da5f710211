package deploy

import (
	"encoding/json"
	"errors"
	"fmt"

	"bootd/internal/node"
	"bootd/internal/store"
)

// A machine is what tells one machine of a name from another: the hardware, and
// what it is for. What was installed is on the disks of that hardware, and an
// order for it is no order for what takes its place.
//
// Its JSON form is on disk and compared as text: with one more field, each node
// that has it is another machine than it was under an older version.
type machine struct {
	Role     string     `json:"role"`
	Installs bool       `json:"installs,omitempty"` // its role does
	MACs     []node.MAC `json:"macs"`
	BMC      node.MAC   `json:"bmc,omitzero"`
	UUID     node.UUID  `json:"uuid,omitzero"`
	Serial   string     `json:"serial,omitempty"`
}

// machineOf returns the machine that an inventory has by a name, as on disk;
// empty: none.
func machineOf(inv *node.Inventory, name string) string {
	n, ok := inv.ByName(name)
	if !ok {
		return ""
	}
	role, _ := inv.Role(n.Role)
	value, err := json.Marshal(machine{n.Role, role.Install != nil, n.MACs, n.BMC, n.UUID, n.Serial})
	if err != nil {
		panic("deploy: a machine has no JSON form: " + err.Error())
	}
	return string(value)
}

// Machines are the nodes as they were when something was kept of them. They are
// on disk, so that this is held against the inventory in one way, whether that
// changed in a running daemon or while there was none.
//
// The methods are not safe for concurrent use.
type Machines struct {
	table Table
	all   map[string]string // as machineOf returns them, by name
}

// OpenMachines reads the machines in table.
func OpenMachines(table Table) (*Machines, error) {
	s := &Machines{table: table, all: map[string]string{}}
	return s, table.Scan(func(key, value []byte) error {
		s.all[string(key)] = string(value)
		return nil
	})
}

// Moved reports whether the node of a name is another machine in inv than the
// one that things are kept of, or none any more. A name that nothing is known of
// has not moved.
func (s *Machines) Moved(inv *node.Inventory, name string) bool {
	was, known := s.all[name]
	return known && was != machineOf(inv, name)
}

// Keep makes the nodes of inv those that things are kept of from now on. First
// it has what is kept of those that have moved left behind; stays says whether
// there is still a node of that name. On an error no node is another one than it
// was, and Keep can be called again.
func (s *Machines) Keep(inv *node.Inventory, leave func(name string, stays bool) error) error {
	var errs []error
	var changes []store.Change
	is := make(map[string]string, len(s.all))
	for _, n := range inv.Nodes() {
		is[n.Name] = machineOf(inv, n.Name)
		if s.all[n.Name] != is[n.Name] {
			changes = append(changes, store.Change{Key: []byte(n.Name), Value: []byte(is[n.Name])})
		}
	}
	for name := range s.all {
		if s.Moved(inv, name) {
			errs = append(errs, leave(name, is[name] != ""))
		}
		if is[name] == "" {
			changes = append(changes, store.Change{Key: []byte(name)})
		}
	}
	if err := errors.Join(errs...); err != nil || len(changes) == 0 {
		return err
	}
	if err := s.table.Apply(changes); err != nil {
		return fmt.Errorf("what machines the nodes are: %w", err)
	}
	s.all = is
	return nil
}
