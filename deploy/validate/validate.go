// Package validate compares what a node says of itself with what its role
// expects: the table that source 000 has people fill in by hand after each
// installation.
//
// A node runs the script of Script, which collects facts and sends them as its
// check-in "report": lines of key=value, one fact each. Judge turns them into
// checks. What a node did not say is a check that failed, so a report that is
// cut off never passes. The package is pure.
package validate

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"bootd/internal/node"
)

// Facts are what a report says, by key, in its order.
type Facts map[string][]string

// The bounds of a report, whose text the check-in bounds too.
const (
	maxFacts = 4096
	maxFact  = 512 // bytes of a value
)

// Parse reads the facts of a report. Lines that are none are skipped: a node
// may say more.
func Parse(report []byte) Facts {
	facts := Facts{}
	n := 0
	for line := range bytes.Lines(report) {
		key, value, ok := strings.Cut(strings.TrimRight(string(line), "\r\n"), "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t") {
			continue
		}
		if n++; n > maxFacts {
			break
		}
		facts[key] = append(facts[key], value[:min(len(value), maxFact)])
	}
	return facts
}

func (f Facts) first(key string) string {
	if len(f[key]) == 0 {
		return ""
	}
	return f[key][0]
}

// complete is the last fact of a report. Without it the rest may be missing.
const complete = "complete"

// A Check is one row of the table.
type Check struct {
	Name     string `json:"check"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	OK       bool   `json:"ok"`
}

// Expected is what is expected of one node.
type Expected struct {
	node.Validate
	Name   string     // host name
	Addr   netip.Addr // zero: any
	HostID string     // edge host id as predicted; empty: not known
	HostIs string     // as the node reported it; empty: it did not
}

// Judge returns the checks of a node, in the order of source 000. Facts nil
// means that there is no report: every check then fails but the registration.
func Judge(e Expected, f Facts) (checks []Check) {
	add := func(name, expected, found string, ok bool) {
		if found == "" {
			found, ok = "not reported", false
		}
		checks = append(checks, Check{name, expected, found, ok})
	}
	if e.Registered {
		expected := e.HostID
		if expected == "" {
			expected = "an edge host id"
		}
		add("registered", expected, e.HostIs, e.HostIs != "" && (e.HostID == "" || strings.EqualFold(e.HostIs, e.HostID)))
	}
	name := f.first("hostname")
	add("hostname", e.Name, name, name == e.Name || strings.HasPrefix(name, e.Name+"."))
	if e.Addr.IsValid() {
		add("address", e.Addr.String(), strings.Join(f["address"], " "), f.hasAddr(e.Addr))
	}
	if e.Bond != "" {
		add(e.bond(f))
	}
	if e.Wiped > 0 {
		add(e.wiped(f))
	}
	if e.OS != "" {
		add("os", e.OS, f.first("os"), matches(e.OS, f.first("os")))
	}
	for _, s := range e.Services {
		is := f.first("service." + s)
		add("service "+s, "active", is, is == "active")
	}
	if f != nil {
		if len(f[complete]) == 0 {
			add("report", "whole", "cut off", false)
		}
	}
	return checks
}

// Passed reports whether all checks did.
func Passed(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(c Check) bool { return !c.OK })
}

// Failed names the first check that failed, in one line; empty: none did.
func Failed(checks []Check) string {
	for _, c := range checks {
		if !c.OK {
			return fmt.Sprintf("%s: expected %s, found %s", c.Name, c.Expected, c.Found)
		}
	}
	return ""
}

func (f Facts) hasAddr(a netip.Addr) bool {
	return slices.ContainsFunc(f["address"], func(s string) bool {
		s, _, _ = strings.Cut(s, "/")
		is, err := netip.ParseAddr(s)
		return err == nil && is == a
	})
}

// matches is path.Match where nothing is a path element.
func matches(pattern, text string) bool {
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(text))
	return err == nil && ok
}

// bond is the check of the bond: that there is one, its mode, and that each of
// its members is up and, with LACP, in the aggregator that carries traffic.
func (e Expected) bond(f Facts) (name, expected, found string, ok bool) {
	want := "all members up"
	if e.BondMembers > 0 {
		want = fmt.Sprintf("%d members up", e.BondMembers)
	}
	if e.BondMode != "" {
		want += ", " + e.BondMode
	}
	prefix := "bond." + e.Bond + "."
	members, up := f[prefix+"member"], 0
	var down []string
	for _, m := range members { // such as "eth0 up"
		nic, state, _ := strings.Cut(m, " ")
		if state == "up" {
			up++
		} else {
			down = append(down, nic+" "+state)
		}
	}
	mode := f.first(prefix + "mode")
	if mode == "" {
		if f != nil && slices.Contains(f[complete], "yes") {
			return "bond " + e.Bond, want, "no such bond", false
		}
		return "bond " + e.Bond, want, "", false
	}
	found = fmt.Sprintf("%d of %d members up, %s", up, len(members), mode)
	if down != nil {
		found += ": " + strings.Join(down, ", ")
	}
	ok = len(down) == 0 && up > 0 && (e.BondMembers == 0 || up == e.BondMembers) && (e.BondMode == "" || mode == e.BondMode)
	return "bond " + e.Bond, want, found, ok
}

// wiped is the check of the drives: those that are as big as the data drives
// have neither partitions nor what looks like a file system.
func (e Expected) wiped(f Facts) (name, expected, found string, ok bool) {
	name, expected = "drives wiped", "those of "+size(e.Wiped)+" and more clean"
	clean, known := 0, len(f["drive"]) > 0
	var dirty []string
	for _, d := range f["drive"] { // such as "sdb 7681501126656 clean"
		part := strings.SplitN(d, " ", 3)
		if len(part) != 3 {
			continue
		}
		bytes, err := strconv.ParseInt(part[1], 10, 64)
		switch {
		case err != nil:
			dirty = append(dirty, part[0]+": size not known")
		case bytes < e.Wiped:
		case part[2] == "clean":
			clean++
		default:
			dirty = append(dirty, part[0]+": "+part[2])
		}
	}
	switch {
	case !known:
		return name, expected, "", false
	case dirty != nil:
		return name, expected, strings.Join(dirty, ", "), false
	case clean == 0:
		return name, expected, "no such drive", false
	}
	return name, expected, fmt.Sprintf("%d clean", clean), true
}

// size is a number of bytes as drives are sold.
func size(n int64) string {
	switch {
	case n >= 1e12:
		return strconv.FormatFloat(float64(n)/1e12, 'f', -1, 64) + " TB"
	case n >= 1e9:
		return strconv.FormatFloat(float64(n)/1e9, 'f', -1, 64) + " GB"
	}
	return strconv.FormatInt(n, 10) + " B"
}

//go:embed validate.sh
var script string

// Script returns the program that a node runs: for any POSIX shell, with curl or
// wget, and as much of ip, blkid and systemctl as there is. Server is a host or
// host:port, services are names of units: both are of the configuration, and of
// letters that mean nothing to a shell.
func Script(server string, services []string) []byte {
	return []byte(strings.NewReplacer("@SERVER@", server, "@SERVICES@", strings.Join(services, " ")).Replace(script))
}
