package store

import (
	"errors"
	"os"
	"runtime"
	"slices"
)

// compact rewrites the files up to number sealed as one, and returns its size.
// The new file takes the number of the last one it replaces; a crash before
// the older ones are gone does no harm, because it says all that they say.
//
// It reads the files twice, first to learn which change of each key is the last
// one and then to copy these, so that it holds keys and no values. After each
// few changes it lets others run: where there is one processor, packets wait.
func (j *Journal) compact(sealed int) (size int64, err error) {
	numbers, err := j.numbers()
	if err != nil {
		return 0, err
	}
	numbers = slices.DeleteFunc(numbers, func(n int) bool { return n > sealed })
	last := map[string]*int{}
	if err := j.each(numbers, func(i int, c Change) error { return note(last, i, c) }); err != nil {
		return 0, err
	}
	if size, err = j.rewrite(numbers, last); err != nil {
		return 0, err
	}
	for _, n := range numbers[:len(numbers)-1] {
		if err := os.Remove(j.path(n)); err != nil {
			return 0, err
		}
	}
	return size, syncDir(j.dir)
}

// each calls visit, which must not keep slices, for every change in files, in
// order and numbered.
func (j *Journal) each(numbers []int, visit func(i int, c Change) error) error {
	var memory []byte
	i := 0
	for _, n := range numbers {
		_, err := replayIn(&memory, j.path(n), func(c Change) error {
			if i++; i%256 == 0 {
				runtime.Gosched()
			}
			return visit(i, c)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// note takes down that the i-th change is the last one of its key. A key that
// is there already costs no memory.
func note(last map[string]*int, i int, c Change) error {
	switch at := last[string(c.Key)]; {
	case c.Value == nil:
		delete(last, string(c.Key))
	case at != nil:
		*at = i
	default:
		last[string(c.Key)] = newInt(i)
	}
	return nil
}

// newInt is apart so that only new keys have memory of their own.
func newInt(i int) *int { return &i }

// rewriteAt is how many bytes of changes make a batch of a rewrite.
const rewriteAt = 64 << 10

// rewrite copies the last changes beside the last of files and puts the copy in
// its place.
func (j *Journal) rewrite(numbers []int, last map[string]*int) (size int64, err error) {
	n := numbers[len(numbers)-1]
	path := j.path(n) + ".new"
	f, err := create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size = int64(len(journalMagic))
	batch := make([]byte, batchHeader, 2*rewriteAt)
	flush := func() error {
		seal(batch)
		n, err := f.Write(batch)
		size, batch = size+int64(n), batch[:batchHeader]
		return err
	}
	err = j.each(numbers, func(i int, c Change) error {
		if at := last[string(c.Key)]; at == nil || *at != i {
			return nil
		}
		if batch = appendChange(batch, c); len(batch) >= rewriteAt {
			return flush()
		}
		return nil
	})
	if err := errors.Join(err, flush(), f.Sync()); err != nil {
		return 0, err
	}
	if err := os.Rename(path, j.path(n)); err != nil {
		return 0, err
	}
	return size, syncDir(j.dir)
}
