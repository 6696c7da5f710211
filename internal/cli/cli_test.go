package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
)

func TestComplain(t *testing.T) {
	boom := errors.New("no such node")
	closed := &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
	for _, tt := range []struct {
		name   string
		err    error
		code   int
		stderr string
	}{
		{"nothing", nil, 0, ""},
		{"an error", boom, cli.Failure, "p: no such node\n"},
		{"with a hint", cli.Hint(boom, "look"), cli.Failure, "p: no such node\nhint: look\n"},
		{"with a hint, wrapped", fmt.Errorf("x: %w", cli.Hint(boom, "look")), cli.Failure, "p: x: no such node\nhint: look\n"},
		{"with a status", cli.Error{Err: boom, Code: cli.Partial}, cli.Partial, "p: no such node\n"},
		{"without a status", cli.Error{Err: boom}, cli.Failure, "p: no such node\n"},
		{"told already", cli.Error{Err: errors.New(""), Code: cli.Partial}, cli.Partial, ""},
		{"several lines", errors.New("2 faults\na\nb"), cli.Failure, "p: 2 faults\np: a\np: b\n"},
		{"joined", errors.Join(errors.New("a"), cli.Hint(errors.New("b"), "look")), cli.Failure, "p: a\np: b\nhint: look\n"},
		{"closed output", closed, cli.Failure, ""},
		{"closed output, with a hint", cli.Hint(closed, "look"), cli.Failure, ""},
		{"interrupted", fmt.Errorf("tar: %w", context.Canceled), cli.Failure, "p: tar: interrupted\n"},
		{"escapes", errors.New("\x1b[2J\u009b1m\xff \u00e9"), cli.Failure, "p: ?[2J?1m? \u00e9\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stderr strings.Builder
			if code := cli.Complain("p", &stderr, tt.err); code != tt.code {
				t.Errorf("status: got %d, want %d", code, tt.code)
			}
			if stderr.String() != tt.stderr {
				t.Errorf("stderr: got %q, want %q", stderr.String(), tt.stderr)
			}
			if tt.err != nil && !errors.Is(fmt.Errorf("x: %w", tt.err), tt.err) {
				t.Error("the error is lost in its wrapping")
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"ncn-m001: a b": "ncn-m001: a b", "\x1b]0;x\a": "?]0;x?", "a\tb\r\nc": "a?b??c", "\x7f\u0085\u202e\u2028": "????", "\xc3": "?", "\u00e9": "\u00e9",
	} {
		if got := cli.Printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// program is a root command with a group of one command.
func program(stdout, stderr *strings.Builder) *cobra.Command {
	root := cli.Root(&cobra.Command{Use: "p", Short: "Do things", Example: "  p noun verb"}, stdout, stderr)
	noun := cli.Group(&cobra.Command{Use: "noun", Short: "A noun"})
	verb := &cobra.Command{Use: "verb [flags]", Short: "Do it", Args: cli.NoArgs, RunE: func(*cobra.Command, []string) error {
		fmt.Fprintln(stdout, "done")
		return nil
	}}
	verb.Flags().Int("times", 1, "do it `N` times")
	verb.Flags().Duration("wait", 0, "")
	verb.Flags().Bool("dry", false, "")
	verb.Flags().Uint16("port", 0, "")
	verb.Flags().StringSlice("name", nil, "")
	for _, name := range []string{"wait", "dry", "port", "name"} {
		_ = verb.Flags().MarkHidden(name) // it is there
	}
	noun.AddCommand(verb)
	root.AddCommand(noun)
	return root
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"noun verb", 0, "done\n", ""},
		{"", 2, "", "p: which command?\nhint: see p --help\n"},
		{"now", 2, "", "p: there is no command \"now\"\nhint: see p --help\n"},
		{"noun", 2, "", "p: which command?\nhint: see p noun --help\n"},
		{"noun now", 2, "", "p: there is no command \"now\"\nhint: see p noun --help\n"},
		{"noun verb x", 2, "", "p: \"x\" is not expected here\nhint: see p noun verb --help\n"},
		{"noun verb --time", 2, "", "p: unknown flag: --time\nhint: see p noun verb --help\n"},
		{"noun verb --times x", 2, "", "p: --times: \"x\" is not a whole number\nhint: see p noun verb --help\n"},
		{"noun verb --wait soon", 2, "", "p: --wait: \"soon\" is not a time such as 20m or 1h30m\nhint: see p noun verb --help\n"},
		{"noun verb --dry=maybe", 2, "", "p: --dry: \"maybe\" is not true or false\nhint: see p noun verb --help\n"},
		{"noun verb --port 65536", 2, "", "p: --port: \"65536\" is not a number from 0 to 65535\nhint: see p noun verb --help\n"},
		{"noun verb --name a\"b", 2, "", "p: --name: \"a\\\"b\" is not a list such as a,b\nhint: see p noun verb --help\n"},
		{"noun verb --help", 0, "Usage: p noun verb [flags]\n\nDo it\n\nFlags:\n  -h, --help      help for verb\n      --times N   do it N times (default 1)\n", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			root := program(&stdout, &stderr)
			root.SetArgs(strings.Fields(tt.args))
			if code := cli.Complain("p", &stderr, root.Execute()); code != tt.code {
				t.Errorf("status: got %d, want %d", code, tt.code)
			}
			if stdout.String() != tt.stdout {
				t.Errorf("stdout: got %q, want %q", stdout.String(), tt.stdout)
			}
			if stderr.String() != tt.stderr {
				t.Errorf("stderr: got %q, want %q", stderr.String(), tt.stderr)
			}
		})
	}
}

func TestArgs(t *testing.T) {
	for _, tt := range []struct {
		names, args []string
		want        string
	}{
		{nil, nil, ""},
		{nil, []string{"a"}, `"a" is not expected here`},
		{[]string{"ROLE", "RELEASE"}, []string{"a", "b"}, ""},
		{[]string{"ROLE", "RELEASE"}, []string{"a"}, "RELEASE is missing"},
		{[]string{"ROLE", "RELEASE"}, nil, "ROLE is missing"},
		{[]string{"[FROM]", "[TO]"}, []string{"1"}, ""},
		{[]string{"[FROM]", "[TO]"}, []string{"1", "2", "3"}, `"3" is not expected here`},
	} {
		err := cli.Args(tt.names...)(&cobra.Command{Use: "p"}, tt.args)
		var e cli.Error
		if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && (got != tt.want || !errors.As(err, &e) || e.Code != cli.Usage) {
			t.Errorf("%v for %v: got %v, want %q", tt.args, tt.names, err, tt.want)
		}
	}
}

// Help begins with usage, ends with an example, and goes to standard output.
func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "help"} {
		var stdout, stderr strings.Builder
		root := program(&stdout, &stderr)
		root.SetArgs([]string{args})
		if err := root.Execute(); err != nil || stderr.String() != "" {
			t.Errorf("%s: got %v and %q on stderr", args, err, stderr.String())
		}
		out := stdout.String()
		if !strings.HasPrefix(out, "Usage: p COMMAND\n\nDo things\n") || !strings.HasSuffix(out, "\nExample:\n  p noun verb\n") {
			t.Errorf("%s: got %q, want usage first and the example last", args, out)
		}
		if !strings.Contains(out, "\nCommands:\n") || !strings.Contains(out, "  noun         A noun\n") {
			t.Errorf("%s: got %q, want the commands", args, out)
		}
	}
}

// A topic that is no command is a mistake like any other.
func TestHelpOfNothing(t *testing.T) {
	var stdout, stderr strings.Builder
	root := program(&stdout, &stderr)
	root.SetArgs([]string{"help", "now"})
	if code := cli.Complain("p", &stderr, root.Execute()); code != cli.Usage || stdout.String() != "" || stderr.String() != "p: there is no command \"now\"\nhint: see p --help\n" {
		t.Errorf("got status %d, %q and %q on stderr", code, stdout.String(), stderr.String())
	}
}
