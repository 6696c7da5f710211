package config

import (
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"bootd/internal/node"
)

// payloads gives each node its payloads and its tags, or those of its role. It
// changes nodes before they are an inventory.
func (b *builder) payloads(r raw, nodes []node.Node) {
	payloads, sites, tags := map[string]node.Payload{}, map[string]node.Payload{}, map[string]map[string]string{}
	for i, x := range r.Roles {
		at := place{}.item("roles", i, x.Name)
		payloads[x.Name] = b.payload(at.key("payload"), x.Payload)
		sites[x.Name] = b.sitePayload(at.key("site"), x.Site)
		tags[x.Name] = b.pairs(at, "tags", x.Tags)
	}
	for i, x := range r.Nodes {
		at := place{}.item("nodes", i, x.Name)
		if nodes[i].Payload = b.payload(at.key("payload"), x.Payload); nodes[i].Payload.IsZero() {
			nodes[i].Payload = payloads[x.Role]
		}
		if nodes[i].Site = b.sitePayload(at.key("site"), x.Site); nodes[i].Site.IsZero() {
			nodes[i].Site = sites[x.Role]
		}
		own := b.pairs(at, "tags", x.Tags)
		if of := tags[x.Role]; len(of) > 0 { // shared, so not to be written to
			of = maps.Clone(of)
			maps.Copy(of, own)
			own = of
		}
		nodes[i].Tags = own
		for _, p := range []node.Payload{nodes[i].Payload, nodes[i].Site} {
			b.required(at, p, own)
		}
	}
}

// required checks that a node has the tags that its payload cannot do without.
func (b *builder) required(at place, p node.Payload, tags map[string]string) {
	for _, tag := range p.Require {
		if tags[tag] == "" && pairRule.MatchString(tag) {
			b.add(at.key("tags"), "no tag %q, which the payload of family %s requires", tag, p.Family)
		}
	}
}

func (b *builder) sitePayload(at place, r rawPayload) node.Payload {
	p := b.payload(at, r)
	p.FirstBoot = !p.IsZero()
	return p
}

func (b *builder) payload(at place, r rawPayload) node.Payload {
	if r.Family == "" && r.Dir == "" && r.Settings == "" && len(r.Secrets) == 0 && len(r.Require) == 0 {
		return node.Payload{}
	}
	p := node.Payload{
		Family: r.Family, Dir: b.path(at.key("dir"), r.Dir, ""), Settings: b.path(at.key("settings"), r.Settings, ""),
		Secrets: b.pairs(at, "secrets", r.Secrets), Require: r.Require,
	}
	switch {
	case r.Family == "":
		b.add(at.key("family"), "missing")
	case !slices.Contains(node.PayloadFamilies(), r.Family):
		b.add(at.key("family"), "%q is not one of %s", r.Family, strings.Join(node.PayloadFamilies(), ", "))
	}
	switch {
	case r.Dir == "" && r.Settings == "":
		b.add(at.key("dir"), "missing")
	case r.Settings != "" && r.Family != node.Kairos && r.Dir == "":
		b.add(at.key("settings"), "only family %s is made of settings alone: others need dir:", node.Kairos)
	}
	for i, s := range r.Require {
		if !pairRule.MatchString(s) {
			b.add(at.item("require", i, ""), "%q is not the name of a tag: letters, digits and underscores", s)
		}
	}
	for i, s := range r.Secrets {
		if name, file, ok := strings.Cut(s, "="); ok && !filepath.IsAbs(file) {
			b.add(at.item("secrets", i, ""), "secret %q is not an absolute path: only files hold secrets", name)
		}
	}
	return p
}

// pairRule is the name of a tag or secret: what a template can write after a
// dot.
var pairRule = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// pairs reads a list of NAME=VALUE. It never quotes a value: one of them may be
// a secret that somebody put there instead of its file.
func (b *builder) pairs(at place, key string, list []string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out := map[string]string{}
	for i, s := range list {
		name, value, ok := strings.Cut(s, "=")
		_, twice := out[name]
		switch at := at.item(key, i, ""); {
		case !ok || !pairRule.MatchString(name):
			b.add(at, "not NAME=VALUE with a name of letters, digits and underscores")
		case twice:
			b.add(at, "%q is in the list twice", name)
		}
		out[name] = value
	}
	return out
}

// insideRoot checks that nothing of a payload is served to everybody.
func (b *builder) insideRoot(c *Config, r raw) {
	for i, x := range r.Roles {
		at := place{}.item("roles", i, x.Name)
		b.payloadNotServed(at.key("payload"), c.Root, x.Payload)
		b.payloadNotServed(at.key("site"), c.Root, x.Site)
	}
	for i, x := range r.Nodes {
		at := place{}.item("nodes", i, x.Name)
		b.payloadNotServed(at.key("payload"), c.Root, x.Payload)
		b.payloadNotServed(at.key("site"), c.Root, x.Site)
	}
}

func (b *builder) payloadNotServed(at place, root string, r rawPayload) {
	b.notServed(at.key("dir"), root, r.Dir)
	b.notServed(at.key("settings"), root, r.Settings)
	for i, s := range r.Secrets {
		if name, file, _ := strings.Cut(s, "="); inside(filepath.Clean(file), root) {
			b.add(at.item("secrets", i, ""), "file of %q is inside root %q, which is served to everybody", name, root)
		}
	}
}

// SubnetOf returns the subnet that a node's own address is in, or the only one
// there is; nil: it is not known.
func (c *Config) SubnetOf(n *node.Node) *Subnet {
	if s := c.SubnetWith(n.Addr); s != nil {
		return s
	}
	if len(c.Subnets) == 1 {
		return &c.Subnets[0]
	}
	return nil
}

// SubnetWith returns the subnet that an address is in; nil: none.
func (c *Config) SubnetWith(a netip.Addr) *Subnet {
	for i := range c.Subnets {
		if s := &c.Subnets[i]; s.Prefix.IsValid() && s.Prefix.Contains(a) {
			return s
		}
	}
	return nil
}
