package bmc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// A LineError is a line that could not be understood.
type LineError struct {
	Line    int // from 1
	Problem string
}

// Error names the line and the problem.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Problem) }

// maxLine is far above any line of the files that are read here.
const maxLine = 64 << 10

// eachLine gives every line to parse. The error joins a *LineError for each
// that parse refused, or is that of r.
func eachLine(r io.Reader, parse func(line string) error) error {
	var errs []error
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	n := 0
	for s.Scan() {
		n++
		if err := parse(s.Text()); err != nil {
			errs = append(errs, &LineError{n, err.Error()})
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		errs = append(errs, &LineError{n + 1, fmt.Sprintf("longer than %d bytes; it and what follows was not read", maxLine)})
	} else if s.Err() != nil {
		errs = append(errs, s.Err())
	}
	return errors.Join(errs...)
}
