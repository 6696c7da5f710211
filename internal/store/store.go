// Package store keeps small records on disk, in named tables of keys and
// values.
//
// The promise: when Apply returns nil, its changes are on disk as one
// transaction, and a crash at any later moment does not lose them; a crash
// during Apply leaves all of them or none. One process owns the file; a second
// one gets ErrInUse. A file that is damaged gives ErrDamaged and is left as it
// is, as far as the damage shows: only the format has checks, the values have
// none.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// ErrInUse is returned when another process has the store open.
var ErrInUse = errors.New("in use by another process")

// A Store is one open file of tables. Its methods are safe for concurrent use.
type Store struct{ db *bolt.DB }

// Open opens the store at path, making it, and its directory, when missing. An
// empty file, as a crash in the middle of that leaves it, is as good as none.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	var file *os.File
	var db *bolt.DB
	err := guarded(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:      200 * time.Millisecond, // then ErrTimeout: somebody holds the lock
			FreelistType: bolt.FreelistMapType,   // commit cost does not grow with free pages
			OpenFile: func(path string, flag int, mode os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(path, flag, mode)
				return file, err
			},
		})
		return err
	})
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		if file != nil { // bolt may have panicked, and its mapping would keep the lock
			unix.Flock(int(file.Fd()), unix.LOCK_UN)
			file.Close()
		}
		return nil, openError(path, err)
	}
	return &Store{db: db}, nil
}

// openError names the file, once.
func openError(path string, err error) error {
	var named *os.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s: %w", path, ErrInUse)
	case errors.As(err, &named):
		return err
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%s: %w", path, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch),
		strings.Contains(err.Error(), "file size too small"): // bolt has no name for it
		return fmt.Errorf("%s: %w: %v", path, ErrDamaged, err)
	}
	return fmt.Errorf("%s: %v", path, err)
}

// guarded runs f on the file. bbolt trusts its file: it panics over a page
// that is not one, and reads past the end of a file that was cut, which is a
// fault.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
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
	if err := guarded(t.make); err != nil {
		return nil, fmt.Errorf("%s: table %s: %w", s.db.Path(), name, err)
	}
	return t, nil
}

// make makes the table. One that exists costs no write: a file must not change
// before it was read.
func (t *Table) make() error {
	exists := false
	err := t.db.View(func(tx *bolt.Tx) error {
		exists = tx.Bucket(t.name) != nil
		return nil
	})
	if err != nil || exists {
		return err
	}
	return t.db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(t.name)
		return err
	})
}

// A Change sets the value of a key, or removes the key when Value is nil.
type Change struct{ Key, Value []byte }

// Apply makes all changes durable as one transaction, in order. A key may not
// be empty.
func (t *Table) Apply(changes []Change) error {
	err := guarded(func() error {
		return t.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(t.name)
			for _, c := range changes {
				if err := apply(b, c); err != nil {
					return err
				}
			}
			return nil
		})
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
// error, which Scan returns. The slices are valid only during the call, and
// visit may not use the store.
func (t *Table) Scan(visit func(key, value []byte) error) error {
	return guarded(func() error {
		return t.db.View(func(tx *bolt.Tx) error { return tx.Bucket(t.name).ForEach(visit) })
	})
}

// Get returns a copy of the value of key, or nil when there is none.
func (t *Table) Get(key []byte) (value []byte, err error) {
	err = guarded(func() error {
		return t.db.View(func(tx *bolt.Tx) error {
			value = bytes.Clone(tx.Bucket(t.name).Get(key))
			return nil
		})
	})
	return value, err
}
