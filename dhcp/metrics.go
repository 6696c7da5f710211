package dhcp

import (
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the server does. Labels are message types and a fixed
// set of reasons, never anything a client sent.
type Metrics struct {
	packets *prometheus.CounterVec
	replies *prometheus.CounterVec
	drops   *prometheus.CounterVec
	commits prometheus.Histogram
	leases  prometheus.Counter
	failed  prometheus.Counter
}

// NewMetrics returns metrics registered with reg; nil registers nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		packets: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_packets_total", Help: "DHCP packets received, by message type."}, []string{"type"}),
		replies: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_replies_total", Help: "DHCP replies sent, by message type."}, []string{"type"}),
		drops:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_dhcp_drops_total", Help: "DHCP packets not answered, by reason."}, []string{"reason"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bootd_dhcp_commit_seconds", Help: "Time of a disk write of leases.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14)}),
		leases:  prometheus.NewCounter(prometheus.CounterOpts{Name: "bootd_dhcp_leases_committed_total", Help: "Lease changes made durable."}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "bootd_dhcp_commit_errors_total", Help: "Disk writes of leases that failed."}),
	}
	if reg != nil {
		reg.MustRegister(m.packets, m.replies, m.drops, m.commits, m.leases, m.failed)
	}
	return m
}

func (m *Metrics) received(t dhcpv4.MessageType) { m.packets.WithLabelValues(typeLabel(t)).Inc() }
func (m *Metrics) sent(t dhcpv4.MessageType)     { m.replies.WithLabelValues(typeLabel(t)).Inc() }
func (m *Metrics) dropped(reason string)         { m.drops.WithLabelValues(reason).Inc() }

func (m *Metrics) committed(n int, took time.Duration, err error) {
	m.commits.Observe(took.Seconds())
	if err != nil {
		m.failed.Inc()
		return
	}
	m.leases.Add(float64(n))
}

// typeLabel keeps the number of label values fixed, whatever clients send.
func typeLabel(t dhcpv4.MessageType) string {
	if t < dhcpv4.MessageTypeDiscover || t > dhcpv4.MessageTypeInform {
		return "other"
	}
	return t.String()
}
