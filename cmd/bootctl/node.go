package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/node"
)

// nodeCommand is the group of what is done to one node. Each of its commands is
// in a file of its own, node_*.go.
func nodeCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "node",
		Short: "See and change the nodes",
		Long: `Shows and changes the inventory. Nodes are written in the configuration file by
hand, and by these commands in nodes.yaml of the daemon's state directory, where
each key wins over the same key of the node in the configuration file. A change
is on disk and in force when it is reported.

Of the commands for NODES (arm, disarm, hold, resume) the exit status is 3 when
nothing was done for some nodes, and 1 when it was for none.`,
		Example: "  bootctl node list\n  bootctl node add ncn-w004 --role kubernetes --mac 52:54:00:aa:bb:04",
	})
	cmd.AddCommand(deploymentCommands()...)
	cmd.AddCommand(nodeListCommand(), nodeShowCommand(), nodeAddCommand(), nodeReplaceCommand(), nodeRemoveCommand())
	return cmd
}

func nodeListCommand() *cobra.Command {
	return question[[]admin.Node]{
		ask:  func(cmd *cobra.Command, _ []string) ([]admin.Node, error) { return client(cmd).Nodes(cmd.Context()) },
		show: printNodes,
	}.command(&cobra.Command{
		Use:   "list [flags]",
		Short: "List the nodes and where they are written",
		Long: `Lists the nodes in the order of the configuration, with the files and lines
where they are written. bootctl status tells how they stand.`,
		Example: "  bootctl node list",
		Args:    cli.NoArgs,
	})
}

func printNodes(w io.Writer, list []admin.Node) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No node is in the inventory.")
		return err
	}
	t := cli.NewTable(w, "NODE", "ROLE", "ADDRESS", "MAC", "BMC", "WRITTEN IN").Spare("BMC", "ROLE")
	for _, n := range list {
		t.Row(n.Name, n.Role, addrText(n.Addr), macsShort(n.MACs), text(n.BMC), n.From)
	}
	return t.Flush()
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// macsShort is a list of MACs in the width of a column.
func macsShort(macs []node.MAC) string {
	if len(macs) > 1 {
		return fmt.Sprintf("%v +%d", macs[0], len(macs)-1)
	}
	return fmt.Sprint(macs[0])
}

func nodeShowCommand() *cobra.Command {
	return question[shownNode]{ask: askNode, show: showNode, json: "a JSON object"}.command(&cobra.Command{
		Use:     "show NODE [flags]",
		Short:   "Show a node and where each of its keys comes from",
		Long:    "Shows what the inventory says of a node, with the file and line that each key\ncounts from; what has none is of its role, or a default. Below it, how far its\ndeployment is, and what its system says of itself.",
		Example: "  bootctl node show ncn-w001",
		Args:    cli.Args("NODE"),
	})
}

// A shownNode is all that is known of a node.
type shownNode struct {
	admin.Node
	Deployment admin.Deployment `json:"deployment"`
}

func askNode(cmd *cobra.Command, args []string) (n shownNode, err error) {
	list, err := client(cmd).Nodes(cmd.Context())
	if err != nil {
		return n, err
	}
	i := slices.IndexFunc(list, func(n admin.Node) bool { return n.Name == args[0] })
	if i < 0 {
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		return n, cli.Hint(node.Unknown(args[0], names), "bootctl node list shows the nodes, bootctl status other machines too")
	}
	n.Node = list[i]
	n.Deployment, err = client(cmd).Deployment(cmd.Context(), args[0])
	return n, err
}

func showNode(w io.Writer, n shownNode) error {
	if err := showKeys(w, &n.Node); err != nil {
		return err
	}
	printDeployment(w, n.Deployment.Record, n.Deployment.Life, time.Now())
	return nil
}

func showKeys(w io.Writer, n *admin.Node) error {
	var macs, tags []string
	for _, m := range n.MACs {
		macs = append(macs, m.String())
	}
	for name, value := range n.Tags {
		tags = append(tags, name+"="+value)
	}
	slices.Sort(tags)
	addr, uuid := addrText(n.Addr), ""
	var more []string
	for _, a := range n.More {
		more = append(more, a.String())
	}
	if !n.UUID.IsZero() {
		uuid = n.UUID.String()
	}
	fmt.Fprintln(w, cli.Printable(n.Name))
	t := cli.NewTable(w)
	for _, row := range []struct {
		key    string
		values []string
	}{
		{"role", []string{n.Role}}, {"macs", macs}, {"bmc", []string{text(n.BMC)}}, {"uuid", []string{uuid}}, {"serial", []string{n.Serial}},
		{"address", []string{addr}}, {"addresses", more}, {"bmc-address", []string{addrText(n.BMCAddr)}}, {"boot", []string{n.Boot}}, {"release", []string{n.Release}}, {"args", []string{n.Args}},
		{"loader", []string{n.Loader}}, {"tags", tags},
	} {
		if len(row.values) == 0 || row.values[0] == "" {
			continue
		}
		for i, v := range row.values {
			key := row.key
			if i > 0 {
				key = ""
			}
			t.Row("  "+key, v, dash(n.Keys[row.key]))
		}
	}
	return t.Flush()
}

// A nodeEdit is the flags that say what is to be written of a node.
type nodeEdit struct {
	role, bmc, uuid, serial string
	addr, bmcAddr           string
	macs, tags              []string
	dry, json               bool
}

