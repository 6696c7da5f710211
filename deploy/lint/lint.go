// Package lint says what is wrong with a configuration of Kairos or Palette
// Edge before a machine is given it.
//
// These systems do not say: a stage whose name nobody knows is skipped, a
// document without its header configures nothing, a project that does not
// exist never registers. So each rule here is one that somebody lost a day to;
// palette.md 2.3 has where they come from. A message has the value, the rule
// and what to write instead. Values that can be secrets are not in it.
package lint

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"bootd/internal/yamltree"
)

// A Fault is one thing that is wrong with a document.
type Fault struct {
	Line, Column int // from 1; zero: the whole document
	Problem      string
	Warning      bool // the document works, or may
	Fixable      bool // Fix corrects it
}

// Context is what is known of the machine that gets the document.
type Context struct {
	Install bool // the installer gets it, and keeps all of it on the disk
	Disks   int  // how many the machine has; zero: not known
}

// Kairos returns everything that is wrong with a document, in its order.
func Kairos(content string, c Context) []Fault {
	l := &linter{context: c}
	l.header(content)
	root, err := yamltree.Parse(content)
	if err != nil {
		return l.broken(err)
	}
	if root.Kind != yamltree.Map {
		l.add(root.Position, "%v, where the document must be keys and values", root.Kind)
		return l.faults
	}
	l.shape("", root, document)
	l.install(root.Get("install"))
	l.site(root.Get("stylus", "site"))
	l.stages(root.Get("stages"))
	l.secrets("", root)
	slices.SortStableFunc(l.faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return l.faults
}

// IsInstall reports whether a document has something to say to an installer.
func IsInstall(content string) bool {
	root, err := yamltree.Parse(content)
	return err == nil && root.Get("install") != nil
}

type linter struct {
	context Context
	faults  []Fault
}

func (l *linter) add(at yamltree.Position, format string, args ...any) {
	l.faults = append(l.faults, Fault{Line: at.Line, Column: at.Column, Problem: fmt.Sprintf(format, args...)})
}

func (l *linter) warn(at yamltree.Position, format string, args ...any) {
	l.add(at, format, args...)
	l.faults[len(l.faults)-1].Warning = true
}

// fixable marks the fault that was added last.
func (l *linter) fixable() { l.faults[len(l.faults)-1].Fixable = true }

func (l *linter) broken(err error) []Fault {
	var at yamltree.Position
	problem := err.Error()
	if e, ok := err.(*yamltree.Error); ok {
		at, problem = e.Position, e.Problem
	}
	l.add(at, "%s", problem)
	return l.faults
}

// Headers are the lines of which the agent wants one among the first ten.
var Headers = []string{"#cloud-config", "#kairos-config", "#node-config"}

func (l *linter) header(content string) {
	lines := strings.SplitN(content, "\n", 11)
	lines = lines[:min(len(lines), 10)]
	if slices.ContainsFunc(lines, func(s string) bool { return slices.Contains(Headers, strings.TrimRight(s, " \t\r")) }) {
		return
	}
	l.add(yamltree.Position{Line: 1, Column: 1}, "none of the first 10 lines is #cloud-config: the agent ignores such a document without a word")
	l.fixable()
}

// shape compares a value with what it should look like.
func (l *linter) shape(path string, n *yamltree.Node, s shape) {
	if s.kind == yamltree.Null || n.Kind == yamltree.Opaque {
		return
	}
	if n.Kind != s.kind {
		l.add(n.Position, "%s: %s, where %v is wanted%s", path, n.Kind, s.kind, quoting(n, s))
		return
	}
	for i, item := range n.Items {
		l.shape(fmt.Sprintf("%s[%d]", path, i), item, *s.item)
	}
	seen := map[string]int{}
	for _, k := range n.Keys {
		below := strings.TrimPrefix(path+"."+k.Name, ".")
		if first, twice := seen[k.Name]; twice {
			l.add(k.Position, "%s: key is there twice, first on line %d: only one of them counts", below, first)
		}
		seen[k.Name] = k.Line
		switch known, ok := s.keys[k.Name]; {
		case s.keys == nil:
			l.shape(below, k.Value, *s.item)
		case ok:
			l.shape(below, k.Value, known)
		case k.Name == "registryCredentials":
			l.add(k.Position, "%s: registryCredentials belongs below stylus: here nothing reads it", below)
			l.fixable()
		case s.open && yamltree.Nearest(k.Name, s.names()) == "":
			l.warn(k.Position, "unknown key %.60q", below)
		default:
			l.add(k.Position, "unknown key %.60q%s", below, yamltree.Meant(k.Name, s.names()))
		}
	}
}

// quoting is the hint for a text that YAML takes for something else.
func quoting(n *yamltree.Node, s shape) string {
	if s.kind == yamltree.String && slices.Contains([]yamltree.Kind{yamltree.Int, yamltree.Float, yamltree.Bool}, n.Kind) {
		return ": put it in quotes"
	}
	return ""
}

// deviceRule is that of Kairos' schema (install_schema.go).
var deviceRule = regexp.MustCompile(`^(auto|/dev/.+|script://.+)$`)

func (l *linter) install(n *yamltree.Node) {
	if n == nil {
		return
	}
	switch d := n.Get("device"); {
	case d == nil || d.Kind != yamltree.String:
	case !deviceRule.MatchString(d.Text):
		l.add(d.Position, "install.device: %q is not auto, a path below /dev or script://FILE", d.Text)
	case strings.HasPrefix(d.Text, "/dev/disk/by-partlabel"), strings.HasPrefix(d.Text, "/dev/disk/by-partuuid"):
		l.add(d.Position, "install.device: %q is a partition, where a disk is wanted", d.Text)
	case d.Text == "auto" && l.context.Disks > 1:
		l.add(d.Position, "install.device: auto takes the largest disk, and this machine has %d: name the disk, such as /dev/disk/by-id/...", l.context.Disks)
	case d.Text == "auto" && l.context.Disks == 0:
		l.warn(d.Position, "install.device: auto takes the largest disk: on a machine with several name the one, such as /dev/disk/by-id/...")
	}
	if off := n.Get("poweroff"); isTrue(off) && isTrue(n.Get("reboot")) {
		l.add(off.Position, "install.poweroff: true, and install.reboot too: only one of them can be")
	}
	l.sizes(n.Get("extra-partitions"))
}

func isTrue(n *yamltree.Node) bool {
	return n != nil && n.Kind == yamltree.Bool && strings.EqualFold(n.Text, "true")
}

// sizes checks that only the last partition takes the rest of the disk.
func (l *linter) sizes(n *yamltree.Node) {
	if n == nil {
		return
	}
	for i, p := range n.Items {
		if size := p.Get("size"); size != nil && size.Text == "0" && i < len(n.Items)-1 {
			l.add(size.Position, "install.extra-partitions[%d].size: 0 is the rest of the disk, which only the last one can have", i)
		}
	}
}

// hostIDBad are the characters that Palette refuses in the id of a host.
const hostIDBad = "/?#&+%,$~!@*(){}|=;:<>'.^\" "

// CheckHostID says what is wrong with the id of an edge host; empty: nothing.
func CheckHostID(id string) string {
	if i := strings.IndexAny(id, hostIDBad); i >= 0 && id != "$random" {
		return fmt.Sprintf("%.60q has the character %q, which Palette refuses in the id of a host", id, id[i])
	}
	if len(id) > 128 {
		return fmt.Sprintf("%.20q... has %d characters: Palette cuts it after 128", id, len(id))
	}
	return ""
}

func (l *linter) site(n *yamltree.Node) {
	if n == nil {
		return
	}
	if name := n.Get("name"); name != nil && name.Kind == yamltree.String {
		if problem := CheckHostID(name.Text); problem != "" {
			l.add(name.Position, "stylus.site.name: %s", problem)
		}
	}
	if e := n.Get("paletteEndpoint"); e != nil && strings.Contains(e.Text, "://") {
		l.add(e.Position, "stylus.site.paletteEndpoint: %q is a URL, where a host or host:port is wanted", e.Text)
	}
	if name, uid := n.Get("projectName"), n.Get("projectUid"); name != nil && uid != nil {
		l.add(uid.Position, "stylus.site.projectUid: projectName is there too: only one of them can be")
	}
	if certs := n.Get("caCerts"); certs != nil {
		for i, cert := range certs.Items {
			if problem := CheckCertificate(cert.Text); problem != "" {
				l.add(cert.Position, "stylus.site.caCerts[%d]: %s", i, problem)
			}
		}
	}
	l.network(n.Get("network"))
}

// CheckCertificate says what is wrong with a certificate, which is PEM or that
// in base64; empty: nothing.
func CheckCertificate(s string) string {
	if block, _ := pem.Decode([]byte(s)); block != nil && block.Type == "CERTIFICATE" {
		return ""
	}
	if _, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), "")); err == nil && strings.TrimSpace(s) != "" {
		return ""
	}
	return "neither PEM (-----BEGIN CERTIFICATE-----) nor base64"
}

