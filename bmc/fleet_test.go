package bmc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bootd/bmc"
)

func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bmcs []bmc.BMC
		for i := range 10 {
			bmcs = append(bmcs, bmc.BMC{Node: fmt.Sprintf("n%d", i)})
		}
		var now, most atomic.Int32
		begun := time.Now()
		results := bmc.Each(t.Context(), bmcs, 4, func(_ context.Context, b bmc.BMC) (string, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			time.Sleep(time.Second) // of the bubble
			if b.Node == "n3" {
				return "", &bmc.Error{Node: "n3", Step: "connect", Err: bmc.ErrPassword}
			}
			return "done " + b.Node, nil
		})
		if most.Load() != 4 || time.Since(begun) != 3*time.Second {
			t.Errorf("got %d at a time in %v, want 4 in 3s", most.Load(), time.Since(begun))
		}
		for i, r := range results {
			node := fmt.Sprintf("n%d", i)
			if node == "n3" {
				if want := "n3: connect: wrong user or password"; message(r.Err) != want || !errors.Is(r.Err, bmc.ErrPassword) {
					t.Errorf("got %v, want %s", r.Err, want)
				}
			} else if r.BMC.Node != node || r.Value != "done "+node || r.Err != nil {
				t.Errorf("got %+v, want that of %s", r, node)
			}
		}
	})
}

func TestEachCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	results := bmc.Each(ctx, []bmc.BMC{{Node: "a"}, {Node: "b", Host: "h"}}, 1, func(context.Context, bmc.BMC) (bool, error) {
		cancel()
		return true, nil
	})
	if !results[0].Value || results[0].Err != nil {
		t.Errorf("got %+v, want that of the first", results[0])
	}
	if want := "b: BMC h: begin: context canceled"; message(results[1].Err) != want {
		t.Errorf("got %v, want %s", results[1].Err, want)
	}
}

// Defects 3 and 4 of table 1.7 (csm.md): the wait ends, whoever has a lease
// besides, and tells who is missing.
func TestWait(t *testing.T) {
	target := func(node string, expected, leased bool) bmc.Target {
		return bmc.Target{Node: node, Expected: expected, Leased: leased}
	}
	for _, tt := range []struct {
		name  string
		m003  time.Duration // when it gets its lease; 0: never
		limit time.Duration
		took  time.Duration
		told  []string
		err   string
	}{
		{"all come", 2500 * time.Millisecond, time.Minute, 3 * time.Second, []string{"[ncn-m003]", "[]"}, ""},
		{"one never comes", 0, time.Minute, time.Minute, []string{"[ncn-m003]"}, "no lease after 1m0s: ncn-m003"},
		{"all are there", 1, time.Minute, 0, []string{"[]"}, ""},
		{"no wait", 0, 0, 0, []string{"[ncn-m003]"}, "no lease after 0s: ncn-m003"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now().Add(-1) // a lease after 1 ns is there from the beginning
				var told []string
				look := func() ([]bmc.Target, error) {
					there := tt.m003 != 0 && time.Since(begun) >= tt.m003
					return []bmc.Target{target("ncn-m001", false, true), target("ncn-m002", true, true), target("ncn-m003", true, there)}, nil
				}
				targets, err := bmc.Wait(t.Context(), tt.limit, look, func(m []string) { told = append(told, fmt.Sprint(m)) })
				if took := time.Since(begun) - 1; took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if message(err) != tt.err || len(targets) != 3 {
					t.Errorf("got %v, %v, want 3 and %q", targets, err, tt.err)
				}
				if !slices.Equal(told, tt.told) {
					t.Errorf("told %v, want %v", told, tt.told)
				}
			})
		})
	}
}

func TestWaitErrors(t *testing.T) {
	boom := errors.New("leases: no such file")
	if _, err := bmc.Wait(t.Context(), time.Minute, func() ([]bmc.Target, error) { return nil, boom }, nil); err != boom {
		t.Errorf("got %v, want %v", err, boom)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	look := func() ([]bmc.Target, error) { return []bmc.Target{{Node: "a", Expected: true}}, nil }
	if _, err := bmc.Wait(ctx, time.Minute, look, nil); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
