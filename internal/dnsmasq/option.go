package dnsmasq

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A format is what dnsmasq takes the value of an option for, whatever it looks
// like.
type format uint8

const (
	free  format = iota // by its looks
	addrs               // addresses
	name                // text
	num1                // a number of so many bytes
	num2
	num4
	seconds // a time
	names   // DNS names (RFC 1035)
)

// known are the options that dnsmasq has names for: what "dnsmasq --help dhcp"
// of 2.90 prints, and four that it sets itself. A test compares them.
var known = map[string]struct {
	code   byte
	format format
}{
	"netmask": {1, addrs}, "time-offset": {2, num4}, "router": {3, addrs}, "dns-server": {6, addrs}, "log-server": {7, addrs},
	"lpr-server": {9, addrs}, "hostname": {12, name}, "boot-file-size": {13, num2}, "domain-name": {15, name}, "swap-server": {16, addrs},
	"root-path": {17, name}, "extension-path": {18, name}, "ip-forward-enable": {19, num1}, "non-local-source-routing": {20, num1},
	"policy-filter": {21, addrs}, "max-datagram-reassembly": {22, num2}, "default-ttl": {23, num1}, "mtu": {26, num2},
	"all-subnets-local": {27, num1}, "broadcast": {28, addrs}, "router-discovery": {31, num1}, "router-solicitation": {32, addrs},
	"static-route": {33, addrs}, "trailer-encapsulation": {34, num1}, "arp-timeout": {35, num4}, "ethernet-encap": {36, num1},
	"tcp-ttl": {37, num1}, "tcp-keepalive": {38, num4}, "nis-domain": {40, name}, "nis-server": {41, addrs}, "ntp-server": {42, addrs},
	"vendor-encap": {43, free}, "netbios-ns": {44, addrs}, "netbios-dd": {45, addrs}, "netbios-nodetype": {46, num1}, "netbios-scope": {47, free},
	"x-windows-fs": {48, addrs}, "x-windows-dm": {49, addrs}, "lease-time": {51, seconds}, "T1": {58, seconds}, "T2": {59, seconds},
	"vendor-class": {60, free}, "nis+-domain": {64, name}, "nis+-server": {65, addrs}, "tftp-server": {66, name}, "bootfile-name": {67, name},
	"mobile-ip-home": {68, addrs}, "smtp-server": {69, addrs}, "pop3-server": {70, addrs}, "nntp-server": {71, addrs}, "irc-server": {74, addrs},
	"user-class": {77, free}, "rapid-commit": {80, free}, "client-arch": {93, num2}, "client-interface-id": {94, free},
	"client-machine-id": {97, free}, "posix-timezone": {100, name}, "tzdb-timezone": {101, name}, "ipv6-only": {108, num4},
	"domain-search": {119, names}, "sip-server": {120, free}, "classless-static-route": {121, free}, "vendor-id-encap": {125, free},
	"tftp-server-address": {150, addrs}, "server-ip-address": {255, addrs},
}

// formatOf returns what dnsmasq takes the value of an option for.
func formatOf(code byte) format {
	for _, k := range known {
		if k.code == code {
			return k.format
		}
	}
	return free
}

// An Option is a dhcp-option. Its value is one of the fields after Always; with
// none set the option is not to be sent.
type Option struct {
	Line
	Tags   []string // all of them must be set; "!x": must not
	Code   byte
	Always bool // dhcp-option-force

	Addrs  []netip.Addr   // 0.0.0.0 is dnsmasq's own
	Routes []netip.Prefix // each to the address of the same index
	Number int64
	Size   int // of Number in bytes: 1, 2 or 4
	Bytes  []byte
	Text   string
	Names  []string
}

// Empty reports whether there is no value.
func (o *Option) Empty() bool {
	return len(o.Addrs)+o.Size+len(o.Bytes)+len(o.Text)+len(o.Names) == 0
}

// parseOption reads a dhcp-option, after which anything unknown before the code
// is a tag (parse_dhcp_opt).
func parseOption(l Line) (Option, error) {
	o := Option{Line: l, Always: l.Key == "dhcp-option-force"}
	fields := split(l.value)
	for i, f := range fields {
		f = show(f)
		code, coded, err := optionCode(f)
		switch {
		case err != nil:
			return o, err
		case coded:
			o.Code = code
			return o, o.value(strings.Join(fields[i+1:], ","))
		case hasPrefix(f, "encap:", "vi-encap:", "vendor:"):
			return o, &unsupported{"options within an option: write the bytes as CODE hex"}
		case hasPrefix(f, "option6:"):
			return o, &unsupported{"DHCPv6"}
		}
		o.Tags = append(o.Tags, bareTag(f))
	}
	return o, fmt.Errorf("no option in it")
}

