package main

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/internal/admin"
	"bootd/internal/timeline"
)

// edgeSite has a node for each way a deployment can stand that somebody has to
// know of at night.
func edgeSite() *site {
	s := &site{events: map[string][]timeline.Event{}}
	local := deploy.Decision{Action: deploy.Local, Reason: "installed: ready"}
	hold := deploy.Decision{Action: deploy.Hold, Reason: "held"}
	install := deploy.Decision{Action: deploy.Boot, Release: "3.2.0", Install: true, Reason: "armed, and its boot directory links release 3.2.0 of role edge"}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d - 30*time.Second) }
	add := func(i int, next deploy.Decision, r deploy.Record, l admin.Life) {
		name := fmt.Sprintf("edge-%02d", i)
		b := newBoot(name, i, 120)
		s.nodes = append(s.nodes, admin.Status{Machine: name, Role: "edge", Known: true, Next: next, Deployment: r, Life: l})
		if r.Phase != deploy.Armed {
			s.events[name] = append(b.pxe(), b.script(5.91, "local", "", "installed: ready"))
		}
	}
	ready := deploy.Record{Phase: deploy.Ready, Since: ago(3 * time.Hour), Reason: "the system checked in", Installs: 1, Release: "3.2.0", Beats: true}
	agent := func(b deploy.BootState) deploy.Agent {
		return deploy.Agent{Since: ago(3 * time.Hour), Boot: b, Hostname: "edge", Version: "v2.27.0"}
	}
	add(1, local, ready, admin.Life{Heartbeat: ago(0), Silent: 30 * time.Second, Agent: agent(deploy.Active)})
	add(2, local, ready, admin.Life{Heartbeat: ago(7 * time.Minute), Silent: 7*time.Minute + 30*time.Second, Agent: agent(deploy.Active)})
	add(3, local, ready, admin.Life{Silent: 3 * time.Minute, Agent: agent(deploy.Passive)})
	add(4, local, ready, admin.Life{Silent: 61 * time.Minute, Agent: agent(deploy.Recovery)})
	add(5, install, deploy.Record{Phase: deploy.Armed, Since: ago(time.Minute), Reason: "armed by the administrator", Wipe: true}, admin.Life{})
	add(6, hold, deploy.Record{Phase: deploy.Failed, From: deploy.Installing, Since: ago(2 * time.Hour), Reason: "the node said: no disk \x1b[2J", Installs: 2, Release: "3.2.0"}, admin.Life{})
	add(7, hold, deploy.Record{Phase: deploy.Held, Since: ago(50 * time.Hour), Reason: "rack is hot"}, admin.Life{})
	add(8, hold, deploy.Record{Phase: deploy.Installing, Since: ago(time.Minute), Reason: "told to boot the installer", Deadline: time.Now().Add(58*time.Minute + 30*time.Second), Installs: 1, Release: "3.2.0"}, admin.Life{})
	return s
}

// Deployment implements admin.Backend.
func (s *site) Deployment(name string) (admin.Deployment, error) {
	for _, st := range s.nodes {
		if st.Machine == name {
			return admin.Deployment{Node: name, Record: st.Deployment, Life: st.Life}, nil
		}
	}
	return admin.Deployment{Node: name}, nil // one of the stable
}

// Nodes implements admin.Backend.
func (s *site) Nodes() (list []admin.Node) {
	if s.nodes == nil {
		return s.stable.Nodes()
	}
	for _, st := range s.nodes {
		list = append(list, admin.Node{Name: st.Machine, Role: st.Role, Boot: "release", Keys: map[string]string{"role": "bootd.yaml:9"}})
	}
	return list
}

// Red is for terminals alone: into a file goes no escape.
func TestPainter(t *testing.T) {
	var b bytes.Buffer
	if got := painter(&b)("silent"); got != "silent" {
		t.Errorf("got %q, want no colour", got)
	}
}
