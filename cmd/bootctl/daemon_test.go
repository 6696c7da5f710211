package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/node"
	"bootd/internal/timeline"
	"bootd/links"
)

// rest is what of a daemon no script asks for.
type rest struct{ admin.Backend }

// A site is what a daemon in this process answers to the scripts.
type site struct {
	rest
	book
	stable
	yard
	nodes  []admin.Status // without what the events tell
	events map[string][]timeline.Event
	rivals []admin.Rival
	probes []admin.Probe
	stream []timeline.Event // for watchers, again and again; nil: cuts them off
	writes bool             // it has boot directories, in $WORK/root
	tree   *links.Tree
}

// Health implements admin.Backend.
func (s *site) Health() admin.Health {
	h := admin.Health{Rivals: s.rivals, Writes: s.writes}
	if s.tree != nil {
		h.Root = s.tree.Root().Name()
	}
	return h
}

// ApplyLinks implements admin.Backend, and says so in $WORK/root/applied.
func (s *site) ApplyLinks(ctx context.Context, p links.Plan) ([]links.Change, error) {
	if err := s.tree.Root().WriteFile("applied", []byte(p.Why), 0o644); err != nil {
		return nil, err
	}
	return s.tree.Apply(ctx, p)
}

// Probe implements admin.Backend.
func (s *site) Probe(_ context.Context, ifname string) ([]admin.Probe, error) {
	if ifname != "" && ifname != "eth1" {
		return nil, fmt.Errorf("no subnet is on interface %q; there are eth1", ifname)
	}
	return s.probes, nil
}

// Status implements admin.Backend as the daemon does.
func (s *site) Status(now time.Time) []admin.Status {
	list := make([]admin.Status, 0, len(s.nodes))
	for _, st := range s.nodes {
		boot := timeline.Tell(s.events[st.Machine], now)
		st.Outcome, st.Stopped, st.Last = boot.Outcome, boot.Stopped, boot.Last
		for _, e := range boot.Events {
			if e.Addr.IsValid() {
				st.Addr = e.Addr
			}
			if e.Release != "" {
				st.Release = e.Release
			}
		}
		list = append(list, st)
	}
	return list
}

// Story implements admin.Backend.
func (s *site) Story(machine string, now time.Time) (admin.Story, error) {
	for _, st := range s.nodes {
		if st.Machine == machine {
			return admin.Story{Machine: machine, Known: st.Known, Deployment: st.Deployment, Life: st.Life, Next: st.Next, Boot: timeline.Tell(s.events[machine], now)}, nil
		}
	}
	return admin.Story{}, fmt.Errorf("%q: %w", machine, admin.ErrUnknown)
}

// PayloadLog implements admin.Backend.
func (s *site) PayloadLog(machine string) ([]timeline.Event, error) {
	return nil, fmt.Errorf("%q: %w", machine, admin.ErrUnknown)
}

// Unreadable implements admin.Backend, for a user who may read no secrets.
func (s *site) Unreadable(paths []string) (list []admin.Unreadable) {
	for _, path := range paths {
		if strings.Contains(path, "/s/") {
			list = append(list, admin.Unreadable{Path: path, Why: path + ": permission denied: mode 0644, owner root:root, is not for user 991 of groups 991"})
		}
	}
	return list
}

// Validations implements admin.Backend: no role expects anything.
func (s *site) Validations(string) ([]admin.Validation, error) { return nil, nil }

// Registrations implements admin.Backend: no node is an edge host.
func (s *site) Registrations() []admin.EdgeHost { return nil }

