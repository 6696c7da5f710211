package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bootd/internal/lab"
	"bootd/internal/lab/dhcpload"
)

// Addresses of the bed. Both pools are within one /8, so that a relay at one
// address serves either.
var (
	network   = netip.MustParsePrefix("10.0.0.0/8")
	server    = netip.MustParseAddr("10.0.0.1")
	generator = netip.MustParseAddr("10.0.0.2")
	small     = pool{netip.MustParseAddr("10.1.0.0"), netip.MustParseAddr("10.1.255.255")}   // a /16
	large     = pool{netip.MustParseAddr("10.32.0.0"), netip.MustParseAddr("10.63.255.255")} // a /11
)

type pool struct{ first, last netip.Addr }

func (p pool) String() string { return p.first.String() + "-" + p.last.String() }

// Interfaces of the veth.
const (
	serverIf    = "srv0"
	generatorIf = "gen0"
)

// A bed is two namespaces joined by a veth.
type bed struct {
	options
	net    *lab.Net       // of the servers
	client *lab.Namespace // of the generator
	serial int            // directories made
	calm   func() error   // takes the priority back
}

func newBed(ctx context.Context, o options) (*bed, error) {
	if err := ready(o); err != nil {
		return nil, err
	}
	n, err := lab.NewNet(netip.MustParsePrefix("192.0.2.1/30")) // the bridge is not used
	if err != nil {
		return nil, err
	}
	b := &bed{options: o, net: n, calm: func() error { return nil }}
	if b.client, err = n.Client(ctx); err == nil {
		err = errors.Join(b.join(ctx), os.MkdirAll(o.dir, 0o755), pin(o.generatorCore))
	}
	if err == nil {
		b.calm, err = prefer(o.nice)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// ready reports what this machine lacks.
func ready(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root to make network namespaces")
	}
	if runtime.NumCPU() < 2 {
		return errors.New("needs two processors: one for the server, one for the load")
	}
	return nil
}

// join puts the veth between the namespaces.
func (b *bed) join(ctx context.Context) error {
	bits := strconv.Itoa(network.Bits())
	for _, c := range []struct {
		ns   *lab.Namespace
		line string
	}{
		{b.net.Namespace, "link add " + serverIf + " type veth peer name " + generatorIf + " netns " + b.client.Name},
		{b.net.Namespace, "addr add " + server.String() + "/" + bits + " brd + dev " + serverIf},
		{b.net.Namespace, "link set " + serverIf + " up"},
		{b.client, "addr add " + generator.String() + "/" + bits + " dev " + generatorIf},
		{b.client, "link set " + generatorIf + " up"},
	} {
		if _, err := c.ns.Run(ctx, "ip", strings.Fields(c.line)...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) close() error {
	return errors.Join(b.calm(), b.net.Close(), os.RemoveAll(b.dir))
}

// pin moves this process, and so the generator, to a processor.
func pin(core int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(core)
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil {
			return fmt.Errorf("pin to processor %d: %w", core, err)
		}
	}
	return nil
}

// freshDir makes an empty directory for a server.
func (b *bed) freshDir(name string) (string, error) {
	b.serial++
	dir := filepath.Join(b.dir, fmt.Sprintf("%d-%s", b.serial, name))
	return dir, errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
}

// clients makes clients that are numbered from first on. The zero mode is
// relay.
func (b *bed) clients(mode dhcpload.Mode, first, n int) (g *dhcpload.Generator, err error) {
	err = b.client.Do(func() error {
		g, err = dhcpload.Open(dhcpload.Config{
			Mode: mode, Server: server, Relay: generator, Interface: generatorIf, First: first, Clients: n,
		})
		return err
	})
	return g, err
}

// patience bounds how long a server may take to its first answer.
const patience = 60 * time.Second

// answers waits until the server completes an exchange. The client it uses is
// one of none of the loads.
func (b *bed) answers(ctx context.Context, s *daemon) error {
	g, err := b.clients(dhcpload.Relay, 1<<30, 1)
	if err != nil {
		return err
	}
	defer g.Close()
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		r, err := g.Run(ctx, dhcpload.Load{Window: 1, Count: 1, Duration: time.Second, Timeout: 20 * time.Millisecond})
		if err != nil {
			return err
		}
		if r.Offers > 0 {
			return nil
		}
		if s.ended() {
			break
		}
	}
	return fmt.Errorf("%s: no answer: %s", s.name, s.output())
}
