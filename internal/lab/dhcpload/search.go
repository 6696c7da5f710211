package dhcpload

import (
	"context"
	"errors"
	"time"
)

// Limits says what a search looks for, and how long it takes. Zero fields have
// the defaults noted.
type Limits struct {
	Loss    float64       // percent that is too much; 1
	Probe   time.Duration // of the closed load that finds the neighbourhood; 2 s
	Step    time.Duration // of each try; 5 s
	Steps   int           // tries at most; 6
	Confirm time.Duration // of the last run; 15 s
	Before  func()        // called before each confirmation, for those who measure the server
	Log     func(rate float64, r Result)
}

func (l Limits) withDefaults() Limits {
	if l.Loss == 0 {
		l.Loss = 1
	}
	for _, d := range []struct {
		at   *time.Duration
		zero time.Duration
	}{{&l.Probe, 2 * time.Second}, {&l.Step, 5 * time.Second}, {&l.Confirm, 15 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.zero
		}
	}
	if l.Steps == 0 {
		l.Steps = 6
	}
	if l.Before == nil {
		l.Before = func() {}
	}
	if l.Log == nil {
		l.Log = func(float64, Result) {}
	}
	return l
}

// passes reports whether the server kept up, and the generator too.
func (l Limits) passes(rate float64, r Result) bool {
	return r.Loss < l.Loss && r.Offered > 0.99*rate && r.Completed > 0
}

// errNothing is returned when a server completes no exchange at all.
var errNothing = errors.New("dhcpload: the server completed no exchange")

// Search finds the highest rate with less loss than the limit and returns the
// run that confirmed it; the rate is its Offered. A closed load tells roughly
// what the server can do, then the interval around that is halved.
func (g *Generator) Search(ctx context.Context, limits Limits) (Result, error) {
	l := limits.withDefaults()
	probe, err := g.Run(ctx, Load{Window: 64, Duration: l.Probe})
	if err != nil {
		return Result{}, err
	}
	if probe.Completed == 0 {
		return Result{}, errNothing
	}
	l.Log(0, probe)
	best, err := g.bisect(ctx, l, probe.Rate)
	if err != nil {
		return Result{}, err
	}
	return g.confirm(ctx, l, best)
}

// resolution is when halving stops: what is left is less than runs differ.
const resolution = 0.03

// hopeless is the loss in percent that is no accident.
const hopeless = 20

// bisect returns the highest rate that passed. Until one fails and one passes
// the interval grows.
func (g *Generator) bisect(ctx context.Context, l Limits, guess float64) (float64, error) {
	lo, hi := 0.0, 0.0
	rate := guess
	for range l.Steps {
		r, err := g.try(ctx, l, rate)
		if err != nil {
			return 0, err
		}
		if l.passes(rate, r) {
			lo = rate
		} else {
			hi = rate
		}
		switch {
		case hi == 0:
			rate = lo * 1.25
		case lo == 0:
			rate = min(hi*0.75, max(r.Rate, hi*0.3)) // what it completed under too much load is a hint
		case hi-lo < resolution*hi:
			return lo, nil
		default:
			rate = (lo + hi) / 2
		}
	}
	if lo == 0 {
		return rate, nil
	}
	return lo, nil
}

// try runs one step. One that fails is run once more: a machine that does
// something else for a moment is not the server's fault.
func (g *Generator) try(ctx context.Context, l Limits, rate float64) (r Result, err error) {
	for range 2 {
		r, err = g.Run(ctx, Load{Rate: rate, Duration: l.Step})
		if err != nil || ctx.Err() != nil {
			return r, errors.Join(err, ctx.Err())
		}
		l.Log(rate, r)
		if l.passes(rate, r) || r.Loss > hopeless {
			break
		}
	}
	return r, nil
}

// confirm runs longer at the rate, and at lower ones until one passes; the
// last one counts whatever it is, and its loss says so.
func (g *Generator) confirm(ctx context.Context, l Limits, rate float64) (r Result, err error) {
	for range 4 {
		l.Before()
		r, err = g.Run(ctx, Load{Rate: rate, Duration: l.Confirm})
		if err != nil || ctx.Err() != nil {
			return r, errors.Join(err, ctx.Err())
		}
		l.Log(rate, r)
		if l.passes(rate, r) {
			return r, nil
		}
		rate *= 0.93
	}
	return r, nil
}
