package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// survey is the sockets of a survey. What it sends goes through the stack of
// this host, where servers with UDP sockets hear it too. What it hears comes
// from a packet socket that sees packets in both directions, and so the
// answers of servers on this host, however they send.
type survey struct {
	out net.PacketConn
	in  *packet.Conn
}

func listenSurvey(ifname string) (*survey, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, errNoInterface
	}
	filter, err := bpf.Assemble(append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IP, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, toPort(ClientPort)...))
	if err != nil {
		return nil, err
	}
	s := new(survey)
	if s.in, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_ALL, &packet.Config{Filter: filter}); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return bindTo(c, ifname) }}
	if s.out, err = lc.ListenPacket(context.Background(), "ip4:udp", "0.0.0.0"); err != nil {
		s.in.Close()
		return nil, err
	}
	// It only sends: it would else collect every UDP packet to this host.
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err == nil {
		err = ipv4.NewPacketConn(s.out).SetBPF(nothing)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *survey) close() { s.in.Close(); s.out.Close() }

// ask broadcasts a client's packet. The kernel chooses the source address, so
// the checksum is left out, which UDP allows (RFC 768).
func (s *survey) ask(payload []byte) error {
	size := udpLen + len(payload)
	udp := append([]byte{0, ClientPort, 0, ServerPort, byte(size >> 8), byte(size), 0, 0}, payload...)
	_, err := s.out.WriteTo(udp, &net.IPAddr{IP: everybody.AsSlice()})
	return err
}

// answers calls got for every packet to a client until ctx is done.
func (s *survey) answers(ctx context.Context, got func(source netip.Addr, mac node.MAC, payload []byte)) error {
	defer context.AfterFunc(ctx, func() { s.in.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 2048)
	for {
		n, addr, err := s.in.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		from, payload := udpPayload(buf[:n], ClientPort)
		var mac node.MAC
		if hw, ok := addr.(*packet.Addr); ok {
			copy(mac[:], hw.HardwareAddr)
		}
		got(from.Addr(), mac, payload)
	}
}
