package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A Proc is a process that runs beside the test. Its Console has both of its
// outputs.
type Proc struct {
	*Console
	Started time.Time

	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, once done
}

// Start starts a process in the namespace. It is stopped at the latest when
// the Net is closed.
func (ns *Namespace) Start(name string, args ...string) (*Proc, error) {
	return ns.startIn("", name, args...)
}

func (ns *Namespace) startIn(dir, name string, args ...string) (*Proc, error) {
	p := &Proc{
		Console: newConsole(), Started: time.Now(),
		name: filepath.Base(name), cmd: exec.Command(name, args...), done: make(chan struct{}),
	}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.Console, p.Console
	p.cmd.WaitDelay = time.Second // a grandchild may keep the pipe open
	if err := ns.start(p.cmd); err != nil {
		return nil, err
	}
	ns.mu.Lock()
	ns.procs = append(ns.procs, p)
	ns.mu.Unlock()
	go func() {
		p.err = p.cmd.Wait()
		p.Console.close()
		close(p.done)
	}()
	return p, nil
}

// Pid returns the process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Proc) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Ended waits until the process has ended by itself and returns how.
func (p *Proc) Ended(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s: still running: %w; last output %q", p.name, ctx.Err(), lastLines(p.String(), 3))
	}
}

// Kill ends the process at once, as a power cut would, and waits for it.
func (p *Proc) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stopTime is how long a process may take to end when asked to.
const stopTime = 6 * time.Second

// Stop asks the process to end and waits for it. One that does not within six
// seconds is killed, and that is an error. It is fine to stop twice.
func (p *Proc) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTime):
		p.Kill()
		return fmt.Errorf("%s: still running %v after SIGTERM, killed", p.name, stopTime)
	}
}

// StartDaemon starts the bootd binary with a config file and returns when it
// answers on its admin socket.
func (ns *Namespace) StartDaemon(ctx context.Context, bin, config, socket string) (*Proc, error) {
	p, err := ns.Start(bin, "run", "--config", config)
	if err != nil {
		return nil, err
	}
	for !healthy(ctx, socket) {
		select {
		case <-p.done:
			return nil, fmt.Errorf("bootd: ended before it was ready: %v: %s", p.err, lastLines(p.String(), 10))
		case <-ctx.Done():
			return nil, fmt.Errorf("bootd: not ready: %w; last output %q", ctx.Err(), lastLines(p.String(), 5))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return p, nil
}

// healthy reports whether the daemon behind the socket says it is.
func healthy(ctx context.Context, socket string) bool {
	c := http.Client{
		Timeout: time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bootd/v1/health", nil)
	if err != nil {
		return false
	}
	resp, err := c.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
