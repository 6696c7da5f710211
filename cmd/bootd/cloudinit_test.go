package main_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bootd/internal/lab"
	"bootd/internal/node"
)

const cloudUserData = `#cloud-config
locale: false
write_files:
  - {path: /etc/joined, permissions: "0600", content: {{quote .Secret.join}}}
runcmd:
  - "echo CLOUD-NAME $(hostname) $(wc -c </etc/joined) >/dev/ttyS0"
  - "cat /etc/systemd/network/10-cloud-init-*.network >/dev/ttyS0"
phone_home: {url: "http://{{.Server}}/checkin/phone-home", post: [hostname, instance_id], tries: 3}
`

// cloudMetaData has the network in the form that cloud-init of Debian 12 takes
// over HTTP: it asks for no network-config.
const cloudMetaData = `instance-id: {{.InstanceID}}
local-hostname: {{.Name}}
network-interfaces: |
  iface eth0 inet static
  address {{.Address}}
  netmask 255.255.255.0
  dns-search cloud.example
`

// TestCloudInit boots Debian with its own cloud-init, which finds its data by
// the kernel command line, configures itself and phones home.
func TestCloudInit(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-cloud"
	dir := filepath.Join(t.TempDir(), "p")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+".join", []byte(secret+"\n"), 0o644),
		os.WriteFile(dir+"/user-data", []byte(cloudUserData), 0o644), os.WriteFile(dir+"/meta-data", []byte(cloudMetaData), 0o644)); err != nil {
		t.Fatal(err)
	}
	images := lab.DracutForTest(t)
	n := siteNode{Name: "cloud-01", Role: "cloud", MAC: node.MAC{0x52, 0x54, 0, 0xc1, 0x0d, 1}, Address: "10.77.0.61", Payload: dir}
	s := newSiteOf(t, 1, site{
		Subnet: leases, Nodes: []siteNode{n},
		Roles: "\n  - {name: cloud, dir: cloud, squashfs: [debian], args: \"" + lab.DracutArgs + "\"}",
		Release: func(root string) error {
			return images.WriteCloudInit(t.Context(), root, lab.Release{Dir: "cloud", ID: "12.0.0", Base: "debian"})
		},
	})
	m := machine(n, lab.BIOS)
	m.Memory = 1024
	g := s.Boot(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // a whole distribution, on an emulated processor
	defer cancel()
	for _, pattern := range []string{`CLOUD-NAME cloud-01 20\b`, `Address=10\.77\.0\.61/24`, `Domains=cloud\.example`, `Cloud-init v\..* finished at .*DataSourceNoCloudNet.*seed=cmdline,http://10\.77\.0\.1/t/`} {
		if _, err := g.WaitFor(ctx, regexp.MustCompile(pattern)); err != nil {
			t.Fatal(err)
		}
	}
	s.wantPhase(n.Name, "ready")
	log := s.bootctl("payload", "log", n.Name)
	for _, document := range []string{"meta-data", "user-data", "vendor-data"} {
		if !regexp.MustCompile(`10\.77\.0\.61 +` + document + ` +given `).MatchString(log) {
			t.Errorf("log: got\n%s, want %s given", log, document)
		}
	}
	if out := log + s.daemon.String() + s.bootctl("why", n.Name); strings.Contains(out, secret) {
		t.Error("the secret is in a log or a listing")
	}
}
