package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command says what it does and shows how, in lines that fit a terminal,
// and what it shows is accepted.
func TestHelp(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if cmd.Hidden {
			return
		}
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Long == "" || cmd.Short == "" || cmd.Example == "" {
				t.Errorf("got long %q, short %q, example %q, want all of them", cmd.Long, cmd.Short, cmd.Example)
			}
			var help strings.Builder
			cmd.SetOut(&help)
			cmd.Help()
			for line := range strings.Lines(help.String()) {
				if n := len(strings.TrimRight(line, "\n")); n > 80 && !strings.HasPrefix(line, "Usage: ") {
					t.Errorf("got a line of %d columns: %s", n, line)
				}
			}
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if name, _ := pflag.UnquoteUsage(f); name == "string" || name == "int" || name != "" && name == strings.ToLower(name) {
					t.Errorf("--%s: got %q for its value, want a word in capitals", f.Name, name)
				}
			})
			for _, args := range commandsIn(cmd.Example) {
				accepts(t, args)
			}
		})
	}
	visit(rootCommand(io.Discard, io.Discard))
}

// commandsIn returns the arguments of each bootctl in lines of a shell.
func commandsIn(text string) (list [][]string) {
	text = strings.NewReplacer("\\\n", " ", "|\n", "| ", "&&\n", "&& ").Replace(text)
	for _, command := range regexp.MustCompile(`\n|&&|\||>.*`).Split(text, -1) {
		var args []string
		for _, word := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(command, -1) {
			args = append(args, strings.Trim(word, "'"))
		}
		if len(args) > 0 && args[0] == program {
			list = append(list, args[1:])
		}
	}
	return list
}

// accepts checks that there is such a command, with such flags and arguments.
func accepts(t *testing.T, args []string) {
	cmd, rest, err := rootCommand(io.Discard, io.Discard).Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.HasSubCommands() && cmd.Name() != "upgrade" {
		t.Errorf("%q is no command", args)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("%q: %v", args, err)
	}
}
