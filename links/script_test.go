package links

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// csmScript has the lines of the script of source 004 that set-sqfs-links.sh
// edits (csm.md 2.2), and some that it must leave alone.
const csmScript = `#!ipxe
# root= is not for comments
set luks-opts rd.luks rd.luks.crypttab=0
set more-opts rd.luks=1 rd.auto=1
set live-sqfs-opts root=live:LABEL=SQFSRAID rd.live.ram=0
kernel ${base-url}/kernel ${live-sqfs-opts} rootfallback=LABEL=BOOTRAID ${luks-opts} || goto failed
`

// sed is what the real script edits with; its expressions are those of csm.md
// 1.6, run by the real sed(1).
func sed(t *testing.T, text string, exprs ...string) string {
	t.Helper()
	args := []string{"-E"}
	for _, e := range exprs {
		args = append(args, "-e", e)
	}
	cmd := exec.Command("sed", args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	must(t, err)
	return string(out)
}

func TestScriptIsWhatSedMakes(t *testing.T) {
	live := func(s string) string { return "s/live-sqfs-opts root/live-sqfs-opts rd.live.dir=" + s + " root/g" }
	relive := func(s string) string { return "s/rd.live.dir=.* root/rd.live.dir=" + s + " root/g" }
	const (
		unlive = "s/rd.live.dir=.* root/root/g"
		luks   = `s/rd.luks(=1)?\s/rd.luks=0 /g`
	)
	old := sed(t, csmScript, live("csm-1.4"))
	for _, tt := range []struct {
		name, master string
		s            Script
		exprs        []string
	}{
		{"as it is", csmScript, Script{}, nil},
		{"release", csmScript, Script{LiveDir: "csm-1.5"}, []string{live("csm-1.5")}},
		{"release, worker", csmScript, Script{LiveDir: "csm-1.5", Args: []string{"rd.luks=0"}}, []string{live("csm-1.5"), luks}},
		{"other release", old, Script{LiveDir: "csm-1.5"}, []string{relive("csm-1.5")}},
		{"release no more", old, Script{}, []string{unlive}},
	} {
		got, want := tt.s.render(tt.master), tt.master
		if tt.exprs != nil {
			want = sed(t, tt.master, tt.exprs...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-sed +ours):\n%s", tt.name, diff)
		}
	}
	if got := (Script{LiveDir: "x"}).render("#!ipxe\nshell\n"); got != "#!ipxe\nshell\n" {
		t.Errorf("without root=: got %q, want it as it is", got)
	}
}

// scripted is a tree whose root has a master.
func scripted(t *testing.T) *Tree {
	t.Helper()
	tree := newTree(t)
	must(t, os.Mkdir(at(tree, "boot"), 0o755))
	write(t, tree, "boot/script.ipxe", csmScript)
	return tree
}

func write(t *testing.T, tree *Tree, name, text string) {
	t.Helper()
	must(t, os.WriteFile(at(tree, name), []byte(text), 0o644))
}

// workers have an argument of their own, as in source 004.
func workers(node string) []string {
	if strings.HasPrefix(node, "ncn-w") {
		return []string{"rd.luks=0"}
	}
	return nil
}

// relink plans and applies as set-links does, and returns the plan.
func relink(t *testing.T, tree *Tree, live string, wanted ...Wanted) Plan {
	t.Helper()
	p, err := tree.Plan(wanted)
	must(t, err)
	p.LiveDir = &live
	must(t, tree.PlanScripts(&p, workers))
	if len(p.Refused) > 0 {
		t.Fatalf("refused: %v", p.Refused)
	}
	done, err := tree.Apply(t.Context(), p)
	must(t, err)
	if len(done) != len(p.Changes) {
		t.Fatalf("done: got %d changes, want %d", len(done), len(p.Changes))
	}
	return p
}

func wantScript(t *testing.T, tree *Tree, node, want string) {
	t.Helper()
	got, err := os.ReadFile(at(tree, node, script))
	must(t, err)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", node, diff)
	}
}

