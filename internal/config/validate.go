package config

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"bootd/internal/node"
)

var (
	// bondRule is the name of an interface that means nothing to a shell.
	bondRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)
	// unitRule is the name of a unit (systemd.unit(5)), without what a shell
	// would take for something else.
	unitRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}$`)
	sizeRule = regexp.MustCompile(`^([0-9]{1,6})(GB|TB)$`)
)

// bondModes are those of the kernel (Documentation/networking/bonding).
var bondModes = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}

// validate builds what a role expects of the systems of its nodes; nil: nothing.
func (b *builder) validate(at place, r *rawValidate) *node.Validate {
	if r == nil {
		return nil
	}
	v := &node.Validate{OS: r.OS, Bond: r.Bond, Services: r.Services, Registered: b.boolean(at.key("registered"), r.Registered, false)}
	if _, err := path.Match(strings.ReplaceAll(r.OS, "/", "_"), ""); err != nil {
		b.add(at.key("os"), "%q is not a pattern such as Ubuntu 24.04*", r.OS)
	}
	if r.Bond != "" && !bondRule.MatchString(r.Bond) {
		b.add(at.key("bond"), "%q is not the name of an interface such as bond0", r.Bond)
	}
	if r.BondMode != "" {
		v.BondMode = bondModes[b.word(at.key("bond-mode"), r.BondMode, bondModes...)]
	}
	if v.BondMembers = b.number(at.key("bond-members"), r.BondMembers, 0, 1, 64); r.Bond == "" && (r.BondMode != "" || r.BondMembers != "") {
		b.add(at.key("bond"), "missing: of which bond?")
	}
	v.Wiped = b.driveSize(at.key("wiped"), r.Wiped)
	for i, s := range r.Services {
		if !unitRule.MatchString(s) {
			b.add(at.item("services", i, ""), "%q is not the name of a unit such as stylus-agent", s)
		}
	}
	return v
}

// driveSize reads a size as drives are sold.
func (b *builder) driveSize(at place, s string) int64 {
	if s == "" {
		return 0
	}
	m := sizeRule.FindStringSubmatch(s)
	if m == nil || strings.Trim(m[1], "0") == "" {
		b.add(at, "%q is not a size of drives such as 5TB or 800GB", s)
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // at most six digits
	if m[2] == "TB" {
		n *= 1000
	}
	return n * 1e9
}
