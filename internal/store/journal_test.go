package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// records returns what a journal holds.
func records(t *testing.T, j *Journal) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := j.Replay(func(c Change) error {
		if delete(got, string(c.Key)); c.Value != nil {
			got[string(c.Key)] = string(c.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func openJournal(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func set(kv ...string) (changes []Change) {
	for i := 0; i < len(kv); i += 2 {
		changes = append(changes, Change{Key: []byte(kv[i]), Value: []byte(kv[i+1])})
	}
	return changes
}

// Random changes, rewrites and restarts, compared with a map.
func TestJournalAgainstMap(t *testing.T) {
	dir, want := t.TempDir(), map[string]string{}
	rnd := rand.New(rand.NewPCG(3, 4))
	j := openJournal(t, dir)
	j.compactAt = 4096
	for round := range 2000 {
		var batch []Change
		for range 1 + rnd.IntN(20) {
			key := fmt.Sprint(rnd.IntN(200))
			if rnd.IntN(4) == 0 {
				delete(want, key)
				batch = append(batch, Change{Key: []byte(key)})
				continue
			}
			want[key] = fmt.Sprint(round, rnd.Int())
			batch = append(batch, set(key, want[key])...)
		}
		if err := j.Apply(batch); err != nil {
			t.Fatal(err)
		}
		if round%300 == 299 {
			j.compacting.Wait()
			j.mu.Lock()
			j.compactAt = 4096
			j.mu.Unlock()
			if round%600 == 599 {
				j.Close()
				j = openJournal(t, dir)
				j.compactAt = 4096
			}
			if got := records(t, j); !maps.Equal(got, want) {
				t.Fatalf("round %d: got %d records, want %d", round, len(got), len(want))
			}
		}
	}
	if files, _ := filepath.Glob(dir + "/*.journal"); len(files) > 12 {
		t.Errorf("got %d files, want them rewritten", len(files))
	}
}

// An empty value is a record, not a removal.
func TestJournalEmptyValue(t *testing.T) {
	j := openJournal(t, t.TempDir())
	if err := j.Apply([]Change{{Key: []byte("k"), Value: []byte{}}}); err != nil {
		t.Fatal(err)
	}
	if got := records(t, j); len(got) != 1 {
		t.Errorf("got %v, want one empty record", got)
	}
}

// Whatever was written of the last batch when the power failed, all batches
// before it are there, and the journal goes on.
func TestJournalTornEnd(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	for i := range 3 {
		if err := j.Apply(set(fmt.Sprint(i), "kept")); err != nil {
			t.Fatal(err)
		}
	}
	path, whole := j.file.Name(), j.size
	if err := j.Apply(set("3", "torn", "4", "torn")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for end := whole; end < int64(len(full)); end++ {
		for name, torn := range map[string][]byte{
			"cut":    full[:end],
			"zeroes": append(bytes.Clone(full[:end]), make([]byte, int64(len(full))-end)...),
		} {
			d := t.TempDir()
			if err := os.WriteFile(filepath.Join(d, "1.journal"), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := OpenJournal(d)
			if err != nil {
				t.Fatalf("%s at %d: %v", name, end, err)
			}
			if err := j.Apply(set("5", "new")); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"0": "kept", "1": "kept", "2": "kept", "5": "new"}
			if got := records(t, j); !maps.Equal(got, want) {
				t.Fatalf("%s at %d: got %v, want %v", name, end, got, want)
			}
			j.Close()
		}
	}
}

// Damage before the end is refused wherever it is, and the file left alone.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	for i := range 3 {
		if err := j.Apply(set(fmt.Sprint(i), "promised")); err != nil {
			t.Fatal(err)
		}
	}
	path := j.file.Name()
	j.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := len(good) - batchHeader - len("\x012\x09promised")
	for at := range last {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		d := t.TempDir()
		file := filepath.Join(d, "1.journal")
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenJournal(d); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d: got %v, want ErrDamaged", at, err)
		}
		if after, _ := os.ReadFile(file); !bytes.Equal(after, bad) {
			t.Errorf("byte %d: the damaged file was changed", at)
		}
	}
}

func TestJournalInUse(t *testing.T) {
	dir := t.TempDir()
	openJournal(t, dir)
	if _, err := OpenJournal(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

// After a failed write nothing is acknowledged on that file any more, and the
// failed batch is not there after a restart.
func TestJournalWriteFails(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	if err := j.Apply(set("a", "1")); err != nil {
		t.Fatal(err)
	}
	good := j.file
	readOnly, err := os.Open(j.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	j.file = readOnly
	if err := j.Apply(set("b", "2")); err == nil {
		t.Fatal("got no error of a write that failed")
	}
	good.Write([]byte("half a batch")) // what the disk has of it
	if err := j.Apply(set("c", "3")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = openJournal(t, dir)
	if got, want := records(t, j), map[string]string{"a": "1", "c": "3"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzReplay(f *testing.F) {
	f.Add([]byte(journalMagic + string(appendBatch(nil, set("k", "v")))))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "1.journal")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		end, err := replay(path, func(Change) error { return nil })
		if end < 0 || end > int64(len(b)) || err == nil && end != int64(len(b)) {
			t.Errorf("got end %d of %d bytes, error %v", end, len(b), err)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			j, err := OpenJournal(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			batch := make([]Change, n)
			for i := range batch {
				batch[i] = Change{Key: []byte(fmt.Sprint(i)), Value: make([]byte, 60)}
			}
			for b.Loop() {
				if err := j.Apply(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/record")
		})
	}
}
