package config

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A DHCPOption is an option that DHCP tells clients, encoded (RFC 2132). Its
// value has 1 to 255 bytes.
type DHCPOption struct {
	Code   byte
	Value  []byte
	Always bool // told to clients that do not ask for it, too
}

// Codes of options that have keys of their own.
const (
	codeRouter = 3
	codeDNS    = 6
	codeDomain = 15
	codeMTU    = 26
	codeNTP    = 42
	codeSearch = 119
	codeRoutes = 121
)

// A knownOption can be written by name.
type knownOption struct {
	name string
	code byte
	kind string // of kinds
}

// known are IANA's "BOOTP Vendor Extensions and DHCP Options", as far as
// anybody sets them on a network that machines boot from. 150 is Cisco's (RFC
// 5859).
var known = []knownOption{
	{"time-offset", 2, "i32"},
	{"router", codeRouter, "ip"},
	{"dns", codeDNS, "ip"},
	{"log-servers", 7, "ip"},
	{"domain", codeDomain, "text"},
	{"root-path", 17, "text"},
	{"mtu", codeMTU, "u16"},
	{"broadcast", 28, "ip"},
	{"nis-domain", 40, "text"},
	{"nis-servers", 41, "ip"},
	{"ntp", codeNTP, "ip"},
	{"vendor", 43, "hex"},
	{"posix-timezone", 100, "text"},
	{"timezone", 101, "text"},
	{"captive-portal", 114, "text"},
	{"search", codeSearch, "names"},
	{"domain-search", codeSearch, "names"},
	{"routes", codeRoutes, "routes"},
	{"tftp-servers", 150, "ip"},
	{"wpad", 252, "text"},
}

// notOurs says of the options that cannot be set why, with the key that sets
// them where there is one.
var notOurs = map[byte]string{
	0: "is padding", 255: "ends a packet",
	1: "follows from subnet", 12: "is the name of the node", 51: "is lease and boot-lease",
	58: "is renew", 59: "is rebind", 80: "is rapid-commit", 108: "is ipv6-only", 118: "is subnet-selection",
	66: "is what the machine loads: use loader", 67: "is what the machine loads: use loader",
	50: "is for clients to send", 55: "is for clients to send", 57: "is for clients to send", 61: "is for clients to send",
	77: "is for clients to send", 93: "is for clients to send", 94: "is for clients to send",
	52: "is bootd's own", 53: "is bootd's own", 54: "is bootd's own", 56: "is bootd's own", 60: "is bootd's own",
	82: "is the relay's", 97: "is bootd's own", 116: "is bootd's own", 175: "is bootd's own",
}

// ofSubnet are options that a subnet has keys for.
var ofSubnet = map[byte]string{
	codeRouter: "router", codeDNS: "dns", codeDomain: "domain", codeMTU: "mtu", codeNTP: "ntp",
	codeSearch: "search", codeRoutes: "routes",
}

// options reads a list of options of anything. Those in keys have a key of
// their own there.
func (b *builder) options(at place, list []string, keys map[byte]string) (out []DHCPOption) {
	seen := map[byte]bool{}
	for i, s := range list {
		o, err := parseOption(s)
		switch key := keys[o.Code]; {
		case err != nil && s != "":
			err = fmt.Errorf("%q: %w", s, err)
		case err != nil:
		case key != "":
			err = fmt.Errorf("%q: option %d is %s: use that key", s, o.Code, key)
		case seen[o.Code]:
			err = fmt.Errorf("%q: option %d is in the list twice", s, o.Code)
		}
		if err != nil {
			b.add(at.item("options", i, ""), "%v", err)
		}
		seen[o.Code] = true
		out = append(out, o)
	}
	return out
}

// parseOption reads [always] CODE TYPE VALUE or [always] NAME VALUE.
func parseOption(s string) (o DHCPOption, err error) {
	if s == "" {
		return o, errMissing
	}
	word, rest := cutWord(s)
	if word == "always" {
		o.Always = true
		word, rest = cutWord(rest)
	}
	var kind string
	if o.Code, kind, rest, err = optionKind(word, rest); err != nil {
		return o, err
	}
	if why, ok := notOurs[o.Code]; ok {
		return o, fmt.Errorf("option %d %s", o.Code, why)
	}
	if rest == "" {
		return o, errors.New("the value is missing")
	}
	if o.Value, err = kinds[kind](rest); err != nil {
		return o, err
	}
	if o.Code == codeRouter || o.Code == codeDNS {
		o.Always = true // as with the keys
	}
	if n := len(o.Value); n > 255 {
		return o, fmt.Errorf("the value has %d bytes, and an option at most 255", n)
	}
	return o, nil
}

// cutWord splits off the first word.
func cutWord(s string) (word, rest string) {
	word, rest, _ = strings.Cut(strings.TrimSpace(s), " ")
	return word, strings.TrimSpace(rest)
}

// optionKind reads what comes before the value.
func optionKind(word, rest string) (code byte, kind, value string, err error) {
	for _, k := range known {
		if k.name == word {
			return k.code, k.kind, rest, nil
		}
	}
	n, err := strconv.ParseUint(word, 10, 8)
	if err != nil {
		return 0, "", "", fmt.Errorf("%q is neither the number of an option nor the name of a known one", word)
	}
	code = byte(n)
	if _, ok := notOurs[code]; ok {
		return code, "", "", nil
	}
	if kind, value = cutWord(rest); kinds[kind] == nil {
		return code, "", "", fmt.Errorf("%q is not a type: one of hex, i32, ip, names, routes, text, u16, u32, u8", kind)
	}
	for _, k := range known {
		if k.code == code && k.kind != kind && kind != "hex" {
			return code, "", "", fmt.Errorf("option %d is of type %s", code, k.kind)
		}
	}
	return code, kind, value, nil
}

