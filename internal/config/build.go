package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"bootd/internal/node"
)

const defaultState = "/var/lib/bootd"

// errMissing is returned when a text that must say something is empty.
var errMissing = errors.New("missing")

// A builder turns raw text into valid types. Its methods take a place, the text
// there and, where the key has one, the default for an empty text; a fault is
// recorded and the zero value returned.
type builder struct {
	faults
	checkArgs func(string) error
	from      sources // of the nodes, for faults that name two
}

func newBuilder(opts []Option) *builder {
	b := &builder{checkArgs: func(string) error { return nil }}
	for _, opt := range opts {
		opt(b)
	}
	return b
}

// config builds the whole configuration. It is only valid without faults.
func (b *builder) config(r raw) *Config {
	top := place{}
	c := &Config{
		Root:    b.path(top.key("root"), r.Root, "/var/www"),
		State:   b.path(top.key("state"), r.State, defaultState),
		Loaders: b.path(top.key("loaders"), r.Loaders, "/usr/lib/ipxe"),
		Loader:  cmp.Or(b.loader(top.key("loader"), r.Loader), node.LoaderSNPOnly),
		Retries: b.number(top.key("retries"), r.Retries, 10, 1, 1000),
		Signers: b.path(top.key("signers"), r.Signers, ""),
		Kernels: Kernels(b.word(top.key("kernels"), r.Kernels, kernels[:]...)),
		Log: Log{
			Level:  [...]slog.Level{slog.LevelInfo, slog.LevelDebug, slog.LevelWarn, slog.LevelError}[b.word(top.key("log", "level"), r.Log.Level, "info", "debug", "warn", "error")],
			Format: Format(b.word(top.key("log", "format"), r.Log.Format, formats[:]...)),
		},
		Admin: Admin{Socket: b.path(top.key("admin", "socket"), r.Admin.Socket, "/run/bootd/bootd.sock")},
		HTTP:  HTTP{Port: b.port(top.key("http", "port"), r.HTTP.Port, 80), Metadata: b.boolean(top.key("http", "metadata"), r.HTTP.Metadata, false)},
		TFTP: TFTP{
			Enabled: b.boolean(top.key("tftp", "enabled"), r.TFTP.Enabled, true),
			Port:    b.port(top.key("tftp", "port"), r.TFTP.Port, 69),
		},
		Leases: b.followers(top.key("leases"), r.Leases),
	}
	c.BMC = b.bmc(top.key("bmc"), r.BMC)
	b.paths(c)
	for i, s := range r.Subnets {
		c.Subnets = append(c.Subnets, b.subnet(top.item("subnets", i, ""), s))
	}
	c.Classes = b.classes(r.Classes)
	c.Inventory = b.inventory(r)
	b.signers(c, r)
	b.insideRoot(c, r)
	b.secretFiles(c, r)
	b.powerOff(c, r)
	c.Registration = b.registration(c, r.Registration)
	c.NodeOptions = b.nodeOptions(r)
	b.subnets(c.Subnets)
	b.poolClasses(c)
	if len(b.list) == 0 {
		b.rooms(c, r.Nodes)
	}
	b.reservations(c.Inventory.Nodes(), c.Subnets)
	return c
}

// paths checks what the paths have to do with each other.
func (b *builder) paths(c *Config) {
	top := place{}
	if c.Root == "/" {
		b.add(top.key("root"), `"/" would serve every file of this host`)
		return
	}
	b.notServed(top.key("state"), c.Root, c.State)
	b.notServed(top.key("admin", "socket"), c.Root, c.Admin.Socket)
	b.notServed(top.key("leases", "file"), c.Root, c.Leases.File)
	// sockaddr_un has 108 bytes, the last of them NUL (unix(7)).
	if n := len(c.Admin.Socket); n > 107 {
		b.add(top.key("admin", "socket"), "%q is %d bytes long: the system allows 107 for a socket", c.Admin.Socket, n)
	}
}

// signers checks that a role that wants signatures can have them checked.
func (b *builder) signers(c *Config, r raw) {
	for i, role := range r.Roles {
		if have, _ := c.Inventory.Role(role.Name); have.Signed && c.Signers == "" {
			b.add(place{}.item("roles", i, role.Name).key("require-signature"), "signers: is missing, so no signature counts")
		}
	}
}

// followers reads who is told of leases.
func (b *builder) followers(at place, r rawLeases) Leases {
	l := Leases{File: b.path(at.key("file"), r.File, "")}
	for i, s := range r.Hooks {
		if s == "" {
			b.add(at.item("hooks", i, ""), "missing")
		}
		l.Hooks = append(l.Hooks, b.path(at.item("hooks", i, ""), s, ""))
	}
	return l
}

