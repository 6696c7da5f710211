package main_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// binaries builds bootd and bootctl once for all tests of the package.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bootd-test-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "bootd/cmd/bootd", "bootd/cmd/bootctl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// site is a running bootd on a private segment.
type site struct {
	*lab.Net
	t      *testing.T
	bin    string
	root   string
	config string
	socket string
	Prefix string // address of the host with its prefix; empty: 10.77.0.1/24
	Subnet string // further keys of the subnet
	Extra  string // further lines of the configuration
	Args   string // of the kernel; empty: labArgs
	Roles  string // further items of roles
	Nodes  []siteNode
	// Release writes further releases below the root. Nil: there are none.
	Release func(root string) error

	images *lab.Images // nil: with the lab's own initrd
	daemon *lab.Proc
}

// labArgs are kernel arguments for the lab's own initrd.
const labArgs = "console=ttyS0 no_timer_check panic=-1"

type siteNode struct {
	Name, Role, Boot, Loader string
	Payload                  string // directory of its templates; the file of its secret is that and .join
	Args                     string // of the kernel
	Site                     string // directory of the templates of its site payload, as Payload
	BMC                      string // MAC
	MAC                      node.MAC
	Address                  string
}

var siteConfig = template.Must(template.New("").Parse(`
root: {{.Root}}
state: {{.Dir}}/state
admin: {socket: {{.Socket}}}
{{.Extra}}
subnets:
  - interface: br0
    subnet: {{.Prefix}}
{{.Subnet}}
roles:
  - {name: kubernetes, dir: k8s, squashfs: [kubernetes], args: "{{.Args}}"}
  - {name: storage-ceph, dir: ceph, squashfs: [storage-ceph], args: "{{.Args}}"}
{{- .Roles}}
nodes:
{{- range .Nodes}}
  - name: {{.Name}}
    role: {{.Role}}
    macs: ["{{.MAC}}"]
    address: {{.Address}}
    {{- with .Boot}}
    boot: {{.}}
    {{- end}}
    {{- with .Loader}}
    loader: {{.}}
    {{- end}}
    {{- with .Args}}
    args: "{{.}}"
    {{- end}}
    {{- with .Payload}}
    payload: {family: nocloud, dir: {{.}}, secrets: [join={{.}}.join]}
    {{- end}}
    {{- with .Site}}
    site: {family: nocloud, dir: {{.}}, secrets: [join={{.}}.join]}
    {{- end}}
    {{- with .BMC}}
    bmc: "{{.}}"
    {{- end}}
{{- else}} []
{{- end}}
`))

// leases is what the configuration says of a subnet where bootd is the DHCP
// server.
const leases = `
    pools: [10.77.0.100-10.77.0.199]
    router: 10.77.0.1
    dns: [10.77.0.1]`

// newSite makes a segment with releases of both roles, links them, and starts
// the daemon.
func newSite(t *testing.T, guests int, nodes ...siteNode) *site {
	t.Helper()
	return newSiteWith(t, leases, guests, nodes...)
}

func newSiteWith(t *testing.T, subnet string, guests int, nodes ...siteNode) *site {
	t.Helper()
	return newSiteOf(t, guests, site{Subnet: subnet, Nodes: nodes})
}

// newSiteOf is newSite for what else can be different of a site.
func newSiteOf(t *testing.T, guests int, of site) *site {
	t.Helper()
	lab.Need(t)
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix(cmp.Or(of.Prefix, "10.77.0.1/24"))
	n := lab.ForTest(t, prefix, guests)
	s := &site{
		Net: n, t: t, bin: bin, Prefix: prefix.Masked().String(), Subnet: of.Subnet, Extra: of.Extra, Args: cmp.Or(of.Args, labArgs), Roles: of.Roles, Nodes: of.Nodes, images: of.images,
		root: filepath.Join(n.Dir, "www"), config: filepath.Join(n.Dir, "bootd.yaml"), socket: filepath.Join(n.Dir, "bootd.sock"),
	}
	if s.images == nil {
		s.images = lab.ImagesForTest(t)
	}
	s.release(lab.Release{Dir: "k8s", ID: "1.2.3", Base: "kubernetes"})
	s.release(lab.Release{Dir: "ceph", ID: "0.0.7", Base: "storage-ceph"})
	if of.Release != nil {
		if err := of.Release(s.root); err != nil {
			t.Fatal(err)
		}
	}
	s.writeConfig()
	s.bootctl("set-links", "--config", s.config)
	s.start()
	return s
}

