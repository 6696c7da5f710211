package dhcp

import "net/netip"

// A relayInfo is what a relay agent says in option 82 (RFC 3046). The zero
// relayInfo says nothing.
type relayInfo struct {
	circuit, remote []byte     // port of the relay, and the relay: sub-options 1 and 2
	link            netip.Addr // subnet to serve, instead of giaddr's (RFC 3527)
	serverID        netip.Addr // server identifier to use, so that renewals pass the relay (RFC 5107)
	port            uint16     // of the relay, to answer to (RFC 8357); zero: 67
	unicast         bool       // the client's packet was not broadcast (RFC 5010)
}

// Sub-options of option 82.
const (
	agentCircuit    = 1
	agentRemote     = 2
	agentLink       = 5
	agentFlags      = 10
	agentServerID   = 11
	agentSourcePort = 19
)

// readRelay reads option 82. The port comes with the packet: sub-option 19 is
// empty and says that the source port is the one to use.
func readRelay(b []byte, source uint16) (info relayInfo) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		code, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch code {
		case agentCircuit:
			info.circuit = value
		case agentRemote:
			info.remote = value
		case agentLink:
			info.link = addrOf(value)
		case agentServerID:
			info.serverID = addrOf(value)
		case agentFlags:
			info.unicast = len(value) == 1 && value[0]&0x80 != 0
		case agentSourcePort:
			info.port = source
		}
	}
	return info
}

// steerNothing keeps what names a port, and drops what chooses a subnet, an
// identity or a destination: without giaddr there is no relay, only a switch
// that adds its port, or a client that made the option up (RFC 3046, section
// 2.1, knows both).
func (info *relayInfo) steerNothing() {
	*info = relayInfo{circuit: info.circuit, remote: info.remote}
}
