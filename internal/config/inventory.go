package config

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"bootd/internal/node"
)

// builtin returns the roles that exist without being written (source 004).
func builtin() []node.Role {
	return []node.Role{
		{
			Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}, Channel: "stable", LoopLimit: loopLimit,
			Hosts: patterns("ncn-m*,ncn-w*,fmn*"),
			// Only masters have the encrypted etcd disk that rd.luks opens.
			ScriptArgs: []node.ScriptArg{{Arg: "rd.luks=0", Hosts: patterns("ncn-w*,fmn*")}},
		},
		{Name: "storage-ceph", Dir: "ceph", Squashfs: []string{"storage-ceph"}, Channel: "stable", LoopLimit: loopLimit, Hosts: patterns("ncn-s*")},
	}
}

// patterns are those of the program itself.
func patterns(list string) []node.Pattern {
	ps, err := node.ParsePatterns(list)
	if err != nil {
		panic("config: " + err.Error())
	}
	return ps
}

// inventory builds the nodes and roles, and indexes them.
func (b *builder) inventory(r raw) *node.Inventory {
	var roles []node.Role
	for i, x := range r.Roles {
		roles = append(roles, b.role(place{}.item("roles", i, x.Name), x))
	}
	for _, def := range builtin() {
		if !slices.ContainsFunc(roles, func(r node.Role) bool { return r.Name == def.Name }) {
			roles = append(roles, def)
		}
	}
	token := b.secretFile(place{}.key("registration-token"), r.Token)
	for i := range roles {
		roles[i].RegistrationToken = cmp.Or(roles[i].RegistrationToken, token)
	}
	var nodes []node.Node
	for i, x := range r.Nodes {
		nodes = append(nodes, b.node(place{}.item("nodes", i, x.Name), x))
	}
	b.payloads(r, nodes)
	inv, err := node.NewInventory(nodes, roles)
	b.addInventory(err)
	return inv
}

// nodeOptions joins the options of each node with those of its role. Nodes
// without their own share their role's.
func (b *builder) nodeOptions(r raw) map[string][]DHCPOption {
	ofRole := map[string][]DHCPOption{}
	for i, x := range r.Roles {
		ofRole[x.Name] = b.options(place{}.item("roles", i, x.Name), x.Options, nil)
	}
	all := map[string][]DHCPOption{}
	for i, x := range r.Nodes {
		own := b.options(place{}.item("nodes", i, x.Name), x.Options, nil)
		if list := merge(own, ofRole[x.Role]); len(list) > 0 {
			all[x.Name] = list
		}
	}
	return all
}

// addInventory records the faults that NewInventory found.
func (b *builder) addInventory(err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return
	}
	for _, err := range joined.Unwrap() {
		var f *node.Fault
		if !errors.As(err, &f) {
			b.addAt(place{}, position{}, "%v", err)
			continue
		}
		at := place{}.item(f.List, f.Index, f.Name)
		if f.Item >= 0 {
			at = at.item(f.Field, f.Item, "")
		} else {
			at = at.key(f.Field)
		}
		b.add(at, "%s%s", f.Problem, b.from.elsewhere(at, f.Other))
	}
}

