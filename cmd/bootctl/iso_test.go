package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file is never put in the place of what is none, and a link is followed.
func TestWriteAside(t *testing.T) {
	dir := t.TempDir()
	pipe, file, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.WriteFile(file, []byte("old"), 0o600), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	fill := func(f *os.File) error { _, err := f.WriteString("new"); return err }
	for path, want := range map[string]string{pipe: pipe + ": is not a regular file", dir: dir + ": is a directory"} {
		if err := writeAside(path, fill); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := writeAside(link, fill); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if info, _ := os.Lstat(link); err != nil || string(got) != "new" || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("by a link: got %q, %v, want new behind the link, which stays", got, err)
	}
}
