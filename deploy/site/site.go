// Package site turns the settings of a site into the two documents of a Kairos
// or Palette Edge host, so that nobody has to write them: the one that its
// installer gets, and the one for its first boot.
//
// The settings are one file of YAML for all hosts, with what is different for
// one below nodes:. It is strict: an unknown key, a wrong type or a value that
// cannot be is an error with its line and column. Names are the vendor's where
// there are any.
//
// What the installer gets stays on the disk in the clear, so no secret goes
// into it, and nothing that makes one host differ from the others.
package site

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"bootd/deploy/lint"
	"bootd/internal/yamltree"
)

// Settings are what the documents of a host say. The zero value of a field
// means that it is not said.
type (
	Settings struct {
		PaletteEndpoint     string            `yaml:"paletteEndpoint"`     // host or host:port
		EdgeHostToken       Secret            `yaml:"edgeHostToken"`       // registration token of the tenant
		Name                string            `yaml:"name"`                // id of the edge host; default: the name of the node
		HostName            string            `yaml:"hostName"`            // default: the name of the node
		Tags                map[string]string `yaml:"tags"`                // of the edge host
		RegistrationURL     string            `yaml:"registrationURL"`     // behind the QR code on the console
		ProjectName         string            `yaml:"projectName"`         // or
		ProjectUID          string            `yaml:"projectUid"`          // this one
		CACerts             []string          `yaml:"caCerts"`             // PEM, or that in base64
		InsecureSkipVerify  bool              `yaml:"insecureSkipVerify"`  //
		DisableAutoRegister bool              `yaml:"disableAutoRegister"` //
		ManagementMode      string            `yaml:"managementMode"`      // central or local
		NTPServers          []string          `yaml:"ntpServers"`          // default: those of the subnet
		RegistryCredentials *Registry         `yaml:"registryCredentials"` //
		Network             Network           `yaml:"network"`             //
		Users               map[string]User   `yaml:"users"`               //
		Install             Install           `yaml:"install"`             //
	}
	// Registry is one registry of images.
	Registry struct {
		Domain   string `yaml:"domain"`
		Username string `yaml:"username"`
		Password Secret `yaml:"password"`
		Insecure bool   `yaml:"insecure"`
	}
	// Network is that of the host, in the old flat form, or by interface, or a
	// bond.
	Network struct {
		Type       string         `yaml:"type"`      // dhcp or static, of the only interface or the bond; default: dhcp
		IPAddress  string         `yaml:"ipAddress"` // with its prefix, or with mask; default: that of the node
		Mask       string         `yaml:"mask"`
		Gateway    string         `yaml:"gateway"`    // default: that of the subnet
		Nameserver []string       `yaml:"nameserver"` // default: those of the subnet
		HTTPProxy  string         `yaml:"httpProxy"`
		HTTPSProxy string         `yaml:"httpsProxy"`
		NoProxy    string         `yaml:"noProxy"`
		Interfaces map[string]NIC `yaml:"interfaces"`
		Bond       *Bond          `yaml:"bond"`
	}
	// NIC is one interface.
	NIC struct {
		Type       string `yaml:"type"`
		IPAddress  string `yaml:"ipAddress"`
		Mask       string `yaml:"mask"`
		Gateway    string `yaml:"gateway"`
		Nameserver string `yaml:"nameserver"`
	}
	// Bond is several NICs as one interface, and a bridge over it.
	Bond struct {
		Name       string   `yaml:"name"`       // default: bond0
		Members    []string `yaml:"members"`    // names or MACs of the NICs
		Mode       string   `yaml:"mode"`       // default: 802.3ad, which is LACP
		LACPRate   string   `yaml:"lacpRate"`   // slow or fast; default: fast
		HashPolicy string   `yaml:"hashPolicy"` // default: layer3+4
		Bridge     string   `yaml:"bridge"`     // over the bond; empty: none
	}
	// User is one user of the installed system.
	User struct {
		Passwd Secret   `yaml:"passwd"`
		Groups []string `yaml:"groups"`
		Keys   []string `yaml:"ssh_authorized_keys"`
	}
	// Install is what the installer does.
	Install struct {
		Device   string `yaml:"device"` // disk, such as /dev/sda
		Poweroff bool   `yaml:"poweroff"`
		Reboot   bool   `yaml:"reboot"`
		Cmdline  string `yaml:"cmdline"` // kernel arguments of the installed system
		Wipe     *Wipe  `yaml:"wipe"`
	}
	// Wipe is which disks lose all they have.
	Wipe struct {
		LargerThan Size     `yaml:"largerThan"` // those that are larger; not the one of install.device
		Spare      []string `yaml:"spare"`      // nor these
		OnReset    bool     `yaml:"onReset"`    // when the system is reset too, whenever that is
	}
)

