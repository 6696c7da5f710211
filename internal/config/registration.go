package config

import (
	"net/url"
	"slices"
	"strings"
	"text/template"

	"bootd/internal/node"
	"bootd/internal/tmplerr"
)

// A Registration says how a machine is claimed for a site.
type Registration struct {
	PIN   string // file; empty: nothing is claimed
	URL   string // template of what the QR code says, over ClaimURL
	Sites []Site
}

// A Site is a choice of the claim page, and what a node becomes by it.
type Site struct {
	Name  string
	Label string            // for people; empty: the name
	Role  string            // of a machine that is no node yet
	Tags  map[string]string // site=NAME among them
}

// ClaimURL is what the template of a URL sees.
type ClaimURL struct {
	Server string // host or host:port, as the machine reaches us
	Token  string // of the claim
	ID     string // edge host id; empty: not known
	Node   string // empty: the machine is in no inventory
}

// defaultClaimURL is in capitals because those take less room in a QR code.
const defaultClaimURL = "HTTP://{{.Server}}/C/{{.Token}}"

// Execute returns the URL of a claim.
func (r *Registration) Execute(u ClaimURL) (string, error) {
	t, err := template.New("url").Option("missingkey=error").Parse(r.URL)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, u)
	return b.String(), err
}

// UsesToken reports whether the URL leads to the page of a claim: without one
// of a claim it leads nowhere.
func (r *Registration) UsesToken() bool {
	with, _ := r.Execute(ClaimURL{Token: "A"}) // checked by claimURL
	without, _ := r.Execute(ClaimURL{})
	return with != without
}

// siteTag is the tag that says which site a node belongs to.
const siteTag = "site"

// registration builds how machines are claimed.
func (b *builder) registration(c *Config, r rawRegistration) Registration {
	at := place{}.key("registration")
	reg := Registration{PIN: b.path(at.key("pin"), r.PIN, ""), URL: r.URL}
	if reg.URL == "" {
		reg.URL = defaultClaimURL
	}
	b.claimURL(at.key("url"), &reg)
	seen := map[string]bool{}
	for i, x := range r.Sites {
		at := at.item("sites", i, x.Name)
		if x.Name != "" && seen[x.Name] {
			b.add(at.key("name"), "used twice")
		}
		seen[x.Name] = true
		reg.Sites = append(reg.Sites, b.site(at, c, x))
	}
	b.notServed(at.key("pin"), c.Root, reg.PIN)
	switch {
	case reg.PIN == "" && len(reg.Sites) > 0:
		b.add(at.key("pin"), "missing: nobody could claim anything")
	case reg.PIN != "" && len(reg.Sites) == 0:
		b.add(at.key("sites"), "missing: there is nothing to claim a machine for")
	}
	return reg
}

// site builds one choice of the claim page. Its name is a tag of its nodes.
func (b *builder) site(at place, c *Config, x rawSite) Site {
	s := Site{Name: b.element(at.key("name"), x.Name), Label: x.Label, Role: x.Role, Tags: b.pairs(at, "tags", x.Tags)}
	if x.Name == "" {
		b.add(at.key("name"), "missing")
	}
	if _, ok := c.Inventory.Role(x.Role); x.Role == "" {
		b.add(at.key("role"), "missing")
	} else if !ok {
		b.add(at.key("role"), "%q is not defined", x.Role)
	}
	if _, own := s.Tags[siteTag]; own {
		b.add(at.key("tags"), "%s is the name of the site by itself", siteTag)
	}
	if s.Tags == nil {
		s.Tags = map[string]string{}
	}
	s.Tags[siteTag] = s.Name
	return s
}

// claimURL checks that a template makes a URL.
func (b *builder) claimURL(at place, r *Registration) {
	text, err := r.Execute(ClaimURL{Server: "192.0.2.1:8080", Token: "ABCDEFGHIJKLMNOP", ID: "edge-1", Node: "node"})
	if err != nil {
		b.add(at, "%v; there are Server, Token, ID and Node", tmplerr.Of(err))
		return
	}
	if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		b.add(at, "%q is not a URL such as https://boot.example/claim?id={{.ID}}", r.URL)
	}
}

// Site returns the site of that name.
func (r *Registration) Site(name string) (Site, bool) {
	for _, s := range r.Sites {
		if s.Name == name {
			return s, true
		}
	}
	return Site{}, false
}

// Takes reports whether a site takes nodes of a role.
func (r *Registration) Takes(role string) bool {
	return slices.ContainsFunc(r.Sites, func(s Site) bool { return s.Role == role })
}

// Claimed reports whether a node belongs to a site.
func Claimed(n *node.Node) bool { return n.Tags[siteTag] != "" }
