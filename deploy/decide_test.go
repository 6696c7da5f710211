package deploy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"bootd/deploy"
	"bootd/internal/node"
)

var (
	role = node.Role{Name: "kubernetes", Args: "console=ttyS0"}
	good = deploy.BootDir{Release: "1.2.3"}
	bad  = deploy.BootDir{Problem: "rootfs: no such file"}
	none = deploy.BootDir{Missing: true}
)

// TestDecide is every want with every state of the boot directory: the whole
// policy. The reasons are shown on the machine's screen and by bootctl why.
func TestDecide(t *testing.T) {
	const release, localDisk, hold = node.WantRelease, node.WantLocal, node.WantHold
	for _, tt := range []struct {
		name   string
		want   node.Want
		dir    deploy.BootDir
		action deploy.Action
		reason string
	}{
		{"release", release, good, deploy.Boot, "boot directory links release 1.2.3 of role kubernetes"},
		{"release, no directory", release, none, deploy.Discover, "no boot directory yet: run bootctl set-links"},
		{"release, bad directory", release, bad, deploy.Hold, "boot directory is not usable: rootfs: no such file"},
		{"release, empty directory", release, deploy.BootDir{}, deploy.Hold, "boot directory is not usable: it names no release"},
		{"release, bad directory of a release", release, deploy.BootDir{Release: "1.2.3", Problem: "x"}, deploy.Hold, "boot directory is not usable: x"},
		{"local", localDisk, good, deploy.Local, "set to boot from the local disk"},
		{"local, no directory", localDisk, none, deploy.Local, "set to boot from the local disk"},
		{"local, bad directory", localDisk, bad, deploy.Local, "set to boot from the local disk"},
		{"hold", hold, good, deploy.Hold, "held by the administrator"},
		{"hold, no directory", hold, none, deploy.Hold, "held by the administrator"},
		{"hold, bad directory", hold, bad, deploy.Hold, "held by the administrator"},
		{"a want of tomorrow", 200, good, deploy.Hold, "what the node should boot is not known (200)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &node.Node{Name: "ncn-w001", Role: "kubernetes", Want: tt.want, Args: "quiet"}
			want := deploy.Decision{Action: tt.action, Node: "ncn-w001", Role: "kubernetes", Reason: tt.reason}
			if tt.action == deploy.Boot {
				want.Release, want.Args = "1.2.3", "console=ttyS0 quiet"
			}
			if got := deploy.Decide(n, role, deploy.Observation{Dir: tt.dir}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// A machine that the inventory does not know is never told to boot, to leave
// its network or anything that depends on a role, whatever lies on the disk.
func TestDecideUnknownMachine(t *testing.T) {
	want := deploy.Decision{Action: deploy.Discover, Reason: "machine is not in the inventory"}
	for _, dir := range []deploy.BootDir{good, bad, none, {}} {
		for _, r := range []node.Role{role, {}} {
			if got := deploy.Decide(nil, r, deploy.Observation{Dir: dir}); got != want {
				t.Errorf("directory %+v: got %+v, want %+v", dir, got, want)
			}
		}
	}
}

func TestDecideArgs(t *testing.T) {
	for _, tt := range []struct{ role, node, want string }{
		{"", "", ""},
		{"a b", "", "a b"},
		{"", "c", "c"},
		{"a b", "c", "a b c"},
	} {
		got := deploy.Decide(&node.Node{Name: "n", Args: tt.node}, node.Role{Args: tt.role}, deploy.Observation{Dir: good}).Args
		if got != tt.want {
			t.Errorf("role %q, node %q: got %q, want %q", tt.role, tt.node, got, tt.want)
		}
	}
}

// A pin takes effect with set-links. Until then the reason says so.
func TestDecidePin(t *testing.T) {
	const notYet = ", although pinned to 1.2.4: run bootctl set-links"
	for _, tt := range []struct{ role, node, want string }{
		{"", "", "r"},
		{"1.2.3", "", "r"},
		{"1.2.4", "", "r" + notYet},
		{"", "1.2.4", "r" + notYet},
		{"1.2.4", "1.2.3", "r"}, // the node's pin is the more specific one
		{"1.2.3", "1.2.4", "r" + notYet},
	} {
		d := deploy.Decide(&node.Node{Name: "n", Role: "r", Release: tt.node}, node.Role{Release: tt.role}, deploy.Observation{Dir: good})
		if want := "boot directory links release 1.2.3 of role " + tt.want; d.Action != deploy.Boot || d.Release != "1.2.3" || d.Reason != want {
			t.Errorf("role pinned to %q, node to %q: got %v %s because %q, want boot 1.2.3 because %q", tt.role, tt.node, d.Action, d.Release, d.Reason, want)
		}
	}
}

func TestZeroDecisionIsHarmless(t *testing.T) {
	if got := (deploy.Decision{}).Action; got != deploy.Discover {
		t.Errorf("got %v, want discover", got)
	}
}

func TestActionText(t *testing.T) {
	for action, word := range map[deploy.Action]string{
		deploy.Discover: "discover", deploy.Boot: "boot", deploy.Local: "local", deploy.Hold: "hold",
	} {
		b, err := json.Marshal(deploy.Decision{Action: action})
		if want := `{"action":"` + word + `","reason":""}`; err != nil || string(b) != want {
			t.Errorf("%s: got %s, %v, want %s", word, b, err, want)
		}
		var d deploy.Decision
		if err := json.Unmarshal(b, &d); err != nil || d.Action != action {
			t.Errorf("%s: got %v, %v from its JSON", word, d.Action, err)
		}
	}
	var a deploy.Action
	if err := a.UnmarshalText([]byte("wipe")); err == nil || !strings.Contains(err.Error(), `"wipe" is not an action`) {
		t.Errorf("wipe: got %v, want that it is not an action", err)
	}
}

// A role that demands a firmware mode boots in no other one, and in none that
// is not known: not an installer, and not what it boots each time. What is on
// the disk already is left to start.
func TestDecideFirmware(t *testing.T) {
	armed := deploy.Record{Phase: deploy.Armed, Wipe: true}
	installer := &node.Install{}
	const (
		wrong   = "started by UEFI, and role edge demands legacy BIOS: change its boot mode"
		wrong2  = "started by legacy BIOS, and role edge demands UEFI: change its boot mode"
		unknown = "role edge demands legacy BIOS, and the machine does not say what started it"
	)
	for _, tt := range []struct {
		name            string
		demands, starts node.Firmware
		install         *node.Install
		record          deploy.Record
		want            node.Want
		dir             deploy.BootDir
		action          deploy.Action
		reason          string // empty: that of a boot
	}{
		{"any", "", node.UEFI, nil, deploy.Record{}, 0, good, deploy.Boot, ""},
		{"any, not known", "", "", installer, armed, 0, good, deploy.Boot, ""},
		{"right", node.BIOS, node.BIOS, installer, armed, 0, good, deploy.Boot, ""},
		{"right, UEFI", node.UEFI, node.UEFI, nil, deploy.Record{}, 0, good, deploy.Boot, ""},
		{"wrong, installer", node.BIOS, node.UEFI, installer, armed, 0, good, deploy.Hold, wrong},
		{"wrong, each boot", node.BIOS, node.UEFI, nil, deploy.Record{}, 0, good, deploy.Hold, wrong},
		{"wrong, UEFI demanded", node.UEFI, node.BIOS, installer, armed, 0, good, deploy.Hold, wrong2},
		{"not known", node.BIOS, "", installer, armed, 0, good, deploy.Hold, unknown},
		{"wrong, installed", node.BIOS, node.UEFI, installer, deploy.Record{Phase: deploy.Ready}, 0, good, deploy.Local, "installed: ready"},
		{"wrong, not armed", node.BIOS, node.UEFI, installer, deploy.Record{}, 0, good, deploy.Local, "not armed, and so not to be installed: see bootctl node arm"},
		{"wrong, local", node.BIOS, node.UEFI, nil, deploy.Record{}, node.WantLocal, good, deploy.Local, "set to boot from the local disk"},
		{"wrong, no boot directory", node.BIOS, node.UEFI, installer, armed, 0, none, deploy.Discover, "no boot directory yet: run bootctl set-links"},
		{"wrong, bad boot directory", node.BIOS, node.UEFI, installer, armed, 0, bad, deploy.Hold, "boot directory is not usable: rootfs: no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &node.Node{Name: "edge-1", Role: "edge", Want: tt.want}
			d := deploy.Decide(n, node.Role{Name: "edge", Firmware: tt.demands, Install: tt.install}, deploy.Observation{Dir: tt.dir, Record: tt.record, Firmware: tt.starts})
			if d.Action != tt.action || tt.reason != "" && d.Reason != tt.reason {
				t.Errorf("got %v because %q, want %v because %q", d.Action, d.Reason, tt.action, tt.reason)
			}
			if d.Action != deploy.Boot && (d.Install || d.Wipe || d.Release != "" || d.Args != "") {
				t.Errorf("got %+v, which is not to boot and says what to boot", d)
			}
		})
	}
}
