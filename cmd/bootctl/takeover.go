package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/dnsmasq"
	"bootd/internal/lease"
	"bootd/internal/takeover"
)

func takeoverCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use: "import", Short: "Take over a site from another server",
		Long:    "Takes over a site from another server, which is left alone.",
		Example: "  bootctl import dnsmasq --conf /etc/dnsmasq.conf --conf /etc/dnsmasq.d",
	})
	cmd.AddCommand(takeDnsmasqCommand())
	return cmd
}

func takeDnsmasqCommand() *cobra.Command {
	var t takeDnsmasq
	cmd := &cobra.Command{
		Use:   "dnsmasq --conf PATH [flags]",
		Short: "Make a configuration of bootd out of dnsmasq's",
		Long: `Reads dnsmasq's configuration, with all files that it includes, and prints a
configuration of bootd that says the same: ranges, hosts, BMCs (hosts called
<node>-mgmt), options, tags. A comment at each value names the line that it
comes from. What could not be carried over is listed on standard error with file
and line; bootd config check accepts what is printed in any case. dnsmasq and
its files are left alone.

Run it on the host of dnsmasq: ranges without a netmask are told from the
addresses of its interfaces.

With --leases, leases wait in the state directory until bootd starts, which
takes them in before it answers any machine. The exit status is 3 when some
leases cannot be kept; each of them is named.`,
		Example: `  bootctl import dnsmasq --conf /etc/dnsmasq.conf --conf /etc/dnsmasq.d
  bootctl import dnsmasq --conf /etc/dnsmasq.d --output /etc/bootd/bootd.yaml \
      --leases /var/lib/misc/dnsmasq.leases`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case len(t.conf) == 0:
				return cli.UsageError(cmd, errors.New("--conf is missing"))
			case t.leases != "" && t.output == "":
				return cli.UsageError(cmd, errors.New("--leases goes with --output: leases wait for a daemon that has the configuration"))
			}
			return t.run(cmd)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&t.conf, "conf", nil, "read this `FILE` or directory of dnsmasq; again for each further one")
	f.StringVar(&t.leases, "leases", "", "take over the leases of this `FILE` of dnsmasq")
	f.StringVar(&t.output, "output", "", "write the configuration to this `FILE` (default: standard output)")
	f.BoolVar(&t.force, "force", false, "write over a file that is there")
	f.StringVar(&t.role, "role", "", "`ROLE` of nodes whose names say none (default: other, which boots their disk)")
	f.StringVar(&t.root, "root", "", "web root `DIR` of the configuration (default /var/www)")
	f.StringVar(&t.state, "state", "", "state `DIR` of the configuration (default /var/lib/bootd)")
	return cmd
}

// takeDnsmasq is the command with its flags.
type takeDnsmasq struct {
	conf                              []string
	leases, output, role, root, state string
	force                             bool
}

func (t *takeDnsmasq) run(cmd *cobra.Command) error {
	leases, err := t.readLeases()
	if err != nil {
		return err
	}
	plan, err := t.plan(leases)
	if err != nil {
		return err
	}
	for _, n := range plan.Notes {
		cli.Tell(program, cmd.ErrOrStderr(), n.String())
	}
	if t.output == "" {
		_, err := cmd.OutOrStdout().Write(plan.YAML())
		return err
	}
	if t.leases != "" {
		if _, err := client(cmd).Health(cmd.Context()); !errors.Is(err, admin.ErrNotRunning) {
			return cli.Hint(errors.New("a bootd runs on this host, which has the leases in its hands"),
				"leave --leases out, and when the configuration is in force: bootctl leases import "+t.leases+" --format dnsmasq")
		}
	}
	waiting, refused := t.keep(cmd, plan, leases)
	if err := t.write(plan); err != nil {
		return err
	}
	if err := t.leave(plan.Result.State, waiting); err != nil {
		return err
	}
	subnets, nodes := plan.Counts()
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d subnets, %d nodes\n", t.output, subnets, nodes)
	if t.leases != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %d leases\n", filepath.Join(plan.Result.State, lease.Waiting), len(waiting))
	}
	if refused > 0 {
		return cli.Error{Err: fmt.Errorf("%d of %d leases cannot be kept", refused, refused+len(waiting)), Code: cli.Partial}
	}
	return nil
}

