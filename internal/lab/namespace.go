package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Namespace is a network namespace. One OS thread of ours lives in it and
// starts its processes and opens its sockets; processes die with that thread,
// so not even a killed test leaves any behind. Its methods are safe for
// concurrent use.
type Namespace struct {
	Name string // as in ip netns exec NAME

	calls chan func()
	ended chan struct{}

	mu    sync.Mutex
	procs []*Proc
}

// namePrefix begins the name of every namespace and temporary directory of the
// lab. The process that made it follows, as its id and start time, for sweep.
const namePrefix = "bootd-lab-"

var serial atomic.Uint32 // makes names unique within the process

func newName(what string) string {
	return fmt.Sprintf("%s%d-%s-%d-%s", namePrefix, os.Getpid(), startTime(os.Getpid()), serial.Add(1), what)
}

// orphan reports whether the process that made the name is no longer there.
func orphan(name string) bool {
	owner := strings.SplitN(strings.TrimPrefix(name, namePrefix), "-", 3)
	return len(owner) == 3 && !alive(owner[0], owner[1])
}

// tempDir makes a directory that sweep removes after a process that could not.
func tempDir(what string) (string, error) {
	dir := filepath.Join(os.TempDir(), newName(what))
	return dir, os.Mkdir(dir, 0o700)
}

func newNamespace(what string) (*Namespace, error) {
	ns := &Namespace{
		Name:  newName(what),
		calls: make(chan func()),
		ended: make(chan struct{}),
	}
	if _, err := run(exec.Command("ip", "netns", "add", ns.Name)); err != nil {
		return nil, err
	}
	entered := make(chan error)
	go ns.live(entered)
	if err := <-entered; err != nil {
		return nil, errors.Join(err, removeNamespace(ns.Name))
	}
	return ns, nil
}

// live runs calls on a thread inside the namespace. It never unlocks the
// thread, so the runtime ends it with the goroutine.
func (ns *Namespace) live(entered chan<- error) {
	defer close(ns.ended)
	runtime.LockOSThread()
	err := enter(filepath.Join("/run/netns", ns.Name))
	entered <- err
	if err != nil {
		return
	}
	for f := range ns.calls {
		f()
	}
}

func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", path, err)
	}
	return nil
}

// Do runs f on the thread inside the namespace: a socket that f opens belongs
// to the namespace wherever it is used later. f must not block for long and
// must not call Do.
func (ns *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	ns.calls <- func() { done <- f() }
	return <-done
}

// Run runs a command in the namespace to its end and returns its standard
// output. When ctx is done it is killed.
func (ns *Namespace) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := ns.start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(errs.String(), 5))
	}
	return out.String(), nil
}

// start starts cmd inside the namespace, in a process group of its own so that
// the Ctrl-C of a terminal reaches only us.
func (ns *Namespace) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return ns.Do(cmd.Start)
}

// ip runs ip commands, one per line.
func (ns *Namespace) ip(lines ...string) error {
	for _, line := range lines {
		if _, err := ns.Run(context.Background(), "ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// close ends what runs in the namespace and removes it.
func (ns *Namespace) close() error {
	ns.mu.Lock()
	procs := ns.procs
	ns.procs = nil
	ns.mu.Unlock()
	var errs []error
	for i := len(procs) - 1; i >= 0; i-- {
		errs = append(errs, procs[i].Stop())
	}
	close(ns.calls)
	<-ns.ended
	return errors.Join(append(errs, removeNamespace(ns.Name))...)
}

func removeNamespace(name string) error {
	_, err := run(exec.Command("ip", "netns", "delete", name))
	return err
}

// sweep removes the namespaces and directories of lab processes that are no
// longer there.
func sweep() error {
	var errs []error
	for _, name := range orphans("/run/netns") {
		errs = append(errs, sweepOne(name))
	}
	for _, name := range orphans(os.TempDir()) {
		errs = append(errs, os.RemoveAll(filepath.Join(os.TempDir(), name)))
	}
	return errors.Join(errs...)
}

// orphans returns the names in dir that dead processes left.
func orphans(dir string) (names []string) {
	entries, _ := os.ReadDir(dir) // none at all is fine
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), namePrefix) && orphan(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// sweepOne kills what a dead process left running in its namespace and removes
// it. Another process may be sweeping too, and may have been first.
func sweepOne(name string) error {
	pids, err := run(exec.Command("ip", "netns", "pids", name))
	if err == nil {
		for _, pid := range strings.Fields(pids) {
			if n, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(n, syscall.SIGKILL)
			}
		}
		err = removeNamespace(name)
	}
	if _, gone := os.Stat("/run/netns/" + name); errors.Is(gone, os.ErrNotExist) {
		return nil
	}
	return err
}

// alive reports whether the process with this id and start time still runs.
func alive(pid, start string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && startTime(n) == start
}

// startTime returns the start time of a process in clock ticks since boot,
// empty when there is no such process (proc(5), stat, field 22).
func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is a name in parentheses that may hold anything.
	rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return rest[19]
}
