// Command bootctl shows and changes what the nodes of a bootd server boot.
//
// It prints what was asked for to standard output and everything else to
// standard error. It exits with 0 on success, 1 on failure, 2 on a mistake in
// the command line, and 3 when some nodes failed and others did not, or when a
// probe found what should not be.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
)

const program = "bootctl"

func main() { os.Exit(Main()) }

// Main runs the command line of the process and returns its exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := cli.Root(&cobra.Command{
		Use:     program,
		Short:   "See and change what the nodes of a bootd server boot",
		Example: "  bootctl status\n  bootctl why ncn-m002",
	}, stdout, stderr)
	root.PersistentFlags().String("socket", defaultSocket, "`PATH` of the daemon's socket")
	root.AddCommand(statusCommand(), whyCommand(), watchCommand(), leasesCommand(), setLinksCommand(), linksCommand(), releasesCommand(), releaseGroupCommand(), dhcpCommand(), bmcCommand())
	root.AddCommand(payloadCommand(), nodeCommand(), isoCommand())
	root.SetArgs(args)
	return cli.Complain(program, stderr, root.ExecuteContext(ctx))
}
