package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bootd/deploy/edge"
	"bootd/deploy/payload"
	"bootd/internal/admin"
	"bootd/internal/claim"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
	"bootd/ipxe"
)

// openDesk reads what hosts reported, and makes the desk where machines are
// claimed. Claims themselves are not kept.
func (d *daemon) openDesk(db *store.Store) (err error) {
	d.desk = &claim.Desk{
		PIN:   func() string { return d.config().Registration.PIN },
		Sites: d.sites, Bind: d.bind,
	}
	if d.hostIDs, err = db.Table("edge-hosts"); err != nil {
		return err
	}
	if reg := d.config().Registration; len(reg.Sites) > 0 {
		if err := claim.CheckPIN(reg.PIN); err != nil {
			d.log.Error("no machine can be claimed", "err", err)
		}
	}
	return nil
}

func (d *daemon) sites() (list []claim.Site) {
	for _, s := range d.config().Registration.Sites {
		list = append(list, claim.Site{Name: s.Name, Label: s.Label})
	}
	return list
}

// claimURL is what the QR code of a machine says that waits without belonging to
// a site; empty: it shows none. Only the machine itself gets one, by its lease:
// claims are so many, and others would push it out.
func (d *daemon) claimURL(m ipxe.Machine, server string) string {
	w := d.world.Load()
	if _, mac := d.identify(m.Addr); mac.IsZero() || mac != m.MAC || len(w.cfg.Registration.Sites) == 0 {
		return ""
	}
	c := claim.Machine{MAC: m.MAC, UUID: m.UUID, Serial: m.Serial}
	if n := w.find(m); n == nil {
		c.ID, _ = edge.Predict(edge.Hardware{UUID: m.UUID, Serial: m.Serial}, edge.Settings{}) // none: it is not known
	} else if c = d.machineOf(w, n); config.Claimed(n) || !w.cfg.Registration.Takes(n.Role) {
		return ""
	}
	url, err := d.urlOf(c, server)
	if err != nil {
		d.log.Error("claim without a URL", "mac", m.MAC, "err", err)
	}
	return url
}

// machineOf is a node as it is claimed.
func (d *daemon) machineOf(w *world, n *node.Node) claim.Machine {
	m := claim.Machine{Node: n.Name, MAC: n.MACs[0], UUID: n.UUID, Serial: n.Serial}
	m.ID, _, _ = d.predict(w, n) // none: it is not known
	return m
}

func (d *daemon) urlOf(m claim.Machine, server string) (string, error) {
	reg := d.config().Registration
	u := config.ClaimURL{Server: server, ID: m.ID, Node: m.Node}
	if len(reg.Sites) > 0 {
		u.Token = d.desk.Issue(m)
	}
	return reg.Execute(u)
}

// bind makes a machine belong to a site: in the file of nodes, and in force
// when it returns. Its errors are shown on a phone.
func (d *daemon) bind(m claim.Machine, site, name string) (string, error) {
	s, ok := d.config().Registration.Site(site)
	if !ok {
		return "", fmt.Errorf("site %q is not there any more", site)
	}
	name = cmp.Or(m.Node, name)
	_, err := d.edit(name, false, func(draft *config.Draft, was *node.Node) error {
		if m.Node != "" && was == nil {
			return d.noNode(name)
		}
		keys, err := claimKeys(m, s, name, was)
		if err == nil {
			_, err = draft.SetNode(name, keys)
		}
		return err
	})
	if err != nil {
		d.log.Warn("machine not claimed", "mac", m.MAC, "node", name, "site", site, "err", err)
		return "", shown(err)
	}
	d.record(timeline.Event{Node: name, MAC: m.MAC, Step: timeline.Claim, Detail: "for site " + site})
	d.log.Info("machine claimed", "node", name, "mac", m.MAC, "site", site)
	return name, nil
}

// claimKeys returns the keys of a node that a machine is when it is claimed for a
// site, or why it may not be; was is the node of that name, which a machine that is
// a node has; nil: there is none. It keeps all that it is, and its other tags.
func claimKeys(m claim.Machine, s config.Site, name string, was *node.Node) (config.Keys, error) {
	switch {
	case m.Node == "" && was != nil:
		return nil, fmt.Errorf("node %q is there already: choose another name", name)
	case m.Node != "" && config.Claimed(was) && was.Tags["site"] != s.Name:
		return nil, fmt.Errorf("node %q belongs to site %s already", name, was.Tags["site"])
	case was != nil:
		tags := map[string]string{}
		maps.Copy(tags, was.Tags)
		maps.Copy(tags, s.Tags)
		return config.Keys{"tags": pairs(tags)}, nil
	}
	keys := config.Keys{"tags": pairs(s.Tags), "role": {s.Role}, "macs": {m.MAC.String()}}
	if m.UUID.Plausible() {
		keys["uuid"] = []string{m.UUID.String()}
	}
	if m.Serial != "" {
		keys["serial"] = []string{m.Serial}
	}
	return keys, nil
}

// shown is an error without the paths and lines of the configuration, which are
// not for a phone.
func shown(err error) error {
	var faults config.Faults
	if errors.As(err, &faults) && len(faults) > 0 {
		return errors.New(faults[0].Problem)
	}
	if _, file := errors.AsType[*fs.PathError](err); file {
		return errors.New("the server cannot write its inventory, see its log")
	}
	return err
}

