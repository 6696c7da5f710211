package deploy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
)

var (
	t0       = time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	netboots = deploy.Rules{Loop: 10}
)

func installs(done node.Done, ready node.Ready) deploy.Rules {
	return deploy.Rules{Loop: 10, Install: &node.Install{Done: done, Within: time.Hour, CheckIn: 30 * time.Minute, Ready: ready}}
}

// play carries out words, one after the other, a minute apart, and returns the
// phases that the node came through and the record it ends with. "ask" is a
// machine that asks what to boot, "loaded" the kernel that was sent.
func play(t *testing.T, rules deploy.Rules, script string) (string, deploy.Record) {
	t.Helper()
	signs := map[string]deploy.Sign{
		"loaded": {Kind: deploy.KernelSent}, "runs": {Kind: deploy.SystemRuns}, "site": {Kind: deploy.SiteGiven},
		"done": {Kind: deploy.SaidDone}, "booted": {Kind: deploy.SaidBooted}, "joined": {Kind: deploy.SaidJoined},
		"failed": {Kind: deploy.SaidFailed, Detail: "no disk"}, "valid": {Kind: deploy.Validated}, "invalid": {Kind: deploy.Invalidated, Detail: "bond0 is down"},
		"off": {Kind: deploy.PowerOff}, "arm": {Kind: deploy.ToArm}, "wipe": {Kind: deploy.ToArm, Wipe: true}, "again": {Kind: deploy.ToArm, Again: true},
		"beat": {Kind: deploy.Beat}, "beat-active": {Kind: deploy.Beat, Boot: deploy.Active}, "beat-recovery": {Kind: deploy.Beat, Boot: deploy.Recovery},
		"active": {Kind: deploy.AgentJoined, Boot: deploy.Active}, "passive": {Kind: deploy.AgentJoined, Boot: deploy.Passive},
		"recovery": {Kind: deploy.AgentJoined, Boot: deploy.Recovery}, "livecd": {Kind: deploy.AgentJoined, Boot: deploy.LiveCD}, "agent": {Kind: deploy.AgentJoined, Boot: deploy.BootUnknown},
		"loading": {Kind: deploy.Loading}, "all": {Kind: deploy.Loaded}, "cut": {Kind: deploy.NotLoaded}, "refused": {Kind: deploy.NotStarted},
		"disarm": {Kind: deploy.ToDisarm}, "hold": {Kind: deploy.ToHold, Detail: "rack is hot"}, "resume": {Kind: deploy.ToResume},
	}
	role := node.Role{Name: "edge", Install: rules.Install, LoopLimit: rules.Loop}
	var r deploy.Record
	var trace []string
	now, load := t0, 0
	for word := range strings.FieldsSeq(script) {
		now = now.Add(time.Minute)
		said := ""
		switch {
		case word == "ask":
			r = r.Comes(now, rules)
			d := deploy.Decide(&node.Node{Name: "n", Role: "edge"}, role, deploy.Observation{Dir: good, Record: r})
			r = r.Given(now, d, rules)
			if said = d.Action.String(); d.Install {
				said = "install"
			}
			if d.Wipe {
				said += "+wipe"
			}
		case strings.HasPrefix(word, "+"):
			d, err := time.ParseDuration(word[1:])
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(d)
			r, _ = r.After(now, deploy.Sign{Kind: deploy.Overdue}, rules)
		default:
			sign := signs[word]
			sign.Load = load
			next, err := r.After(now, sign, rules)
			if sign.Kind == deploy.Loading {
				load = next.Installs
			}
			if errors.Is(err, deploy.ErrNotNow) {
				said = "refused"
			} else if err != nil {
				t.Fatal(err)
			}
			r = next
		}
		trace = append(trace, strings.TrimSuffix(fmt.Sprintf("%v:%s", r.Phase, said), ":"))
	}
	return strings.Join(trace, " "), r
}

