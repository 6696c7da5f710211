package payload_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bootd/deploy/payload"
	"bootd/internal/node"
)

// TestFamilies holds that each family that the configuration takes is one, with
// the arguments that its client reads.
func TestFamilies(t *testing.T) {
	const url = "http://10.1.0.1/t/bdt_00"
	want := map[string]string{
		"nocloud":     "ds=nocloud;dsmode=net;s=" + url + "/",
		"autoinstall": "autoinstall ds=nocloud;dsmode=net;s=" + url + "/",
		"kairos":      "config_url=" + url + "/user-data",
		"ignition":    "ignition.firstboot ignition.platform.id=metal ignition.config.url=" + url + "/config.ign",
		"preseed":     "auto=true priority=critical url=" + url + "/preseed.cfg",
		"kickstart":   "inst.ks=" + url + "/ks.cfg inst.ks.sendmac inst.ks.sendsn",
		"autoyast":    "autoyast=" + url + "/autoinst.xml",
		"talos":       "talos.platform=metal talos.config=" + url + "/config.yaml",
		"text":        "",
		"basecamp":    "ds=nocloud-net;s=http://10.1.0.1/",
	}
	if got := node.PayloadFamilies(); len(got) != len(want) {
		t.Errorf("got families %v, want those of the table", got)
	}
	for name, args := range want {
		f, ok := payload.FamilyOf(name)
		if !ok {
			t.Errorf("%s: no such family", name)
		}
		got, other := f.Args(url, "10.1.0.1", nil)
		if strings.Join(got, " ") != args || other != "" {
			t.Errorf("%s: got %q, want %q", name, strings.Join(got, " "), args)
		}
		if f.Repeat > f.TTL {
			t.Errorf("%s: a repeat of %v in a life of %v", name, f.Repeat, f.TTL)
		}
	}
}

// What the administrator wrote wins, where it leads to the payload.
func TestArgsThatAreThere(t *testing.T) {
	const url = "http://10.1.0.1/t/bdt_00"
	for _, tt := range []struct{ family, words, want, other string }{
		{"ignition", "ignition.platform.id=qemu quiet", "ignition.firstboot ignition.config.url=" + url + "/config.ign", ""},
		{"autoyast", "autoyast=" + url + "/", "", ""},
		{"nocloud", "ds=nocloud;s=http://elsewhere/", "", "ds=nocloud;s=http://elsewhere/"},
		{"kairos", "config_url=http://elsewhere/x", "", "config_url=http://elsewhere/x"},
		{"kickstart", "inst.ks.sendmac", "inst.ks=" + url + "/ks.cfg inst.ks.sendsn", ""},
		{"basecamp", "ds=nocloud-net;s=http://10.1.0.1/", "", ""},
	} {
		f, _ := payload.FamilyOf(tt.family)
		got, other := f.Args(url, "10.1.0.1", strings.Fields(tt.words))
		if strings.Join(got, " ") != tt.want || other != tt.other {
			t.Errorf("%s beside %q: got %q, %q, want %q, %q", tt.family, tt.words, strings.Join(got, " "), other, tt.want, tt.other)
		}
	}
}

// Whatever is refused has a form that the client can take without harm.
func TestHarmless(t *testing.T) {
	var ign struct{ Ignition struct{ Version string } }
	if err := json.Unmarshal(payload.Harmless("config.ign", "no"), &ign); err != nil || ign.Ignition.Version != "3.0.0" {
		t.Errorf("ignition: got %+v, %v, want an empty one of 3.0.0", ign, err)
	}
	for _, doc := range []string{"preseed.cfg", "ks.cfg", "autoinst.xml"} {
		if got := string(payload.Harmless(doc, "no")); got != "# bootd: no\n" {
			t.Errorf("%s: got %q, want a comment", doc, got)
		}
	}
	for _, doc := range []string{"user-data", "meta-data", "config.yaml", "whatever"} {
		if got := string(payload.Harmless(doc, "no")); got != "#cloud-config\n# bootd: no\n{}\n" {
			t.Errorf("%s: got %q, want a cloud-config that does nothing", doc, got)
		}
	}
}

// family writes the documents of a family.
func family(t *testing.T, name string, files map[string]string) node.Payload {
	t.Helper()
	p := payloadOf(t, files)
	p.Family = name
	return p
}

