package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/lease"
)

func importCommand() *cobra.Command {
	var format string
	var dry bool
	cmd := &cobra.Command{
		Use:   "import FILE --format FORMAT [flags]",
		Short: "Take in the leases of a file",
		Long: `Merges the leases of a file, or of standard input for "-", into those of the
server, such as what leases export printed or the lease file of dnsmasq. Where
a machine has the address already, the later end counts. A lease that the
server could not have given is refused: each such line is named with the
reason, and the exit status is 3, or 1 when all are. Leases are committed a
thousand at a time; what is there already does no harm, so an import that was
interrupted is simply repeated.`,
		Example: `  bootctl leases import /var/lib/misc/dnsmasq.leases --format dnsmasq --dry-run
  ssh other cat /var/lib/misc/dnsmasq.leases |
      bootctl leases import - --format dnsmasq`,
		Args: cli.Args("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := lease.ParseFormat(format)
			if err != nil {
				return cli.UsageError(cmd, fmt.Errorf("--format: %w", err))
			}
			in, done, err := input(cmd, args[0])
			if err != nil {
				return err
			}
			defer done()
			name := args[0]
			if name == "-" {
				name = "(standard input)"
			}
			return (&importing{cmd: cmd, name: name, dry: dry}).run(in, f)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT`: json, csv or dnsmasq")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would happen, and change nothing")
	return cmd
}

// importing is one run of the command. Lines are read and answers come at the
// same time.
type importing struct {
	cmd  *cobra.Command
	name string
	dry  bool

	mu      sync.Mutex // guards the following, and standard error
	refused int        // lines that are no leases
	err     error      // of reading the file
}

func (im *importing) run(in io.Reader, f lease.Format) error {
	totals, err := client(im.cmd).Import(im.cmd.Context(), im.dry, im.lines(in, f), func(r admin.Report) { im.refuse(r.Line, r.Error) })
	im.mu.Lock()
	defer im.mu.Unlock()
	totals.Refused += im.refused
	im.print(totals)
	switch done := totals.Added + totals.Updated + totals.Kept; {
	case errors.Is(err, context.Canceled):
		return cli.Hint(err, "what was taken in before stays, and does no harm when it is imported again")
	case err != nil:
		return explained(err)
	case im.err != nil:
		return fmt.Errorf("%s: %w", im.name, im.err)
	case totals.Refused == 0:
		return nil
	case done == 0:
		return errors.New("nothing was taken in")
	default:
		return cli.Error{Err: fmt.Errorf("%d of %d lines refused", totals.Refused, totals.Refused+done), Code: cli.Partial}
	}
}

// lines yields the leases of the file, and names the lines that are none.
func (im *importing) lines(in io.Reader, f lease.Format) iter.Seq[lease.Line] {
	return func(yield func(lease.Line) bool) {
		stop := errors.New("no more wanted")
		err := lease.Read(in, f, func(l lease.Line) error {
			switch {
			case l.Err != nil:
				im.refuse(l.Number, l.Err.Error())
				im.mu.Lock()
				im.refused++
				im.mu.Unlock()
			case !yield(l):
				return stop
			}
			return nil
		})
		im.mu.Lock()
		defer im.mu.Unlock()
		if err != stop {
			im.err = err
		}
	}
}

func (im *importing) refuse(line int, reason string) {
	im.mu.Lock()
	defer im.mu.Unlock()
	cli.Tell(program, im.cmd.ErrOrStderr(), fmt.Sprintf("%s:%d: %s", im.name, line, reason))
}

// print says what changed, or would.
func (im *importing) print(t admin.Totals) {
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{t.Added, "added"}, {t.Updated, "updated"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	switch text := strings.Join(parts, ", "); {
	case text == "":
	case im.dry:
		fmt.Fprintln(im.cmd.OutOrStdout(), "would be", text)
	default:
		fmt.Fprintln(im.cmd.OutOrStdout(), text)
	}
}
