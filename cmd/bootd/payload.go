package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/timeline"
	"bootd/ipxe"
)

// bearer returns who is at an address, as tickets are bound to it.
func (d *daemon) bearer(a netip.Addr) deploy.Bearer {
	name, mac := d.identify(a)
	return deploy.Bearer{Node: name, MAC: mac, Addr: a}
}

// ticket issues the ticket of a node. What would not render is told now, while
// the node still waits for its script, and not to a system that then runs
// without its configuration. The error is shown on a screen and kept, so it
// quotes no template.
func (d *daemon) ticket(dec deploy.Decision, peer netip.Addr, server string) (deploy.Token, error) {
	b := d.bearer(peer)
	if b.Node != dec.Node {
		return deploy.Token{}, fmt.Errorf("payload: %v %w %s, so it gets no ticket", peer, deploy.ErrNotBearer, dec.Node)
	}
	w := d.world.Load()
	n, ok := w.inv.ByName(b.Node)
	if !ok {
		return deploy.Token{}, fmt.Errorf("payload: %q is not a node of the inventory", b.Node)
	}
	if _, err := payload.Render(n.Payload, d.payloadData(w, n, server)); err != nil {
		return deploy.Token{}, fmt.Errorf("payload: %s: see bootctl payload check", places(err))
	}
	t, err := d.tickets.Issue(time.Now(), b, stageOf(dec), terms(n.Payload))
	if err != nil {
		return deploy.Token{}, fmt.Errorf("payload: %w", err)
	}
	return t, nil
}

// stageOf returns the stage that a decision to boot is of.
func stageOf(d deploy.Decision) deploy.Stage {
	if d.Install {
		return deploy.StageInstall
	}
	return deploy.StageBoot
}

// payload answers for a document. It is rendered before the ticket is used, so
// that a document that cannot be rendered can be fetched once it can.
func (d *daemon) payload(r ipxe.PayloadRequest, peek bool) ipxe.PayloadAnswer {
	asker := d.bearer(r.Peer)
	u := d.tickets.Look(time.Now(), r.Token, asker, r.Document)
	a := ipxe.PayloadAnswer{Verdict: u.Verdict, Node: u.Ticket.Node, MAC: u.Ticket.MAC, Ticket: u.ID, Reason: u.Reason}
	if u.Verdict != deploy.Granted {
		return a
	}
	w := d.world.Load()
	n, ok := w.inv.ByName(u.Ticket.Node)
	if !ok || n.Payload.IsZero() {
		a.Verdict, a.Reason = deploy.Gone, "the node has no payload any more"
		return a
	}
	if !slices.Contains(payload.Documents(n.Payload), r.Document) {
		a.Verdict, a.Reason = deploy.Unknown, "payload of family "+n.Payload.Family+" has no such document"
		return a
	}
	docs, err := payload.Render(n.Payload, d.payloadData(w, n, r.Server))
	if err != nil {
		a.Err = fmt.Errorf("%s: see bootctl payload check", places(err))
		return a
	}
	a.Body, a.Type = docs[r.Document], payload.TypeOf(n.Payload.Family, r.Document)
	if peek {
		return a
	}
	u, err = d.tickets.Take(time.Now(), r.Token, asker, r.Document)
	a.Verdict, a.Reason, a.Err, a.Done = u.Verdict, u.Reason, err, u.Done
	return a
}

// terms are how long the client of a payload needs its ticket.
func terms(p node.Payload) deploy.Terms {
	f, _ := payload.FamilyOf(p.Family)
	return deploy.Terms{TTL: f.TTL, Repeat: f.Repeat}
}

// places are where the faults of a payload are, without what they are.
func places(err error) string {
	var list []string
	for _, err := range unjoined(err) {
		var f *payload.Fault
		if errors.As(err, &f) {
			list = append(list, f.Where())
		}
	}
	if list == nil {
		return "cannot be rendered"
	}
	return strings.Join(list, ", ") + ": cannot be rendered"
}

func unjoined(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// subnetServer returns us as the machine with that address reaches us.
func (w *world) subnetServer(a netip.Addr) (string, bool) {
	for _, s := range w.subnets {
		if a.IsValid() && s.Prefix.Contains(a) {
			return hostPort(s.Server, w.port), true
		}
	}
	return "", false
}

// payloadData is what the templates of a node see.
func (d *daemon) payloadData(w *world, n *node.Node, server string) payload.Data {
	var data payload.Data
	if s := subnetOf(w.subnets, n); s != nil {
		data = payload.NewData(n, s.Domain, server)
		data.Subnet = payload.Subnet{Prefix: s.Prefix, Router: s.Router, DNS: s.DNS, NTP: s.NTP}
	} else {
		data = payload.NewData(n, "", server)
	}
	data.Wipe = d.records.Get(n.Name).Wipe
	return data
}

// subnetOf returns the subnet of a node's own address, or the only one.
func subnetOf(list []config.Subnet, n *node.Node) *config.Subnet {
	for i := range list {
		if list[i].Prefix.Contains(n.Addr) || len(list) == 1 {
			return &list[i]
		}
	}
	return nil
}

// redactEvent takes tokens out of what came from the wire, whichever protocol
// it came by.
func redactEvent(e *timeline.Event) {
	for _, s := range []*string{&e.File, &e.Detail, &e.Err} {
		*s = deploy.Redact(*s)
	}
}

// redactAttr is the same for log lines.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(deploy.Redact(v))
	case error:
		a.Value = slog.StringValue(deploy.Redact(v.Error()))
	}
	return a
}
