package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bootd/dhcp"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/ipxe"
)

// A bound is a socket and the address it is bound to.
type bound[S any] struct {
	addr   netip.Addr
	socket S
}

// bindDHCP opens the sockets of every subnet's interface.
func (d *daemon) bindDHCP() (err error) {
	d.ports, err = dhcp.Open(subnets(d.config()))
	d.onClose("dhcp", func() error { dhcp.Close(d.ports); return nil })
	for _, p := range d.ports {
		if p.PXE == nil {
			d.log.Warn("UDP port 4011 belongs to another server: machines that insist on it boot what that says", "iface", p.Interface)
		}
	}
	return err
}

// addrs returns the addresses to serve files on: ours in every subnet, or all
// when there is none.
func (d *daemon) addrs() (list []netip.Addr) {
	for _, s := range d.config().Subnets {
		if !slices.Contains(list, s.Server) {
			list = append(list, s.Server)
		}
	}
	if list == nil {
		return []netip.Addr{netip.IPv4Unspecified()}
	}
	return list
}

// bindTFTP binds TFTP to each of addrs, unless the configuration has it off.
func (d *daemon) bindTFTP() error {
	if !d.config().TFTP.Enabled {
		return nil
	}
	for _, a := range d.addrs() {
		at := netip.AddrPortFrom(a, d.config().TFTP.Port)
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return bindError("TFTP", "UDP", at, err)
		}
		d.onClose("tftp", conn.Close)
		d.tftp = append(d.tftp, bound[*net.UDPConn]{a, conn})
	}
	return nil
}

// bindHTTP binds the boot plane to each of addrs, and to the address of metadata.
func (d *daemon) bindHTTP() error {
	for _, a := range d.addrs() {
		at := netip.AddrPortFrom(a, d.config().HTTP.Port)
		l, err := net.Listen("tcp4", at.String())
		if err != nil {
			return bindError("HTTP", "TCP", at, err)
		}
		d.serveOn("http", a, l)
	}
	return d.bindMetadata()
}

// serveOn has the boot plane served on a listener at one of our addresses.
func (d *daemon) serveOn(name string, a netip.Addr, l net.Listener) {
	d.onClose(name, l.Close)
	d.http = append(d.http, bound[net.Listener]{a, ipxe.Listener(l)})
}

// bindAdmin binds the socket of bootctl.
func (d *daemon) bindAdmin() (err error) {
	if d.admin, err = admin.Listen(d.config().Admin.Socket); err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	d.onClose("admin", d.admin.Close)
	return nil
}

// bindError says in words why a port cannot be had.
func bindError(what, proto string, at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return cli.Hint(fmt.Errorf("%s: %s port %v is in use by another server", what, proto, at), fmt.Sprintf("see who: ss -lntup sport = :%d", at.Port()))
	case errors.Is(err, os.ErrPermission):
		return cli.Hint(fmt.Errorf("%s: %s port %v: not permitted", what, proto, at), "run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return cli.Hint(fmt.Errorf("%s: no interface has the address %v", what, at.Addr()), "the server: of a subnet must be an address of this host")
	}
	return fmt.Errorf("%s: %w", what, err)
}

// serveHTTP returns a component that serves l and, at the end, gives requests
// under way a moment before it cuts them off.
func (d *daemon) serveHTTP(s *http.Server, l net.Listener) func(context.Context) error {
	return func(ctx context.Context) error {
		stopped := make(chan struct{})
		context.AfterFunc(ctx, func() {
			defer close(stopped)
			grace, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if s.Shutdown(grace) != nil {
				s.Close()
			}
		})
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		<-stopped
		return nil
	}
}

// metadataAt is where the clients of clouds look for metadata.
var metadataAt = netip.MustParseAddrPort("169.254.169.254:80")

// bindMetadata listens there, whether or not an interface has the address yet:
// that is the administrator's to give.
func (d *daemon) bindMetadata() error {
	if !d.config().HTTP.Metadata {
		return nil
	}
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
		return cmp.Or(err, set)
	}}
	l, err := listen.Listen(context.Background(), "tcp4", metadataAt.String())
	if err != nil {
		return bindError("metadata", "TCP", metadataAt, err)
	}
	d.serveOn("metadata", metadataAt.Addr(), l)
	return nil
}
