package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bootd/deploy/payload"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

func payloadCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{Use: "payload", Short: "See what nodes fetch to configure themselves"})
	cmd.AddCommand(payloadCheckCommand(), payloadRenderCommand(), payloadLogCommand())
	return cmd
}

func configFlag(cmd *cobra.Command, p *place) {
	cmd.Flags().StringVar(&p.config, "config", defaultConfig, "read nodes and roles from this `FILE`")
}

// oneNode is the rule for commands that take the name of a node.
func oneNode(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cli.UsageError(cmd, errors.New(cmd.Name()+" takes one node"))
	}
	return nil
}

func payloadCheckCommand() *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Render the payloads of all nodes and report everything that is wrong",
		Long: `Renders the payload of every node that has one, with its secrets, and reports
what does not render, what is not YAML, values that are missing, and files in
the directories that are no document. Secrets are never printed.

The exit status is 1 when anything is wrong.`,
		Example: "  bootctl payload check --config bootd.yaml",
		Args:    cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := p.load()
			if err != nil {
				return err
			}
			return checkPayloads(c)
		},
	}
	configFlag(cmd, &p)
	return cmd
}

// checkPayloads says of each fault once, for which node it was found first.
func checkPayloads(c *config.Config) error {
	seen := map[string]bool{}
	var errs []error
	for _, n := range c.Inventory.Nodes() {
		if n.Payload.IsZero() {
			continue
		}
		for _, err := range payload.Check(n.Payload, payloadData(c, &n)) {
			if text := err.Error(); !seen[text] {
				seen[text] = true
				errs = append(errs, fmt.Errorf("%s: %w", n.Name, err))
			}
		}
	}
	return errors.Join(errs...)
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
	cmd := &cobra.Command{
		Use:   "render NODE [flags]",
		Short: "Print the documents of a node, without its secrets",
		Long: `Prints each document that the node would get, under a line that names it, with
<secret:NAME> in the place of secrets, whose files are not read.`,
		Example: "  bootctl payload render ncn-w001 --config bootd.yaml",
		Args:    oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.load()
			if err != nil {
				return err
			}
			return renderPayload(cmd.OutOrStdout(), c, args[0])
		},
	}
	configFlag(cmd, &p)
	return cmd
}

func renderPayload(w io.Writer, c *config.Config, name string) error {
	n, ok := c.Inventory.ByName(name)
	switch {
	case !ok:
		return fmt.Errorf("%q is not a node of the configuration", name)
	case n.Payload.IsZero():
		return cli.Hint(fmt.Errorf("%s: has no payload", name), "set payload: of the node or of role "+n.Role)
	}
	docs, err := payload.RenderRedacted(n.Payload, payloadData(c, n))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, doc := range payload.Documents(n.Payload) {
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
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log NODE [flags]",
		Short: "Show who asked for the documents of a node, and when",
		Long: `Shows each request for a document of the node that the timeline still has: when,
from which address, with which ticket, and what became of it. "given" is the
document; "gone" a ticket that was used or has expired; "foreign" a request of
somebody else; "unknown" a ticket that there is not.`,
		Example: "  bootctl payload log ncn-w001",
		Args:    oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := payloadLog(cmd, args[0])
			switch {
			case err != nil:
				return explained(err)
			case asJSON:
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printPayloadLog(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list of events")
	return cmd
}

func payloadLog(cmd *cobra.Command, machine string) (list []timeline.Event, err error) {
	for _, name := range spellings(machine) {
		if list, err = client(cmd).PayloadLog(cmd.Context(), name); !errors.Is(err, admin.ErrUnknown) {
			return list, err
		}
	}
	return list, fmt.Errorf("%q: %w", machine, err)
}

func printPayloadLog(w io.Writer, list []timeline.Event) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(list) > 0 {
		fmt.Fprintln(t, "WHEN\tTIMES\tFROM\tDOCUMENT\tRESULT\tTICKET\tWHY")
	}
	for _, e := range list {
		fmt.Fprintf(t, "%s\t%d\t%v\t%s\t%s\t%s\t%s\n", e.Time.Local().Format(time.DateTime), max(1, e.Count), e.Addr,
			cli.Printable(e.File), cli.Printable(dash(e.Action)), cli.Printable(dash(strings.TrimPrefix(e.Detail, "ticket "))), cli.Printable(dash(e.Err)))
	}
	return t.Flush()
}
