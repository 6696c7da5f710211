package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
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
		return deploy.Token{}, fmt.Errorf("payload: %w", unrendered{err})
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

// payload answers for a document.
func (d *daemon) payload(r ipxe.PayloadRequest, peek bool) ipxe.PayloadAnswer {
	w, asker := d.world.Load(), d.bearer(r.Peer)
	switch r.Via {
	case ipxe.ViaTicket:
		return d.byTicket(w, r, asker, peek)
	case ipxe.ViaBasecamp:
		return d.byBasecamp(w, r, asker)
	}
	return d.byLease(w, r, asker, peek)
}

// byTicket answers who has a URL with a ticket. The document is rendered before
// the ticket is used, so that one that cannot be rendered can be fetched once
// it can.
func (d *daemon) byTicket(w *world, r ipxe.PayloadRequest, asker deploy.Bearer, peek bool) ipxe.PayloadAnswer {
	n, known := w.inv.ByName(asker.Node)
	if known {
		r.Document = payload.Alias(n.Payload.Family, r.Document, r.Peer, asker.MAC)
	}
	u := d.tickets.Look(time.Now(), r.Token, asker, r.Document)
	a := ipxe.PayloadAnswer{Verdict: u.Verdict, Node: u.Ticket.Node, MAC: u.Ticket.MAC, Ticket: u.ID, Reason: u.Reason}
	if u.Verdict != deploy.Granted {
		return a
	}
	p := payloadOf(n, u.Stage) // a ticket that is granted is of a node
	switch {
	case p.IsZero():
		a.Verdict, a.Reason = deploy.Gone, "the node has no payload any more"
	case !u.Stage.Open(d.records.Get(n.Name)):
		a.Verdict, a.Reason = deploy.Gone, "the node is past stage "+string(u.Stage)
	case !slices.Contains(payload.Documents(p), r.Document):
		a.Verdict, a.Reason = deploy.Unknown, "payload of family "+p.Family+" has no such document"
	}
	if a.Verdict != deploy.Granted {
		return a
	}
	if a.Body, a.Err = d.render(w, n, p, r); a.Err != nil || peek {
		a.Type = payload.TypeOf(p.Family, r.Document)
		return a
	}
	a.Type = payload.TypeOf(p.Family, r.Document)
	if a.Err = d.given(n.Name, u.Stage); a.Err != nil {
		return a
	}
	u, err := d.tickets.Take(time.Now(), r.Token, asker, r.Document)
	a.Verdict, a.Reason, a.Err, a.Done = u.Verdict, u.Reason, err, u.Done
	return a
}

// unrendered is an error of payload.Render, for the log and administrators. It
// quotes no template.
type unrendered struct{ err error }

func (u unrendered) Error() string { return payload.Told(u.err) + seeCheck }

// Shown is the same for the screen of a machine: where, and not why.
func (u unrendered) Shown() string { return "payload: " + payload.Shown(u.err) + seeCheck }

const seeCheck = ": see bootctl payload check"

// render renders one document.
func (d *daemon) render(w *world, n *node.Node, p node.Payload, r ipxe.PayloadRequest) ([]byte, error) {
	docs, err := payload.Render(p, d.payloadData(w, n, r.Server))
	if err != nil {
		return nil, unrendered{err}
	}
	return docs[r.Document], nil
}

// given keeps that a node has its documents of a stage, before it has them: a
// crash after that must not make it install again.
func (d *daemon) given(name string, stage deploy.Stage) error {
	kind, tells := map[deploy.Stage]deploy.SignKind{deploy.StageSite: deploy.SiteGiven, deploy.StageInstall: deploy.SystemRuns}[stage]
	if !tells {
		return nil
	}
	_, is, err := d.sign(name, deploy.Sign{Kind: kind})
	if err == nil && stage == deploy.StageInstall && !is.Running {
		err = fmt.Errorf("%w: the node is %v", deploy.ErrNotNow, is.Phase)
	}
	return err
}

// payloadOf returns the payload of a node at a stage.
func payloadOf(n *node.Node, stage deploy.Stage) node.Payload {
	switch {
	case n == nil:
		return node.Payload{}
	case stage == deploy.StageSite:
		return n.Site
	}
	return n.Payload
}

// byLease answers who was given no URL: an installer from a medium of its own,
// or the first boot of what was installed. It gets what its boot script would
// lead it to, and no more.
func (d *daemon) byLease(w *world, r ipxe.PayloadRequest, asker deploy.Bearer, peek bool) ipxe.PayloadAnswer {
	a := ipxe.PayloadAnswer{Node: asker.Node, MAC: asker.MAC}
	n, ok := w.inv.ByName(asker.Node)
	if !ok {
		a.Reason = fmt.Sprintf("%v holds no lease of a node", asker.Addr)
		return a
	}
	if a.Reason = contradicts(w, n, asker, r); a.Reason != "" {
		a.Verdict = deploy.Foreign
		return a
	}
	if d.records.Get(n.Name).Phase == deploy.Armed && r.Via == ipxe.ViaLease && !peek {
		d.decide(ipxe.Machine{Name: n.Name, MAC: asker.MAC, Addr: r.Peer}) // its installer runs: that counts as told, once
	}
	stage, ok := d.stageNow(w, n)
	p := payloadOf(n, stage)
	if !ok || p.IsZero() || r.Via == ipxe.ViaMetadata && stage != deploy.StageSite {
		a.Verdict, a.Reason = deploy.Gone, "the node is at no stage at which it fetches documents"
		return a
	}
	if r.Via == ipxe.ViaMetadata {
		r.Server = cmp.Or(w.serverAt(r.Peer), r.Server) // the node does not know us by a link-local address later on
		if a, done := d.byCloud(w, n, r, a); done {
			return a
		}
	}
	r.Document = payload.Alias(p.Family, r.Document, r.Peer, asker.MAC)
	if !slices.Contains(payload.Documents(p), r.Document) {
		a.Reason = "payload of family " + p.Family + " has no such document"
		return a
	}
	token, err := d.tickets.Hold(time.Now(), asker, stage, terms(p), r.Document)
	if err != nil {
		a.Verdict, a.Err = deploy.Granted, fmt.Errorf("payload: %w", err)
		return a
	}
	r.Token = token.Reveal()
	return d.byHeld(w, r, asker, peek)
}

