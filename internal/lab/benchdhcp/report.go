package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"bootd/internal/lab/dhcpload"
)

// A Row is one server at one load.
type Row struct {
	Name  string          `json:"name"`
	Store string          `json:"store,omitempty"`
	Load  dhcpload.Result `json:"load"`
	CPU   float64         `json:"cpu_us_per_exchange"`
	RSS   int64           `json:"rss_bytes"`
	// Others is the share of both processors that other processes took.
	Others float64 `json:"others_percent"`
}

// Held is bootd with many leases.
type Held struct {
	Leases       int             `json:"leases"`
	Without      Row             `json:"without"`
	With         Row             `json:"with"`
	RSSPerLease  int64           `json:"rss_bytes_per_lease"`
	HeapPerLease int64           `json:"heap_bytes_per_lease"`
	Preload      dhcpload.Result `json:"preload"`
	Restart      float64         `json:"restart_seconds"`
	RSSRestarted int64           `json:"rss_bytes_per_lease_after_restart"`
}

// Overload is bootd under more than it can do.
type Overload struct {
	Target  float64         `json:"target_rate"`
	Maximum float64         `json:"maximum_rate"`
	Load    dhcpload.Result `json:"load"`
	Before  int64           `json:"rss_bytes_before"`
	RSS     int64           `json:"rss_bytes"`
}

// An Avalanche is many clients switched on at once.
type Avalanche struct {
	Server string          `json:"server"`
	Mode   dhcpload.Mode   `json:"mode"`
	Load   dhcpload.Result `json:"load"`
}

// A Demand is one line of the verdict. Met is nil when it was not measured.
type Demand struct {
	What string `json:"demand"`
	Got  string `json:"got"`
	Met  *bool  `json:"met"`
}

type report struct {
	Quick      bool        `json:"quick"`
	LoadAvg    string      `json:"load_average_at_start"`
	Servers    []Row       `json:"servers"`
	AtKeas     *Row        `json:"bootd_at_keas_maximum"`
	Held       *Held       `json:"held"`
	Overload   *Overload   `json:"overload"`
	Avalanches []Avalanche `json:"avalanches"`
	Demands    []Demand    `json:"demands"`
}

func newReport(o options) *report {
	b, _ := os.ReadFile("/proc/loadavg") // for information only
	avg, _, _ := strings.Cut(string(b), " ")
	return &report{Quick: o.quick, LoadAvg: avg}
}

func (r *report) row(name string) *Row {
	for i := range r.Servers {
		if r.Servers[i].Name == name {
			return &r.Servers[i]
		}
	}
	return nil
}

const mega = 1 << 20

// String tells the report to people: the servers, bootd's further figures, and
// the demands.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nDHCP, DISCOVER to ACK, server and generator on a processor each; load average at start %s\n", r.LoadAvg)
	if r.Quick {
		b.WriteString("A quick run: an impression, not a result.\n")
	}
	r.servers(&b)
	r.details(&b)
	b.WriteString("\n")
	for _, d := range r.Demands {
		fmt.Fprintf(&b, "%-12s %s: %s\n", d.verdict(), d.What, d.Got)
	}
	return b.String()
}

func (r *report) servers(b *strings.Builder) {
	if len(r.Servers) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nserver\trate /s\tto Kea\tloss %\toffer p50/p99 ms\tack p50/p99 ms\tCPU us\tto Kea\tRSS MB\tstore")
	for i := range r.Servers {
		r.line(t, &r.Servers[i])
	}
	if r.AtKeas != nil {
		at := *r.AtKeas
		at.Name = "bootd at Kea's"
		r.line(t, &at)
	}
	t.Flush()
}

func (r *report) line(t *tabwriter.Writer, row *Row) {
	rate, cpu := "-", "-"
	if kea := r.row("kea"); kea != nil {
		rate = fmt.Sprintf("%.2f", row.Load.Rate/kea.Load.Rate)
		cpu = fmt.Sprintf("%.2f", row.CPU/kea.CPU)
	}
	l := row.Load
	fmt.Fprintf(t, "%s\t%.0f\t%s\t%.2f\t%.2f / %.2f\t%.2f / %.2f\t%.1f\t%s\t%.0f\t%s\n",
		row.Name, l.Rate, rate, l.Loss, l.Offer.P50, l.Offer.P99, l.Ack.P50, l.Ack.P99, row.CPU, cpu, float64(row.RSS)/mega, row.Store)
}

func (r *report) details(b *strings.Builder) {
	b.WriteString("\n")
	if h := r.Held; h != nil {
		fmt.Fprintf(b, "bootd with 0 leases: %.0f/s at %.1f us; with %d: %.0f/s at %.1f us\n", h.Without.Load.Rate, h.Without.CPU, h.Leases, h.With.Load.Rate, h.With.CPU)
		fmt.Fprintf(b, "bootd per lease: %d bytes of RSS, %d of live heap; after a restart %d of RSS; first answer after %.2f s\n", h.RSSPerLease, h.HeapPerLease, h.RSSRestarted, h.Restart)
	}
	if o := r.Overload; o != nil {
		fmt.Fprintf(b, "bootd overloaded with %.0f/s: %s\n", o.Load.Offered, strings.ReplaceAll(o.Load.String(), "\n", "\n    "))
	}
	for _, a := range r.Avalanches {
		fmt.Fprintf(b, "%s, %d clients at once (%v): %d leased in %.2f s, clients by highest retry %v\n", a.Server, a.Load.Began, a.Mode, a.Load.Completed, a.Load.Seconds, a.Load.Retries)
	}
	for _, row := range r.Servers {
		if row.Others > 3 || row.Load.Behind > 50 {
			fmt.Fprintf(b, "note: %s: other processes took %.0f %% of the two processors, and the generator was %.0f ms behind at one moment: measure again when the machine is idle\n", row.Name, row.Others, row.Load.Behind)
		}
		if row.Load.Loss >= 1 {
			fmt.Fprintf(b, "note: %s: no rate was confirmed with less than 1 %% loss; this is the last one tried\n", row.Name)
		}
	}
}

