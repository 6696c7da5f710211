package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bootd/deploy"
)

// nodeMetrics collects what is known of the nodes when somebody asks. Its
// labels are those of the inventory: nothing from the wire becomes one.
type nodeMetrics daemon

var (
	phaseDesc  = prometheus.NewDesc("bootd_node_phase", "1 for the phase of its deployment that a node is in.", []string{"node", "phase"}, nil)
	nodesDesc  = prometheus.NewDesc("bootd_nodes", "Nodes in each phase.", []string{"phase"}, nil)
	silentDesc = prometheus.NewDesc("bootd_node_silent_seconds", "Time since the last heartbeat of a node that sends them, or since bootd was started.", []string{"node"}, nil)
	beatDesc   = prometheus.NewDesc("bootd_node_last_heartbeat_timestamp_seconds", "When the last heartbeat of a node came, in seconds since 1970.", []string{"node"}, nil)
	agentsDesc = prometheus.NewDesc("bootd_agents_connected", "Agents with an open WebSocket.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *nodeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{phaseDesc, nodesDesc, silentDesc, beatDesc, agentsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	w, now := m.world.Load(), time.Now()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	in := map[deploy.Phase]int{}
	for _, n := range w.inv.Nodes() {
		r := m.records.Get(n.Name)
		in[r.Phase]++
		gauge(phaseDesc, 1, n.Name, r.Phase.String())
		if r.Beats {
			gauge(silentDesc, m.pulse.Silence(now, n.Name, r).Seconds(), n.Name)
		}
		if last := m.pulse.Last(n.Name); !last.IsZero() {
			gauge(beatDesc, float64(last.UnixMilli())/1000, n.Name)
		}
	}
	for _, p := range deploy.Phases() {
		gauge(nodesDesc, float64(in[p]), p.String())
	}
	gauge(agentsDesc, float64(m.phoneHome.Connected()))
}
