package lint

import (
	"fmt"
	"slices"
	"strings"

	"bootd/internal/yamltree"
)

// Fix corrects what is mechanical and leaves all else of the text as it is,
// comments too: a missing header, the old flat form of network, and
// registryCredentials in the wrong place. nic is the interface that the flat
// form did not name; empty: that stays. It changes no stage: one that runs
// where none did before may wipe disks.
//
// Only block style is corrected: a text whose keys stand in { } stays.
func Fix(content, nic string) string {
	l := &linter{}
	if l.header(content); len(l.faults) > 0 {
		content = Headers[0] + "\n" + content
	}
	content = edit(content, func(root *yamltree.Node, lines []string) []string {
		return raiseRegistry(root, lines)
	})
	return edit(content, func(root *yamltree.Node, lines []string) []string {
		return nameInterface(root, lines, nic)
	})
}

// edit gives the tree and the lines of a text to f; nil: nothing to change.
func edit(content string, f func(*yamltree.Node, []string) []string) string {
	root, err := yamltree.Parse(content)
	if err != nil {
		return content
	}
	if !strings.HasSuffix(content, "\n") {
		content += "\n" // lines change places
	}
	if lines := f(root, strings.SplitAfter(content, "\n")); lines != nil {
		return strings.Join(lines, "")
	}
	return content
}

// key returns a key of a block mapping; nil: there is none, or other things
// stand before it on its line.
func key(n *yamltree.Node, name string, lines []string) *yamltree.Key {
	if n == nil {
		return nil
	}
	for i := range n.Keys {
		if k := &n.Keys[i]; k.Name == name && strings.TrimLeft(lines[k.Line-1][:min(k.Column-1, len(lines[k.Line-1]))], " ") == "" {
			return k
		}
	}
	return nil
}

// extent returns the lines from that of a key to before the next that is not
// below it.
func extent(k *yamltree.Key, lines []string) (begin, end int) {
	begin = k.Line - 1
	for end = begin + 1; end < len(lines); end++ {
		text := strings.TrimRight(lines[end], "\r\n")
		if rest := strings.TrimLeft(text, " "); rest != "" && len(text)-len(rest) < k.Column {
			break
		}
	}
	for end > begin+1 && strings.TrimSpace(lines[end-1]) == "" {
		end--
	}
	return begin, end
}

// raiseRegistry moves stylus.site.registryCredentials to stylus.
func raiseRegistry(root *yamltree.Node, lines []string) []string {
	stylus := root.Get("stylus")
	site := key(stylus, "site", lines)
	if site == nil || stylus.Get("registryCredentials") != nil {
		return nil
	}
	creds := key(site.Value, "registryCredentials", lines)
	if creds == nil {
		return nil
	}
	begin, end := extent(creds, lines)
	shift := strings.Repeat(" ", creds.Column-site.Column)
	var moved []string
	for _, line := range lines[begin:end] {
		moved = append(moved, strings.TrimPrefix(line, shift))
	}
	rest := slices.Delete(slices.Clone(lines), begin, end)
	return slices.Insert(rest, site.Line-1, moved...)
}

// nameInterface moves the flat keys of stylus.site.network below
// interfaces.NIC, with the mask as the prefix of the address.
func nameInterface(root *yamltree.Node, lines []string, nic string) []string {
	network := root.Get("stylus", "site", "network")
	first := key(network, "type", lines)
	if nic == "" || first == nil || network.Get("interfaces") != nil {
		return nil
	}
	indent := strings.Repeat(" ", first.Column-1)
	block := []string{indent + "interfaces:\n", fmt.Sprintf("%s  %s:\n", indent, nic)}
	drop := map[int]bool{}
	for _, name := range []string{"type", "ipAddress", "mask", "gateway"} {
		k := key(network, name, lines)
		if k == nil {
			if network.Get(name) != nil {
				return nil // it is not on a line of its own
			}
			continue
		}
		drop[k.Line-1] = true
		line := lines[k.Line-1]
		switch mask := textOf(network.Get("mask")); {
		case name == "mask":
			continue
		case name == "ipAddress" && mask != "" && !strings.Contains(k.Value.Text, "/"):
			p, problem := Prefix(k.Value.Text, mask)
			if problem != "" {
				return nil
			}
			line = fmt.Sprintf("%sipAddress: %v\n", indent, p)
		}
		block = append(block, "    "+line)
	}
	var out []string
	for i, line := range lines {
		if i == first.Line-1 {
			out = append(out, block...)
		}
		if !drop[i] {
			out = append(out, line)
		}
	}
	return out
}
