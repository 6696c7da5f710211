package timeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
)

// A memory is a table in memory that can be made to fail.
type memory struct {
	mu      sync.Mutex
	records map[string][]byte
	applied int
	err     error
}

func (m *memory) Apply(changes []store.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.applied++
	for _, c := range changes {
		if c.Value == nil {
			delete(m.records, string(c.Key))
		} else {
			m.records[string(c.Key)] = c.Value
		}
	}
	return nil
}

// Scan has the order of a map, since a Log may not count on another.
func (m *memory) Scan(visit func(key, value []byte) error) error {
	for key, value := range m.records {
		if err := visit([]byte(key), value); err != nil {
			return err
		}
	}
	return nil
}

// written returns how many records there are, from how many transactions.
func (m *memory) written() (records, applied int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records), m.applied
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func open(t *testing.T, table timeline.Table) *timeline.Log {
	t.Helper()
	l, err := timeline.Open(table, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// flushed runs l until all is written.
func flushed(l *timeline.Log) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ctx)
}

// fetch is a step that repeats no other.
func fetch(machine string, i int) timeline.Event {
	return timeline.Event{Node: machine, Step: timeline.HTTP, Stage: timeline.OS, File: fmt.Sprint(i)}
}

func stranger(i int) node.MAC { return node.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)} }

