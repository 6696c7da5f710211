package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"bootd/artifacts"
	"bootd/deploy"
	"bootd/dhcp"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/timeline"
	"bootd/ipxe"
	"bootd/links"
)

// A world is one configuration put to work: the join of inventory, boot
// directories and loaders, which every protocol asks. A reload makes a new
// one; it is never changed.
type world struct {
	cfg     *config.Config
	inv     *node.Inventory // of cfg
	tree    *links.Tree
	loaders ipxe.Loaders
	options map[string][]dhcp.Option // of nodes, by name
	wanted  *wanted                  // the daemon's: a reload comes between DHCP and script
}

// decide is the one way to a decision, whoever asks. o has the record of the
// node as Record.Comes returns it, and everything but its boot directory.
func (w *world) decide(n *node.Node, o deploy.Observation) deploy.Decision {
	if n == nil {
		return deploy.Decide(nil, node.Role{}, o)
	}
	role, _ := w.inv.Role(n.Role)
	o.Dir = w.bootDir(n.Name)
	role.Args = cmp.Or(role.Args, ipxe.FamilyArgs(o.Dir.Family))
	if o.Dir.Family == "" {
		role.Args += w.liveDir(role.Args + " " + n.Args)
	}
	return deploy.Decide(n, role, o)
}

// rules returns how the role of a node wants its deployment to go.
func (w *world) rules(n *node.Node) deploy.Rules {
	role, _ := w.inv.Role(n.Role)
	return deploy.RulesOf(role)
}

// liveDir is the kernel argument that says where a node keeps its image, as
// CSM_RELEASE said to set-links, unless the configuration has its own.
func (w *world) liveDir(args string) string {
	s, err := w.tree.Settings()
	if err != nil || s.LiveDir == "" || strings.Contains(args, "rd.live.dir=") {
		return ""
	}
	return " rd.live.dir=" + s.LiveDir
}

// pinned finds a file of the release that a node's boot began with.
func (w *world) pinned(name, release, kind string) (string, error) {
	c, err := w.tree.Boot(name, release)
	file := map[string]string{"kernel": c.Kernel, "initrd": c.Initrd, "rootfs": c.Squashfs}[kind]
	if err == nil && file == "" {
		err = fmt.Errorf("node %q: release %q has no %s: %w", name, release, kind, fs.ErrNotExist)
	}
	return file, err
}

// bootDir looks at a node's boot directory.
func (w *world) bootDir(name string) deploy.BootDir {
	current, err := w.tree.Current(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return deploy.BootDir{Missing: true}
	case err != nil:
		return deploy.BootDir{Problem: err.Error()}
	}
	family, rootfs, err := artifacts.Kind(w.tree.Root(), path.Dir(current.Kernel))
	if err != nil {
		return deploy.BootDir{Problem: err.Error()}
	}
	return deploy.BootDir{Release: current.Release, Family: family, Rootfs: rootfs}
}

// find returns the node that asks over HTTP; nil: it is none.
func (w *world) find(m ipxe.Machine) (n *node.Node) {
	if m.Name != "" {
		n, _ = w.inv.ByName(m.Name)
	} else {
		n, _ = w.inv.Find(m.MAC, m.UUID, m.Serial)
	}
	return n
}

// Find implements dhcp.Machines.
func (w *world) Find(c dhcp.Client) dhcp.Machine {
	if n, ok := w.inv.Find(c.MAC, c.UUID, ""); ok {
		return dhcp.Machine{Name: n.Name, Addr: n.Addr, More: n.More, Options: w.options[n.Name]}
	}
	if n, ok := w.inv.ByBMC(c.MAC); ok {
		return dhcp.Machine{Name: bmcName(n), Addr: n.BMCAddr, BMC: true}
	}
	return dhcp.Machine{}
}

// bmcName is what a site of source 004 calls the BMC of a node.
func bmcName(n *node.Node) string { return n.Name + "-mgmt" }

// name returns what the machine with this address is called; empty: it is not
// in the inventory.
func (w *world) name(mac node.MAC) string { return w.Find(dhcp.Client{MAC: mac}).Name }

