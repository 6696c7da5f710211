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
//	Link.Recv -> worker -> parse -> Leases (decision) -> reply
//	                                    |                  |
//	                                    +-> committer -----+-> Link.Send
//
// Link owns the sockets, parse makes a request of bytes that firmware got
// wrong in the ways we know, Leases decides who gets which address and does no
// I/O, and a committer makes acknowledged leases durable before they are sent.
// Every queue between them is bounded; what does not fit is dropped and
// counted, because DHCP clients repeat themselves.
package dhcp
