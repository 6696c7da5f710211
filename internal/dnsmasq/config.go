package dnsmasq

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"bootd/internal/node"
)

// A Config is what lines say about DHCP, in their order.
type Config struct {
	Ranges  []Range
	Hosts   []Host
	Records []Record
	Options []Option
	Matches []Match
	Domains []Domain
	Ignores []Ignore
	Rest    []Line // everything else
	Faults  []*Fault
}

// A Range is a dhcp-range.
type Range struct {
	Line
	Tags       []string // all of them must be set
	Set        string   // tag that its clients get; empty: none
	Start, End netip.Addr
	Mode       Mode
	Bits       int           // of the netmask; zero: not said
	Lease      time.Duration // zero: not said; Infinite
}

// A Mode is how the addresses of a range are leased.
type Mode uint8

// The modes.
const (
	Dynamic Mode = iota
	Static       // to hosts with an address of their own
	Proxy        // not at all: another server does
)

// Infinite is a lease that does not end.
const Infinite = time.Duration(1<<63 - 1)

// A Host is a dhcp-host.
type Host struct {
	Line
	MACs   []node.MAC
	ID     string   // client identifier; empty: none; "*": it does not count
	Sets   []string // tags that it gets
	Tags   []string // that must be set
	Addr   netip.Addr
	Name   string // as written
	Lease  time.Duration
	Ignore bool

	Strange []string // what dnsmasq understands and this package does not: wildcards, IPv6
}

// A Record is a host-record.
type Record struct {
	Line
	Names []string
	Addr  netip.Addr // zero: it has no IPv4 address
}

// A Match sets a tag for clients that send something.
type Match struct {
	Line
	Tag  string
	What What
	Text string // of a vendor class, user class, circuit or remote identifier
	Arch uint16 // of ClientArch
	MAC  []byte // beginning of MAC addresses
	Code byte   // of SomeOption
}

// What is what a Match looks at.
type What uint8

// What a Match looks at.
const (
	VendorClass What = iota
	UserClass
	CircuitID
	RemoteID
	HardwareAddr
	ClientArch
	SomeOption // that the client sends the option, with a value or any
)

// A Domain is a domain=.
type Domain struct {
	Line
	Name        string
	First, Last netip.Addr // of the addresses that it is for; zero: all
}

// An Ignore is a dhcp-ignore.
type Ignore struct {
	Line
	Tags []string // all of them must be set; "!x": must not
}

// unsupported is an error of what dnsmasq understands and this package does
// not.
type unsupported struct{ what string }

func (e *unsupported) Error() string { return e.what }

// Parse makes typed values of lines.
func Parse(lines []Line) *Config {
	c := &Config{}
	for _, l := range lines {
		if err := c.take(l); err != nil {
			_, understood := errors.AsType[*unsupported](err)
			c.Faults = append(c.Faults, &Fault{l, err.Error(), !understood})
		}
	}
	return c
}

// ParseText makes typed values of the text of a file, without those that it
// includes.
func ParseText(text string) *Config {
	r := &reader{fsys: nothing{}, seen: map[string]bool{}}
	r.text("", "", text)
	c := Parse(r.lines)
	c.Faults = append(r.faults, c.Faults...)
	return c
}

// nothing is a file system without files.
type nothing struct{}

