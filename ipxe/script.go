package ipxe

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/node"
	"bootd/internal/tmplerr"
)

// maxCmdline is the longest kernel command line, the initrd= that names the
// initrd included: COMMAND_LINE_SIZE of x86 is 2048 with its final NUL.
const maxCmdline = 2047

// maxText is the longest text shown on a machine's screen.
const maxText = 255

// initrdName is the name iPXE gives the initrd. The kernel finds it by this
// name in "initrd=", since the iPXE of 2019 has no initrd.magic.
const initrdName = "initrd.img.xz"

// Args are the values that a kernel arguments template may use, as in
// "console=ttyS0 hostname={{.Node}}".
type Args struct {
	Server    string // host or host:port of this server, as seen by the machine
	Node      string // name of the node
	Role      string // its role
	Release   string // release id it boots
	MAC       string // of the NIC it boots from, 52:54:00:aa:bb:07; empty: not known
	MACHyphen string // the same, 52-54-00-aa-bb-07

	Firmware node.Firmware // bios or uefi; empty: not known
	Files    string        // URL of the directory of the files it boots
	Whole    bool          // its root file system is a whole ISO image
	Install  bool          // it boots an installer, and is to be installed

	rootfs  string // see Rootfs
	payload string // see Payload
}

// Rootfs returns the URL of the root file system. Its name ends as programs that
// go by it want: .squashfs, .iso or .img.
func (a Args) Rootfs() (string, error) {
	if a.rootfs == "" {
		return "", errors.New("the release has no root file system of its own")
	}
	return a.rootfs, nil
}

// Console returns the arguments for the consoles of its firmware mode.
func (a Args) Console() string { return console[a.Firmware] }

// Payload returns the URL of the directory of the node's documents, without a
// slash at its end. Only a node with a payload has one.
func (a Args) Payload() (string, error) {
	if a.payload == "" {
		return "", errors.New("the node has no payload")
	}
	return a.payload, nil
}

// A Script is what it takes to tell one machine of a decision.
type Script struct {
	Server   string        // host or host:port the machine reaches us at
	MAC      node.MAC      // NIC it boots from; zero: not known
	ByName   bool          // asked for by the name of the node, and so to be asked for again
	Retries  int           // how often a machine that is to boot asks a server that is gone; zero: 10
	Signed   bool          // the iPXE that runs it is the signed one: it starts a kernel through the shim of its distribution
	Firmware node.Firmware // how the machine started; empty: not known
	Pinned   bool          // files are named by their release: /<node>/<release>/...
	Ticket   deploy.Token  // for the payload of the node; zero: it boots without
	Claim    string        // URL shown as a QR code to claim the machine by; empty: none
	Decision deploy.Decision

	sample string // payload of one that nobody boots; see CheckCmdline
}

// defaultRetries makes a machine wait for some ten minutes.
const defaultRetries = 10

// Dir returns the path of the files that the machine boots.
func (s Script) Dir() string {
	if s.Pinned {
		return s.Decision.Node + "/" + s.Decision.Release
	}
	return s.Decision.Node
}

// Render returns the script. Its error names the value that may not go into a
// script; trouble then makes a script that tells of it. Render is pure.
func (s Script) Render() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s.Retries = cmp.Or(s.Retries, defaultRetries)
	v := view{Script: s, Again: EntryURL(s.Server)}
	if s.ByName && s.Decision.Node != "" {
		v.Again = "http://" + s.Server + "/" + s.Decision.Node + "/script.ipxe?fw=${platform}"
	}
	if s.Decision.Action == deploy.Boot {
		var err error
		if v.Cmdline, err = s.cmdline(); err != nil {
			return nil, err
		}
	}
	return v.execute(s.Decision.Action.String())
}

// shown is what the screen of a machine says of an error: all of it, unless it
// has less for machines than for administrators.
func shown(err error) string {
	type less interface {
		error
		Shown() string
	}
	if e, ok := errors.AsType[less](err); ok {
		return e.Shown()
	}
	return err.Error()
}

// trouble returns a script that shows why there is no other one, waits and
// asks again. It touches no disk, and succeeds with any text.
func trouble(server, text string) []byte {
	s := Script{Server: server, Decision: deploy.Decision{Action: deploy.Hold, Reason: text}}
	b, err := s.Render()
	if err != nil {
		// Without a usable address of our own, the firmware's next try is
		// the only way to ask again.
		return []byte("#!ipxe\necho bootd: the server does not know its own address\nsleep 30\nexit 1\n")
	}
	return b
}

