// Package deploy knows what each machine should do at its next boot, and why.
//
// Decide is the one place where that is settled. DHCP, TFTP, every HTTP route
// and bootctl render its result and have no policy of their own, because a
// route with its own idea of "netboot is off" is how boot servers get install
// loops.
package deploy

import (
	"cmp"
	"fmt"

	"bootd/internal/node"
)

// An Action is what a machine is told to do. The zero Action is Discover, the
// harmless one.
type Action uint8

// The actions.
const (
	Discover Action = iota // show what was found, wait, ask again; touches no disk
	Boot                   // boot the release in its boot directory
	Local                  // leave the network and boot from the local disk
	Hold                   // wait and ask again; an administrator must act
)

var actions = [...]string{Discover: "discover", Boot: "boot", Local: "local", Hold: "hold"}

// String returns the word shown to administrators and kept in events.
func (a Action) String() string { return actions[a] }

// MarshalText returns the word of String.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the word of String.
func (a *Action) UnmarshalText(b []byte) error {
	for i, word := range actions {
		if string(b) == word {
			*a = Action(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not an action", b)
}

// A Decision is what a machine should do now and why. Protocols render it.
type Decision struct {
	Action  Action `json:"action"`
	Node    string `json:"node,omitempty"`    // empty: the machine is not in the inventory
	Role    string `json:"role,omitempty"`    // empty as Node
	Release string `json:"release,omitempty"` // release id, when Action is Boot
	Args    string `json:"args,omitempty"`    // kernel arguments template, when Action is Boot
	Install bool   `json:"install,omitempty"` // the release is an installer
	Wipe    bool   `json:"wipe,omitempty"`    // what boots is to wipe the disks
	Payload string `json:"payload,omitempty"` // family of its payload, when Action is Boot; empty: it has none
	Reason  string `json:"reason"`            // one line for people, without a full stop

	Family node.Family `json:"family,omitempty"` // of the release, when Action is Boot
	Rootfs node.Rootfs `json:"rootfs,omitempty"` // what its third member is, when Action is Boot
}

// A BootDir is what was found in a node's boot directory.
type BootDir struct {
	Release string // id of the release its three links point into
	Problem string // why it cannot be booted from; empty: it can
	Missing bool   // there is no boot directory

	Family node.Family // of the release; empty: that of source 004
	Rootfs node.Rootfs // what its third member is; empty: a squashfs
}

// An Observation is what is known of a node when it is decided about.
type Observation struct {
	Dir     BootDir
	Record  Record // as Record.Comes returns it
	Foreign bool   // who asks holds no lease of the node

	Firmware node.Firmware // how the machine started; empty: it does not say
}

// Decide settles what a machine does at its next boot. n is nil when the
// inventory does not know the machine; role and o belong to n. Decide is pure:
// same input, same decision, no clock and no disk.
func Decide(n *node.Node, role node.Role, o Observation) Decision {
	if n == nil {
		return Decision{Action: Discover, Reason: "machine is not in the inventory"}
	}
	d := Decision{Node: n.Name, Role: n.Role}
	switch n.Want {
	case node.WantRelease:
		return d.fromRecord(n, role, o)
	case node.WantLocal:
		d.Action, d.Reason = Local, "set to boot from the local disk"
	case node.WantHold:
		d.Action, d.Reason = Hold, "held by the administrator"
	default: // never boot what we do not understand
		d.Action, d.Reason = Hold, fmt.Sprintf("what the node should boot is not known (%d)", n.Want)
	}
	return d
}

// fromRecord settles what a node does by how far its deployment has come.
func (d Decision) fromRecord(n *node.Node, role node.Role, o Observation) Decision {
	r := o.Record
	switch {
	case r.Phase == Held:
		d.Action, d.Reason = Hold, r.Reason
	case role.Install == nil:
		d = d.boot(n, role, o)
		d.Wipe = d.Action == Boot && r.Wipe
	case r.Phase == Armed, r.Phase == Installing && !r.Running:
		d = d.install(n, role, o)
	case r.Phase == Inventory:
		d.Action, d.Reason = Local, "not armed, and so not to be installed: see bootctl node arm"
	case r.Phase == Failed && !r.From.onDisk():
		d.Action, d.Reason = Hold, "failed: "+r.Reason
	case r.Phase == Installing: // its record was not asked what its coming back means
		d.Action, d.Reason = Hold, "the installer runs, or ended without a word"
	default:
		d.Action, d.Reason = Local, "installed: "+r.Phase.String()
	}
	return d
}

// install settles what a node does that is to be installed. Nobody else's disk
// is to be overwritten.
func (d Decision) install(n *node.Node, role node.Role, o Observation) Decision {
	installs := d.boot(n, role, o)
	if installs.Action != Boot {
		return installs
	}
	if o.Foreign {
		d.Action, d.Reason = Hold, "armed, and who asks holds no lease of "+n.Name
		return d
	}
	installs.Install, installs.Wipe = true, o.Record.Wipe
	installs.Reason = "armed, and its " + installs.Reason
	return installs
}

// boot settles what a node does that should boot its release: nothing, where
// its role demands another firmware mode than the machine started in. What an
// installer puts on a disk in the wrong mode would never boot.
func (d Decision) boot(n *node.Node, role node.Role, o Observation) Decision {
	boots := d.fromBootDir(n, role, o.Dir)
	if boots.Action != Boot || role.Firmware == "" || o.Firmware == role.Firmware {
		return boots
	}
	d.Action = Hold
	d.Reason = fmt.Sprintf("started by %s, and role %s demands %s: change its boot mode", firmwareWord(o.Firmware), n.Role, firmwareWord(role.Firmware))
	if o.Firmware == "" {
		d.Reason = fmt.Sprintf("role %s demands %s, and the machine does not say what started it", n.Role, firmwareWord(role.Firmware))
	}
	return d
}

// firmwareWord is a firmware mode as the setup of machines calls it.
func firmwareWord(f node.Firmware) string {
	if f == node.BIOS {
		return "legacy BIOS"
	}
	return "UEFI"
}

// fromBootDir settles what a node does that should boot its release.
func (d Decision) fromBootDir(n *node.Node, role node.Role, dir BootDir) Decision {
	switch {
	case dir.Missing:
		// Source 004: a node without a boot directory boots the
		// non-destructive discovery.
		d.Action, d.Reason = Discover, "no boot directory yet: run bootctl set-links"
	case dir.Problem != "":
		d.Action, d.Reason = Hold, "boot directory is not usable: "+dir.Problem
	case dir.Release == "":
		d.Action, d.Reason = Hold, "boot directory is not usable: it names no release"
	default:
		d.Action, d.Release = Boot, dir.Release
		d.Family, d.Rootfs = dir.Family, dir.Rootfs
		d.Args = joinArgs(role.Args, n.Args)
		d.Payload = n.Payload.Family
		d.Reason = fmt.Sprintf("boot directory links release %s of role %s", dir.Release, n.Role)
		if pin := cmp.Or(n.Release, role.Release); pin != "" && pin != dir.Release {
			d.Reason += fmt.Sprintf(", although pinned to %s: run bootctl set-links", pin)
		}
	}
	return d
}

func joinArgs(role, own string) string {
	if role == "" || own == "" {
		return role + own
	}
	return role + " " + own
}