// pairs are tags as the configuration spells them, in the order of their names.
func pairs(m map[string]string) (list []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return list
}

// hardware is what is known of a node for its edge host id.
func hardwareOf(n *node.Node) edge.Hardware { return edge.Hardware{UUID: n.UUID, Serial: n.Serial} }

// settings are those that a node's payloads have for its edge host id. Secrets
// do not count: no part of an id is one.
func (d *daemon) settings(w *world, n *node.Node) (edge.Settings, error) {
	var docs [][]byte
	for _, p := range []node.Payload{n.Payload, n.Site} {
		if p.IsZero() {
			continue
		}
		rendered, err := payload.RenderRedacted(p, d.payloadData(w, n, w.serverFor(n)))
		if err != nil {
			return edge.Settings{}, unrendered{err}
		}
		docs = append(docs, rendered["user-data"])
	}
	return edge.Read(docs...)
}

// predict returns the edge host id that a node will have.
func (d *daemon) predict(w *world, n *node.Node) (string, edge.Settings, error) {
	s, err := d.settings(w, n)
	if err != nil {
		return "", s, err
	}
	id, err := edge.Predict(hardwareOf(n), s)
	return id, s, err
}

// A hostReport is what a node said that it is called upstream.
type hostReport struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
}

// maxHostID is above what Palette keeps of an id.
const maxHostID = 256

// keepHost keeps the edge host id that a node reports with its check-in
// "registered".
func (d *daemon) keepHost(in ipxe.CheckIn) error {
	id := in.Values.Get("id")
	if in.Kind != "registered" || id == "" {
		return nil
	}
	if len(id) > maxHostID || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("edge host id of %d bytes is not one", len(id))
	}
	value, err := json.Marshal(hostReport{id, time.Now()})
	if err != nil {
		return err
	}
	return d.hostIDs.Apply([]store.Change{{Key: []byte(in.Node), Value: value}})
}

func (d *daemon) hostOf(name string) (r hostReport) {
	if value, err := d.hostIDs.Get([]byte(name)); err == nil && value != nil {
		_ = json.Unmarshal(value, &r) // ours; a damaged one is as good as none
	}
	return r
}

// Registrations implements admin.Registration.
func (d *daemon) Registrations() (list []admin.EdgeHost) {
	w := d.world.Load()
	for _, n := range w.inv.Nodes() {
		id, settings, err := d.predict(w, &n)
		r := d.hostOf(n.Name)
		h := admin.EdgeHost{Node: n.Name, Predicted: id, Reported: r.ID, At: r.Time, Site: n.Tags["site"], Phase: d.records.Get(n.Name).Phase}
		if h.Verdict = edge.Compare(hardwareOf(&n), settings, r.ID); err != nil {
			h.Why = err.Error()
		}
		list = append(list, h)
	}
	return list
}

// Claim implements admin.Registration.
func (d *daemon) Claim(machine, server string) (admin.ClaimOffer, error) {
	w := d.world.Load()
	if reg := w.cfg.Registration; len(reg.Sites) == 0 && reg.UsesToken() {
		return admin.ClaimOffer{}, claim.ErrNoSites
	}
	server, err := d.phoneServer(server)
	if err != nil {
		return admin.ClaimOffer{}, err
	}
	n := w.nodeOf(machine)
	if n == nil {
		mac, err := node.ParseMAC(machine)
		m, ok := d.desk.Waiting(mac)
		if err != nil || !ok {
			return admin.ClaimOffer{}, d.unknown(machine)
		}
		return d.offer(m, cmp.Or(server, d.anyServer()))
	}
	m := d.machineOf(w, n)
	return d.offer(m, cmp.Or(server, w.serverFor(n), d.anyServer()))
}

func (d *daemon) offer(m claim.Machine, server string) (admin.ClaimOffer, error) {
	url, err := d.urlOf(m, server)
	return admin.ClaimOffer{URL: url, ID: m.ID}, err
}

// phoneServer completes what an administrator says that phones reach us at with
// our port. An address of this host at which nobody answers is refused, whether
// that is for us or for a proxy; of other hosts, and of names, only they know.
func (d *daemon) phoneServer(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	host, port, err := claim.ParseServer(text)
	if err != nil {
		return "", err
	}
	port = cmp.Or(port, d.config().HTTP.Port)
	if a, err := netip.ParseAddr(host); err == nil && isLocal(a) {
		at := netip.AddrPortFrom(a, port).String()
		c, err := net.DialTimeout("tcp4", at, time.Second)
		if err != nil {
			return "", fmt.Errorf("nobody listens at %s, so the code would lead nowhere; bootd listens at %s", at, strings.Join(d.listens(), ", "))
		}
		c.Close()
	}
	return withPort(host, port), nil
}

// listens returns where machines and phones reach us.
func (d *daemon) listens() (list []string) {
	for _, a := range d.addrs() {
		list = append(list, netip.AddrPortFrom(a, d.config().HTTP.Port).String())
	}
	return list
}

// isLocal reports whether an address is one of this host.
func isLocal(a netip.Addr) bool {
	list, _ := net.InterfaceAddrs() // none: then nobody is refused
	return slices.ContainsFunc(list, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr() == a
	})
}

// anyServer is an address that we are reached at.
func (d *daemon) anyServer() string {
	for _, s := range d.config().Subnets {
		return hostPort(s.Server, d.config().HTTP.Port)
	}
	return ""
}
