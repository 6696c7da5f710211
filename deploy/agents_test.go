package deploy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"bootd/deploy"
)

func openAgents(t *testing.T, d *disk) *deploy.Agents {
	t.Helper()
	a, err := deploy.OpenAgents(d)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A key is good for its node, after a restart too, and until the node gets
// another; on disk is nothing that opens anything.
func TestAgents(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s := openAgents(t, d)
	first, err := s.Register(t0, "n1", deploy.Agent{Boot: deploy.Active, Hostname: "edge-01"})
	other, err2 := s.Register(t0, "n2", deploy.Agent{Boot: deploy.LiveCD})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	wantWhose := func(key deploy.Token, want string) {
		t.Helper()
		if got := s.Whose(key.Reveal()); got != want {
			t.Errorf("got the key of %q, want of %q", got, want)
		}
	}
	wantWhose(first, "n1")
	wantWhose(other, "n2")
	if err := s.Heard("n1", deploy.Agent{Boot: deploy.Passive, Version: "v2.27.0"}); err != nil {
		t.Fatal(err)
	}
	s = openAgents(t, d)
	wantWhose(first, "n1")
	if got, want := s.Get("n1"), (deploy.Agent{Since: t0, Boot: deploy.Passive, Hostname: "edge-01", Version: "v2.27.0"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	second, err := s.Register(t0, "n1", deploy.Agent{Boot: deploy.Active})
	if err != nil {
		t.Fatal(err)
	}
	wantWhose(first, "")
	wantWhose(second, "n1")
	for _, wrong := range []string{"", "n1", first.Reveal() + "0", strings.ToUpper(second.Reveal()), "bdt_" + strings.Repeat("0", 32)} {
		if got := s.Whose(wrong); got != "" {
			t.Errorf("%q: got the key of %q, want of nobody", wrong, got)
		}
	}
	if kept := fmt.Sprint(d.records); strings.Contains(kept, strings.TrimPrefix(second.Reveal(), "bdt_")) || strings.Contains(kept, strings.TrimPrefix(first.Reveal(), "bdt_")) {
		t.Errorf("a key is on disk: %s", kept)
	}
}

// What cannot be kept is not given out, and voids nothing.
func TestAgentsFullDisk(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s := openAgents(t, d)
	first, err := s.Register(t0, "n1", deploy.Agent{Boot: deploy.Active})
	if err != nil {
		t.Fatal(err)
	}
	d.fail = errors.New("no space left on device")
	second, err := s.Register(t0, "n1", deploy.Agent{Boot: deploy.LiveCD})
	if err == nil || err.Error() != "agent of n1: no space left on device" {
		t.Errorf("got %v, want that the disk is full", err)
	}
	if s.Whose(first.Reveal()) != "n1" || s.Whose(second.Reveal()) != "" || s.Get("n1").Boot != deploy.Active {
		t.Errorf("got %q, %q, %+v, want n1 with its first key", s.Whose(first.Reveal()), s.Whose(second.Reveal()), s.Get("n1"))
	}
	if err := s.Heard("n1", deploy.Agent{Boot: deploy.Active}); err != nil {
		t.Errorf("nothing new: got %v, want no write", err)
	}
}

// A node that is forgotten has no key, and nothing of it is left.
func TestAgentsForget(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s := openAgents(t, d)
	key, err := s.Register(t0, "n1", deploy.Agent{Boot: deploy.Active})
	if err == nil {
		err = s.Forget("n1")
	}
	if err == nil {
		err = s.Heard("n1", deploy.Agent{Boot: deploy.Passive}) // its last message
	}
	if got := s.Whose(key.Reveal()); err != nil || got != "" || s.Get("n1") != (deploy.Agent{}) || len(d.records) > 0 {
		t.Errorf("got key of %q, %+v, %v, %v, want nothing", got, s.Get("n1"), d.records, err)
	}
}
