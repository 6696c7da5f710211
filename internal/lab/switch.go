package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// A Port is what a switch does with the port of a machine whenever its link
// comes up: at power-on, and at ReplugAt.
type Port int

// The ports. Open vSwitch runs in user space here: not every kernel has bonds,
// and none has RSTP.
const (
	PortFast     Port = iota // forwards at once
	STP                      // IEEE 802.1D-1998, the kernel's: deaf for two times ForwardDelay, and its BPDUs do not say that it is
	RSTP                     // IEEE 802.1D-2004, by Open vSwitch, and not an edge port: deaf for up to two times 15 s, as its BPDUs say
	LACP                     // IEEE 802.1AX, by Open vSwitch: one of two ports of a bond, which forwards only to who speaks LACP
	LACPFallback             // the same, which forwards to one that speaks no LACP too
)

var ports = [...]string{PortFast: "portfast", STP: "stp", RSTP: "rstp", LACP: "lacp", LACPFallback: "lacp-fallback"}

// String returns a short name.
func (p Port) String() string { return ports[p] }

// ForwardDelay is that of STP. The default of the standard is 15 s; this is
// enough to keep a port deaf for longer than the 16 s that iPXE asks DHCP.
const ForwardDelay = 10 * time.Second

const (
	ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"
	ovsBridge = "ovs0" // and its port on Bridge: a tap, so that what the kernel sends has its checksums
	ovsBond   = "lag"
)

// plug makes a tap a port. STP is for all that is plugged into Bridge; a Net has
// one machine at a port by Open vSwitch.
func (n *Net) plug(ctx context.Context, tap string, p Port) error {
	switch p {
	case PortFast:
		return n.ip("link set " + tap + " master " + Bridge + " up")
	case STP:
		return n.ip(
			fmt.Sprintf("link set %s type bridge stp_state 1 forward_delay %d", Bridge, ForwardDelay/(10*time.Millisecond)),
			"link set "+tap+" master "+Bridge+" up")
	case RSTP:
		return n.plugOVS(ctx, tap, "add-port "+ovsBridge+" "+tap, "set port "+tap+" other_config:rstp-port-auto-edge=false", "set bridge "+ovsBridge+" rstp_enable=true")
	}
	other := tap + "b" // member of the bond where nothing is plugged in
	if err := n.ip("tuntap add dev "+other+" mode tap", "link set "+other+" up"); err != nil {
		return err
	}
	return n.plugOVS(ctx, tap, "add-bond "+ovsBridge+" "+ovsBond+" "+tap+" "+other+" lacp=active bond_mode=balance-slb",
		fmt.Sprintf("set port %s other_config:lacp-fallback-ab=%v", ovsBond, p == LACPFallback))
}

// plugOVS starts Open vSwitch and makes a tap a port of it, in one step.
func (n *Net) plugOVS(ctx context.Context, tap string, commands ...string) error {
	if err := n.startOVS(ctx); err != nil {
		return err
	}
	if _, err := n.vsctl(ctx, commands...); err != nil {
		return err
	}
	return n.ip("link set " + tap + " up")
}

// startOVS starts Open vSwitch with one bridge, in user space, that is
// connected to Bridge. It ends with the Net.
func (n *Net) startOVS(ctx context.Context) error {
	dir := filepath.Join(n.Dir, "ovs")
	db := filepath.Join(dir, "db")
	for _, command := range []string{"mkdir " + dir, "ovsdb-tool create " + db + " " + ovsSchema} {
		words := strings.Fields(command)
		if _, err := n.Run(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	env := []string{"OVS_RUNDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_DBDIR=" + dir}
	for _, command := range []string{"ovsdb-server --remote=p" + n.ovsSocket() + " " + db, "ovs-vswitchd " + n.ovsSocket()} {
		if _, err := n.Start("env", append(env, strings.Fields(command)...)...); err != nil {
			return err
		}
	}
	if _, err := n.vsctl(ctx, "add-br "+ovsBridge, "set bridge "+ovsBridge+" datapath_type=netdev"); err != nil {
		return err
	}
	return n.ip("link set " + ovsBridge + " master " + Bridge + " up")
}

// ovsSocket is where the database of Open vSwitch listens.
func (n *Net) ovsSocket() string { return "unix:" + filepath.Join(n.Dir, "ovs", "db.sock") }

// vsctl carries out commands in one transaction, and returns when they are in
// force.
func (n *Net) vsctl(ctx context.Context, commands ...string) (string, error) {
	args := "--retry --timeout=30 --db=" + n.ovsSocket() + " -- " + strings.Join(commands, " -- ")
	return n.Run(ctx, "ovs-vsctl", strings.Fields(args)...)
}

// LACPCurrent reports whether the switch has heard LACP from the machine, of
// late, and so forwards what it sends.
func (g *Guest) LACPCurrent(ctx context.Context) (bool, error) {
	out, err := g.net.vsctl(ctx, "get interface "+g.tap+" lacp_current")
	return strings.TrimSpace(out) == "true", err
}
