package main

import (
	"bytes"
	"testing"
	"time"
)

func TestBar(t *testing.T) {
	for _, tt := range []struct {
		now, total int64
		took       time.Duration
		want       string
	}{
		{512 << 20, 1 << 30, 10 * time.Second, "x [###############...............] 50% of 1.0 GiB, 51.2 MiB/s, 10s left"},
		{1 << 30, 1 << 30, 20 * time.Second, "x [##############################] 100% of 1.0 GiB, 51.2 MiB/s, 0s left"},
		{0, 1 << 30, 0, "x 0 B, 0 B/s"},
		{1 << 30, 0, 2 * time.Second, "x 1.0 GiB, 512.0 MiB/s"},
		{2 << 30, 1 << 30, 2 * time.Second, "x 2.0 GiB, 1.0 GiB/s"},
	} {
		b := bar{what: "x", now: tt.now, total: tt.total}
		if got := b.line(tt.took); got != tt.want {
			t.Errorf("%d of %d after %s: got %s, want %s", tt.now, tt.total, tt.took, got, tt.want)
		}
	}
	c := newCounter(nil, "switching", 400)
	c.now = 100
	if got, want := c.line(2*time.Second), "switching [#######.......................] 25% of 400 nodes, 50 nodes/s, 6s left"; got != want {
		t.Errorf("nodes: got %s, want %s", got, want)
	}
	var w bytes.Buffer
	b := newBar(&w, "x", 10)
	b.add(10)
	b.done()
	if w.Len() > 0 {
		t.Errorf("without a terminal: got %q, want nothing", w.String())
	}
}
