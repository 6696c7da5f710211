package deploy

import (
	"sync"

	"bootd/internal/store"
)

// A group makes the changes of all who wait at the same time durable in one
// commit, since a disk syncs a few hundred times a second and a site boots all
// at once. Whoever comes first commits for those who came until then; nobody
// waits for a clock.
type group struct {
	table Table

	turn sync.Mutex // held while a batch is committed; guards done and err of batches

	mu   sync.Mutex // guards open
	open *batch     // takes changes until somebody commits it; nil: none waits
}

// A batch is what becomes durable together, or not at all.
type batch struct {
	changes []store.Change
	done    bool
	err     error
}

// add puts changes behind all that were added before. They are not durable
// until wait returns nil.
func (g *group) add(changes ...store.Change) *batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = &batch{}
	}
	g.open.changes = append(g.open.changes, changes...)
	return g.open
}

// wait returns when a batch is durable, or cannot be made so. A nil batch is.
func (g *group) wait(b *batch) error {
	if b == nil {
		return nil
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	if b.done {
		return b.err
	}
	g.mu.Lock()
	g.open = nil // that was b: all that were added before it are done
	g.mu.Unlock()
	b.err, b.done = g.table.Apply(b.changes), true
	b.changes = nil
	return b.err
}