func (l *linter) network(n *yamltree.Node) {
	const path = "stylus.site.network"
	if n == nil {
		return
	}
	interfaces := n.Get("interfaces")
	for _, key := range []string{"type", "ipAddress", "mask", "gateway"} {
		if v := n.Get(key); v != nil && interfaces != nil {
			l.add(v.Position, "%s.%s: the old flat form beside interfaces: nothing reads it", path, key)
		}
	}
	if interfaces == nil {
		if v := n.Get("type"); v != nil {
			l.warn(v.Position, "%s: the old flat form: Palette 4 wants it below interfaces.NIC", path)
			l.fixable()
		}
		l.nic(path, n)
		return
	}
	for _, k := range interfaces.Keys {
		l.nic(path+".interfaces."+k.Name, k.Value)
	}
}

// nic checks the addresses of an interface: what static needs, and that the
// gateway can be reached.
func (l *linter) nic(path string, n *yamltree.Node) {
	kind := n.Get("type")
	if kind == nil || kind.Kind != yamltree.String {
		return
	}
	if kind.Text != "dhcp" && kind.Text != "static" {
		l.add(kind.Position, "%s.type: %q is not dhcp or static", path, kind.Text)
	}
	if kind.Text != "static" {
		return
	}
	address, mask, gateway := n.Get("ipAddress"), n.Get("mask"), n.Get("gateway")
	for _, x := range []struct {
		name string
		n    *yamltree.Node
	}{{"ipAddress", address}, {"gateway", gateway}} {
		if x.n == nil || x.n.Text == "" {
			l.add(kind.Position, "%s.type: static without %s", path, x.name)
		}
	}
	if address == nil || address.Text == "" {
		return
	}
	prefix, problem := Prefix(address.Text, textOf(mask))
	if problem != "" {
		l.add(address.Position, "%s.ipAddress: %s", path, problem)
		return
	}
	if gateway == nil || gateway.Text == "" {
		return
	}
	gw, err := netip.ParseAddr(gateway.Text)
	switch {
	case err != nil:
		l.add(gateway.Position, "%s.gateway: %q is not an address", path, gateway.Text)
	case !prefix.Contains(gw):
		l.add(gateway.Position, "%s.gateway: %v is not in %v, so it cannot be reached", path, gw, prefix.Masked())
	case gw == prefix.Addr():
		l.add(gateway.Position, "%s.gateway: %v is the address of the interface itself", path, gw)
	}
}

