package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A Line is one line of output and when it was complete.
type Line struct {
	Time time.Time
	Text string
}

// A Console collects what a machine or a process prints, line by line, without
// terminal control sequences. It is safe for concurrent use.
type Console struct {
	mu      sync.Mutex
	lines   []Line
	partial []byte
	grown   chan struct{} // closed and replaced whenever there is more
	closed  bool
}

func newConsole() *Console { return &Console{grown: make(chan struct{})} }

// control matches the ANSI sequences that firmware draws its screens with.
var control = regexp.MustCompile(`\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>cM78])`)

// Write takes output in pieces of any size.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, p...)
	for {
		i := bytes.IndexAny(c.partial, "\r\n")
		if i < 0 {
			break
		}
		c.addLocked(c.partial[:i])
		c.partial = c.partial[i+1:]
	}
	c.wakeLocked()
	return len(p), nil
}

func (c *Console) addLocked(raw []byte) {
	text := strings.TrimRight(string(control.ReplaceAll(raw, nil)), " \x00")
	if text != "" {
		c.lines = append(c.lines, Line{time.Now(), text})
	}
}

func (c *Console) wakeLocked() {
	close(c.grown)
	c.grown = make(chan struct{})
}

// close says that there will be no more output.
func (c *Console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(c.partial)
	c.partial, c.closed = nil, true
	c.wakeLocked()
}

// Lines returns what was printed so far.
func (c *Console) Lines() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines[:len(c.lines):len(c.lines)]
}

// String returns what was printed so far, the unfinished last line included.
func (c *Console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, l := range c.lines {
		b.WriteString(l.Text + "\n")
	}
	b.Write(control.ReplaceAll(c.partial, nil))
	return b.String()
}

// WaitFor returns the first complete line that matches, from the beginning of
// the output on. It is an error when the output ends without one, when a
// BOOTD-LAB-FAILED line comes first, or when ctx is done; the error tells the
// last lines.
func (c *Console) WaitFor(ctx context.Context, re *regexp.Regexp) (Line, error) {
	var found Line
	err := c.Follow(ctx, func(l Line) error {
		switch {
		case re.MatchString(l.Text):
			found = l
			return errFound
		case strings.HasPrefix(l.Text, "BOOTD-LAB-FAILED"):
			return fmt.Errorf("got %q", l.Text)
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return found, nil
	case err == nil:
		err = errors.New("output ended")
	}
	return Line{}, fmt.Errorf("waiting for %v: %w; last output %q", re, err, lastLines(c.String(), 3))
}

var errFound = errors.New("found")

// Follow calls f with every line from the beginning on, as they come, until
// the output ends, f returns an error, or ctx is done; it returns the error.
func (c *Console) Follow(ctx context.Context, f func(Line) error) error {
	for seen := 0; ; {
		c.mu.Lock()
		lines, grown, closed := c.lines, c.grown, c.closed
		c.mu.Unlock()
		for ; seen < len(lines); seen++ {
			if err := f(lines[seen]); err != nil {
				return err
			}
		}
		if closed {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
		}
	}
}
