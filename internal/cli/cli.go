// Package cli holds the manners that bootd and bootctl share: how help looks,
// and how an error reaches the person at the terminal.
//
// What was asked for goes to standard output, everything else to standard
// error: each line of an error with the program's name before it, then a line
// with "hint:" where the remedy is known. The exit status is 0 for success,
// Failure, Usage, Partial or Interrupted.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit statuses other than success.
const (
	Failure = 1
	Usage   = 2 // a mistake in the command line, whatever the site has
	Partial = 3 // some nodes failed and others did not

	Interrupted = 130 // what shells say of a process that SIGINT ended
)

// An Error is an error with its exit status and what the person at the
// terminal can do about it.
type Error struct {
	Err  error
	Code int    // exit status; 0: Failure
	Hint string // empty: no remedy is known
}

// Error returns the text of the error without the hint.
func (e Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without the hint.
func (e Error) Unwrap() error { return e.Err }

// Hint adds a remedy to an error.
func Hint(err error, hint string) error { return Error{Err: err, Hint: hint} }

// UsageError marks a mistake in the command line of cmd.
func UsageError(cmd *cobra.Command, err error) error {
	return Error{err, Usage, "see " + cmd.CommandPath() + " --help"}
}

// Args wants the arguments of these names, in their order. One in brackets may
// be left out, with those after it.
func Args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch n := len(args); {
		case n > len(names):
			return UsageError(cmd, fmt.Errorf("%q is not expected here", args[len(names)]))
		case n < len(names) && !strings.HasPrefix(names[n], "["):
			return UsageError(cmd, errors.New(names[n]+" is missing"))
		}
		return nil
	}
}

// wants are what the values of flags have to be, by the type of a flag.
var wants = map[string]string{
	"bool": "true or false", "int": "a whole number", "uint16": "a number from 0 to 65535", "duration": "a time such as 20m or 1h30m",
	"stringSlice": "a list such as a,b",
}

// flagError is UsageError for what pflag says of a flag: a value is told with
// what it should be, and not with what Go's parser says of it.
func flagError(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if want := wants[bad.GetFlag().Value.Type()]; want != "" {
			err = fmt.Errorf("--%s: %q is not %s", bad.GetFlag().Name, bad.GetValue(), want)
		}
	}
	return UsageError(cmd, err)
}

// NoArgs refuses arguments that are no flags.
func NoArgs(cmd *cobra.Command, args []string) error { return Args()(cmd, args) }

// Exclusive makes it a mistake to give two flags of cmd together. It sets
// cmd.PreRunE.
func Exclusive(cmd *cobra.Command, a, b string) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed(a) && cmd.Flags().Changed(b) {
			return UsageError(cmd, fmt.Errorf("--%s and --%s do not go together", a, b))
		}
		return nil
	}
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
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(flagError)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root
}

// helpCommand is "help COMMAND". The one of cobra takes a command that does not
// exist for the root.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Show the help of a command", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return UsageError(cmd.Root(), err)
			case len(rest) > 0:
				return UsageError(target, fmt.Errorf("there is no command %q", rest[0]))
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

const helpTemplate = `Usage: {{.UseLine}}

{{or .Long .Short}}
{{if .HasAvailableSubCommands}}
Commands:
{{range .Commands}}{{if .IsAvailableCommand}}  {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsagesWrapped 80}}{{end}}{{if .HasAvailableInheritedFlags}}
Flags of every command:
{{.InheritedFlags.FlagUsagesWrapped 80}}{{end}}{{if .HasExample}}
Example:
{{.Example}}
{{end}}`

// Complain tells err, if there is one, and returns the exit status. An error
// without text has been told already, and a reader who closed our output, as
// head does, wants to hear nothing more. A context is canceled by who
// interrupts the program.
func Complain(program string, stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	e := Error{Err: err}
	errors.As(err, &e)
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
	}
	if !errors.Is(err, syscall.EPIPE) {
		Tell(program, stderr, text)
		if e.Hint != "" {
			fmt.Fprintln(stderr, "hint:", e.Hint)
		}
	}
	return cmp.Or(e.Code, Failure)
}

// Tell prints every line of text with the program's name before it.
func Tell(program string, stderr io.Writer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(stderr, "%s: %s\n", program, Printable(strings.TrimSuffix(line, "\n")))
	}
}

// Printable makes text that others had a say in harmless to a terminal: what
// does not print becomes "?".
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
}
