package site

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"bootd/deploy/lint"
	"bootd/internal/node"
)

// mapping is keys and values in their order.
type mapping = yaml.MapSlice

// document collects keys that say something.
type document mapping

func (d *document) set(key string, value any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case bool:
		if !v {
			return
		}
	case []string:
		if len(v) == 0 {
			return
		}
	case document:
		if len(v) == 0 {
			return
		}
		value = mapping(v)
	}
	*d = append(*d, yaml.MapItem{Key: key, Value: value})
}

func (d document) text() ([]byte, error) {
	body, err := yaml.MarshalWithOptions(mapping(d), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("settings have no form in YAML: %v", err)
	}
	return append([]byte("#cloud-config\n"), body...), nil
}

// InstallDocument returns the document of the installer: what it does with the disks,
// the bond, where the host registers, and that it says when it is through. It
// holds no secret.
func (s Settings) InstallDocument(m Machine) ([]byte, error) {
	var install, site, doc document
	install.set("auto", true)
	install.set("device", s.Install.Device)
	install.set("poweroff", s.Install.Poweroff)
	install.set("reboot", s.Install.Reboot)
	install.set("nousers", true) // users come with the first boot: Kairos 3.3 insists on one otherwise
	if s.Install.Cmdline != "" {
		install.set("grub_options", mapping{{Key: "extra_cmdline", Value: s.Install.Cmdline}})
	}
	site.set("paletteEndpoint", s.PaletteEndpoint)
	site.set("registrationURL", s.RegistrationURL)
	site.set("projectName", s.ProjectName)
	site.set("projectUid", s.ProjectUID)
	site.set("caCerts", s.CACerts)
	site.set("insecureSkipVerify", s.InsecureSkipVerify)
	doc.set("install", install)
	if stylus := s.stylus(site); len(stylus) > 0 {
		doc.set("stylus", stylus)
	}
	doc.set("stages", s.installStages(m))
	return doc.text()
}

// stylus is the key of Palette's agent; empty: the host is plain Kairos.
func (s Settings) stylus(site document) (stylus document) {
	stylus.set("managementMode", s.ManagementMode)
	stylus.set("site", site)
	return stylus
}

func (s Settings) installStages(m Machine) (stages document) {
	wipe := s.Install.Wipe
	if wipe != nil && m.Wipe {
		stages.set("before-install", []any{step("wipe large disks", s.wipeScript())})
	}
	if wipe != nil && wipe.OnReset {
		stages.set("before-reset", []any{step("wipe large disks", s.wipeScript())})
	}
	if files := s.Network.installFiles(); len(files) > 0 {
		stages.set("initramfs", []any{mapping{{Key: "name", Value: "network"}, {Key: "files", Value: files}}})
	}
	if m.Server != "" {
		stages.set("after-install", []any{step("tell the boot server", checkIn(m.Server, "installed"))})
	}
	return stages
}

func step(name, script string) mapping {
	return mapping{{Key: "name", Value: name}, {Key: "commands", Value: []string{script}}}
}

// checkIn is a line that tells the server, and does not mind when it is gone.
func checkIn(server, kind string) string {
	return fmt.Sprintf("curl -fsS --max-time 10 --retry 3 --retry-connrefused -X POST http://%s/checkin/%s || true", server, kind)
}

// wipeScript overwrites the disks that are larger than a size, with the
// exception of the one that the system is installed on: by its size alone
// source 000 would lose that one too on a host whose boot disk is large.
func (s Settings) wipeScript() string {
	w := s.Install.Wipe
	var b strings.Builder
	b.WriteString("spare=\"\"\n")
	fmt.Fprintf(&b, "for disk in %s; do\n", strings.Join(append([]string{s.Install.Device}, w.Spare...), " "))
	b.WriteString("  real=$(readlink -f \"$disk\")\n")
	b.WriteString("  [ -b \"$real\" ] || { echo \"no disk is wiped: $disk, which is to be spared, is not there\" >&2; exit 1; }\n")
	b.WriteString("  spare=\"$spare $real \"\ndone\n")
	b.WriteString("lsblk -bdnpo NAME,SIZE,TYPE,RO | while read -r disk size type ro; do\n")
	fmt.Fprintf(&b, "  [ \"$type\" = disk ] && [ \"$ro\" = 0 ] && [ \"$size\" -gt %d ] || continue\n", uint64(w.LargerThan))
	b.WriteString("  case \"$spare\" in *\" $disk \"*) continue ;; esac\n")
	b.WriteString("  echo \"wipe $disk ($size bytes)\"\n")
	b.WriteString("  wipefs -a \"$disk\"\n")
	b.WriteString("  command -v sgdisk >/dev/null && sgdisk --zap-all \"$disk\"\n")
	b.WriteString("  dd if=/dev/zero of=\"$disk\" bs=1M count=100 conv=fsync\ndone\n")
	return b.String()
}

