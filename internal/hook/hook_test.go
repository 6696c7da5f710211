package hook

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/secret")
	dir := t.TempDir()
	tell := script(t, `echo "$# $*" >> `+dir+`/args; env | sort > `+dir+`/env; nice > `+dir+`/nice; pwd > `+dir+`/pwd; cat > `+dir+`/stdin`)
	var log bytes.Buffer
	r := Runner{Programs: []string{filepath.Join(dir, "missing"), script(t, "echo broken; exit 3"), tell}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	r.Run(t.Context(), Call{Args: []string{"add", "a b", ""}, Env: []string{"X=1"}})
	for name, want := range map[string]string{"args": "3 add a b \n", "nice": "10\n", "pwd": "/\n", "stdin": ""} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v, want %q", name, b, err, want)
		}
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	if !strings.Contains(string(env), "X=1\n") || strings.Contains(string(env), "NOTIFY_SOCKET") {
		t.Errorf("environment: got %q, want X and nothing of ours", env)
	}
	for _, want := range []string{`missing args="add a b `, "no such file or directory", `err="exit status 3" output="broken\n"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log: got %s, want %q in it", log.String(), want)
		}
	}
}

// A program that hangs is killed with its children, and one that prints without
// end costs no memory.
func TestRunIsBounded(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	r := Runner{Timeout: 300 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Programs: []string{script(t, "(sleep 2; touch "+dir+"/alive) & yes")}}
	start := time.Now()
	r.Run(t.Context(), Call{})
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v, want it killed after 300ms", took)
	}
	if !strings.Contains(log.String(), "killed after 300ms") || log.Len() > 3*maxOutput {
		t.Errorf("log: got %d bytes %.200s", log.Len(), log.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	log.Reset()
	(&Runner{Programs: []string{script(t, "sleep 60")}, Log: r.Log}).Run(ctx, Call{})
	if log.Len() > 0 {
		t.Errorf("log after the end: got %s, want nothing", log.String())
	}
	for time.Since(start) < 2500*time.Millisecond {
		if _, err := os.Stat(dir + "/alive"); err == nil {
			t.Fatal("a child outlived its program")
		}
		<-time.After(100 * time.Millisecond)
	}
}

// A program that leaves something running is not waited for.
func TestRunLeavesDaemons(t *testing.T) {
	var log bytes.Buffer
	r := Runner{Log: slog.New(slog.NewTextHandler(&log, nil)), Programs: []string{script(t, "setsid sleep 4 &")}}
	start := time.Now()
	r.Run(t.Context(), Call{})
	if took := time.Since(start); took > 3*time.Second || log.Len() > 0 {
		t.Errorf("took %v, log %s, want about a second and nothing", took, log.String())
	}
}
