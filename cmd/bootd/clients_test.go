package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// clientFamilies are families whose clients get a URL on their kernel command
// line, with a document of each.
var clientFamilies = []struct{ family, document, text string }{
	{"ignition", "config.ign", `{"ignition": {"version": "3.4.0"}, "passwd": {"users": [{"name": "core", "passwordHash": {{quote .Secret.root}}}]}}` + "\n"},
	{"preseed", "preseed.cfg", "d-i passwd/root-password password {{.Secret.root}}\n"},
	{"autoinstall", "user-data", "#cloud-config\nautoinstall:\n  version: 1\n  identity: {hostname: {{.Name}}, username: a, password: {{quote .Secret.root}}}\n"},
	{"talos", "config.yaml", "version: v1alpha1\nmachine: {token: {{quote .Secret.root}}}\n"},
	{"text", "unattended.yaml", "device_id: {{.Tags.device}}\nkey: {{.Secret.root}}\n"},
}

// TestClients follows the command line of each family as its client does, with
// a client of the same kind where Debian has one: the installer of Debian uses
// busybox's wget. The other requests are those of the clients' sources:
// Ignition's resource/http.go, cloud-init's util.read_seeded, Talos'
// metal/url. None of them is served to another machine, or as HTML.
func TestClients(t *testing.T) {
	t.Parallel()
	lab.Need(t)
	dir := t.TempDir()
	errs := []error{os.WriteFile(filepath.Join(dir, "secret"), []byte(leaseSecret+"\n"), 0o644)}
	var roles strings.Builder
	var nodes []siteNode
	for i, f := range clientFamilies {
		errs = append(errs, os.Mkdir(filepath.Join(dir, f.family), 0o755), os.WriteFile(filepath.Join(dir, f.family, f.document), []byte(f.text), 0o644))
		args := ""
		if f.family == "text" {
			args = `, args: "unattended={{.Payload}}/unattended.yaml", tags: [device=d-17]`
		}
		roles.WriteString("\n  - {name: " + f.family + ", dir: k8s, squashfs: [kubernetes]" + args +
			", payload: {family: " + f.family + ", dir: " + filepath.Join(dir, f.family) + ", secrets: [root=" + dir + "/secret]}}")
		nodes = append(nodes, siteNode{Name: f.family + "-1", Role: f.family, MAC: node.MAC{0x52, 0x54, 0, 0xc1, 0x1e, byte(i + 1)}, Address: "10.77.0.5" + string(rune('1'+i))})
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "log: {level: debug}", Nodes: nodes, Roles: roles.String()})
	clients := map[string]browser{}
	// cmdline returns the value of a kernel argument, as the client reads it.
	cmdline := func(family, key string) string {
		t.Helper()
		for _, n := range nodes {
			if n.Role != family {
				continue
			}
			c := s.browser(n.MAC.String())
			c.told("PXEClient:Arch:00007", "0007")
			clients[family] = c
			_, _, script := c.get("http://10.77.0.1/boot/script.ipxe?mac=" + n.MAC.Hyphen())
			for _, word := range strings.Fields(script) {
				if value, ok := strings.CutPrefix(word, key+"="); ok {
					return value
				}
			}
			t.Fatalf("%s: got script %q, want %s=", family, script, key)
		}
		return ""
	}

	url := cmdline("ignition", "ignition.config.url")
	accept := []string{"-H", "Accept: application/vnd.coreos.ignition+json;version=3.5.0, */*;q=0.1", "-A", "Ignition/2.19.0"}
	for range 3 { // it asks again when it could not parse, or lost the answer
		if h, _ := clients["ignition"].want(200, `"passwordHash": "`+leaseSecret+`"`, url, accept...); !strings.HasPrefix(h.Get("Content-Type"), "application/vnd.coreos.ignition+json") {
			t.Errorf("ignition: got Content-Type %q", h.Get("Content-Type"))
		}
	}

	url = cmdline("preseed", "url")
	if got := clients["preseed"].must("busybox", "wget", "-q", "-O", "-", url); got != "d-i passwd/root-password password "+leaseSecret+"\n" {
		t.Errorf("preseed: got %q", got)
	}
	if out, err := clients["ignition"].Namespace.Run(lab.Deadline(t), "busybox", "wget", "-q", "-O", "-", url); err == nil || strings.Contains(out, leaseSecret) {
		t.Errorf("preseed, by another machine: got %q, %v, want a failure", out, err)
	}

	url = strings.TrimPrefix(cmdline("autoinstall", "ds"), "nocloud;dsmode=net;s=")
	if !strings.HasSuffix(url, "/") {
		t.Errorf("autoinstall: got seed %q, want a slash at its end", url)
	}
	for _, x := range []struct{ document, want string }{{"network-config", ""}, {"meta-data", "instance-id: bootd-autoinstall-1\n"}, {"user-data", "password: \"" + leaseSecret + "\""}, {"vendor-data", ""}} {
		clients["autoinstall"].want(200, x.want, url+x.document, "-A", "Cloud-Init/24.4")
	}

	url = cmdline("talos", "talos.config")
	clients["talos"].want(200, leaseSecret, url+"?uuid=00000000-0000-0000-0000-000000000001&serial=x&mac=52:54:00:c1:1e:04&hostname=h&code=c")
	url = cmdline("text", "unattended")
	clients["text"].want(200, "device_id: d-17\nkey: "+leaseSecret+"\n", url)
	clients["text"].want(404, "has no such document", strings.TrimSuffix(url, "unattended.yaml")+"other.yaml")

	// Whoever has no ticket gets what does nothing, in the form of the client.
	none := "http://10.77.0.1/t/bdt_00000000000000000000000000000000/"
	clients["text"].want(404, `{"ignition":{"version":"3.0.0"}}`, none+"config.ign")
	clients["text"].want(404, "# bootd: there is no such ticket\n", none+"preseed.cfg")
	clients["text"].want(404, "#cloud-config\n# bootd: there is no such ticket\n{}\n", none+"user-data")
	if out := s.daemon.String(); strings.Contains(out, leaseSecret) || strings.Contains(out, "bdt_") {
		t.Error("a secret or a ticket is in the log")
	}
}
