package ipxe

import (
	"cmp"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// A GRUBFile is a configuration file that GRUB asks for.
type GRUBFile struct {
	Peek bool       // somebody only looks: nothing follows from the answer
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
	s.Retries = cmp.Or(s.Retries, defaultRetries)
	v := view{Script: s, Next: next, TFTP: serverRule.FindStringSubmatch(s.Server)[1]}
	if s.Decision.Action == deploy.Boot {
		var err error
		if v.Words, err = s.words(); err != nil {
			return nil, err
		}
	}
	return v.execute("grub-" + s.Decision.Action.String())
}

// grubTrouble is to GRUB as trouble is to Render.
func grubTrouble(server, text string, next bool) []byte {
	s := Script{Server: server, Decision: deploy.Decision{Action: deploy.Hold, Reason: text}}
	b, err := s.GRUB(next)
	if err != nil {
		return []byte("echo 'bootd: the server does not know its own address'\nsleep 30\nexit\n")
	}
	return b
}

// grub answers GRUB.
func (h *handler) grub(w *meter, c *call) error {
	begin := time.Now()
	c.grub.Peek = c.Method == http.MethodHead
	text, e, err := h.GRUB(c.grub, c.addr, c.server)
	if err != nil {
		return err
	}
	sendScript(w, text)
	e.File, e.Bytes, e.Dur = c.path, w.sent, time.Since(begin)
	h.record(c, e, w.err)
	return nil
}

// GRUB returns a configuration file of GRUB for the machine at an address, and
// the step it is. It is for TFTP; over HTTP it is a route. A name that may be
// somebody else's is fs.ErrNotExist: GRUB then tries its next one.
func (s *Server) GRUB(f GRUBFile, peer netip.Addr, server string) ([]byte, timeline.Event, error) {
	m, d := s.whose(f, peer)
	e := timeline.Event{Addr: peer, Step: timeline.Script, Stage: timeline.GRUB, Node: d.Node, MAC: m.MAC}
	unknown := m.MAC.IsZero() && d.Node == ""
	switch {
	case unknown && (f.Step != "" || !f.UUID.IsZero()), f.Addr.IsValid() && f.Addr != peer:
		return nil, e, &fs.PathError{Op: "open", Path: "grub.cfg", Err: fs.ErrNotExist}
	case f.Step != "":
		e.Step, e.Detail, e.Err = timeline.Report, f.Step, "GRUB could not load or start it"
		return []byte("# noted\n"), e, nil
	}
	e.Action, e.Release, e.Detail = d.Action.String(), d.Release, d.Reason
	if s.foreign(&e, f.MAC) {
		markForeign(&e)
	}
	var text []byte
	token, err := s.ticket(d, peer, server)
	if err == nil {
		text, err = Script{Server: server, MAC: m.MAC, Firmware: m.Firmware, Retries: s.retries(), Pinned: s.Pinned != nil, Ticket: token, Decision: d}.GRUB(f.Next)
	}
	if err != nil {
		text, e.Err = grubTrouble(server, shown(err), f.Next), err.Error()
	}
	return text, e, nil
}

// whose returns the machine that asks for a file, and what it is to do. Its
// address counts before the name of the file: a lease is harder to make up.
func (s *Server) whose(f GRUBFile, peer netip.Addr) (Machine, deploy.Decision) {
	m := Machine{MAC: f.MAC, UUID: f.UUID, Addr: peer, Firmware: node.UEFI} // no GRUB for BIOS is handed out
	m.Peek = f.Peek || f.Step != "" || f.Addr.IsValid() && f.Addr != peer
	if s.Identify != nil {
		if _, mac := s.Identify(peer); !mac.IsZero() {
			m.MAC = mac
		}
	}
	d := s.Decide(m)
	if d.Node == "" && !f.UUID.IsZero() {
		m.UUID = f.UUID.Swapped() // GRUB 2.06 has it as SMBIOS stores it
		d = s.Decide(m)
	}
	return m, d
}
