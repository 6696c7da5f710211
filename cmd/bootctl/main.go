// Command bootctl shows and changes what the nodes of a bootd server boot.
//
// It prints what was asked for to standard output and everything else to
// standard error, each line of that with the prefix "bootctl:", and a line
// with "hint:" where the remedy is known. It exits with 0 on success, 1 on
// failure, 2 on a mistake in the command line, and 3 when some nodes failed
// and others did not.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses other than success.
const (
	exitFailure = 1
	exitUsage   = 2
	exitPartial = 3
)

func main() { os.Exit(Main()) }

// Main runs the command line of the process and returns its exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return complain(stderr, root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:                   "bootctl COMMAND",
		Short:                 "See and change what the nodes of a bootd server boot",
		Example:               "  bootctl status\n  bootctl why ncn-m002",
		Args:                  cobra.ArbitraryArgs,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		CompletionOptions:     cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, errors.New("which command?"))
			}
			return usageError(cmd, fmt.Errorf("there is no command %q", args[0]))
		},
	}
	root.SetHelpTemplate(helpTemplate)
	root.SetFlagErrorFunc(usageError)
	root.PersistentFlags().String("socket", defaultSocket, "`PATH` of the daemon's socket")
	root.AddCommand(statusCommand(), whyCommand(), watchCommand(), setLinksCommand())
	return root
}

const helpTemplate = `Usage: {{.UseLine}}

{{or .Long .Short}}
{{if .HasAvailableSubCommands}}
Commands:
{{range .Commands}}{{if .IsAvailableCommand}}  {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages}}{{end}}{{if .HasExample}}
Example:
{{.Example}}
{{end}}`

// A failure is an error with what the person at the terminal can do about it.
type failure struct {
	err  error
	code int    // exit status
	hint string // empty: no remedy is known
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// withHint adds a remedy to an error.
func withHint(err error, hint string) error { return failure{err, exitFailure, hint} }

// usageError marks a mistake in the command line of cmd.
func usageError(cmd *cobra.Command, err error) error {
	return failure{err, exitUsage, cmd.CommandPath() + " --help"}
}

// noArgs refuses arguments that are no flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd, fmt.Errorf("%q is not expected here", args[0]))
	}
	return nil
}

// complain tells err, if there is one, and returns the exit status.
func complain(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	f := failure{err: err, code: exitFailure}
	errors.As(err, &f)
	tell(stderr, err.Error())
	if f.hint != "" {
		fmt.Fprintln(stderr, "hint:", f.hint)
	}
	return f.code
}

// tell prints every line of text with our name before it.
func tell(stderr io.Writer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(stderr, "bootctl: %s\n", strings.TrimSuffix(line, "\n"))
	}
}
