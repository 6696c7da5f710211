package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"bootd/internal/config"
)

// reloadOn reloads the configuration whenever hup fires, until ctx is done.
func (d *daemon) reloadOn(ctx context.Context, hup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			d.reloadNow()
		}
	}
}

// reloadNow reloads, and tells systemd of it.
func (d *daemon) reloadNow() {
	notify(d.log, reloading())
	d.reload()
	notify(d.log, systemd.SdNotifyReady)
}

// reloading is the message that systemd's Type=notify-reload asks for: with
// the monotonic time in microseconds (sd_notify(3)).
func reloading() string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return systemd.SdNotifyReloading
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, time.Duration(now.Nano()).Microseconds())
}

// reload puts a new configuration in force, or keeps the last good one and
// says why.
func (d *daemon) reload() {
	d.change.Lock()
	defer d.change.Unlock()
	cfg, sum, err := d.reloadLocked()
	if err != nil {
		text := err.Error()
		d.sum = sum
		d.reloadErr.Store(&text)
		d.reloadGood.Set(0)
		d.log.Error("configuration not reloaded: the last good one stays in force", "err", err)
		return
	}
	d.log.Info("configuration reloaded", "subnets", len(cfg.Subnets), "nodes", len(cfg.Inventory.Nodes()))
}

// reloadLocked puts in force what the files say. The sum is that of the file that
// was read, good or not.
func (d *daemon) reloadLocked() (*config.Config, [sha256.Size]byte, error) {
	draft, sum, err := d.draft()
	if err != nil {
		return nil, sum, err
	}
	cfg, err := d.acceptable(draft)
	if err != nil {
		return nil, sum, err
	}
	return cfg, sum, d.enforceLocked(cfg, sum)
}

// acceptable returns the configuration that a draft is, where it can be put in
// force without a restart.
func (d *daemon) acceptable(draft *config.Draft) (*config.Config, error) {
	cfg, err := resolve(draft)
	if err != nil {
		return nil, err
	}
	return cfg, unchangeable(d.config(), cfg)
}

// draft reads the files, and returns the sum of the configuration file as it was
// before.
func (d *daemon) draft() (*config.Draft, [sha256.Size]byte, error) {
	sum := sumOf(d.file)
	draft, err := d.load()
	return draft, sum, err
}

// enforceLocked puts a configuration in force that is what the files say. On an
// error the old one stays: what is kept of a node must not become that of
// another machine.
func (d *daemon) enforceLocked(cfg *config.Config, sum [sha256.Size]byte) error {
	if err := d.keepMachines(cfg); err != nil {
		return err
	}
	d.sum = sum
	d.level.Set(cfg.Log.Level)
	d.world.Store(d.newWorld(cfg))
	d.dhcp.Configure(subnets(cfg), classes(cfg), d.world.Load())
	d.reloadErr.Store(nil)
	d.reloadGood.Set(1)
	return nil
}

// unchangeable names what a reload cannot change, because sockets and files
// stay open.
func unchangeable(old, new *config.Config) error {
	for _, fixed := range []struct {
		key  string
		same bool
	}{
		{"root", old.Root == new.Root},
		{"state", old.State == new.State},
		{"loaders", old.Loaders == new.Loaders},
		{"log.format", old.Log.Format == new.Log.Format},
		{"admin.socket", old.Admin == new.Admin},
		{"http", old.HTTP == new.HTTP},
		{"tftp", old.TFTP == new.TFTP},
		{"leases", old.Leases.File == new.Leases.File && slices.Equal(old.Leases.Hooks, new.Leases.Hooks)},
		{"interfaces, server addresses or mode: proxy of the subnets", slices.Equal(sockets(old), sockets(new))},
	} {
		if !fixed.same {
			return fmt.Errorf("%s changed: this takes a restart", fixed.key)
		}
	}
	return nil
}

// sockets names where a configuration listens.
func sockets(c *config.Config) (list []string) {
	for _, s := range c.Subnets {
		list = append(list, fmt.Sprint(s.Interface, s.Server, s.Mode == config.Proxy))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
