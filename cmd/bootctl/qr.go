package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/claim"
	"bootd/internal/cli"
	"bootd/internal/qr"
)

func qrCommand() *cobra.Command {
	var png, server string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "qr NODE [flags]",
		Short: "Show the code by which a machine is registered or claimed",
		Long: `Shows the QR code of a node, or of the MAC address of a machine that waits
without being one: the URL that registration: of the configuration makes, and
the edge host id that the machine will have, as far as it is known before it is
installed.

Who has the URL and the PIN can claim the machine for a site, once.`,
		Example: "  bootctl qr edge-01\n  bootctl qr edge-01 --png edge-01.png",
		Args:    cli.Args("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := claim.ParseServer(server); server != "" && err != nil {
				return cli.UsageError(cmd, fmt.Errorf("--server: %w", err))
			}
			offer, err := claimOf(cmd, args[0], server)
			switch {
			case err != nil:
				return explained(err)
			case asJSON:
				return printJSON(cmd.OutOrStdout(), offer)
			case png != "":
				return writePNG(cmd.OutOrStdout(), png, offer)
			}
			return printQR(cmd.OutOrStdout(), offer)
		},
	}
	f := cmd.Flags()
	f.StringVar(&png, "png", "", "write a picture to this `FILE` instead")
	f.StringVar(&server, "server", "", "`HOST[:PORT]` at which phones reach the daemon, a name or an IPv4 address (default: as the machine does)")
	f.BoolVar(&asJSON, "json", false, "print a JSON object: url, id")
	return cmd
}

// claimOf asks for the claim of a machine by each way its name is spelled.
func claimOf(cmd *cobra.Command, machine, server string) (admin.ClaimOffer, error) {
	return of(machine, func(name string) (admin.ClaimOffer, error) { return client(cmd).Claim(cmd.Context(), name, server) })
}

func printQR(w io.Writer, offer admin.ClaimOffer) error {
	code, err := qr.Encode(offer.URL)
	if err != nil {
		return err
	}
	for _, line := range code.Terminal() {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w, cli.Printable(offer.URL))
	if offer.ID != "" {
		fmt.Fprintln(w, "edge host id:", cli.Printable(offer.ID))
	}
	return nil
}

func writePNG(w io.Writer, path string, offer admin.ClaimOffer) error {
	code, err := qr.Encode(offer.URL)
	if err != nil {
		return err
	}
	if err := writeAside(path, func(f *os.File) error { _, err := f.Write(code.PNG()); return err }); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: %s\n", path, cli.Printable(offer.URL))
	return err
}

func registrationCommand() *cobra.Command {
	return question[[]admin.EdgeHost]{
		ask: func(cmd *cobra.Command, _ []string) ([]admin.EdgeHost, error) {
			return client(cmd).Registrations(cmd.Context())
		},
		show: printRegistrations,
	}.command(&cobra.Command{
		Use:   "registration [flags]",
		Short: "Show how edge hosts are called, as predicted and as they say",
		Long: `Shows for each node the edge host id that it will have in Palette, from its
SMBIOS UUID and its user-data, and the one that it reported with the check-in
"registered". To register is the host's own act: bootd shows what it says.`,
		Example: "  bootctl registration",
		Args:    cli.NoArgs,
	})
}

func printRegistrations(w io.Writer, list []admin.EdgeHost) error {
	if len(list) == 0 {
		return nil
	}
	t := cli.NewTable(w, "NODE", "SITE", "PHASE", "EDGE HOST ID", "REPORTED", "WHEN", "VERDICT").Spare("WHEN", "REPORTED", "SITE", "PHASE")
	for _, h := range list {
		verdict := h.Verdict.String()
		if h.Why != "" {
			verdict += ": " + h.Why
		}
		t.Row(h.Node, h.Site, h.Phase, h.Predicted, h.Reported, clock(h.At), verdict)
	}
	return t.Flush()
}