// hardware adds the flags of what belongs to a machine.
func (e *nodeEdit) hardware(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&e.macs, "mac", nil, "`MAC` address of a NIC that it may boot from; again for each further one")
	f.StringVar(&e.bmc, "bmc-mac", "", "`MAC` address of its BMC")
	f.StringVar(&e.uuid, "uuid", "", "`UUID` of its SMBIOS")
	f.StringVar(&e.serial, "serial", "", "serial `NUMBER` of its SMBIOS")
}

func (e *nodeEdit) common(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&e.dry, "dry-run", false, "say what would change, and change nothing")
	cmd.Flags().BoolVar(&e.json, "json", false, "print what changed as a JSON object")
}

// keys are the flags that were given, as keys of the configuration.
func (e *nodeEdit) keys() map[string][]string {
	keys := map[string][]string{}
	for key, value := range map[string]string{"role": e.role, "bmc": e.bmc, "uuid": e.uuid, "serial": e.serial, "address": e.addr, "bmc-address": e.bmcAddr} {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	for key, values := range map[string][]string{"macs": e.macs, "tags": e.tags} {
		if len(values) > 0 {
			keys[key] = values
		}
	}
	return keys
}

func nodeAddCommand() *cobra.Command {
	var e nodeEdit
	cmd := &cobra.Command{
		Use:   "add NODE --role ROLE --mac MAC [flags]",
		Short: "Add a node to the inventory",
		Long: `Adds a node, such as a machine that bootctl status shows by its MAC address. The
keys have the rules of the configuration file. bootctl set-links then links what
it boots. A node that is there already, just so, is left alone.`,
		Example: `  bootctl node add ncn-w004 --role kubernetes --mac 52:54:00:aa:bb:04 \
      --mac 52:54:00:aa:bb:05 --address 10.1.0.14 --tag rack=r12`,
		Args: cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case e.role == "":
				return cli.UsageError(cmd, errors.New("--role is missing"))
			case len(e.macs) == 0:
				return cli.UsageError(cmd, errors.New("--mac is missing"))
			}
			change, err := client(cmd).SetNode(cmd.Context(), admin.NodeRequest{Name: args[0], Keys: e.keys()}, e.dry)
			return e.report(cmd, "added", change, err)
		},
	}
	e.hardware(cmd)
	f := cmd.Flags()
	f.StringVar(&e.role, "role", "", "`ROLE`, which says what it boots")
	f.StringVar(&e.addr, "address", "", "IPv4 `ADDRESS` that is kept for it (default: any of a pool)")
	f.StringVar(&e.bmcAddr, "bmc-address", "", "IPv4 `ADDRESS` that is kept for its BMC")
	f.StringArrayVar(&e.tags, "tag", nil, "`NAME=VALUE` for its payload; again for each further one")
	e.common(cmd)
	return cmd
}

func nodeReplaceCommand() *cobra.Command {
	var e nodeEdit
	cmd := &cobra.Command{
		Use:   "replace NODE --mac MAC [flags]",
		Short: "Give a node other hardware",
		Long: `Makes another machine the node: it gets the name, role, address, release, pins
and tags, and boots what the old one would have booted. What is not said of the
new hardware is not known of it: also say --bmc-mac, for one, when only a NIC
was replaced. The old machine is unknown from then on, and the lease that it has
on the node's address is ended; switch it off, since bootd leases no address
that a machine answers on.

A second call with the same arguments changes nothing.`,
		Example: `  bootctl node replace ncn-w001 --mac 52:54:00:aa:bb:11 \
      --bmc-mac 52:54:00:cc:dd:11 --dry-run`,
		Args: cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(e.macs) == 0 {
				return cli.UsageError(cmd, errors.New("--mac is missing"))
			}
			change, err := client(cmd).ReplaceNode(cmd.Context(), admin.NodeRequest{Name: args[0], Keys: e.keys()}, e.dry)
			return e.report(cmd, "replaced", change, err)
		},
	}
	e.hardware(cmd)
	e.common(cmd)
	return cmd
}

func nodeRemoveCommand() *cobra.Command {
	var e nodeEdit
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NODE [flags]",
		Short: "Take a node out of the inventory",
		Long: `Removes a node that bootctl node add wrote. One that is written in the
configuration file is removed there. The machine is unknown from then on. Its
boot directory stays until bootctl links prune. A node that is booting just now
is not removed.`,
		Example: "  bootctl node remove ncn-w004 --dry-run\n  bootctl node remove ncn-w004",
		Args:    cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := client(cmd).RemoveNode(cmd.Context(), args[0], force, e.dry)
			return e.report(cmd, "removed", change, err)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even while it is booting")
	e.common(cmd)
	return cmd
}

// report prints what a command changed, so nothing when that is nothing.
func (e *nodeEdit) report(cmd *cobra.Command, done string, c admin.NodeChange, err error) error {
	if err != nil {
		return explained(err)
	}
	w := cmd.OutOrStdout()
	switch {
	case e.json:
		return printJSON(w, c)
	case c.Node == "":
		return nil
	case e.dry:
		done = "would be " + done
	}
	fmt.Fprintln(w, cli.Printable(c.Node), done)
	t := cli.NewTable(w)
	for _, k := range c.Keys {
		t.Row("  "+k.Key, between(k))
	}
	for i := range c.Ended {
		t.Row("  lease", described(&c.Ended[i])+" ends")
	}
	for i := range c.Given {
		t.Row("  lease", described(&c.Given[i])+" begins")
	}
	return t.Flush()
}

// between says what became of a key.
func between(k admin.KeyChange) string {
	switch {
	case k.Old == "":
		return k.New
	case k.New == "":
		return k.Old + " -> none"
	}
	return k.Old + " -> " + k.New
}
