package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"bootd/internal/node"
)

// A Firmware is how a machine starts and what it asks the network for first.
type Firmware int

// The firmwares. All netboot from one virtio NIC, the only kind for which
// OVMF brings a driver.
const (
	BIOS       Firmware = iota // SeaBIOS with iPXE as the NIC's ROM: asks as iPXE from the first packet on
	BIOSLoader                 // SeaBIOS, iPXE that fetches undionly.kpxe by TFTP from next-server and starts it
	UEFI                       // OVMF's own PXE: asks as PXEClient, fetches a loader by TFTP
	UEFIROM                    // OVMF with iPXE as the NIC's EFI ROM
	UEFIHTTP                   // OVMF's own HTTP Boot: asks as HTTPClient, fetches a loader by URL
	Secure                     // as UEFI, Secure Boot enforced with Microsoft's keys
)

var firmwares = [...]string{BIOS: "bios", BIOSLoader: "bios-undionly", UEFI: "uefi", UEFIROM: "uefi-ipxe-rom", UEFIHTTP: "uefi-http", Secure: "secure"}

// String returns a short name.
func (f Firmware) String() string { return firmwares[f] }

// A Machine describes a virtual machine.
type Machine struct {
	Name     string // for file names and messages
	Firmware Firmware
	MAC      node.MAC
	UUID     node.UUID // zero: QEMU's, which is all zeroes
	Serial   string    // SMBIOS system serial number; empty: none
	Disks    []string  // files of its disks, from NewDisk, in order; their serial numbers are disk0, disk1, ...
	CD       string    // file in its CD drive; empty: it has none
	Screen   bool      // it has a screen, and its firmware shows itself there: see Guest.Screenshot
	Resets   bool      // a reset starts it anew, where it else ends
	Memory   int       // MiB; zero: 512
	Port     Port      // of the switch, which its NIC is plugged into; zero: PortFast
	Idle     bool      // before its NIC it has one of another kind without a cable, which only ipxe.efi has a driver for
	Silent   bool      // and another one of that kind, with a cable that leads to nobody
}

// A Guest is a Machine that was powered on. Its Console is the serial port,
// and Ended tells when it is off.
type Guest struct {
	*Proc
	Machine Machine
	net     *Net
	dir     string
	tap     string
}

// Screenshot writes what is on the screen to a PNG file.
func (g *Guest) Screenshot(ctx context.Context, file string) error {
	command, err := json.Marshal(map[string]any{"execute": "screendump", "arguments": map[string]string{"filename": file, "format": "png"}})
	if err != nil {
		return err
	}
	return tellQEMU(ctx, filepath.Join(g.dir, monitor), string(command))
}

// loaderScript runs in the iPXE that QEMU loads as a kernel, and does what the
// PXE ROM of a BIOS machine does.
const loaderScript = `#!ipxe
dhcp || goto failed
echo BOOTD-LAB-LOADER tftp://${next-server}/undionly.kpxe
chain tftp://${next-server}/undionly.kpxe ||
:failed
echo BOOTD-LAB-FAILED step=loader ${errno}
poweroff
`

