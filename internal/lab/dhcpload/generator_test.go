package dhcpload

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/lab"
)

// A liar answers as a server does, then lets a test spoil the answer: it
// returns the packets to send.
type liar func(req, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4

// honest leaves the answer as it is.
func honest(_, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 { return []*dhcpv4.DHCPv4{ans} }

// against runs a load on a server in a namespace; the address of a client is
// 10.1 and the last two bytes of its hardware address.
func against(t *testing.T, l liar, load Load) Result {
	t.Helper()
	ns := lab.ForTest(t, netip.MustParsePrefix("192.0.2.1/24"), 0)
	var conn *net.UDPConn
	var g *Generator
	err := ns.Do(func() (err error) {
		if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 67}); err != nil {
			return err
		}
		g, err = Open(Config{Server: netip.MustParseAddr("127.0.0.1"), Relay: netip.MustParseAddr("127.0.0.2"), Clients: 1000})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	done := make(chan struct{})
	go func() { defer close(done); serve(conn, l) }()
	defer func() { conn.Close(); <-done }()
	r, err := g.Run(t.Context(), load)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func serve(conn *net.UDPConn, l liar) {
	b := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFromUDP(b)
		if err != nil {
			return
		}
		req, err := dhcpv4.FromBytes(b[:n])
		if err != nil {
			panic(err)
		}
		for _, p := range l(req, serverAnswer(req)) {
			conn.WriteToUDP(p.ToBytes(), from)
		}
	}
}

func serverAnswer(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	kind := dhcpv4.MessageTypeOffer
	if req.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	}
	p, err := dhcpv4.NewReplyFromRequest(req,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(net.IPv4(10, 1, req.ClientHWAddr[4], req.ClientHWAddr[5])),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(127, 0, 0, 1))))
	if err != nil {
		panic(err)
	}
	return p
}

func only(kind dhcpv4.MessageType, spoil func(ans *dhcpv4.DHCPv4)) liar {
	return func(_, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		if ans.MessageType() == kind {
			spoil(ans)
		}
		return []*dhcpv4.DHCPv4{ans}
	}
}

// Each row is a server that is wrong in one way, and what the generator must
// say of it.
func TestWrongAnswers(t *testing.T) {
	const n = 20
	tests := []struct {
		name      string
		server    liar
		want      Wrong
		completed int
		repeats   int
	}{
		{"right", honest, Wrong{}, n, 0},
		{"silent", func(_, _ *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 { return nil }, Wrong{}, 0, 0},
		{"says all twice", func(_, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 { return []*dhcpv4.DHCPv4{ans, ans} }, Wrong{}, n, 2 * n},
		{"one address for all", func(_, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
			ans.YourIPAddr = net.IPv4(10, 1, 9, 9)
			return []*dhcpv4.DHCPv4{ans}
		}, Wrong{Duplicates: n - 1}, n, 0},
		{"offer of nothing", only(dhcpv4.MessageTypeOffer, func(a *dhcpv4.DHCPv4) { a.YourIPAddr = net.IPv4zero }), Wrong{Address: n}, 0, 0},
		{"other address in the ACK", only(dhcpv4.MessageTypeAck, func(a *dhcpv4.DHCPv4) { a.YourIPAddr = net.IPv4(10, 1, 9, 9) }), Wrong{Address: n}, 0, 0},
		{"other client in the ACK", only(dhcpv4.MessageTypeAck, func(a *dhcpv4.DHCPv4) { a.ClientHWAddr[0] ^= 4 }), Wrong{Client: n}, 0, 0},
		{"NAK of its own offer", only(dhcpv4.MessageTypeAck, func(a *dhcpv4.DHCPv4) {
			a.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
		}), Wrong{NAK: n}, 0, 0},
		{"ACK of a DISCOVER", only(dhcpv4.MessageTypeOffer, func(a *dhcpv4.DHCPv4) {
			a.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		}), Wrong{Type: n}, 0, 0},
		{"no message type", only(dhcpv4.MessageTypeOffer, func(a *dhcpv4.DHCPv4) { a.Options.Del(dhcpv4.OptionDHCPMessageType) }), Wrong{Malformed: n}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := against(t, tt.server, Load{Rate: 2000, Count: n, Duration: time.Second, Timeout: 200 * time.Millisecond, Linger: 201 * time.Millisecond})
			if r.Wrong != tt.want || r.Completed != tt.completed || r.Repeats != tt.repeats || r.Began != n {
				t.Errorf("got %+v, completed %d of %d, %d repeats, want %+v, %d of %d, %d", r.Wrong, r.Completed, r.Began, r.Repeats, tt.want, tt.completed, n, tt.repeats)
			}
		})
	}
}

// forgetful answers a message of a client only when it came n times before.
func forgetful(n int) liar {
	seen := map[string]int{}
	return func(req, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		key := fmt.Sprint(req.ClientHWAddr, req.MessageType())
		if seen[key]++; seen[key] <= n {
			return nil
		}
		return []*dhcpv4.DHCPv4{ans}
	}
}

func TestRetransmission(t *testing.T) {
	const n = 30
	wait := 30 * time.Millisecond
	tests := []struct {
		ignored   int
		completed int
		highest   int
	}{
		{0, n, 0},
		{1, n, 1},
		{2, n, 2},
		{3, 0, 2}, // three transmissions, and it gives up
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.ignored), func(t *testing.T) {
			r := against(t, forgetful(tt.ignored), Load{
				Window: n, Count: n, Duration: 5 * time.Second,
				Retry: []time.Duration{wait, 2 * wait, 4 * wait}, Jitter: wait / 4,
			})
			if r.Completed != tt.completed || r.MostRetries() != tt.highest || r.Retries[tt.highest] != n {
				t.Errorf("got %d completed, by highest retry %v, want %d, all at %d", r.Completed, r.Retries, tt.completed, tt.highest)
			}
		})
	}
}