func TestScriptIsCopied(t *testing.T) {
	tree := scripted(t)
	must(t, os.Chmod(at(tree, master), 0o640))
	both := []Wanted{{"ncn-m001", k8s, nil}, {"ncn-w001", k8s, nil}}
	relink(t, tree, "csm-1.5", both...)
	wantScript(t, tree, "ncn-m001", Script{LiveDir: "csm-1.5"}.render(csmScript))
	wantScript(t, tree, "ncn-w001", Script{LiveDir: "csm-1.5", Args: []string{"rd.luks=0"}}.render(csmScript))
	if fi, err := os.Stat(at(tree, "ncn-w001", script)); err != nil || fi.Mode() != 0o640 {
		t.Errorf("mode of the copy: got %v, %v, want that of the master, 0640", fi.Mode(), err)
	}
	if got, err := os.ReadFile(at(tree, master)); err != nil || string(got) != csmScript {
		t.Errorf("master: got %q, %v, want it untouched", got, err)
	}

	// Again: nothing is written.
	before := snapshot(t, tree)
	if p := relink(t, tree, "csm-1.5", both...); len(p.Changes) != 0 || len(p.Edited) != 0 || len(p.Unchanged) != 2 {
		t.Errorf("again: got %+v, want two unchanged", p)
	}
	if diff := cmp.Diff(before, snapshot(t, tree)); diff != "" {
		t.Errorf("again changed the tree (-before +after):\n%s", diff)
	}

	// A new master, and another release: both reach the copies, links or not.
	updated := csmScript + "echo updated\n"
	write(t, tree, master, updated)
	p := relink(t, tree, "csm-1.6", both...)
	if len(p.Changes) != 2 || !slices.Equal(p.Changes[0].Differ(), []string{script}) {
		t.Errorf("new master: got %+v, want that the scripts change and no more", p.Changes)
	}
	wantScript(t, tree, "ncn-m001", Script{LiveDir: "csm-1.6"}.render(updated))
	p = relink(t, tree, "", Wanted{"ncn-m001", next, nil})
	if got := p.Changes[0].Differ(); !slices.Equal(got, []string{Kernel, Initrd, Rootfs, script}) {
		t.Errorf("new release: got %q, want all links and the script", got)
	}
	wantScript(t, tree, "ncn-m001", updated)

	// A copy that was taken away to hold the node comes back.
	must(t, os.Remove(at(tree, "ncn-m001", script)))
	relink(t, tree, "", Wanted{"ncn-m001", next, nil})
	wantScript(t, tree, "ncn-m001", updated)
}

// Defect 9 of table 1.7: edits are overwritten.
func TestEditedScriptSurvives(t *testing.T) {
	tree := scripted(t)
	m001 := Wanted{"ncn-m001", k8s, nil}
	relink(t, tree, "csm-1.5", m001)
	edited := func(live string) string {
		return strings.Replace(Script{LiveDir: live}.render(csmScript), "set more-opts", "set more-opts module_blacklist=rpcrdma", 1)
	}
	write(t, tree, "ncn-m001/script.ipxe", edited("csm-1.5"))
	write(t, tree, master, csmScript+"echo updated\n")
	// Its edits stay whatever is linked, and rd.live.dir, which is not one of
	// them, follows.
	for _, live := range []string{"csm-1.5", "csm-1.6", "", "csm-1.7"} {
		p := relink(t, tree, live, m001)
		if !slices.Equal(p.Edited, []string{"ncn-m001"}) {
			t.Errorf("edited: got %q, want ncn-m001", p.Edited)
		}
		wantScript(t, tree, "ncn-m001", edited(live))
	}
	m001.Set = next
	relink(t, tree, "csm-1.7", m001)
	wantScript(t, tree, "ncn-m001", edited("csm-1.7"))

	// A rd.live.dir of the administrator's own is an edit as any other.
	write(t, tree, "ncn-m001/script.ipxe", edited("mine"))
	relink(t, tree, "csm-1.8", m001)
	wantScript(t, tree, "ncn-m001", edited("mine"))

	// A link in the place of the copy is the administrator's, too.
	must(t, os.Remove(at(tree, "ncn-m001", script)))
	must(t, os.Symlink("../boot/script.ipxe", at(tree, "ncn-m001", script)))
	m001.Set = k8s
	relink(t, tree, "csm-1.9", m001)
	if got, err := os.Readlink(at(tree, "ncn-m001", script)); got != "../boot/script.ipxe" {
		t.Errorf("link: got %q, %v, want it kept", got, err)
	}
}

// An edit that is made while set-links works is not lost either: what counts is
// the copy as it is when the directory is built.
func TestScriptEditedAfterThePlan(t *testing.T) {
	tree := scripted(t)
	relink(t, tree, "csm-1.5", Wanted{"n", k8s, nil})
	p, err := tree.Plan([]Wanted{{"n", next, nil}})
	must(t, err)
	live := "csm-1.6"
	p.LiveDir = &live
	must(t, tree.PlanScripts(&p, workers))
	write(t, tree, "n/script.ipxe", "#!ipxe\nshell\n")
	_, err = tree.Apply(t.Context(), p)
	must(t, err)
	wantScript(t, tree, "n", "#!ipxe\nshell\n")
}

