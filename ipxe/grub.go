package ipxe

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"bootd/deploy"
	"bootd/internal/node"
)

// A GRUBFile is a configuration file that GRUB asks for.
type GRUBFile struct {
	Next bool       // the decision alone, for a GRUB that waits with an earlier file
	Step string     // not empty: GRUB reports that this step failed
	MAC  node.MAC   // in the name; zero: it has none
	UUID node.UUID  // in the name; zero: it has none
	Addr netip.Addr // in the name; zero: it has none
}

// grubDirs are where GRUB looks for its configuration: at the prefix built into
// it (Debian, Ubuntu, SUSE: /grub), or beside itself (Red Hat).
var grubDirs = []string{".", "grub", "grub2", "boot", "boot/grub", "boot/grub2"}

var grubStepRule = regexp.MustCompile(`^failed-([a-z-]{1,16})\.cfg$`)

// ParseGRUBFile reads the name of a configuration file of GRUB, relative to the
// root of TFTP or HTTP. GRUB tries, where it was built to, grub.cfg-UUID,
// grub.cfg-01-MAC, grub.cfg-ADDRESS with the address in hexadecimal and then
// ever fewer of its digits, and at last grub.cfg. Those with fewer digits name
// no machine, and are no file. Nor are the lists of modules it asks for, since
// a signed GRUB loads none.
func ParseGRUBFile(name string) (f GRUBFile, ok bool) {
	dir, base := path.Split(name)
	if !slices.Contains(grubDirs, path.Clean(dir)) {
		return f, false
	}
	id, isConfig := strings.CutPrefix(base, "grub.cfg")
	switch {
	case isConfig && id == "":
		return f, true
	case isConfig && strings.HasPrefix(id, "-"):
		return f, f.identify(id[1:])
	case base == "next.cfg":
		f.Next = true
		return f, true
	}
	if m := grubStepRule.FindStringSubmatch(base); m != nil {
		f.Step = m[1]
	}
	return f, f.Step != ""
}

// identify reads the part of a name that says whose file it is.
func (f *GRUBFile) identify(id string) bool {
	if hw, ok := strings.CutPrefix(id, "01-"); ok { // 01 is Ethernet (RFC 1700)
		mac, err := node.ParseMAC(hw)
		f.MAC = mac
		return err == nil && !mac.IsZero() && !mac.IsGroup()
	}
	if b, err := hex.DecodeString(id); err == nil && len(b) == 4 {
		f.Addr = netip.AddrFrom4([4]byte(b))
		return true
	}
	u, err := node.ParseUUID(id)
	f.UUID = u
	return err == nil
}

// GRUB returns the configuration file of GRUB that tells a machine of a
// decision, from the same rules as Render. It is fetched over TFTP or HTTP and
// fetches over HTTP, or, where that fails, over TFTP. The first file goes on
// asking for the next one; next is that one.
//
// The values that go into it have passed the allow-lists and stand in single
// quotes, between which nothing means anything to GRUB but a single quote.
func (s Script) GRUB(next bool) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s.Retries = cmp.Or(s.Retries, DefaultRetries)
	v := view{Script: s, Next: next, TFTP: s.Server}
	if host, _, ok := strings.Cut(s.Server, ":"); ok {
		v.TFTP = host
	}
	if s.Decision.Action == deploy.Boot {
		var err error
		if v.Words, err = s.words(); err != nil {
			return nil, err
		}
	}
	return v.execute("grub-" + s.Decision.Action.String())
}

// GRUBTrouble is to GRUB as Trouble is to Render.
func GRUBTrouble(server, text string, next bool) []byte {
	s := Script{Server: server, Decision: deploy.Decision{Action: deploy.Hold, Reason: text}}
	b, err := s.GRUB(next)
	if err != nil {
		return []byte("echo 'bootd: the server does not know its own address'\nsleep 30\nexit\n")
	}
	return b
}
