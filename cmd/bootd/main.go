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
	"os"

	"github.com/spf13/cobra"

	"bootd/internal/config"
	"bootd/ipxe"
)

// version is set by the build.
var version = "unknown"

func main() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) }

// errUsage marks a mistake on the command line.
var errUsage = errors.New("usage")

// A hinted error knows a remedy.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Main runs bootd with args and returns its exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	root := command(stdout, stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "bootd:", err)
	var h hinted
	if errors.As(err, &h) {
		fmt.Fprintln(stderr, "hint:", h.hint)
	}
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

func command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "bootd",
		Short:         "Network boot server: DHCP, TFTP, HTTP boot and what each machine should boot",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err.Error()) })
	root.AddCommand(runCommand(stderr), configCommand(stdout), versionCommand(stdout))
	return root
}

// usage is a mistake on the command line of cmd.
func usage(cmd *cobra.Command, what string) error {
	return hinted{fmt.Errorf("%s%w", what, silent{errUsage}), "see " + cmd.CommandPath() + " --help"}
}

// silent is an error that adds nothing to the text of one that wraps it.
type silent struct{ error }

func (s silent) Error() string { return "" }
func (s silent) Unwrap() error { return s.error }

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, fmt.Sprintf("%q is not a command of %s", args[0], cmd.CommandPath()))
	}
	return nil
}

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run:   func(*cobra.Command, []string) { fmt.Fprintln(stdout, "bootd", version) },
	}
}

func configCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file, or print one to start from",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "check FILE",
		Short:   "Check a configuration file and report everything that is wrong with it",
		Example: "  bootd config check /etc/bootd/bootd.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "check takes one file")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := loadFile(args[0])
			return err
		},
	}, &cobra.Command{
		Use:     "init",
		Short:   "Print a small configuration file to start from",
		Example: "  bootd config init >/etc/bootd/bootd.yaml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := stdout.Write(config.Minimal())
			return err
		},
	})
	return cmd
}

// loadFile reads a configuration with the rules of every room.
func loadFile(path string) (*config.Config, error) {
	cfg, err := config.Load(path, config.CheckArgs(ipxe.CheckArgs))
	var faults config.Faults
	if errors.As(err, &faults) {
		return nil, fmt.Errorf("%d faults in the configuration\n%w", len(faults), err)
	}
	return cfg, err
}
