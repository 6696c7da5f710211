package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
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
			j.background.Wait()
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

// fillSpares applies batches until the journal has gone through two spares, and
// returns what it then holds.
func fillSpares(t *testing.T, j *Journal) map[string]string {
	t.Helper()
	want, value := map[string]string{}, string(bytes.Repeat([]byte{0xa5}, 32<<10))
	for i := 0; j.number < 3 || j.size < spareFrom; i++ {
		key := fmt.Sprint(i % 100)
		want[key] = value + fmt.Sprint(i)
		if err := j.Apply(set(key, want[key])); err != nil {
			t.Fatal(err)
		}
		j.background.Wait()
		if i > 10*spareSize/len(value) {
			t.Fatalf("after %d batches: got file %d, want the third", i, j.number)
		}
	}
	return want
}

// A busy journal writes over zeros, in file after file, and a process that
// dies leaves room in the last one and a spare: neither is lost records, nor
// kept.
func TestJournalSpare(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	want := fillSpares(t, j)
	if j.room != spareSize {
		t.Errorf("room in file %d: got %d bytes, want %d", j.number, j.room, spareSize)
	}
	if got := records(t, j); !maps.Equal(got, want) {
		t.Errorf("while it is open: got %d records, want %d", len(got), len(want))
	}
	j.background.Wait()
	crashed := t.TempDir() // as on disk at this moment
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(crashed, "spare.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := openJournal(t, crashed)
	if got := records(t, again); !maps.Equal(got, want) {
		t.Errorf("after a crash: got %d records, want %d", len(got), len(want))
	}
	info, err := os.Stat(again.path(3))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != j.size {
		t.Errorf("file 3 after a crash: got %d bytes, want the %d that were written", info.Size(), j.size)
	}
	if _, err := os.Stat(again.sparePath()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("spare after a crash: got %v, want none", err)
	}
}

// Zeros where batches were are damage, as long as anything follows.
func TestJournalZeroedBatch(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	fillSpares(t, j)
	path, first := j.path(3), len(appendBatch(nil, set("0", string(make([]byte, 32<<10)))))
	if err := j.file.Sync(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, first), int64(len(journalMagic))); err != nil {
		t.Fatal(err)
	}
	f.Close()
	j.Close()
	if _, err := OpenJournal(dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

// Where there is no room for a spare the journal does without.
func TestJournalNoSpare(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "spare.new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	big := set("k", string(make([]byte, spareFrom)))
	for range 3 {
		if err := j.Apply(big); err != nil {
			t.Fatal(err)
		}
		j.background.Wait()
	}
	if j.number != 1 || j.spare != nil {
		t.Errorf("got file %d, spare %v, want all in the first file", j.number, j.spare)
	}
	if got := records(t, j); len(got) != 1 {
		t.Errorf("got %d records, want 1", len(got))
	}
}

// The kernel's sync in the background says the same as the plain call, good or
// bad.
func TestSyncer(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, w, err := os.Pipe() // which cannot be synced
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	background, plain := newSyncer(), &syncer{}
	defer background.Close()
	if background.context == 0 {
		t.Fatal("the kernel refuses io_setup")
	}
	for name, s := range map[string]*syncer{"background": background, "plain": plain} {
		if err := s.sync(w); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: pipe: got %v, want EINVAL", name, err)
		}
		for range 3 {
			if err := s.sync(f); err != nil {
				t.Errorf("%s: file: %v", name, err)
			}
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
	good.WriteAt([]byte("half a batch"), j.size) // what the disk has of it
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
		if end < 0 || end > int64(len(b)) || err == nil && len(bytes.Trim(b[end:], "\x00")) > 0 {
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

// A rewrite of what a busy server writes before there is one.
func BenchmarkCompact(b *testing.B) {
	j, err := OpenJournal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	value := make([]byte, 30)
	for b.Loop() {
		b.StopTimer()
		j.compactAt = 1 << 62
		for i := 0; j.written < minCompact; {
			var batch []Change
			for range 1000 {
				i++
				batch = append(batch, Change{Key: binary.BigEndian.AppendUint32(nil, uint32(i%60_000)), Value: value})
			}
			if err := j.Apply(batch); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if _, err := j.compact(j.number); err != nil {
			b.Fatal(err)
		}
		if err := j.next(); err != nil {
			b.Fatal(err)
		}
		j.written = 0
	}
}
