package timeline

import (
	"cmp"
	"container/list"
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"bootd/internal/node"
	"bootd/internal/store"
)

// The bounds of a Log. Beyond each the oldest gives way.
const (
	MaxEvents    = 256             // kept of one machine
	MaxStrangers = 1024            // machines that are not in the inventory
	MaxNodes     = 16384           // nodes, those that left the inventory included
	maxPending   = 65536           // events that wait for the disk; more stay in memory only
	watchBuffer  = 1024            // events a watcher may lag behind
	flushBatch   = 1024            // events in one transaction: leases may wait for it
	flushEvery   = time.Second / 4 //
)

// A Table is where a Log keeps its events, such as *store.Table.
type Table interface {
	Apply([]store.Change) error
	Scan(visit func(key, value []byte) error) error
}

// A Log keeps and streams events. Its methods are safe for concurrent use.
type Log struct {
	table  Table
	log    *slog.Logger
	broken bool // the last write failed; only for flush

	mu               sync.Mutex
	seq              uint64
	machines         map[string]*history
	nodes, strangers *list.List        // of machine keys, the one heard of least recently first
	pending          map[string]*Event // by key of the table; nil: to be removed
	lost             int               // events that did not fit into pending
	watchers         map[chan Event]struct{}
}

// history is the events of one machine in the order of their first time.
type history struct {
	events []Event
	keys   []string // of events, in the table
	boot   int      // index of the first event of the last boot
	place  *list.Element
}

// Open returns the Log kept in table. A record that cannot be read, such as
// one of a newer version, is left alone and told to log, which may be nil.
func Open(table Table, log *slog.Logger) (*Log, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		table: table, log: log, machines: map[string]*history{}, nodes: list.New(), strangers: list.New(),
		pending: map[string]*Event{}, watchers: map[chan Event]struct{}{},
	}
	return l, l.load()
}

// load reads the table.
func (l *Log) load() error {
	byKey := map[string]Event{}
	bad, why := 0, error(nil)
	err := l.table.Scan(func(key, value []byte) error {
		l.seq = max(l.seq, first(string(key))) // of a bad record too: its key is taken
		var e Event
		if err := json.Unmarshal(value, &e); err != nil {
			bad, why = bad+1, err
			return nil
		}
		l.seq = max(l.seq, e.Seq)
		byKey[string(key)] = e
		return nil
	})
	if err != nil {
		return err
	}
	if bad > 0 {
		l.log.Warn("timeline records that cannot be read are left out", "records", bad, "err", why)
	}
	l.restore(byKey)
	return nil
}

// restore fills the histories, and then finds who was heard of least recently.
func (l *Log) restore(byKey map[string]Event) {
	keys := slices.SortedFunc(maps.Keys(byKey), func(a, b string) int { return cmp.Compare(first(a), first(b)) })
	latest := map[string]uint64{}
	for _, key := range keys {
		e := byKey[key]
		name := e.Machine()
		latest[name] = max(latest[name], e.Seq)
		if l.machines[name] == nil {
			l.machines[name] = &history{}
		}
		l.machines[name].add(e, key)
		l.trimLocked(l.machines[name])
	}
	names := slices.SortedFunc(maps.Keys(latest), func(a, b string) int { return cmp.Compare(latest[a], latest[b]) })
	for _, name := range names {
		l.touchLocked(name, l.machines[name].events[0].Node != "")
	}
}

// Record adds e to its machine's events and hands it to watchers. It does not
// wait for the disk.
func (l *Log) Record(e Event) {
	now := time.Now()
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC().Round(0)
	e.Count, e.Last = 0, time.Time{}
	e.tidy()
	l.mu.Lock()
	defer l.mu.Unlock()
	// The clock makes up for numbers that a crash kept from the disk.
	l.seq = max(l.seq+1, uint64(max(0, now.UnixMicro())))
	e.Seq = l.seq
	h := l.touchLocked(e.Machine(), e.Node != "")
	i := h.record(e)
	kept := h.events[i]
	l.writeLocked(h.keys[i], &kept)
	l.trimLocked(h)
	l.publishLocked(e)
}

// record adds e or counts it into the event it repeats, and returns the index.
// The system that booted takes steps of its own, so nothing is counted across
// a check-in.
func (h *history) record(e Event) int {
	boot := h.events[h.boot:]
	if len(boot) == 0 || startsBoot(boot, &e) {
		return h.add(e, key(&e))
	}
	for i := len(h.events) - 1; i >= h.boot; i-- {
		if old := &h.events[i]; e.repeats(old) {
			old.again(&e)
			return i
		} else if old.Step == CheckIn {
			break
		}
	}
	return h.add(e, key(&e))
}

