package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
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

// condition knows [root]. Where CI requires it, it holds, and a line that
// needs root then fails instead of being skipped.
func condition(cond string) (bool, error) {
	if cond != "root" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	return os.Geteuid() == 0 || os.Getenv("BOOT_REQUIRE") != "", nil
}
