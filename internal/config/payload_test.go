package config

import (
	"maps"
	"strings"
	"testing"
)

const rolePayload = `
roles:
  - name: kubernetes
    payload: {family: nocloud, dir: /etc/p, secrets: [join=/etc/s/join]}
    site: {family: nocloud, dir: /etc/site}
    tags: [site=paris, rack=none]
nodes:
  - {name: a, role: kubernetes, macs: ["52:54:00:aa:bb:01"], tags: [rack=r1]}
  - {name: b, role: kubernetes, macs: ["52:54:00:aa:bb:02"], payload: {family: nocloud, dir: /etc/b}}
  - {name: c, role: storage-ceph, macs: ["52:54:00:aa:bb:03"]}
`

// A payload is replaced as a whole, so that no node gets a secret it was not
// given; tags are joined.
func TestPayloadOfRoleAndNode(t *testing.T) {
	c, err := Parse("x.yaml", []byte(rolePayload))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		dir, site, secret string
		tags              map[string]string
	}{
		"a": {"/etc/p", "/etc/site", "/etc/s/join", map[string]string{"site": "paris", "rack": "r1"}},
		"b": {"/etc/b", "/etc/site", "", map[string]string{"site": "paris", "rack": "none"}},
		"c": {},
	} {
		n, _ := c.Inventory.ByName(name)
		if n.Payload.Dir != want.dir || n.Site.Dir != want.site || n.Payload.Secrets["join"] != want.secret || !maps.Equal(n.Tags, want.tags) {
			t.Errorf("%s: got %+v %v, want %+v", name, n.Payload, n.Tags, want)
		}
	}
}

func TestPayloadFaults(t *testing.T) {
	for _, tt := range []struct{ payload, want string }{
		{`payload: {dir: /p}`, `payload: family: missing`},
		{`payload: {family: butane, dir: /p}`, `payload: family: "butane" is not one of nocloud, autoinstall, kairos, ignition,`},
		{`payload: {family: nocloud, settings: /s.yaml}`, `payload: settings: only family kairos is made of settings alone: others need dir:`},
		{`payload: {family: kairos, settings: s.yaml}`, `payload: settings: "s.yaml" is not an absolute path`},
		{`payload: {family: kairos, settings: /var/www/s.yaml}`, `payload: settings: "/var/www/s.yaml" is inside root "/var/www", which is served to everybody`},
		{`payload: {family: text, dir: /p, require: [device_id]}`, `tags: no tag "device_id", which the payload of family text requires`},
		{`payload: {family: nocloud, dir: /p, require: [a-b]}`, `payload: require[0]: "a-b" is not the name of a tag: letters, digits and underscores`},
		{`site: {family: nocloud}`, `site: dir: missing`},
		{`site: {family: nocloud, dir: /var/www/p}`, `site: dir: "/var/www/p" is inside root "/var/www", which is served to everybody`},
		{`payload: {family: nocloud}`, `payload: dir: missing`},
		{`payload: {family: nocloud, dir: p}`, `payload: dir: "p" is not an absolute path`},
		{`payload: {family: nocloud, dir: /var/www/p}`, `payload: dir: "/var/www/p" is inside root "/var/www", which is served to everybody`},
		{`payload: {family: nocloud, dir: /p, secrets: [a=hunter2]}`, `payload: secrets[0]: secret "a" is not an absolute path: only files hold secrets`},
		{`payload: {family: nocloud, dir: /p, secrets: [hunter2]}`, `payload: secrets[0]: not NAME=VALUE with a name of letters, digits and underscores`},
		{`payload: {family: nocloud, dir: /p, secrets: [a=/x, a=/y]}`, `payload: secrets[1]: "a" is in the list twice`},
		{`payload: {family: nocloud, dir: /p, secrets: [a=/var/www/x]}`, `payload: secrets[0]: file of "a" is inside root "/var/www", which is served to everybody`},
		{`tags: [a-b=c]`, `tags[0]: not NAME=VALUE with a name of letters, digits and underscores`},
		{`payload: {family: nocloud, dir: /p, file: x}`, `payload: unknown key "file": known here are family, dir, settings, secrets, require`},
	} {
		text := "nodes:\n  - name: a\n    role: kubernetes\n    macs: ['52:54:00:aa:bb:01']\n    " + tt.payload + "\n"
		_, err := Parse("x.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.payload, err, tt.want)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one fault and no secret", tt.payload, err)
		}
	}
}
