// Package node holds the nouns that every room shares: MAC, UUID, Node, Role
// and the Inventory that finds a node by what a machine says of itself.
//
// Everything here is a value or an immutable snapshot, so it may be shared
// between goroutines without a lock.
package node

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// A Want is what the administrator wants a node to do at its next boot.
type Want uint8

// The wants.
const (
	WantRelease Want = iota // boot the release its boot directory names
	WantLocal               // boot from the local disk
	WantHold                // wait on the network until told otherwise
)

var wants = [...]string{WantRelease: "release", WantLocal: "local", WantHold: "hold"}

// String returns the word used in the configuration.
func (w Want) String() string { return wants[w] }

// ParseWant reads the word used in the configuration; "" means release.
func ParseWant(s string) (Want, error) {
	if s == "" {
		return WantRelease, nil
	}
	for w, word := range wants {
		if s == word {
			return Want(w), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of release, local, hold", s)
}

// A Node is one machine of the inventory.
type Node struct {
	Name    string       // host name and name of its boot directory
	Role    string       // name of a Role
	MACs    []MAC        // NICs it may boot from, at least one
	BMC     MAC          // zero: not known
	UUID    UUID         // zero: not known
	Serial  string       // SMBIOS system serial number; empty: not known
	Addr    netip.Addr   // reserved address; zero: any address of a pool
	More    []netip.Addr // further ones, of other subnets
	BMCAddr netip.Addr   // reserved for its BMC; zero: any address of a pool
	Want    Want         // zero: boot its release
	Release string       // release id it is pinned to; empty: its role's choice
	Args    string       // kernel arguments added after its role's
	Loader  Loader       // zero: its role's choice
	Payload Payload      // for what it boots from the network, its own or its role's; zero: none
	Site    Payload      // for the first boot of what was installed, its own or its role's; zero: none

	Tags map[string]string // its own and its role's, for payloads
}

// A Role is a class of nodes that boot the same kind of image. Roles are data:
// the names kubernetes and storage-ceph have no meaning in the code.
type Role struct {
	Name     string
	Dir      string   // directory under <root>/ephemeral/data that holds its releases, such as "k8s"
	Squashfs []string // base names of its squashfs without prefix and release, such as "kubernetes"
	Channel  string   // "stable" or "unstable"
	Release  string   // release id the role is pinned to; empty: newest of the channel
	Args     string   // kernel arguments, a text/template over ipxe.Args
	Loader   Loader   // zero: the site's choice
	Firmware Firmware // the mode that machines must start in; zero: any
	Aliases  []string // further names in a boot directory: of the root file system, such as "filesystem.squashfs", or "vmlinuz=kernel"
	Signed   bool     // only releases with a good signature are linked
	Follow   bool     // a new release of the channel is linked when it is complete
	Install  *Install // its releases are installers; nil: they are what its nodes run

	Validate *Validate // what is expected of the systems of its nodes; nil: nothing

	RegistrationToken string // file of what an agent must say to register; empty: any may

	LoopLimit  int         // boots within an hour without a check-in before a node is held; 0: any number
	Hosts      []Pattern   // names of its nodes, for a site that has no inventory but leases
	ScriptArgs []ScriptArg // what its hosts have of their own in their copy of boot/script.ipxe
}

// A ScriptArg is a kernel argument that some hosts have in their script.ipxe,
// in the place of the one of its name.
type ScriptArg struct {
	Arg   string // NAME=VALUE
	Hosts []Pattern
}

// ScriptArgsOf returns the arguments that a host of the role has of its own.
func (r Role) ScriptArgsOf(host string) (args []string) {
	for _, a := range r.ScriptArgs {
		if MatchAny(a.Hosts, host) {
			args = append(args, a.Arg)
		}
	}
	return args
}

// nameRule is a DNS label: it becomes a host name, a directory and part of a
// URL, so nothing else may pass.
var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidName reports whether s can be the name of a node: a DNS label in lower
// case (RFC 1123, section 2.1).
func ValidName(s string) bool { return nameRule.MatchString(s) }

// reserved are the first elements of paths of the HTTP boot plane, and of
// directories below the web root, that are not boot directories.
var reserved = []string{"boot", "ephemeral", "checkin", "report", "healthz", "metrics", "t", "media", "payload", "phone-home", "api"}

// Reserved reports whether a name that is valid can be no node's all the same:
// what it boots would be hidden by something of ours.
func Reserved(name string) bool { return slices.Contains(reserved, name) }

// An Inventory finds nodes and roles. The zero Inventory is empty.
type Inventory struct {
	nodes  []Node
	roles  map[string]Role
	name   map[string]*Node
	mac    map[MAC]*Node
	bmc    map[MAC]*Node
	uuid   map[UUID]*Node
	serial map[string]*Node
}

// A Fault is one thing that is wrong with a node or role of an inventory. Its
// fields say where, so that a caller who read the inventory from a file can
// name the line.
type Fault struct {
	List    string // "nodes" or "roles": the argument of NewInventory
	Index   int    // in that list
	Name    string // of the node or role
	Field   string // as the configuration spells it: "name", "macs", "bmc", ...
	Item    int    // in the field, for "macs"; -1: the fault is with the whole field
	Problem string
	Other   string // name of the node that has the same; empty: it is no other's
}

// Error names the node or role, the field and the problem.
func (f *Fault) Error() string {
	field := f.Field
	if f.Item >= 0 {
		field = fmt.Sprintf("%s[%d]", f.Field, f.Item)
	}
	return fmt.Sprintf("%s %q: %s: %s", strings.TrimSuffix(f.List, "s"), f.Name, field, f.Problem)
}

// NewInventory indexes nodes and roles. It refuses two nodes with the same
// name, MAC, UUID, serial number or address, a MAC that no NIC can have, and a
// node of a role that does not exist; the error joins a *Fault for each.
func NewInventory(nodes []Node, roles []Role) (*Inventory, error) {
	inv := &Inventory{
		nodes: nodes,
		roles: map[string]Role{}, name: map[string]*Node{}, mac: map[MAC]*Node{},
		bmc: map[MAC]*Node{}, uuid: map[UUID]*Node{}, serial: map[string]*Node{},
	}
	var errs []error
	for i, r := range roles {
		if _, dup := inv.roles[r.Name]; dup {
			errs = append(errs, &Fault{"roles", i, r.Name, "name", -1, "defined twice", ""})
		}
		inv.roles[r.Name] = r
	}
	addrs := map[netip.Addr]*Node{}
	for i := range nodes {
		errs = append(errs, inv.add(i, addrs)...)
	}
	for i, n := range nodes {
		if other := inv.mac[n.BMC]; other != nil {
			problem := fmt.Sprintf("%v is a boot MAC of node %q", n.BMC, other.Name)
			errs = append(errs, &Fault{"nodes", i, n.Name, "bmc", -1, problem, other.Name})
		}
	}
	return inv, errors.Join(errs...)
}

// add indexes node i and returns what is wrong with it.
func (inv *Inventory) add(i int, addrs map[netip.Addr]*Node) (errs []error) {
	n := &inv.nodes[i]
	fault := func(field string, item int, format string, args ...any) {
		errs = append(errs, &Fault{"nodes", i, n.Name, field, item, fmt.Sprintf(format, args...), ""})
	}
	shared := func(other *Node, field string, item int, format string, args ...any) {
		errs = append(errs, &Fault{"nodes", i, n.Name, field, item, fmt.Sprintf(format, args...), other.Name})
	}
	if !ValidName(n.Name) {
		fault("name", -1, "%q is not a host name in lower case (letters, digits, hyphens)", n.Name)
	} else if other := claim(inv.name, n.Name, n); other != nil {
		shared(other, "name", -1, "used twice")
	}
	if _, ok := inv.roles[n.Role]; !ok {
		fault("role", -1, "%q is not defined", n.Role)
	}
	if len(n.MACs) == 0 {
		fault("macs", -1, "a node needs at least one MAC address to be known by")
	}
	for j, m := range n.MACs {
		if problem := notOfNIC(m); problem != "" {
			fault("macs", j, "%v %s", m, problem)
		} else if other := claim(inv.mac, m, n); other == n {
			fault("macs", j, "%v is in the list twice", m)
		} else if other != nil {
			shared(other, "macs", j, "%v belongs to node %q too", m, other.Name)
		}
	}
	if !n.BMC.IsZero() {
		if problem := notOfNIC(n.BMC); problem != "" {
			fault("bmc", -1, "%v %s", n.BMC, problem)
		} else if other := claim(inv.bmc, n.BMC, n); other != nil {
			shared(other, "bmc", -1, "%v belongs to node %q too", n.BMC, other.Name)
		}
	}
	if !n.UUID.IsZero() {
		if other := claim(inv.uuid, n.UUID, n); other != nil {
			shared(other, "uuid", -1, "%v belongs to node %q too", n.UUID, other.Name)
		}
	}
	if n.Serial != "" {
		if other := claim(inv.serial, n.Serial, n); other != nil {
			shared(other, "serial", -1, "%q belongs to node %q too", n.Serial, other.Name)
		}
	}
	own := func(a netip.Addr, field string, item int) {
		if !a.IsValid() {
			return
		}
		switch other, dup := addrs[a]; {
		case !dup:
			addrs[a] = n
		case other == n:
			fault(field, item, "%v is reserved for this node already", a)
		default:
			shared(other, field, item, "%v is reserved for node %q too", a, other.Name)
		}
	}
	own(n.Addr, "address", -1)
	for j, a := range n.More {
		own(a, "addresses", j)
	}
	own(n.BMCAddr, "bmc-address", -1)
	return errs
}

// Addrs returns the addresses that are reserved for the node, without that of
// its BMC.
func (n *Node) Addrs() []netip.Addr {
	if !n.Addr.IsValid() {
		return n.More
	}
	return append([]netip.Addr{n.Addr}, n.More...)
}

// notOfNIC says why m cannot be the address of a NIC; "" means that it can.
func notOfNIC(m MAC) string {
	switch {
	case m.IsZero():
		return "is the zero address, which no NIC has"
	case m.IsGroup():
		return "is a multicast address, which no NIC has"
	}
	return ""
}

// claim enters n under key unless another node has it, and returns that one.
func claim[K comparable](index map[K]*Node, key K, n *Node) *Node {
	if other := index[key]; other != nil {
		return other
	}
	index[key] = n
	return nil
}

// Nodes returns all nodes in the order of the configuration. The slice is
// shared: do not change it.
func (inv *Inventory) Nodes() []Node { return inv.nodes }

// ByName finds a node by its name.
func (inv *Inventory) ByName(name string) (*Node, bool) { return found(inv.name[name]) }

// ByMAC finds the node that boots from the NIC with this address. The address
// of a BMC does not count: a BMC is not its node.
func (inv *Inventory) ByMAC(m MAC) (*Node, bool) { return found(inv.mac[m]) }

// ByBMC finds the node whose BMC has this address.
func (inv *Inventory) ByBMC(m MAC) (*Node, bool) { return found(inv.bmc[m]) }

// Find finds a node by MAC first, then by UUID when it is plausible, then by
// serial number: the order of trust (a MAC is unique, a UUID often is).
func (inv *Inventory) Find(m MAC, u UUID, serial string) (*Node, bool) {
	if n, ok := inv.ByMAC(m); ok {
		return n, true
	}
	if n := inv.uuid[u]; n != nil && u.Plausible() {
		return n, true
	}
	return found(inv.serial[serial])
}

func found(n *Node) (*Node, bool) { return n, n != nil }

// Role finds a role by its name.
func (inv *Inventory) Role(name string) (Role, bool) {
	r, ok := inv.roles[name]
	return r, ok
}

// Roles returns all roles, unordered.
func (inv *Inventory) Roles() map[string]Role { return inv.roles }
