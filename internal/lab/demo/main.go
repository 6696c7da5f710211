// Command demo shows bootd at work: it starts the daemon on a private network,
// powers on one BIOS and one UEFI machine that have no disk, and prints each
// step of their boots as the daemon tells it, and where the time went. It
// needs root, and bootd and bootctl in bin/; make demo sees to both. Whatever
// it makes it takes away, Ctrl-C included.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"bootd/internal/lab"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

func main() { os.Exit(Main()) }

// Main runs the demo and returns the exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d := &demo{out: os.Stdout, began: time.Now()}
	err := d.run(ctx)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted, all is cleaned up")
		return 130
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

// The machines of the demo and the roles they have.
var machines = []struct {
	lab.Machine
	role string
	addr string
	rel  lab.Release
}{
	{
		lab.Machine{Name: "ncn-m001", Firmware: lab.BIOS, MAC: node.MAC{0x52, 0x54, 0, 0xde, 0, 1}},
		"kubernetes", "10.77.0.11", lab.Release{Dir: "k8s", ID: "1.2.3", Base: "kubernetes"},
	},
	{
		lab.Machine{Name: "ncn-s001", Firmware: lab.UEFI, MAC: node.MAC{0x52, 0x54, 0, 0xde, 0, 2}},
		"storage-ceph", "10.77.0.21", lab.Release{Dir: "ceph", ID: "1.2.4", Base: "storage-ceph"},
	},
}

type demo struct {
	out   io.Writer
	began time.Time

	net    *lab.Net
	bin    string // directory of bootd and bootctl
	root   string // artifact tree
	config string
	socket string
	events *lab.Proc // bootctl watch
}

// sayf prints one line of progress after the time since the demo began.
func (d *demo) sayf(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) (err error) {
	if err := lab.Missing(); err != nil {
		return err
	}
	if d.bin, err = filepath.Abs("bin"); err != nil {
		return err
	}
	room, err := lab.Reserve(ctx, 1)
	if err != nil {
		return err
	}
	defer room()
	d.net, err = lab.NewNet(netip.MustParsePrefix("10.77.0.1/24"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.net.Close()) }()
	for _, step := range []func(context.Context) error{d.artifacts, d.daemon, d.links, d.watch} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for i := range machines {
		if err := d.boot(ctx, machines[i].Machine); err != nil {
			return err
		}
	}
	return d.status(ctx)
}

func (d *demo) artifacts(ctx context.Context) error {
	accel, err := lab.Accelerator(ctx)
	if err != nil {
		return err
	}
	if accel == "tcg" {
		d.sayf("no usable KVM here: machines are emulated in software, which takes some seconds more")
	}
	im, err := lab.Build(ctx)
	if err != nil {
		return err
	}
	d.root = filepath.Join(d.net.Dir, "www")
	for _, m := range machines {
		if err := im.WriteRelease(ctx, d.root, m.rel); err != nil {
			return err
		}
	}
	d.sayf("artifacts built: kernel %s, initrd, a root file system per role, in ephemeral/data/{k8s/1.2.3,ceph/1.2.4}", im.Version)
	return nil
}

// configuration returns the daemon's config file.
func (d *demo) configuration() string {
	var b strings.Builder
	fmt.Fprintf(&b, "root: %s\nstate: %s\nadmin: {socket: %s}\n", d.root, filepath.Join(d.net.Dir, "state"), d.socket)
	fmt.Fprintf(&b, "subnets: [{interface: %s, subnet: %s, pools: [10.77.0.100-10.77.0.199], lease: 10m}]\n", lab.Bridge, d.net.Addr.Masked())
	b.WriteString("roles:\n")
	for _, m := range machines {
		fmt.Fprintf(&b, "  - {name: %s, dir: %s, squashfs: [%s], args: console=ttyS0 no_timer_check panic=-1}\n", m.role, m.rel.Dir, m.rel.Base)
	}
	b.WriteString("nodes:\n")
	for _, m := range machines {
		fmt.Fprintf(&b, "  - {name: %s, role: %s, macs: [%q], address: %s}\n", m.Name, m.role, m.MAC, m.addr)
	}
	return b.String()
}

