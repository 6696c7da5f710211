package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"bootd/internal/node"
)

// A Sign is something seen of a node, or an administrator's word, that may move
// its record.
type Sign struct {
	Kind   SignKind
	Detail string    // for people: why it failed, who holds it
	Boot   BootState // for AgentJoined and Beat; empty: not known
	Wipe   bool      // for ToArm: the disks are to be wiped
	Again  bool      // for ToArm: even while it installs
	Load   int       // for Loaded and NotLoaded: Record.Installs when Loading was taken
}

// A SignKind is what a Sign tells.
type SignKind uint8

// The kinds of signs.
const (
	KernelSent  SignKind = iota // the kernel of what it was told to boot was sent to it
	SystemRuns                  // what it was told to boot runs: it fetched its root file system or a document
	Loading                     // an installer that is nothing but kernel and initrd begins to be sent to it
	Loaded                      // that was sent to its end: nothing else shows that it runs
	NotLoaded                   // it was not
	NotStarted                  // its loader says that it did not start what it loaded
	SiteGiven                   // its site data was given out
	SaidDone                    // the installer says that it is through
	SaidBooted                  // the system says that it runs
	SaidJoined                  // the system says that it registered where it belongs
	AgentJoined                 // the agent of a system registered with us
	Beat                        // a heartbeat
	SaidFailed                  // the node says that it failed
	Validated                   // everything its role expects of it was found
	Invalidated                 // something was not
	PowerOff                    // its BMC says that it is off
	Overdue                     // time has passed; nothing else
	ToArm                       // an administrator's word, as the following
	ToDisarm
	ToHold
	ToResume
)

// Rules are how the role of a node wants its deployment to go.
type Rules struct {
	Install *node.Install // nil: it boots its release each time
	Loop    int           // boots within LoopTime without a check-in before the node is held; 0: never
}

// LoopTime is the time within which boots count for the loop detector.
const LoopTime = time.Hour

// RulesOf returns the rules of a role.
func RulesOf(r node.Role) Rules { return Rules{Install: r.Install, Loop: r.LoopLimit} }

// ErrNotNow is returned when a sign does not fit the phase that the node is in.
var ErrNotNow = errors.New("not now")

// notNow says what phase a node would have to be in.
func (r Record) notNow(want string) error {
	return fmt.Errorf("%w: the node is %v, not %s", ErrNotNow, r.Phase, want)
}

// After returns the record after a sign. One that changes nothing, as when a
// node repeats itself, is no error. After is pure.
func (r Record) After(now time.Time, s Sign, rules Rules) (Record, error) {
	switch s.Kind {
	case KernelSent:
		r.Sent = true
	case SystemRuns:
		return r.runs(rules), nil
	case Loading, Loaded, NotLoaded, NotStarted:
		return r.loads(s, rules), nil
	case SiteGiven:
		if r.Phase == Installed {
			deadline := r.Deadline
			r = r.to(now, Configuring, "site data was given out")
			r.Deadline = deadline
		}
	case SaidDone:
		return r.done(now, "the installer said so", rules)
	case PowerOff:
		if r.Phase != Installing || !r.Running || rules.Install == nil || rules.Install.Done != node.DonePowerOff {
			return r, nil
		}
		return r.done(now, "its BMC says that it is off", rules)
	case SaidBooted, SaidJoined, Validated, Invalidated:
		return r.says(now, s, rules), nil
	case AgentJoined:
		return r.agent(now, s, rules), nil
	case Beat:
		return r.beats(now, s, rules), nil
	case SaidFailed:
		if r.old(rules) {
			return r, nil
		}
		return r.fail(now, "the node said: "+cmp.Or(s.Detail, "nothing more")), nil
	case Overdue:
		return r.overdue(now, rules), nil
	default:
		return r.command(now, s, rules)
	}
	return r, nil
}

// runs takes note that what was given out last runs. A wipe that was armed for
// a system booted from the network is over with that boot, see Comes.
func (r Record) runs(rules Rules) Record {
	r.Running = r.Running || rules.Install != nil && r.Installing() || rules.Install == nil && r.Wipe && r.Boots > 0
	return r
}

// loads takes note of how far a node has an installer that nothing but its
// loading shows. While it is under way a node that asks again has not run it: it
// would have all of it. After a crash nobody knows, see recovered. What began
// before the node was armed anew says nothing of what it is told since.
func (r Record) loads(s Sign, rules Rules) Record {
	switch {
	case rules.Install == nil || !r.Installing():
	case s.Kind == Loading:
		r.Loads++
	case s.Kind == NotStarted:
		r.Running = false
	case s.Load != r.Installs:
	default:
		if r.Loads = max(0, r.Loads-1); s.Kind == Loaded {
			r = r.runs(rules)
		}
	}
	return r
}

