package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bootd/internal/lab/dhcpload"
)

// Numbers of first clients: each load has machines of its own.
const (
	heldClients = 10_000_000
	newClients  = 20_000_000
	overClients = 30_000_000
)

// A bench is one run of the benchmark.
type bench struct {
	*bed
	*report
	log   io.Writer
	began time.Time
}

func (m *bench) sayf(format string, args ...any) {
	fmt.Fprintf(m.log, "%5.0f s  %s\n", time.Since(m.began).Seconds(), fmt.Sprintf(format, args...))
}

// measure does all parts that were asked for. The report holds what was
// measured before an error.
func measure(ctx context.Context, o options, log io.Writer) (r *report, err error) {
	b, err := newBed(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	m := &bench{bed: b, report: newReport(o), log: log, began: time.Now()}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"steady", m.atRate}, {"max", m.maxima}, {"held", m.held}, {"overload", m.overload}, {"avalanche", m.avalanches}} {
		if !o.has(part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return m.report, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return m.report, ctx.Err()
}

// limits of a search; quick is for somebody who waits.
func (m *bench) limits(what string) dhcpload.Limits {
	l := dhcpload.Limits{Log: func(rate float64, r dhcpload.Result) {
		if rate == 0 {
			m.sayf("%s: %.0f/s with 64 exchanges under way", what, r.Rate)
			return
		}
		m.sayf("%s: at %.0f/s completed %.0f/s, loss %.2f %%, oldest answer %.0f ms", what, rate, r.Rate, r.Loss, r.Oldest)
	}}
	if m.quick {
		l.Probe, l.Step, l.Steps, l.Confirm = time.Second, 2*time.Second, 4, 6*time.Second
	}
	return l
}

// maxima finds the highest rate of each server, and how bootd does at Kea's.
func (m *bench) maxima(ctx context.Context) error {
	for _, r := range recipes {
		if !m.measures(r.name) {
			continue
		}
		if err := m.maximum(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

func (m *bench) maximum(ctx context.Context, r recipe) error {
	s, err := m.fresh(ctx, r, small)
	if err != nil {
		return err
	}
	defer s.stop()
	g, err := m.clients(dhcpload.Relay, 0, r.many)
	if err != nil {
		return err
	}
	defer g.Close()
	row, err := m.search(ctx, g, s, r.name, m.limits(r.name))
	if err != nil {
		return err
	}
	row.Store = r.what
	m.Servers = append(m.Servers, row)
	if kea := m.row("kea"); r.name == "bootd" && kea != nil {
		m.AtKeas, err = m.steady(ctx, g, s, kea.Load.Offered, m.limits("").Confirm)
	}
	return err
}

// search finds a server's maximum, and what it costs there.
func (m *bench) search(ctx context.Context, g *dhcpload.Generator, s *daemon, what string, l dhcpload.Limits) (row Row, err error) {
	mt := m.meter(s)
	var startErr error
	l.Before = func() {
		startErr = mt.start()
		m.startProfile(ctx, s, l.Confirm)
	}
	row.Name = what
	if row.Load, err = g.Search(ctx, l); err != nil {
		return row, err
	}
	if err := errors.Join(startErr, m.account(&row, mt)); err != nil {
		return row, err
	}
	row.RSS, err = s.rss()
	return row, err
}

func (m *bench) meter(s *daemon) *meter {
	return &meter{s: s, cores: [2]int{m.serverCore, m.generatorCore}}
}

// account puts what the meter says into the row.
func (m *bench) account(row *Row, mt *meter) error {
	cpu, others, err := mt.stop()
	row.CPU, row.Others = float64(cpu.Microseconds())/max(1, float64(row.Load.Completed)), others
	return err
}

// startProfile takes a profile while the confirmation runs.
func (m *bench) startProfile(ctx context.Context, s *daemon, d time.Duration) {
	if m.options.profile == "" || s.name != "bootd" {
		return
	}
	go func() {
		if err := s.profile(ctx, m.options.profile, max(d, 5*time.Second)-time.Second); err != nil {
			m.sayf("no profile: %v", err)
		}
	}()
}

// atRate runs bootd at the rate asked for.
func (m *bench) atRate(ctx context.Context) error {
	s, err := m.fresh(ctx, bootd, small)
	if err != nil {
		return err
	}
	defer s.stop()
	g, err := m.clients(dhcpload.Relay, 0, bootd.many)
	if err != nil {
		return err
	}
	defer g.Close()
	d := m.limits("").Confirm
	m.startProfile(ctx, s, d)
	row, err := m.steady(ctx, g, s, m.rate, d)
	if err == nil {
		m.Servers = append(m.Servers, *row)
	}
	return err
}

// steady runs a fixed rate.
func (m *bench) steady(ctx context.Context, g *dhcpload.Generator, s *daemon, rate float64, d time.Duration) (*Row, error) {
	if d == 0 {
		d = 10 * time.Second
	}
	mt := m.meter(s)
	if err := mt.start(); err != nil {
		return nil, err
	}
	r, err := g.Run(ctx, dhcpload.Load{Rate: rate, Duration: d})
	if err != nil {
		return nil, err
	}
	m.sayf("%s: at %.0f/s completed %.0f/s, loss %.2f %%", s.name, rate, r.Rate, r.Loss)
	row := &Row{Name: s.name, Load: r}
	return row, m.account(row, mt)
}

// held compares bootd with no leases and with many, then kills and restarts it.
func (m *bench) held(ctx context.Context) error {
	if !m.measures("bootd") {
		return nil
	}
	s, err := m.fresh(ctx, bootd, large)
	if err != nil {
		return err
	}
	defer func() { s.stop() }()
	h := &Held{}
	empty, err := m.memory(ctx, s)
	if err != nil {
		return err
	}
	if h.Without, err = m.pace(ctx, s, "0 leases", newClients); err != nil {
		return err
	}
	if err := m.preload(ctx, s, h, empty); err != nil {
		return err
	}
	if h.With, err = m.pace(ctx, s, fmt.Sprintf("%d leases", h.Leases), newClients+1_000_000); err != nil {
		return err
	}
	m.Held = h
	s.proc.Kill()
	again, took, err := m.start(ctx, bootd, s.dir, large)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	s = again
	h.Restart = took.Seconds()
	all := h.Leases + h.Without.Load.Held + h.With.Load.Held
	rss, err := s.rss()
	h.RSSRestarted = rss / int64(max(1, all))
	m.sayf("bootd: first answer %.2f s after a restart with %d leases", h.Restart, all)
	return err
}

// pace is a shorter search with clients that are new.
func (m *bench) pace(ctx context.Context, s *daemon, what string, first int) (Row, error) {
	g, err := m.clients(dhcpload.Relay, first, 60_000)
	if err != nil {
		return Row{}, err
	}
	defer g.Close()
	l := m.limits("bootd, " + what)
	l.Probe, l.Step, l.Steps, l.Confirm = time.Second, 3*time.Second, 4, 8*time.Second
	if m.quick {
		l.Step, l.Steps, l.Confirm = 2*time.Second, 3, 4*time.Second
	}
	return m.search(ctx, g, s, "bootd", l)
}

// memory is RSS and live heap in bytes.
func (m *bench) memory(ctx context.Context, s *daemon) (mem [2]int64, err error) {
	heap, err1 := s.heap(ctx)
	rss, err2 := s.rss()
	return [2]int64{rss, heap}, errors.Join(err1, err2)
}

// preloadTime bounds the preload: a server that leases fewer in this time holds
// fewer.
const preloadTime = 90 * time.Second

// preload fills the store through the protocol.
func (m *bench) preload(ctx context.Context, s *daemon, h *Held, empty [2]int64) error {
	g, err := m.clients(dhcpload.Relay, heldClients, m.leases)
	if err != nil {
		return err
	}
	defer g.Close()
	retry := make([]time.Duration, 8)
	for i := range retry {
		retry[i] = 500 * time.Millisecond
	}
	r, err := g.Run(ctx, dhcpload.Load{Window: 128, Count: m.leases, Duration: preloadTime, Retry: retry})
	if err != nil {
		return err
	}
	h.Leases, h.Preload = r.Held, r
	m.sayf("bootd: %d leases in %.1f s, %.0f/s", r.Held, r.Seconds, r.Rate)
	full, err := m.memory(ctx, s)
	leases := int64(max(1, r.Held+h.Without.Load.Held)) // the clients of the run without any hold theirs too
	h.RSSPerLease = (full[0] - empty[0]) / leases
	h.HeapPerLease = (full[1] - empty[1]) / leases
	return err
}

// overload puts five times the maximum on bootd.
func (m *bench) overload(ctx context.Context) error {
	if !m.measures("bootd") {
		return nil
	}
	best := m.row("bootd")
	s, err := m.fresh(ctx, bootd, large)
	if err != nil {
		return err
	}
	defer s.stop()
	if best == nil {
		row, err := m.pace(ctx, s, "its maximum", newClients)
		if err != nil {
			return err
		}
		best = &row
	}
	g, err := m.clients(dhcpload.Relay, overClients, 1_000_000)
	if err != nil {
		return err
	}
	defer g.Close()
	idle, err := s.rss()
	if err != nil {
		return err
	}
	rate := 5 * best.Load.Rate
	r, err := g.Run(ctx, dhcpload.Load{Rate: rate, Duration: 8 * time.Second, Linger: 4 * time.Second})
	if err != nil {
		return err
	}
	rss, err := s.rss()
	m.Overload = &Overload{Target: rate, Load: r, Maximum: best.Load.Rate, Before: idle, RSS: rss}
	m.sayf("bootd: at %.0f/s (of %.0f/s wanted) completed %.0f/s, oldest answer %.0f ms", r.Offered, rate, r.Rate, r.Oldest)
	return err
}

// avalancheSize is the clients that are switched on at once.
const avalancheSize = 2000

// avalanches switches machines on, behind a relay and on the segment.
func (m *bench) avalanches(ctx context.Context) error {
	for _, a := range []struct {
		recipe
		mode dhcpload.Mode
	}{{kea, dhcpload.Relay}, {bootd, dhcpload.Relay}, {bootd, dhcpload.Broadcast}, {bootd, dhcpload.Direct}} {
		if !m.measures(a.name) {
			continue
		}
		if err := m.avalanche(ctx, a.recipe, a.mode); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

func (m *bench) avalanche(ctx context.Context, r recipe, mode dhcpload.Mode) error {
	s, err := m.fresh(ctx, r, small)
	if err != nil {
		return err
	}
	defer s.stop()
	g, err := m.clients(mode, 0, avalancheSize)
	if err != nil {
		return err
	}
	defer g.Close()
	load, err := g.Run(ctx, dhcpload.Avalanche(avalancheSize))
	if err != nil {
		return err
	}
	m.Avalanches = append(m.Avalanches, Avalanche{Server: r.name, Mode: mode, Load: load})
	m.sayf("%s: %d clients at once, %v: %d leased in %.2f s, by highest retry %v", r.name, avalancheSize, mode, load.Completed, load.Seconds, load.Retries)
	return nil
}
