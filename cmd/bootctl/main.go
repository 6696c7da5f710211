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
	root := rootCommand(stdout, stderr)
	root.SetArgs(args)
	status := cli.Complain(program, stderr, root.ExecuteContext(ctx))
	if status != 0 && ctx.Err() != nil {
		return cli.Interrupted
	}
	return status
}

func rootCommand(stdout, stderr io.Writer) *cobra.Command {
	root := cli.Root(&cobra.Command{
		Use:   program,
		Short: "See and change what the nodes of a bootd server boot",
		Long: `Shows and changes what the nodes of a bootd server boot.

When nodes do not boot: status names those in trouble and says why, why NODE
tells the last boot of one step by step, watch shows steps as they happen, dhcp
probe finds other DHCP servers, and links check what is wrong on disk.

NODES is a list such as ncn-m[001-003],ncn-s*. Quote it, or the shell may put
names of files in its place. bootctl COMMAND --help tells more of a command.

Exit status:
  0    done, also where there was nothing to do
  1    failed
  2    a mistake in the command line
  3    done for some nodes and not for others; or dhcp probe or validate found
       what should not be
  130  interrupted, or ended by SIGTERM, before it was done`,
		Example: `  bootctl status
  bootctl why ncn-m002
  bootctl set-links --dry-run`,
	}, stdout, stderr)
	root.PersistentFlags().String("socket", defaultSocket, "`PATH` of the daemon's socket")
	root.AddCommand(statusCommand(), whyCommand(), watchCommand(), leasesCommand(), setLinksCommand(), linksCommand(), releasesCommand(), releaseGroupCommand(), imageCommand(), dhcpCommand(), bmcCommand())
	root.AddCommand(payloadCommand(), nodeCommand(), takeoverCommand(), isoCommand(), upgradeCommand())
	root.AddCommand(qrCommand(), registrationCommand(), validateCommand())
	return root
}