func mustParse(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestMachine(t *testing.T) {
	for want, e := range map[string]timeline.Event{
		"ncn-m002":          {Node: "ncn-m002", MAC: nic, Addr: addr},
		"52:54:00:aa:bb:07": {MAC: nic, Addr: addr},
		"10.1.1.101":        {Addr: addr},
		"(nobody)":          {},
	} {
		if got := e.Machine(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEventsPerMachineAreBounded(t *testing.T) {
	m := &memory{records: map[string][]byte{}}
	l := open(t, m)
	for i := range timeline.MaxEvents + 10 {
		l.Record(fetch("a", i))
	}
	l.Record(fetch("b", 0))
	check := func(l *timeline.Log) {
		t.Helper()
		events := l.Events("a")
		if len(events) != timeline.MaxEvents {
			t.Fatalf("got %d events, want %d", len(events), timeline.MaxEvents)
		}
		for i, e := range events {
			if want := fmt.Sprint(i + 10); e.File != want {
				t.Fatalf("event %d: got file %s, want %s: the newest in order", i, e.File, want)
			}
		}
	}
	check(l)
	flushed(l)
	if got, want := len(m.records), timeline.MaxEvents+1; got != want {
		t.Errorf("records in the table: got %d, want %d", got, want)
	}
	check(open(t, m))
}

func TestStrangersAreBounded(t *testing.T) {
	m := &memory{records: map[string][]byte{}}
	l := open(t, m)
	l.Record(fetch("ncn-m001", 0))
	for i := range timeline.MaxStrangers {
		l.Record(timeline.Event{MAC: stranger(i), Step: timeline.Discover, Stage: timeline.OS})
	}
	l.Record(timeline.Event{MAC: stranger(0), Step: timeline.Discover, Stage: timeline.OS}) // heard of again
	l.Record(timeline.Event{MAC: stranger(9999), Step: timeline.Discover, Stage: timeline.OS})
	flushed(l)
	check := func(l *timeline.Log) {
		t.Helper()
		if got, want := len(l.Machines()), timeline.MaxStrangers+1; got != want {
			t.Errorf("machines: got %d, want %d and the node", got, want)
		}
		for name, want := range map[string]bool{
			"ncn-m001": true, stranger(0).String(): true, stranger(1).String(): false, stranger(2).String(): true, stranger(9999).String(): true,
		} {
			if got := l.Events(name) != nil; got != want {
				t.Errorf("%s: kept is %v, want %v", name, got, want)
			}
		}
	}
	check(l)
	if got, want := len(m.records), timeline.MaxStrangers+1; got != want {
		t.Errorf("records in the table: got %d, want %d", got, want)
	}
	// After a restart the order is still by who was heard of last, not by name.
	l = open(t, m)
	check(l)
	l.Record(timeline.Event{MAC: stranger(8888), Step: timeline.Discover, Stage: timeline.OS})
	if l.Events(stranger(2).String()) != nil || l.Events(stranger(0).String()) == nil {
		t.Error("after a restart: got the wrong stranger forgotten, want the one heard of least recently")
	}
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bootd.db")
	table := func() (*store.Store, *store.Table) {
		s, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		table, err := s.Table("timeline")
		if err != nil {
			t.Fatal(err)
		}
		return s, table
	}
	s, disk := table()
	l := open(t, disk)
	for _, st := range join(pxe(0), kernelOn(5), pxe(100), holding(110, hour)) {
		l.Record(st.event())
	}
	want := l.Events("ncn-m002")
	flushed(l)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, disk = table()
	defer s.Close()
	l = open(t, disk)
	if diff := cmp.Diff(want, l.Events("ncn-m002"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	// A repeat counts into the event from before the restart.
	again := script(hour+120, "hold", "held by the administrator")[0].event()
	l.Record(again)
	got := l.Events("ncn-m002")
	if len(got) != len(want) {
		t.Errorf("a repeat after a restart: got %d events, want %d", len(got), len(want))
	}
}

// A crash keeps the last events from the disk. Their numbers went to watchers,
// so they may not come again. No restart takes less than a millisecond.
func TestSeqIsNeverReused(t *testing.T) {
	m := &memory{records: map[string][]byte{}}
	synctest.Test(t, func(t *testing.T) {
		var last uint64
		for range 3 {
			time.Sleep(time.Millisecond)
			l := open(t, m)
			events := l.Watch(t.Context())
			for i := range 100 {
				l.Record(fetch("a", i))
				if e := <-events; e.Seq <= last {
					t.Fatalf("got Seq %d after %d, want it to grow", e.Seq, last)
				} else {
					last = e.Seq
				}
			}
		}
	})
	if year2200 := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(); year2200 >= 1<<53 {
		t.Errorf("got Seq %d, want one that a JSON number of every language can hold", year2200)
	}

	// Nor when the clock went back since what is on disk.
	future := fetch("b", 0)
	future.Seq = 1 << 52
	value, err := json.Marshal(future)
	if err != nil {
		t.Fatal(err)
	}
	m.records["b\x00\x00\x10\x00\x00\x00\x00\x00\x00"] = value
	l := open(t, m)
	l.Record(fetch("a", 0))
	if got := l.Events("a")[0].Seq; got <= 1<<52 {
		t.Errorf("got Seq %d after %d on disk, want it to grow", got, 1<<52)
	}
}

func TestUnreadableRecordsAreLeftAlone(t *testing.T) {
	m := &memory{records: map[string][]byte{
		"ncn-m001\x00\x00\x00\x00\x00\x00\x00\x00\x07": []byte(`{"seq":7,"time":"2026-11-20T02:00:00Z","node":"ncn-m001","step":"disk-install","new":{"a":1}}`),
		"ncn-m001\x00\x00\x00\x00\x00\x00\x00\x00\x08": []byte(`{"seq":"eight"}`),
		"ncn-m001\x00\x7f\xff\xff\xff\xff\xff\x00\x00": []byte("\x01binary"),
		"x": []byte("{"),
	}}
	before := len(m.records)
	var log bytes.Buffer
	l, err := timeline.Open(m, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatalf("got %v, want the rest of the timeline", err)
	}
	if events := l.Events("ncn-m001"); len(events) != 1 || events[0].Step != "disk-install" {
		t.Errorf("got %v, want the event of a newer version with the fields we know", events)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "records=3") {
		t.Errorf("log: got %q, want one warning of 3 records", log.String())
	}
	l.Record(fetch("ncn-m001", 0))
	if got := l.Events("ncn-m001")[1].Seq; got <= 0x7fffffffffff0000 {
		t.Errorf("got Seq %#x, want more than the key of any record", got)
	}
	flushed(l)
	if len(m.records) != before+1 || string(m.records["x"]) != "{" {
		t.Errorf("got %d records, want the %d from before untouched and a new one", len(m.records), before)
	}
}

func TestTextIsBounded(t *testing.T) {
	l := open(t, noTable{})
	l.Record(timeline.Event{Node: "a", Step: timeline.HTTP, File: strings.Repeat("\u00e9", 4000), Err: "a\xff\xfeb", Detail: strings.Repeat("x", 1024)})
	e := l.Events("a")[0]
	if len(e.File) > 1024 || !strings.HasSuffix(e.File, "\u00e9...") || !utf8.ValidString(e.File) {
		t.Errorf("file: got %d bytes ending in %q, want at most 1024 of whole characters and ...", len(e.File), e.File[len(e.File)-8:])
	}
	if e.Err != "a?b" {
		t.Errorf("err: got %q, want what JSON can carry", e.Err)
	}
	if len(e.Detail) != 1024 {
		t.Errorf("detail: got %d bytes, want 1024 to pass", len(e.Detail))
	}
}

// Repeats keep the times of the first and the latest, and the bytes of the
// longest transfer. Watchers see each.
func TestRepeats(t *testing.T) {
	l := open(t, noTable{})
	events := l.Watch(t.Context())
	for i, size := range []int64{10, 1000, 1} {
		e := fetch("a", 0)
		e.Time, e.Bytes, e.Dur = powerOn.Add(time.Duration(i)*time.Minute), size, time.Duration(size)
		l.Record(e)
	}
	got := l.Events("a")
	if len(got) != 1 {
		t.Fatalf("got %d events, want 1", len(got))
	}
	want := fetch("a", 0)
	want.Seq = got[0].Seq
	want.Time, want.Last, want.Count, want.Bytes, want.Dur = powerOn, powerOn.Add(2*time.Minute), 3, 1000, 1000
	if got[0] != want {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	for i := range 3 {
		if e := <-events; e.Count != 0 || !e.Last.IsZero() || !e.Time.Equal(powerOn.Add(time.Duration(i)*time.Minute)) {
			t.Errorf("watcher: got %+v, want the step by itself", e)
		}
	}
	failed := fetch("a", 0)
	failed.Err = "no such file"
	l.Record(failed)
	if n := len(l.Events("a")); n != 2 {
		t.Errorf("the same step failing: got %d events, want 2", n)
	}
}

// JSON is stable: what a single step looks like may not change.
func TestJSON(t *testing.T) {
	e := timeline.Event{Seq: 7, Time: powerOn, Node: "ncn-m001", MAC: nic, Addr: mustParse(t, "10.1.1.5"), Step: timeline.Ack, Stage: timeline.Firmware}
	for want, e := range map[string]timeline.Event{
		`{"seq":7,"time":"2026-11-20T02:00:00Z","node":"ncn-m001","mac":"52:54:00:aa:bb:07","ip":"10.1.1.5","step":"dhcp-ack","stage":"firmware"}`: e,
		`{"seq":1,"time":"2026-11-20T02:00:00Z","step":"http","count":2,"last":"2026-11-20T02:00:01Z"}`: {
			Seq: 1, Time: powerOn, Step: timeline.HTTP, Count: 2, Last: powerOn.Add(time.Second)},
	} {
		if got, err := json.Marshal(e); err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
}

func TestRunWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{records: map[string][]byte{}}
		l := open(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		for i := range 100 {
			l.Record(fetch("a", i))
		}
		for _, step := range []struct {
			after            time.Duration
			records, applied int
		}{
			{time.Second/4 - 1, 0, 0}, // Record never writes
			{1, 100, 1},
			{time.Minute, 100, 1}, // with nothing to write
		} {
			time.Sleep(step.after)
			synctest.Wait()
			if records, applied := m.written(); records != step.records || applied != step.applied {
				t.Errorf("%v later: got %d records in %d transactions, want %d in %d", step.after, records, applied, step.records, step.applied)
			}
		}
		l.Record(fetch("a", 100))
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if len(m.records) != 101 {
			t.Errorf("after the stop: got %d records, want 101", len(m.records))
		}
	})
}

// A disk that is full for a minute costs nothing, and is told of once.
func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{records: map[string][]byte{}, err: errors.New("no space left on device")}
		var log bytes.Buffer
		l, err := timeline.Open(m, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		for i := range 120 {
			l.Record(fetch("a", i))
			time.Sleep(time.Second / 2)
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "no space left on device") {
			t.Errorf("log: got %q, want one error", log.String())
		}
		m.fail(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(m.records) != 120 {
			t.Errorf("after the disk came back: got %d records, want 120", len(m.records))
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "again") {
			t.Errorf("log: got %q, want one more line: the disk is back", log.String())
		}
		cancel()
		<-done
	})
}

// More than there is room for while the disk fails stays in memory, and the
// loss is counted.
func TestDiskFailsForLong(t *testing.T) {
	m := &memory{records: map[string][]byte{}, err: errors.New("no space left on device")}
	var log bytes.Buffer
	l, err := timeline.Open(m, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	const machines, each = 7000, 10 // 70000 events, and room for 65536
	for i := range machines {
		for j := range each {
			l.Record(fetch(fmt.Sprintf("n%d", i), j))
		}
	}
	flushed(l)
	m.fail(nil)
	flushed(l)
	if got, want := len(m.records), 65536; got != want {
		t.Errorf("records: got %d, want %d", got, want)
	}
	if want := fmt.Sprintf("lost=%d", machines*each-65536); !strings.Contains(log.String(), want) {
		t.Errorf("log: got %q, want %s", log.String(), want)
	}
	if got := len(l.Events("n6999")); got != each {
		t.Errorf("in memory: got %d events, want %d", got, each)
	}
}

func TestSlowWatcherIsCutOff(t *testing.T) {
	l := open(t, noTable{})
	ctx, cancel := context.WithCancel(t.Context())
	slow, quick := l.Watch(ctx), l.Watch(ctx)
	const sent = 3000
	got := 0
	for i := range sent {
		l.Record(fetch("a", i))
		if e, ok := <-quick; ok && e.File == fmt.Sprint(i) {
			got++
		}
	}
	if got != sent {
		t.Errorf("quick watcher: got %d events in order, want %d", got, sent)
	}
	n := 0
	for e := range slow { // ends, because the channel is closed
		if e.File != fmt.Sprint(n) {
			t.Fatalf("slow watcher: got file %s, want %d: no gap before the end", e.File, n)
		}
		n++
	}
	if n == 0 || n == sent {
		t.Errorf("slow watcher: got %d events, want some and not all", n)
	}
	cancel()
	if _, ok := <-quick; ok {
		t.Error("after its context ended: got an event, want a closed channel")
	}
	l.Record(fetch("a", 0)) // and nobody is sent to on a closed channel
}

func TestRecordFromMany(t *testing.T) {
	m := &memory{records: map[string][]byte{}}
	l := open(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { l.Run(ctx) })
	const workers, each = 16, 64 // as many as a watcher may lag behind
	seen := l.Watch(ctx)
	var count int
	var watcher sync.WaitGroup
	watcher.Go(func() {
		var last uint64
		for e := range seen {
			if e.Seq <= last {
				t.Errorf("watcher: got Seq %d after %d", e.Seq, last)
			}
			last = e.Seq
			if count++; count == workers*each {
				return
			}
		}
		t.Error("watcher was cut off")
	})
	var writers sync.WaitGroup
	for w := range workers {
		writers.Go(func() {
			for i := range each {
				l.Record(fetch(fmt.Sprintf("n%d", w), i))
				l.Events("n0")
				l.Machines()
			}
		})
	}
	writers.Wait()
	watcher.Wait()
	cancel()
	all.Wait()
	if len(m.records) != workers*each {
		t.Errorf("records: got %d, want %d", len(m.records), workers*each)
	}
}

func BenchmarkRecord(b *testing.B) {
	l, err := timeline.Open(noTable{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	steps := join(pxe(0), kernelOn(5))
	for i := 0; b.Loop(); i++ {
		e := steps[i%len(steps)].event()
		e.Node = "n" + fmt.Sprint(i/len(steps)%900)
		l.Record(e)
	}
}
