package lint_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bootd/deploy/lint"
)

func shown(faults []lint.Fault) string {
	var b strings.Builder
	for _, f := range faults {
		warning := ""
		if f.Warning {
			warning = "warning: "
		}
		fmt.Fprintf(&b, "%d:%d: %s%s\n", f.Line, f.Column, warning, f.Problem)
	}
	return b.String()
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSeeds is what palette.md 2.3 says is wrong in the documents of sources
// 000 and 002, and nothing more.
func TestSeeds(t *testing.T) {
	for _, tt := range []struct {
		file    string
		context lint.Context
		want    string
	}{
		{"seed000-install.yaml", lint.Context{Install: true, Disks: 9}, `6:5: stylus.site.edgeHostToken: a secret in the document of the installer, which keeps it in /oem/90_custom.yaml: put it into the site's document
8:5: stylus.site.registryCredentials: registryCredentials belongs below stylus: here nothing reads it
11:7: stylus.site.registryCredentials.password: a secret in the document of the installer, which keeps it in /oem/90_custom.yaml: put it into the site's document
18:5: users[0].passwd: a secret in the document of the installer, which keeps it in /oem/90_custom.yaml: put it into the site's document
20:3: stages: "install" is no stage, and a stage that nobody knows is skipped without a word: did you mean "before-install"?
27:3: stages: "reset" is no stage, and a stage that nobody knows is skipped without a word: did you mean "before-reset"?
`},
		{"seed002-staging.yaml", lint.Context{}, `1:1: none of the first 10 lines is #cloud-config: the agent ignores such a document without a word
`},
		{"seed002-site.yaml", lint.Context{Disks: 2}, `4:11: stylus.site.name: "store.17" has the character '.', which Palette refuses in the id of a host
7:13: warning: stylus.site.network: the old flat form: Palette 4 wants it below interfaces.NIC
11:16: stylus.site.network.gateway: 10.0.11.1 is not in 10.0.10.0/24, so it cannot be reached
14:11: install.device: auto takes the largest disk, and this machine has 2: name the disk, such as /dev/disk/by-id/...
15:13: install.poweroff: true, and install.reboot too: only one of them can be
`},
	} {
		if got := shown(lint.Kairos(read(t, tt.file), tt.context)); got != tt.want {
			t.Errorf("%s: got\n%swant\n%s", tt.file, got, tt.want)
		}
	}
}

func TestRules(t *testing.T) {
	long := strings.Repeat("a", 129)
	for _, tt := range []struct {
		name, text, want string
		context          lint.Context
	}{
		{name: "good", text: "stylus: {site: {name: a-1, tags: {rack: r1}, network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.4/24, gateway: 10.0.0.1}}}}}\nstages: {before-install: [{commands: [ls]}], initramfs.after: [{name: x}]}\nk3s: {enabled: true}\n"},
		{name: "yaml", text: "a: [1\nb: 2\n", want: `not YAML: `},
		{name: "list", text: "- a\n", want: `2:1: a list, where the document must be keys and values`},
		{name: "type", text: "stylus: {registryCredentials: {password: ~}}\n", want: `stylus.registryCredentials.password: null, where a string is wanted`},
		{name: "number for a name", text: "stylus: {site: {name: 004}}\n", want: `stylus.site.name: an integer, where a string is wanted: put it in quotes`},
		{name: "text for a truth", text: "install: {poweroff: \"yes\"}\n", want: `2:21: install.poweroff: a string, where true or false is wanted`},
		{name: "key", text: "stylus: {site: {paletteEndPont: x}}\n", want: `2:17: unknown key "stylus.site.paletteEndPont": did you mean "paletteEndpoint"?`},
		{name: "key at the top", text: "stilus: {}\n", want: `2:1: unknown key "stilus": did you mean "stylus"?`},
		{name: "key of somebody else", text: "elemental: {}\n", want: `2:1: warning: unknown key "elemental"`},
		{name: "twice", text: "debug: true\ndebug: false\n", want: `3:1: debug: key is there twice, first on line 2: only one of them counts`},
		{name: "device", text: "install: {device: sda}\n", want: `install.device: "sda" is not auto, a path below /dev or script://FILE`},
		{name: "partition", text: "install: {device: /dev/disk/by-partlabel/x}\n", want: `is a partition, where a disk is wanted`},
		{name: "auto on one disk", text: "install: {device: auto}\n", context: lint.Context{Disks: 1}},
		{name: "auto on an unknown machine", text: "install: {device: auto}\n", want: `warning: install.device: auto takes the largest disk`},
		{name: "rest of the disk", text: "install: {extra-partitions: [{name: a, size: 0}, {name: b, size: 10}]}\n", want: `install.extra-partitions[0].size: 0 is the rest of the disk, which only the last one can have`},
		{name: "static", text: "stylus: {site: {network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.4/24}}}}}\n", want: `stylus.site.network.interfaces.eth0.type: static without gateway`},
		{name: "static without an address", text: "stylus: {site: {network: {interfaces: {eth0: {type: static, gateway: 10.0.0.1}}}}}\n", want: `eth0.type: static without ipAddress`},
		{name: "prefix", text: "stylus: {site: {network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.4, gateway: 10.0.0.1}}}}}\n", want: `"10.0.0.4" without a prefix, as in 10.0.0.4/24, and without mask`},
		{name: "mask", text: "stylus: {site: {network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.4, mask: 255.0.255.0, gateway: 10.0.0.1}}}}}\n", want: `mask "255.0.255.0" is not one`},
		{name: "own gateway", text: "stylus: {site: {network: {interfaces: {eth0: {type: static, ipAddress: 10.0.0.4/24, gateway: 10.0.0.4}}}}}\n", want: `10.0.0.4 is the address of the interface itself`},
		{name: "network type", text: "stylus: {site: {network: {interfaces: {eth0: {type: auto}}}}}\n", want: `eth0.type: "auto" is not dhcp or static`},
		{name: "both forms", text: "stylus: {site: {network: {type: dhcp, interfaces: {eth0: {type: dhcp}}}}}\n", want: `stylus.site.network.type: the old flat form beside interfaces: nothing reads it`},
		{name: "long id", text: "stylus: {site: {name: " + long + "}}\n", want: `has 129 characters: Palette cuts it after 128`},
		{name: "random id", text: "stylus: {site: {name: \"$random\"}}\n"},
		{name: "endpoint", text: "stylus: {site: {paletteEndpoint: https://x}}\n", want: `"https://x" is a URL, where a host or host:port is wanted`},
		{name: "project", text: "stylus: {site: {projectName: a, projectUid: b}}\n", want: `projectName is there too`},
		{name: "certificate", text: "stylus: {site: {caCerts: ['hello, world']}}\n", want: `stylus.site.caCerts[0]: neither PEM`},
		{name: "stage", text: "stages: {initramsf: []}\n", want: `stages: "initramsf" is no stage, and a stage that nobody knows is skipped without a word: did you mean "initramfs"?`},
		{name: "stage of nobody", text: "stages: {whatever-comes: []}\n", want: `skipped without a word: known are rootfs,`},
		{name: "stage that is no list", text: "stages: {boot: {commands: [a]}}\n", want: `stages.boot: keys and values, where a list is wanted`},
		{name: "step", text: "stages: {boot: [{command: [a]}]}\n", want: `unknown key "stages.boot[0].command": did you mean "commands"?`},
		{name: "skip-copy in the site's document", text: "stages: {skip-copy-boot: []}\n"},
		{name: "skip-copy in the installer's", text: "stages: {skip-copy-boot: []}\n", context: lint.Context{Install: true}, want: `skip-copy- counts in the site's document only`},
		{name: "reference in the installer's", text: "a-comment: \"x <secret:token> y\"\n", context: lint.Context{Install: true}, want: `a-comment: a secret in the document of the installer`},
		{name: "secret in the site's document", text: "stylus: {site: {edgeHostToken: x}}\n"},
	} {
		got := shown(lint.Kairos("#cloud-config\n"+tt.text, tt.context))
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if strings.Contains(got, "edgeHostToken: x") {
			t.Errorf("%s: got %q, which has the secret", tt.name, got)
		}
	}
}

func TestFix(t *testing.T) {
	want := strings.NewReplacer(
		"      type: static\n", "      interfaces:\n        eth0:\n          type: static\n          ipAddress: 10.0.10.25/24\n          gateway: 10.0.11.1\n",
		"      ipAddress: 10.0.10.25\n      mask: 255.255.255.0\n      gateway: 10.0.11.1\n", "",
	).Replace(read(t, "seed002-site.yaml"))
	got := lint.Fix(read(t, "seed002-site.yaml"), "eth0")
	if got != want {
		t.Errorf("network: got\n%swant\n%s", got, want)
	}
	if faults := shown(lint.Kairos(got, lint.Context{})); strings.Contains(faults, "flat") {
		t.Errorf("fixed: got %s", faults)
	}
	if got := lint.Fix(read(t, "seed002-site.yaml"), ""); got != read(t, "seed002-site.yaml") {
		t.Errorf("without the name of the interface: got\n%s, want no change", got)
	}
	if got := lint.Fix(read(t, "seed002-staging.yaml"), ""); got != "#cloud-config\n"+read(t, "seed002-staging.yaml") {
		t.Errorf("header: got\n%s", got)
	}
	got = lint.Fix(read(t, "seed000-install.yaml"), "")
	if faults := shown(lint.Kairos(got, lint.Context{})); strings.Contains(faults, "registryCredentials") || !strings.Contains(faults, `"install" is no stage`) {
		t.Errorf("registryCredentials: got %s for\n%s", faults, got)
	}
	if again := lint.Fix(got, ""); again != got || strings.Count(got, "\n") != strings.Count(read(t, "seed000-install.yaml"), "\n") {
		t.Errorf("twice: got\n%s, want no change", again)
	}
}

// A fix never makes a document that is not YAML, whatever it was.
func FuzzFix(f *testing.F) {
	f.Add("stylus:\n  site:\n    registryCredentials: {a: b}\n    network:\n      type: dhcp\n")
	f.Add("stylus: {site: {network: {type: static}}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		text = "#cloud-config\n" + text + "\n" // the parser takes some texts with no line before or after them only
		before, after := lint.Kairos(text, lint.Context{}), lint.Kairos(lint.Fix(text, "eth0"), lint.Context{})
		broken := func(list []lint.Fault) bool { return strings.Contains(shown(list), "not YAML") }
		if broken(after) && !broken(before) {
			t.Errorf("%q became %q: %s", text, lint.Fix(text, "eth0"), shown(after))
		}
	})
}

