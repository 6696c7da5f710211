package deploy

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"bootd/internal/store"
)

// Records are the deployments of all nodes.
//
// What a record says is on disk before anybody is told what follows from it:
// before the script of an installer is sent, and before a check-in is answered.
// So no crash takes an answer back, and no crash makes a node install twice.
//
// The methods are safe for concurrent use. Those of one node wait for each
// other, and for the disk; those of different nodes only for the disk.
type Records struct {
	group *group
	// moved is told of each phase that a node comes to, in order.
	moved func(node string, was, is Record)

	mu  sync.Mutex // guards all
	all map[string]*entry
}

// entry is the record of one node.
type entry struct {
	mu  sync.Mutex // held over the commit
	rec Record
}

// OpenRecords reads the records in table. moved is told of each phase that a
// node comes to, when it is on disk; it must not use the Records. Nil: nobody
// wants to know.
func OpenRecords(table Table, moved func(node string, was, is Record)) (*Records, error) {
	if moved == nil {
		moved = func(string, Record, Record) {}
	}
	s := &Records{group: newGroup(table), moved: moved, all: map[string]*entry{}}
	err := table.Scan(func(key, value []byte) error {
		e := &entry{}
		if err := json.Unmarshal(value, &e.rec); err != nil {
			// To begin anew could install a machine that runs.
			return fmt.Errorf("deployment of %q: %w: %v", key, store.ErrDamaged, err)
		}
		e.rec = e.rec.recovered()
		s.all[string(key)] = e
		return nil
	})
	return s, err
}

// Get returns the record of a node.
func (s *Records) Get(node string) Record {
	s.mu.Lock()
	e := s.all[node]
	s.mu.Unlock()
	if e == nil {
		return Record{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rec
}

// Ask settles what a node is told that asks what to boot, and keeps it. When it
// cannot be kept there is no decision: the caller may tell the node to wait.
func (s *Records) Ask(now time.Time, node string, rules Rules, decide func(Record) Decision) (d Decision, err error) {
	_, _, err = s.change(node, func(r Record) (Record, error) {
		r = r.Comes(now, rules)
		d = decide(r)
		return r.Given(now, d, rules), nil
	})
	if err != nil {
		return Decision{}, err
	}
	return d, nil
}

// Observe takes a sign of a node, and returns its record before and after. An
// error that wraps ErrNotNow changes nothing.
func (s *Records) Observe(now time.Time, node string, rules Rules, sign Sign) (was, is Record, err error) {
	return s.change(node, func(r Record) (Record, error) { return r.After(now, sign, rules) })
}

// change replaces the record of a node, on disk first.
func (s *Records) change(node string, f func(Record) (Record, error)) (was, is Record, err error) {
	e := s.entry(node)
	e.mu.Lock()
	defer e.mu.Unlock()
	was = e.rec
	if is, err = f(was); err != nil {
		return was, was, err
	}
	if durable(was) != durable(is) {
		if err := s.group.wait(s.group.add(store.Change{Key: []byte(node), Value: is.text()})); err != nil {
			return was, was, fmt.Errorf("deployment of %s: %w", node, err)
		}
	}
	e.rec = is
	if was.Phase != is.Phase || !was.Since.Equal(is.Since) {
		s.moved(node, was, is)
	}
	return was, is, nil
}

// Forget takes the record of a node away: what is known by that name from then
// on is another machine, or none. One that stays a node and is held goes on being
// held, whatever machine it is; what it would go back to is forgotten.
func (s *Records) Forget(node string, stays bool) error {
	e := s.entry(node)
	e.mu.Lock()
	defer e.mu.Unlock()
	c, is := store.Change{Key: []byte(node)}, Record{}
	if was := e.rec; stays && was.Phase == Held {
		is = Record{Phase: Held, Since: was.Since, Reason: was.Reason}
		c.Value = is.text()
	}
	if err := s.group.wait(s.group.add(c)); err != nil {
		return fmt.Errorf("deployment of %s: %w", node, err)
	}
	e.rec = is
	return nil
}

// text is a record as it is on disk.
func (r Record) text() []byte {
	value, err := json.Marshal(r)
	if err != nil {
		panic("deploy: a record has no JSON form: " + err.Error())
	}
	return value
}

// durable returns what of a record goes to the disk.
func durable(r Record) Record {
	r.Sent = false
	return r
}

func (s *Records) entry(node string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[node]
	if e == nil {
		e = &entry{}
		s.all[node] = e
	}
	return e
}