// optionCode reads 3 or option:router.
func optionCode(f string) (code byte, ok bool, err error) {
	if word, is := strings.CutPrefix(f, "option:"); is {
		k, found := known[word]
		if !found {
			return 0, false, fmt.Errorf("unknown option %q", word)
		}
		return k.code, true, nil
	}
	if f == "" || strings.Trim(f, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(f, 10, 8)
	if err != nil || n == 0 {
		return 0, false, fmt.Errorf("%q is not the number of an option", f)
	}
	return byte(n), true, nil
}

func hasPrefix(s string, list ...string) bool {
	for _, p := range list {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// bareTag takes what may be before a tag away.
func bareTag(s string) string {
	for _, p := range []string{"tag:", "net:", "set:"} {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return rest
		}
	}
	return s
}

// value reads the value of an option by its looks, unless its format is known.
func (o *Option) value(text string) (err error) {
	plain := show(text)
	looks := strings.ContainsFunc(text, isHidden) // what is quoted looks like nothing
	switch kind := formatOf(o.Code); {
	case plain == "":
		return nil
	case kind == addrs:
		o.Addrs, err = parseAddrs(plain)
		return err
	case kind == names:
		o.Names = strings.Split(plain, ",")
		for i := range o.Names {
			o.Names[i] = strings.TrimSpace(o.Names[i])
		}
		return nil
	case kind == seconds:
		d, infinite, ok := parseTime(plain)
		if !ok || infinite {
			return fmt.Errorf("%q is not a time", plain)
		}
		o.Number, o.Size = int64(d.Seconds()), 4
		return nil
	case kind >= num1 && kind <= num4:
		return o.number(plain, map[format]int{num1: 1, num2: 2, num4: 4}[kind])
	case kind == name || looks:
		o.Text = plain
		return nil
	}
	return o.guess(plain)
}

// guess reads a value of an option that dnsmasq has no format for.
func (o *Option) guess(s string) (err error) {
	digits := strings.TrimRight(strings.TrimPrefix(s, "-"), "bsi")
	switch {
	case strings.Contains(s, ":") && strings.Trim(s, "0123456789abcdefABCDEF:") == "":
		o.Bytes, err = parseHex(s)
		return err
	case digits != "" && strings.Trim(digits, "0123456789") == "" && len(s)-len(digits) <= 2:
		return o.number(s, 0)
	case strings.Contains(s, ".") && strings.Trim(s, "0123456789.,/ ") == "" && !strings.HasPrefix(s, "/"):
		if strings.Contains(s, "/") {
			o.Routes, o.Addrs, err = parseRoutes(s)
			return err
		}
		o.Addrs, err = parseAddrs(s)
		return err
	}
	o.Text = s
	return nil
}

// number reads a number of size bytes; 0: as its suffix or its size says.
func (o *Option) number(s string, size int) error {
	switch last := s[len(s)-1]; last {
	case 'b', 's', 'i':
		size, s = map[byte]int{'b': 1, 's': 2, 'i': 4}[last], s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil || n > 1<<32-1 || n < -1<<31:
		return fmt.Errorf("%q is not a number of at most 4 bytes", s)
	case size == 0 && n >= 0 && n < 1<<8:
		size = 1
	case size == 0 && n >= 0 && n < 1<<16:
		size = 2
	case size == 0:
		size = 4
	}
	if limit := int64(1) << (8 * size); n >= limit || n < -limit/2 {
		return fmt.Errorf("%q does not fit into %d bytes", s, size)
	}
	o.Number, o.Size = n, size
	return nil
}

// parseHex reads 1:2a:3, in which a part may have one digit.
func parseHex(s string) (out []byte, err error) {
	for part := range strings.SplitSeq(s, ":") {
		if len(part) == 1 {
			part = "0" + part
		}
		b, err := hex.DecodeString(part)
		if err != nil || len(b) != 1 {
			return nil, fmt.Errorf("%q is not bytes such as 01:2a:ff", s)
		}
		out = append(out, b...)
	}
	return out, nil
}

func parseAddrs(s string) (list []netip.Addr, err error) {
	for part := range strings.SplitSeq(s, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || !a.Is4() {
			return nil, fmt.Errorf("%q is not an IPv4 address", strings.TrimSpace(part))
		}
		list = append(list, a)
	}
	return list, nil
}

// parseRoutes reads 10.0.0.0/8,10.1.0.1 and more of that (RFC 3442).
func parseRoutes(s string) (to []netip.Prefix, via []netip.Addr, err error) {
	parts := strings.Split(s, ",")
	if len(parts)%2 != 0 {
		return nil, nil, fmt.Errorf("%q is not networks and routers such as 10.0.0.0/8,10.1.0.1", s)
	}
	for i := 0; i < len(parts); i += 2 {
		p, err := netip.ParsePrefix(strings.TrimSpace(parts[i]))
		if err != nil || !p.Addr().Is4() {
			return nil, nil, fmt.Errorf("%q is not an IPv4 network such as 10.0.0.0/8", strings.TrimSpace(parts[i]))
		}
		a, err := parseAddrs(parts[i+1])
		if err != nil {
			return nil, nil, err
		}
		to, via = append(to, p), append(via, a[0])
	}
	return to, via, nil
}