// release puts a release into the tree.
func (s *site) release(r lab.Release) {
	s.t.Helper()
	if err := s.images.WriteRelease(s.t.Context(), s.root, r); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) writeConfig() {
	s.t.Helper()
	var b bytes.Buffer
	err := siteConfig.Execute(&b, map[string]any{"Root": s.root, "Dir": s.Dir, "Socket": s.socket, "Prefix": s.Prefix, "Subnet": s.Subnet, "Extra": s.Extra, "Roles": s.Roles, "Args": s.Args, "Nodes": s.Nodes})
	if err == nil {
		err = os.WriteFile(s.config, b.Bytes(), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() {
	s.t.Helper()
	var err error
	if s.daemon, err = s.StartDaemon(lab.Deadline(s.t), s.bin+"/bootd", s.config, s.socket); err != nil {
		s.t.Fatal(err)
	}
	d := s.daemon
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("bootd:\n%s", d)
		}
	})
}

// bootctl runs a command of bootctl that has to succeed.
func (s *site) bootctl(args ...string) string {
	s.t.Helper()
	out, err := exec.Command(s.bin+"/bootctl", append([]string{"--socket", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("bootctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A console is what prints lines.
type console interface {
	WaitFor(ctx context.Context, re *regexp.Regexp) (lab.Line, error)
}

// line waits for a line on a console.
func (s *site) line(c console, pattern string) string {
	s.t.Helper()
	return s.wait(c, pattern).Text
}

// wait waits for a line on a console, and tells when it came.
func (s *site) wait(c console, pattern string) lab.Line {
	s.t.Helper()
	l, err := c.WaitFor(lab.Deadline(s.t), regexp.MustCompile(pattern))
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// wantBooted waits until a guest reports, on its own console, which release it
// runs, and that its check-in was answered.
func (s *site) wantBooted(g *lab.Guest, n siteNode, release string) {
	s.t.Helper()
	line := s.line(g, `^BOOTD-LAB-BOOTED`) + " "
	for _, want := range []string{
		" node=" + n.Name + " ", " release=" + release + " ", " role=" + n.Role + " ",
		" ip=" + n.Address + " ", " BOOTIF=01-" + n.MAC.Hyphen() + " ",
	} {
		if !strings.Contains(line, want) {
			s.t.Errorf("got %q, want it to contain %q", line, want)
		}
	}
	s.line(g, `^BOOTD-LAB-CHECKED-IN HTTP/1.1 200 OK$`)
	if err := g.Ended(lab.Deadline(s.t)); err != nil {
		s.t.Errorf("QEMU: got %v, want it to end well after power-off", err)
	}
}

var m001 = siteNode{Name: "ncn-m001", Role: "kubernetes", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 1}, Address: "10.77.0.11"}
var s001 = siteNode{Name: "ncn-s001", Role: "storage-ceph", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 2}, Address: "10.77.0.21"}

func machine(n siteNode, fw lab.Firmware) lab.Machine {
	return lab.Machine{Name: n.Name, Firmware: fw, MAC: n.MAC, UUID: node.UUID{1, 15: n.MAC[5]}}
}

// A known node boots its release with every firmware, and bootctl tells it.
func TestBootKnownNode(t *testing.T) {
	for _, fw := range []lab.Firmware{lab.BIOS, lab.BIOSLoader, lab.UEFI, lab.UEFIROM, lab.UEFIHTTP} {
		t.Run(fw.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1, m001)
			g := s.Boot(t, machine(m001, fw))
			s.wantBooted(g, m001, "1.2.3")
			s.wantStory(m001, fw)
		})
	}
}

// wantStory checks that the daemon tells the boot that the guest had: each
// transfer that the guest cannot do without, in order.
func (s *site) wantStory(n siteNode, fw lab.Firmware) {
	s.t.Helper()
	var story struct {
		Boot struct {
			Outcome string
			Events  []struct{ Step, Stage, File, Release, Err string }
		}
	}
	if err := json.Unmarshal([]byte(s.bootctl("why", n.Name, "--json")), &story); err != nil {
		s.t.Fatal(err)
	}
	if story.Boot.Outcome != "booted" {
		s.t.Errorf("outcome: got %q, want booted\n%s", story.Boot.Outcome, s.bootctl("why", n.Name))
	}
	want := []string{"dhcp-ack ipxe", "script ipxe", "http kernel", "http initrd.img.xz", "dhcp-ack os", "http rootfs", "check-in os"}
	switch fw {
	case lab.UEFI:
		want = append([]string{"dhcp-discover firmware", "dhcp-ack firmware", "tftp snponly.efi"}, want...)
	case lab.UEFIHTTP:
		want = append([]string{"dhcp-discover uefi-http", "dhcp-ack uefi-http", "http snponly.efi"}, want...)
	}
	for _, e := range story.Boot.Events {
		if len(want) == 0 {
			break
		}
		if got := e.Step + " " + e.Stage; got == want[0] || e.Step+" "+filepath.Base(e.File) == want[0] {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		s.t.Errorf("story lacks %q, in this order\n%s", want, s.bootctl("why", n.Name))
	}
}

// Shim, GRUB and kernel of Debian, each signed, boot a known node where Secure
// Boot is enforced.
func TestSecureBoot(t *testing.T) {
	signed := m001
	signed.Loader = "grub-shim"
	t.Parallel()
	s := newSite(t, 1, signed)
	g := s.Boot(t, machine(signed, lab.Secure))
	s.line(g, `^BOOTD-LAB-SECURE Secure boot enabled`)
	s.wantBooted(g, signed, "1.2.3")
}

// A GRUB that has HTTP asks for a file of its own, waits as it is told, and
// boots over HTTP once a reload lets it go. It is built here, since that of
// Debian has no HTTP.
func TestGRUBOverHTTP(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mkimage := exec.Command("grub-mkimage", "-O", "x86_64-efi", "-p", "/grub", "-o", dir+"/grubx64.efi",
		"efinet", "http", "tftp", "net", "normal", "linux", "echo", "sleep", "test", "true", "search", "search_fs_file", "chain", "configfile", "boot", "smbios", "minicmd")
	if out, err := mkimage.CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage, of grub-common and grub-efi-amd64-bin: %v\n%s", err, out)
	}
	held := m001
	held.Boot, held.Loader = "hold", "grub"
	s := newSiteOf(t, 1, site{Subnet: leases, Extra: "loaders: " + dir, Nodes: []siteNode{held}})
	g := s.Boot(t, machine(held, lab.UEFI))
	s.line(g, `bootd: asking 10\.77\.0\.1 again in 15 s`)
	if why := s.bootctl("why", held.Name, "--json"); !strings.Contains(why, `"grub/grub.cfg-00000001-0000-0000-0000-000000000001"`) {
		t.Errorf("got %s, want a file of GRUB's for its UUID", why)
	}
	s.Nodes[0].Boot = "release"
	s.writeConfig()
	s.reload()
	s.line(g, `bootd: loading kernel from \(http,10\.77\.0\.1\)`)
	s.wantBooted(g, m001, "1.2.3")
}

// iPXE of Debian is not signed: the firmware refuses it, and bootctl knows.
func TestSecureBootRefusesUnsigned(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, m001)
	g := s.Boot(t, machine(m001, lab.Secure))
	s.line(g, `failed to load Boot0001 "UEFI PXEv4.*Access Denied`)
	s.line(s.daemon, `msg=dhcp-discover .*stage=uefi-http`)
	out := s.bootctl("why", m001.Name)
	for _, want := range []string{"failed: the firmware loaded snponly.efi, which was not heard of, and tried its next boot option", "Secure Boot refuses unsigned loaders"} {
		if !strings.Contains(out, want) {
			t.Errorf("why: got\n%swant it to contain %q", out, want)
		}
	}
}

// An unknown machine shows what it found, harmlessly, and asks again; no
// artifact leaves the server.
func TestUnknownMachineIsHarmless(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, m001)
	stranger := node.MAC{0x52, 0x54, 0, 0xee, 0xee, 1}
	g := s.Boot(t, lab.Machine{Name: "stranger", Firmware: lab.BIOS, MAC: stranger})
	s.line(g, `unknown machine: discover`)
	s.line(g, stranger.String())
	s.line(g, `asking http://10\.77\.0\.1 again in 10 s`) // the second time: it asked again
	if strings.Contains(g.String(), "BOOTD-LAB") || strings.Contains(g.String(), "kernel...") {
		t.Error("the stranger loaded a kernel")
	}
	out := s.bootctl("why", stranger.String())
	if !strings.Contains(out, "waiting") || !strings.Contains(out, "not in the inventory") || strings.Contains(out, "kernel") {
		t.Errorf("why: got\n%swant a machine that waits because it is not in the inventory", out)
	}
}