// A File is the settings of a site.
type File struct {
	name  string
	base  *yamltree.Node
	nodes []yamltree.Key // by their names
}

// Parse reads the text of a file of that name. The error joins a *Fault for
// each thing that is wrong with it.
func Parse(name, text string) (*File, error) {
	root, err := yamltree.Parse(text)
	if err != nil {
		f := &Fault{File: name, Problem: err.Error()}
		if e, ok := err.(*yamltree.Error); ok {
			f.Line, f.Column, f.Problem = e.Line, e.Column, e.Problem
		}
		return nil, f
	}
	if root.Kind != yamltree.Map {
		return nil, &Fault{name, 1, 1, fmt.Sprintf("%v, where keys and values are wanted", root.Kind)}
	}
	f := &File{name: name}
	base := *root
	base.Keys = nil
	for _, k := range root.Keys {
		if k.Name != "nodes" {
			base.Keys = append(base.Keys, k)
			continue
		}
		if k.Value.Kind != yamltree.Map {
			return nil, &Fault{name, k.Line, k.Column, fmt.Sprintf("nodes: %v, where names of nodes are wanted", k.Value.Kind)}
		}
		f.nodes = k.Value.Keys
	}
	f.base = &base
	return f, nil
}

// Strangers returns a *Fault for each name below nodes: that is no node's: a
// host that was meant would get the settings of all without a word.
func (f *File) Strangers(isNode func(name string) bool) (errs []error) {
	for _, n := range f.nodes {
		if !isNode(n.Name) {
			errs = append(errs, &Fault{f.name, n.Line, n.Column, fmt.Sprintf("nodes: %q is not a node of the inventory", n.Name)})
		}
	}
	return errs
}

// A Machine is what is known of the host from elsewhere.
type Machine struct {
	Name   string
	Domain string       // empty: none
	Addr   netip.Prefix // its address with the length of its subnet; zero: not known
	Router netip.Addr   // zero: not known
	DNS    []string
	NTP    []string
	Server string // host or host:port of this server; empty: no check-ins
	Wipe   bool   // the wipe is armed
}

// For returns the settings of a machine, with what is known of it filled in.
// The error joins a *Fault for each thing that is wrong.
func (f *File) For(m Machine) (Settings, error) {
	d := &decoder{file: f.name, at: map[string]yamltree.Position{}}
	var s Settings
	d.value("", f.base, reflect.ValueOf(&s).Elem())
	for _, n := range f.nodes {
		if n.Name == m.Name {
			d.value("", n.Value, reflect.ValueOf(&s).Elem())
		}
	}
	if d.faults != nil {
		return s, errors.Join(d.faults...)
	}
	s.fill(m)
	s.check(d)
	return s, errors.Join(d.faults...)
}

// fill puts what is known of the machine where nothing else is said.
func (s *Settings) fill(m Machine) {
	s.Name, s.HostName = cmp.Or(s.Name, m.Name), cmp.Or(s.HostName, m.Name)
	if s.NTPServers == nil {
		s.NTPServers = m.NTP
	}
	n := &s.Network
	if len(n.Nameserver) == 0 {
		n.Nameserver = m.DNS
	}
	if n.Type == "static" && n.IPAddress == "" && m.Addr.IsValid() {
		n.IPAddress = m.Addr.String()
	}
	if n.Type == "static" && n.Gateway == "" && m.Router.IsValid() {
		n.Gateway = m.Router.String()
	}
	if b := n.Bond; b != nil {
		b.Name, b.Mode = cmp.Or(b.Name, "bond0"), cmp.Or(b.Mode, "802.3ad")
		b.LACPRate, b.HashPolicy = cmp.Or(b.LACPRate, "fast"), cmp.Or(b.HashPolicy, "layer3+4")
	}
}

// bondModes are those of systemd.netdev(5).
var bondModes = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}

func (s *Settings) check(d *decoder) {
	if problem := lint.CheckHostID(s.Name); problem != "" {
		d.addAt("name", "%s", problem)
	}
	if s.ProjectName != "" && s.ProjectUID != "" {
		d.addAt("projectUid", "projectName is there too: only one of them can be")
	}
	if strings.Contains(s.PaletteEndpoint, "://") {
		d.addAt("paletteEndpoint", "%q is a URL, where a host or host:port is wanted", s.PaletteEndpoint)
	}
	if s.ManagementMode != "" && s.ManagementMode != "central" && s.ManagementMode != "local" {
		d.addAt("managementMode", "%q is not central or local", s.ManagementMode)
	}
	for i, c := range s.CACerts {
		if problem := lint.CheckCertificate(c); problem != "" {
			d.addAt(fmt.Sprintf("caCerts[%d]", i), "%s", problem)
		}
	}
	s.Install.check(d)
	s.Network.check(d)
}

