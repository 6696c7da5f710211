package lab

import (
	"os"

	"golang.org/x/sys/unix"
)

// advertisement is a router advertisement without a prefix and with a lifetime
// of zero: there is a router, it is not for you (RFC 4861, section 4.2). The
// kernel fills in the checksum.
var advertisement = []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// routerAddr is the address of the router, on Bridge.
const routerAddr = "fe80::1"

// startRouter answers router solicitations until the file is closed. Each
// iPXE of a boot waits for such an answer, the one of 2019 for 16 s
// (protocol.md, 2.6), and most sites have a router that gives it.
func startRouter(ns *Namespace, ifindex int) (*os.File, error) {
	var fd int
	if err := ns.Do(func() (err error) {
		fd, err = routerSocket(ifindex)
		return err
	}); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "router")
	go func() {
		buf := make([]byte, 1500)
		for {
			if _, err := f.Read(buf); err != nil {
				return // closed
			}
			allNodes := &unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 2, 15: 1}, ZoneId: uint32(ifindex)}
			conn, err := f.SyscallConn()
			if err != nil {
				return
			}
			conn.Control(func(fd uintptr) { unix.Sendto(int(fd), advertisement, 0, allNodes) }) // lost: the client asks again
		}
	}()
	return f, nil
}

// routerSocket receives router solicitations and nothing else.
func routerSocket(ifindex int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	allRouters := &unix.IPv6Mreq{Multiaddr: [16]byte{0: 0xff, 1: 2, 15: 2}, Interface: uint32(ifindex)}
	only := &unix.ICMPv6Filter{}
	for i := range only.Data {
		only.Data[i] = ^uint32(0)
	}
	only.Data[133>>5] &^= 1 << (133 & 31)
	for _, err := range []error{
		unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, only),
		unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, allRouters),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255), // else it is ignored
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, ifindex),
	} {
		if err != nil {
			unix.Close(fd)
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	return fd, nil
}
