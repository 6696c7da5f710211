package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"bootd/deploy"
	"bootd/dhcp"
	"bootd/internal/cli"
	"bootd/internal/lease"
	"bootd/internal/store"
	"bootd/internal/timeline"
)

const damagedHint = "move the directory away to start with no leases: machines keep their addresses when they ask for them again"

// whenDamaged adds a remedy that only fits damage: on a full disk it would
// throw good leases away.
func whenDamaged(err error, hint string) error {
	if errors.Is(err, store.ErrDamaged) {
		return cli.Hint(err, hint)
	}
	return err
}

// openState opens what the state directory keeps, and reads it. A store that is
// damaged stops the start: an empty one in its place would lease addresses that
// are taken.
func (d *daemon) openState() error {
	path := filepath.Join(d.config().State, "bootd.db")
	db, err := store.Open(path)
	if errors.Is(err, store.ErrInUse) {
		return cli.Hint(err, "is another bootd running? see: pgrep -a bootd")
	}
	if err != nil {
		return whenDamaged(fmt.Errorf("state: %w", err), "move the file away: the timelines in it are lost, leases are not")
	}
	d.onClose("state", db.Close)
	if err := d.openTables(db); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.openMediaDir(); err != nil {
		return fmt.Errorf("media: %w", err)
	}
	return d.openLeases(filepath.Join(d.config().State, "leases"))
}

// openTables reads the tables of the store into who knows what is in them, and
// forgets what they keep of nodes that are another machine now.
func (d *daemon) openTables(db *store.Store) error {
	for _, open := range []func(*store.Store) error{
		d.openTimeline, d.openTickets, d.openRecords, d.openAgents, d.openRollouts, d.openMedia, d.openDesk,
	} {
		if err := open(db); err != nil {
			return err
		}
	}
	if len(d.config().Inventory.Nodes()) == 0 { // it is a trial, as with bootd run, and says nothing of nodes
		return nil
	}
	return d.keepMachines(d.config())
}

func (d *daemon) openTimeline(db *store.Store) error {
	table, err := db.Table("timeline")
	if err == nil {
		d.events, err = timeline.Open(table, d.log)
	}
	return err
}

func (d *daemon) openTickets(db *store.Store) error {
	table, err := db.Table("tickets")
	if err == nil {
		d.tickets, err = deploy.OpenTickets(table)
	}
	return err
}

// openLeases reads the journal of leases in a directory, takes in those that were
// imported while no daemon ran, and makes the server that leases more.
func (d *daemon) openLeases(dir string) error {
	journal, err := store.OpenJournal(dir)
	if err != nil {
		return whenDamaged(fmt.Errorf("leases: %w", err), damagedHint)
	}
	d.onClose("leases", journal.Close)
	d.dhcp = &dhcp.Server{Leases: dhcp.NewLeases(), Store: journal, Record: d.record, Log: d.log, Metrics: dhcp.NewMetrics(d.registry)}
	if err := d.dhcp.Leases.Load(journal); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	d.dhcp.Configure(subnets(d.config()), classes(d.config()), d.world.Load())
	if err := d.takeLeases(filepath.Join(d.config().State, lease.Waiting)); err != nil {
		return err
	}
	return d.keepLeaseFile()
}