// The stories of docs/deployment.md, and what goes wrong in them.
func TestRecord(t *testing.T) {
	callback, restart := installs(node.DoneCallback, node.ReadyCheckedIn), installs(node.DoneRestart, node.ReadyCheckedIn)
	for _, tt := range []struct {
		name         string
		rules        deploy.Rules
		script, want string
		reason       string // of the last record
	}{
		{"two stages", installs(node.DoneCallback, node.ReadyValidated), "ask arm ask loaded runs done ask site booted joined valid ask",
			"inventory:local armed installing:install installing installing installed installed:local configuring checked-in registered ready ready:local", "all checks passed"},
		{"ready when it checked in", callback, "arm ask runs done booted joined", "armed installing:install installing installed ready ready", "the system checked in"},
		{"ready when it registered", installs(node.DoneCallback, node.ReadyRegistered), "arm ask runs done booted joined",
			"armed installing:install installing installed checked-in ready", "the system said that it registered"},
		{"a cable was pulled before the installer ran", callback, "arm ask loaded ask loaded ask", "armed installing:install installing installing:install installing installing:install", "told to boot the installer"},
		{"the installer comes back without a word", callback, "arm ask runs ask ask", "armed installing:install installing failed:hold failed:hold", "the installer was seen running, and the machine came back without a word that it is through"},
		{"coming back is its word", restart, "arm ask runs ask", "armed installing:install installing installed:local", "the installer was seen running, and the machine came back"},
		{"it never ran, so coming back is no word", restart, "arm ask ask", "armed installing:install installing:install", "told to boot the installer"},
		{"nothing but an initrd: sent to its end, it runs", restart, "arm ask loaded loading all ask", "armed installing:install installing installing installing installed:local", "the installer was seen running, and the machine came back"},
		{"nothing but an initrd, and a callback that does not come", callback, "arm ask loading all ask ask", "armed installing:install installing installing failed:hold failed:hold", "the installer was seen running, and the machine came back without a word that it is through"},
		{"nothing but an initrd, and power-off", installs(node.DonePowerOff, node.ReadyCheckedIn), "arm ask loading off all off", "armed installing:install installing installing installing installed", "its BMC says that it is off"},
		{"nothing but an initrd, cut off, so coming back is no word", restart, "arm ask loading cut ask loading all ask", "armed installing:install installing installing installing:install installing installing installed:local", "the installer was seen running, and the machine came back"},
		{"nothing but an initrd, and the cable was pulled", restart, "arm ask loading ask cut ask", "armed installing:install installing installing:install installing installing:install", "told to boot the installer"},
		{"nothing but an initrd, which its loader does not start", restart, "arm ask loading all refused ask", "armed installing:install installing installing installing installing:install", "told to boot the installer"},
		{"an initrd that was sent before the node was armed anew", restart, "arm ask loading again ask all ask", "armed installing:install installing armed installing:install installing installing:install", "told to boot the installer"},
		{"netboot: an initrd says nothing", netboots, "ask loading all refused booted ask", "configuring:boot configuring configuring configuring ready configuring:boot", "told to boot release 1.2.3"},
		{"power-off", installs(node.DonePowerOff, node.ReadyCheckedIn), "arm ask off runs off", "armed installing:install installing installing installed", "its BMC says that it is off"},
		{"power-off is no word where a callback is", callback, "arm ask runs off", "armed installing:install installing installing", "told to boot the installer"},
		{"late word", callback, "arm ask runs +2h done ask", "armed installing:install installing failed installed installed:local", "the installer said so"},
		{"overdue", callback, "arm ask +30m +31m ask", "armed installing:install installing failed failed:hold", "not installed within 1h0m0s: its installer was never seen running"},
		{"overdue while it ran", callback, "arm ask runs +2h", "armed installing:install installing failed", "not installed within 1h0m0s: its installer ran and said nothing more"},
		{"first boot overdue boots its disk all the same", callback, "arm ask runs done +2h ask booted", "armed installing:install installing installed failed failed:local ready", "the system checked in"},
		{"site data does not extend the deadline", callback, "arm ask runs done +20m site +11m", "armed installing:install installing installed installed configuring failed", "did not check in within 30m0s after the installation"},
		{"the node failed", callback, "arm ask runs failed ask arm ask", "armed installing:install installing failed failed:hold armed installing:install", "told to boot the installer"},
		{"the first reason counts", callback, "arm ask runs failed invalid", "armed installing:install installing failed failed", "the node said: no disk"},
		{"a system that runs is not written over, whichever it is", callback, "arm ask loaded booted ask", "armed installing:install installing ready ready:local",
			"the system checked in, and its installer was never seen running: if it is the system of before, arm the node again"},
		{"the same while it is held", callback, "arm ask hold joined resume ask", "armed installing:install held held ready ready:local",
			"the system said that it registered, and its installer was never seen running: if it is the system of before, arm the node again"},
		{"a system whose installer ran", callback, "arm ask runs booted ask", "armed installing:install installing ready ready:local", "the system checked in"},
		{"said twice", callback, "arm ask runs done done booted booted", "armed installing:install installing installed installed ready ready", "the system checked in"},
		{"said out of turn", callback, "done arm done ask done", "inventory:refused armed installed installed:local installed", "the installer said so"},
		{"the old system checks in while it is armed", callback, "booted arm booted ask", "ready armed armed installing:install", "told to boot the installer"},
		{"disarmed", callback, "booted arm disarm ask disarm", "ready armed ready ready:local ready:refused", "the system checked in"},
		{"not disarmed once it installs", callback, "arm ask disarm", "armed installing:install installing:refused", "told to boot the installer"},
		{"not armed while it installs", callback, "arm ask arm again ask", "armed installing:install installing:refused armed installing:install", "told to boot the installer"},
		{"held", callback, "arm hold ask arm resume ask", "armed held held:hold held:refused armed installing:install", "told to boot the installer"},
		{"held while it installs", callback, "arm ask runs hold ask done resume ask", "armed installing:install installing held held:hold held installed installed:local", "the installer said so"},
		{"held, and its installer is never given twice", callback, "arm ask runs hold resume ask", "armed installing:install installing held installing failed:hold", "the installer was seen running, and the machine came back without a word that it is through"},
		{"held while armed, and disarmed", callback, "booted arm hold resume disarm ask", "ready armed held armed ready ready:local", "the system checked in"},
		{"armed and disarmed after a failure", callback, "arm ask runs failed arm disarm ask", "armed installing:install installing failed armed failed failed:hold", "the node said: no disk"},
		{"a failed check, held and resumed, boots its disk", installs(node.DoneCallback, node.ReadyValidated), "arm ask runs done invalid hold resume ask", "armed installing:install installing installed failed held failed failed:local", "bond0 is down"},
		{"a failed check, armed and disarmed, boots its disk", installs(node.DoneCallback, node.ReadyValidated), "arm ask runs done invalid arm disarm ask", "armed installing:install installing installed failed armed failed failed:local", "bond0 is down"},
		{"the old system fails while it is armed", callback, "booted arm failed ask", "ready armed armed installing:install", "told to boot the installer"},
		{"the installer runs while it is held", restart, "arm ask loaded hold runs ask resume ask", "armed installing:install installing held held held:hold installing installed:local", "the installer was seen running, and the machine came back"},
		{"the deadline outlives a hold", callback, "arm ask runs hold resume +2h", "armed installing:install installing held installing failed", "not installed within 1h0m0s: its installer ran and said nothing more"},
		{"a wipe ends with an installation that ends while held", callback, "wipe ask runs hold done resume arm ask", "armed installing:install+wipe installing held held installed armed installing:install", "told to boot the installer"},
		{"armed anew while it installs, and disarmed", callback, "arm ask again disarm ask", "armed installing:install armed failed failed:hold", "disarmed, after its installer had been given out"},
		{"resume what is not held", callback, "resume", "inventory:refused", ""},
		{"wipe, once", callback, "wipe ask ask runs done arm ask", "armed installing:install+wipe installing:install+wipe installing installed armed installing:install", "told to boot the installer"},
		{"a check failed", installs(node.DoneCallback, node.ReadyValidated), "arm ask runs done booted invalid ask valid", "armed installing:install installing installed checked-in failed failed:local ready", "all checks passed"},

		{"the agent of what was installed", callback, "arm ask livecd done active beat", "armed installing:install installing installed ready ready", "the system checked in"},
		{"the agent of the installer is no check-in", restart, "arm ask livecd beat ask", "armed installing:install installing installing installed:local", "the installer was seen running, and the machine came back"},
		{"an agent that does not say whose it is", restart, "arm ask agent ask done agent", "armed installing:install installing installing:install installed ready", "the system checked in"},
		{"the passive system is one too", callback, "arm ask runs done passive", "armed installing:install installing installed ready", "the system checked in"},
		{"the recovery system is none", callback, "arm ask runs done recovery beat-recovery", "armed installing:install installing installed installed installed", "the installer said so"},
		{"an agent that registered before the node was installed anew", callback, "arm ask runs done site beat beat-active", "armed installing:install installing installed configuring configuring ready", "the system checked in"},
		{"heartbeats of an installer", callback, "arm ask runs beat done beat", "armed installing:install installing installing installed installed", "the installer said so"},
		{"heartbeats of what failed", callback, "arm ask runs done active invalid beat-active", "armed installing:install installing installed ready failed failed", "bond0 is down"},

		{"netboot: heartbeats say that it runs", netboots, "beat ask beat-recovery beat", "inventory configuring:boot configuring ready", "the system checked in"},
		{"netboot: agent", netboots, "ask livecd", "configuring:boot ready", "the system checked in"},
		{"netboot", netboots, "ask loaded runs booted ask loaded runs booted", "configuring:boot configuring configuring ready configuring:boot configuring configuring ready", "the system checked in"},
		{"netboot: a failure is tried again", netboots, "ask loaded failed ask booted", "configuring:boot configuring failed configuring:boot ready", "the system checked in"},
		{"netboot: nothing to arm", netboots, "arm ask", "inventory:refused configuring:boot", "told to boot release 1.2.3"},
		{"netboot: wipe, once", netboots, "runs wipe runs ask loaded ask loaded runs ask booted", "inventory armed armed armed:boot+wipe armed armed:boot+wipe armed armed configuring:boot ready", "the system checked in"},
		{"netboot: a wipe is over when it is held meanwhile", netboots, "wipe ask loaded hold runs booted resume ask", "armed armed:boot+wipe armed held held held ready configuring:boot", "told to boot release 1.2.3"},
		{"netboot: a wipe is over when it fails each time", netboots, "wipe ask loaded runs failed ask loaded runs failed ask", "armed armed:boot+wipe armed armed failed configuring:boot configuring configuring failed configuring:boot", "told to boot release 1.2.3"},
		{"netboot: the old system ends no wipe", netboots, "wipe booted failed ask", "armed armed armed armed:boot+wipe", "armed by the administrator"},
		{"netboot: hold", netboots, "hold ask booted resume ask", "held held:hold held ready configuring:boot", "told to boot release 1.2.3"},
		{"netboot: installed is no word of it", netboots, "ask done", "configuring:boot configuring:refused", "told to boot release 1.2.3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, r := play(t, tt.rules, tt.script)
			if got != tt.want || r.Reason != tt.reason {
				t.Errorf("%s:\ngot  %s because %q\nwant %s because %q", tt.script, got, r.Reason, tt.want, tt.reason)
			}
		})
	}
}

