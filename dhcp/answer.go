package dhcp

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"time"

	"bootd/internal/timeline"
)

// An exchange is one packet and its answer, with what the settings say of it.
// Exchanges are used again and again, so that a packet costs no memory; nothing
// may keep a part of one.
type exchange struct {
	inbound
	request
	reply    reply
	s        *Server
	out      *outbox
	set      *settings
	subnet   *Subnet
	serverID netip.Addr // option 54 of the answer
	machine  Machine
	classes  classSet
	changed  []uint32 // addresses whose records its lease changed
	now      time.Time
}

// answer settles one request (RFC 2131, section 4.3).
func (x *exchange) answer(s *Server, out *outbox) {
	set := s.settings.Load()
	x.s, x.out, x.set, x.now = s, out, set, s.clock.now()
	if set.isServer(x.GIAddr) {
		s.Metrics.dropped(errRelay.Error())
		return
	}
	x.machine = set.machines.Find(x.Client)
	if x.subnet = set.subnetOf(&x.request, x.machine.Addr); x.subnet == nil {
		s.Metrics.dropped("no subnet")
		s.Log.Debug("no subnet for packet", "mac", x.MAC, "iface", x.link.ifname, "ip", x.GIAddr, "type", x.Type)
		return
	}
	x.machine.Addr = x.machine.in(x.subnet)
	x.classes = set.classesOf(&x.request, x.machine)
	if x.serverID = x.subnet.Server; x.relay.serverID.IsValid() {
		x.serverID = x.relay.serverID
	}
	switch {
	case x.subnet.Unknown == IgnoreUnknown && x.classes&bitUnknown != 0:
		s.Metrics.dropped("unknown client")
	case x.on4011:
		x.pxe()
	case x.subnet.Proxy:
		x.proxy()
	case x.Type == Discover:
		x.discover()
	case x.Type == Request:
		x.confirm()
	case x.Type == Decline:
		x.decline()
	case x.Type == Release:
		x.release()
	case x.Type == Inform:
		x.inform()
	default:
		s.Metrics.dropped("not a client's message")
	}
}

// subnetOf chooses the subnet of a request: the one the relay names, the one
// the client selects where that is believed, the relay's own, the one of the
// address the client has, else the interface's. No subnet, no answer: to
// ignore what a relay names and serve another subnet would be wrong (RFC 3527,
// section 3).
func (set *settings) subnetOf(r *request, reserved netip.Addr) *Subnet {
	if r.relay.link.IsValid() {
		return set.containing(r.relay.link)
	}
	own := set.ownSubnet(r, reserved)
	if selected := r.opts.addr(optSubnetSelect); own != nil && own.SubnetSelection && selected.IsValid() {
		return set.containing(selected)
	}
	return own
}

// ownSubnet chooses by where the request came from.
func (set *settings) ownSubnet(r *request, reserved netip.Addr) *Subnet {
	if r.GIAddr.IsValid() {
		return set.containing(r.GIAddr)
	}
	for _, a := range [...]netip.Addr{r.CIAddr, r.localSource()} {
		if !a.IsValid() {
			continue
		}
		if sub := set.containing(a); sub != nil || r.unicast {
			return sub
		}
	}
	return set.local(r, reserved)
}

// local chooses among the subnets of the interface: the one of the address
// asked for, or reserved, else the first.
func (set *settings) local(r *request, reserved netip.Addr) (first *Subnet) {
	wanted := r.Asked
	if !wanted.IsValid() {
		wanted = reserved
	}
	for i := range set.subnets {
		sub := &set.subnets[i]
		switch {
		case sub.Interface != r.link.ifname, sub.Relayed:
		case wanted.IsValid() && sub.Prefix.Contains(wanted):
			return sub
		case first == nil:
			first = sub
		}
	}
	return first
}

// isServer reports whether a is our own address: a relay on this host would be
// answered, and relay that, for ever.
func (set *settings) isServer(a netip.Addr) bool {
	for i := range set.subnets {
		if a.IsValid() && set.subnets[i].Server == a {
			return true
		}
	}
	return false
}

// containing returns the subnet of a.
func (set *settings) containing(a netip.Addr) *Subnet {
	for i := range set.subnets {
		if set.subnets[i].Prefix.Contains(a) {
			return &set.subnets[i]
		}
	}
	return nil
}

