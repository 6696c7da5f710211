// Package config reads bootd's configuration.
//
// The file is YAML, read strictly: an unknown key, a value of the wrong kind or
// a value that breaks a rule is a fault, and all faults of a file are reported
// at once, in the order of the file, each with its line, its place in the file,
// the value and the rule. A Config that Parse returns has no value left to
// check, except what only the machine it runs on can tell: see Resolve.
//
// Nodes may also be written in nodes.yaml of the state directory, by the same
// rules: the daemon writes that file for commands that change the inventory. A
// key of a node there wins over the same key of the node of that name in the
// configuration file, and nodes that are only there are added. See Draft.
//
// Parse opens no file and reads no clock. A Config is never changed after it
// was made, so goroutines may share it; a reload makes a new one.
//
// Anchors, aliases, tags and merge keys are refused: nothing in this file needs
// them, and they are how a small file becomes a large one.
//
// reference.yaml, beside this file, shows every key; docs/configuration.md
// explains them.
package config

import (
	_ "embed"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"bootd/internal/node"
)

// What a file may hold at most: about 100,000 nodes.
const maxSize = 16 << 20

// Limits of the two lease times (protocol.md 1.8). A booting machine does not
// renew while it downloads, so its lease must outlast the slowest download; an
// address that a machine took only to boot should be free again soon after.
const (
	MinLease     = 5 * time.Minute
	MaxLease     = 30 * 24 * time.Hour
	MinBootLease = 10 * time.Minute
	MaxBootLease = 30 * time.Minute
)

// A Config is a valid configuration. All paths are absolute and clean.
type Config struct {
	Root      string      // web root
	State     string      // directory of leases, timeline and generations; never inside Root
	Loaders   string      // directory of the loaders
	Loader    node.Loader // what firmware is told to load, where neither node nor role say; never zero
	Retries   int         // how often a machine that is to boot asks a server that is gone
	Kernels   Kernels     // what to do where the kernels of two roles differ; zero: warn
	Signers   string      // file of the minisign public keys that count; empty: none
	Log       Log
	Admin     Admin
	HTTP      HTTP
	TFTP      TFTP
	Leases    Leases
	BMC       BMC      // how BMCs are asked; zero: they are not
	Subnets   []Subnet // none: no DHCP is served
	Classes   []Class  // at most MaxClasses; where two say different things of a client, the first wins
	Inventory *node.Inventory

	Registration Registration

	// NodeOptions is what each node is told by DHCP, by its name: its own
	// options, and those of its role that it does not set.
	NodeOptions map[string][]DHCPOption

	from  sources           // for the faults of Resolve, without trees
	flags map[string]string // as from
}

// Kernels is what becomes of a choice of releases whose roles have different
// kernels, which source 004 calls undesirable and some sites have on purpose.
type Kernels uint8

// What may become of it.
const (
	KernelsWarn  Kernels = iota // say so and link
	KernelsOff                  // nothing
	KernelsError                // link no node
)

var kernels = [...]string{KernelsWarn: "warn", KernelsOff: "off", KernelsError: "error"}

// String returns the word used in the configuration.
func (k Kernels) String() string { return kernels[k] }

// A Log says what is logged to standard error, and how.
type Log struct {
	Level  slog.Level // zero: info
	Format Format     // zero: text
}

// A Format is a way to write log lines.
type Format uint8

// The formats.
const (
	Text Format = iota // key=value, for people
	JSON               // one object per line
)

var formats = [...]string{Text: "text", JSON: "json"}

// String returns the word used in the configuration.
func (f Format) String() string { return formats[f] }

// An Admin is the listener of the admin API.
type Admin struct {
	Socket string // path of the unix socket
}

// An HTTP is the listener of the boot plane.
type HTTP struct {
	Port     uint16
	Metadata bool // answer first boots at 169.254.169.254 port 80 too
}

// A TFTP is the TFTP listener.
type TFTP struct {
	Enabled bool // false: nothing listens, and machines without HTTP boot do not boot
	Port    uint16
}

// A Leases says who is told of leases.
type Leases struct {
	File  string   // kept up to date as the lease file of dnsmasq; empty: none
	Hooks []string // programs run when a lease begins or ends, as dnsmasq's --dhcp-script
}

// An Option adds a rule that this package does not know.
type Option func(*builder)

// CheckArgs adds a rule for kernel arguments, of roles and of nodes. The check
// returns why s cannot be used, without naming the place.
func CheckArgs(check func(s string) error) Option {
	return func(b *builder) { b.checkArgs = check }
}

// Parse reads a configuration that is one file. The name is that of the file,
// for messages. An error is a Faults.
func Parse(name string, data []byte, opts ...Option) (*Config, error) {
	return parseMain(name, data, opts).Config()
}

// Load reads the configuration file at path and the file of nodes beside it.
// An error is a Faults, or that of opening or reading a file.
func Load(path string, opts ...Option) (*Config, error) {
	d, err := Open(path, opts...)
	if err != nil {
		return nil, err
	}
	return d.Config()
}

// Default returns the configuration in which every key has its default: no
// subnet, no node, and the built-in roles.
func Default() *Config { return newBuilder(nil).config(raw{}) }

// Flags is a configuration as small as a command line. Empty fields have the
// defaults of the file's keys.
type Flags struct {
	Interface string // --interface, required
	Range     string // --range, such as 10.1.1.100-10.1.1.200, required without Proxy
	Proxy     bool   // --proxy: another server leases the addresses
	Root      string // --root; may be relative to the working directory
	State     string // --state; as Root
	Loaders   string // --loaders; as Root
	Socket    string // --socket; as Root
}

// draftFlags makes of flags what a file would say.
func draftFlags(f Flags, opts ...Option) *Draft {
	root, subnet := place{}, place{}.item("subnets", 0, "")
	s := rawSubnet{Interface: f.Interface, Pools: []string{f.Range}}
	if f.Proxy {
		s.Mode = Proxy.String()
		if f.Range == "" {
			s.Pools = nil
		}
	}
	return &Draft{opts: opts, readable: true, raw: raw{
		Root: absolute(f.Root), State: absolute(f.State), Loaders: absolute(f.Loaders),
		Admin:   rawAdmin{Socket: absolute(f.Socket)},
		Subnets: []rawSubnet{s},
	}, flags: map[string]string{
		root.key("root").String():            "--root",
		root.key("state").String():           "--state",
		root.key("loaders").String():         "--loaders",
		root.key("admin").String():           "--socket",
		root.key("admin", "socket").String(): "--socket",
		subnet.key("interface").String():     "--interface",
		subnet.item("pools", 0, "").String(): "--range",
		subnet.key("pools").String():         "--range",
	}}
}

// absolute leaves "" alone, and a path as it is when there is no working
// directory, which the rules then refuse.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

//go:embed minimal.yaml
var minimal string

// Minimal returns a short, commented file to start from.
func Minimal() []byte { return []byte(minimal) }

// Known is Resolve on a machine that may not be the one it is for: what the
// machine does not know stays as it is, and nothing is checked. It is to show
// something by, not to serve.
func (c *Config) Known(addrs func(iface string) ([]netip.Prefix, error)) *Config {
	known := *c
	known.Subnets = make([]Subnet, len(c.Subnets))
	for i, s := range c.Subnets {
		list, _ := addrs(s.Interface) // none: it is another machine's
		known.Subnets[i] = new(faults).resolve(place{}, s, list)
	}
	return &known
}