// nodeOf returns the node with this name or MAC; nil: there is none.
func (w *world) nodeOf(machine string) *node.Node {
	if n, ok := w.inv.ByName(machine); ok {
		return n
	}
	if mac, err := node.ParseMAC(machine); err == nil {
		n, _ := w.inv.ByMAC(mac)
		return n
	}
	return nil
}

// Reservations implements dhcp.Machines.
func (w *world) Reservations() (all []netip.Addr) {
	for _, n := range w.inv.Nodes() {
		all = append(all, n.Addrs()...)
		if n.BMCAddr.IsValid() {
			all = append(all, n.BMCAddr)
		}
	}
	return all
}

// Boot implements dhcp.Machines. Every client that boots gets the way to its
// script, whatever the decision: the script renders it.
func (w *world) Boot(c dhcp.Client, server netip.Addr) dhcp.Boot {
	if c.Stage == timeline.IPXE {
		return dhcp.Boot{File: ipxe.EntryURL(hostPort(server, w.cfg.HTTP.Port))}
	}
	arch := c.Arch
	if arch == dhcp.ArchUnknown {
		arch = 0 // only BIOS ROMs older than RFC 4578 do not say
	}
	if arch == dhcp.ArchPi {
		if !w.loaders.HasPi() {
			return dhcp.Boot{Problem: "directory " + ipxe.PiDir + " is not in the loaders directory"}
		}
		return dhcp.Boot{File: ipxe.PiFirst}
	}
	loader, ok := w.loaders.For(uint16(arch), w.choice(c))
	switch {
	case loader == "":
		return dhcp.Boot{Problem: "no loader exists for architecture " + arch.String()}
	case !ok:
		return dhcp.Boot{Problem: "loader " + loader + " is not in the loaders directory"}
	case c.Stage == timeline.UEFIHTTP:
		return dhcp.Boot{File: "http://" + hostPort(server, w.cfg.HTTP.Port) + "/boot/" + loader}
	}
	return dhcp.Boot{File: loader}
}

// choice returns which loader a machine gets.
func (w *world) choice(c dhcp.Client) node.Loader {
	n, _ := w.inv.Find(c.MAC, c.UUID, "")
	if c.Loader != node.LoaderAny || w.wanted.has(c.MAC) {
		w.wanted.note(c.MAC, c.Loader)
	}
	return w.loaderOf(n, c.Loader)
}

// loaderOf returns a node's own loader, that of the classes it is of, its
// role's or the site's. nil is a machine that is no node.
func (w *world) loaderOf(n *node.Node, class node.Loader) node.Loader {
	if n == nil {
		return cmp.Or(class, w.cfg.Loader)
	}
	role, _ := w.inv.Role(n.Role)
	return cmp.Or(n.Loader, class, role.Loader, w.cfg.Loader)
}

// toldLoader is loaderOf for a machine that has loaded it: of which classes it
// is shows in what it says over DHCP only.
func (w *world) toldLoader(n *node.Node, mac node.MAC) node.Loader {
	return w.loaderOf(n, w.wanted.of(mac))
}

// serverFor returns us as URLs name us, as a node reaches us; empty: it is not
// known.
func (w *world) serverFor(n *node.Node) string { return w.serverIn(w.cfg.SubnetOf(n)) }

// serverAt returns us as the machine with an address reaches us; empty: no
// subnet has it.
func (w *world) serverAt(a netip.Addr) string { return w.serverIn(w.cfg.SubnetWith(a)) }

func (w *world) serverIn(s *config.Subnet) string {
	if s == nil {
		return ""
	}
	return hostPort(s.Server, w.cfg.HTTP.Port)
}

// hostPort is a server as URLs name it, without a port that need not be said.
func hostPort(a netip.Addr, port uint16) string { return withPort(a.String(), port) }

func withPort(host string, port uint16) string {
	if port == 80 {
		return host
	}
	return host + ":" + strconv.Itoa(int(port))
}
