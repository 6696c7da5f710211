package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/internal/phonehome"
	"bootd/internal/store"
	"bootd/internal/timeline"
	"bootd/ipxe"
)

// maxAgents bounds the agents that are connected, so that half of
// ipxe.MaxConnections is left to machines that boot.
const maxAgents = ipxe.MaxConnections / 2

// openAgents reads who has registered by phone-home.
func (d *daemon) openAgents(db *store.Store) error {
	table, err := db.Table("agents")
	if err != nil {
		return err
	}
	if d.agents, err = deploy.OpenAgents(table); err != nil {
		return err
	}
	d.phoneHome = &phonehome.Server{Register: d.registerAgent, Whose: d.whoseAgent, Beat: d.agentBeats, Max: maxAgents, Log: d.log}
	return nil
}

// agentOf is what an agent says of itself, fit to be shown.
func agentOf(hostname, version, boot string) deploy.Agent {
	return deploy.Agent{Hostname: ipxe.WireText(hostname), Version: ipxe.WireText(version), Boot: deploy.ParseBootState(boot)}
}

// registerAgent lets an agent register that calls from the address of a node
// and knows the token of its role, where there is one.
func (d *daemon) registerAgent(peer netip.Addr, r phonehome.Registration) (phonehome.Credentials, error) {
	w := d.world.Load()
	name, _ := d.identify(peer)
	n, ok := w.inv.ByName(name)
	if !ok {
		return phonehome.Credentials{}, &phonehome.Refusal{Status: http.StatusNotFound, Text: fmt.Sprintf("address %v is no node's", peer)}
	}
	if err := mayRegister(w, n, r.Token); err != nil {
		return phonehome.Credentials{}, err
	}
	said := agentOf(r.Hostname, r.Version, r.Boot)
	key, err := d.agents.Register(time.Now(), name, said)
	if err != nil {
		return phonehome.Credentials{}, err
	}
	d.phoneHome.HangUp(name) // who has the key before it
	was, is, err := d.sign(name, deploy.Sign{Kind: deploy.AgentJoined, Boot: said.Boot})
	if err != nil {
		return phonehome.Credentials{}, err
	}
	d.agentSeen(name, peer, said, "registered", was, is)
	return phonehome.Credentials{ID: name, Key: key.Reveal()}, nil
}

// mayRegister checks the token of a role, in a time that tells nothing of it.
func mayRegister(w *world, n *node.Node, token string) error {
	role, _ := w.inv.Role(n.Role)
	if role.RegistrationToken == "" {
		return nil
	}
	want, err := payload.ReadSecret(role.RegistrationToken)
	if err != nil {
		return fmt.Errorf("registration-token of role %s: %w", role.Name, err)
	}
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 0 {
		return &phonehome.Refusal{Status: http.StatusUnauthorized, Text: "wrong registration token"}
	}
	return nil
}

// whoseAgent returns the node of a key. A system may have an address of its own
// that we did not lease; it may not have that of another machine.
func (d *daemon) whoseAgent(peer netip.Addr, key string) (string, error) {
	name := d.agents.Whose(key)
	if _, ok := d.world.Load().inv.ByName(name); !ok {
		return "", &phonehome.Refusal{Status: http.StatusUnauthorized, Text: "no such key"}
	}
	if who, mac := d.identify(peer); !mac.IsZero() && who != name {
		return "", &phonehome.Refusal{Status: http.StatusForbidden, Text: fmt.Sprintf("address %v is another machine's", peer)}
	}
	return name, nil
}

// agentBeats takes a heartbeat of an agent.
func (d *daemon) agentBeats(name string, peer netip.Addr, b phonehome.Heartbeat, first bool) error {
	if _, ok := d.world.Load().inv.ByName(name); !ok {
		return fmt.Errorf("%s is no node any more", name)
	}
	said := agentOf(b.Hostname, b.Version, b.Boot)
	first = first || d.agents.Get(name).Boot != said.Boot
	was, is, err := d.beat(name, said.Boot)
	if err == nil {
		err = d.agents.Heard(name, said)
	}
	if err != nil {
		d.log.Debug("heartbeat not kept", "node", name, "err", err)
	} else if first {
		d.agentSeen(name, peer, said, "connected", was, is)
	}
	return nil
}

// beat takes a heartbeat of a node, whichever way it came.
func (d *daemon) beat(name string, boot deploy.BootState) (was, is deploy.Record, err error) {
	d.pulse.Hear(time.Now(), name)
	return d.sign(name, deploy.Sign{Kind: deploy.Beat, Boot: boot})
}

// agentSeen tells of an agent what people want to know of it: that it is there,
// and which of its systems runs. Where that is the one the node should run, it
// is a check-in as good as any.
func (d *daemon) agentSeen(name string, peer netip.Addr, said deploy.Agent, did string, was, is deploy.Record) {
	detail := fmt.Sprintf("agent %s, %s system", did, said.Boot)
	if said.Boot == deploy.BootUnknown {
		detail = fmt.Sprintf("agent %s, which system is not known", did)
	}
	e := timeline.Event{Node: name, Addr: peer, Step: timeline.CheckIn, Stage: timeline.OS, Action: "agent", Detail: detail}
	_, e.MAC = d.identify(peer)
	w := d.world.Load()
	n, ok := w.inv.ByName(name)
	switch {
	case is.Phase != was.Phase && is.Phase.Runs():
		e.Action = "phone-home"
		d.endMedia(name, e.Action)
	case ok && said.Boot.Runs(w.rules(n)):
		e.Action = "running" // which an upgrade does not take for the boot that it waits for
	}
	d.record(e)
	d.log.Info("agent "+did, "node", name, "ip", peer, "system", string(said.Boot))
}

// silences tells of nodes whose heartbeats stopped, or came back.
func (d *daemon) silences(now time.Time) {
	nodes := d.world.Load().inv.Nodes()
	names := make([]string, len(nodes))
	for i := range nodes {
		names[i] = nodes[i].Name
	}
	for _, t := range d.pulse.Turns(now, names, d.records.Get) {
		e := timeline.Event{Node: t.Node, Step: timeline.Beat, Action: "heard again"}
		if t.Silent {
			e.Action, e.Detail = "silent", fmt.Sprintf("no heartbeat for %v", deploy.SilentAfter)
			d.log.Warn("node is silent", "node", t.Node, "dur", t.For)
		} else {
			d.log.Info("node is heard again", "node", t.Node)
		}
		d.record(e)
	}
}

// life is what there is to show of the system that runs on a node.
func (d *daemon) life(name string, r deploy.Record, now time.Time) admin.Life {
	return admin.Life{Heartbeat: d.pulse.Last(name), Silent: d.pulse.Silence(now, name, r), Agent: d.agents.Get(name)}
}