// An answer after the timeout does not count as completed, and one older than
// two seconds is noted.
func TestOldAnswers(t *testing.T) {
	var held []*dhcpv4.DHCPv4
	began := time.Now()
	r := against(t, func(req, ans *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		if req.MessageType() == dhcpv4.MessageTypeDiscover && time.Since(began) < 2200*time.Millisecond {
			held = append(held, ans)
			return nil
		}
		all := append(held, ans)
		held = nil
		return all
	}, Load{Rate: 10, Duration: 2500 * time.Millisecond, Timeout: 300 * time.Millisecond, Linger: time.Second})
	if r.Old == 0 || r.Oldest < 2000 || r.Late < 10 || r.Completed == 0 || r.Completed+r.Late != r.Began {
		t.Errorf("got %+v", r)
	}
}

// An open load never begins more than its rate says; how near it comes is up to
// the machine, and the Result says when it lagged.
func TestOpenLoadKeepsItsRate(t *testing.T) {
	r := against(t, honest, Load{Rate: 1000, Duration: 500 * time.Millisecond})
	if r.Began == 0 || r.Began > 501 || r.Held != r.Completed {
		t.Errorf("got %d begun and %d with an address of %d completed, want at most 500 in half a second", r.Began, r.Held, r.Completed)
	}
}

// The peer's lease file is the expected value: what the generator says that
// its clients hold is what dnsmasq says it gave.
func TestAgainstDnsmasq(t *testing.T) {
	for _, mode := range []Mode{Relay, Broadcast, Direct} {
		t.Run(mode.String(), func(t *testing.T) {
			n := lab.ForTest(t, netip.MustParsePrefix("10.0.0.1/8"), 0)
			client, err := n.Client(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Run(t.Context(), "ip", "addr", "add", "10.0.0.2/8", "dev", "eth0"); err != nil {
				t.Fatal(err)
			}
			leases := filepath.Join(n.Dir, "leases")
			_, err = n.Start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file",
				"--interface="+lab.Bridge, "--bind-interfaces", "--no-ping", "--dhcp-authoritative", "--dhcp-leasefile="+leases,
				"--dhcp-range=10.1.0.1,10.1.255.254,255.0.0.0,1h")
			if err != nil {
				t.Fatal(err)
			}
			var g *Generator
			err = client.Do(func() (err error) {
				g, err = Open(Config{Mode: mode, Server: n.Addr.Addr(), Relay: netip.MustParseAddr("10.0.0.2"), Interface: "eth0", Clients: 50})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			// The first messages may come before dnsmasq listens.
			retry := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 3 * time.Second}
			r, err := g.Run(t.Context(), Load{Window: 10, Count: 50, Duration: 20 * time.Second, Retry: retry})
			if err != nil {
				t.Fatal(err)
			}
			if r.Completed != 50 || r.Wrong.Any() != 0 {
				t.Fatalf("got %v", r)
			}
			compare(t, g, leases)
		})
	}
}

// compare reads lines "expiry mac address host client-id".
func compare(t *testing.T, g *Generator, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gave := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		gave[f[1]] = f[2]
	}
	for i, c := range g.clients {
		mac := make(net.HardwareAddr, 6)
		putMAC(mac, g.mac(uint32(i)))
		got := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, c.addr))).String()
		if want := gave[mac.String()]; got != want {
			t.Errorf("client %v: got %s, dnsmasq says %q", mac, got, want)
		}
	}
	if len(gave) != len(g.clients) {
		t.Errorf("got %d clients with an address, dnsmasq says %d", len(g.clients), len(gave))
	}
}
