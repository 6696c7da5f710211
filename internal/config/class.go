package config

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bootd/internal/node"
)

// MaxClasses is how many classes there can be.
const MaxClasses = 61

// The classes that exist without being written.
const (
	ClassKnown   = "known"   // nodes
	ClassBMC     = "bmc"     // their BMCs
	ClassUnknown = "unknown" // all other machines
)

// A Class is DHCP clients that have something in common.
type Class struct {
	Name    string
	Match   Match
	Lease   time.Duration // zero: that of the subnet
	Loader  node.Loader   // zero: its clients' role's choice, or the site's
	Options []DHCPOption
}

// A Match is conditions on a client, of which those that are set must all hold.
// At least one is set.
type Match struct {
	VendorClass string   // option 60 begins with it
	UserClass   string   // option 77 is it, or lists it
	CircuitID   string   // sub-option 1 of option 82; bytes
	RemoteID    string   // sub-option 2 of option 82; bytes
	Arch        []uint16 // option 93 is one of these
	MAC         [][]byte // the hardware address begins with one of these
	UUID        [][]byte // the UUID, as written, begins with one of these
}

// classes reads the classes in their order, which is that of their precedence.
func (b *builder) classes(list []rawClass) (out []Class) {
	if len(list) > MaxClasses {
		b.add(place{}.key("classes"), "%d classes: there can be %d", len(list), MaxClasses)
		return nil
	}
	seen := map[string]bool{}
	for i, r := range list {
		at := place{}.item("classes", i, r.Name)
		b.className(at.key("name"), r.Name)
		if seen[r.Name] {
			b.add(at.key("name"), "defined twice")
		}
		seen[r.Name] = true
		out = append(out, Class{
			Name: r.Name, Match: b.match(at, r),
			Lease:   b.duration(at.key("lease"), r.Lease, 0, MinLease, MaxLease),
			Loader:  b.loader(at.key("loader"), r.Loader),
			Options: b.options(at, r.Options, nil),
		})
	}
	return out
}

// className checks the name of a class that the site defines.
func (b *builder) className(at place, s string) {
	switch {
	case s == "":
		b.add(at, "missing")
	case !node.ValidName(s):
		b.add(at, "%q is not a name in lower case (letters, digits, hyphens)", s)
	case s == ClassKnown || s == ClassBMC || s == ClassUnknown:
		b.add(at, "%q is a class already", s)
	}
}

// match reads the conditions of a class, of which there must be one.
func (b *builder) match(at place, r rawClass) Match {
	m := Match{
		VendorClass: r.VendorClass,
		UserClass:   r.UserClass,
		CircuitID:   b.bytes(at.key("circuit-id"), r.CircuitID),
		RemoteID:    b.bytes(at.key("remote-id"), r.RemoteID),
		MAC:         b.prefixes(at, "mac", r.MAC, 6, "a MAC address such as 94:40:c9"),
		UUID:        b.prefixes(at, "uuid", r.UUID, 16, "a UUID such as 4c4c4544-0042"),
	}
	for i, s := range r.Arch {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			b.add(at.item("arch", i, ""), "%q is not a number of option 93 such as 7", s)
		}
		m.Arch = append(m.Arch, uint16(n))
	}
	if m.VendorClass+m.UserClass+r.CircuitID+r.RemoteID == "" && len(r.Arch)+len(r.MAC)+len(r.UUID) == 0 &&
		!slices.ContainsFunc(conditions, func(key string) bool { return b.has(at.key(key)) }) {
		b.add(at, "no condition: set one of %s", strings.Join(conditions, ", "))
	}
	return m
}

// conditions are the keys of a Match.
var conditions = []string{"vendor-class", "user-class", "circuit-id", "remote-id", "arch", "mac", "uuid"}

// bytes reads text, or bytes in hexadecimal after 0x.
func (b *builder) bytes(at place, s string) string {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return s
	}
	v, err := hex.DecodeString(digits)
	if err != nil || len(v) == 0 {
		b.add(at, "%q is not bytes in hexadecimal such as 0x0004000a", s)
	}
	return string(v)
}

// prefixes reads beginnings of something that has size bytes.
func (b *builder) prefixes(at place, name string, list []string, size int, what string) (out [][]byte) {
	for i, s := range list {
		v, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", ".", "").Replace(s))
		if err != nil || len(v) == 0 || len(v) > size {
			b.add(at.item(name, i, ""), "%q is not the beginning of %s", s, what)
		}
		out = append(out, v)
	}
	return out
}

// poolClasses checks that the classes of pools exist, and that the subnet's
// policy for unknown machines fits its pools.
func (b *builder) poolClasses(c *Config) {
	for i, s := range c.Subnets {
		at := place{}.item("subnets", i, "")
		quarantine := false
		for j, p := range s.Pools {
			quarantine = quarantine || p.Class == ClassUnknown
			if problem := c.notPoolClass(p.Class, s.Unknown); problem != "" {
				b.add(at.item("pools", j, ""), "%s", problem)
			}
		}
		if s.Unknown == QuarantineUnknown && !quarantine {
			b.add(at.key("unknown"), `"quarantine" needs a pool for unknown, such as 10.1.1.200-10.1.1.250 for unknown`)
		}
	}
}

// notPoolClass says why there can be no pool for a class.
func (c *Config) notPoolClass(class string, unknown Unknown) string {
	switch class {
	case "", ClassKnown, ClassBMC:
		return ""
	case ClassUnknown:
		if unknown == IgnoreUnknown {
			return "a pool for unknown, which get no answer: see unknown"
		}
		return ""
	}
	if !slices.ContainsFunc(c.Classes, func(k Class) bool { return k.Name == class }) {
		return fmt.Sprintf("class %q is not defined", class)
	}
	return ""
}
