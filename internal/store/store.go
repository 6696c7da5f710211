// Package store keeps small records on disk, in named tables of keys and
// values.
//
// The promise: when Apply returns nil, its changes are on disk as one
// transaction, and a crash at any later moment does not lose them; a crash
// during Apply leaves all of them or none. One process owns the file; a second
// one gets ErrInUse.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse is returned when another process has the store open.
var ErrInUse = errors.New("in use by another process")

// A Store is one open file of tables. Its methods are safe for concurrent use.
type Store struct{ db *bolt.DB }

// Open opens the store at path, making it, and its directory, when missing.
// A file that is damaged or not a store is an error, never replaced.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      200 * time.Millisecond, // then ErrTimeout: somebody holds the lock
		FreelistType: bolt.FreelistMapType,   // commit cost does not grow with free pages
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("%s: %v", path, err)
	}
	return &Store{db: db}, nil
}

// Close waits for running transactions and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// A Table is a named set of records within a Store.
type Table struct {
	db   *bolt.DB
	name []byte
}

// Table returns the table of that name, making it when missing.
func (s *Store) Table(name string) (*Table, error) {
	t := &Table{db: s.db, name: []byte(name)}
	err := s.db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(t.name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("table %s: %v", name, err)
	}
	return t, nil
}

// A Change sets the value of a key, or removes the key when Value is nil.
type Change struct{ Key, Value []byte }

// Apply makes all changes durable as one transaction, in order.
func (t *Table) Apply(changes []Change) error {
	err := t.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(t.name)
		for _, c := range changes {
			if err := apply(b, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("table %s: commit: %w", t.name, err)
	}
	return nil
}

func apply(b *bolt.Bucket, c Change) error {
	if c.Value == nil {
		return b.Delete(c.Key)
	}
	return b.Put(c.Key, c.Value)
}

// Scan calls visit for every record in the order of keys, until it returns an
// error, which Scan returns. The slices are valid only during the call.
func (t *Table) Scan(visit func(key, value []byte) error) error {
	return t.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(t.name).ForEach(visit)
	})
}

// Get returns a copy of the value of key, or nil when there is none.
func (t *Table) Get(key []byte) (value []byte, err error) {
	err = t.db.View(func(tx *bolt.Tx) error {
		value = bytes.Clone(tx.Bucket(t.name).Get(key))
		return nil
	})
	return value, err
}