// SiteDocument returns the document of the first boot: all that makes this host
// differ from others, and all secrets, which secret returns by their names.
func (s Settings) SiteDocument(m Machine, secret func(name string) (string, error)) ([]byte, error) {
	r := &resolver{secret: secret}
	var site, stylus, doc document
	site.set("paletteEndpoint", s.PaletteEndpoint)
	site.set("edgeHostToken", r.get(s.EdgeHostToken))
	site.set("projectName", s.ProjectName)
	site.set("projectUid", s.ProjectUID)
	if s.PaletteEndpoint != "" || s.EdgeHostToken != "" || s.ManagementMode != "" {
		site.set("name", s.Name)
		site.set("hostName", s.HostName)
	}
	site.set("tags", ordered(s.Tags))
	site.set("registrationURL", s.RegistrationURL)
	site.set("disableAutoRegister", s.DisableAutoRegister)
	site.set("insecureSkipVerify", s.InsecureSkipVerify)
	site.set("caCerts", s.CACerts)
	site.set("ntpServers", s.NTPServers)
	site.set("network", s.Network.stylus())
	stylus.set("managementMode", s.ManagementMode)
	if c := s.RegistryCredentials; c != nil {
		var creds document
		creds.set("domain", c.Domain)
		creds.set("username", c.Username)
		creds.set("password", r.get(c.Password))
		creds.set("insecure", c.Insecure)
		stylus.set("registryCredentials", creds)
	}
	stylus.set("site", site)
	doc.set("stylus", stylus)
	doc.set("stages", s.siteStages(m, r))
	if r.err != nil {
		return nil, r.err
	}
	return doc.text()
}

// resolver looks secrets up and keeps the first error.
type resolver struct {
	secret func(string) (string, error)
	err    error
}

func (r *resolver) get(name Secret) string {
	if name == "" || r.err != nil {
		return ""
	}
	value, err := r.secret(string(name))
	r.err = err
	return value
}

func ordered(m map[string]string) (d document) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		d.set(k, m[k])
	}
	return d
}

func (s Settings) siteStages(m Machine, r *resolver) (stages document) {
	host := document{{Key: "name", Value: "host"}}
	host.set("hostname", s.HostName)
	if files := s.Network.siteFiles(m.Domain, s.NTPServers); len(files) > 0 {
		host.set("files", files)
	}
	if users := s.users(r); len(users) > 0 {
		host.set("users", users)
	}
	if len(s.NTPServers) > 0 {
		host.set("timesyncd", mapping{{Key: "NTP", Value: strings.Join(s.NTPServers, " ")}})
	}
	stages.set("initramfs", []any{mapping(host)})
	if s.Network.Bond != nil { // the document may come when networkd runs already
		stages.set("boot", []any{step("take the address", "networkctl reload && networkctl reconfigure "+s.Network.top()+" || true")})
	}
	if m.Server != "" {
		stages.set("boot.after", []any{step("tell the boot server", checkIn(m.Server, "booted"))})
	}
	return stages
}

func (s Settings) users(r *resolver) (all document) {
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		u, one := s.Users[name], document{}
		one.set("passwd", r.get(u.Passwd))
		one.set("groups", u.Groups)
		one.set("ssh_authorized_keys", u.Keys)
		all = append(all, mapping{{Key: name, Value: mapping(one)}}...)
	}
	return all
}

// stylus returns the network as Palette's agent takes it: by interface, or in
// the old flat form where no interface is named. A bond is not the agent's.
func (n Network) stylus() (d document) {
	d.set("httpProxy", n.HTTPProxy)
	d.set("httpsProxy", n.HTTPSProxy)
	d.set("noProxy", n.NoProxy)
	if n.Bond != nil {
		return d
	}
	if n.Type == "static" || len(n.Interfaces) > 0 || len(d) > 0 {
		d.set("nameserver", strings.Join(n.Nameserver, ","))
	}
	var all document
	for _, name := range slices.Sorted(maps.Keys(n.Interfaces)) {
		all.set(name, n.Interfaces[name].stylus())
	}
	d.set("interfaces", all)
	if len(all) == 0 {
		d = append(d, NIC{n.Type, n.IPAddress, n.Mask, n.Gateway, ""}.flat()...)
	}
	return d
}

