package dhcp

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the server does. Labels are message types, sockets and a
// fixed set of reasons, never anything a client sent.
type Metrics struct {
	packets [Inform + 1]prometheus.Counter // by message type; 0: any other
	replies [Inform + 1]prometheus.Counter
	drops   *prometheus.CounterVec
	kernel  *prometheus.CounterVec
	commits prometheus.Histogram
	leases  prometheus.Counter
	failed  prometheus.Counter
	rivals  prometheus.Counter
}

// NewMetrics returns metrics registered with reg; nil registers nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	packets := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_packets_total", Help: "DHCP packets received, by message type."}, []string{"type"})
	replies := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_replies_total", Help: "DHCP replies made, by message type."}, []string{"type"})
	m := &Metrics{
		drops:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_drops_total", Help: "DHCP packets not answered, by reason."}, []string{"reason"}),
		kernel:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_kernel_drops_total", Help: "DHCP packets that the kernel dropped before they were read, by socket and reason: its buffer was full, or DISCOVERs were shed under overload."}, []string{"iface", "port", "reason"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bootd_dhcp_commit_seconds", Help: "Time of a disk write of leases.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14)}),
		leases:  prometheus.NewCounter(prometheus.CounterOpts{Name: "bootd_dhcp_leases_committed_total", Help: "Lease changes made durable."}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "bootd_dhcp_commit_errors_total", Help: "Disk writes of leases that failed."}),
		rivals:  prometheus.NewCounter(prometheus.CounterOpts{Name: "bootd_dhcp_rival_requests_total", Help: "Requests for another DHCP server, in subnets that are ours alone."}),
	}
	m.packets[0] = packets.WithLabelValues("other")
	for t := Discover; t <= Inform; t++ {
		m.packets[t], m.replies[t] = packets.WithLabelValues(t.String()), replies.WithLabelValues(t.String())
	}
	if reg != nil {
		reg.MustRegister(packets, replies, m.drops, m.kernel, m.commits, m.leases, m.failed, m.rivals)
	}
	return m
}

func (m *Metrics) received(t MessageType) {
	if t > Inform {
		t = 0 // the number of label values is fixed, whatever clients send
	}
	m.packets[t].Inc()
}

func (m *Metrics) sent(t MessageType) { m.replies[t].Inc() }

func (m *Metrics) dropped(reason string) { m.drops.WithLabelValues(reason).Inc() }

// unread counts what the kernel dropped of a link. The counters of a link are
// there from the start, so that a rate can be had of the first drops.
func (m *Metrics) unread(l *link, d Drops) {
	port := strconv.Itoa(int(l.port))
	m.kernel.WithLabelValues(l.ifname, port, "socket full").Add(float64(d.Full))
	m.kernel.WithLabelValues(l.ifname, port, "overload").Add(float64(d.Shed))
}

func (m *Metrics) committed(n int, took time.Duration, err error) {
	m.commits.Observe(took.Seconds())
	if err != nil {
		m.failed.Inc()
		return
	}
	m.leases.Add(float64(n))
}
