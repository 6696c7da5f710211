package timeline

import (
	"container/list"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bootd/internal/store"
)

// The bounds of a Log.
const (
	DefaultEvents    = 256   // events kept of one machine
	DefaultStrangers = 1024  // machines kept that are not in the inventory
	maxPending       = 65536 // changes that wait for the disk; beyond that events stay in memory only
	flushEvery       = 250 * time.Millisecond
	watchBuffer      = 1024 // events a watcher may lag behind
)

// A Log keeps and streams events. Its methods are safe for concurrent use.
type Log struct {
	table     *store.Table
	events    int
	strangers int
	log       *slog.Logger

	mu       sync.Mutex
	seq      uint64
	machines map[string]*history
	lru      *list.List // of machine keys that are no node's, least recent first
	pending  []store.Change
	lost     int // changes not written since the last flush
	watchers map[chan Event]struct{}
}

// history is the events of one machine, oldest first.
type history struct {
	events   []Event
	stranger *list.Element // in Log.lru; nil for a node
}

// Open returns the Log kept in table. log may be nil.
func Open(table *store.Table, log *slog.Logger) (*Log, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		table: table, events: DefaultEvents, strangers: DefaultStrangers, log: log,
		machines: map[string]*history{}, lru: list.New(), watchers: map[chan Event]struct{}{},
	}
	return l, l.load()
}

// load reads the table. Strangers enter the eviction order by their key, not
// by their age: good enough for machines nobody knows.
func (l *Log) load() error {
	return l.table.Scan(func(key, value []byte) error {
		var e Event
		if err := json.Unmarshal(value, &e); err != nil {
			return fmt.Errorf("timeline: record %q: %w", key, err)
		}
		l.seq = max(l.seq, e.Seq)
		l.keep(e)
		return nil
	})
}

// Record adds e to its machine's events and hands it to watchers. It does not
// wait for the disk.
func (l *Log) Record(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Round(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e.Seq = l.seq
	l.keep(e)
	value, err := json.Marshal(e)
	if err != nil {
		panic("timeline: event does not marshal: " + err.Error()) // only our own types are in it
	}
	l.writeLocked(store.Change{Key: key(&e), Value: value})
	l.publishLocked(e)
}

// keep appends e to its machine and drops what exceeds the bounds.
func (l *Log) keep(e Event) {
	name := e.Machine()
	h := l.machines[name]
	if h == nil {
		h = &history{}
		l.machines[name] = h
	}
	h.events = append(h.events, e)
	if len(h.events) > l.events {
		l.writeLocked(store.Change{Key: key(&h.events[0])})
		h.events = slices.Delete(h.events, 0, 1)
	}
	l.touchLocked(name, h, e.Node == "")
}

// touchLocked makes a stranger the most recent one and evicts the least recent.
func (l *Log) touchLocked(name string, h *history, stranger bool) {
	switch {
	case !stranger:
		return
	case h.stranger != nil:
		l.lru.MoveToBack(h.stranger)
	default:
		h.stranger = l.lru.PushBack(name)
	}
	if l.lru.Len() > l.strangers {
		l.forgetLocked(l.lru.Front())
	}
}

func (l *Log) forgetLocked(el *list.Element) {
	name := l.lru.Remove(el).(string)
	for i := range l.machines[name].events {
		l.writeLocked(store.Change{Key: key(&l.machines[name].events[i])})
	}
	delete(l.machines, name)
}

func (l *Log) writeLocked(c store.Change) {
	if len(l.pending) >= maxPending {
		l.lost++
		return
	}
	l.pending = append(l.pending, c)
}

// publishLocked hands e to the watchers. One that lags too far is cut off: its
// channel is closed, which is better than a gap nobody sees.
func (l *Log) publishLocked(e Event) {
	for ch := range l.watchers {
		select {
		case ch <- e:
		default:
			delete(l.watchers, ch)
			close(ch)
		}
	}
}

// key orders the records of a machine by age.
func key(e *Event) []byte {
	k := append([]byte(e.Machine()), 0)
	return binary.BigEndian.AppendUint64(k, e.Seq)
}

// Run writes events to the table until ctx is done, and then the rest of them.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush()
			return nil
		case <-tick.C:
			l.flush()
		}
	}
}

// flush writes what is pending. A disk that fails costs events, not the
// daemon: they stay in memory and the loss is logged.
func (l *Log) flush() {
	l.mu.Lock()
	changes, lost := l.pending, l.lost
	l.pending, l.lost = nil, 0
	l.mu.Unlock()
	if lost > 0 {
		l.log.Warn("timeline events not kept on disk: too many at once", "events", lost)
	}
	if len(changes) == 0 {
		return
	}
	if err := l.table.Apply(changes); err != nil {
		l.log.Error("timeline events not kept on disk", "events", len(changes), "err", err)
	}
}

// Events returns the events of a machine, oldest first: by node name, or MAC
// for a machine that is not in the inventory.
func (l *Log) Events(machine string) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.machines[machine]; h != nil {
		return slices.Clone(h.events)
	}
	return nil
}

// Machines returns the keys of all machines that have events, sorted.
func (l *Log) Machines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.machines))
	for name := range l.machines {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Watch returns a channel of the events recorded from now on. It is closed
// when ctx is done, or when the reader falls too far behind.
func (l *Log) Watch(ctx context.Context) <-chan Event {
	ch := make(chan Event, watchBuffer)
	l.mu.Lock()
	l.watchers[ch] = struct{}{}
	l.mu.Unlock()
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, live := l.watchers[ch]; live {
			delete(l.watchers, ch)
			close(ch)
		}
	})
	return ch
}
