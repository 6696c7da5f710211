// Package tftp is a read-only TFTP server for firmware and boot loaders.
//
// It serves what Server.Open returns and nothing else: names are normalised
// first, so Open never sees "..", a leading "/" or "\". Requests follow RFC
// 1350 with the options blksize (RFC 2348) and tsize (RFC 2349) of RFC 2347.
// Option and mode names are read in any case and answered in lower case, since
// GRUB compares them that way. Each answer leaves from a new port.
//
// What a client gets when there is nothing to send, at once and with a fixed
// text that never tells a path:
//
//	1  file not found       Open says fs.ErrNotExist
//	2  access violation     name with "..", too long or too deep; any other error of Open
//	2  read only            WRQ
//	4                       malformed request, mode mail, name that is not clean UTF-8
//	0                       mode netascii, trouble of our own
//
// It gets silence for an ERROR packet, from source port 0 or 69, from or to a
// broadcast address, for a repeat of a request that is being served, and over
// the limits: firmware gives up on an ERROR, but repeats what got no answer.
//
// Packets are never a reason to stop. Memory, sockets and goroutines are
// bounded by Server.MaxTransfers. A client that never answers gets three
// resends, one that stops answering six, a second apart.
//
// # Limits of the present engine
//
// Blocks are sent by a library (engine.go), behind checks of our own. It
// cannot do the following; an engine of our own will, behind the same API.
//
//   - windowsize (RFC 7440) and timeout (RFC 2349) are left out of the answer
//   - blksize 8 to 511 is left out of the answer: 512 is used
//   - a lost block is resent after one second, whatever the round trip is
//   - a packet from a foreign port is ignored, not answered with ERROR 5
//   - a repeated request is dropped; what it asks for is resent by the timer
//   - DATA leaves from the address the kernel picks by its routes, which may
//     not be the one the client asked where an interface has several. Clients
//     drop such blocks; Transfer.Err then names both addresses
//   - a file that fails while being sent ends in ERROR 1, not 0
//   - an empty file is announced as tsize "00", which every client reads as 0
//   - blksize is bounded by Server.BlockSize only, not by the MTU of the route
package tftp
