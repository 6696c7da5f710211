package main

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"bootd/internal/lab/dhcpload"
)

func load(rate, loss, p99 float64) dhcpload.Result {
	l := dhcpload.Latency{P99: p99}
	return dhcpload.Result{Rate: rate, Offered: rate, Loss: loss, Offer: l, Ack: l, Began: 2000, Completed: 2000}
}

// good is a report in which each demand is just met.
func good() *report {
	return &report{
		Servers: []Row{{Name: "kea", Load: load(10_000, 0.9, 5), CPU: 80}, {Name: "bootd", Load: load(40_000, 0.9, 9), CPU: 20}},
		AtKeas:  &Row{Name: "bootd", Load: load(10_000, 0, 5)},
		Held: &Held{
			Leases: 500_000, Without: Row{Load: load(40_000, 0, 9)}, With: Row{Load: load(38_001, 0, 9)},
			RSSPerLease: 400, Restart: 4.9,
		},
		Overload:   &Overload{Maximum: 40_000, Load: dhcpload.Result{Rate: 32_000, Offered: 200_000, Oldest: 2000}, RSS: 64 * mega},
		Avalanches: []Avalanche{{Server: "bootd", Load: dhcpload.Result{Began: 2000, Completed: 2000, Retries: []int{0, 0, 2000}}}},
	}
}

func TestDemands(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*report)
		line  string // that changes; empty: every demand is met
	}{
		{"all met", func(*report) {}, ""},
		{"too slow", func(r *report) { r.Servers[1].Load.Rate-- }, "FAIL         rate at least 4 times Kea's: 4.00 times, loss 0.90 %, Kea's 0.90 %"},
		{"rate with loss", func(r *report) { r.Servers[1].Load.Loss = 1 }, "FAIL         rate at least 4 times Kea's: 4.00 times, loss 1.00 %, Kea's 0.90 %"},
		{"Kea not measured", func(r *report) { r.Servers = r.Servers[1:]; r.AtKeas = nil }, "not measured rate at least 4 times Kea's: "},
		{"dear", func(r *report) { r.Servers[1].CPU = 21 }, "FAIL         CPU per exchange at most a quarter of Kea's: 0.26 of it"},
		{"late", func(r *report) { r.AtKeas.Load.Ack.P99 = 5.1 }, "FAIL         p99 of both halves no worse than Kea's at Kea's maximum: 5.00 and 5.10 ms, Kea 5.00 and 5.00 ms"},
		{"slower when full", func(r *report) { r.Held.With.Load.Rate = 37_200 }, "FAIL         no slower with 500,000 leases than with none: 0.93 of the rate"},
		{"fat", func(r *report) { r.Held.RSSPerLease++ }, "FAIL         at most 400 bytes per lease: 401 bytes"},
		{"slow start", func(r *report) { r.Held.Restart = 5 }, "FAIL         restart under 5 s with a million leases: 5.00 s with 500000"},
		{"collapse", func(r *report) { r.Overload.Load.Rate = 31_000 }, "FAIL         goodput at least 80 % of the maximum under five times the load: 78 % at 5.0 times"},
		{"generator too weak to overload", func(r *report) { r.Overload.Load.Offered = 170_000 }, "FAIL         goodput at least 80 % of the maximum under five times the load: 80 % at 4.2 times"},
		{"old answer", func(r *report) { r.Overload.Load.Old = 1 }, "FAIL         no answer older than two seconds: 1, the oldest 2000 ms"},
		{"memory", func(r *report) { r.Overload.RSS = 66 * mega }, "FAIL         memory bounded under overload"},
		{"third retry", func(r *report) { r.Avalanches[0].Load.Retries = []int{0, 0, 1999, 1} }, "FAIL         an avalanche without a client's third retry: highest retry: relay 3"},
		{"a client left out", func(r *report) { r.Avalanches[0].Load.Completed-- }, "FAIL         an avalanche without a client's third retry: highest retry: relay 2"},
		{"duplicate", func(r *report) { r.Held.Preload.Wrong.Duplicates = 1 }, "FAIL         no wrong answer: {Malformed:0 Client:0 Type:0 Address:0 NAK:0 Duplicates:1}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.spoil(r)
			r.demands()
			got := r.String()
			if !strings.Contains(got, tt.line) {
				t.Errorf("got %s\nwant a line %q", got, tt.line)
			}
			if tt.line == "" && strings.Count(got, "\nPASS ") != len(r.Demands) {
				t.Errorf("got %s\nwant all met", got)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-only", "isc"}, `-only: "isc" is not one of kea, bootd, dnsmasq`},
		{[]string{"-parts", "all"}, `-parts: "all" is not one of steady, max, held, overload, avalanche`},
		{[]string{"-fast"}, "flag provided but not defined: -fast"},
	}
	for _, tt := range tests {
		var errs strings.Builder
		if got := Main(tt.args, io.Discard, &errs); got != 2 || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%q: got status %d, %q, want 2, %q", tt.args, got, errs.String(), tt.want)
		}
	}
}

// The pools must hold the clients that the parts put into them.
func TestPools(t *testing.T) {
	size := func(p pool) int {
		n := func(a netip.Addr) int { b := a.As4(); return int(b[1])<<16 | int(b[2])<<8 | int(b[3]) }
		return n(p.last) - n(p.first) + 1
	}
	for _, r := range recipes {
		if r.many+1 > size(small) { // and the client that waits for the first answer
			t.Errorf("%s: %d clients in a pool of %d", r.name, r.many, size(small))
		}
	}
	if want := 500_000 + 3*60_000 + 1; size(large) < want {
		t.Errorf("large pool: got %d addresses, want %d", size(large), want)
	}
}
