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

	mu   sync.Mutex // guards the following, and done and err of batches
	idle *sync.Cond // told when a commit ends
	busy bool       // a batch is being committed
	open *batch     // takes changes until somebody commits it; nil: none waits
}

// newGroup returns a group that commits to a table.
func newGroup(table Table) *group {
	g := &group{table: table}
	g.idle = sync.NewCond(&g.mu)
	return g
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
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.busy && !b.done {
		g.idle.Wait()
	}
	if b.done {
		return b.err
	}
	g.busy, g.open = true, nil // open was b: all that were added before it are done
	g.mu.Unlock()
	err := g.table.Apply(b.changes)
	g.mu.Lock()
	b.err, b.done, b.changes, g.busy = err, true, nil, false
	g.idle.Broadcast()
	return err
}