// The first run after set-sqfs-links.sh: its copies are known by what they are,
// edited ones are not, and its CSM_RELEASE is in its master.
func TestScriptsOfTheRealOneAreTakenOver(t *testing.T) {
	tree := scripted(t)
	old := Script{LiveDir: "csm-1.4", Args: []string{"rd.luks=0"}}.render(csmScript)
	edited := strings.Replace(old, "rd.auto=1", "rd.auto=0", 1)
	write(t, tree, master, Script{LiveDir: "csm-1.4"}.render(csmScript))
	for node, text := range map[string]string{"ncn-w001": old, "ncn-w002": edited} {
		must(t, os.Mkdir(at(tree, node), 0o755))
		for name, target := range map[string]string{Kernel: k8s.Kernel, Initrd: k8s.Initrd, Rootfs: k8s.Squashfs} {
			must(t, os.Symlink("../"+target, at(tree, node, name)))
		}
		write(t, tree, node+"/script.ipxe", text)
	}
	both := []Wanted{{"ncn-w001", k8s, nil}, {"ncn-w002", k8s, nil}}
	if p := relink(t, tree, "csm-1.4", both...); len(p.Changes) != 0 || !slices.Equal(p.Edited, []string{"ncn-w002"}) {
		t.Errorf("first run: got %+v, want no change and ncn-w002 edited", p)
	}
	// Known by now, so a new master reaches the copy.
	write(t, tree, master, csmScript+"echo updated\n")
	relink(t, tree, "csm-1.5", both...)
	wantScript(t, tree, "ncn-w001", Script{LiveDir: "csm-1.5", Args: []string{"rd.luks=0"}}.render(csmScript+"echo updated\n"))
	wantScript(t, tree, "ncn-w002", strings.Replace(edited, "csm-1.4", "csm-1.5", 1))
}

// A rollback takes rd.live.dir of the copies back too, and they stay ours.
func TestRollbackOfScripts(t *testing.T) {
	tree := scripted(t)
	relink(t, tree, "csm-1.5", Wanted{"n", k8s, nil}, Wanted{"m", k8s, nil})
	relink(t, tree, "csm-1.6", Wanted{"n", next, nil}, Wanted{"m", k8s, nil})
	write(t, tree, "m/script.ipxe", Script{LiveDir: "csm-1.6"}.render(csmScript)+"# mine\n")
	rollback(t, tree, 1)
	wantScript(t, tree, "n", Script{LiveDir: "csm-1.5"}.render(csmScript))
	wantScript(t, tree, "m", Script{LiveDir: "csm-1.5"}.render(csmScript)+"# mine\n")
	write(t, tree, master, csmScript+"echo updated\n")
	if p := relink(t, tree, "csm-1.5", Wanted{"n", k8s, nil}); len(p.Edited) != 0 {
		t.Errorf("edited: got %q, want none", p.Edited)
	}
	wantScript(t, tree, "n", Script{LiveDir: "csm-1.5"}.render(csmScript+"echo updated\n"))
}

func TestScriptsThatCannotBe(t *testing.T) {
	tree := newTree(t)
	p, err := tree.Plan([]Wanted{{"n", k8s, nil}})
	must(t, err)
	must(t, tree.PlanScripts(&p, workers)) // no master: no copies
	_, err = tree.Apply(t.Context(), p)
	must(t, err)
	if _, err := os.Lstat(at(tree, "n", script)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a master: got %v, want no copy", err)
	}

	must(t, os.MkdirAll(at(tree, master), 0o755))
	if err := tree.PlanScripts(&p, workers); err == nil || err.Error() != "boot/script.ipxe: is not a file" {
		t.Errorf("master is a directory: got %v", err)
	}
	must(t, os.Remove(at(tree, master)))
	must(t, os.Symlink("/etc/passwd", at(tree, master)))
	if err := tree.PlanScripts(&p, workers); err == nil || err.Error() != "openat boot/script.ipxe: path escapes from parent" {
		t.Errorf("master leads away: got %v", err)
	}
	must(t, os.Remove(at(tree, master)))
	write(t, tree, master, strings.Repeat("#", maxScript+1))
	if err := tree.PlanScripts(&p, workers); err == nil || err.Error() != "boot/script.ipxe: has more than 1048576 bytes" {
		t.Errorf("master is too large: got %v", err)
	}

	write(t, tree, master, csmScript)
	write(t, tree, "n/script.ipxe", strings.Repeat("#", maxScript+1))
	p, err = tree.Plan([]Wanted{{"n", next, nil}, {"m", next, nil}})
	must(t, err)
	must(t, tree.PlanScripts(&p, workers))
	if len(p.Changes) != 1 || len(p.Refused) != 1 || p.Refused[0].Err.Error() != `node "n": n/script.ipxe: has more than 1048576 bytes` {
		t.Errorf("copy is too large: got %+v, want only n refused", p)
	}
}

func TestCheckLiveDir(t *testing.T) {
	for dir, want := range map[string]string{
		"": "", "csm-1.5.0-rc.3+x": "",
		"csm/1.5": `"csm/1.5" is not the name of a directory (letters, digits, . _ + -)`,
		"..":      `".." is not the name of a directory (letters, digits, . _ + -)`,
		"a b":     `"a b" is not the name of a directory (letters, digits, . _ + -)`,
	} {
		got := ""
		if err := CheckLiveDir(dir); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", dir, got, want)
		}
	}
}