// Watch implements admin.Backend.
func (s *site) Watch(ctx context.Context) <-chan timeline.Event {
	ch := make(chan timeline.Event)
	go func() {
		defer close(ch)
		for i := 0; len(s.stream) > 0; i++ {
			select {
			case ch <- s.stream[i%len(s.stream)]:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch
}

// sites are the daemons that a script may start, by name.
var sites = map[string]func() *site{"site": mixedSite, "big": bigSite, "edges": edgeSite, "user": func() *site { return &site{} }, "empty": func() *site { return &site{} }, "leases": func() *site { return &site{book: someLeases()} }, "nodes": func() *site { return &site{stable: someNodes()} }, "rivals": rivalSite, "alone": aloneSite, "upgrades": func() *site { return &site{} }, "writer": func() *site { return &site{writes: true} }}

// daemonCmd is the command "daemon SITE": it serves SITE on $WORK/bootd.sock
// until the end of the script.
func daemonCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || sites[args[0]] == nil {
		ts.Fatalf("usage: daemon SITE")
	}
	// Not admin.Listen, whose umask would be that of the scripts beside us.
	l, err := net.Listen("unix", ts.MkAbs("bootd.sock"))
	ts.Check(err)
	at := sites[args[0]]()
	if at.writes {
		at.tree, err = links.Open(ts.MkAbs("root"))
		ts.Check(err)
		ts.Defer(func() { at.tree.Close() })
	}
	s := &http.Server{Handler: admin.Handler(at)}
	go s.Serve(l)
	ts.Defer(func() { s.Close() })
}

var (
	dateRule  = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	clockRule = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}`)
)

// goldenCmd is the command "golden FILE": standard output is that file, but
// for moments of the wall clock.
func goldenCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: golden FILE")
	}
	got := dateRule.ReplaceAllString(ts.ReadFile("stdout"), "DATE TIME")
	got = clockRule.ReplaceAllString(got, "TIME")
	if want := ts.ReadFile(args[0]); got != want {
		ts.Fatalf("got:\n%s\nwant:\n%s", got, want)
	}
}

const stage, system, arch = timeline.IPXE, timeline.OS, "x64-efi"

// A boot is the steps of a machine from a moment on.
type boot struct {
	begin time.Time
	node  string
	mac   node.MAC
	addr  netip.Addr
}

func (b boot) at(seconds float64, e timeline.Event) timeline.Event {
	e.Time = b.begin.Add(time.Duration(seconds * float64(time.Second)))
	e.Node, e.MAC = b.node, b.mac
	if e.Step != timeline.Discover {
		e.Addr = b.addr
	}
	return e
}

// pxe is the way of UEFI firmware to its script.
func (b boot) pxe() []timeline.Event {
	const url = "http://10.1.1.1/boot/script.ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid}"
	return []timeline.Event{
		b.at(0, timeline.Event{Step: timeline.Discover, Stage: timeline.Firmware, Arch: arch}),
		b.at(0.0004, timeline.Event{Step: timeline.Offer, Stage: timeline.Firmware, Arch: arch, File: "ipxe.efi"}),
		b.at(3.7, timeline.Event{Step: timeline.Request, Stage: timeline.Firmware, Arch: arch}),
		b.at(3.702, timeline.Event{Step: timeline.Ack, Stage: timeline.Firmware, Arch: arch, File: "ipxe.efi"}),
		b.at(3.81, timeline.Event{Step: timeline.TFTP, Stage: timeline.Firmware, File: "ipxe.efi", Bytes: 1041408, Dur: 96 * time.Millisecond}),
		b.at(5.9, timeline.Event{Step: timeline.Discover, Stage: stage, Arch: arch}),
		b.at(5.9005, timeline.Event{Step: timeline.Offer, Stage: stage, Arch: arch, File: url}),
		b.at(5.902, timeline.Event{Step: timeline.Request, Stage: stage, Arch: arch}),
		b.at(5.904, timeline.Event{Step: timeline.Ack, Stage: stage, Arch: arch, File: url}),
	}
}

func (b boot) script(seconds float64, action, release, why string) timeline.Event {
	return b.at(seconds, timeline.Event{Step: timeline.Script, Stage: stage, File: "boot/script.ipxe", Action: action, Release: release, Detail: why, Bytes: 612, Dur: time.Millisecond})
}

func (b boot) file(seconds float64, s timeline.Stage, name string, bytes int64, dur time.Duration, err string) timeline.Event {
	return b.at(seconds, timeline.Event{Step: timeline.HTTP, Stage: s, File: name, Bytes: bytes, Dur: dur, Err: err})
}

// booted is a whole boot of release 1.2.3.
func (b boot) booted() []timeline.Event {
	return append(b.pxe(),
		b.script(5.91, "boot", "1.2.3", "boot directory links release 1.2.3 of role kubernetes"),
		b.file(6.2, stage, b.node+"/kernel", 8<<20, 80*time.Millisecond, ""),
		b.file(8.4, stage, b.node+"/initrd.img.xz", 90<<20, 1900*time.Millisecond, ""),
		b.at(21, timeline.Event{Step: timeline.Discover, Stage: system}),
		b.at(21.001, timeline.Event{Step: timeline.Offer, Stage: system}),
		b.at(21.002, timeline.Event{Step: timeline.Request, Stage: system}),
		b.at(21.004, timeline.Event{Step: timeline.Ack, Stage: system}),
		b.file(36, system, b.node+"/rootfs", 2<<30, 14*time.Second, ""),
		b.at(48.5, timeline.Event{Step: timeline.CheckIn, Stage: system, File: "checkin/booted", Release: "1.2.3"}),
	)
}

// newBoot begins minutes and a half ago, so that "N minutes ago" is safe.
func newBoot(name string, i int, minutes int) boot {
	return boot{
		begin: time.Now().Add(-time.Duration(minutes)*time.Minute - 30*time.Second), node: name,
		mac: node.MAC{0x52, 0x54, 0, 0, byte(i >> 8), byte(i)}, addr: netip.AddrFrom4([4]byte{10, 1, byte(1 + i>>8), byte(i)}),
	}
}

func next123() deploy.Decision {
	return deploy.Decision{Action: deploy.Boot, Role: "kubernetes", Release: "1.2.3", Reason: "boot directory links release 1.2.3 of role kubernetes"}
}

// mixedSite has a machine for each way a boot can go.
func mixedSite() *site {
	s := &site{events: map[string][]timeline.Event{}}
	add := func(name, role string, known bool, next deploy.Decision, events ...timeline.Event) {
		s.nodes = append(s.nodes, admin.Status{Machine: name, Role: role, Known: known, Next: next})
		s.events[name] = events
	}
	hold := deploy.Decision{Action: deploy.Hold, Reason: "held by the administrator"}
	strange := deploy.Decision{Action: deploy.Discover, Reason: "machine is not in the inventory"}

	b := newBoot("ncn-m001", 101, 180)
	renewed := b.at(1848, timeline.Event{Step: timeline.Request, Stage: system})
	renewed.Count, renewed.Last = 5, renewed.Time.Add(2*time.Hour)
	add("ncn-m001", "kubernetes", true, next123(), append(b.booted(), renewed)...)
	s.stream = b.booted()

	b = newBoot("ncn-m002", 102, 6)
	add("ncn-m002", "kubernetes", true, next123(), append(b.pxe(), b.script(5.91, "boot", "1.2.3", "boot directory links release 1.2.3 of role kubernetes"),
		b.file(6.2, stage, "ncn-m002/kernel", 8<<20, 80*time.Millisecond, ""))...)

	b = newBoot("ncn-w001", 111, 20)
	failing := append(b.pxe(), b.script(5.91, "boot", "1.2.3", "boot directory links release 1.2.3 of role kubernetes"),
		b.file(6.2, stage, "ncn-w001/kernel", 0, time.Millisecond, "\"ncn-w001/kernel\": no such file"),
		b.at(6.3, timeline.Event{Step: timeline.Report, Stage: stage, File: "report", Detail: "kernel", Err: "iPXE error 2d0c618e: HTTP 404: file missing at that URL"}))
	for i := range failing[9:] {
		failing[9+i].Count, failing[9+i].Last = 30, b.begin.Add(15*time.Minute)
	}
	add("ncn-w001", "kubernetes", true, next123(), failing...)

	b = newBoot("ncn-w002", 112, 7*24*60)
	waits := b.script(5.91, "hold", "", hold.Reason)
	waits.Count, waits.Last = 20160, time.Now().Add(-2*time.Minute-30*time.Second)
	add("ncn-w002", "kubernetes", true, hold, append(b.pxe(), waits)...)

	b = newBoot("ncn-w003", 113, 60*24*3)
	add("ncn-w003", "kubernetes", true, deploy.Decision{Action: deploy.Local, Reason: "set to boot from the local disk"},
		append(b.pxe(), b.script(5.91, "local", "", "set to boot from the local disk"))...)
	add("ncn-s001", "storage-ceph", true, deploy.Decision{Action: deploy.Discover, Reason: "no boot directory yet: run bootctl set-links"})

	b = newBoot("ncn-m001-mgmt", 201, 300)
	add("ncn-m001-mgmt", "", false, strange, b.at(0, timeline.Event{Step: timeline.Discover, Stage: system}), b.at(0.01, timeline.Event{Step: timeline.Ack, Stage: system}))

	b = newBoot("", 250, 4)
	evil := b.at(0, timeline.Event{Step: timeline.TFTP, Stage: timeline.Firmware, File: "\x1b[2J\x1b]0;pwned\a\u009b31m\u202eipxe.efi", Err: "name \x1b[31m: no such file\nncn-m001: booted"})
	add(b.mac.String(), "", false, strange, evil)
	s.stream = append(s.stream[:len(s.stream):len(s.stream)], evil)

	old := newBoot("", 251, 60*24*9)
	add(old.mac.String(), "", false, strange, old.at(0, timeline.Event{Step: timeline.Discover, Stage: timeline.Firmware, Arch: arch}))
	return s
}

// bigSite has 900 nodes, of which a third failed.
func bigSite() *site {
	s := &site{events: map[string][]timeline.Event{}}
	for i := range 900 {
		b := newBoot(fmt.Sprintf("ncn-w%03d", i+1), i, 10)
		s.nodes = append(s.nodes, admin.Status{Machine: b.node, Role: "kubernetes", Known: true, Next: next123()})
		if s.events[b.node] = b.booted(); i%3 == 0 {
			s.events[b.node] = []timeline.Event{b.at(0, timeline.Event{Step: timeline.NoAddr, Stage: timeline.Firmware, Arch: arch, Err: "no address left in 10.1.0.0/16"})}
		}
	}
	return s
}

// Whatever goes wrong between us and the daemon, somebody knows what to do.
func TestExplained(t *testing.T) {
	for want, err := range map[string]error{
		"systemctl start bootd":  admin.ErrNotRunning,
		"run bootctl as root":    fs.ErrPermission,
		"journalctl -u bootd":    admin.ErrStopped,
		"bootctl status lists":   admin.ErrUnknown,
		"start the watch again;": admin.ErrBehind,
	} {
		var e cli.Error
		if got := explained(fmt.Errorf("x: %w", err)); !errors.As(got, &e) || !strings.Contains(e.Hint, want) || !errors.Is(got, err) {
			t.Errorf("%v: got hint %q, want %q in it", err, e.Hint, want)
		}
	}
	if err := explained(nil); err != nil {
		t.Errorf("nil: got %v", err)
	}
}

func TestWords(t *testing.T) {
	now := time.Now()
	for want, d := range map[string]time.Duration{
		"0s ago": -time.Hour, "59s ago": 59 * time.Second, "1m ago": time.Minute, "59m ago": time.Hour - 1, "47h ago": 48*time.Hour - 1, "2d ago": 48 * time.Hour,
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
	if got := ago(time.Time{}, now); got != "never" {
		t.Errorf("no time: got %s, want never", got)
	}
	for want, d := range map[string]time.Duration{
		"0.000 s": 0, "3599.000 s": time.Hour - time.Second, "1h05m": 65 * time.Minute, "47h59m": 48*time.Hour - 1, "7d03h": 171 * time.Hour,
	} {
		if got := span(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
	for want, n := range map[string]int64{"1023 B": 1023, "1.0 KiB": 1024, "1.0 MiB": 1 << 20, "2.5 GiB": 5 << 29} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// rivalSite is one where a second DHCP server answers.
func rivalSite() *site {
	addr := netip.MustParseAddr
	ours := admin.Offer{Ours: true, Server: addr("10.1.0.1"), Source: addr("10.1.0.1"), MAC: node.MAC{0x52, 0x54, 0, 0, 0, 1},
		Addr: addr("10.1.1.7"), Next: addr("10.1.0.1"), File: "snponly.efi", After: 203 * time.Millisecond}
	rogue := admin.Offer{Server: addr("10.1.0.2"), Source: addr("10.1.0.2"), MAC: node.MAC{0x52, 0x54, 0, 0, 0, 2},
		Addr: addr("10.1.1.99"), File: "\x1b[31mpxelinux.0", Class: "PXEClient", Vendor: "060108ff", After: 3004 * time.Millisecond}
	return &site{
		rivals: []admin.Rival{{Server: addr("10.1.0.2"), Subnet: netip.MustParsePrefix("10.1.0.0/16"), Machine: "ncn-m001", Choices: 3, Last: time.Now().Add(-5*time.Minute - 30*time.Second)}},
		probes: []admin.Probe{
			{Interface: "eth1", Mode: "authoritative", Offers: []admin.Offer{ours, rogue},
				Trouble: []string{"10.1.0.2 offers addresses too: stop it, or say mode: shared or proxy"}},
			{Interface: "eth2", Mode: "proxy", Trouble: []string{"no server offers an address, and bootd is only a proxy here"}},
		},
	}
}

// aloneSite is one where all is well.
func aloneSite() *site {
	s := rivalSite()
	return &site{probes: []admin.Probe{{Interface: "eth1", Mode: "authoritative", Offers: s.probes[0].Offers[:1]}}}
}
