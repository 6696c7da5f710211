// Package tftp is a read-only TFTP server for firmware and boot loaders.
//
// It serves what Server.Open returns and nothing else: names are normalised
// first, so Open never sees "..", a leading "/" or "\". Requests follow RFC
// 1350 with the options of RFC 2347: blksize (RFC 2348), tsize and timeout (RFC
// 2349) and windowsize (RFC 7440). Option and mode names are read in any case
// and answered in lower case, since GRUB compares them that way. A value that
// is out of range is left out of the answer, as is multicast (RFC 2090): the
// client goes on without.
//
// Each answer leaves from a new port and from the address the client asked.
// Blocks are never larger than the route's MTU allows, so they arrive in one
// piece. What a client gets when there is nothing to send, at once and with a
// fixed text that never tells a path:
//
//	1  file not found       Open says fs.ErrNotExist
//	2  access violation     name with "..", too long or too deep; any other error of Open
//	2  read only            WRQ
//	4                       malformed request, mode mail, name that is not clean UTF-8
//	5  unknown transfer ID  packet of one client to the transfer of another, which goes on
//	0                       mode netascii, trouble of our own, read error, server is stopping
//
// It gets silence for an ERROR packet, from source port 0 or 69, from or to a
// broadcast address, and over the limits: firmware gives up on an ERROR, but
// repeats what got no answer. A repeat of a request whose answer was not yet
// acknowledged gets that answer again, from the same port.
//
// A lost block is sent again after three round trips, at least 250 ms, or after
// a second where no round trip was measured, then after twice as long each
// time, at most 5 s (RFC 1123 section 4.2.3.2; a timeout agreed on does not
// change it). A client that stops answering gets six resends in at most 30 s;
// one that never answered, or lacks nothing but its last ACK, gets three. The
// latter is no failure: machines start what they have. The former gets none
// while the limits keep others out, so a flood of forged requests cannot hold
// the places for long. Every ACK number is
// answered once at most, so a duplicate of one never causes a block to be
// duplicated (RFC 1123 section 4.2.3.1).
//
// Block numbers wrap from 65535 to 0. Some firmware cannot follow; files that
// large are better served by HTTP.
//
// Packets are never a reason to stop. Sockets and goroutines are bounded by
// Server.MaxTransfers, and so is memory: one of them needs a window of blocks,
// 64 KiB at most.
package tftp
