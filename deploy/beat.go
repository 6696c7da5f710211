package deploy

import (
	"sync"
	"time"
)

// SilentAfter is how long a system that sends heartbeats may be silent before
// that is trouble: ten heartbeats at the usual one each 30 s.
const SilentAfter = 5 * time.Minute

// A BootState is which of its systems a node with an A/B layout runs, in the
// words of Kairos' agent (kairos-io/kairos, agent/internal/phonehome/bootstate.go).
type BootState string

// The boot states.
const (
	Active      BootState = "active"    // the system it should run
	Passive     BootState = "passive"   // the one before, since the active one did not start
	Recovery    BootState = "recovery"  // the recovery system
	AutoReset   BootState = "autoreset" // the recovery system, about to reset the node
	LiveCD      BootState = "livecd"    // from the network or a CD: the installer, where its role installs
	BootUnknown BootState = "unknown"   // it does not know, or an agent that does not say
)

// ParseBootState reads the word of an agent. What is no word of theirs is
// BootUnknown, never Active: that would hide a node that is broken.
func ParseBootState(s string) BootState {
	switch b := BootState(s); b {
	case Active, Passive, Recovery, AutoReset, LiveCD:
		return b
	}
	return BootUnknown
}

// Runs reports whether it says, without a doubt, that the system runs which a
// node of these rules should run.
func (b BootState) Runs(rules Rules) bool {
	return b == Active || b == Passive || b == LiveCD && rules.Install == nil
}

// agent takes that the agent of the running system registered, which it does
// once after an installation. Which system it is of decides what that says.
func (r Record) agent(now time.Time, s Sign, rules Rules) Record {
	switch {
	case s.Boot == Recovery, s.Boot == AutoReset:
		return r // not the system that its role wants
	case rules.Install == nil:
		return r.says(now, s.booted(), rules)
	case s.Boot == LiveCD:
		return r.runs(rules)
	case s.Boot == BootUnknown && r.Phase == Installing:
		return r // the installer's, or that of the system before it
	}
	return r.says(now, s.booted(), rules)
}

// booted is s as the system's word that it runs.
func (s Sign) booted() Sign { return Sign{Kind: SaidBooted, Detail: s.Detail} }

// beats takes a heartbeat. It is less than a check-in: an installer can send
// them too, and a system that is about to be installed anew. So only where
// there is no doubt it moves a node along: when its role boots from the network
// each time, or the agent says that it is of the installed system. That one
// registers no second time when it is booted anew.
func (r Record) beats(now time.Time, s Sign, rules Rules) Record {
	installed := s.Boot == Active || s.Boot == Passive
	if r.Phase == Configuring && rules.Install == nil && s.Boot != Recovery && s.Boot != AutoReset || r.SiteOpen() && installed {
		r = r.says(now, s.booted(), rules)
	}
	switch r.Phase {
	case Installing, Installed, Configuring: // deadlines tell when these come to nothing
	default:
		r.Beats = true
	}
	return r
}

// A Pulse is when the heartbeats of nodes came last. It is only in memory: a
// site of a thousand nodes sends thirty a second. What a restart must not
// forget, that a node sends them at all, is Record.Beats; silence then counts
// from the restart. Its methods are safe for concurrent use.
type Pulse struct {
	began time.Time

	mu     sync.Mutex // guards the following
	last   map[string]time.Time
	silent map[string]bool // those that Turns told of
}

// NewPulse returns a Pulse that listens from now on.
func NewPulse(now time.Time) *Pulse {
	return &Pulse{began: now, last: map[string]time.Time{}, silent: map[string]bool{}}
}

// Hear takes a heartbeat. Names must be those of nodes: that bounds them.
func (p *Pulse) Hear(now time.Time, node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[node] = now
}

// Forget forgets a node: what has its name from now on is another machine.
func (p *Pulse) Forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, node)
}

// Last returns when a node was heard last; zero: not since we listen.
func (p *Pulse) Last(node string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[node]
}

// Silence returns since when a node that sends heartbeats has been silent; 0
// for one that sends none.
func (p *Pulse) Silence(now time.Time, node string, r Record) time.Duration {
	if !r.Beats {
		return 0
	}
	from := p.Last(node)
	if from.IsZero() {
		from = p.began
	}
	return max(0, now.Sub(from))
}

// A Turn is a node that became silent, or that is heard again.
type Turn struct {
	Node   string
	Silent bool
	For    time.Duration // that it has been silent; only when Silent
}

// Turns returns what has changed since it was called last, for the nodes of an
// inventory, of which record returns the records. What is known of others is
// forgotten.
func (p *Pulse) Turns(now time.Time, nodes []string, record func(string) Record) (turns []Turn) {
	all := make(map[string]bool, len(nodes))
	for _, name := range nodes {
		all[name] = true
		silence := p.Silence(now, name, record(name))
		if is := silence >= SilentAfter; p.turn(name, is) {
			turns = append(turns, Turn{name, is, silence})
		}
	}
	p.keep(all)
	return turns
}

// turn notes whether a node is silent, and reports whether that is new.
func (p *Pulse) turn(name string, silent bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.silent[name]
	if silent {
		p.silent[name] = true
	} else {
		delete(p.silent, name)
	}
	return was != silent
}

// keep forgets all nodes but these.
func (p *Pulse) keep(all map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.last {
		if !all[name] {
			delete(p.last, name)
		}
	}
	for name := range p.silent {
		if !all[name] {
			delete(p.silent, name)
		}
	}
}
