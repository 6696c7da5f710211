package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// leaseRoles are families whose clients are given no URL.
const leaseRoles = `
  - {name: ks, dir: k8s, squashfs: [kubernetes], payload: {family: kickstart, dir: DIR/ks, secrets: [root=DIR/secret]}}
  - {name: yast, dir: k8s, squashfs: [kubernetes], payload: {family: autoyast, dir: DIR/yast}}
  - {name: ncn, dir: k8s, squashfs: [kubernetes], payload: {family: basecamp, dir: DIR/ncn, secrets: [root=DIR/secret]}}
  - name: edge
    dir: edge
    squashfs: [kubernetes]
    install: {done: callback}
    payload: {family: kairos, settings: DIR/site.yaml, secrets: [token=DIR/secret]}
    site: {family: kairos, settings: DIR/site.yaml, secrets: [token=DIR/secret]}
`

const leaseSecret = "hunter2-of-the-lease"

func leaseSite(t *testing.T, names ...string) (*site, map[string]browser) {
	t.Helper()
	lab.Need(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ks/ks.cfg":         "text\nrootpw --plaintext {{.Secret.root}}\n# {{.Name}}\n",
		"yast/autoinst.xml": `<?xml version="1.0"?><profile xmlns="http://www.suse.com/1.0/yast2ns"><!-- {{.Name}} --></profile>`,
		"ncn/data.json": `{"Global": {"meta-data": {"gw": "10.77.0.1"}}, "ncn": {"user-data": {"runcmd": ["role"]}},
			"ncn-1": {"meta-data": {"a": {"b": {"c": 7}}}, "user-data": {"root": {{quote .Secret.root}}}}}`,
		"site.yaml": "paletteEndpoint: 10.77.0.9\nedgeHostToken: secret:token\ninstall: {device: /dev/vda, poweroff: true}\nnetwork: {type: static, gateway: 10.77.0.1}\n",
		"secret":    leaseSecret + "\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var nodes []siteNode
	for i, name := range names {
		role, _, _ := strings.Cut(name, "-")
		nodes = append(nodes, siteNode{Name: name, Role: role, MAC: node.MAC{0x52, 0x54, 0, 0x1e, 0xa5, byte(i + 1)}, Address: "10.77.0.4" + string(rune('1'+i))})
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "log: {level: debug}\nhttp: {metadata: true}", Nodes: nodes, Roles: strings.ReplaceAll(leaseRoles, "DIR", dir),
		Release: func(root string) error {
			old := filepath.Join(root, "ephemeral", "data")
			return os.CopyFS(filepath.Join(old, "edge"), os.DirFS(filepath.Join(old, "k8s")))
		}})
	browsers := map[string]browser{}
	for _, n := range nodes {
		c := s.browser(n.MAC.String())
		c.told("PXEClient:Arch:00007", "0007")
		browsers[n.Name] = c
	}
	return s, browsers
}

// want asks and compares status and content.
func (c browser) want(status int, content, url string, args ...string) (http.Header, string) {
	c.t.Helper()
	got, header, body := c.get(url, args...)
	if got != status || !strings.Contains(body, content) {
		c.t.Errorf("%s %v: got %d %q, want %d with %q", url, args, got, body, status, content)
	}
	if status != 200 && (strings.Contains(body, leaseSecret) || strings.Contains(body, "<html")) {
		c.t.Errorf("%s %v: got %q, which has a secret or is HTML", url, args, body)
	}
	return header, body
}