// plan reads dnsmasq's configuration and makes ours of it.
func (t *takeDnsmasq) plan(leases []lease.Line) (*takeover.Plan, error) {
	var paths []string
	for _, p := range t.conf {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		paths = append(paths, abs)
	}
	lines, faults, err := dnsmasq.Read(os.DirFS("/"), paths...)
	if err != nil {
		return nil, err
	}
	said := dnsmasq.Parse(lines)
	said.Faults = append(faults, said.Faults...)
	addrs, err := hostAddrs()
	if err != nil {
		return nil, err
	}
	site := takeover.Site{Config: said, Lines: lines, Addrs: addrs, Role: t.role, State: t.state, Root: t.root}
	for _, l := range leases {
		if l.Err == nil {
			site.Leases = append(site.Leases, l.Lease)
		}
	}
	roles := config.Default().Inventory.Roles()
	if _, ok := roles[t.role]; t.role != "" && !ok {
		return nil, cli.Hint(fmt.Errorf("there is no role %q", t.role), "of roles that exist without being written there are kubernetes and storage-ceph")
	}
	for _, name := range []string{"kubernetes", "storage-ceph"} {
		site.Roles = append(site.Roles, roles[name])
	}
	return takeover.Make(site)
}

// hostAddrs returns the IPv4 addresses of this host's interfaces.
func hostAddrs() (map[string][]netip.Prefix, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	all := map[string][]netip.Prefix{}
	for _, ifi := range list {
		addrs, err := ifi.Addrs()
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", ifi.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
				all[ifi.Name] = append(all[ifi.Name], p)
			}
		}
	}
	return all, nil
}

// readLeases returns the lines of the lease file, those that are none included.
func (t *takeDnsmasq) readLeases() (list []lease.Line, err error) {
	if t.leases == "" {
		return nil, nil
	}
	f, err := os.Open(t.leases)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = lease.Read(f, lease.Dnsmasq, func(l lease.Line) error { list = append(list, l); return nil })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.leases, err)
	}
	return list, nil
}

// keep returns the leases that the plan has room for, and how many it has not,
// each of which is told.
func (t *takeDnsmasq) keep(cmd *cobra.Command, plan *takeover.Plan, lines []lease.Line) (list []lease.Lease, refused int) {
	keeper := plan.Keeper()
	for _, l := range lines {
		why := keeper.Refuses(l.MAC, l.Addr)
		if l.Err != nil {
			why = l.Err.Error()
		} else if why != "" {
			why = fmt.Sprintf("%v of %v: %s", l.Addr, l.MAC, why)
		}
		if why == "" {
			list = append(list, l.Lease)
			continue
		}
		refused++
		cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("%s:%d: %s", t.leases, l.Number, why))
	}
	return list, refused
}

// write writes the configuration, which the daemon reads as another user.
func (t *takeDnsmasq) write(plan *takeover.Plan) error {
	if _, err := os.Lstat(t.output); err == nil && !t.force {
		return cli.Hint(fmt.Errorf("%s: there is such a file", t.output), "name another with --output, or write over it with --force")
	}
	return writeAside(t.output, func(f *os.File) error {
		_, err := f.Write(plan.YAML())
		return errors.Join(err, f.Chmod(0o644))
	})
}

// leave leaves leases for the daemon, which may run as the owner of its state.
func (t *takeDnsmasq) leave(state string, list []lease.Lease) error {
	if t.leases == "" {
		return nil
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	return writeAside(filepath.Join(state, lease.Waiting), func(f *os.File) error {
		if err := ownAs(f, state); err != nil {
			return err
		}
		w := lease.NewWriter(f, lease.JSON)
		for i := range list {
			if err := w.Write(&list[i]); err != nil {
				return err
			}
		}
		return w.Flush()
	})
}

// ownAs gives a file the owner of a directory.
func ownAs(f *os.File, dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