// byCloud answers a node that asks as in a cloud, completing a, and reports
// whether that is the answer: to a document of its payload it is not.
func (d *daemon) byCloud(w *world, n *node.Node, r ipxe.PayloadRequest, a ipxe.PayloadAnswer) (ipxe.PayloadAnswer, bool) {
	if !d.clouds.is(n.Name, r.Cloud, d.records.Get(n.Name).Installs) {
		a.Verdict, a.Reason = deploy.Gone, "the node is answered by another name already"
		return a, true
	}
	text, ok := metadata(n, r.Document, d.payloadData(w, n, r.Server))
	if ok {
		a.Verdict, a.Body = deploy.Granted, []byte(text)
	}
	return a, ok
}

// byHeld answers with the ticket that is held for a lease. It is not used where
// there is nothing to be had by it.
func (d *daemon) byHeld(w *world, r ipxe.PayloadRequest, asker deploy.Bearer, peek bool) ipxe.PayloadAnswer {
	a := d.byTicket(w, r, asker, true)
	none := a.Err == nil && len(a.Body) == 0
	switch {
	case none && (peek || r.Document == "authorized-keys"):
		a.Verdict, a.Reason = deploy.Unknown, "the payload has no such document"
		return a
	case peek || a.Err != nil:
		return a
	}
	return d.byTicket(w, r, asker, false)
}

// stageNow returns the stage that a node is at, and whether there is one.
func (d *daemon) stageNow(w *world, n *node.Node) (deploy.Stage, bool) {
	rec := d.records.Get(n.Name)
	if rec.SiteOpen() && !n.Site.IsZero() {
		return deploy.StageSite, true
	}
	if rec.Phase == deploy.Installing {
		return deploy.StageInstall, true
	}
	dec := d.next(w, n, time.Now())
	return stageOf(dec), dec.Action == deploy.Boot && !dec.Install && dec.Payload != ""
}

// contradicts says why what a client says of itself is not the node that holds
// its lease; empty: nothing does.
func contradicts(w *world, n *node.Node, asker deploy.Bearer, r ipxe.PayloadRequest) string {
	for _, mac := range r.MACs {
		if other, ok := w.inv.ByMAC(mac); ok && other.Name != n.Name {
			return fmt.Sprintf("%v holds the lease of %s, and sends a MAC of another node", asker.Addr, n.Name)
		}
	}
	switch {
	case len(r.MACs) > 0 && !slices.Contains(r.MACs, asker.MAC):
		return fmt.Sprintf("%v holds a lease, and its MAC is not among those that the client sends", asker.Addr)
	case r.Serial != "" && n.Serial != "" && r.Serial != n.Serial:
		return fmt.Sprintf("%v holds the lease of %s, and sends another serial number", asker.Addr, n.Name)
	}
	return ""
}

// metadata returns what is no document of a payload.
func metadata(n *node.Node, name string, data payload.Data) (string, bool) {
	switch name {
	case "hostname":
		return n.Name, true
	case "instance-id":
		return data.InstanceID(), true
	}
	return "", false
}

// byBasecamp answers a node of source 004 as metal-basecamp does: whenever it
// asks, for as long as it is to boot its release.
func (d *daemon) byBasecamp(w *world, r ipxe.PayloadRequest, asker deploy.Bearer) ipxe.PayloadAnswer {
	a := ipxe.PayloadAnswer{Node: asker.Node, MAC: asker.MAC}
	n, ok := w.inv.ByName(asker.Node)
	switch {
	case !ok:
		a.Reason = fmt.Sprintf("%v holds no lease of a node", asker.Addr)
		return a
	case n.Payload.Family != node.Basecamp:
		a.Reason = "the node has no payload of family " + node.Basecamp
		return a
	case d.next(w, n, time.Now()).Action != deploy.Boot:
		a.Verdict, a.Reason = deploy.Gone, "the node is not to boot its release"
		return a
	}
	a.Verdict, a.Type = deploy.Granted, payload.TypeOf(node.Basecamp, r.Document)
	a.Body, a.Err = d.render(w, n, n.Payload, r)
	return a
}

// terms are how long the client of a payload needs its ticket.
func terms(p node.Payload) deploy.Terms {
	f, _ := payload.FamilyOf(p.Family)
	return deploy.Terms{TTL: f.TTL, Repeat: f.Repeat}
}

// payloadData is what the templates of a node see.
func (d *daemon) payloadData(w *world, n *node.Node, server string) payload.Data {
	var data payload.Data
	if s := w.cfg.SubnetOf(n); s != nil {
		data = payload.NewData(n, s.Domain, server)
		data.Subnet = payload.Subnet{Prefix: s.Prefix, Router: s.Router, DNS: s.DNS, NTP: s.NTP}
	} else {
		data = payload.NewData(n, "", server)
	}
	data.Wipe = d.records.Get(n.Name).Wipe
	return data
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
