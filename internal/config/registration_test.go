package config

import (
	"strings"
	"testing"
)

func TestRegistration(t *testing.T) {
	const role = "roles: [{name: edge, dir: edge, squashfs: [edge]}]\n"
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"registration: {pin: /p, sites: [{name: paris, role: edge, tags: [a=b]}]}", ""},
		{"registration: {pin: /p}", `registration: sites: missing: there is nothing to claim a machine for`},
		{"registration: {sites: [{name: paris, role: edge}]}", `registration: pin: missing: nobody could claim anything`},
		{"registration: {pin: /var/www/p, sites: [{name: paris, role: edge}]}", `registration: pin: "/var/www/p" is inside root "/var/www", which is served to everybody`},
		{"registration: {pin: /p, sites: [{role: edge}]}", `registration: sites[0]: name: missing`},
		{"registration: {pin: /p, sites: [{name: paris}]}", `registration: sites[0] "paris": role: missing`},
		{"registration: {pin: /p, sites: [{name: paris, role: egde}]}", `registration: sites[0] "paris": role: "egde" is not defined`},
		{"registration: {pin: /p, sites: [{name: a, role: edge}, {name: a, role: edge}]}", `registration: sites[1] "a": name: used twice`},
		{"registration: {pin: /p, sites: [{name: a, role: edge, tags: [site=b]}]}", `registration: sites[0] "a": tags: site is the name of the site by itself`},
		{"registration: {pin: /p, url: 'claim/{{.Token}}', sites: [{name: a, role: edge}]}", `registration: url: "claim/{{.Token}}" is not a URL such as https://boot.example/claim?id={{.ID}}`},
		{"registration: {pin: /p, url: 'http://x/{{.Tokken}}', sites: [{name: a, role: edge}]}", `registration: url: character 12: .Tokken: there is no Tokken; there are Server, Token, ID and Node`},
	} {
		_, err := Parse("x.yaml", []byte(role+tt.text))
		if got := message(err); (tt.want == "") != (err == nil) || !strings.Contains(got, tt.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestClaimURL(t *testing.T) {
	c, err := Parse("x.yaml", []byte("registration: {pin: /p, sites: [{name: paris, role: kubernetes}]}"))
	if err != nil {
		t.Fatal(err)
	}
	u := ClaimURL{Server: "10.1.0.1", Token: "ABC", ID: "edge-1 2", Node: "n"}
	if got, err := c.Registration.Execute(u); err != nil || got != "HTTP://10.1.0.1/C/ABC" {
		t.Errorf("got %q, %v, want HTTP://10.1.0.1/C/ABC", got, err)
	}
	c.Registration.URL = "https://boot.example/{{.Token}}?host={{urlquery .ID}}&n={{.Node}}"
	if got, err := c.Registration.Execute(u); err != nil || got != "https://boot.example/ABC?host=edge-1+2&n=n" {
		t.Errorf("got %q, %v, want the values in their places", got, err)
	}
	if s, ok := c.Registration.Site("paris"); !ok || s.Tags["site"] != "paris" {
		t.Errorf("got %v, %v, want the site with its tag", s, ok)
	}
}