// add appends e and returns its index.
func (h *history) add(e Event, key string) int {
	i := len(h.events)
	if i > 0 && startsBoot(h.events[h.boot:], &e) {
		h.boot = i
	}
	h.events, h.keys = append(h.events, e), append(h.keys, key)
	return i
}

// trimLocked drops the oldest events of h beyond the bound.
func (l *Log) trimLocked(h *history) {
	for len(h.events) > MaxEvents {
		l.writeLocked(h.keys[0], nil)
		h.events, h.keys = slices.Delete(h.events, 0, 1), slices.Delete(h.keys, 0, 1)
		h.boot = max(0, h.boot-1)
	}
}

// touchLocked returns the history of a machine, which becomes the one heard of
// last. The one heard of least recently goes when there are too many.
func (l *Log) touchLocked(name string, isNode bool) *history {
	order, limit := l.strangers, MaxStrangers
	if isNode {
		order, limit = l.nodes, MaxNodes
	}
	h := l.machines[name]
	if h == nil {
		h = &history{}
		l.machines[name] = h
	}
	if h.place == nil {
		h.place = order.PushBack(name)
	} else {
		order.MoveToBack(h.place)
	}
	if order.Len() > limit {
		l.forgetLocked(order.Remove(order.Front()).(string))
	}
	return h
}

func (l *Log) forgetLocked(name string) {
	for _, key := range l.machines[name].keys {
		l.writeLocked(key, nil)
	}
	delete(l.machines, name)
}

// writeLocked has e written under key at the next flush, or key removed.
func (l *Log) writeLocked(key string, e *Event) {
	if _, replaces := l.pending[key]; !replaces && len(l.pending) >= maxPending {
		l.lost++
		return
	}
	l.pending[key] = e
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

// key is the machine, a zero byte and Seq, so that the records of a machine
// are together and in order.
func key(e *Event) string {
	k := append([]byte(e.Machine()), 0)
	return string(binary.BigEndian.AppendUint64(k, e.Seq))
}

// first returns the Seq in a key, which is that of the first time.
func first(key string) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(key[len(key)-8:]))
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

// flush writes what is pending. A disk that fails does not stop the daemon:
// events wait for it as long as there is room, and beyond that are in memory
// only. That is told when it begins and when it ends.
func (l *Log) flush() {
	l.mu.Lock()
	pending := l.pending
	l.pending = map[string]*Event{}
	l.mu.Unlock()
	if len(pending) == 0 {
		return
	}
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(pending)), flushBatch) {
		if err := l.table.Apply(l.changes(batch, pending)); err != nil {
			l.unwritten(pending, err)
			return
		}
		for _, key := range batch {
			delete(pending, key)
		}
	}
	l.mu.Lock()
	lost := l.lost
	l.lost = 0
	l.mu.Unlock()
	if l.broken || lost > 0 {
		l.log.Warn("timeline events are written to disk again", "lost", lost)
	}
	l.broken = false
}

func (l *Log) changes(keys []string, pending map[string]*Event) []store.Change {
	list := make([]store.Change, 0, len(keys))
	for _, key := range keys {
		c := store.Change{Key: []byte(key)}
		if e := pending[key]; e != nil {
			var err error
			if c.Value, err = json.Marshal(e); err != nil {
				l.log.Error("timeline event has no JSON form", "node", e.Node, "mac", e.MAC, "err", err)
				continue
			}
		}
		list = append(list, c)
	}
	return list
}

// unwritten puts back what could not be written, for the next flush.
func (l *Log) unwritten(pending map[string]*Event, err error) {
	if !l.broken {
		l.log.Error("timeline events cannot be written to disk; they are kept in memory", "events", len(pending), "err", err)
	}
	l.broken = true
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range pending {
		if _, newer := l.pending[key]; !newer {
			l.writeLocked(key, e)
		}
	}
}

// Events returns the events of a machine, oldest first: by node name, or MAC
// for a machine that is not in the inventory. It returns nil for a machine of
// which nothing is known.
func (l *Log) Events(machine string) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.machines[machine]; h != nil {
		return slices.Clone(h.events)
	}
	return nil
}

// Took reports whether a machine took a step with a NIC, as far back as its
// events go.
func (l *Log) Took(machine string, mac node.MAC) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.machines[machine]
	return h != nil && slices.ContainsFunc(h.events, func(e Event) bool { return e.MAC == mac && e.ofMachine() })
}

// Machines returns the keys of all machines that have events, sorted.
func (l *Log) Machines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.machines))
}

// Watch returns a channel of the events recorded from now on, each by itself.
// It is closed when ctx is done, or when the reader falls too far behind.
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