// PowerOn starts a machine on the segment. A machine ends by powering itself
// off, by Kill, or with the Net.
func (n *Net) PowerOn(ctx context.Context, m Machine) (*Guest, error) {
	tap, dir, command, err := n.prepare(ctx, m)
	if err != nil {
		return nil, err
	}
	p, err := n.startIn(dir, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	if m.Idle {
		if err := unplug(ctx, filepath.Join(dir, monitor)); err != nil {
			p.Kill()
			return nil, err
		}
	}
	return &Guest{Proc: p, Machine: m, net: n, dir: dir, tap: tap}, nil
}

// Command puts a machine on the segment and leaves it to somebody else, such as
// its BMC, to power it on: that is to run the command in dir, within the
// namespace.
func (n *Net) Command(ctx context.Context, m Machine) (dir string, command []string, err error) {
	_, dir, command, err = n.prepare(ctx, m)
	return dir, command, err
}

func (n *Net) prepare(ctx context.Context, m Machine) (tap, dir string, command []string, err error) {
	accel, err := Accelerator(ctx)
	if err != nil {
		return "", "", nil, err
	}
	if tap, err = n.tap(ctx, m.Port); err != nil {
		return "", "", nil, err
	}
	if dir, err = os.MkdirTemp(n.Dir, m.Name+"-"); err != nil {
		return "", "", nil, err
	}
	return tap, dir, append([]string{"qemu-system-x86_64"}, m.args(accel, tap)...), firmwareFiles(m.Firmware, dir)
}

// monitor is QEMU's control socket.
const monitor = "qmp"

// unplug takes the cable out of the idle NIC; there is no argument for that.
func unplug(ctx context.Context, socket string) error {
	return tellQEMU(ctx, socket, `{"execute":"set_link","arguments":{"name":"idle","up":false}}`)
}

// tellQEMU has QEMU carry out a command, once it listens.
func tellQEMU(ctx context.Context, socket, command string) error {
	var conn net.Conn
	for {
		var err error
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("lab: QEMU's monitor: %w", err)
		}
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewScanner(conn)
	in.Scan() // its greeting
	for _, command := range []string{`{"execute":"qmp_capabilities"}`, command} {
		if _, err := io.WriteString(conn, command+"\n"); err != nil {
			return err
		}
		for in.Scan() && bytes.Contains(in.Bytes(), []byte(`"event"`)) {
		}
		if !bytes.Contains(in.Bytes(), []byte(`"return"`)) {
			return fmt.Errorf("lab: QEMU's monitor: %s: got %q", command, in.Bytes())
		}
	}
	return nil
}

// firmwareFiles puts into dir what args names without a path.
func firmwareFiles(f Firmware, dir string) error {
	switch f {
	case Secure:
		return copyFile(ovmfVarsMS, filepath.Join(dir, "vars.fd"))
	case UEFI, UEFIROM, UEFIHTTP:
		return copyFile(ovmfVars, filepath.Join(dir, "vars.fd")) // its own: OVMF writes to it
	case BIOSLoader:
		return os.WriteFile(filepath.Join(dir, "loader.ipxe"), []byte(loaderScript), 0o644)
	}
	return nil
}

// args returns the arguments of QEMU, to be run in a directory with the files
// of firmwareFiles.
func (m Machine) args(accel, tap string) []string {
	args := append(base(accel), m.firmwareArgs()...)
	args = append(args, m.identityArgs()...)
	args = append(args, m.driveArgs()...)
	if m.Idle || m.Screen {
		args = append(args, "-qmp", "unix:"+monitor+",server=on,wait=off")
	}
	if m.Screen {
		args = append(args, "-machine", "graphics=on", "-vga", "std")
	}
	if m.Idle {
		args = append(args, other("idle", 0)...)
	}
	if m.Silent {
		args = append(args, other("silent", 1)...)
	}
	return append(args,
		"-netdev", "tap,id=net,ifname="+tap+",script=no,downscript=no",
		"-device", m.nic())
}

// firmwareArgs choose what a machine starts with.
func (m Machine) firmwareArgs() (args []string) {
	switch m.Firmware {
	case BIOS:
		if len(m.Disks) == 0 {
			args = append(args, "-boot", "n") // and the ROM that QEMU gives the NIC
		}
		return args
	case BIOSLoader:
		return append(args, "-kernel", lkrn, "-initrd", "loader.ipxe")
	}
	code := ovmfCode
	if m.Firmware == Secure {
		// Its variables are behind system management mode, or the guest
		// could switch Secure Boot off.
		code = ovmfSecure
		args = append(args, "-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	args = append(args,
		"-drive", "if=pflash,format=raw,readonly=on,file="+code,
		"-drive", "if=pflash,format=raw,file=vars.fd",
		"-device", "virtio-rng-pci") // newer OVMF does no PXE without random numbers
	if m.Firmware == UEFIHTTP {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n") // it comes first, and would boot
	}
	if m.Firmware == UEFIHTTP || m.Firmware == Secure {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n") // comes before HTTP, and takes long
	}
	return args
}

// identityArgs are what a machine says of itself, and how it is.
func (m Machine) identityArgs() (args []string) {
	if !m.Resets {
		args = append(args, "-no-reboot")
	}
	if !m.UUID.IsZero() {
		args = append(args, "-uuid", m.UUID.String())
	}
	if m.Memory != 0 {
		args = append(args, "-m", strconv.Itoa(m.Memory)) // the last one counts
	}
	if m.Serial != "" {
		args = append(args, "-smbios", "type=1,serial="+m.Serial)
	}
	return args
}

// driveArgs are the disks and the CD. They boot after the network, always, as
// on a site that is served.
func (m Machine) driveArgs() (args []string) {
	for i, file := range m.Disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,file=%s", i, file),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,serial=disk%d,bootindex=%d", i, i, i+1))
	}
	if m.CD != "" {
		args = append(args, "-drive", "if=none,id=cd,media=cdrom,format=raw,readonly=on,file="+m.CD,
			"-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd")
	}
	return args
}

