package deploy

import (
	"fmt"
	"time"
)

// A Phase is how far the deployment of a node has come. The zero Phase is
// Inventory.
type Phase uint8

// The phases. A node of a role that installs goes through all of them; one
// that boots from the network each time goes from Configuring to Ready at each
// boot.
const (
	Inventory   Phase = iota // known, nothing asked of it yet
	Armed                    // its next boot installs, or wipes
	Installing               // the installer's script was given out
	Installed                // the installer is through: from now on the local disk
	Configuring              // the system boots, or fetched its site data, and has not checked in
	CheckedIn                // the system said that it runs
	Registered               // the system said that it registered where it belongs
	Ready                    // as its role wants it
	Failed                   // see the reason
	Held                     // waits for an administrator
)

var phases = [...]string{
	Inventory: "inventory", Armed: "armed", Installing: "installing", Installed: "installed", Configuring: "configuring",
	CheckedIn: "checked-in", Registered: "registered", Ready: "ready", Failed: "failed", Held: "held",
}

// Phases returns all phases in their order.
func Phases() []Phase {
	list := make([]Phase, len(phases))
	for i := range list {
		list[i] = Phase(i)
	}
	return list
}

// String returns the word shown to administrators and kept on disk.
func (p Phase) String() string { return phases[p] }

// MarshalText returns the word of String.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the word of String.
func (p *Phase) UnmarshalText(b []byte) error {
	for i, word := range phases {
		if string(b) == word {
			*p = Phase(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a phase", b)
}

// A Record is what is kept of the deployment of one node. The zero Record is
// that of a node nothing was ever seen of.
type Record struct {
	Phase    Phase     `json:"phase"`
	Since    time.Time `json:"since,omitzero"`    // of Phase
	From     Phase     `json:"from,omitzero"`     // the last phase before it that was none of Armed, Failed, Held
	Reason   string    `json:"reason,omitempty"`  // what brought Phase about, for people
	Deadline time.Time `json:"deadline,omitzero"` // by when it has to end; zero: no matter
	Wipe     bool      `json:"wipe,omitempty"`    // the next boot is told to wipe the disks, once
	Release  string    `json:"release,omitempty"` // that was given out last
	Installs int       `json:"installs,omitempty"`
	Running  bool      `json:"running,omitempty"` // what was given out last was seen running
	Loads    int       `json:"loads,omitempty"`   // transfers under way of an installer that is nothing but kernel and initrd
	Beats    bool      `json:"beats,omitempty"`   // the system that runs sends heartbeats

	Unarmed mark `json:"unarmed,omitzero"` // where disarming leads back to
	Unheld  mark `json:"unheld,omitzero"`  // where resuming leads back to, and what moves meanwhile

	// The loop detector: boots that were given out since the last check-in.
	Boots int       `json:"boots,omitempty"`
	First time.Time `json:"first,omitzero"` // when the first of them was
	Sent  bool      `json:"-"`              // the kernel was sent since; forgotten at a restart
}

// SiteOpen reports whether the first boot may fetch its site data: from the
// end of the installation until the system has said that it runs.
func (r Record) SiteOpen() bool { return r.Phase == Installed || r.Phase == Configuring }

// Runs reports whether the system of a node has said that it runs.
func (p Phase) Runs() bool { return p >= CheckedIn && p <= Ready }

// onDisk reports whether there is a system on the local disk that the record
// knows of.
func (p Phase) onDisk() bool { return p >= Installed && p <= Ready }

// A mark is a phase that a record goes back to, with what belongs to it.
type mark struct {
	Phase    Phase     `json:"phase"`
	Reason   string    `json:"reason,omitempty"`
	Deadline time.Time `json:"deadline,omitzero"`
}

func (r Record) mark() mark { return mark{r.Phase, r.Reason, r.Deadline} }

// back returns r in the phase of a mark.
func (r Record) back(now time.Time, m mark) Record {
	r = r.to(now, m.Phase, m.Reason)
	r.Deadline = m.Deadline
	return r
}

// settled reports whether a phase says what is on the disk of a node: the others
// say what is to become of it, or that it waits.
func (p Phase) settled() bool { return p != Armed && p != Failed && p != Held }

// Installing reports whether an installer was given out and is not known to be
// through, whether or not the node is held meanwhile.
func (r Record) Installing() bool {
	return r.Phase == Installing || r.Phase == Held && r.Unheld.Phase == Installing
}

// to returns r in another phase. Everything that belongs to a phase alone
// begins anew.
func (r Record) to(now time.Time, p Phase, reason string) Record {
	switch {
	case p.settled():
		r.From = Inventory
	case r.Phase.settled():
		r.From = r.Phase
	}
	if p == Installing || p == Installed || p == Configuring { // what sent heartbeats is gone
		r.Beats = false
	}
	r.Phase, r.Since, r.Reason, r.Deadline = p, now, reason, time.Time{}
	return r
}
