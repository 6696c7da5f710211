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
	Probe   time.Duration // of the runs that find the neighbourhood; 2 s
	Step    time.Duration // of each try; 5 s
	Steps   int           // tries at most, after the rate was raised until one failed; 5
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
		l.Steps = 5
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
func (l Limits) passes(r Result) bool {
	return r.Loss < l.Loss && !r.Limiting() && r.Completed > 0
}

// errNothing is returned when a server completes no exchange at all.
var errNothing = errors.New("dhcpload: the server completed no exchange")

// Search finds the highest rate with less loss than the limit and returns the
// run that confirmed it; the rate is its Offered. A closed load tells where to
// begin, the rate grows until the server fails, and the interval is halved.
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

// grow raises a rate in short runs until one fails: a server that thinks for a
// while about each answer does little in a closed load, and may do much more.
// It returns the last that passed, zero if none did, and the one that failed.
func (g *Generator) grow(ctx context.Context, l Limits, rate float64) (lo, hi float64, err error) {
	for range 12 {
		r, err := g.try(ctx, l, rate, l.Probe)
		if err != nil || !l.passes(r) {
			return lo, rate, err
		}
		lo = rate
		rate *= 1.5
	}
	return lo, rate, nil
}

// bisect halves the interval between a rate that passed and one that did not,
// and returns the highest that passed.
func (g *Generator) bisect(ctx context.Context, l Limits, guess float64) (float64, error) {
	lo, hi, err := g.grow(ctx, l, guess)
	if err != nil {
		return 0, err
	}
	for range l.Steps {
		rate := (lo + hi) / 2
		if lo == 0 {
			rate = hi * 0.7
		}
		r, err := g.try(ctx, l, rate, l.Step)
		if err != nil {
			return 0, err
		}
		if l.passes(r) {
			lo = rate
		} else {
			hi = rate
		}
		if hi-lo < resolution*hi {
			break
		}
	}
	if lo == 0 {
		return hi * 0.7, nil
	}
	return lo, nil
}

// try runs one step. One that fails is run once more: a machine that does
// something else for a moment is not the server's fault.
func (g *Generator) try(ctx context.Context, l Limits, rate float64, d time.Duration) (r Result, err error) {
	for range 2 {
		r, err = g.Run(ctx, Load{Rate: rate, Duration: d})
		if err != nil || ctx.Err() != nil {
			return r, errors.Join(err, ctx.Err())
		}
		l.Log(rate, r)
		if l.passes(r) || r.Loss > hopeless {
			break
		}
	}
	return r, nil
}

// confirm runs longer at the rate, twice if need be, and then at lower ones
// until one passes; the last one counts whatever it is, and its loss says so.
func (g *Generator) confirm(ctx context.Context, l Limits, rate float64) (r Result, err error) {
	for i := range 5 {
		l.Before()
		r, err = g.Run(ctx, Load{Rate: rate, Duration: l.Confirm})
		if err != nil || ctx.Err() != nil {
			return r, errors.Join(err, ctx.Err())
		}
		l.Log(rate, r)
		if l.passes(r) {
			return r, nil
		}
		if i > 0 {
			rate *= 0.93
		}
	}
	return r, nil
}