// nic is the device on the segment. It never names the ROM it wants: QEMU adapts
// the PCI ids in its default ROM file to the device, and in no other, and
// firmware skips a ROM whose ids are wrong.
func (m Machine) nic() string {
	nic := "virtio-net-pci,netdev=net,mac=" + m.MAC.String()
	if len(m.Disks) > 0 {
		nic += ",bootindex=0" // before those of driveArgs
	}
	if m.Firmware != BIOS && m.Firmware != UEFIROM {
		nic += ",romfile=" // OVMF prefers a ROM to its own driver
	}
	return nic
}

// other returns the arguments for a NIC at a hub of its own.
func other(name string, hub int) []string {
	return []string{
		"-netdev", fmt.Sprintf("hubport,id=%s,hubid=%d", name, hub),
		"-device", fmt.Sprintf("e1000,netdev=%s,romfile=,mac=52:54:00:1d:1e:%02x", name, hub),
	}
}

// base returns the arguments that every machine has: no display, no disk, and
// the serial port on standard output.
func base(accel string) []string {
	return []string{
		"-machine", "q35,graphics=off", "-accel", accel, "-m", "512", "-smp", "1",
		"-nodefaults", "-display", "none", "-serial", "stdio",
	}
}

// Accelerator returns "kvm" where a guest really runs under it, "tcg" where
// not. That /dev/kvm can be opened proves nothing: there are machines where it
// can, and guests hang in their firmware.
func Accelerator(ctx context.Context) (string, error) {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return "tcg", nil
	} else if err := f.Close(); err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "accel.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	file := filepath.Join(cache, "accel-"+hostKey())
	if b, err := os.ReadFile(file); err == nil {
		return string(b), nil
	}
	accel := "kvm"
	if err := probe(ctx, "kvm"); errors.Is(ctx.Err(), context.Canceled) {
		return "", err
	} else if err != nil {
		accel = "tcg"
	}
	return accel, os.WriteFile(file, []byte(accel), 0o644)
}

// hostKey tells one boot of this machine from another: after a move to another
// host the probe runs again.
func hostKey() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // empty is a key too
	sum := sha256.Sum256(id)
	return hex.EncodeToString(sum[:6])
}

// Guests get the argument no_timer_check. Where the host is busy, an emulated
// processor is so slow that the kernel finds its timer dead, and panics.

// probeTime is twice what a guest takes to reach our init under TCG; one that
// runs under KVM needs less than a second.
const probeTime = 5 * time.Second

// probe boots the images without a network and waits for a line from init.
func probe(ctx context.Context, accel string) error {
	im, err := Build(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	args := append(base(accel), "-no-reboot", "-kernel", im.Kernel, "-initrd", im.Initrd, "-append", "console=ttyS0 no_timer_check panic=-1 lab.probe=1")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	c := newConsole()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c, c, time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		cmd.Wait() // its end is all that counts
		c.close()
	}()
	_, err = c.WaitFor(ctx, regexp.MustCompile(`^BOOTD-LAB-PROBED`))
	cancel()
	return err
}
