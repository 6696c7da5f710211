// Package cli holds the manners that bootd and bootctl share: how help looks,
// and how an error reaches the person at the terminal.
//
// What was asked for goes to standard output, everything else to standard
// error: each line of an error with the program's name before it, then a line
// with "hint:" where the remedy is known. The exit status is 0 for success,
// Failure, Usage or Partial.
package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit statuses other than success.
const (
	Failure = 1
	Usage   = 2 // a mistake in the command line
	Partial = 3 // some nodes failed and others did not
)

// An Error is an error with its exit status and what the person at the
// terminal can do about it.
type Error struct {
	Err  error
	Code int    // exit status
	Hint string // empty: no remedy is known
}

// Error returns the text of the error without the hint.
func (e Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without the hint.
func (e Error) Unwrap() error { return e.Err }

// Hint adds a remedy to an error.
func Hint(err error, hint string) error { return Error{err, Failure, hint} }

// UsageError marks a mistake in the command line of cmd.
func UsageError(cmd *cobra.Command, err error) error {
	return Error{err, Usage, "see " + cmd.CommandPath() + " --help"}
}

// NoArgs refuses arguments that are no flags.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return UsageError(cmd, fmt.Errorf("%q is not expected here", args[0]))
	}
	return nil
}

// Group makes cmd a name for its sub-commands, which has nothing to do itself.
func Group(cmd *cobra.Command) *cobra.Command {
	cmd.Use += " COMMAND"
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return UsageError(cmd, errors.New("which command?"))
		}
		return UsageError(cmd, fmt.Errorf("there is no command %q", args[0]))
	}
	return cmd
}

// Root gives a program's root command the manners of this package.
func Root(root *cobra.Command, stdout, stderr io.Writer) *cobra.Command {
	Group(root)
	root.SilenceUsage, root.SilenceErrors = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.DisableFlagsInUseLine = true
	root.SetHelpTemplate(helpTemplate)
	root.SetFlagErrorFunc(UsageError)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root
}

const helpTemplate = `Usage: {{.UseLine}}

{{or .Long .Short}}
{{if .HasAvailableSubCommands}}
Commands:
{{range .Commands}}{{if .IsAvailableCommand}}  {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages}}{{end}}{{if .HasAvailableInheritedFlags}}
Flags of every command:
{{.InheritedFlags.FlagUsages}}{{end}}{{if .HasExample}}
Example:
{{.Example}}
{{end}}`

// Complain tells err, if there is one, and returns the exit status. An error
// without text has been told already.
func Complain(program string, stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	e := Error{Err: err, Code: Failure}
	errors.As(err, &e)
	Tell(program, stderr, err.Error())
	if e.Hint != "" {
		fmt.Fprintln(stderr, "hint:", e.Hint)
	}
	return e.Code
}

// Tell prints every line of text with the program's name before it.
func Tell(program string, stderr io.Writer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(stderr, "%s: %s\n", program, strings.TrimSuffix(line, "\n"))
	}
}
