package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bootd/deploy/lint"
	"bootd/deploy/payload"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

func payloadCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use: "payload", Short: "See what nodes fetch to configure themselves",
		Long: `Shows what nodes fetch to configure themselves: user-data, network-config and
other documents. Secrets are never printed.`,
		Example: "  bootctl payload check\n  bootctl payload render edge-01 --stage site\n  bootctl payload log edge-01",
	})
	cmd.AddCommand(payloadCheckCommand(), payloadRenderCommand(), payloadLogCommand())
	return cmd
}

func configFlag(cmd *cobra.Command, p *place) {
	cmd.Flags().StringVar(&p.config, "config", defaultConfig, "read nodes and roles from this `FILE`")
}

func payloadCheckCommand() *cobra.Command {
	var p place
	var f fileCheck
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Report everything that is wrong with payloads, or with files",
		Long: `Renders the payloads of every node, with its secrets, and reports what does not
render, what the client of the payload would refuse or skip without a word,
values that are missing, files in the directories that are no document, and
names and addresses that two nodes have. Secrets are never printed. The daemon
is asked which of the files it cannot read, since it is not root.

With --file it checks documents of Kairos and Palette Edge that are files. --fix
corrects what is mechanical: a missing #cloud-config, registryCredentials in the
wrong place and, with --nic, the old flat form of network. With --dry-run it
only shows what it would change.

The exit status is 1 when anything is wrong. A warning is nothing wrong.`,
		Example: `  bootctl payload check --config bootd.yaml
  bootctl payload check --file user-data --stage install --disks 9
  bootctl payload check --file user-data --fix --nic eno1 --dry-run`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.flags(); err != nil {
				return cli.UsageError(cmd, err)
			}
			if len(f.files) > 0 {
				return f.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			c, err := p.load()
			if err != nil {
				return err
			}
			return checkPayloads(cmd, c)
		},
	}
	configFlag(cmd, &p)
	f.register(cmd.Flags())
	return cmd
}

// checkPayloads reports what is wrong with the payloads of a configuration, for
// us and for the daemon.
func checkPayloads(cmd *cobra.Command, c *config.Config) error {
	c, _ = onHost(c) // see elsewhere
	return errors.Join(elsewhere(c, errors.Join(payloadFaults(c)...)), unreadable(cmd, payloadFiles(c)))
}

// elsewhere adds to an error that it may be for what another machine knows.
func elsewhere(c *config.Config, err error) error {
	i := slices.IndexFunc(c.Subnets, func(s config.Subnet) bool { return !s.Prefix.IsValid() })
	if err == nil || i < 0 {
		return err
	}
	return cli.Hint(err, fmt.Sprintf("the subnet of %s is not known on this machine: run it on the provisioning host, or write subnet: and server:", c.Subnets[i].Interface))
}

// payloadFaults says of each fault once, for which node it was found first.
func payloadFaults(c *config.Config) (errs []error) {
	seen := map[string]bool{}
	var across lint.Across
	for _, n := range c.Inventory.Nodes() {
		for _, p := range []node.Payload{n.Payload, n.Site} {
			if p.IsZero() {
				continue
			}
			d := payloadData(c, &n)
			list := append(payload.Check(p, d), payload.Strangers(p, func(name string) bool { _, ok := c.Inventory.ByName(name); return ok })...)
			if docs, err := payload.RenderRedacted(p, d); err == nil && p.Family == node.Kairos {
				for _, f := range across.Add(n.Name, string(docs["user-data"])) {
					list = append(list, &payload.Fault{File: "user-data", Rendered: true, Line: f.Line, Column: f.Column, Problem: f.Problem})
				}
			}
			for _, err := range list {
				if text := err.Error(); !seen[text] {
					seen[text] = true
					errs = append(errs, fmt.Errorf("%s: %w", n.Name, err))
				}
			}
		}
	}
	return errs
}

