package main

import (
	"bufio"
	"context"
	"errors"
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
	if f, ok := cmd.InOrStdin().(*os.File); ok && !cli.IsTerminal(f) {
		return refused
	}
	in, err := cli.Input(cmd.Context(), cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer in.Close()
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", what)
	line, err := bufio.NewReader(in).ReadString('\n')
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(cmd.ErrOrStderr())
		return fmt.Errorf("%w, nothing was done", err)
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return refused
	}
	return nil
}