func (nothing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// take reads one line.
func (c *Config) take(l Line) (err error) {
	switch l.Key {
	case "dhcp-range":
		return add(&c.Ranges, l, parseRange)
	case "dhcp-host":
		return add(&c.Hosts, l, parseHost)
	case "host-record":
		return add(&c.Records, l, parseRecord)
	case "dhcp-option", "dhcp-option-force":
		return add(&c.Options, l, parseOption)
	case "dhcp-vendorclass", "dhcp-userclass", "dhcp-circuitid", "dhcp-remoteid", "dhcp-mac", "dhcp-match":
		return add(&c.Matches, l, parseMatch)
	case "domain":
		return add(&c.Domains, l, parseDomain)
	case "dhcp-ignore":
		return add(&c.Ignores, l, parseIgnore)
	case "conf-file", "conf-dir", "dhcp-hostsfile", "dhcp-hostsdir", "dhcp-optsfile", "dhcp-optsdir":
		return nil // read already
	}
	c.Rest = append(c.Rest, l)
	return nil
}

func add[T any](to *[]T, l Line, parse func(Line) (T, error)) error {
	v, err := parse(l)
	if err == nil {
		*to = append(*to, v)
	}
	return err
}

// Fields returns the fields of a line's value as text.
func (l Line) Fields() (list []string) {
	for _, f := range split(l.value) {
		list = append(list, show(f))
	}
	return list
}

// parseRange reads a dhcp-range: fields that are no address are tags, the first
// set: or bare one is given to its clients (one_opt, case 'F').
func parseRange(l Line) (r Range, err error) {
	r.Line = l
	fields := l.Fields()
	for len(fields) > 1 && strings.Trim(fields[0], "0123456789abcdefABCDEF.: ") != "" {
		switch tag := bareTag(fields[0]); {
		case hasPrefix(fields[0], "tag:", "net:"):
			r.Tags = append(r.Tags, tag)
		case r.Set != "":
			return r, fmt.Errorf("only one tag can be set")
		default:
			r.Set = tag
		}
		fields = fields[1:]
	}
	if r.Start, err = netip.ParseAddr(fields[0]); err != nil {
		return r, fmt.Errorf("%q is not an address", fields[0])
	}
	if r.Start.Is6() {
		return r, &unsupported{"IPv6"}
	}
	if fields = fields[1:]; len(fields) == 0 {
		return r, fmt.Errorf("the end of the range is missing")
	}
	r.End = r.Start
	switch fields[0] {
	case "static":
		r.Mode = Static
	case "proxy":
		r.Mode = Proxy
	default:
		if r.End, err = netip.ParseAddr(fields[0]); err != nil || !r.End.Is4() {
			return r, fmt.Errorf("%q is not an IPv4 address, static or proxy", fields[0])
		}
	}
	if r.End.Less(r.Start) {
		r.Start, r.End = r.End, r.Start
	}
	return r, r.tail(fields[1:])
}

// tail reads netmask, broadcast address and lease time, each of which may be
// missing.
func (r *Range) tail(fields []string) error {
	if len(fields) > 0 && strings.Contains(fields[0], ".") {
		mask, err := netip.ParseAddr(fields[0])
		n, ok := maskBits(mask)
		if err != nil || !ok {
			return fmt.Errorf("%q is not a netmask", fields[0])
		}
		if r.Bits = n; !netip.PrefixFrom(r.Start, n).Contains(r.End) {
			return fmt.Errorf("%v and %v are not in one network of netmask %v", r.Start, r.End, mask)
		}
		fields = fields[1:]
		if len(fields) > 0 && strings.Contains(fields[0], ".") {
			fields = fields[1:] // the broadcast address
		}
	}
	switch len(fields) {
	case 0:
		return nil
	case 1:
	default:
		return fmt.Errorf("%q is too much", fields[1])
	}
	d, infinite, ok := parseTime(fields[0])
	switch {
	case fields[0] == "":
	case !ok:
		return fmt.Errorf("%q is not a lease time such as 45m", fields[0])
	case infinite:
		r.Lease = Infinite
	default:
		r.Lease = max(d, minLease)
	}
	return nil
}

// minLease is the shortest lease that dnsmasq gives.
const minLease = 2 * time.Minute

// maskBits returns the length of a netmask that is one.
func maskBits(mask netip.Addr) (int, bool) {
	if !mask.Is4() {
		return 0, false
	}
	b := mask.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := bits.LeadingZeros32(^v)
	return n, v<<n == 0 && n > 0 && n < 32
}

// parseTime reads 45m, 1h, 2d, 1w, a number of seconds, or infinite.
func parseTime(s string) (d time.Duration, infinite, ok bool) {
	if s == "infinite" {
		return 0, true, true
	}
	unit := time.Second
	if s != "" {
		units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
		if u, suffixed := units[s[len(s)-1]|0x20]; suffixed {
			unit, s = u, s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, false, false
	}
	if n > uint64(100*365*24*time.Hour/unit) {
		return 0, true, true
	}
	return time.Duration(n) * unit, false, true
}

// parseHost reads a dhcp-host, whose fields come in any order (one_opt, case
// 'G').
func parseHost(l Line) (h Host, err error) {
	h.Line = l
	for _, raw := range split(l.value) {
		if err := h.field(show(raw)); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (h *Host) field(f string) error {
	id, isID := cutFold(f, "id:")
	switch d, infinite, isTime := parseTime(f); {
	case f == "":
	case isID:
		h.ID = id
	case hasPrefix(f, "set:", "net:"):
		h.Sets = append(h.Sets, f[4:])
	case strings.HasPrefix(f, "tag:"):
		h.Tags = append(h.Tags, f[4:])
	case strings.Contains(f, "["):
		h.Strange = append(h.Strange, f)
	case strings.Contains(f, ":"):
		return h.hardware(f)
	case isTime && infinite:
		h.Lease = Infinite
	case isTime:
		h.Lease = max(d, minLease)
	case f == "ignore":
		h.Ignore = true
	default:
		if a, err := netip.ParseAddr(f); err == nil && a.Is4() {
			h.Addr = a
			return nil
		}
		if strings.Trim(strings.ToLower(f), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return fmt.Errorf("%q is not a host name", f)
		}
		h.Name = f
	}
	return nil
}

// hardware reads a MAC address, before which there may be an ARP type, and in
// which there may be wildcards.
func (h *Host) hardware(f string) error {
	mac := f
	if kind, rest, typed := strings.Cut(f, "-"); typed {
		if mac = rest; strings.Trim(kind, "0") != "1" {
			h.Strange = append(h.Strange, f)
			return nil
		}
	}
	if strings.Contains(mac, "*") {
		h.Strange = append(h.Strange, f)
		return nil
	}
	b, err := parseHex(mac)
	switch {
	case err != nil:
		return err
	case len(b) != 6:
		h.Strange = append(h.Strange, f)
		return nil
	}
	h.MACs = append(h.MACs, node.MAC(b))
	return nil
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// parseRecord reads names, and the first IPv4 address among them.
func parseRecord(l Line) (Record, error) {
	r := Record{Line: l}
	for _, f := range l.Fields() {
		a, err := netip.ParseAddr(f)
		switch {
		case err == nil && a.Is4() && !r.Addr.IsValid():
			r.Addr = a
		case err != nil && strings.Trim(f, "0123456789") != "": // a number is a time to live
			r.Names = append(r.Names, f)
		}
	}
	if len(r.Names) == 0 {
		return r, fmt.Errorf("no name in it")
	}
	return r, nil
}

// parseMatch reads what sets a tag.
func parseMatch(l Line) (Match, error) {
	m := Match{Line: l}
	fields := split(l.value)
	if len(fields) < 2 || fields[0] == "" {
		return m, fmt.Errorf("a tag and what it is set for are wanted")
	}
	m.Tag = bareTag(show(fields[0]))
	rest := show(strings.Join(fields[1:], ","))
	switch l.Key {
	case "dhcp-match":
		return m, m.option(fields[1:])
	case "dhcp-mac":
		m.What = HardwareAddr
		return m, m.mac(rest)
	case "dhcp-vendorclass":
		if strings.HasPrefix(rest, "enterprise:") {
			return m, &unsupported{"DHCPv6"}
		}
		m.What = VendorClass
	case "dhcp-userclass":
		m.What = UserClass
	case "dhcp-circuitid":
		m.What = CircuitID
	case "dhcp-remoteid":
		m.What = RemoteID
	}
	m.Text = rest
	if agent := m.What == CircuitID || m.What == RemoteID; agent && strings.Trim(rest, "0123456789abcdefABCDEF:") == "" {
		b, err := parseHex(rest)
		if err != nil {
			return m, err
		}
		m.Text = string(b)
	}
	return m, nil
}

// mac reads the beginning of a MAC address, with wildcards for the rest.
func (m *Match) mac(s string) (err error) {
	if kind, rest, typed := strings.Cut(s, "-"); typed {
		if s = rest; strings.Trim(kind, "0") != "1" {
			return &unsupported{"hardware that is not Ethernet"}
		}
	}
	parts := strings.Split(s, ":")
	n := slices.Index(parts, "*")
	if n < 0 {
		n = len(parts)
	}
	if n == 0 || strings.Trim(strings.Join(parts[n:], ""), "*") != "" {
		return &unsupported{"wildcards that are not at the end"}
	}
	m.MAC, err = parseHex(strings.Join(parts[:n], ":"))
	if err == nil && len(m.MAC) > 6 {
		err = fmt.Errorf("%q is longer than a MAC address", s)
	}
	return err
}

// option reads a dhcp-match.
func (m *Match) option(fields []string) error {
	code, ok, err := optionCode(show(fields[0]))
	switch {
	case err != nil:
		return err
	case !ok && hasPrefix(fields[0], "vi-encap:", "option6:", "encap:", "vendor:"):
		return &unsupported{"options within an option, and DHCPv6"}
	case !ok:
		return fmt.Errorf("%q is not an option", show(fields[0]))
	}
	value := show(strings.Join(fields[1:], ","))
	switch m.What, m.Code, m.Text = SomeOption, code, value; {
	case code == 93 && value != "":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a number of option 93", value)
		}
		m.What, m.Arch = ClientArch, uint16(n)
	case code == 60 && value != "":
		m.What = VendorClass
	case code == 77 && value != "":
		m.What = UserClass
	}
	return nil
}

// parseDomain reads domain=NAME[,ADDRESSES[,local]].
func parseDomain(l Line) (d Domain, err error) {
	d.Line = l
	fields := l.Fields()
	d.Name = fields[0]
	switch {
	case d.Name == "#":
		return d, &unsupported{"the domain of resolv.conf"}
	case d.Name == "":
		return d, fmt.Errorf("the name is missing")
	case len(fields) == 1:
		return d, nil
	}
	if p, err := netip.ParsePrefix(fields[1]); err == nil && p.Addr().Is4() {
		d.First, d.Last = p.Masked().Addr(), last(p)
		return d, nil
	}
	if d.First, err = netip.ParseAddr(fields[1]); err != nil || !d.First.Is4() {
		return d, &unsupported{"the domain of an interface, or of IPv6"}
	}
	d.Last = d.First
	if len(fields) > 2 {
		if d.Last, err = netip.ParseAddr(fields[2]); err != nil || !d.Last.Is4() {
			return d, fmt.Errorf("%q is not an IPv4 address", fields[2])
		}
	}
	return d, nil
}

// last returns the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func parseIgnore(l Line) (Ignore, error) {
	i := Ignore{Line: l}
	for _, f := range l.Fields() {
		i.Tags = append(i.Tags, bareTag(f))
	}
	return i, nil
}
