package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bootctl": main, replaced: main})
}

// TestScripts runs testdata/*.txtar. They know three more commands, of which
// one wants an exit status (status 3 bootctl set-links) and the others are in
// daemon_test.go, and one more condition: [root].
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status, "daemon": daemonCmd, "golden": goldenCmd},
		Condition:           condition,
	})
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		got = ee.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status: got %d, want %d", got, want)
	}
}

// condition knows [root], and [peer:NAME] for a program that we did not write.
// Where CI requires it, both hold, and a line that needs what is missing then
// fails instead of being skipped.
func condition(cond string) (bool, error) {
	required := os.Getenv("BOOT_REQUIRE") != ""
	if name, ok := strings.CutPrefix(cond, "peer:"); ok {
		_, err := exec.LookPath(name)
		return err == nil || required, nil
	}
	if cond != "root" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	return os.Geteuid() == 0 || required, nil
}
