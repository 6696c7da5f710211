package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// prefer gives the servers and the generator alike a priority over what else
// the machine does, and returns the function that takes it back. Where the
// kernel groups processes by session (sched(7), autogroup), the nice value of a
// process counts only within its session, so that of the session is set too.
func prefer(nice int) (undo func() error, err error) {
	const group = "/proc/self/autogroup"
	old, err := os.ReadFile(group)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() error { return nil }, niceThreads(nice)
	case err != nil:
		return nil, err
	}
	_, was, _ := strings.Cut(strings.TrimSpace(string(old)), " nice ")
	undo = func() error { return os.WriteFile(group, []byte(was), 0) }
	return undo, errors.Join(niceThreads(nice), os.WriteFile(group, []byte(strconv.Itoa(nice)), 0))
}

// niceThreads renices every thread there is: those in the namespaces start the
// servers, which inherit it.
func niceThreads(nice int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, nice); err != nil {
			return fmt.Errorf("priority %d: %w", nice, err)
		}
	}
	return nil
}

// ticks of proc(5) are a hundredth of a second.
const tick = 10 * time.Millisecond

// A meter measures what one server used, and what others took meanwhile.
type meter struct {
	s     *daemon
	cores [2]int
	began time.Time
	used  usage
}

// usage is processor time since some moment. Only time in user space tells
// ours from others': the kernel does the network's work on whoever's account.
type usage struct{ server, serverUser, ourUser, allUser time.Duration }

func (m *meter) start() (err error) {
	m.began = time.Now()
	m.used, err = m.usage()
	return err
}

// stop returns the server's processor time since start, and the share of both
// processors that went to other processes, in percent.
func (m *meter) stop() (server time.Duration, others float64, err error) {
	now, err := m.usage()
	foreign := now.allUser - m.used.allUser - (now.serverUser - m.used.serverUser) - (now.ourUser - m.used.ourUser)
	return now.server - m.used.server, max(0, 100*float64(foreign)/float64(2*time.Since(m.began))), err
}

func (m *meter) usage() (u usage, err error) {
	user, system, err := m.s.times()
	if err != nil {
		return u, err
	}
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	all, err := userTime(m.cores[:])
	return usage{server: user + system, serverUser: user, ourUser: time.Duration(self.Utime.Nano()), allUser: all}, err
}

// userTime is the time that processors spent in user space (proc(5), stat).
func userTime(cores []int) (sum time.Duration, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for _, core := range cores {
			if f[0] == "cpu"+strconv.Itoa(core) {
				user, err1 := strconv.Atoi(f[1])
				nice, err2 := strconv.Atoi(f[2])
				sum, err = sum+time.Duration(user+nice)*tick, errors.Join(err, err1, err2)
			}
		}
	}
	return sum, err
}