// TestKickstartByHeaders asks as dracut's anaconda-ks-sendheaders.sh makes curl
// ask. The lease decides; what the client says of itself can only take away.
func TestKickstartByHeaders(t *testing.T) {
	t.Parallel()
	s, c := leaseSite(t, "ks-1", "ks-2")
	const url = "http://10.77.0.1/payload/ks.cfg"
	mac := func(list ...string) (args []string) {
		for i, m := range list {
			args = append(args, "-H", "X-RHN-Provisioning-MAC-"+string(rune('0'+i))+": eth"+string(rune('0'+i))+" "+m)
		}
		return append(args, "-H", "X-Anaconda-Architecture: x86_64")
	}
	one, two := s.Nodes[0].MAC.String(), s.Nodes[1].MAC.String()
	c["ks-1"].want(200, "rootpw --plaintext "+leaseSecret+"\n# ks-1\n", url, mac("52:54:00:ff:ff:01", one)...)
	c["ks-1"].want(200, "# ks-1", url)
	c["ks-1"].want(403, "sends a MAC of another node", url, mac(two)...)
	c["ks-1"].want(403, "sends a MAC of another node", url, mac(one, two)...)
	c["ks-1"].want(403, "its MAC is not among those", url, mac("52:54:00:ff:ff:01")...)
	c["ks-2"].want(200, "# ks-2", url, mac(two)...)
	stranger := s.browser("52:54:00:ff:ff:09")
	stranger.told("PXEClient:Arch:00007", "0007")
	stranger.want(404, "# bootd: 10.77.0.", url, mac(one)...)
	c["ks-1"].want(404, "has no such document", "http://10.77.0.1/payload/user-data")
	if log := s.bootctl("payload", "log", "ks-1"); !strings.Contains(log, "given") || !strings.Contains(log, "foreign") || strings.Contains(log, leaseSecret) {
		t.Errorf("log: got\n%s, want what was given and what was not", log)
	}
}

// What the daemon cannot read is named in the log of the node's documents and in
// its story, and not to who asks.
func TestUnreadableSecret(t *testing.T) {
	t.Parallel()
	s, c := leaseSite(t, "ks-1")
	const url = "http://10.77.0.1/payload/ks.cfg"
	n := s.Nodes[0]
	role := s.Roles[strings.Index(s.Roles, "root=")+len("root="):]
	secret := role[:strings.IndexByte(role, ']')]
	if err := os.Rename(secret, secret+".away"); err != nil {
		t.Fatal(err)
	}
	if _, body := c["ks-1"].want(503, "ask again", url); strings.Contains(body, secret) {
		t.Errorf("the node: got %q, which names a file of ours", body)
	}
	if got := s.bootctl("payload", "log", n.Name); !strings.Contains(got, "failed") || strings.Contains(got, "given") || !strings.Contains(got, secret+`: secret "root": no such file or directory`) {
		t.Errorf("log: got\n%s, want that it failed, and why", got)
	}
	if got := s.bootctl("why", n.Name); !strings.Contains(got, secret+`: secret "root": no such file or directory`) || !strings.Contains(got, "bootctl payload check") {
		t.Errorf("why: got\n%s, want the reason, and what to do", got)
	}
	if err := os.Rename(secret+".away", secret); err != nil {
		t.Fatal(err)
	}
	c["ks-1"].want(200, leaseSecret, url)
	// Nor is there a code where nothing can be claimed.
	if got := s.bootctlStatus(1, "qr", n.Name); !strings.Contains(got, "no machine can be claimed: the configuration has no registration: with sites") {
		t.Errorf("qr: got %s", got)
	}
}

// TestAutoYaSTDirectory asks for what AutoInstallRules.rb looks for in a
// directory: rules/rules.xml, the address in hexadecimal with a digit less each
// time, the MAC in either case, default.
func TestAutoYaSTDirectory(t *testing.T) {
	t.Parallel()
	s, c := leaseSite(t, "yast-1", "yast-2")
	const url = "http://10.77.0.1/payload/"
	y := c["yast-1"]
	y.want(404, "", url+"rules/rules.xml")
	for _, name := range []string{"0A4D0029", "0A4D002", "0", "5254001EA501", "5254001ea501", "default", "autoinst.xml"} {
		if h, _ := y.want(200, "<!-- yast-1 -->", url+name); h.Get("Content-Type") != "application/xml; charset=utf-8" {
			t.Errorf("%s: got Content-Type %q, want XML", name, h.Get("Content-Type"))
		}
	}
	y.want(404, "", url+"0A4D002A")     // the address of yast-2
	y.want(404, "", url+"5254001EA502") // its MAC
	_, _, script := y.get("http://10.77.0.1/boot/script.ipxe?mac=" + s.Nodes[0].MAC.Hyphen())
	_, after, ok := strings.Cut(script, " autoyast=")
	if !ok {
		t.Fatalf("got script %q, want autoyast=", script)
	}
	profile, _, _ := strings.Cut(after, "\n")
	y.want(200, "<!-- yast-1 -->", strings.Fields(profile)[0])
	y.want(200, "<!-- yast-1 -->", strings.TrimSuffix(strings.Fields(profile)[0], "autoinst.xml")+"0A4D0029")
}