// EntryURL returns the URL that iPXE is given as its boot file. iPXE fills in
// the rest: netX is the NIC that it booted from, which net0 need not be. The
// URL of an IPv4 server fits into the file field of a DHCP header (127 bytes).
func EntryURL(server string) string {
	return "http://" + server + "/boot/script.ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid}&serial=${serial:uristring}&fw=${platform}"
}

// Autoexec returns the script that iPXE 2.0 on UEFI looks for beside its own
// binary. It leads to the entry URL without a second DHCP exchange; where that
// does not work, because the port of the switch is deaf when iPXE opens the
// NIC, it waits and asks as the script of a machine that is to boot, and gives
// up after as many rounds.
func Autoexec(server string, retries int) []byte {
	v := view{Script: Script{Server: server, Retries: retries, Decision: deploy.Decision{Action: deploy.Boot}}, Again: EntryURL(server)}
	b, err := v.execute("autoexec")
	if err != nil || !serverRule.MatchString(server) {
		return trouble(server, "the server has no address of its own")
	}
	return b
}

// CheckArgs reports what is wrong with a kernel arguments template, so that a
// configuration can be refused before a machine needs it.
func CheckArgs(text string) error {
	_, err := expandArgs(text, Args{
		Server: "192.0.2.1:8080", Node: "node", Role: "role", Release: "1.2.3",
		MAC: "52:54:00:aa:bb:07", MACHyphen: "52-54-00-aa-bb-07", payload: "http://192.0.2.1:8080/t/bdt_00000000000000000000000000000000",
	})
	return err
}

