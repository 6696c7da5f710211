package main_test

import (
	"net/netip"
	"strings"
	"testing"
)

// lookers are those who may look at what a node boots without being it: an
// administrator on the provisioning host, by any of its addresses, and a laptop
// that leased an address of us.
func (s *site) lookers() map[string]browser {
	s.t.Helper()
	s.run(s.Namespace, "ip addr add 192.0.2.7/32 dev lo")
	laptop := s.browser("52:54:00:00:00:77")
	laptop.told("laptop", "0007")
	host := browser{s, s.Namespace}
	return map[string]browser{"10.77.0.1": host, "127.0.0.1": host, "192.0.2.7": host, "eth0": laptop}
}

// look fetches all that a node boots with, by each way to it.
func (s *site) look(who browser, from string, n siteNode, documents ...string) {
	s.t.Helper()
	const server = "http://10.77.0.1/"
	urls := []string{
		"boot/script.ipxe?mac=" + n.MAC.Hyphen(), n.Name + "/script.ipxe", "grub/grub.cfg-01-" + n.MAC.Hyphen(),
		n.Name + "/kernel", n.Name + "/initrd.img.xz", n.Name + "/rootfs", n.Name + "/1.2.3/rootfs", n.Name + "/0.0.7/rootfs",
		"payload/user-data", "meta-data",
	}
	for _, url := range urls {
		documents = append(documents, server+url)
	}
	for _, url := range documents {
		if status, _, _ := who.get(url, "--interface", from, "--output", "/dev/null"); status == 200 && strings.Contains(url, "/t/") {
			s.t.Errorf("%s from %s: got %d, want that it gets no document", url, from, status)
		}
	}
	for _, kind := range []string{"booted", "installed", "failed"} {
		if status, _, _ := who.get(server+"checkin/"+kind, "--interface", from, "-X", "POST"); status != 404 {
			s.t.Errorf("%s from %s: got %d, want 404", kind, from, status)
		}
	}
	if from == "eth0" || from == "10.77.0.1" { // atftp cannot choose where it comes from
		who.must("atftp", "--get", "--local-file", "/dev/null", "--remote-file", "grub/grub.cfg-01-"+n.MAC.Hyphen(), "10.77.0.1")
	}
}

// Who looks at what a node boots gets an answer, and moves nothing of the node:
// neither how its boot stands nor its deployment, and it takes no document away.
func TestLookingIsNoBoot(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-cluster"
	m := m001
	m.Role, m.Payload = "edge", wirePayload(t, secret)
	s := newSiteOf(t, 0, site{Subnet: leases, Roles: wireRole, Nodes: []siteNode{m, s001}})
	lookers := s.lookers()
	c, other := s.browser(m.MAC.String()), s.browser(s001.MAC.String())
	script := func(n siteNode) string { return "http://10.77.0.1/boot/script.ipxe?mac=" + n.MAC.Hyphen() }

	// unmoved checks that looking, which is seen, changes nothing.
	unmoved := func(when string, n siteNode, documents ...string) {
		t.Helper()
		was := s.statusOf(n.Name)
		for from, who := range lookers {
			s.look(who, from, n, documents...)
			if is := s.statusOf(n.Name); is != was {
				t.Errorf("%s, looked at from %s: got\n%s\nwant as before\n%s", when, from, is, was)
				was = is
			}
		}
		why := s.bootctl("why", n.Name)
		for _, want := range []string{`script .*10\.77\.0\.1 foreign`, `http .*127\.0\.0\.1 foreign .*/kernel`, `http .*192\.0\.2\.7 foreign .*/rootfs`, `http .*10\.77\.0\.1\d\d foreign .*/kernel`} {
			wantMatch(t, when+": why", why, want)
		}
	}

	other.told("PXEClient:Arch:00007", "0007")
	unmoved("leased", s001)
	other.get(script(s001))
	for _, f := range []string{"kernel", "rootfs"} {
		other.must("curl", "-fsS", "-o", "/dev/null", "http://10.77.0.1/ncn-s001/"+f)
	}
	unmoved("under way", s001)
	other.get("http://10.77.0.1/checkin/booted", "-X", "POST")
	unmoved("booted", s001)

	s.bootctl("node", "arm", m.Name, "--yes")
	c.told("PXEClient:Arch:00007", "0007")
	unmoved("armed", m)
	_, _, text := c.get(script(m))
	seed := seedURL.FindStringSubmatch(text)
	if seed == nil {
		t.Fatalf("got script\n%s\nwant the installer", text)
	}
	unmoved("installing", m, seed[1]+"user-data", seed[1]+"meta-data")
	if status, _, doc := c.get(seed[1] + "user-data"); status != 200 || !strings.Contains(doc, secret) {
		t.Fatalf("the node: got %d %q, want its document", status, doc)
	}
	unmoved("the installer runs", m, seed[1]+"user-data")
}

// A NIC that the inventory does not have is the node's where its DHCP said so by
// the UUID; any other is not.
func TestUnlistedNICOfNode(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), reservedSubnet)
	c, laptop := s.browser("52:54:00:00:00:71"), s.browser("52:54:00:00:00:77")
	c.told("PXEClient", "0007", "-x", "0x61:00443322116655887799aabbccddeeff00")
	laptop.told("laptop", "0007")
	for _, who := range []browser{c, laptop} {
		who.get("http://10.77.0.1/ncn-w001/kernel")
	}
	why := s.bootctl("why", "ncn-w001")
	wantMatch(t, "its own NIC", why, `http +os +10\.77\.0\.11 ncn-w001/kernel FAILED`)
	wantMatch(t, "another's", why, `http +- +10\.77\.0\.1\d\d foreign ncn-w001/kernel FAILED`)
}