// payloadFiles are the files that the payloads of all nodes are made of, as
// absolute paths, without those that we cannot read ourselves.
func payloadFiles(c *config.Config) []string {
	all := map[string]bool{}
	for _, n := range c.Inventory.Nodes() {
		for _, file := range append(payload.Files(n.Payload), payload.Files(n.Site)...) {
			if path, err := filepath.Abs(file); err == nil && payload.Unreadable(path) == nil {
				all[path] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// unreadable reports what the daemon cannot read of files that we can. Where it
// cannot be asked, the modes of the files have to do.
func unreadable(cmd *cobra.Command, files []string) error {
	if len(files) == 0 {
		return nil
	}
	list, err := client(cmd).Unreadable(cmd.Context(), files)
	if err != nil {
		notePrivate(cmd, files, err)
		return nil
	}
	var errs []error
	for _, u := range list {
		errs = append(errs, errors.New("the daemon cannot read "+u.Why))
	}
	if errs == nil {
		return nil
	}
	return cli.Hint(errors.Join(errs...), "templates may be for everybody: chmod a+r FILE; secrets are for a group of the daemon: docs/payloads.md. Below /tmp, /home and /root its unit sees nothing")
}

// notePrivate names a file that is not for everybody, when nobody could say
// whether it is for the daemon.
func notePrivate(cmd *cobra.Command, files []string, why error) {
	for _, file := range files {
		if private := payload.Private(file); private != "" {
			cli.Tell(program, cmd.ErrOrStderr(), fmt.Sprintf("note: %v, so it was not asked what it can read; %s", why, private))
			return
		}
	}
}

// payloadData is what the daemon has, as far as the configuration tells.
func payloadData(c *config.Config, n *node.Node) payload.Data {
	server := "192.0.2.1" // RFC 5737: nobody's
	s := c.SubnetOf(n)
	if s == nil {
		return payload.NewData(n, "", server)
	}
	if s.Server.IsValid() {
		server = s.Server.String()
	}
	d := payload.NewData(n, s.Domain, server)
	d.Subnet = payload.Subnet{Prefix: s.Prefix, Router: s.Router, DNS: s.DNS, NTP: s.NTP}
	return d
}

func payloadRenderCommand() *cobra.Command {
	var p place
	var stage string
	var wipe bool
	cmd := &cobra.Command{
		Use:   "render NODE [flags]",
		Short: "Print the documents of a node, without its secrets",
		Long: `Prints each document that the node would get, under a line that names it, with
<secret:NAME> in the place of secrets, whose files are not read. --stage boot or
install is what it gets when it boots from the network, --stage site what the
first boot of its installed system gets.`,
		Example: `  bootctl payload render ncn-w001 --config bootd.yaml
  bootctl payload render edge-01 --stage site`,
		Args: cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"boot", "install", "site"}, stage) {
				return cli.UsageError(cmd, fmt.Errorf("--stage: %q is not one of boot, install, site", stage))
			}
			c, err := p.load()
			if err != nil {
				return err
			}
			return renderPayload(cmd.OutOrStdout(), c, args[0], stage, wipe)
		},
	}
	configFlag(cmd, &p)
	cmd.Flags().StringVar(&stage, "stage", "boot", "print the documents of this `STAGE`: boot, install, site")
	cmd.Flags().BoolVar(&wipe, "wipe", false, "as for a node that was armed with --wipe")
	return cmd
}

func renderPayload(w io.Writer, c *config.Config, name, stage string, wipe bool) error {
	c, _ = onHost(c) // see elsewhere
	n, ok := c.Inventory.ByName(name)
	if !ok {
		return c.Inventory.Unknown(name)
	}
	p, key, kind := n.Payload, "payload:", "payload"
	if stage == "site" {
		p, key, kind = n.Site, "site:", "site payload"
	}
	if p.IsZero() {
		return cli.Hint(fmt.Errorf("%s: has no %s", name, kind), "set "+key+" of the node or of role "+n.Role)
	}
	d := payloadData(c, n)
	d.Wipe = wipe
	docs, err := payload.RenderRedacted(p, d)
	if err != nil {
		return elsewhere(c, fmt.Errorf("%s: %w", name, err))
	}
	for _, doc := range payload.Documents(p) {
		if len(docs[doc]) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "==> %s <==\n%s\n", doc, strings.TrimRight(string(docs[doc]), "\n")); err != nil {
			return err
		}
	}
	return nil
}

func payloadLogCommand() *cobra.Command {
	return question[[]timeline.Event]{ask: payloadLog, show: printPayloadLog, json: "a JSON list of events"}.command(&cobra.Command{
		Use:   "log NODE [flags]",
		Short: "Show who asked for the documents of a node, and when",
		Long: `Shows each request for a document of the node that the timeline still has: when,
from which address, with which ticket, and what became of it. "given" is the
document; "failed" one that could not be made or did not arrive as a whole;
"gone" a ticket that was used or has expired; "foreign" a request of somebody
else; "unknown" a ticket that there is not.`,
		Example: "  bootctl payload log ncn-w001",
		Args:    cli.Args("NODE"),
	})
}

func payloadLog(cmd *cobra.Command, args []string) ([]timeline.Event, error) {
	return of(args[0], func(name string) ([]timeline.Event, error) { return client(cmd).PayloadLog(cmd.Context(), name) })
}

func printPayloadLog(w io.Writer, list []timeline.Event) error {
	if len(list) == 0 {
		return nil
	}
	t := cli.NewTable(w, "WHEN", "TIMES", "FROM", "DOCUMENT", "RESULT", "TICKET", "WHY").Spare("TICKET", "TIMES")
	for _, e := range list {
		t.Row(clock(e.Time), max(1, e.Count), e.Addr, e.File, e.Action, strings.TrimPrefix(e.Detail, "ticket "), e.Err)
	}
	return t.Flush()
}
