package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"bootd/deploy/lint"
	"bootd/internal/cli"
)

// A fileCheck checks, and perhaps corrects, documents that are files.
type fileCheck struct {
	files      []string
	stage, nic string
	disks      int
	fix, dry   bool
}

func (f *fileCheck) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.files, "file", nil, "check this `FILE` and no configuration; may be given again")
	flags.StringVar(&f.stage, "stage", "", "the files are for this `STAGE`: install, site (default: install where there is install:)")
	flags.IntVar(&f.disks, "disks", 0, "the machine has this `NUMBER` of disks (default: not known)")
	flags.BoolVar(&f.fix, "fix", false, "correct what is mechanical")
	flags.StringVar(&f.nic, "nic", "", "the interface that the old flat form of network is for, a `NIC` such as eno1")
	flags.BoolVar(&f.dry, "dry-run", false, "with --fix: only show what would change")
}

// flags refuses what does not go together.
func (f *fileCheck) flags() error {
	switch {
	case f.stage != "" && f.stage != "install" && f.stage != "site":
		return fmt.Errorf("--stage: %q is not one of install, site", f.stage)
	case len(f.files) == 0 && (f.stage != "" || f.nic != "" || f.fix || f.dry || f.disks != 0):
		return errors.New("--stage, --disks, --fix, --nic and --dry-run are for --file")
	case f.dry && !f.fix:
		return errors.New("--dry-run is for --fix")
	case f.disks < 0:
		return fmt.Errorf("--disks: %d is not a number of disks", f.disks)
	}
	return nil
}

func (f *fileCheck) run(stdout, stderr io.Writer) error {
	var errs []error
	var across lint.Across
	for _, path := range f.files {
		text, err := readSmall(path) // one that is cut is no YAML, or is and has its faults
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if f.fix {
			if text, err = f.correct(stdout, path, text); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		c := lint.Context{Install: f.stage == "install" || f.stage == "" && lint.IsInstall(text), Disks: f.disks}
		faults := append(lint.Kairos(text, c), across.Add(path, text)...)
		errs = append(errs, tell(stderr, path, faults)...)
	}
	return errors.Join(errs...)
}

// tell prints warnings and returns what is wrong.
func tell(stderr io.Writer, path string, faults []lint.Fault) (errs []error) {
	for _, x := range faults {
		line := fmt.Sprintf("%s:%d:%d: ", path, x.Line, x.Column)
		switch {
		case x.Warning:
			cli.Tell("bootctl", stderr, line+"warning: "+x.Problem)
		default:
			errs = append(errs, errors.New(line+x.Problem))
		}
	}
	return errs
}

// correct returns the corrected text. It shows what changed, and writes it
// beside the file and then in its place.
func (f *fileCheck) correct(stdout io.Writer, path, text string) (string, error) {
	fixed := lint.Fix(text, f.nic)
	if fixed == text {
		return text, nil
	}
	if _, err := fmt.Fprintf(stdout, "--- %s\n+++ %s\n%s", path, path, difference(strings.SplitAfter(text, "\n"), strings.SplitAfter(fixed, "\n"))); err != nil || f.dry {
		return fixed, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return fixed, err
	}
	return fixed, writeAside(path, func(file *os.File) error {
		_, err := file.WriteString(fixed)
		return errors.Join(err, file.Chmod(info.Mode().Perm()))
	})
}

// difference returns the lines that are in one of two texts alone, with - or +
// before them, and a line of context.
func difference(a, b []string) string {
	common := make([][]int, len(a)+1) // longest common sequence of the rests of a and b
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	last := ""
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			last, i, j = " "+a[i], i+1, j+1
			continue
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString(last + ended("-"+a[i]))
			i++
		default:
			out.WriteString(last + ended("+"+b[j]))
			j++
		}
		last = ""
	}
	return out.String()
}

// ended is a line with its end.
func ended(line string) string { return strings.TrimSuffix(line, "\n") + "\n" }