// recovered returns a record as it counts after a crash: what was being sent
// may have arrived as a whole, and may run.
func (r Record) recovered() Record {
	r.Running = r.Running || r.Loads > 0 && r.Installing()
	r.Loads = 0
	return r
}

// done ends an installation. A node that was given up is not lost: late is
// better than never. An armed node was installed from another medium.
func (r Record) done(now time.Time, reason string, rules Rules) (Record, error) {
	if rules.Install == nil {
		return r, fmt.Errorf("%w: its role installs nothing", ErrNotNow)
	}
	is := mark{Installed, reason, now.Add(rules.Install.CheckIn)}
	switch {
	case r.Phase == Held && (r.Unheld.Phase == Installing || r.Unheld.Phase == Armed):
		r.Unheld = is
	case r.Phase == Failed && r.From == Installing, r.Phase == Installing, r.Phase == Armed:
		r = r.back(now, is)
	case r.Phase.onDisk(), r.Phase == Held && r.Unheld.Phase.onDisk():
		return r, nil
	default:
		return r, r.notNow("installing")
	}
	r.Wipe, r.Running, r.Boots, r.Unarmed = false, false, 0, mark{}
	return r, nil
}

// old reports whether it is the system of before that speaks: what the node is
// armed for was not given out yet.
func (r Record) old(rules Rules) bool {
	armed := r.Phase == Armed || r.Phase == Held && r.Unheld.Phase == Armed
	return armed && (rules.Install != nil || r.Boots == 0)
}

// says takes what the running system says of itself.
//
// It ends an installation even where the installer was never seen running. Then
// it is either what an installer made that fetched nothing from us, or the system
// of before, because the installer did not start. Nobody can tell which, and a
// disk that is in use is not written: an order that is lost costs another one,
// an installer that is given out again costs the system. The reason says so.
func (r Record) says(now time.Time, s Sign, rules Rules) Record {
	if r.old(rules) {
		return r
	}
	reached := map[SignKind]Phase{SaidBooted: CheckedIn, SaidJoined: Registered, Validated: Ready, Invalidated: Failed}[s.Kind]
	if reached != Failed && reached >= rules.ready() {
		reached = Ready
	}
	why := cmp.Or(s.Detail, map[SignKind]string{SaidBooted: "the system checked in", SaidJoined: "the system said that it registered", Validated: "all checks passed"}[s.Kind])
	if rules.Install != nil && r.Installing() && !r.Running {
		why += ", and its installer was never seen running: if it is the system of before, arm the node again"
	}
	r.Boots = 0
	switch {
	case reached == Failed:
		return r.fail(now, cmp.Or(s.Detail, "it is not as its role expects"))
	case r.Phase == Held:
		r.Unheld = mark{Phase: reached, Reason: why}
	case r.Phase.onDisk() && r.Phase >= reached && r.Phase <= Ready:
		return r
	default:
		r = r.to(now, reached, why)
	}
	r.Wipe, r.Running, r.Unarmed = false, false, mark{}
	return r
}

// ready is the phase that counts as Ready.
func (rules Rules) ready() Phase {
	if rules.Install == nil {
		return CheckedIn
	}
	return [...]Phase{node.ReadyCheckedIn: CheckedIn, node.ReadyRegistered: Registered, node.ReadyValidated: Ready}[rules.Install.Ready]
}

// fail gives a node up, for the first reason there is.
func (r Record) fail(now time.Time, reason string) Record {
	switch r.Phase {
	case Failed:
		return r
	case Held:
		return r
	}
	return r.to(now, Failed, reason)
}

// overdue gives up a node whose time is over.
func (r Record) overdue(now time.Time, rules Rules) Record {
	if r.Deadline.IsZero() || now.Before(r.Deadline) || rules.Install == nil {
		return r
	}
	switch {
	case r.Phase != Installing:
		return r.fail(now, fmt.Sprintf("did not check in within %v after the installation", rules.Install.CheckIn))
	case r.Running:
		return r.fail(now, fmt.Sprintf("not installed within %v: its installer ran and said nothing more", rules.Install.Within))
	}
	return r.fail(now, fmt.Sprintf("not installed within %v: its installer was never seen running", rules.Install.Within))
}

