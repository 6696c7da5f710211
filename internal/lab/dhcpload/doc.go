// Package dhcpload is a DHCP load generator: it is many clients at once that
// do DISCOVER, OFFER, REQUEST, ACK against one server, on one thread, and
// measures what came back. For benchmarks and tests, never for the product.
//
// It exists because perfdhcp is itself the limit above some 11,000 exchanges a
// second. Datagrams are sent and received in batches of 64 (sendmmsg,
// recvmmsg), packets are patched templates, and the loop allocates nothing.
//
// Three ways to be clients:
//
//   - Relay: packets look as if a relay forwarded them (giaddr is our address,
//     hops 1), and replies come unicast to port 67 of it (RFC 2131, section
//     4.1). Needs an address in the server's subnet, and costs least.
//   - Broadcast: clients on the segment that ask for broadcast replies.
//   - Direct: clients on the segment whose replies are addressed to the
//     hardware address, as most firmware has it.
//
// Load is open (a fixed rate, whatever comes back) or closed (a fixed number of
// exchanges under way). Every answer is checked: that it is for the client and
// the transaction, of the type that was due, for the address that was asked
// for, and that no two clients hold one address. A Generator remembers the
// addresses from one Run to the next, so uniqueness is checked over all of
// them.
//
// Rates are per second. An exchange that does not complete within the timeout
// is lost, even if its answers come later.
//
// Traffic is meant for a network namespace of its own: Open uses the one that
// the calling thread is in.
package dhcpload
