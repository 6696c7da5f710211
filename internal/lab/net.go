package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
)

// Bridge is the interface of a Net that has the server's address.
const Bridge = "br0"

// A Net is a private network segment: a namespace with a bridge, where the
// server under test runs, and ports on the bridge for machines. Close takes
// all of it away.
type Net struct {
	*Namespace
	Addr netip.Prefix // of the server, on Bridge
	Dir  string       // for files of this Net; removed by Close

	router  *os.File // nil: this machine has no IPv6
	mu      sync.Mutex
	ports   int
	clients []*Namespace
}

// nowhere is a bridge in a Net that is down.
const nowhere = "nowhere"

// serverMAC is the MAC of the server under test on every segment.
const serverMAC = "02:b0:07:d0:00:01"

// NewNet makes a segment on which the server has the given address.
func NewNet(addr netip.Prefix) (*Net, error) {
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("lab: remove leftovers: %w", err)
	}
	dir, err := tempDir("files")
	if err != nil {
		return nil, err
	}
	ns, err := newNamespace("net")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	n := &Net{Namespace: ns, Addr: addr, Dir: dir}
	err = n.ip(
		"link set lo up",
		// No spanning tree: a new port would be deaf for half a minute. An
		// address of its own: else it takes the lowest of its ports, and a new
		// port would cut off who has the old one in the ARP cache.
		"link add "+Bridge+" address "+serverMAC+" type bridge stp_state 0 forward_delay 0",
		// With that it has no link either until it has a port, and nothing that
		// the server's host sends comes back to the server: a port that leads to
		// a bridge that is down, and so to nobody.
		"link add "+nowhere+" type bridge",
		"link add idle0 type veth peer name idle1",
		"link set idle1 addrgenmode none master "+nowhere+" up",
		"link set idle0 addrgenmode none master "+Bridge+" up",
		"addr add "+addr.String()+" dev "+Bridge,
		"link set "+Bridge+" up",
	)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if err := n.startIPv6(); err != nil && !errors.Is(err, errNoIPv6) {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// errNoIPv6 is returned where the kernel runs without IPv6: machines then boot
// all the same, only later.
var errNoIPv6 = errors.New("no IPv6 on this machine")

func (n *Net) startIPv6() error {
	if err := n.ip("addr add " + routerAddr + "/64 dev " + Bridge + " nodad"); err != nil {
		return errNoIPv6
	}
	var bridge *net.Interface
	err := n.Do(func() (err error) {
		bridge, err = net.InterfaceByName(Bridge)
		return err
	})
	if err != nil {
		return err
	}
	n.router, err = startRouter(n.Namespace, bridge.Index)
	return err
}

// Close ends every process and machine and removes the segment.
func (n *Net) Close() error {
	var errs []error
	if n.router != nil {
		errs = append(errs, n.router.Close())
	}
	for _, c := range n.clients {
		errs = append(errs, c.close())
	}
	return errors.Join(append(errs, n.close(), os.RemoveAll(n.Dir))...)
}

// port returns an interface name that the Net has not used yet.
func (n *Net) port(kind string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports++
	return fmt.Sprintf("%s%d", kind, n.ports)
}

// tap makes the port of a virtual machine.
func (n *Net) tap(ctx context.Context, p Port) (string, error) {
	name := n.port("tap")
	if err := n.ip("tuntap add dev " + name + " mode tap"); err != nil {
		return "", err
	}
	return name, n.plug(ctx, name, p)
}

// Client makes a namespace with one interface, eth0, on the bridge: a machine
// for a DHCP client or a load generator. It has no address yet.
func (n *Net) Client(ctx context.Context) (*Namespace, error) {
	c, err := newNamespace("client")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.clients = append(n.clients, c)
	n.mu.Unlock()
	name := n.port("veth")
	if err := n.ip(
		"link add "+name+" type veth peer name eth0 netns "+c.Name,
		"link set "+name+" master "+Bridge+" up",
	); err != nil {
		return nil, err
	}
	return c, c.ip("link set lo up", "link set eth0 up")
}
