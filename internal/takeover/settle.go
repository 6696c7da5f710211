package takeover

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bootd/internal/config"
	"bootd/internal/dnsmasq"
)

// settle takes out what bootd's rules refuse, and notes it in their words, until
// nothing is left that they do.
func (p *Plan) settle(rules []config.Option) error {
	for {
		cfg, err := config.Parse("the configuration that was made", p.YAML(), rules...)
		p.Result = cfg
		var faults config.Faults
		if !errors.As(err, &faults) {
			if p.unused() {
				continue
			}
			return err
		}
		if !p.refuse(faults) {
			return err // which is a mistake of ours
		}
	}
}

// unused takes out the classes that say nothing and that no pool is for, since
// bootd refused what they were for. It reports whether there were any.
func (p *Plan) unused() bool {
	n := len(p.classes)
	p.classes = slices.DeleteFunc(p.classes, func(e *entry) bool {
		pool := slices.ContainsFunc(p.subnets, func(s *subnet) bool {
			f := s.get("pools")
			return f != nil && slices.ContainsFunc(f.items, func(it *item) bool { return strings.HasSuffix(it.text, " for "+e.value("name")) })
		})
		return e.get("options") == nil && !pool
	})
	return len(p.classes) < n
}

// refuse marks what the faults are of, before any of it goes and others take
// its number. It reports whether there was anything.
func (p *Plan) refuse(faults config.Faults) (any bool) {
	for _, f := range faults {
		if lines, ok := p.mark(f.Place); ok {
			any = true
			p.note("bootd refuses it: "+f.Problem, lines...)
		}
	}
	for _, e := range p.entries() {
		e.sweep()
	}
	p.subnets = kept(p.subnets, func(s *subnet) *entry { return &s.entry })
	p.classes = kept(p.classes, func(e *entry) *entry { return e })
	p.roles = kept(p.roles, func(e *entry) *entry { return e })
	p.nodes = kept(p.nodes, func(m *machine) *entry { return &m.entry })
	return any
}

// kept returns the items that are not refused, nor left without what they
// cannot be without.
func kept[T any](list []T, of func(T) *entry) (out []T) {
	for _, it := range list {
		if e := of(it); !e.gone && (e.get("role") == nil || e.get("macs") != nil) {
			out = append(out, it)
		}
	}
	return out
}

func (p *Plan) entries() []*entry {
	list := []*entry{&p.top}
	for _, s := range p.subnets {
		list = append(list, &s.entry)
	}
	list = append(append(list, p.classes...), p.roles...)
	for _, m := range p.nodes {
		list = append(list, &m.entry)
	}
	return list
}

// placeRule is the place of a fault: nodes[3] "ncn-w003": macs[1].
var placeRule = regexp.MustCompile(`^(\w+)\[(\d+)\](?: ".*?")?(?:: ([a-z0-9-]+)(?:\[(\d+)\])?)?(?:: |$)`)

// required are keys without which an item of a list is nothing.
var required = map[string]bool{"name": true, "role": true, "interface": true, "subnet": true, "dir": true}

// mark marks the value at a place, or what cannot be without it, as refused,
// and returns the lines that it comes from.
func (p *Plan) mark(place string) ([]dnsmasq.Line, bool) {
	m := placeRule.FindStringSubmatch(place)
	if m == nil {
		if f := p.top.get(place); f != nil {
			return markAll(f)
		}
		return nil, false
	}
	e := p.at(m[1], m[2])
	if e == nil || e.gone {
		return nil, e != nil
	}
	f := e.get(m[3])
	if f == nil || required[m[3]] {
		e.gone = true
		return e.from(), true
	}
	if i, err := strconv.Atoi(m[4]); err == nil && i < len(f.items) {
		f.items[i].gone = true
		return f.items[i].from, true
	}
	if f.list { // of a list that is too long, the last goes
		last := f.items[len(f.items)-1]
		last.gone = true
		return last.from, true
	}
	return markAll(f)
}

func markAll(f *field) (lines []dnsmasq.Line, ok bool) {
	for _, it := range f.items {
		it.gone = true
		lines = append(lines, it.from...)
	}
	return lines, true
}

// at returns an item of a list.
func (p *Plan) at(list, index string) *entry {
	i, err := strconv.Atoi(index)
	if err != nil {
		return nil
	}
	switch {
	case list == "subnets" && i < len(p.subnets):
		return &p.subnets[i].entry
	case list == "classes" && i < len(p.classes):
		return p.classes[i]
	case list == "roles" && i < len(p.roles):
		return p.roles[i]
	case list == "nodes" && i < len(p.nodes):
		return &p.nodes[i].entry
	}
	return nil
}
