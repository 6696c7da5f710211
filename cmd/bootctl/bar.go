package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"bootd/internal/cli"
)

// barWidth is how many characters show what is done.
const barWidth = 30

// A bar shows on a terminal how far a long piece of work is. On anything else
// it shows nothing.
type bar struct {
	w        io.Writer          // nil: not a terminal
	tell     func(int64) string // an amount, for people; nil: bytes
	what     string
	total    int64 // bytes; zero: not known
	now      int64
	began    time.Time
	shown    time.Time
	anything bool
}

func newBar(w io.Writer, what string, total int64) *bar {
	b := &bar{what: what, total: total, began: time.Now()}
	if cli.IsTerminal(w) {
		b.w = w
	}
	return b
}

// newCounter is newBar for the nodes that are done.
func newCounter(w io.Writer, what string, total int) *bar {
	b := newBar(w, what, int64(total))
	b.tell = func(n int64) string { return fmt.Sprintf("%d nodes", n) }
	return b
}

// add counts n bytes more, and shows them five times a second.
func (b *bar) add(n int64) {
	b.now += n
	if t := time.Now(); b.w != nil && t.Sub(b.shown) >= 200*time.Millisecond {
		b.shown, b.anything = t, true
		fmt.Fprintf(b.w, "\r\x1b[K%s", b.line(t.Sub(b.began)))
	}
}

// done clears the line.
func (b *bar) done() {
	if b.anything {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

// line is the bar after some time: how much, how fast, how long still.
func (b *bar) line(took time.Duration) string {
	size := size
	if b.tell != nil {
		size = b.tell
	}
	rate := float64(b.now) / max(took.Seconds(), 0.001)
	text := fmt.Sprintf("%s %s, %s/s", b.what, size(b.now), size(int64(rate)))
	if b.total <= 0 || b.now > b.total || b.now == 0 {
		return text
	}
	full := int(b.now * barWidth / b.total)
	left := time.Duration(float64(b.total-b.now)/max(rate, 1)) * time.Second
	return fmt.Sprintf("%s [%s%s] %d%% of %s, %s/s, %s left", b.what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		b.now*100/b.total, size(b.total), size(int64(rate)), left)
}
