package ipxe

import "strconv"

// explain returns what an iPXE error number such as "2d0c618e" means for an
// administrator, or "" when that is not known. The low byte differs between
// BIOS and UEFI builds and says nothing more (source: "make bin/errors" of
// iPXE).
func explain(errno string) string {
	n, err := strconv.ParseUint(errno, 16, 32)
	if err != nil {
		return ""
	}
	if text, ok := errnos[uint32(n)&0x7fffff00]; ok {
		return text
	}
	return classes[byte(n>>24)&0x7f]
}

var errnos = map[uint32]string{
	0x2d0c6100: "file missing on the server (HTTP 404)",
	0x020c6100: "server wants a login (HTTP 401)",
	0x410c6100: "server refused (HTTP 403)",
	0x1d0c6400: "server refused the request (HTTP 4xx)",
	0x1d0c6500: "server error (HTTP 5xx)",
	0x1d0c6200: "length of the file does not match: truncated on the way",
	0x4c0c6000: "HTTP server does not answer",
	0x4c0a6000: "TCP timeout: firewall, or wrong router",
	0x0f0a6000: "TCP reset: nothing listens on that port",
	0x2d126100: "file missing on the server (TFTP)",
	0x02126000: "server refused (TFTP)",
	0x4c126000: "TFTP timeout: UDP filtered, or MTU",
	0x4c106000: "no DHCP answer: spanning tree, VLAN, or pool is empty",
	0x3e116100: "DNS name is not known",
	0x3e116200: "no DNS server was given",
	0x38086100: "link is down: cable, port, or wrong NIC",
	0x1a086100: "link is not up yet: spanning tree",
	0x1a086300: "network configuration is incomplete",
	0x28086000: "network is unreachable: no route to the server",
	0x3c092000: "kind of URL is not supported by this iPXE",
	0x2e008000: "not an executable of this architecture",
	0x2e022000: "command is missing in this iPXE",
	0x7f048100: "firmware cannot load the image",
	0x7f048200: "image ended with an error",
	0x0216e400: "certificate has expired, or the clock is wrong",
	0x0216e600: "certificate is not trusted",
	0x0216ea00: "certificate is for another name",
	0x410de100: "TLS refused",
	0x2d03e100: "nothing to boot: DHCP named no file",
	0x02008100: "image is not trusted",
}

// classes are the POSIX errors of the top byte that say enough by themselves.
var classes = map[byte]string{
	0x31: "out of memory",
	0x0b: "cancelled at the console",
}