// A node that boots again and again is held; one that asks again because the
// server was busy is not, nor one that checks in each time, or once an hour.
func TestLoop(t *testing.T) {
	boots := func(n int, s string) string { return strings.TrimSpace(strings.Repeat(s+" ", n)) }
	disk := installs(node.DoneCallback, node.ReadyCheckedIn)
	for _, tt := range []struct {
		name   string
		rules  deploy.Rules
		script string
		want   deploy.Phase
		reason string
	}{
		{"ten boots", netboots, boots(10, "ask loaded"), deploy.Configuring, "told to boot release 1.2.3"},
		{"the eleventh", netboots, boots(11, "ask loaded"), deploy.Held, "loop: it was told 10 times within 20m0s what to boot and never checked in"},
		{"no limit", deploy.Rules{}, boots(50, "ask loaded"), deploy.Configuring, "told to boot release 1.2.3"},
		{"asks again", netboots, boots(50, "ask"), deploy.Configuring, "told to boot release 1.2.3"},
		{"checks in", netboots, boots(50, "ask loaded booted"), deploy.Ready, "the system checked in"},
		{"slowly", netboots, boots(50, "ask loaded +10m"), deploy.Configuring, "told to boot release 1.2.3"},
		{"resumed", netboots, boots(11, "ask loaded") + " resume ask", deploy.Configuring, "told to boot release 1.2.3"},
		{"an installer that never runs", disk, "arm " + boots(11, "ask loaded"), deploy.Held, "loop: it was told 10 times within 20m0s what to boot and never checked in"},
		{"a disk that does not boot", disk, "arm ask runs done " + boots(11, "ask"), deploy.Held, "loop: it was told 10 times within 10m0s what to boot and never checked in"},
		{"a system that restarts often", disk, "arm ask runs done booted " + boots(50, "ask"), deploy.Ready, "the system checked in"},
		{"restarts before it was ever installed", disk, boots(50, "ask"), deploy.Inventory, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if trace, r := play(t, tt.rules, tt.script); r.Phase != tt.want || r.Reason != tt.reason {
				t.Errorf("got %v because %q, want %v because %q\n%s", r.Phase, r.Reason, tt.want, tt.reason, trace)
			}
		})
	}
}

// Silence counts while a system runs that sends heartbeats, and no longer than
// until another is on its way.
func TestBeats(t *testing.T) {
	disk := installs(node.DoneCallback, node.ReadyCheckedIn)
	for _, tt := range []struct {
		rules  deploy.Rules
		script string
		want   bool
	}{
		{netboots, "booted", false},
		{netboots, "beat", true},
		{netboots, "ask booted beat", true},
		{netboots, "ask booted beat ask", false},
		{netboots, "ask booted beat ask beat", true},
		{disk, "booted beat arm", true},
		{disk, "booted beat arm ask", false},
		{disk, "booted beat arm ask runs beat done beat", false},
		{disk, "booted beat arm ask runs done booted", false},
		{disk, "booted beat ask", true},
		{disk, "booted beat hold", true},
	} {
		if _, r := play(t, tt.rules, tt.script); r.Beats != tt.want {
			t.Errorf("%s: sends heartbeats: got %v, want %v", tt.script, r.Beats, tt.want)
		}
	}
}