func (i *Install) check(d *decoder) {
	switch {
	case i.Poweroff && i.Reboot:
		d.addAt("install.reboot", "true, and install.poweroff too: only one of them can be")
	case i.Device != "" && i.Device != "auto" && !strings.HasPrefix(i.Device, "/dev/") && !strings.HasPrefix(i.Device, "script://"):
		d.addAt("install.device", "%q is not auto, a path below /dev or script://FILE", i.Device)
	}
	if i.Wipe == nil {
		return
	}
	if !strings.HasPrefix(i.Device, "/dev/") {
		d.addAt("install.wipe", "install.device has to name the disk that is spared, such as /dev/sda")
	}
	if i.Wipe.LargerThan == 0 {
		d.addAt("install.wipe.largerThan", "missing")
	}
	for j, path := range append([]string{i.Device}, i.Wipe.Spare...) {
		at := "install.device"
		if j > 0 {
			at = fmt.Sprintf("install.wipe.spare[%d]", j-1)
		}
		if !deviceRule(path) {
			d.addAt(at, "%q is not the path of a disk, of letters, digits and ._:/@+-", path)
		}
	}
}

// deviceRule reports whether a path can stand in a script as it is.
func deviceRule(path string) bool {
	return strings.HasPrefix(path, "/dev/") && !strings.ContainsFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:/@+-", r))
	})
}

func (n *Network) check(d *decoder) {
	if n.Type != "" && n.Type != "dhcp" && n.Type != "static" {
		d.addAt("network.type", "%q is not dhcp or static", n.Type)
	}
	if n.Bond != nil && len(n.Interfaces) > 0 {
		d.addAt("network.bond", "interfaces is there too: only one of them can be")
	}
	if len(n.Interfaces) > 0 && n.Type != "" {
		d.addAt("network.type", "interfaces is there too: the type belongs to each of them")
	}
	checkStatic(d, "network", NIC{n.Type, n.IPAddress, n.Mask, n.Gateway, ""})
	for _, name := range slices.Sorted(maps.Keys(n.Interfaces)) {
		checkStatic(d, "network.interfaces."+name, n.Interfaces[name])
	}
	if n.Bond != nil {
		n.Bond.check(d)
	}
}

// checkStatic is the rule of source 002: static needs address, mask and
// gateway, and the gateway has to be in reach.
func checkStatic(d *decoder, path string, n NIC) {
	if n.Type != "static" {
		return
	}
	for _, x := range []struct{ key, value string }{{"ipAddress", n.IPAddress}, {"gateway", n.Gateway}} {
		if x.value == "" {
			d.addAt(path+".type", "static without %s", x.key)
		}
	}
	if n.IPAddress == "" {
		return
	}
	p, problem := lint.Prefix(n.IPAddress, n.Mask)
	gateway, err := netip.ParseAddr(n.Gateway)
	switch {
	case problem != "":
		d.addAt(path+".ipAddress", "%s", problem)
	case n.Gateway == "":
	case err != nil:
		d.addAt(path+".gateway", "%q is not an address", n.Gateway)
	case !p.Contains(gateway):
		d.addAt(path+".gateway", "%v is not in %v, so it cannot be reached", gateway, p.Masked())
	case gateway == p.Addr():
		d.addAt(path+".gateway", "%v is the address of the host itself", gateway)
	}
}

func (b *Bond) check(d *decoder) {
	if len(b.Members) == 0 {
		d.addAt("network.bond.members", "missing")
	}
	if !slices.Contains(bondModes, b.Mode) {
		d.addAt("network.bond.mode", "%q is not one of %s", b.Mode, strings.Join(bondModes, ", "))
	}
	if b.LACPRate != "fast" && b.LACPRate != "slow" {
		d.addAt("network.bond.lacpRate", "%q is not fast or slow", b.LACPRate)
	}
	for _, x := range []struct{ key, value string }{{"name", b.Name}, {"bridge", b.Bridge}} {
		if x.value != "" && !interfaceRule(x.value) {
			d.addAt("network.bond."+x.key, "%q is not the name of an interface", x.value)
		}
	}
	for i, m := range b.Members {
		if isMAC(m) != isMAC(b.Members[0]) {
			d.addAt(fmt.Sprintf("network.bond.members[%d]", i), "%q: either all members are names or all are MACs", m)
		}
		if !interfaceRule(m) && !isMAC(m) {
			d.addAt(fmt.Sprintf("network.bond.members[%d]", i), "%q is neither the name of an interface nor a MAC", m)
		}
	}
}

// interfaceRule reports whether Linux takes s for the name of an interface and
// a file can be called so.
func interfaceRule(s string) bool {
	return len(s) <= 15 && s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}
