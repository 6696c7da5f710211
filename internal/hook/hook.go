// Package hook runs programs of the site that want to know what happens here.
//
// A program gets what happened as arguments and environment, nothing on its
// standard input, and none of our environment. One program runs at a time, with
// low priority and for a limited time; then it is killed, with all that it
// started. What it prints is logged when it fails.
package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Call is one event, as programs get it.
type Call struct {
	Args []string
	Env  []string // NAME=value
}

// A Runner runs programs. Its methods are not for several goroutines at once.
type Runner struct {
	Programs []string      // paths, in the order in which they are run
	Timeout  time.Duration // of one program; zero: 10 s
	Log      *slog.Logger  // nil discards
}

const (
	defaultTimeout = 10 * time.Second
	maxOutput      = 2 << 10 // bytes kept of what a program prints
	path           = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	niceness       = 10 // machines that boot come first
)

// Run runs every program for one event, and returns when the last has ended.
// That one fails is logged, and does not keep the others from it.
func (r *Runner) Run(ctx context.Context, c Call) {
	for _, program := range r.Programs {
		start := time.Now()
		out, err := r.one(ctx, program, c)
		if err != nil && ctx.Err() == nil && r.Log != nil {
			r.Log.Warn("hook failed", "program", program, "args", strings.Join(c.Args, " "), "dur", time.Since(start).Round(time.Millisecond), "err", err, "output", out)
		}
	}
}

func (r *Runner) one(ctx context.Context, program string, c Call) (string, error) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := limited{most: maxOutput}
	cmd := exec.CommandContext(ctx, program, c.Args...)
	cmd.Dir, cmd.Env = "/", append([]string{path}, c.Env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for a child that left the group and holds our pipe
	if err := cmd.Start(); err != nil {
		return "", err
	}
	syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, niceness) // for lack of it nothing is wrong
	err := cmd.Wait()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("killed after %v", timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it left something running
	}
	return string(out.text), err
}

// limited is a buffer that drops what does not fit.
type limited struct {
	text []byte
	most int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.text = append(l.text, p[:min(len(p), l.most-len(l.text))]...)
	return len(p), nil
}
