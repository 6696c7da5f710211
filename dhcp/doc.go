// Package dhcp is a DHCPv4 server (RFC 2131) for machines that boot from the
// network: it leases addresses and says what to load, on one or more
// interfaces, and answers PXE requests on port 4011.
//
// # What is promised
//
// An ACK is sent only after its lease is on disk. Leases of one moment are
// committed together, so that durability costs one disk write per batch, not
// per client. When the disk fails, clients get silence, not promises. Offers
// live in memory only. No packet stops the server: what does not parse is
// counted and dropped.
//
// A machine is known by (subnet, hardware address). The client identifier is
// echoed and kept but is no key: firmware, iPXE, initrd and system each send a
// different one and would take four addresses (RFC 4361, section 7, knows the
// problem; RFC 2131, section 2.1, leaves the choice to the administrator).
//
// # How a packet travels
//
//	Link.Recv -> receiver: parse, Leases (decision), reply -> Link.Send
//	                          |                |
//	                          |                +-> prober: is the address free? -> Link.Send
//	                          +-> committer: one disk write for all that waits -> Link.Send
//
// Link owns the sockets. A few receivers share each one, and read and write in
// batches. parse accepts what firmware gets wrong in the ways we know; Leases
// decides who gets which address and does no I/O; the committer makes
// acknowledged leases durable before it sends the ACKs; the prober holds back
// the first offer of an address while the network is asked who has it. Every
// queue between them is bounded. When one is full its feeders wait, the sockets
// fill up, and the kernel drops: DHCP clients repeat themselves. What a packet
// costs does not grow with the number of leases, and is no memory: packets are
// read into exchanges that are used again.
package dhcp