func TestCheckFamilies(t *testing.T) {
	const profile = `<?xml version="1.0"?><!DOCTYPE profile><profile xmlns="http://www.suse.com/1.0/yast2ns"><general/></profile>`
	for _, tt := range []struct{ family, document, text, want string }{
		{"autoinstall", "user-data", "#cloud-config\nautoinstall:\n  version: 1\n  identity: {hostname: a}\n", ""},
		{"autoinstall", "user-data", "#cloud-config\nhostname: a\n", "rendered:1:1: no autoinstall: with keys below it"},
		{"autoinstall", "user-data", "#cloud-config\nautoinstall:\n  version: 2\n", "rendered:2:1: autoinstall: version: got 2, want 1"},
		{"autoinstall", "user-data", "#cloud-config\nautoinstall:\n  version: 1\n  late-command: []\n", `rendered:4:3: autoinstall: unknown key "late-command"`},
		{"kairos", "user-data", "#cloud-config\ninstall: {device: /dev/sda}\n", ""},
		{"kairos", "user-data", "install: {device: /dev/sda}\n", "Kairos ignores a document without the line #cloud-config"},
		{"kairos", "user-data", "# one\n# two\n#cloud-config\ninstall: {auto: true}\n", ""},
		{"kairos", "user-data", "#cloud-config\nstages: {install: []}\n", `rendered:2:10: stages: "install" is no stage`},
		{"kairos", "user-data", "#cloud-config\nstylus: {site: {edgeHostToken: {{quote .Secret.join}}}}\n", "rendered:2:32: stylus.site.edgeHostToken: a secret in the document of the installer"},
		{"ignition", "config.ign", `{"ignition": {"version": "3.4.0"}, "storage": {}}`, ""},
		{"ignition", "config.ign", "{\"ignition\": {\"version\": \"3.4.0\"},\n\"storage\" {}}", "rendered:2:11: not JSON: "},
		{"ignition", "config.ign", `{"ignition": {"version": "2.2.0"}}`, `rendered:1:15: ignition: version: "2.2.0" is not one of 3.0.0 to 3.6.0`},
		{"ignition", "config.ign", "variant: fcos\n", "rendered:1:1: not JSON: "},
		{"ignition", "config.ign", `{"ignition": {"version": "3.4.0"}, "variant": "fcos"}`, `unknown key "variant": Ignition has`},
		{"ignition", "config.ign", `[]`, "not keys and values in JSON, but array"},
		{"preseed", "preseed.cfg", "# comment\nd-i debian-installer/locale string en_US\nd-i partman/choose \\\n  select finish\n\npopularity-contest popularity-contest/participate boolean false\n", ""},
		{"preseed", "preseed.cfg", "d-i debian-installer/locale en_US\n", `rendered:1:29: "en_US" is not a type of debconf`},
		{"preseed", "preseed.cfg", "d-i a/b \\\n string x\nhello\n", `rendered:3:1: "hello" is not OWNER QUESTION TYPE VALUE`},
		{"kickstart", "ks.cfg", "text\n%packages\n@core\n%end\n%include /tmp/x\n%post --log=/x\necho %hello\n%end\n", ""},
		{"kickstart", "ks.cfg", "text\n%post\necho\n", "rendered:2:1: %post has no %end"},
		{"kickstart", "ks.cfg", "%post\n%packages\n%end\n", "rendered:2:1: %packages inside %post of line 1, which has no %end"},
		{"kickstart", "ks.cfg", "%end\n", "rendered:1:1: %end of nothing"},
		{"kickstart", "ks.cfg", "%postt\n%end\n", `rendered:1:1: unknown section "%postt"`},
		{"autoyast", "autoinst.xml", profile, ""},
		{"autoyast", "autoinst.xml", strings.Replace(profile, "</general>", "<", 1) + "<", "not XML: "},
		{"autoyast", "autoinst.xml", "<html></html>", `first element is <html> of "", want <profile>`},
		{"talos", "config.yaml", "version: v1alpha1\nmachine: {type: worker}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\n", ""},
		{"talos", "config.yaml", "version: v1alpha1\n---\nmachine: {}\n", "rendered:2:1: neither version: v1alpha1 nor a kind:"},
		{"talos", "config.yaml", "#cloud-config\n- a\n", "not a mapping of keys and values, but a list"},
		{"text", "unattended.yaml", "device_id: {{.Tags.site}}\n{{.Secret.join}}", ""},
		{"text", "unattended.yaml", "device_id: {{.Tags.device_id}}\n", `/unattended.yaml:1:19: .Tags.device_id: map has no entry for key "device_id"`},
		{"basecamp", "data.json", `{"ncn-w001": {"user-data": {"a": 1}}}`, ""},
		{"basecamp", "data.json", "{\"ncn-w001\": {\"user-data\":\n[1}}", "/data.json: rendered:2:3: not JSON: "},
		{"basecamp", "data.json", `{"Global": {}}`, `/data.json: rendered: no record "ncn-w001", nor one of 52:54:00:aa:bb:01`},
	} {
		p := family(t, tt.family, map[string]string{tt.document: tt.text})
		var lines []string
		for _, err := range payload.Check(p, data) {
			lines = append(lines, strings.TrimPrefix(err.Error(), p.Dir))
		}
		got := strings.Join(lines, "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || strings.Contains(got, "hunter") {
			t.Errorf("%s: %q: got %q, want %q", tt.family, tt.text, got, tt.want)
		}
	}
}

