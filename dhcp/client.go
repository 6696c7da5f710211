package dhcp

import (
	"bytes"
	"net/netip"
	"strconv"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// ArchUnknown is the architecture of a client that sends no option 93, and
// ArchPi that of the boot loader of a Raspberry Pi, whatever it sends.
const (
	ArchUnknown Arch = 0xfffe
	ArchPi      Arch = 41
)

// An Arch is a client system architecture type: a number of DHCP option 93
// (RFC 4578, section 2.1; the numbers are IANA's "Processor Architecture
// Types", which correct the RFC on 7 and 9).
type Arch uint16

var archNames = map[Arch]string{
	0: "x86-bios", 6: "x86-efi", 7: "x64-efi", 9: "x64-efi(9)", 10: "arm32-efi", 11: "arm64-efi",
	15: "x86-efi-http", 16: "x64-efi-http", 17: "x64-efi-http(17)", 18: "arm32-efi-http", 19: "arm64-efi-http",
	25: "riscv32-efi", 27: "riscv64-efi", 28: "riscv64-efi-http", 37: "loong32-efi", 39: "loong64-efi", 40: "loong64-efi-http", ArchPi: "rpi",
}

// String returns a short name, or the number of a type without one.
func (a Arch) String() string {
	if a == ArchUnknown {
		return ""
	}
	if name, ok := archNames[a]; ok {
		return name
	}
	return strconv.Itoa(int(a))
}

// A Client is what a machine says of itself.
type Client struct {
	MAC   node.MAC
	UUID  node.UUID      // zero: not sent, or not one
	Stage timeline.Stage // which program is asking
	Arch  Arch           // ArchUnknown: not sent
	Addr  netip.Addr     // address it has or is getting; set before Boot is asked

	Loader node.Loader // what its classes want it to load, likewise; zero: they do not care
}

// classify reads a client's stage and architecture. iPXE comes first: it says
// PXEClient too. Option 60 gives the class by its prefix alone, because iPXE
// shortens it to nine bytes after a chain load; the architecture is never
// taken from it.
func classify(o options, mac node.MAC) Client {
	c := Client{MAC: mac, UUID: uuidOption(o.get(optMachineID)), Stage: timeline.OS, Arch: archOption(o.get(optArch))}
	class := o.get(optClass)
	switch {
	case isIPXE(o):
		c.Stage = timeline.IPXE
	case bytes.HasPrefix(class, []byte(classHTTP)):
		c.Stage = timeline.UEFIHTTP
	case bytes.HasPrefix(class, []byte(classPXE)):
		c.Stage = timeline.Firmware
	}
	if (c.Arch == 0 || c.Arch == ArchUnknown) && c.Stage != timeline.IPXE && isPi(mac, o.get(optMachineID)) {
		c.Arch = ArchPi
	}
	return c
}

// isPi reports whether a client is a Raspberry Pi: by the maker's part of its
// MAC, or by its GUID, which is sixteen times 0x44 on a Pi 3 and begins with
// the name of the board on a Pi 4 and 5. Their boot loader says that it is an
// x86 BIOS. UEFI on a Pi tells the truth, and is not meant.
func isPi(mac node.MAC, guid []byte) bool {
	switch [3]byte(mac[:]) {
	case [3]byte{0xb8, 0x27, 0xeb}, [3]byte{0xdc, 0xa6, 0x32}, [3]byte{0xe4, 0x5f, 0x01},
		[3]byte{0xd8, 0x3a, 0xdd}, [3]byte{0x2c, 0xcf, 0x67}, [3]byte{0x28, 0xcd, 0xc1}:
		return true
	}
	if len(guid) == 17 {
		guid = guid[1:]
	}
	return len(guid) == 16 && (string(guid[:4]) == "RPi4" || string(guid[:4]) == "RPi5" || string(guid) == "DDDDDDDDDDDDDDDD")
}

// Vendor classes (PXE 2.1; UEFI 2.10, section 24.7).
const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"
)

// isIPXE reports whether iPXE is asking: by its user class, or by its own
// option 175.
func isIPXE(o options) bool {
	if isUserClass(o, "iPXE") {
		return true
	}
	own := o.get(optIPXE)
	return len(own) >= 2 && len(own) >= 2+int(own[1]) // at least one whole sub-option
}

// isUserClass reports whether option 77 is name, raw as iPXE sends it, or lists
// it (RFC 3004, section 4).
func isUserClass(o options, name string) bool {
	class := o.get(optUserClass)
	if string(class) == name {
		return true
	}
	for len(class) > 0 && len(class) > int(class[0]) {
		end := 1 + int(class[0])
		if string(class[1:end]) == name {
			return true
		}
		class = class[end:]
	}
	return false
}

// archOption reads the first type of option 93, a list of 16-bit numbers.
func archOption(b []byte) Arch {
	if len(b) < 2 {
		return ArchUnknown
	}
	return Arch(uint16At(b, 0))
}

// uuidOption reads option 97: a zero byte and a GUID whose first three fields
// are little-endian (RFC 4578, section 2.3, by way of UEFI). Anything else is
// what some ROMs send, and means "not known".
func uuidOption(b []byte) node.UUID {
	if len(b) != 17 || b[0] != 0 {
		return node.UUID{}
	}
	return node.UUID(b[1:]).Swapped()
}
