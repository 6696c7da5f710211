package dhcp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
)

// The question reads, to us and to another codec, as a DISCOVER of x86-64 PXE
// firmware that must be answered by broadcast.
func TestSurveyQuestion(t *testing.T) {
	q := newQuestion()
	p, err := dhcpv4.FromBytes(q.packet())
	if err != nil {
		t.Fatal(err)
	}
	if p.MessageType() != dhcpv4.MessageTypeDiscover || !p.IsBroadcast() || p.ClassIdentifier() != "PXEClient:Arch:00007:UNDI:003000" ||
		!bytes.Equal(p.ClientHWAddr, q.mac[:]) || !bytes.Equal(p.TransactionID[:], q.xid[:]) {
		t.Errorf("got %s, want a DISCOVER of a PXEClient with broadcast flag", p.Summary())
	}
	if q.mac[0]&3 != 2 {
		t.Errorf("MAC: got %v, want a unicast address, locally administered", q.mac)
	}
	var r request
	if err := r.parse(q.packet()); err != nil || !r.Client.boots() || r.Client.Arch != 7 {
		t.Errorf("got %+v, %v, want a client of architecture 7 that boots", r.Client, err)
	}
	if again := newQuestion(); again.mac == q.mac || again.xid == q.xid {
		t.Error("the next question has the same MAC or xid")
	}
}

// Offers are read from what other servers sent to OVMF.
func TestSurveyReadsOffers(t *testing.T) {
	q := question{mac: m1}
	for _, c := range []struct {
		vector string
		want   Answer
	}{
		{"reply_offer_no60", Answer{Server: serverAddr, Addr: netip.MustParseAddr("10.77.0.107"), Next: serverAddr, File: "boot.efi"}},
		{"reply_proxy_offer_43_8", Answer{Server: proxyAddr, Next: proxyAddr, File: "boot.efi", Class: "PXEClient", Vendor: []byte{6, 1, 8, 255}}},
		{"reply_http_offer", Answer{Server: serverAddr, Addr: netip.MustParseAddr("10.77.0.107"), Next: serverAddr, File: "http://10.77.0.1/boot.efi", Class: "HTTPClient"}},
	} {
		b := vector(t, c.vector)
		copy(q.xid[:], b[offXID:])
		got, ok := q.read(b)
		if !ok || got.Server != c.want.Server || got.Addr != c.want.Addr || got.Next != c.want.Next || got.File != c.want.File ||
			got.Class != c.want.Class || hex.EncodeToString(got.Vendor) != hex.EncodeToString(c.want.Vendor) {
			t.Errorf("%s: got %+v, %v, want %+v", c.vector, got, ok, c.want)
		}
	}
	offer := vector(t, "reply_offer_no60")
	copy(q.xid[:], offer[offXID:])
	for name, change := range map[string]func(b []byte) []byte{
		"another xid":    func(b []byte) []byte { b[offXID]++; return b },
		"another client": func(b []byte) []byte { b[offCHAddr+5]++; return b },
		"a request":      func(b []byte) []byte { b[offOp] = opRequest; return b },
		"an ACK":         func(b []byte) []byte { setOption(optMessageType, byte(Ack))(b); return b },
		"no cookie":      func(b []byte) []byte { b[offCookie] = 0; return b },
		"cut":            func(b []byte) []byte { return b[:headerLen-1] },
		"empty":          func([]byte) []byte { return nil },
	} {
		if got, ok := q.read(change(bytes.Clone(offer))); ok {
			t.Errorf("%s: got %+v, want that it is no answer", name, got)
		}
	}
}

// A survey leaves no trace: no step, no address held.
func TestSurveyLeavesNoTrace(t *testing.T) {
	one(t, func(b *bench) {
		q := newQuestion()
		end, err := b.server.surveys.begin(q.mac)
		if err != nil {
			t.Fatal(err)
		}
		offer := b.askBytes(q.packet())
		if offer == nil {
			t.Fatal("got silence, want an offer")
		}
		b.server.settings.Load().forget(b.server.Leases, q.mac)
		end()
		synctest.Wait()
		if len(b.events) != 0 {
			t.Errorf("got events %+v, want none", b.events)
		}
		if got := yiaddr(b.must(discover(m1, withAddr(50, yiaddr(offer))), dhcpv4.MessageTypeOffer)); got != yiaddr(offer) {
			t.Errorf("after the survey %v is not free: got %v", yiaddr(offer), got)
		}
		if len(b.events) == 0 {
			t.Error("after the survey: got no events of others")
		}
	})
}

// Ours is what has our address and does what we do in the subnet.
func TestSurveyOurs(t *testing.T) {
	leasing, proxy := testSubnet(), Subnet{Interface: "eth0", Server: serverAddr, Proxy: true}
	leased := Answer{Server: serverAddr, Addr: netip.MustParseAddr("10.77.0.107")}
	for _, c := range []struct {
		name   string
		subnet Subnet
		ifname string
		answer Answer
		want   bool
	}{
		{"our lease", leasing, "eth0", leased, true},
		{"our proxy", proxy, "eth0", Answer{Server: serverAddr}, true},
		{"server on this host beside our proxy", proxy, "eth0", leased, false},
		{"proxy on this host beside our leases", leasing, "eth0", Answer{Server: serverAddr}, false},
		{"another server", leasing, "eth0", Answer{Server: proxyAddr, Addr: leased.Addr}, false},
		{"our address on another interface", leasing, "eth1", leased, false},
	} {
		set := settings{subnets: []Subnet{c.subnet}}
		if got := set.ours(c.ifname, &c.answer); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSurveysAreBounded(t *testing.T) {
	var s surveys
	var end func()
	for i := range maxSurveys {
		var err error
		if end, err = s.begin(node.MAC{2, byte(i)}); err != nil {
			t.Fatalf("survey %d: %v", i, err)
		}
	}
	if _, err := s.begin(m1); !errors.Is(err, ErrSurveys) {
		t.Errorf("one more: got %v, want ErrSurveys", err)
	}
	end()
	if s.asks(node.MAC{2, maxSurveys - 1}) || !s.asks(node.MAC{2}) {
		t.Error("the one that ended still asks, or the others do not")
	}
}

func FuzzSurveyRead(f *testing.F) {
	for _, name := range []string{"reply_offer_no60", "reply_proxy_offer_43_8", "reply_http_offer"} {
		f.Add(vector(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := question{mac: m1}
		if len(b) >= headerLen {
			copy(q.xid[:], b[offXID:])
		}
		q.read(b)
		udpPayload(b, ClientPort)
	})
}
