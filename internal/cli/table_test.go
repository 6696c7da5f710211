package cli

import (
	"errors"
	"strings"
	"testing"
)

// narrow begins a table for a terminal of so many columns.
func narrow(w *strings.Builder, room int, heads ...string) *Table {
	t := NewTable(w, heads...)
	t.room = room
	return t
}

func TestTable(t *testing.T) {
	const why = "it is not what its manifest says it is"
	for name, tt := range map[string]struct {
		fill func(*Table)
		room int
		want string
	}{
		"no terminal": {func(t *Table) { t.Spare("B").Row("a", 1, why) }, 0, "A  B  C\na  1  " + why + "\n"},
		"wide enough": {func(t *Table) { t.Spare("B").Row("a", 1, why) }, 44, "A  B  C\na  1  " + why + "\n"},
		"no row":      {func(*Table) {}, 0, "A  B  C\n"},
		"empty cells": {func(t *Table) { t.Row("", "", "") }, 0, "A  B  C\n-  -  -\n"},
		"short row":   {func(t *Table) { t.Row("a", "(no offer)"); t.Row("a", "b", "c") }, 0, "A  B  C\na  (no offer)\na  b  c\n"},
		"escapes":     {func(t *Table) { t.Row("\x1b[2J", "\u00e9", "c") }, 0, "A     B  C\n?[2J  \u00e9  c\n"},
		"sentence":    {func(t *Table) { t.Row("a", 1, why+" not") }, 46, "A  B  C\na  1  it is not what its manifest says it is\n      not\n"},
		"below":       {func(t *Table) { t.Row("a", "long", why) }, 30, "A  B     C\na  long\n        it is not what its\n        manifest says it is\n"},
		"long word":   {func(t *Table) { t.Row("a", "b", "NO: "+strings.Repeat("x", 36)) }, 36, "A  B  C\na  b\n        NO:\n        " + strings.Repeat("x", 36) + "\n"},
		"spared":      {func(t *Table) { t.Spare("B", "A").Row("a", "bbbbbbbbb", "c") }, 12, "A  C\na  c\nNo room for\nB: a wider\nterminal or\na pipe shows\nmore.\n"},
		"painted":     {func(t *Table) { t.Painted(strings.ToUpper, "a", "b", why+" not") }, 46, "A  B  C\nA  B  IT IS NOT WHAT ITS MANIFEST SAYS IT IS\n      NOT\n"},
		"streamed":    {func(t *Table) { t.Stream(3, 1).Row("a", "b", "c"); t.Flush(); t.Row("a", "bb", "c") }, 0, "A    B  C\na    b  c\na    bb  c\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			table := narrow(&out, tt.room, "A", "B", "C")
			tt.fill(table)
			if err := table.Flush(); err != nil || out.String() != tt.want {
				t.Errorf("got %v and\n%s\nwant\n%s", err, out.String(), tt.want)
			}
		})
	}
}

// A long table that is streamed begins before its end, and says when it cannot.
func TestTableStreams(t *testing.T) {
	var out strings.Builder
	table := NewTable(&out, "A", "B").Stream(1, 1)
	for range streamed {
		table.Row("a", "b")
	}
	if got := strings.Count(out.String(), "\n"); got != streamed {
		t.Errorf("got %d lines before the end, want %d", got, streamed)
	}
	table = NewTable(closed{}, "A").Stream(1)
	for range streamed {
		table.Row("a")
	}
	if err := errors.Join(table.Err(), table.Flush()); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want %v", err, errClosed)
	}
}

var errClosed = errors.New("closed")

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errClosed }
