package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
)

// confirmed asks the person at the terminal, unless yes says it all. what is
// what happens, and to whom.
func confirmed(cmd *cobra.Command, yes bool, what string) error {
	if yes {
		return nil
	}
	refused := cli.Error{Err: fmt.Errorf("%s was not confirmed, nothing was done", what), Hint: "--yes does it without asking"}
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok {
		if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
			return refused
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", what)
	line, _ := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return refused
	}
	return nil
}