// The allow-lists. Their common ground is that no character means anything to
// iPXE. A semicolon does only where it is a word of its own, and
// ds=nocloud-net;s=http://... needs one.
var (
	serverRule  = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$`)
	wordRule    = regexp.MustCompile(`^[A-Za-z0-9._:/@=+,%-]+$`)
	releaseRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	argRule     = regexp.MustCompile(`^[A-Za-z0-9._:/@=+,%-][A-Za-z0-9._:/@=+,%;-]*$`)
)

// check refuses what a command of the script could not carry.
func (s Script) check() error {
	d := s.Decision
	switch {
	case !serverRule.MatchString(s.Server):
		return fmt.Errorf("server: %q is not a host with a port", s.Server)
	case d.Node != "" && !node.ValidName(d.Node):
		return fmt.Errorf("node: %q is not a host name", d.Node)
	case d.Node == "" && d.Action == deploy.Boot:
		return fmt.Errorf("node: a machine without a name has no boot directory")
	case d.Role != "" && !wordRule.MatchString(d.Role):
		return fmt.Errorf("role: %q may not go into a script", d.Role)
	case s.Pinned && d.Action == deploy.Boot && !releaseRule.MatchString(d.Release):
		return fmt.Errorf("release: %q may not go into a URL", d.Release)
	case d.Release != "" && !wordRule.MatchString(d.Release):
		return fmt.Errorf("release: %q may not go into a script", d.Release)
	}
	return nil
}

// cmdline returns the kernel command line under iPXE: the kernel finds the
// initrd by its name.
func (s Script) cmdline() (string, error) {
	words, err := s.words()
	return strings.Join(append([]string{"initrd=" + initrdName}, words...), " "), err
}

// words returns the kernel arguments. BOOTIF and ip=dhcp are for the
// initramfs: the NIC that booted, and an address on it; metal.server is where
// the initramfs of source 004 finds its root file system. The length is that of
// an x86 kernel, with the initrd= that iPXE needs.
func (s Script) words() ([]string, error) {
	d := s.Decision
	a := Args{Server: s.Server, Node: d.Node, Role: d.Role, Release: d.Release, payload: s.payloadURL()}
	a.Install = d.Install
	a.Firmware, a.Files, a.Whole = s.Firmware, "http://"+s.Server+"/"+s.Dir(), d.Rootfs == node.ISO
	if name := rootfsNames[d.Rootfs]; name != "" {
		a.rootfs = a.Files + "/" + name
	}
	var words []string
	if d.Family == "" {
		words = append(words, "metal.server="+a.Files)
	}
	if !s.MAC.IsZero() {
		a.MAC, a.MACHyphen = s.MAC.String(), s.MAC.Hyphen()
		words = append(words, "BOOTIF=01-"+a.MACHyphen)
	}
	more, err := expandArgs(d.Args, a)
	if err != nil {
		return nil, err
	}
	words = append(append(words, "ip=dhcp"), more...)
	if words, err = s.seed(words); err != nil {
		return nil, err
	}
	if err := checkLive(d.Family, words); err != nil {
		return nil, err
	}
	if n := len("initrd=" + initrdName + " " + strings.Join(words, " ")); n > maxCmdline {
		return nil, fmt.Errorf("args: kernel command line has %d bytes, more than %d", n, maxCmdline)
	}
	return words, nil
}

// payloadURL returns the directory of the node's documents; empty: none.
func (s Script) payloadURL() string {
	if s.Ticket.IsZero() {
		return s.sample
	}
	return "http://" + s.Server + "/t/" + s.Ticket.Reveal()
}

// seed adds where the client of the payload finds it.
func (s Script) seed(words []string) ([]string, error) {
	f, ok := payload.FamilyOf(s.Decision.Payload)
	if s.payloadURL() == "" || !ok {
		return words, nil
	}
	args, other := f.Args(s.payloadURL(), s.Server, words)
	if other != "" {
		return nil, fmt.Errorf("args: %q leads elsewhere, and the node has a payload: {{.Payload}} is where it is", other)
	}
	return append(words, args...), nil
}

// expandArgs executes the template text and returns its words. Blanks and line
// ends only separate: an administrator may break a long line in the
// configuration.
func expandArgs(text string, a Args) ([]string, error) {
	t, err := template.New("args").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("args: %v", tmplerr.Of(err))
	}
	var b strings.Builder
	if err := t.Execute(&b, a); err != nil {
		return nil, fmt.Errorf("args: %v", tmplerr.Of(err))
	}
	if b.Len() > maxCmdline {
		return nil, fmt.Errorf("args: kernel arguments have %d bytes, more than %d", b.Len(), maxCmdline)
	}
	words := strings.Fields(b.String())
	for _, w := range words {
		if !argRule.MatchString(w) {
			return nil, fmt.Errorf("args: %q may not go into a script", w)
		}
	}
	return words, nil
}

// A view is what the templates see.
type view struct {
	Script
	Again   string   // URL to ask for the next script
	Cmdline string   // for boot
	Words   []string // for boot by GRUB: the kernel arguments
	Next    bool     // for GRUB: the file that is asked for while it waits
	TFTP    string   // for GRUB: host
}

// Boots reports whether the machine is to boot, and not to wait.
func (v view) Boots() bool { return v.Decision.Action == deploy.Boot }

// Waits are the seconds between the questions of a GRUB that is to boot.
func (v view) Waits() (list []int) {
	for i := range v.Retries {
		list = append(list, min(5+5*i, 30))
	}
	return list
}

// Sources are where GRUB can fetch a kernel from, the best first.
func (v view) Sources() []string { return []string{"(http," + v.Server + ")", "(tftp," + v.TFTP + ")"} }

// DiskLoaders are the loaders that systems put on an EFI system partition,
// the one that any system may own last.
func (view) DiskLoaders() []string {
	return []string{
		"/EFI/debian/shimx64.efi", "/EFI/ubuntu/shimx64.efi", "/EFI/sles/shim.efi", "/EFI/opensuse/shim.efi",
		"/EFI/redhat/shimx64.efi", "/EFI/rocky/shimx64.efi", "/EFI/centos/shimx64.efi", "/EFI/fedora/shimx64.efi",
		"/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/BOOTAA64.EFI", "/EFI/BOOT/BOOTIA32.EFI",
	}
}

func (v view) execute(name string) ([]byte, error) {
	var b bytes.Buffer
	err := scripts.ExecuteTemplate(&b, name, v)
	return b.Bytes(), err
}

//go:embed script.tmpl
var scriptText string

//go:embed grub.tmpl
var grubText string

var scripts = template.Must(template.New("").Funcs(template.FuncMap{"screen": screen, "quoted": quoted}).Parse(scriptText + grubText))

// quoted makes a text harmless between the single quotes of GRUB.
func quoted(text string) string { return strings.ReplaceAll(screen(text), "'", "?") }

// screen makes a text harmless as arguments of echo. It keeps letters, digits,
// blanks and the punctuation that means nothing to iPXE, and puts "?" for
// everything else, so that a reader sees that something is missing.
func screen(text string) string {
	clean := func(r rune) rune {
		switch {
		case r == ';' || r == '"': // common in messages of Go, and neither is missed
			return ','
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9',
			strings.ContainsRune(" ._:/@=+,%-()'!", r):
			return r
		}
		return '?'
	}
	text = strings.Map(clean, text)
	return text[:min(len(text), maxText)]
}
