package lease_test

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bootd/internal/lease"
)

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The file follows the leases, within a second of their last change and not
// more often than that, and it tells when it cannot.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dnsmasq.leases")
	synctest.Test(t, func(t *testing.T) {
		var list []lease.Lease
		var version, listed atomic.Uint64
		var log bytes.Buffer
		f := lease.File{Path: path, Version: version.Load, Log: slog.New(slog.NewTextHandler(&log, nil)), Leases: func() iter.Seq[lease.Lease] {
			listed.Add(1)
			return slices.Values(list)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		if got := contents(t, path); got != "" {
			t.Errorf("got %q, want an empty file", got)
		}
		list = append(list, lease.Lease{Addr: netip.MustParseAddr("10.0.0.1"), MAC: [6]byte{2}, State: lease.Bound, Expires: time.Unix(1900000000, 0), Name: "ncn-m001"})
		for range 100 {
			version.Add(1)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if got, want := contents(t, path), "1900000000 02:00:00:00:00:00 10.0.0.1 ncn-m001 *\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := listed.Load(); n > 3 {
			t.Errorf("written %d times within two seconds, want at most 3", n)
		}
		time.Sleep(time.Hour)
		if n := listed.Load(); n > 3 {
			t.Errorf("written %d times though nothing changed", n)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("got %v, %v, want mode 0644", info.Mode(), err)
		}

		if err := os.Rename(dir, dir+"-away"); err != nil {
			t.Fatal(err)
		}
		version.Add(1)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := strings.Count(log.String(), "lease file not written"); n != 1 {
			t.Errorf("told %d times, want once a minute\n%s", n, log.String())
		}
		if err := os.Rename(dir+"-away", dir); err != nil {
			t.Fatal(err)
		}
		list = nil
		version.Add(1)
		time.Sleep(2 * time.Minute)
		if got := contents(t, path); got != "" {
			t.Errorf("got %q, want an empty file again", got)
		}
		synctest.Wait()
		list = []lease.Lease{{Addr: netip.MustParseAddr("10.0.0.2"), MAC: [6]byte{2}, State: lease.Bound, Expires: lease.Never}}
		version.Add(1)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run after cancel: got %v, want nil", err)
		}
		if got, want := contents(t, path), "0 02:00:00:00:00:00 10.0.0.2 * *\n"; got != want {
			t.Errorf("at the end: got %q, want %q", got, want)
		}
	})
	if names, _ := filepath.Glob(dir + "/*"); len(names) != 1 {
		t.Errorf("left behind: got %v", names)
	}
}

// Nobody can make us write through a link, and a failed write leaves nothing.
func TestFileAside(t *testing.T) {
	dir := t.TempDir()
	f := lease.File{Path: filepath.Join(dir, "leases"), Leases: func() iter.Seq[lease.Lease] { return slices.Values([]lease.Lease{{State: lease.Bound}}) }}
	victim := filepath.Join(dir, "victim")
	if err := os.Symlink(victim, f.Path+".bootd-new"); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(victim); err == nil {
		t.Error("wrote through a link")
	}
	f.Path = filepath.Join(dir, "dir")
	if err := os.MkdirAll(filepath.Join(f.Path, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(); err == nil {
		t.Error("replaced a directory: got nil, want an error")
	}
	if _, err := os.Lstat(f.Path + ".bootd-new"); err == nil {
		t.Error("a failed write left its file")
	}
}

// What dnsmasq wrote is kept when we first take the path over, and only then.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	f := lease.File{Path: filepath.Join(dir, "leases"), Leases: func() iter.Seq[lease.Lease] { return slices.Values[[]lease.Lease](nil) }}
	mark, old := filepath.Join(dir, "mark"), f.Path+".before-bootd"
	if err := os.WriteFile(f.Path, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	if saved, err := f.Keep(mark); err != nil || saved != old || contents(t, old) != "theirs" {
		t.Errorf("got %q, %v, want it at %s", saved, err, old)
	}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	if saved, err := f.Keep(mark); err != nil || saved != "" {
		t.Errorf("our own: got %q, %v, want nothing", saved, err)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Keep(mark); err == nil || !strings.Contains(err.Error(), "move one away") {
		t.Errorf("two of theirs: got %v, want an error", err)
	}
}
