package deploy_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/store"
)

// BenchmarkTicketStorm is a site that boots at once: a thousand nodes get a
// ticket each and fetch two documents with it, on a disk. Beside the time per
// node it reports how many tickets and uses one commit carried.
func BenchmarkTicketStorm(b *testing.B) {
	const nodes = 1000
	db, err := store.Open(filepath.Join(b.TempDir(), "bootd.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	table, err := db.Table("tickets")
	if err != nil {
		b.Fatal(err)
	}
	counted := &countingTable{Table: table}
	tickets, err := deploy.OpenTickets(counted)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	for round := 0; b.Loop(); round++ {
		var storm sync.WaitGroup
		for i := range nodes {
			storm.Go(func() {
				who := deploy.Bearer{Node: fmt.Sprintf("n%04d-%d", i, round), MAC: node.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}
				token, err := tickets.Issue(now, who, deploy.StageBoot, deploy.Terms{})
				for _, document := range []string{"meta-data", "user-data"} {
					if err == nil {
						var u deploy.Use
						if u, err = tickets.Take(now, token.Reveal(), who, document); err == nil {
							err = u.Done(true)
						}
					}
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		storm.Wait()
		now = now.Add(2 * time.Hour) // the old ones are forgotten
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*nodes), "us/node")
	b.ReportMetric(float64(3*nodes*b.N)/float64(counted.commits.Load()), "changes/commit")
}

// countingTable counts commits.
type countingTable struct {
	*store.Table
	commits atomic.Int64
}

func (t *countingTable) Apply(changes []store.Change) error {
	t.commits.Add(1)
	return t.Table.Apply(changes)
}