// Two nodes of different roles boot at once, each its own release.
func TestTwoRolesAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, m001, s001)
	one, two := s.Boot(t, machine(m001, lab.BIOS)), s.Boot(t, machine(s001, lab.BIOS))
	s.wantBooted(one, m001, "1.2.3")
	s.wantBooted(two, s001, "0.0.7")
}

// A held node waits in its script, and boots by itself once a reload lets it
// go. A bad file in between changes nothing and stops nothing.
func TestHoldAndReload(t *testing.T) {
	t.Parallel()
	held := m001
	held.Boot = "hold"
	s := newSite(t, 1, held)
	g := s.Boot(t, machine(held, lab.BIOS))
	s.line(g, `held by the administrator`)

	if err := os.WriteFile(s.config, []byte("root: /nonexistent\nsubnet: []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.reload()
	s.line(s.daemon, `configuration not reloaded`)
	if out := s.bootctl("status"); !strings.Contains(out, "hold") {
		t.Errorf("status after a bad reload: got\n%swant the node still held", out)
	}
	s.Nodes[0].Boot = "release"
	s.writeConfig()
	s.reload()
	s.line(s.daemon, `configuration reloaded`)
	s.wantBooted(g, m001, "1.2.3")
}

func (s *site) reload() {
	s.t.Helper()
	if err := s.daemon.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

// A machine waits while the server is gone: it tries each NIC, says what is
// wrong with it, and boots from the one that reaches the server when that is
// back. One machine has two other NICs first, without a cable and without an
// answer. The other one has the network driver of a BIOS, and a switch that
// does spanning tree each time the NIC is opened anew.
func TestServerGoneAndBack(t *testing.T) {
	for _, tt := range []struct {
		fw     lab.Firmware
		loader string
		port   lab.Port
		says   []string
	}{
		{lab.UEFI, "ipxe", lab.PortFast, []string{`net0: no-link: iPXE error 380861`, `net1: no-address: iPXE error`, `trying net2 52:54:00:aa:bb:01`}},
		{lab.BIOSLoader, "", lab.STP, []string{`net0: no-address: iPXE error`, `net0 has link: asking DHCP in 30 s`}},
	} {
		t.Run(tt.fw.String(), func(t *testing.T) {
			t.Parallel()
			held := m001
			held.Boot, held.Loader = "hold", tt.loader
			s := newSite(t, 1, held)
			m := machine(held, tt.fw)
			m.Idle, m.Silent = tt.loader == "ipxe", tt.loader == "ipxe"
			g := s.Boot(t, m)
			s.line(g, `held by the administrator`)
			if tt.port != lab.PortFast {
				g.ReplugAt(t, `^bootd: trying net`, tt.port)
			}
			s.daemon.Kill()
			s.line(g, `bootd: no script from 10\.77\.0\.1: iPXE error`)
			s.Nodes[0].Boot = "release"
			s.writeConfig()
			s.start()
			for _, want := range tt.says {
				s.line(g, `^bootd: `+want)
			}
			s.wantBooted(g, m001, "1.2.3")
		})
	}
}

// A machine that is to boot, and whose server is gone for good, names the step
// that went wrong and goes to its next boot device.
func TestServerGoneForGood(t *testing.T) {
	t.Parallel()
	s := newSiteOf(t, 1, site{Subnet: leases, Extra: "retries: 1", Nodes: []siteNode{m001}})
	kernel, err := os.OpenFile(filepath.Join(s.root, m001.Name, "kernel"), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = kernel.WriteString("this is no kernel")
	}
	if err = errors.Join(err, kernel.Close()); err != nil {
		t.Fatal(err)
	}
	g := s.Boot(t, machine(m001, lab.UEFI))
	s.line(g, `bootd: step (kernel|start) went wrong: iPXE error 2e008`) // exec format error
	s.daemon.Kill()
	s.line(g, `bootd: net0: no-address: iPXE error`)
	s.line(g, `bootd: 10\.77\.0\.1 is gone, trying the next boot device`)
	s.line(g, `BdsDxe: failed to start Boot0001`) // and it goes on to the next
}

// A lease that was acknowledged survives kill -9: the client that boots again
// is acknowledged at once for the address it remembers.
func TestLeaseSurvivesKill(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease := func(args ...string) string {
		t.Helper()
		args = append([]string{"-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true"}, args...)
		if _, err := c.Run(lab.Deadline(t), "ip", "link", "set", "eth0", "up"); err != nil {
			t.Fatal(err)
		}
		p, err := c.Start("busybox", append([]string{"udhcpc"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`lease of (\S+) obtained`).FindStringSubmatch(s.line(p, `lease of \S+ obtained`))[1]
	}
	before := lease()
	s.daemon.Kill()
	s.start()
	if got := lease(); got != before {
		t.Errorf("address after kill -9: got %s, want %s", got, before)
	}
}
