package dhcp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// arpreq is struct arpreq of arp(7).
type arpreq struct {
	pa, ha  unix.RawSockaddr
	flags   int32
	netmask unix.RawSockaddr
	dev     [16]byte
}

const atfComplete = 0x02 // ATF_COM: the address is resolved

// neighbour returns the MAC that this host sends packets for a to, on an
// interface; zero when it does not know one. It costs one look-up in the
// kernel, whatever the size of the table, and sends nothing.
func neighbour(ifname string, a netip.Addr) node.MAC {
	if !a.Is4() {
		return node.MAC{}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return node.MAC{}
	}
	defer unix.Close(fd)
	var r arpreq
	r.pa.Family = unix.AF_INET
	for i, b := range a.As4() {
		r.pa.Data[2+i] = int8(b) // after the port of struct sockaddr_in
	}
	copy(r.dev[:len(r.dev)-1], ifname)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGARP, uintptr(unsafe.Pointer(&r)))
	if errno != 0 || r.flags&atfComplete == 0 || r.ha.Family != unix.ARPHRD_ETHER {
		return node.MAC{}
	}
	var mac node.MAC
	for i := range mac {
		mac[i] = byte(r.ha.Data[i])
	}
	return mac
}
