package lab

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bootd/internal/node"
)

// TestBoot boots a machine with each firmware from dnsmasq and a plain file
// server: the lab works, whatever bootd does.
func TestBoot(t *testing.T) {
	Need(t)
	im := ImagesForTest(t)
	for i, fw := range []Firmware{BIOS, BIOSLoader, UEFI, UEFIROM} {
		t.Run(fw.String(), func(t *testing.T) {
			t.Parallel()
			testBoot(t, im, Machine{
				Name: "ncn-m001", Firmware: fw, MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, byte(i + 1)},
				UUID: node.UUID{15: byte(i + 1)}, Serial: fmt.Sprintf("LAB-%d", i),
			})
		})
	}
}

func testBoot(t *testing.T, im *Images, m Machine) {
	n := ForTest(t, netip.MustParsePrefix("10.77.0.1/24"), 1)
	release := Release{Dir: "k8s", ID: "1.2.3", Base: "kubernetes"}
	asked := servePeer(t, n, im, release, m)
	dhcp := startDnsmasq(t, n, m)

	g := n.Boot(t, m)
	ctx := Deadline(t)
	line, err := g.WaitFor(ctx, regexp.MustCompile(`^BOOTD-LAB-BOOTED`))
	if err != nil {
		t.Fatalf("%v\ndnsmasq: %v", err, dhcp)
	}
	for _, want := range []string{
		" node=ncn-m001 ", " release=1.2.3 ", " role=kubernetes ", " ip=10.77.0.11 ",
		" kernel=" + im.Version + " ", " BOOTIF=01-" + m.MAC.Hyphen() + " ",
	} {
		if !strings.Contains(line.Text+" ", want) {
			t.Errorf("got %q, want it to contain %q", line.Text, want)
		}
	}
	if _, err := g.WaitFor(ctx, regexp.MustCompile(`^BOOTD-LAB-CHECKED-IN HTTP/1.1 200 OK$`)); err != nil {
		t.Error(err)
	}
	if err := g.Ended(ctx); err != nil {
		t.Errorf("QEMU: got %v, want it to end well after power-off", err)
	}
	select {
	case got := <-asked:
		want := fmt.Sprintf("uuid=%s&serial=%s release=1.2.3", m.UUID, m.Serial)
		if got != want {
			t.Errorf("script query and check-in: got %q, want %q", got, want)
		}
	default:
		t.Error("got no check-in at the server")
	}
	t.Logf("%v: booted in %.1f s", m.Firmware, line.Time.Sub(g.Started).Seconds())
}

// startDnsmasq serves DHCP and TFTP: a loader to firmware, a script to iPXE,
// which is known by option 175, and a plain lease to everything else.
func startDnsmasq(t *testing.T, n *Net, m Machine) *Proc {
	t.Helper()
	p, err := n.Start("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null", "--port=0",
		"--user=root", "--interface="+Bridge, "--bind-interfaces", "--no-ping", "--pid-file="+n.Dir+"/dnsmasq.pid",
		"--dhcp-leasefile="+n.Dir+"/leases", "--dhcp-range=10.77.0.100,10.77.0.199,10m",
		"--dhcp-host="+m.MAC.String()+",10.77.0.11,ncn-m001",
		"--enable-tftp", "--tftp-root="+IPXEDir,
		"--dhcp-match=set:ipxe,175", "--dhcp-option-force=tag:ipxe,175,b0:01:01", // protocol.md 0.8: do not wait for a proxy
		"--dhcp-match=set:efi64,option:client-arch,7", "--dhcp-match=set:bios,option:client-arch,0",
		"--tag-if=set:script,tag:ipxe", "--tag-if=set:loader,tag:efi64,tag:!ipxe",
		"--dhcp-boot=tag:script,"+scriptURL(m)+",,10.77.0.1",
		"--dhcp-boot=tag:loader,snponly.efi,,10.77.0.1",
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WaitFor(Deadline(t), regexp.MustCompile(`DHCP, IP range`)); err != nil {
		t.Fatal(err)
	}
	return p
}

func scriptURL(m Machine) string {
	return "http://10.77.0.1/boot.ipxe?uuid=${uuid}&serial=${serial}"
}

// servePeer serves a script, the boot directory of ncn-m001 and the check-in
// with net/http's file server. What machines said of themselves comes out of
// the channel at their check-in.
func servePeer(t *testing.T, n *Net, im *Images, r Release, m Machine) <-chan string {
	t.Helper()
	root := filepath.Join(n.Dir, "www")
	if err := im.WriteRelease(t.Context(), root, r); err != nil {
		t.Fatal(err)
	}
	data := "../ephemeral/data/k8s/1.2.3/"
	if err := os.Mkdir(filepath.Join(root, "ncn-m001"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"kernel": im.Version + "-1.2.3.kernel", "initrd.img.xz": "initrd.img-1.2.3.xz", "rootfs": "kubernetes-1.2.3.squashfs",
	} {
		if err := os.Symlink(data+target, filepath.Join(root, "ncn-m001", link)); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!ipxe\n" +
		"kernel http://10.77.0.1/ncn-m001/kernel initrd=initrd.img.xz console=ttyS0 no_timer_check panic=-1" +
		" metal.server=http://10.77.0.1/ncn-m001 BOOTIF=01-" + m.MAC.Hyphen() + " ip=dhcp\n" +
		"initrd http://10.77.0.1/ncn-m001/initrd.img.xz\nboot\n"
	asked := make(chan string, 1)
	var query string // written before, read after the kernel of the same machine boots
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(root)))
	mux.HandleFunc("GET /boot.ipxe", func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		io.WriteString(w, script)
	})
	mux.HandleFunc("POST /checkin/booted", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked <- query + " " + string(b)
	})
	var l net.Listener
	if err := n.Do(func() (err error) {
		l, err = net.Listen("tcp4", "10.77.0.1:80")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return asked
}
