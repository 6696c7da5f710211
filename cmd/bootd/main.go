// Command bootd is the network boot server: DHCP, TFTP, the HTTP boot plane
// and the socket that bootctl talks to, in one process.
//
// Exit status: 0 after a stop that was asked for, 1 when it cannot start or a
// component failed, 2 for a mistake on the command line.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/ipxe"
)

// version is set by the build.
var version = "unknown"

func main() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) }

// Main runs bootd with args and returns its exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	root := cli.Root(&cobra.Command{
		Use:     program,
		Short:   "Network boot server: DHCP, TFTP, HTTP boot and what each machine should boot",
		Example: runExample,
	}, stdout, stderr)
	root.AddCommand(runCommand(stderr), configCommand(stdout), versionCommand(stdout))
	root.SetArgs(args)
	return cli.Complain(program, stderr, root.Execute())
}

const program = "bootd"

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cli.NoArgs,
		Run:   func(*cobra.Command, []string) { fmt.Fprintln(stdout, "bootd", version) },
	}
}

func configCommand(stdout io.Writer) *cobra.Command {
	cmd := cli.Group(&cobra.Command{Use: "config", Short: "Check a configuration file, or print one to start from"})
	cmd.AddCommand(&cobra.Command{
		Use:     "check FILE",
		Short:   "Check a configuration file and report everything that is wrong with it",
		Example: "  bootd config check /etc/bootd/bootd.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.UsageError(cmd, errors.New("check takes one file"))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			draft, err := config.Open(args[0], rules())
			switch {
			case errors.Is(err, fs.ErrPermission):
				return cli.Hint(err, "run it as root: nodes in the state directory are part of the configuration")
			case err == nil:
				_, err = checked(draft)
			}
			return err
		},
	}, &cobra.Command{
		Use:     "init",
		Short:   "Print a small configuration file to start from",
		Example: "  bootd config init >/etc/bootd/bootd.yaml",
		Args:    cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := stdout.Write(config.Minimal())
			return err
		},
	})
	return cmd
}

// rules are those of the rooms that config does not know.
func rules() config.Option { return config.CheckArgs(ipxe.CheckArgs) }

// checked returns the configuration that a draft is, or all that is wrong with
// it.
func checked(draft *config.Draft) (*config.Config, error) {
	cfg, err := draft.Config()
	var faults config.Faults
	if errors.As(err, &faults) {
		noun := "faults"
		if len(faults) == 1 {
			noun = "fault"
		}
		return nil, fmt.Errorf("%d %s in the configuration\n%w", len(faults), noun, err)
	}
	return cfg, err
}