func (d Demand) verdict() string {
	switch {
	case d.Met == nil:
		return "not measured"
	case *d.Met:
		return "PASS"
	}
	return "FAIL"
}

func (r *report) add(what string, measured, met bool, format string, args ...any) {
	d := Demand{What: what}
	if measured {
		d.Met, d.Got = &met, fmt.Sprintf(format, args...)
	}
	r.Demands = append(r.Demands, d)
}

// Measurements of one server in one run differ by this much.
const noise = 0.95

// demands fills in the verdicts.
func (r *report) demands() {
	r.Demands = nil
	kea, bootd := r.row("kea"), r.row("bootd")
	r.demandsOfMaximum(kea, bootd)
	r.demandsOfHeld()
	r.demandsOfOverload()
	r.demandsOfAvalanche()
	r.add("no wrong answer", len(r.results()) > 0, r.wrong().Any() == 0, "%+v", r.wrong())
}

func (r *report) demandsOfMaximum(kea, bootd *Row) {
	both := kea != nil && bootd != nil
	if !both {
		kea, bootd = &Row{}, &Row{}
	}
	r.add("rate at least 4 times Kea's", both, bootd.Load.Rate >= 4*kea.Load.Rate && bootd.Load.Loss < 1,
		"%.2f times, loss %.2f %%, Kea's %.2f %%", bootd.Load.Rate/kea.Load.Rate, bootd.Load.Loss, kea.Load.Loss)
	r.add("CPU per exchange at most a quarter of Kea's", both, bootd.CPU <= kea.CPU/4, "%.2f of it", bootd.CPU/kea.CPU)
	at := r.AtKeas
	if at == nil {
		at = &Row{}
	}
	r.add("p99 of both halves no worse than Kea's at Kea's maximum", r.AtKeas != nil,
		at.Load.Loss < 1 && at.Load.Offer.P99 <= kea.Load.Offer.P99 && at.Load.Ack.P99 <= kea.Load.Ack.P99,
		"%.2f and %.2f ms, Kea %.2f and %.2f ms", at.Load.Offer.P99, at.Load.Ack.P99, kea.Load.Offer.P99, kea.Load.Ack.P99)
}

func (r *report) demandsOfHeld() {
	h, measured := r.Held, r.Held != nil
	if !measured {
		h = &Held{}
	}
	r.add("no slower with 500,000 leases than with none", measured, h.With.Load.Rate >= noise*h.Without.Load.Rate,
		"%.2f of the rate, %.2f of the CPU, with %d leases", h.With.Load.Rate/h.Without.Load.Rate, h.With.CPU/h.Without.CPU, h.Leases)
	r.add("at most 400 bytes per lease", measured, h.RSSPerLease <= 400, "%d bytes", h.RSSPerLease)
	r.add("restart under 5 s with a million leases", measured, h.Restart < 5, "%.2f s with %d", h.Restart, h.Leases)
}

func (r *report) demandsOfOverload() {
	o, measured := r.Overload, r.Overload != nil
	if !measured {
		o = &Overload{}
	}
	times := o.Load.Offered / o.Maximum
	r.add("goodput at least 80 % of the maximum under five times the load", measured, o.Load.Rate >= 0.8*o.Maximum && times > 4.5,
		"%.0f %% at %.1f times", 100*o.Load.Rate/o.Maximum, times)
	r.add("no answer older than two seconds", measured, o.Load.Old == 0, "%d, the oldest %.0f ms", o.Load.Old, o.Load.Oldest)
	bound := o.Before + 64*mega + 400*int64(o.Load.Offers)
	r.add("memory bounded under overload (64 MB, and 400 bytes for each client it offered to)", measured, o.RSS <= bound,
		"%d MB, bound %d MB", o.RSS/mega, bound/mega)
}

func (r *report) demandsOfAvalanche() {
	measured, met := false, true
	var got []string
	for _, a := range r.Avalanches {
		if a.Server != "bootd" {
			continue
		}
		measured = true
		met = met && a.Load.MostRetries() < 3 && a.Load.Completed == a.Load.Began
		got = append(got, fmt.Sprintf("%v %d", a.Mode, a.Load.MostRetries()))
	}
	r.add("an avalanche without a client's third retry", measured, met, "highest retry: %s", strings.Join(got, ", "))
}

// results is every load on bootd.
func (r *report) results() (list []dhcpload.Result) {
	if row := r.row("bootd"); row != nil {
		list = append(list, row.Load)
	}
	if r.AtKeas != nil {
		list = append(list, r.AtKeas.Load)
	}
	if r.Held != nil {
		list = append(list, r.Held.Without.Load, r.Held.Preload, r.Held.With.Load)
	}
	if r.Overload != nil {
		list = append(list, r.Overload.Load)
	}
	for _, a := range r.Avalanches {
		if a.Server == "bootd" {
			list = append(list, a.Load)
		}
	}
	return list
}

func (r *report) wrong() (sum dhcpload.Wrong) {
	for _, l := range r.results() {
		sum = sum.Plus(l.Wrong)
	}
	return sum
}
