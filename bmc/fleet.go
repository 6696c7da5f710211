package bmc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Result is what came of the work with one BMC.
type Result[T any] struct {
	BMC   BMC
	Value T
	Err   error // an *Error, or the context's error for one that was not begun
}

// Each does the work with every BMC, at most limit at a time, and returns a
// result for each in the order of bmcs. One that fails stops no other; when ctx
// ends, no more are begun.
func Each[T any](ctx context.Context, bmcs []BMC, limit int, work func(context.Context, BMC) (T, error)) []Result[T] {
	results := make([]Result[T], len(bmcs))
	var g errgroup.Group
	g.SetLimit(max(1, limit))
	for i, b := range bmcs {
		results[i].BMC = b
		g.Go(func() error {
			r := &results[i]
			if err := ctx.Err(); err != nil {
				r.Err = &Error{b.Node, b.Host, "begin", err}
				return nil
			}
			r.Value, r.Err = work(ctx, b)
			return nil
		})
	}
	g.Wait()
	return results
}

// A MissingError says which BMCs did not come in time.
type MissingError struct {
	Nodes []string
	After time.Duration
}

// Error names the nodes.
func (e *MissingError) Error() string {
	return fmt.Sprintf("no lease after %v: %s", e.After, strings.Join(e.Nodes, ", "))
}

// lookEvery is how often a wait looks at the evidence again.
const lookEvery = time.Second

// Wait looks until every BMC that is expected has a lease, and returns what it
// saw last. After the time limit that comes with a *MissingError, so that the
// caller may go on with those that answered. What look returns as an error ends
// the wait. Whenever the missing ones have changed, tell hears of it; it may be
// nil.
func Wait(ctx context.Context, limit time.Duration, look func() ([]Target, error), tell func(missing []string)) ([]Target, error) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := "" // no node is named so
	for first := true; ; first = false {
		targets, err := look()
		if err != nil {
			return targets, err
		}
		missing := Missing(targets)
		if now := strings.Join(missing, " "); tell != nil && (first || now != told) {
			tell(missing)
			told = now
		}
		if len(missing) == 0 {
			return targets, nil
		}
		select {
		case <-ctx.Done():
			return targets, ctx.Err()
		case <-deadline.C:
			return targets, &MissingError{missing, limit}
		case <-tick.C:
		}
	}
}