// kinds are the types of values.
var kinds = map[string]func(string) ([]byte, error){
	"hex":    encodeHex,
	"i32":    func(s string) ([]byte, error) { return encodeInt(s, -1<<31, 1<<31-1, 4) },
	"ip":     encodeIPs,
	"names":  func(s string) ([]byte, error) { return encodeNames(split(s)) },
	"routes": encodeRouteText,
	"text":   func(s string) ([]byte, error) { return []byte(s), nil },
	"u8":     func(s string) ([]byte, error) { return encodeInt(s, 0, 1<<8-1, 1) },
	"u16":    func(s string) ([]byte, error) { return encodeInt(s, 0, 1<<16-1, 2) },
	"u32":    func(s string) ([]byte, error) { return encodeInt(s, 0, 1<<32-1, 4) },
}

// split splits a list at commas and spaces.
func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func encodeHex(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(s))
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%q is not bytes in hexadecimal such as 0104deadbeef", s)
	}
	return b, nil
}

// encodeInt encodes a number of size bytes.
func encodeInt(s string, least, most int64, size int) ([]byte, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least || n > most {
		return nil, fmt.Errorf("%q is not a number from %d to %d", s, least, most)
	}
	return binary.BigEndian.AppendUint64(nil, uint64(n))[8-size:], nil
}

func encodeIPs(s string) (out []byte, err error) {
	for _, word := range split(s) {
		a, err := parseAddr(word)
		if err != nil {
			return nil, err
		}
		out = append(out, a.AsSlice()...)
	}
	if out == nil {
		_, err = parseAddr(s)
	}
	return out, err
}

// encodeNames encodes DNS names one after the other, uncompressed (RFC 3397,
// section 2; RFC 1035, section 3.1).
func encodeNames(list []string) (out []byte, err error) {
	for _, name := range list {
		if !isDNSName(name) {
			return nil, notDNSName(name)
		}
		for label := range strings.SplitSeq(strings.ToLower(name), ".") {
			out = append(append(out, byte(len(label))), label...)
		}
		out = append(out, 0)
	}
	if out == nil {
		return nil, errors.New("the value is missing")
	}
	return out, nil
}

// A Route is a network that is reached through a router.
type Route struct {
	Dest netip.Prefix // masked
	Via  netip.Addr
}

// parseRoute reads "10.0.0.0/8 via 10.1.0.254".
func parseRoute(s string) (Route, error) {
	words := strings.Fields(s)
	if len(words) != 3 || words[1] != "via" {
		return Route{}, fmt.Errorf("%q is not a route such as 10.0.0.0/8 via 10.1.0.254", s)
	}
	p, err := netip.ParsePrefix(words[0])
	if err != nil || !p.Addr().Is4() {
		return Route{}, fmt.Errorf("%q is not an IPv4 network such as 10.1.0.0/16", words[0])
	}
	if p != p.Masked() {
		return Route{}, fmt.Errorf("%q has bits set after the prefix: write %v", words[0], p.Masked())
	}
	via, err := parseAddr(words[2])
	return Route{p, via}, err
}

func encodeRouteText(s string) ([]byte, error) {
	var list []Route
	for text := range strings.SplitSeq(s, ",") {
		r, err := parseRoute(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return encodeRoutes(list), nil
}

// encodeRoutes encodes the value of option 121: of each destination the length
// and its significant bytes, then the router (RFC 3442).
func encodeRoutes(list []Route) (out []byte) {
	for _, r := range list {
		bits := r.Dest.Bits()
		out = append(append(out, byte(bits)), r.Dest.Addr().AsSlice()[:(bits+7)/8]...)
		out = append(out, r.Via.AsSlice()...)
	}
	return out
}

// merge returns the options of list, and after them those of more that list
// does not set.
func merge(list, more []DHCPOption) []DHCPOption {
	out := slices.Clip(list)
	for _, o := range more {
		if !slices.ContainsFunc(list, func(p DHCPOption) bool { return p.Code == o.Code }) {
			out = append(out, o)
		}
	}
	return out
}

// room is how many bytes of options an administrator can fill: of the 548 of a
// reply that every client takes (RFC 2131, section 2), 240 are header, and what
// the server says for itself, with a host name of 16 letters and a client-id of
// RFC 4361 returned, takes the rest. A longer reply would lose its last options.
const room = 230

// length is what options take of a reply.
func length(list []DHCPOption) (n int) {
	for _, o := range list {
		n += 2 + len(o.Value)
	}
	return n
}

// roomFor checks that options fit a reply.
func (b *builder) roomFor(at place, list []DHCPOption, with string) {
	if n := length(list); n > room {
		b.add(at, "%d bytes of options%s: a DHCP reply has room for %d", n, with, room)
	}
}

// rooms checks that what a subnet tells fits a reply, alone and together with
// what a class or a node adds to the longest of them.
func (b *builder) rooms(c *Config, nodes []rawNode) {
	var longest []DHCPOption
	most, with := 0, ""
	for i, s := range c.Subnets {
		all := s.told()
		b.roomFor(place{}.item("subnets", i, ""), all, "")
		if n := length(all); n > most {
			most, longest, with = n, all, fmt.Sprintf(" with those of subnets[%d]", i)
		}
	}
	if most > room {
		return // and so everything is
	}
	for i, class := range c.Classes {
		b.roomFor(place{}.item("classes", i, class.Name).key("options"), merge(class.Options, longest), with)
	}
	for i, n := range nodes {
		if len(c.NodeOptions[n.Name]) == 0 {
			continue
		}
		b.roomFor(place{}.item("nodes", i, n.Name).key("options"), merge(c.NodeOptions[n.Name], longest), with)
	}
}
