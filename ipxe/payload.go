package ipxe

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// A Via is how a document is asked for.
type Via uint8

// The ways.
const (
	ViaTicket   Via = iota // by a URL that holds a ticket
	ViaLease               // by the lease alone, under /payload/
	ViaMetadata            // the same, as the metadata of a cloud: for a first boot only
	ViaBasecamp            // the same, as of metal-basecamp: as often as the node likes
)

// A PayloadRequest asks for a document.
type PayloadRequest struct {
	Via      Via
	Token    string // for ViaTicket, as in the URL; not for any log
	Document string // its name
	Cloud    string // for ViaMetadata: the host that was asked
	Peer     netip.Addr
	Server   string // host or host:port the machine reaches us at

	// What the client says of itself (Anaconda's inst.ks.sendmac and
	// inst.ks.sendsn). It can only take away: who does not have the lease
	// gets nothing by it.
	MACs   []node.MAC
	Serial string
}

// A PayloadAnswer is what becomes of a PayloadRequest.
type PayloadAnswer struct {
	Verdict deploy.Verdict
	Body    []byte   // when granted
	Type    string   // Content-Type of Body
	Node    string   // whose ticket it is, else who asks; empty: neither is known
	MAC     node.MAC // of Node, as the ticket or the lease has it
	Ticket  string   // its ID; empty: none
	Reason  string   // why it is not granted
	// Err is why a ticket that is good cannot be served now.
	Err error
	// Done is told whether all of Body was sent. Nil: nobody wants to know.
	Done func(complete bool) error
}

// ticket returns the ticket for a decision; zero: none is needed.
func (s *Server) ticket(d deploy.Decision, peer netip.Addr, server string) (deploy.Token, error) {
	if d.Action != deploy.Boot || d.Payload == "" || s.Ticket == nil {
		return deploy.Token{}, nil
	}
	return s.Ticket(d, peer, server)
}

// statuses of what is not granted (protocol.md, C75). 404 is for a token that
// never was: cloud-init then says so in its log, and does not configure the
// node with nothing.
var statuses = map[deploy.Verdict]int{
	deploy.Unknown: http.StatusNotFound, deploy.Foreign: http.StatusForbidden, deploy.Gone: http.StatusGone,
}

// payload answers for a document of a ticket.
func (h *handler) payload(w *meter, c *call) error {
	if h.Payload == nil {
		return refuse(http.StatusNotFound, "%q: no such file", c.path)
	}
	begin := time.Now()
	a := h.Payload(payloadRequest(c), c.Method == http.MethodHead)
	if a.Verdict == deploy.Granted && a.Err == nil {
		lookup(c, &a)
	}
	if a.Err == nil {
		h.sendPayload(w, c, a)
	}
	err := a.Err
	switch {
	case a.Verdict != deploy.Granted:
		err = errors.New(a.Reason)
	case err == nil && a.Done != nil:
		err = errors.Join(w.err, a.Done(w.err == nil && w.sent == int64(len(a.Body))))
	}
	e := h.event(c, w, begin, timeline.Payload)
	e.File, e.Action, e.Detail = c.file, outcome(a.Verdict, err), a.Ticket
	if a.Verdict != deploy.Granted {
		e.Bytes, e.Dur = 0, 0
	}
	if a.Node != "" {
		e.Node, e.MAC = a.Node, a.MAC
	}
	if a.Verdict == deploy.Foreign {
		e.Stage = "" // not the node's
	}
	h.record(c, e, err)
	if a.Err != nil {
		return refuse(http.StatusServiceUnavailable, "document cannot be given out now, ask again")
	}
	return nil
}

// outcome is the word kept in events for what became of a request: what was
// granted and did not arrive as a whole was not given.
func outcome(v deploy.Verdict, err error) string {
	if v == deploy.Granted && err != nil {
		return "failed"
	}
	return v.String()
}

// vias are the ways of the kinds of targets.
var vias = map[kind]Via{document: ViaTicket, held: ViaLease, metadata: ViaMetadata, basecamp: ViaBasecamp}

func payloadRequest(c *call) PayloadRequest {
	r := PayloadRequest{Via: vias[c.kind], Token: c.token, Document: c.file, Peer: c.addr, Server: c.server}
	if r.Via == ViaMetadata {
		r.Cloud = hostOf(c.Host)
	}
	r.MACs, r.Serial = provisioning(c.Header)
	return r
}

// maxNICs is how many X-RHN-Provisioning-MAC- headers are read.
const maxNICs = 32

// provisioning reads what Anaconda sends of a machine: "eth0 52:54:00:aa:bb:01"
// for each of its NICs, and its serial number
// (dracut/anaconda-ks-sendheaders.sh).
func provisioning(h http.Header) (macs []node.MAC, serial string) {
	for i := range maxNICs {
		words := strings.Fields(h.Get("X-RHN-Provisioning-MAC-" + strconv.Itoa(i)))
		if len(words) != 2 {
			break
		}
		if mac, err := node.ParseMAC(words[1]); err == nil {
			macs = append(macs, mac)
		}
	}
	return macs, strings.TrimSpace(h.Get("X-System-Serial-Number"))
}

// lookup narrows an answer to the value that ?key=a.b.c asks for, as
// metal-basecamp does for its meta-data.
func lookup(c *call, a *PayloadAnswer) {
	way := c.URL.Query().Get("key")
	if c.kind != basecamp || c.file != "meta-data" || way == "" {
		return
	}
	value, err := payload.Lookup(a.Body, way)
	if err != nil {
		a.Verdict, a.Reason = deploy.Unknown, "there is no key "+strconv.Quote(WireText(way))
	}
	a.Body = value
}

// The hosts that the clients of clouds ask for metadata. A name proves nothing:
// it only says in which form the answer has to be.
const (
	metaldataHost = "metaldata"
	linkLocalHost = "169.254.169.254"
)

// metadataFile returns the document that a path of such a host is (yip,
// provider_metaldata.go, provider_aws.go and provider_openstack.go). Those of
// other clouds are not there, so that their providers find that they are
// elsewhere.
func metadataFile(host string, e []string) (string, bool) {
	path := strings.Join(e, "/")
	switch hostOf(host) + "/" + path {
	case metaldataHost + "/get/meta/hostname", linkLocalHost + "/latest/meta-data/hostname", linkLocalHost + "/latest/meta-data/local-hostname":
		return "hostname", true
	case metaldataHost + "/get/meta/machine-id", linkLocalHost + "/latest/meta-data/instance-id":
		return "instance-id", true
	case metaldataHost + "/get/user", linkLocalHost + "/latest/user-data":
		return "user-data", true
	case metaldataHost + "/get/meta/authorized-keys", linkLocalHost + "/latest/meta-data/public-keys/0/openssh-key":
		return "authorized-keys", true
	}
	return "", false
}

// hostOf is the host of a Host header.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

// sendPayload sends a document, or what stands for one. No cache may keep it,
// and no page it leads to may learn its URL. Ranges are ignored: a document is
// given out whole or not at all.
func (h *handler) sendPayload(w *meter, c *call, a PayloadAnswer) {
	body, status := a.Body, http.StatusOK
	if a.Verdict != deploy.Granted {
		body, status = payload.Harmless(c.file, WireText(a.Reason)), statuses[a.Verdict]
		a.Type = ""
	}
	header := w.Header()
	header.Set("Content-Type", cmp.Or(a.Type, "text/plain; charset=utf-8"))
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if c.Method != http.MethodHead {
		_, _ = w.Write(body) // kept by the meter
	}
}