// role builds a role. One with the name of a built-in role starts as that, so
// that pinning it to a release is one line.
func (b *builder) role(at place, r rawRole) node.Role {
	base := node.Role{Channel: "stable"}
	for _, def := range builtin() {
		if def.Name == r.Name {
			base = def
		}
	}
	switch {
	case r.Name == "":
		b.add(at.key("name"), "missing")
	case !node.ValidName(r.Name):
		b.add(at.key("name"), "%q is not a name in lower case (letters, digits, hyphens)", r.Name)
	}
	role := node.Role{
		Name:     r.Name,
		Dir:      cmp.Or(b.element(at.key("dir"), r.Dir), base.Dir),
		Squashfs: base.Squashfs,
		Aliases:  b.aliases(at, r.Aliases),
		Signed:   b.boolean(at.key("require-signature"), r.Signed, false),
		Follow:   b.boolean(at.key("follow"), r.Follow, false),
		Channel:  [...]string{"stable", "unstable"}[b.word(at.key("channel"), r.Channel, "stable", "unstable")],
		Release:  b.element(at.key("release"), r.Release),
		Args:     b.args(at.key("args"), r.Args),
		Loader:   b.loader(at.key("loader"), r.Loader),
		Firmware: b.firmware(at.key("firmware"), r.Firmware),
		Install:  b.install(at.key("install"), r.Install),
		Validate: b.validate(at.key("validate"), r.Validate),

		LoopLimit:  b.number(at.key("loop-limit"), r.LoopLimit, loopLimit, 0, 1000),
		Hosts:      base.Hosts,
		ScriptArgs: base.ScriptArgs,

		RegistrationToken: b.secretFile(at.key("registration-token"), r.Token),
	}
	if len(r.Hosts) > 0 {
		role.Hosts = b.hosts(at, r.Hosts)
	}
	if len(r.ScriptArgs) > 0 {
		role.ScriptArgs = b.scriptArgs(at, r.ScriptArgs)
	}
	if role.Dir == "" {
		b.add(at.key("dir"), "missing")
	}
	if len(r.Squashfs) > 0 {
		role.Squashfs = b.squashfs(at, r.Squashfs)
	}
	if len(role.Squashfs) == 0 {
		b.add(at.key("squashfs"), "missing")
	}
	return role
}

// hosts reads the patterns of host names.
func (b *builder) hosts(at place, list []string) (all []node.Pattern) {
	for i, s := range list {
		all = append(all, b.hostList(at.item("hosts", i, ""), s)...)
	}
	return all
}

func (b *builder) hostList(at place, s string) []node.Pattern {
	if s == "" {
		b.add(at, "missing")
		return nil
	}
	ps, err := node.ParsePatterns(s)
	if err != nil {
		b.add(at, "%v", err)
	}
	return ps
}

// scriptArgs reads arguments such as "rd.luks=0 for ncn-w*,fmn*".
func (b *builder) scriptArgs(at place, list []string) (all []node.ScriptArg) {
	for i, s := range list {
		at := at.item("script-args", i, "")
		arg, hosts, ok := strings.Cut(s, " for ")
		if !ok || !scriptArgRule.MatchString(arg) {
			b.add(at, `%q is not NAME=VALUE for HOSTS, such as "rd.luks=0 for ncn-w*,fmn*"`, s)
			continue
		}
		all = append(all, node.ScriptArg{Arg: arg, Hosts: b.hostList(at, hosts)})
	}
	return all
}

// scriptArgRule is a kernel argument without a character that means anything
// to iPXE.
var scriptArgRule = regexp.MustCompile(`^[A-Za-z0-9._-]+=[A-Za-z0-9._:/@+,%-]*$`)

// loopLimit is how often a node may boot within an hour without a check-in.
const loopLimit = 10

// install builds how the nodes of a role are installed; nil: they are not.
func (b *builder) install(at place, r *rawInstall) *node.Install {
	if r == nil {
		return nil
	}
	return &node.Install{
		Done:    node.Done(b.word(at.key("done"), r.Done, node.Dones()...)),
		Within:  b.duration(at.key("within"), r.Within, time.Hour, time.Minute, 48*time.Hour),
		CheckIn: b.duration(at.key("check-in"), r.CheckIn, 30*time.Minute, time.Minute, 7*24*time.Hour),
		Ready:   node.Ready(b.word(at.key("ready"), r.Ready, node.Readies()...)),
	}
}

// squashfs checks the base names of squashfs images. The prefix "secure-" is
// not part of one: a release's secure- image is preferred by itself.
func (b *builder) squashfs(at place, list []string) []string {
	for i, s := range list {
		at := at.item("squashfs", i, "")
		switch {
		case s == "":
			b.add(at, "missing")
		case strings.HasPrefix(s, "secure-"):
			b.add(at, `%q: write it without "secure-", which is always preferred`, s)
		case strings.HasSuffix(s, ".squashfs"):
			b.add(at, "%q: write it without release and .squashfs", s)
		}
		b.element(at, s)
	}
	return list
}

