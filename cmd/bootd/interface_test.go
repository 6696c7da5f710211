package main_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const probedSubnet = `
subnets:
  - {interface: br0, subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.199], probe: 400ms}
`

// After its interface was down, the server still finds out that another host
// has an address (RFC 2131, section 3.1, step 2); and an interface that was
// deleted and made anew is served as before.
func TestInterfaceGoesAndComesBack(t *testing.T) {
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), probedSubnet)
	host, c := s.client(), s.client()
	s.run(host, "ip addr add 10.77.0.150/24 dev eth0")
	ask := s.write("ask", "exec busybox udhcpc -i eth0 -n -q -t 8 -T 1 -r 10.77.0.150 -s /bin/true 2>&1\n")
	obtain := func() string { return s.run(c, "sh "+ask) }

	s.run(s.Namespace, "ip link set br0 down")
	s.run(s.Namespace, "ip link set br0 up")
	time.Sleep(2 * time.Second) // for the bridge to forward
	if got := obtain(); !strings.Contains(got, " obtained") || strings.Contains(got, "10.77.0.150 obtained") {
		t.Errorf("after br0 was down, got %s, want a lease, not of a host's address", got)
	}

	s.run(s.Namespace, "ip link del br0")
	time.Sleep(time.Second) // as long as an administrator takes
	for _, command := range []string{
		"ip link add br0 type bridge stp_state 0 forward_delay 0",
		"ip link set veth1 master br0", "ip link set veth2 master br0",
		"ip addr add 10.77.0.1/24 dev br0", "ip link set br0 up",
	} {
		s.run(s.Namespace, command)
	}
	time.Sleep(2 * time.Second) // until it forwards, and is noticed
	if got := obtain(); !strings.Contains(got, " obtained") || strings.Contains(got, "10.77.0.150 obtained") {
		t.Errorf("from the new br0, got %s, want a lease, not of a host's address", got)
	}
}