// TestBasecamp asks as cloud-init and the scripts of source 004 do. A header
// that names another machine, which metal-basecamp believes, changes nothing.
func TestBasecamp(t *testing.T) {
	t.Parallel()
	s, c := leaseSite(t, "ncn-1", "ks-1")
	n := c["ncn-1"]
	if h, _ := n.want(200, `"local-hostname":"ncn-1"`, "http://10.77.0.1/meta-data"); !strings.HasPrefix(h.Get("Content-Type"), "application/json") {
		t.Errorf("meta-data: got Content-Type %q, want JSON", h.Get("Content-Type"))
	}
	_, meta := n.want(200, "", "http://10.77.0.1/meta-data?key=instance-id")
	if _, again := n.want(200, "", "http://10.77.0.1/meta-data?key=instance-id"); again != meta || !strings.HasPrefix(meta, `"i-`) {
		t.Errorf("instance-id: got %s and %s, want the same", meta, again)
	}
	n.want(200, "7", "http://10.77.0.1/meta-data?key=a.b.c")
	n.want(200, `{"gw":"10.77.0.1"}`, "http://10.77.0.1/meta-data?key=Global")
	n.want(404, "there is no key", "http://10.77.0.1/meta-data?key=a.x")
	if h, body := n.want(200, "#cloud-config\n", "http://10.77.0.1/user-data"); !strings.HasPrefix(h.Get("Content-Type"), "text/yaml") || !strings.Contains(body, "- role") || !strings.Contains(body, leaseSecret) {
		t.Errorf("user-data: got %v %s, want YAML of role and node", h, body)
	}
	n.want(404, "", "http://10.77.0.1/vendor-data")
	n.want(404, "", "http://10.77.0.1/network-config")
	for _, header := range []string{"X-Forwarded-For: 10.77.0.41", "X-Real-IP: 10.77.0.41", "Forwarded: for=10.77.0.41"} {
		c["ks-1"].want(404, "no payload of family basecamp", "http://10.77.0.1/user-data", "-H", header)
	}
	// cloud-init's phone_home and CSM's form, with its instance-id in the path.
	n.want(200, "ok", "http://10.77.0.1/phone-home/i-0123", "-d", "pub_key_rsa=ssh-rsa+A&pub_key_ecdsa=x&pub_key_dsa=&instance_id=i-0123&hostname=ncn-1")
	s.wantPhase("ncn-1", "ready")
}