// The layers of metal-basecamp: Global, role, node.
func TestBasecamp(t *testing.T) {
	p := family(t, "basecamp", map[string]string{"data.json": `{
		"Global": {"meta-data": {"can-gw": "10.102.4.1"}},
		"ncn-worker": {"meta-data": {"xname": "x0", "k": {"a": 1, "b": [1, 2]}}, "user-data": {"runcmd": ["role"], "ntp": {"enabled": true}}},
		"52:54:00:AA:BB:01": {
			"meta-data": {"shasta-role": "ncn-worker", "xname": "x3000c0s1b0n0", "k": {"b": [3]}},
			"user-data": {"hostname": "{{.Name}}", "ntp": {"servers": ["s"]}, "runcmd": ["own"], "join": {{quote .Secret.join}}}
		}}`})
	docs, err := payload.Render(p, data)
	if err != nil {
		t.Fatal(err)
	}
	for way, want := range map[string]string{
		"Global.can-gw": `"10.102.4.1"`, "xname": `"x3000c0s1b0n0"`, "k": `{"a":1,"b":[3]}`, "local-hostname": `"ncn-w001"`, "k.a": `1`,
	} {
		if got, err := payload.Lookup(docs["meta-data"], way); err != nil || string(got) != want {
			t.Errorf("meta-data, key %s: got %s, %v, want %s", way, got, err, want)
		}
	}
	for _, way := range []string{"nothing", "k.a.b", "Global.x", ""} {
		if got, err := payload.Lookup(docs["meta-data"], way); err == nil {
			t.Errorf("meta-data, key %q: got %s, want none", way, got)
		}
	}
	user := string(docs["user-data"])
	for _, want := range []string{"#cloud-config\n", "hostname: ncn-w001\n", "enabled: true\n", "- own\n", "very secret"} {
		if !strings.Contains(user, want) {
			t.Errorf("user-data: got\n%s, want %q in it", user, want)
		}
	}
	if strings.Contains(user, "- role") {
		t.Errorf("user-data: got\n%s, want the list of the node in the place of that of the role", user)
	}
	again, _ := payload.Render(p, data)
	if string(again["meta-data"]) != string(docs["meta-data"]) {
		t.Error("asked again: got another instance-id, want the same while the node is told the same")
	}
	if err := os.WriteFile(p.Secrets["join"], []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed, _ := payload.Render(p, data)
	one, _ := payload.Lookup(docs["meta-data"], "instance-id")
	two, _ := payload.Lookup(changed["meta-data"], "instance-id")
	if string(one) == string(two) {
		t.Errorf("user-data changed: got the same instance-id %s, so that nothing would run it", one)
	}
}

const siteYAML = `paletteEndpoint: 10.1.0.9
edgeHostToken: secret:join
install: {device: /dev/sda, poweroff: true}
network: {type: static}
`

// Settings alone make the documents of both stages; a template can build on
// them.
func TestSettings(t *testing.T) {
	p := payloadOf(t, map[string]string{"user-data": "#cloud-config\n{{.Settings}}k3s: {enabled: true}\n"})
	p.Family, p.Settings = node.Kairos, filepath.Join(filepath.Dir(p.Dir), "site.yaml")
	if err := os.WriteFile(p.Settings, []byte(siteYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	d := data
	d.Subnet = payload.Subnet{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Router: netip.MustParseAddr("10.1.0.1")}
	site := p
	site.FirstBoot = true
	for _, tt := range []struct {
		name     string
		p        node.Payload
		has, not []string
	}{
		{"template, install", p, []string{"k3s: {enabled: true}", "device: /dev/sda"}, []string{"very secret", "ncn-w001"}},
		{"template, site", site, []string{"k3s: {enabled: true}", "very secret", "10.1.0.11"}, []string{"device:"}},
	} {
		for _, dir := range []string{tt.p.Dir, ""} {
			p := tt.p
			if p.Dir = dir; dir == "" {
				tt.has = tt.has[1:]
			}
			docs, err := payload.Render(p, d)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			got := string(docs["user-data"])
			if !strings.HasPrefix(got, "#cloud-config\n") || strings.Count(got, "#cloud-config") != 1 || len(docs["meta-data"]) == 0 ||
				slices.ContainsFunc(tt.has, func(s string) bool { return !strings.Contains(got, s) }) ||
				slices.ContainsFunc(tt.not, func(s string) bool { return strings.Contains(got, s) }) {
				t.Errorf("%s: got\n%s, want it with %q and without %q", tt.name, got, tt.has, tt.not)
			}
			if errs := payload.Check(p, d); errs != nil {
				t.Errorf("%s: check: got %v, want nothing", tt.name, errs)
			}
		}
	}
	site.Dir = ""
	docs, err := payload.RenderRedacted(site, d)
	if err != nil || !strings.Contains(string(docs["user-data"]), "edgeHostToken: <secret:join>") {
		t.Errorf("redacted: got %s, %v", docs["user-data"], err)
	}
	site.Secrets = nil
	if _, err := payload.Render(site, d); err == nil || err.Error() != p.Settings+`: secret:join: the payload has no secret "join"` {
		t.Errorf("without the secret: got %v", err)
	}
	if err := os.WriteFile(p.Settings, []byte("network: {type: statik}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if errs := payload.Check(site, d); len(errs) != 1 || errs[0].Error() != p.Settings+`:1:17: network.type: "statik" is not dhcp or static` {
		t.Errorf("a fault: got %v", errs)
	}
}