// command carries out the word of an administrator.
func (r Record) command(now time.Time, s Sign, rules Rules) (Record, error) {
	switch s.Kind {
	case ToArm:
		return r.arm(now, s, rules)
	case ToDisarm:
		if r.Phase != Armed {
			return r, r.notNow("armed")
		}
		return r.disarm(now), nil
	case ToHold:
		if r.Phase == Held {
			r.Reason = cmp.Or(s.Detail, r.Reason)
			return r, nil
		}
		r.Unheld = r.mark()
		r = r.to(now, Held, cmp.Or(s.Detail, "held by the administrator"))
	case ToResume:
		if r.Phase != Held {
			return r, r.notNow("held")
		}
		r = r.back(now, r.Unheld)
		r.Unheld, r.Boots = mark{}, 0
	default:
		return r, fmt.Errorf("deploy: %d is not a sign", s.Kind)
	}
	return r, nil
}

// disarm goes back to what was before. An installer that was given out then is
// not given out once more.
func (r Record) disarm(now time.Time) Record {
	was := r.Unarmed
	r.Unarmed, r.Wipe = mark{}, false
	if was.Phase == Installing {
		return r.fail(now, "disarmed, after its installer had been given out")
	}
	return r.back(now, was)
}

func (r Record) arm(now time.Time, s Sign, rules Rules) (Record, error) {
	switch {
	case r.Phase == Held:
		return r, fmt.Errorf("%w: the node is held: %s", ErrNotNow, r.Reason)
	case r.Phase == Installing && !s.Again:
		return r, fmt.Errorf("%w: the node installs since %s", ErrNotNow, r.Since.Format(time.TimeOnly))
	case rules.Install == nil && !s.Wipe:
		return r, fmt.Errorf("%w: its role boots from the network each time: there is nothing to arm but a wipe", ErrNotNow)
	case r.Phase == Armed && r.Wipe == s.Wipe:
		return r, nil
	case r.Phase == Armed:
		r.Wipe = s.Wipe
		return r, nil
	}
	r.Unarmed = r.mark()
	r = r.to(now, Armed, "armed by the administrator")
	r.Wipe, r.Running, r.Boots, r.Sent, r.Loads = s.Wipe, false, 0, false, 0
	return r, nil
}

// Comes returns the record of a node that asks what to boot: it was restarted,
// unless it asks twice. It is the record to decide by.
func (r Record) Comes(now time.Time, rules Rules) Record {
	if rules.Install == nil && r.Wipe && r.Running { // that was the boot that wiped
		if r.Wipe, r.Running = false, false; r.Phase == Armed {
			r = r.to(now, Configuring, "told to wipe, and ran")
			r.Unarmed = mark{}
		}
	}
	switch {
	case r.Phase == Installing && r.Running && rules.Install != nil && rules.Install.Done == node.DoneRestart:
		r, _ = r.done(now, "the installer was seen running, and the machine came back", rules)
	case r.Phase == Installing && r.Running:
		r = r.fail(now, "the installer was seen running, and the machine came back without a word that it is through")
	case r.Phase != Held && r.loops(now, rules):
		since := now.Sub(r.First).Round(time.Second)
		r.Unheld = r.mark()
		r = r.to(now, Held, fmt.Sprintf("loop: it was told %d times within %v what to boot and never checked in", r.Boots, since))
	}
	return r
}

func (r Record) loops(now time.Time, rules Rules) bool {
	return rules.Loop > 0 && r.Boots >= rules.Loop && now.Sub(r.First) < LoopTime && (r.Sent || r.Phase.onDisk())
}

// Given returns the record after a decision was given out. Asking again before
// the kernel was sent is still the same boot.
func (r Record) Given(now time.Time, d Decision, rules Rules) Record {
	boots := d.Action == Boot
	if counts := boots || d.Action == Local && r.SiteOpen(); !counts {
		return r
	}
	if r.Boots == 0 || now.Sub(r.First) >= LoopTime {
		r.Boots, r.First = 1, now
	} else if r.Sent || !boots {
		r.Boots++
	}
	if !boots {
		return r
	}
	r.Sent, r.Release = false, d.Release
	switch {
	case rules.Install != nil && r.Phase == Armed:
		r = r.to(now, Installing, "told to boot the installer")
		r.Deadline = now.Add(rules.Install.Within)
		r.Installs++
	case rules.Install == nil && r.Phase != Configuring && r.Phase != Armed:
		r = r.to(now, Configuring, "told to boot release "+d.Release)
	}
	return r
}
