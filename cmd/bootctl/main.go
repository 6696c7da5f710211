// Command bootctl shows and changes what the nodes of a bootd server boot.
//
// It prints what was asked for to standard output and everything else to
// standard error. It exits with 0 on success, 1 on failure, 2 on a mistake in
// the command line, 3 when some nodes failed and others did not, or when a
// probe found what should not be, and 130 when it was interrupted before it
// was done.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
)

const program = "bootctl"

func main() { os.Exit(Main()) }

// Main runs the command line of the process and returns its exit status. The
// first signal has it put things in order, the second one ends it.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, arguments(os.Args), os.Stdout, os.Stderr)
}

// replaced is the script of source 004 in whose place the binary may be put.
const replaced = "set-sqfs-links.sh"

// arguments returns those of the process, which is set-links by that name.
func arguments(argv []string) []string {
	if filepath.Base(argv[0]) == replaced {
		return append([]string{"set-links"}, argv[1:]...)
	}
	return argv[1:]
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := cli.Root(&cobra.Command{
		Use:     program,
		Short:   "See and change what the nodes of a bootd server boot",
		Example: "  bootctl status\n  bootctl why ncn-m002",
	}, stdout, stderr)
	root.PersistentFlags().String("socket", defaultSocket, "`PATH` of the daemon's socket")
	root.AddCommand(statusCommand(), whyCommand(), watchCommand(), leasesCommand(), setLinksCommand(), linksCommand(), releasesCommand(), releaseGroupCommand(), imageCommand(), dhcpCommand(), bmcCommand())
	root.AddCommand(payloadCommand(), nodeCommand(), takeoverCommand(), isoCommand(), upgradeCommand())
	root.AddCommand(qrCommand(), registrationCommand(), validateCommand())
	root.SetArgs(args)
	status := cli.Complain(program, stderr, root.ExecuteContext(ctx))
	if status != 0 && ctx.Err() != nil {
		return cli.Interrupted
	}
	return status
}
