package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"bootd/deploy"
	"bootd/internal/config"
	"bootd/internal/timeline"
)

// stateOnly is a daemon that has its state and answers nobody.
func stateOnly(t *testing.T, dir string) *daemon {
	t.Helper()
	cfg, err := config.Parse("bootd.yaml", fmt.Appendf(nil, `
root: %s
state: %s
nodes:
  - {name: n1, role: kubernetes, macs: [52:54:00:00:00:01]}
  - {name: n2, role: kubernetes, macs: [52:54:00:00:00:02]}
`, t.TempDir(), dir))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: slog.New(slog.DiscardHandler), started: time.Now(), registry: prometheus.NewRegistry(), strangers: rate.NewLimiter(0, 0)}
	d.pulse = deploy.NewPulse(d.started)
	d.register()
	t.Cleanup(d.close)
	for _, step := range []func() error{func() error { return d.openRoot(cfg) }, d.openState} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// gathered returns the metrics of nodes, one per line.
func gathered(t *testing.T, d *daemon) string {
	t.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			fmt.Fprintf(&all, "%s%v %v\n", f.GetName(), labels, m.Gauge.GetValue())
		}
	}
	return all.String()
}

// A node that stops sending heartbeats is told once, by everything that tells;
// after a restart of ours its silence begins there, and it is not forgotten
// that it sends them.
func TestSilence(t *testing.T) {
	dir := t.TempDir()
	d := stateOnly(t, dir)
	if _, _, err := d.beat("n1", ""); err != nil {
		t.Fatal(err)
	}
	heard := d.pulse.Last("n1")
	beats := func(d *daemon) (list []timeline.Event) {
		for _, e := range d.events.Events("n1") {
			if e.Step == timeline.Beat {
				list = append(list, e)
			}
		}
		return list
	}
	d.silences(heard.Add(deploy.SilentAfter - 1))
	if got := beats(d); got != nil {
		t.Errorf("before five minutes: got %+v, want no event", got)
	}
	d.silences(heard.Add(deploy.SilentAfter))
	d.silences(heard.Add(2 * deploy.SilentAfter))
	if got := beats(d); len(got) != 1 || got[0].Action != "silent" || got[0].Detail != "no heartbeat for 5m0s" {
		t.Errorf("after five minutes: got %+v, want one event", got)
	}
	st := d.Status(heard.Add(7 * time.Minute))
	if st[0].Silent != 7*time.Minute || !st[0].Heartbeat.Equal(heard) || st[1].Silent != 0 {
		t.Errorf("status: got %+v and %+v, want n1 silent for 7m and n2 not", st[0].Life, st[1].Life)
	}
	got := gathered(t, d)
	for _, want := range []string{"bootd_node_phase[n1 inventory] 1\n", "bootd_nodes[inventory] 2\n", "bootd_nodes[failed] 0\n", "bootd_node_silent_seconds[n1] ", "bootd_node_last_heartbeat_timestamp_seconds[n1] ", "bootd_agents_connected[] 0\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics: got\n%swant %q", got, want)
		}
	}
	if strings.Contains(got, "silent_seconds[n2]") {
		t.Errorf("metrics: got\n%swant nothing of the silence of n2, which sends no heartbeats", got)
	}
	d.beat("n1", "")
	d.silences(time.Now())
	if got := beats(d); len(got) != 2 || got[1].Action != "heard again" {
		t.Errorf("got %+v, want that it is heard again", got)
	}

	d.close()
	d = stateOnly(t, dir)
	st = d.Status(d.started.Add(time.Minute))
	if !st[0].Deployment.Beats || st[0].Silent != time.Minute || !st[0].Heartbeat.IsZero() {
		t.Errorf("after a restart: got %+v, want it silent for a minute", st[0].Life)
	}
	d.silences(d.started.Add(deploy.SilentAfter))
	if got := beats(d); len(got) != 1 || got[0].Action != "silent" {
		t.Errorf("after a restart and five minutes: got %+v, want one event", got)
	}
}