func TestAcross(t *testing.T) {
	doc := func(name, address string) string {
		return "#cloud-config\nstylus:\n  site:\n    name: " + name + "\n    network:\n      interfaces:\n        eth0: {type: static, ipAddress: " + address + "/24, gateway: 10.0.0.1}\n"
	}
	var a lint.Across
	for _, tt := range []struct{ node, text, want string }{
		{"n1", doc("stg-1", "10.0.0.4"), ""},
		{"n1", doc("stg-1", "10.0.0.4"), ""}, // its other document
		{"n2", doc("stg-2", "10.0.0.5"), ""},
		{"n3", doc("STG-1", "10.0.0.6"), "4:11: stylus.site.name: \"stg-1\" is that of n1 too\n"},
		{"n4", doc("stg-4", "10.0.0.5"), "7:41: stylus.site.network: ipAddress: \"10.0.0.5\" is that of n2 too\n"},
		{"n5", doc(`"$random"`, "10.0.0.8"), ""},
		{"n6", doc(`"$random"`, "10.0.0.9"), ""},
		{"n7", "stylus: {site: {network: {type: static, ipAddress: 10.0.0.5}}}\n", "1:52: stylus.site.network: ipAddress: \"10.0.0.5\" is that of n2 too\n"},
	} {
		if got := shown(a.Add(tt.node, tt.text)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.node, got, tt.want)
		}
	}
}