// TestFirstBoot is the first boot of what was installed, as yip's providers ask
// (provider_metaldata.go, provider_aws.go): nothing before the installer is
// through, one name, and nothing any more once the system has checked in.
func TestFirstBoot(t *testing.T) {
	t.Parallel()
	s, c := leaseSite(t, "edge-1", "edge-2")
	s.bootctl("links", "check")
	e, other := c["edge-1"], c["edge-2"]
	metaldata := []string{"--resolve", "metaldata:80:10.77.0.1"}
	const hostname, user = "http://metaldata/get/meta/hostname", "http://metaldata/get/user"
	const site, install = "http://10.77.0.1/payload/user-data", "http://10.77.0.1/boot/script.ipxe?mac="

	e.want(410, "#cloud-config\n", hostname, metaldata...)
	e.want(410, "#cloud-config\n", site)
	s.bootctl("node", "arm", "edge-1", "--yes")
	_, _, script := e.get(install + s.Nodes[0].MAC.Hyphen())
	_, after, ok := strings.Cut(script, "config_url=")
	if !ok {
		t.Fatalf("got script %q, want config_url=", script)
	}
	config := strings.Fields(after)[0]
	_, body := e.want(200, "device: /dev/vda", config)
	e.want(200, body, config) // immucore, then the agent
	e.want(200, body, site)   // an installer from a medium asks so
	if strings.Contains(body, leaseSecret) {
		t.Errorf("the installer's document: got %s, which has the secret", body)
	}
	e.want(410, "", hostname, metaldata...)
	e.want(200, "ok", "http://10.77.0.1/checkin/installed", "-X", "POST")
	e.want(410, "is past stage install", config)

	// The first boot: from here on another node's first boot is no affair of ours.
	other.want(410, "", user, metaldata...)
	e.want(200, "edge-1", hostname, metaldata...)
	_, body = e.want(200, "edgeHostToken: "+leaseSecret, user, metaldata...)
	if !strings.Contains(body, "ipAddress: 10.77.0.41") || !strings.Contains(body, "http://10.77.0.1/checkin/booted") || strings.Contains(body, "/dev/vda") {
		t.Errorf("site data: got\n%s", body)
	}
	s.wantPhase("edge-1", "configuring")
	e.want(404, "", "http://metaldata/get/meta/authorized-keys", metaldata...)

	// The link-local way: a route by DHCP, an address that the server has.
	e.must("ip", "route", "add", "169.254.169.254/32", "via", "10.77.0.1")
	if out, err := s.Run(lab.Deadline(t), "ip", "addr", "add", "169.254.169.254/32", "dev", "lo"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e.want(410, "answered by another name already", "http://169.254.169.254/latest/meta-data/hostname")
	for _, path := range []string{"/metadata/v1/hostname", "/v1/hostname", "/hetzner/v1/metadata/hostname", "/metadata/instance", "/computeMetadata/v1/", "/latest/api/token"} {
		e.want(404, "", "http://169.254.169.254"+path)
	}
	e.want(200, "ok", "http://10.77.0.1/checkin/booted", "-X", "POST")
	s.wantPhase("edge-1", "ready")
	for _, url := range []string{hostname, user} {
		e.want(410, "#cloud-config\n", url, metaldata...)
	}
	e.want(410, "#cloud-config\n", site)

	// Installed again: it is given out again, and now the other name was first.
	s.bootctl("node", "arm", "edge-1", "--yes")
	e.get(install + s.Nodes[0].MAC.Hyphen())
	e.want(200, "ok", "http://10.77.0.1/checkin/installed", "-X", "POST")
	e.want(200, "edge-1", "http://169.254.169.254/latest/meta-data/hostname")
	e.want(200, "bootd-edge-1", "http://169.254.169.254/latest/meta-data/instance-id")
	if _, body := e.want(200, "edgeHostToken: "+leaseSecret, "http://169.254.169.254/latest/user-data"); !strings.Contains(body, "http://10.77.0.1/checkin/booted") {
		t.Errorf("site data over the link-local address: got\n%s, want our own address in it", body)
	}
	e.want(410, "", hostname, metaldata...)

	// An installer from a CD has no script, and is given out once as well.
	s.bootctl("node", "arm", "edge-2", "--yes")
	other.want(200, "device: /dev/vda", site)
	s.wantPhase("edge-2", "installing")
	other.want(200, "ok", "http://10.77.0.1/checkin/installed", "-X", "POST")
	other.want(200, "name: edge-2", site)
	if out := s.daemon.String() + s.bootctl("why", "edge-1") + s.bootctl("payload", "log", "edge-1"); strings.Contains(out, leaseSecret) {
		t.Error("the secret is in a log or a listing")
	}
}
