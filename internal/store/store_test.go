package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bootd/internal/store"
)

// childFile is the environment variable that makes this test binary the
// process that gets killed: its value is the store to write.
const childFile = "BOOTD_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// child applies pairs of records from several goroutines for ever, and says on
// standard output what it was promised.
func child(path string) {
	s, err := store.Open(path)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	t, err := s.Table("t")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if err := t.Apply(pair(id)); err != nil {
					fmt.Println("error:", err)
					os.Exit(1)
				}
				fmt.Println(id)
			}
		})
	}
	writers.Wait()
}

// pair is two records far apart that belong to one transaction.
func pair(id string) []store.Change {
	return []store.Change{{Key: []byte("a" + id), Value: []byte(id)}, {Key: []byte("z" + id), Value: bytes.Repeat([]byte(id), 99)}}
}

func open(t *testing.T, path string) (*store.Store, *store.Table) {
	t.Helper()
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	table, err := s.Table("t")
	if err != nil {
		t.Fatal(err)
	}
	return s, table
}

// records returns what Scan shows, in its order.
func records(t *testing.T, table *store.Table) (keys []string, values map[string]string) {
	t.Helper()
	values = map[string]string{}
	err := table.Scan(func(k, v []byte) error {
		keys = append(keys, string(k))
		values[string(k)] = string(v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys, values
}

// TestKill kills a process that writes, at moments nobody chose, again and
// again over one file. What it was promised must be there, and of each
// transaction all or nothing.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "s.db")
	promised := map[string]bool{}
	for round := range 8 {
		for _, id := range killed(t, path, 10+37*round) {
			promised[id] = true
		}
		s, table := open(t, path)
		_, values := records(t, table)
		for id := range promised {
			if values["a"+id] != id {
				t.Fatalf("round %d: promised record %s is lost", round, id)
			}
		}
		for key := range values {
			other := "a" + key[1:]
			if key[0] == 'a' {
				other = "z" + key[1:]
			}
			if _, ok := values[other]; !ok {
				t.Fatalf("round %d: got %s without %s, want both or none", round, key, other)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killed starts a child, kills it after n promises, and returns all it made.
func killed(t *testing.T, path string, n int) (ids []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFile+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "error:") {
			t.Error(lines.Text())
		}
		if ids = append(ids, lines.Text()); len(ids) == n {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if len(ids) < n {
		t.Fatalf("child: got %d promises, want %d", len(ids), n)
	}
	return ids
}

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, _ := open(t, path)
	_, err := store.Open(path)
	if want := path + ": in use by another process"; !errors.Is(err, store.ErrInUse) || err.Error() != want {
		t.Errorf("in this process: got %v, want %s", err, want)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFile+"="+path)
	if out, err := cmd.Output(); err == nil || string(out) != "error: "+path+": in use by another process\n" {
		t.Errorf("in another process: got %q, %v, want that it is in use", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestTable(t *testing.T) {
	s, table := open(t, filepath.Join(t.TempDir(), "s.db"))
	other, err := s.Table("u")
	if err != nil {
		t.Fatal(err)
	}
	changes := []store.Change{
		{Key: []byte("b"), Value: []byte("1")}, {Key: []byte("c"), Value: []byte("2")}, {Key: []byte("a\x00"), Value: []byte{}},
		{Key: []byte("b"), Value: []byte("3")}, {Key: []byte("c")}, {Key: []byte("never there")},
	}
	if err := table.Apply(changes); err != nil {
		t.Fatal(err)
	}
	keys, values := records(t, table)
	if fmt.Sprintf("%q", keys) != `["a\x00" "b"]` || values["b"] != "3" {
		t.Errorf("got %q, want in order what the last change of each key says", values)
	}
	if keys, _ := records(t, other); len(keys) != 0 {
		t.Errorf("another table: got %q, want nothing", keys)
	}
	for key, want := range map[string][]byte{"b": []byte("3"), "a\x00": {}, "c": nil, "": nil} {
		got, err := table.Get([]byte(key))
		if err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("Get %q: got %#v, %v, want %#v", key, got, err, want)
		}
	}
	stop := errors.New("stop")
	if err := table.Scan(func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Scan: got %v, want the error of visit", err)
	}
}

func TestApplyIsAtomic(t *testing.T) {
	_, table := open(t, filepath.Join(t.TempDir(), "s.db"))
	err := table.Apply([]store.Change{{Key: []byte("a"), Value: []byte("1")}, {Key: nil, Value: []byte("2")}})
	if err == nil || !strings.Contains(err.Error(), "table t: commit: key required") {
		t.Errorf("got %v, want that a key is required", err)
	}
	if keys, _ := records(t, table); len(keys) != 0 {
		t.Errorf("after the error: got %q, want nothing", keys)
	}
}

func TestClosed(t *testing.T) {
	s, table := open(t, filepath.Join(t.TempDir(), "s.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := table.Apply(pair("1")); err == nil {
		t.Error("Apply: got nil, want an error")
	}
	if _, err := table.Get([]byte("a")); err == nil {
		t.Error("Get: got nil, want an error")
	}
	if err := table.Scan(func(_, _ []byte) error { return nil }); err == nil {
		t.Error("Scan: got nil, want an error")
	}
	if _, err := s.Table("t"); err == nil {
		t.Error("Table: got nil, want an error")
	}
}

// filled returns the bytes of a store of a few hundred kilobytes.
func filled(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	s, table := open(t, path)
	for i := range 30 {
		var changes []store.Change
		for j := range 20 {
			changes = append(changes, pair(fmt.Sprintf("%d-%d", i, j))...)
		}
		if err := table.Apply(changes); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// use does what a daemon does at its start: it opens and reads.
func use(path string) (n int, err error) {
	s, err := store.Open(path)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	table, err := s.Table("t")
	if err != nil {
		return 0, err
	}
	return n, table.Scan(func(_, _ []byte) error { n++; return nil })
}

func TestDamaged(t *testing.T) {
	whole := filled(t)
	const page = 4096
	rows := map[string][]byte{
		"a text":      []byte("subnets: []\n"),
		"zeroes":      make([]byte, 8*page),
		"a long text": bytes.Repeat([]byte("This is not a store. "), 4000),
	}
	for _, size := range []int{1, 100, page, page + 1, 2 * page, 3 * page, 4*page - 1, 4 * page, 8 * page, len(whole) / 4, len(whole)/2 + 1} {
		rows[fmt.Sprintf("cut at %d", size)] = whole[:size]
	}
	for name, at := range map[string][]int{
		"magic numbers": {16, page + 16}, "meta checksums": {64, page + 64},
	} {
		b := bytes.Clone(whole)
		for _, i := range at {
			for j := range 8 {
				b[i+j] ^= 0xff
			}
		}
		rows[name] = b
	}
	b := bytes.Clone(whole)
	for i := 2 * page; i < len(b); i++ {
		b[i] = byte(i * 7)
	}
	rows["all but the meta pages"] = b
	for name, content := range rows {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time shows that the lock was given back
				_, err := use(path)
				if !errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrInUse) {
					t.Errorf("got %v, want ErrDamaged", err)
				}
				if err != nil && strings.Count(err.Error(), path) > 1 {
					t.Errorf("got %v, want the path once", err)
				}
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file has changed (%v), want it untouched byte for byte", err)
			}
		})
	}
}

// Reading a good store does not change it either.
func TestReadingDoesNotWrite(t *testing.T) {
	whole := filled(t)
	path := filepath.Join(t.TempDir(), "s.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := use(path); err != nil || n != 30*20*2 {
		t.Errorf("got %d records, %v, want %d", n, err, 30*20*2)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("the file has changed (%v)", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "s.db")
	open(t, path)
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("%s: got mode %v, %v, want %v", p, info.Mode(), err, want)
		}
	}
	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, empty)

	for name, path := range map[string]string{"a directory": dir, "a file for a directory": filepath.Join(empty, "s.db")} {
		_, err := store.Open(path)
		var named *fs.PathError
		if !errors.As(err, &named) || strings.Count(err.Error(), dir) != 1 {
			t.Errorf("%s: got %v, want an error that names the path once", name, err)
		}
	}
}