func (n NIC) stylus() (d document) {
	d.set("type", n.Type)
	if n.Type == "static" {
		p, _ := lint.Prefix(n.IPAddress, n.Mask) // checked
		d.set("ipAddress", p.String())
		d.set("gateway", n.Gateway)
	}
	d.set("nameserver", n.Nameserver)
	return d
}

// flat is the form of source 002, whose address has no prefix.
func (n NIC) flat() (d document) {
	d.set("type", n.Type)
	if n.Type == "static" {
		p, _ := lint.Prefix(n.IPAddress, n.Mask) // checked
		d.set("ipAddress", p.Addr().String())
		d.set("mask", dotted(p.Bits()))
		d.set("gateway", n.Gateway)
	}
	return d
}

func dotted(bits int) string {
	v := ^uint32(0) << (32 - bits)
	return fmt.Sprintf("%d.%d.%d.%d", v>>24, v>>16&255, v>>8&255, v&255)
}

// top is the interface that has the addresses of a bond.
func (n Network) top() string {
	if n.Bond.Bridge != "" {
		return n.Bond.Bridge
	}
	return n.Bond.Name
}

func file(name, content string) mapping {
	return mapping{{Key: "path", Value: "/etc/systemd/network/" + name}, {Key: "permissions", Value: 0o644}, {Key: "content", Value: content}}
}

// installFiles are the bond and the bridge for systemd-networkd, with an
// address by DHCP until the first boot brings the host's own.
func (n Network) installFiles() (files []any) {
	b := n.Bond
	if b == nil {
		return nil
	}
	netdev := fmt.Sprintf("[NetDev]\nName=%s\nKind=bond\n\n[Bond]\nMode=%s\nMIIMonitorSec=100ms\n", b.Name, b.Mode)
	if b.Mode == "802.3ad" {
		netdev += fmt.Sprintf("LACPTransmitRate=%s\nTransmitHashPolicy=%s\n", b.LACPRate, b.HashPolicy)
	}
	files = append(files, file("10-"+b.Name+".netdev", netdev), file("10-"+b.Name+"-members.network", members(b)))
	if b.Bridge != "" {
		files = append(files,
			file("20-"+b.Bridge+".netdev", fmt.Sprintf("[NetDev]\nName=%s\nKind=bridge\n\n[Bridge]\nSTP=false\nForwardDelaySec=0\n", b.Bridge)),
			file("20-"+b.Name+".network", fmt.Sprintf("[Match]\nName=%s\n\n[Network]\nBridge=%s\n", b.Name, b.Bridge)))
	}
	return append(files, file("30-"+n.top()+".network", fmt.Sprintf("[Match]\nName=%s\n\n[Network]\nDHCP=ipv4\n", n.top())))
}

// members matches the NICs of a bond, by name or by the MAC that each was born
// with: in the bond they all have the same.
func members(b *Bond) string {
	var names, macs []string
	for _, m := range b.Members {
		if isMAC(m) {
			macs = append(macs, m)
		} else {
			names = append(names, m)
		}
	}
	match := "[Match]\n"
	if len(names) > 0 {
		match += "Name=" + strings.Join(names, " ") + "\n"
	}
	if len(macs) > 0 {
		match += "PermanentMACAddress=" + strings.Join(macs, " ") + "\n"
	}
	return match + "\n[Network]\nBond=" + b.Name + "\n"
}

func isMAC(s string) bool {
	_, err := node.ParseMAC(s)
	return err == nil && strings.ContainsAny(s, ":-.")
}

// siteFiles give the bond its own address, in the place of DHCP.
func (n Network) siteFiles(domain string, ntp []string) []any {
	if n.Bond == nil || n.Type != "static" {
		return nil
	}
	p, _ := lint.Prefix(n.IPAddress, n.Mask) // checked
	var b strings.Builder
	fmt.Fprintf(&b, "[Match]\nName=%s\n\n[Network]\nAddress=%v\nGateway=%s\n", n.top(), p, n.Gateway)
	for _, a := range n.Nameserver {
		fmt.Fprintf(&b, "DNS=%s\n", a)
	}
	if domain != "" {
		fmt.Fprintf(&b, "Domains=%s\n", domain)
	}
	for _, a := range ntp {
		fmt.Fprintf(&b, "NTP=%s\n", a)
	}
	return []any{file("30-"+n.top()+".network", b.String())}
}
