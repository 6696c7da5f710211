package dhcp

import (
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Two receivers may be done in another order than they decided in: what was
// decided last is what stays on disk, or an acknowledged lease would be lost by
// a restart.
func TestCommitsOutOfOrder(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		given, ok := b.server.Leases.Release(keyOf(&Subnet{Prefix: testSubnet().Prefix}, &request{htype: htypeEthernet, MAC: m1}), addr, time.Now())
		if !ok {
			t.Fatal("no lease to release")
		}
		b.must(selecting(m1, addr), dhcpv4.MessageTypeAck)
		b.server.commits <- []acknowledgement{{changed: []uint32{given}}}
		b.stop()
		b.start([]Subnet{testSubnet()}, fixed{})
		if l, _ := b.server.Leases.ByAddr(addr); l.State != Bound {
			t.Errorf("after a restart: got %v %v, want it bound, as was acknowledged last", addr, l.State)
		}
	})
}