func (d *demo) daemon(ctx context.Context) error {
	d.socket = filepath.Join(d.net.Dir, "bootd.sock")
	d.config = filepath.Join(d.net.Dir, "bootd.yaml")
	if err := os.WriteFile(d.config, []byte(d.configuration()), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	p, err := d.net.StartDaemon(ctx, filepath.Join(d.bin, "bootd"), d.config, d.socket)
	if err != nil {
		return err
	}
	d.sayf("daemon up: bootd, process %d, serves DHCP, TFTP and HTTP on %v of a private network", p.Pid(), d.net.Addr)
	return nil
}

func (d *demo) bootctl(ctx context.Context, args ...string) (string, error) {
	return d.net.Run(ctx, filepath.Join(d.bin, "bootctl"), append([]string{"--socket", d.socket}, args...)...)
}

func (d *demo) links(ctx context.Context) error {
	out, err := d.bootctl(ctx, "set-links", "--config", d.config)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	d.sayf("boot directories linked: bootctl set-links")
	for line := range strings.Lines(out) {
		fmt.Fprint(d.out, "          ", line)
	}
	return nil
}

func (d *demo) watch(context.Context) (err error) {
	d.events, err = d.net.Start(filepath.Join(d.bin, "bootctl"), "--socket", d.socket, "watch", "--json")
	return err
}

// boot powers a machine on and prints its boot until it is off again.
func (d *demo) boot(ctx context.Context, m lab.Machine) error {
	ctx, cancel := context.WithTimeout(ctx, lab.BootTime)
	defer cancel()
	fmt.Fprintln(d.out)
	d.sayf("%s: power on (%v, no disk, MAC %v)", m.Name, m.Firmware, m.MAC)
	g, err := d.net.PowerOn(ctx, m)
	if err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	marks := make(chan []mark)
	go func() { marks <- d.follow(following, g) }()

	booted, err := g.WaitFor(ctx, regexp.MustCompile("^BOOTD-LAB-BOOTED"))
	if err == nil {
		_, err = g.WaitFor(ctx, regexp.MustCompile("^BOOTD-LAB-CHECKED-IN"))
	}
	if err == nil {
		err = g.Ended(ctx)
	}
	stop()
	fromDaemon := <-marks
	if err != nil {
		why, _ := d.bootctl(context.WithoutCancel(ctx), "why", m.Name)
		return fmt.Errorf("%s: %w\n%s", m.Name, err, why)
	}
	d.sayf("%s: %s", m.Name, strings.Split(booted.Text, " cmdline=")[0])
	d.sayf("%s: BOOTED in %.1f s; where the time went:", m.Name, booted.Time.Sub(g.Started).Seconds())
	printPhases(d.out, phases(g.Started, append(fromDaemon, consoleMarks(g.Lines())...)))
	return nil
}

// follow prints the events of one machine as bootctl watch tells them, and
// returns those that end a phase of its boot.
func (d *demo) follow(ctx context.Context, g *lab.Guest) (marks []mark) {
	d.events.Follow(ctx, func(l lab.Line) error { // ends with ctx
		var e timeline.Event
		if json.Unmarshal([]byte(l.Text), &e) != nil || e.MAC != g.Machine.MAC || e.Time.Before(g.Started) {
			return nil
		}
		fmt.Fprintf(d.out, "%6.1f s    %s +%4.1f s  %s\n", e.Time.Sub(d.began).Seconds(), g.Machine.Name, e.Time.Sub(g.Started).Seconds(), describe(e))
		marks = append(marks, eventMarks(e)...)
		return nil
	})
	return marks
}

func (d *demo) status(ctx context.Context) error {
	fmt.Fprintln(d.out)
	d.sayf("bootctl status:")
	out, err := d.bootctl(ctx, "status")
	fmt.Fprint(d.out, out)
	if err != nil {
		return err
	}
	d.sayf("done; the daemon and its network are taken down now")
	return nil
}
