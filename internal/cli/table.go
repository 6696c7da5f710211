package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	gap      = "  " // between columns
	sentence = 28   // a wider cell of the last column may be broken into lines
	roomy    = 40   // room enough for such lines beside the other columns
	hanging  = 8    // where they begin below the other columns
	streamed = 512  // rows that a table waits for which is not to wait for all
)

// A Table prints rows in columns. On a terminal that is too narrow for them it
// leaves out columns that may be spared, and says which; then it breaks the
// last column between words. Anything but a terminal gets all of it. What was
// written, and that it could not be, is known after Flush.
type Table struct {
	w      io.Writer
	room   int // columns of the terminal; 0: no limit
	heads  []string
	spare  []string
	rows   []row
	widths []int
	short  []int // the width without sentences
	hidden []bool
	stream bool
	begun  bool // rows are out, so that columns stay as they are
	err    error
}

type row struct {
	cells []string
	paint func(string) string // nil: as it is
}

// NewTable begins a table. Where heads are given they come first, also when no
// row follows, and an empty cell is printed as "-".
func NewTable(w io.Writer, heads ...string) *Table {
	t := &Table{w: w, room: Width(w), heads: heads}
	if len(heads) > 0 {
		t.rows = append(t.rows, row{cells: heads})
	}
	return t
}

// Spare names heads of columns that a narrow terminal can do without, in the
// order in which they go.
func (t *Table) Spare(heads ...string) *Table {
	t.spare = heads
	return t
}

// Stream has rows printed before all are known, in columns of these widths at
// the least.
func (t *Table) Stream(widths ...int) *Table {
	t.stream, t.widths = true, widths
	return t
}

// Row adds a row. What does not print in its cells becomes "?".
func (t *Table) Row(cells ...any) { t.Painted(nil, cells...) }

// Painted adds a row whose lines paint makes colourful.
func (t *Table) Painted(paint func(string) string, cells ...any) {
	r := row{make([]string, len(cells)), paint}
	for i, c := range cells {
		text, ok := c.(string)
		if !ok {
			text = fmt.Sprint(c)
		}
		r.cells[i] = Printable(text)
		if r.cells[i] == "" && len(t.heads) > 0 {
			r.cells[i] = "-"
		}
	}
	t.rows = append(t.rows, r)
	if t.stream && len(t.rows) >= streamed {
		t.print()
	}
}

// Err returns why rows could not be written so far.
func (t *Table) Err() error { return t.err }

// Flush prints what was not printed yet. More rows may follow.
func (t *Table) Flush() error {
	t.print()
	var missing []string
	for i, h := range t.hidden {
		if h {
			missing = append(missing, t.heads[i])
		}
	}
	if missing != nil && t.err == nil {
		text := "No room for " + strings.Join(missing, ", ") + ": a wider terminal or a pipe shows more."
		_, t.err = fmt.Fprintln(t.w, strings.Join(broken(text, "", t.room), "\n"))
	}
	return t.err
}

func (t *Table) print() {
	t.measure()
	var out strings.Builder
	for _, r := range t.rows {
		for _, line := range t.lines(r.cells) {
			if r.paint != nil {
				line = r.paint(line)
			}
			out.WriteString(line + "\n")
		}
	}
	t.rows, t.begun = t.rows[:0], true
	if t.err == nil {
		_, t.err = io.WriteString(t.w, out.String())
	}
}

// measure settles how wide the columns are and, the first time, which there are.
func (t *Table) measure() {
	for _, r := range t.rows {
		for i, c := range r.cells {
			for i >= len(t.short) {
				t.short = append(t.short, 0)
			}
			for i >= len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			if i == len(r.cells)-1 && i < len(t.heads)-1 {
				break // it runs over the columns that this row does not have
			}
			n := utf8.RuneCountInString(c)
			t.widths[i] = max(t.widths[i], n)
			if n <= sentence {
				t.short[i] = max(t.short[i], n)
			}
		}
	}
	if t.begun {
		return
	}
	t.hidden = make([]bool, len(t.heads))
	for _, name := range t.spare {
		for i := range t.heads {
			if t.heads[i] == name && !t.fits() {
				t.hidden[i] = true
			}
		}
	}
}

// fits reports whether the columns have room, but for sentences in the last.
func (t *Table) fits() bool {
	end, start := 0, 0
	for i, width := range t.widths {
		if !t.hides(i) {
			end, start = start+t.short[i], start+width+len(gap)
		}
	}
	return t.room == 0 || end <= t.room
}

func (t *Table) hides(column int) bool { return column < len(t.hidden) && t.hidden[column] }

// lines returns a row as one line, or as several on a narrow terminal.
func (t *Table) lines(cells []string) []string {
	var line strings.Builder
	last, width := "", -len(gap) // nothing is before the first column
	for i, c := range cells {
		if !t.hides(i) {
			line.WriteString(last)
			for range width + len(gap) - utf8.RuneCountInString(last) {
				line.WriteByte(' ')
			}
			last, width = c, t.widths[i]
		}
	}
	lead := line.String()
	start := utf8.RuneCountInString(lead)
	if t.room == 0 || start+utf8.RuneCountInString(last) <= t.room {
		return []string{strings.TrimRight(lead+last, " ")}
	}
	if in := broken(last, strings.Repeat(" ", start), t.room); start == 0 || t.room-start >= roomy && !overlong(in, t.room) {
		in[0] = lead + strings.TrimLeft(in[0], " ")
		return in
	}
	return append([]string{strings.TrimRight(lead, " ")}, broken(last, strings.Repeat(" ", hanging), t.room)...)
}

// broken breaks text between words into lines of room columns, each with indent
// before it. A word that is longer stays whole, so that it can be copied.
func broken(text, indent string, room int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		more := line + " " + word
		if line == "" {
			more = indent + word
		} else if utf8.RuneCountInString(more) > room {
			lines = append(lines, line)
			more = indent + word
		}
		line = more
	}
	return append(lines, line)
}

// overlong reports whether a line has a word that is longer than the room.
func overlong(lines []string, room int) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return utf8.RuneCountInString(l) > room })
}

// Width returns how many columns the terminal w has; 0: it is none, or does not
// say.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// IsTerminal reports whether a person is at the other end of a file.
func IsTerminal(file any) bool {
	f, ok := file.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