// notServed checks that a file or directory, as written, is none that is served;
// "" is none.
func (b *builder) notServed(at place, root, path string) {
	if path != "" && inside(filepath.Clean(path), root) {
		b.add(at, "%q is inside root %q, which is served to everybody", path, root)
	}
}

// inside reports whether path is dir or below it. Both are clean; "" is
// nowhere.
func inside(path, dir string) bool {
	return dir != "" && (path == dir || strings.HasPrefix(path, dir+"/"))
}

// path reads an absolute path, and cleans it.
func (b *builder) path(at place, s, def string) string {
	switch {
	case s == "":
		return def
	case !filepath.IsAbs(s):
		b.add(at, "%q is not an absolute path", s)
		return ""
	}
	return filepath.Clean(s)
}

// port reads a port of TCP or UDP.
func (b *builder) port(at place, s string, def uint16) uint16 {
	if s == "" {
		return def
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		b.add(at, "%q is not a port from 1 to 65535", s)
	}
	return uint16(n)
}

// number reads a whole number from least to most.
func (b *builder) number(at place, s string, def, least, most int) int {
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		b.add(at, "%q is not a number from %d to %d", s, least, most)
	}
	return n
}

// word returns the index of s in words, of which the first is the default.
func (b *builder) word(at place, s string, words ...string) int {
	if s == "" {
		return 0
	}
	for i, w := range words {
		if s == w {
			return i
		}
	}
	b.add(at, "%q is not one of %s", s, strings.Join(words, ", "))
	return 0
}

// boolean reads true or false.
func (b *builder) boolean(at place, s string, def bool) bool {
	switch s {
	case "":
		return def
	case "true":
		return true
	case "false":
		return false
	}
	b.add(at, "%q is not true or false", s)
	return false
}

// addr reads an IPv4 address; "" is none.
func (b *builder) addr(at place, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := parseAddr(s)
	if err != nil {
		b.add(at, "%v", err)
	}
	return a
}

// addrs reads the addresses that a DHCP option lists.
func (b *builder) addrs(at place, name string, list []string) (out []netip.Addr) {
	// A reply must fit 548 bytes with everything else in it (protocol.md 0).
	const most = 8
	if len(list) > most {
		b.add(at.key(name), "%d addresses: a DHCP reply has room for %d", len(list), most)
	}
	for i, s := range list {
		a, err := parseAddr(s)
		if s == "" {
			err = errMissing
		}
		if err == nil && a.IsUnspecified() {
			err = fmt.Errorf("%q is not the address of a machine", s)
		}
		if err != nil {
			b.add(at.item(name, i, ""), "%v", err)
		}
		out = append(out, a)
	}
	return out
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address such as 10.1.0.1", s)
	}
	return a, nil
}

// duration reads a lease time, which DHCP counts in seconds.
func (b *builder) duration(at place, s string, def, least, most time.Duration) time.Duration {
	if s == "" {
		return def
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		b.add(at, "%q is not a time such as 20m or 1h30m", s)
	case d < least:
		b.add(at, "%q is shorter than %s", s, short(least))
	case d > most:
		b.add(at, "%q is longer than %s", s, short(most))
	case d%time.Second != 0:
		b.add(at, "%q is not a whole number of seconds", s)
	}
	return d
}

// short is d without the zero minutes and seconds of String.
func short(d time.Duration) string {
	s := d.String()
	if d%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if d%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// dnsRule is a host name (RFC 1123, section 2.1); lengths are checked apart.
var dnsRule = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)

func isDNSName(s string) bool { return len(s) <= 253 && dnsRule.MatchString(s) }

func notDNSName(s string) error { return fmt.Errorf("%q is not a DNS name such as mtl.example.net", s) }

func (b *builder) domain(at place, s string) string {
	if s != "" && !isDNSName(s) {
		b.add(at, "%v", notDNSName(s))
	}
	return strings.ToLower(s)
}

// elementRule is a path element that is safe in a URL and on a kernel command
// line.
var elementRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)

// element reads a name that becomes one element of a path.
func (b *builder) element(at place, s string) string {
	if s != "" && (!elementRule.MatchString(s) || strings.Contains(s, "..")) {
		b.add(at, "%q is not one plain path element (letters, digits, . _ + -, no \"..\")", s)
	}
	return s
}

func (b *builder) args(at place, s string) string {
	if s == "" {
		return ""
	}
	if err := b.checkArgs(s); err != nil {
		b.add(at, "%s", strings.TrimPrefix(err.Error(), "args: ")) // which the place says
	}
	return s
}

// iface reads the name of a network interface, as the kernel's dev_valid_name
// allows it. Whether there is one is not known here.
func (b *builder) iface(at place, s string) string {
	switch {
	case s == "":
		b.add(at, "missing")
	case len(s) > 15, s == ".", s == "..", strings.ContainsAny(s, "/: "):
		b.add(at, "%q is not the name of an interface such as eth1", s)
	}
	return s
}