// localSource is the source address of an INFORM without ciaddr, or of a
// request on the PXE port.
func (r *request) localSource() netip.Addr {
	if a := r.from.Addr(); (r.on4011 || r.Type == Inform) && a.IsValid() && !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

// discover offers an address (RFC 2131, section 4.3.1).
func (x *exchange) discover() {
	x.event(timeline.Event{Step: timeline.Discover})
	if x.subnet.IPv6Only > 0 && x.wants(optIPv6Only) && !x.Client.boots() {
		x.offerNothing("needs no IPv4 address") // RFC 8925, section 3.3
		return
	}
	b := x.bid(x.Asked)
	boot := x.boot(b.reserved)
	addr, fresh, ok := x.s.Leases.Offer(b, boot, x.now)
	switch {
	case !ok:
		x.exhausted()
	case x.probe(addr, boot, 1, fresh):
	default:
		x.give(addr, boot)
	}
}

// give offers an address, or, by RFC 4039, section 3.1, leases it at once.
func (x *exchange) give(addr netip.Addr, boot Boot) {
	if x.subnet.RapidCommit && x.opts.has(optRapidCommit) {
		x.claim(addr, true)
		return
	}
	x.offer(addr, boot)
}

// offer sends the offer of an address.
func (x *exchange) offer(addr netip.Addr, boot Boot) {
	x.reply.start(&x.request, Offer, x.serverID)
	x.fill(addr, boot)
	x.send(timeline.Event{Step: timeline.Offer, Addr: addr, File: boot.File, Detail: boot.Problem})
}

// exhausted deals with a client for which there is no address: silence, unless
// it wants to know that it must not make one up (RFC 2563, section 2.3).
func (x *exchange) exhausted() {
	x.event(timeline.Event{Step: timeline.NoAddr, Err: "no address left in " + x.subnet.Prefix.String()})
	x.s.exhausted.Do(x.now, func() {
		x.s.Log.Warn("no address left", "node", x.machine.Name, "mac", x.MAC, "subnet", x.subnet.Prefix)
	})
	if x.opts.has(optAutoConfigure) {
		x.offerNothing("no address left")
	}
}

// offerNothing sends an offer without an address.
func (x *exchange) offerNothing(why string) {
	x.reply.start(&x.request, Offer, x.serverID)
	if x.opts.has(optAutoConfigure) {
		x.reply.add(optAutoConfigure, 0)
	}
	x.reply.addNetwork(&x.request, x.subnet, x.machine.Name)
	x.send(timeline.Event{Step: timeline.Offer, Detail: why})
}

func (x *exchange) bid(asked netip.Addr) bid {
	return bid{
		subnet: x.subnet, key: keyOf(x.subnet, &x.request), xid: x.xid, classes: x.classes,
		reserved: x.machine.Addr, asked: asked,
	}
}

// boot asks what the client should load. addr may be zero.
func (x *exchange) boot(addr netip.Addr) Boot {
	if !x.Client.boots() {
		return Boot{}
	}
	c := x.Client
	c.Addr, c.Loader = addr, x.loader()
	return x.set.machines.Boot(c, x.subnet.Server)
}

// fill adds what OFFER and ACK have in common.
func (x *exchange) fill(addr netip.Addr, boot Boot) {
	x.reply.addLease(&x.request, x.subnet, addr, x.leaseTime())
	x.reply.addBoot(&x.request, x.subnet.Server, boot)
	x.network()
}

// network adds the options of the client, the most specific first.
func (x *exchange) network() {
	x.reply.addOptions(&x.request, x.machine.Options)
	for i := range x.set.classes {
		if x.classes>>(firstClass+i)&1 != 0 {
			x.reply.addOptions(&x.request, x.set.classes[i].Options)
		}
	}
	x.reply.addOptions(&x.request, x.subnet.Options)
	x.reply.addNetwork(&x.request, x.subnet, x.machine.Name)
	if selected := x.opts.get(optSubnetSelect); x.subnet.SubnetSelection && len(selected) == 4 {
		x.reply.add(optSubnetSelect, selected...) // RFC 3011, section 2: returned when it was used
	}
}

// confirm answers a REQUEST in whichever state the client is (RFC 2131,
// section 4.3.2).
func (x *exchange) confirm() {
	asked := x.Asked
	if !asked.IsValid() {
		asked = x.CIAddr // RENEWING or REBINDING
	}
	switch {
	case !asked.IsValid():
		x.s.Metrics.dropped("request for no address")
	case x.foreign():
		x.s.Leases.Withdraw(keyOf(x.subnet, &x.request))
		x.event(timeline.Event{Step: timeline.Request, Addr: asked, Detail: "chose server " + x.Server.String()})
		x.rival()
	default:
		x.event(timeline.Event{Step: timeline.Request, Addr: asked})
		x.claim(asked, false)
	}
}

// foreign reports whether the message is for another server.
func (x *exchange) foreign() bool {
	return x.Server.IsValid() && x.Server != x.subnet.Server && x.Server != x.serverID
}

// claim binds an address to the client, or refuses it.
func (x *exchange) claim(asked netip.Addr, rapid bool) {
	c := claim{
		bid: x.bid(asked), boot: x.boot(asked), selecting: rapid || x.Server.IsValid(), booting: x.Client.boots(),
		dur: x.leaseTime(), clientID: x.opts.get(optClientID), hostname: x.opts.get(optHostName),
	}
	v, boot, changed := x.s.Leases.Claim(c, x.changed[:0], x.now)
	x.changed = changed
	switch v {
	case ack:
		x.commit(acknowledgement{changed: changed, addr: asked, boot: boot, rapid: rapid})
	case nak:
		x.reply.refuse(&x.request, x.serverID, "address not available")
		x.send(timeline.Event{Step: timeline.Nak, Addr: asked, Detail: "asked for an address it may not have"})
	}
}

// An acknowledgement is a lease change that waits for the disk, and whom to
// tell.
type acknowledgement struct {
	*exchange            // nil: nobody
	changed   []uint32   // addresses of the records that it changed
	addr      netip.Addr // zero: nobody waits for an answer
	boot      Boot
	rapid     bool         // answers a DISCOVER (RFC 4039)
	done      chan<- error // of an administrator, who waits for the result; nil: nobody does
}

// commit has the committer settle a once its changes are on disk.
func (x *exchange) commit(a acknowledgement) {
	a.exchange, x.out.held = x, true // until it is settled
	x.out.acks = append(x.out.acks, a)
}

// settle sends the ACK once the lease is on disk, and nothing otherwise.
func (a *acknowledgement) settle(out *outbox, err error) {
	if a.done != nil {
		a.done <- err
		return
	}
	x := a.exchange
	if x == nil || !a.addr.IsValid() {
		return
	}
	x.out = out
	switch {
	case err != nil:
		x.eventAt(slog.LevelDebug, timeline.Event{Step: timeline.Ack, Addr: a.addr, Err: "lease could not be written to disk"}) // lost says it of all of them
	default:
		x.reply.start(&x.request, Ack, x.serverID)
		x.reply.setAddr(offCIAddr, x.CIAddr)
		if a.rapid {
			x.reply.add(optRapidCommit)
		}
		x.fill(a.addr, a.boot)
		x.send(timeline.Event{Step: timeline.Ack, Addr: a.addr, File: a.boot.File, Detail: a.boot.Problem})
	}
}

// decline quarantines an address (RFC 2131, section 4.3.3).
func (x *exchange) decline() {
	if x.foreign() {
		return
	}
	changed, ok := x.s.Leases.Decline(keyOf(x.subnet, &x.request), x.Asked, x.now)
	if !ok {
		x.s.Metrics.dropped("decline of an address the client does not hold")
		return
	}
	x.event(timeline.Event{Step: timeline.Decline, Addr: x.Asked, Err: "another host uses the address"})
	x.s.refused.Do(x.now, func() {
		x.s.Log.Warn("address declined: another host uses it; said once a minute", "node", x.machine.Name, "mac", x.MAC, "ip", x.Asked)
	})
	x.commit(acknowledgement{changed: x.only(changed)})
}

// only is a list of one address, in memory of the exchange.
func (x *exchange) only(addr uint32) []uint32 {
	x.changed = append(x.changed[:0], addr)
	return x.changed
}

// release ends a lease (RFC 2131, section 4.3.4).
func (x *exchange) release() {
	if x.foreign() {
		return
	}
	changed, ok := x.s.Leases.Release(keyOf(x.subnet, &x.request), x.CIAddr, x.now)
	if !ok {
		x.s.Metrics.dropped("release of an address the client does not hold")
		return
	}
	x.event(timeline.Event{Step: timeline.Release, Addr: x.CIAddr})
	x.commit(acknowledgement{changed: x.only(changed)})
}

// inform gives parameters, and no lease, to a client that has an address (RFC
// 2131, section 4.3.5).
func (x *exchange) inform() {
	x.reply.start(&x.request, Ack, x.serverID)
	x.reply.setAddr(offCIAddr, x.CIAddr)
	boot := x.boot(x.CIAddr)
	x.reply.addBoot(&x.request, x.subnet.Server, boot)
	x.network()
	x.send(timeline.Event{Step: timeline.Inform, Addr: x.CIAddr, File: boot.File})
}

// pxe answers the boot server request of PXE 2.1, section 2.2.1: what to load
// and nothing of a lease. Clients come here when some server's offer carried
// option 60, ours or not.
func (x *exchange) pxe() {
	switch x.Type {
	case Request, Discover, Inform:
	default:
		return
	}
	boot := x.boot(x.from.Addr())
	if boot.File == "" {
		return
	}
	x.reply.start(&x.request, Ack, x.serverID)
	x.reply.setAddr(offCIAddr, x.CIAddr)
	x.reply.addBoot(&x.request, x.subnet.Server, boot)
	x.reply.addPXE(&x.request)
	if x.subnet.Proxy && x.from.Addr() == x.CIAddr {
		x.s.seen.note(x.CIAddr, x.MAC, x.now)
	}
	x.send(timeline.Event{Step: timeline.Ack, Addr: x.from.Addr(), File: boot.File, Detail: "PXE port"})
}

// send puts the reply into the outbox, with the step to record when it is out.
func (x *exchange) send(e timeline.Event) {
	d := route(&x.request, &x.reply)
	x.out.add(x, outbound{payload: x.reply.marshal(&x.request), source: x.subnet.Server, to: d}, e)
	x.s.Metrics.sent(x.reply.typ)
}

// An outbox is the replies that one batch of work has made.
type outbox struct {
	replies []outbound
	made    []made            // of the same index
	acks    []acknowledgement // that wait for the disk
	held    bool              // the last exchange waits for something, and is not free yet
}

// made is by whom and for what a reply was made.
type made struct {
	*exchange
	event timeline.Event
}

func (o *outbox) add(x *exchange, reply outbound, e timeline.Event) {
	o.replies, o.made = append(o.replies, reply), append(o.made, made{x, e})
}

// flush sends the replies, those of a link together, and records them.
func (o *outbox) flush() {
	o.dropStale(time.Now())
	for first := 0; first < len(o.replies); {
		link, end := o.made[first].link, first+1
		for end < len(o.made) && o.made[end].link == link {
			end++
		}
		link.Send(o.replies[first:end])
		for i := first; i < end; i++ {
			o.made[i].sent(&o.replies[i])
		}
		first = end
	}
	o.replies, o.made = o.replies[:0], o.made[:0]
}

// dropStale drops replies that come too late: the disk, or whoever stopped the
// process, held them up, and their clients have asked anew.
func (o *outbox) dropStale(now time.Time) {
	kept := 0
	for i := range o.made {
		if m := &o.made[i]; now.Sub(m.arrived) > maxAge {
			m.s.Metrics.dropped("too old")
			continue
		}
		o.replies[kept], o.made[kept] = o.replies[i], o.made[i]
		kept++
	}
	o.replies, o.made = o.replies[:kept], o.made[:kept]
}

// sent records the step of a reply.
func (m *made) sent(reply *outbound) {
	if reply.err != nil {
		m.event.Err = "reply not sent: " + reply.err.Error()
		m.warnSend(reply.to, reply.err)
	}
	m.exchange.event(m.event)
}

// warnSend logs a failure to send: it fails for everybody at once.
func (x *exchange) warnSend(d destination, err error) {
	x.s.unsent.Do(x.now, func() {
		x.s.Log.Warn("reply not sent", "node", x.machine.Name, "mac", x.MAC, "ip", d.to, "iface", x.link.ifname, "err", err)
	})
}

// event records a step of this client. What a node does is worth a line in the
// log, what others on the segment do only for those who look.
func (x *exchange) event(e timeline.Event) {
	level := slog.LevelDebug
	if x.machine.Name != "" {
		level = slog.LevelInfo
	}
	x.eventAt(level, e)
}

// eventAt records a step of this client, with a line in the log of a level.
func (x *exchange) eventAt(level slog.Level, e timeline.Event) {
	if x.s.surveys.asks(x.MAC) {
		return // nobody's boot
	}
	e.Node, e.MAC, e.Stage, e.Arch = x.machine.Name, x.MAC, x.Client.Stage, x.Client.Arch.String()
	x.s.Record(e)
	if !x.s.Log.Enabled(context.Background(), level) {
		return
	}
	x.s.Log.Log(context.Background(), level, string(e.Step), "node", x.machine.Name, "mac", x.MAC, "ip", e.Addr,
		"xid", hex.EncodeToString(x.xid[:]), "iface", x.link.ifname, "arch", e.Arch, "stage", e.Stage, "file", e.File, "err", e.Err)
}