func textOf(n *yamltree.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

// Prefix reads an address with its mask: 10.0.0.4/24, or 10.0.0.4 with
// 255.255.255.0 or 24. The problem is empty when that is one.
func Prefix(address, mask string) (p netip.Prefix, problem string) {
	if p, err := netip.ParsePrefix(address); err == nil {
		if mask != "" && bits(mask) != p.Bits() {
			return p, fmt.Sprintf("%q has another prefix than mask %q", address, mask)
		}
		return p, ""
	}
	a, err := netip.ParseAddr(address)
	switch n := bits(mask); {
	case err != nil:
		return p, fmt.Sprintf("%q is not an address", address)
	case mask == "":
		return p, fmt.Sprintf("%q without a prefix, as in %s/24, and without mask", address, address)
	case n < 0:
		return p, fmt.Sprintf("mask %q is not one", mask)
	default:
		return netip.PrefixFrom(a, n), ""
	}
}

// bits returns the length of a mask: 24, /24 or 255.255.255.0; -1: it is none.
func bits(mask string) int {
	mask = strings.TrimPrefix(mask, "/")
	if p, err := netip.ParsePrefix("0.0.0.0/" + mask); err == nil {
		return p.Bits()
	}
	a, err := netip.ParseAddr(mask)
	if err != nil || !a.Is4() {
		return -1
	}
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for ; v&(1<<31) != 0; v <<= 1 {
		n++
	}
	if v != 0 {
		return -1
	}
	return n
}

// stages checks the names of stages, which yip skips when it does not know
// them, and the steps.
func (l *linter) stages(n *yamltree.Node) {
	if n == nil {
		return
	}
	if n.Kind != yamltree.Map {
		l.add(n.Position, "stages: %v, where keys and values are wanted", n.Kind)
		return
	}
	for _, k := range n.Keys {
		name, skip := strings.CutPrefix(k.Name, "skip-copy-")
		if skip && l.context.Install {
			l.add(k.Position, "stages: %q: skip-copy- counts in the site's document only: the installer keeps this stage on the disk", k.Name)
		}
		if !slices.Contains(stages, name) {
			l.add(k.Position, "stages: %q is no stage, and a stage that nobody knows is skipped without a word%s", k.Name, stageHint(name))
		}
		if k.Value.Kind != yamltree.Null {
			l.shape("stages."+k.Name, k.Value, list(step))
		}
	}
}

func stageHint(name string) string {
	if s, ok := stageMeant[name]; ok {
		return fmt.Sprintf(": did you mean %q?", s)
	}
	if s := yamltree.Nearest(name, stages); s != "" {
		return fmt.Sprintf(": did you mean %q?", s)
	}
	return ": known are rootfs, initramfs, boot, fs, network, reconcile with .before and .after, before- and after-install, -upgrade and -reset, and kairos-install.pre"
}

// secretKeys are those whose values nobody else may read.
var secretKeys = []string{"edgeHostToken", "passwd", "password", "encodedPassword", "plain_text_passwd", "hashed_passwd", "registration_token", "network_token"}

// Redacted marks the place of a secret in a document that is only shown.
const Redacted = "<secret:"

// secrets finds what the installer would keep on the disk for everybody with
// the disk: it copies its whole document to /oem/90_custom.yaml.
func (l *linter) secrets(path string, n *yamltree.Node) {
	if !l.context.Install {
		return
	}
	if n.Kind == yamltree.String && strings.Contains(n.Text, Redacted) {
		l.add(n.Position, "%s: a secret in the document of the installer, which keeps it in /oem/90_custom.yaml: put it into the site's document", path)
		return
	}
	for i, item := range n.Items {
		l.secrets(fmt.Sprintf("%s[%d]", path, i), item)
	}
	for _, k := range n.Keys {
		below := strings.TrimPrefix(path+"."+k.Name, ".")
		if v := k.Value; slices.Contains(secretKeys, k.Name) && v.Text != "" && !strings.Contains(v.Text, Redacted) {
			l.add(k.Position, "%s: a secret in the document of the installer, which keeps it in /oem/90_custom.yaml: put it into the site's document", below)
			continue
		}
		l.secrets(below, k.Value)
	}
}