// aliases reads the further names of links: NAME of the root file system, or
// NAME of kernel or initrd.img.xz.
func (b *builder) aliases(at place, list []string) (aliases []string) {
	for i, s := range list {
		at := at.item("aliases", i, "")
		name, of, other := strings.Cut(s, " of ")
		switch {
		case name == "":
			b.add(at, "missing")
		case slices.Contains(linkNames, name):
			b.add(at, "%q is a name that every boot directory has", name)
		case strings.Contains(name, "="):
			b.add(at, "%q: a name has no =", name)
		case other && of != "kernel" && of != "initrd.img.xz" && of != "rootfs":
			b.add(at, "%q is not one of kernel, initrd.img.xz, rootfs", of)
		}
		b.element(at, name)
		if other && of != "rootfs" {
			name += "=" + of
		}
		aliases = append(aliases, name)
	}
	return aliases
}

// linkNames are entries of a boot directory that no alias can take.
var linkNames = []string{"kernel", "initrd.img.xz", "rootfs", "script.ipxe"}

// node builds a node, but for its payloads and tags.
func (b *builder) node(at place, r rawNode) node.Node {
	switch {
	case r.Name == "":
		b.add(at.key("name"), "missing")
	case node.Reserved(r.Name):
		b.add(at.key("name"), "%q is a path of its own under the web root", r.Name)
	}
	if r.Role == "" {
		b.add(at.key("role"), "missing%s", b.from.orphan(at))
	}
	n := node.Node{
		Name:    r.Name,
		Role:    r.Role,
		UUID:    b.uuid(at.key("uuid"), r.UUID),
		Serial:  r.Serial,
		Addr:    b.addr(at.key("address"), r.Address),
		BMCAddr: b.addr(at.key("bmc-address"), r.BMCAddr),
		Want:    b.want(at.key("boot"), r.Boot),
		Release: b.element(at.key("release"), r.Release),
		Args:    b.args(at.key("args"), r.Args),
		Loader:  b.loader(at.key("loader"), r.Loader),
	}
	for i, s := range r.MACs {
		n.MACs = append(n.MACs, b.mac(at.item("macs", i, ""), s))
	}
	if r.BMC != "" {
		n.BMC = b.mac(at.key("bmc"), r.BMC)
	}
	for i, s := range r.More {
		if s == "" {
			b.add(at.item("addresses", i, ""), "missing")
		}
		n.More = append(n.More, b.addr(at.item("addresses", i, ""), s))
	}
	return n
}

// mac reads a hardware address. NewInventory refuses those no NIC has, except
// that it takes a zero BMC for none.
func (b *builder) mac(at place, s string) node.MAC {
	m, err := node.ParseMAC(s)
	switch {
	case s == "":
		b.add(at, "missing")
	case err != nil:
		b.add(at, "%v", err)
	case m.IsZero():
		b.add(at, "%q is the zero address, which no NIC has", s)
	}
	return m
}

func (b *builder) uuid(at place, s string) node.UUID {
	if s == "" {
		return node.UUID{}
	}
	u, err := node.ParseUUID(s)
	switch {
	case err != nil:
		b.add(at, "%v", err)
	case !u.Plausible():
		b.add(at, "%q is a placeholder that many machines have", s)
	}
	return u
}

func (b *builder) want(at place, s string) node.Want {
	w, err := node.ParseWant(s)
	if err != nil {
		b.add(at, "%v", err)
	}
	return w
}

func (b *builder) firmware(at place, s string) node.Firmware {
	f, err := node.ParseFirmware(s)
	if err != nil {
		b.add(at, "%v", err)
	}
	return f
}

func (b *builder) loader(at place, s string) node.Loader {
	l, err := node.ParseLoader(s)
	if err != nil {
		b.add(at, "%v", err)
	}
	return l
}
