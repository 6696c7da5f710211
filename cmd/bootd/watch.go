package main

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleConfig is how long nothing must have happened in the directory of the
// configuration file before it is read again: an editor writes in steps.
const settleConfig = time.Second

// watchConfig reloads when the configuration file has changed, until ctx is
// done. It watches directories, because editors put a new file in the place of
// the old one, and that of the file which a symbolic link leads to.
func (d *daemon) watchConfig(ctx context.Context) error {
	if d.file == "" {
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		err = watchDirs(w, d.file)
	}
	if err != nil {
		d.log.Warn("changes of the configuration file are not noticed: say so with SIGHUP", "err", err)
		return nil
	}
	// It may have changed since it was read.
	timer := time.NewTimer(settleConfig)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if concerns(e.Name, d.file) {
				timer.Reset(settleConfig)
			}
		case err := <-w.Errors:
			d.log.Debug("file system events lost", "err", err)
			timer.Reset(settleConfig)
		case <-timer.C:
			if d.changed() {
				d.reloadNow()
				watchDirs(w, d.file) // a link may lead elsewhere now
			}
		}
	}
}

// concerns reports whether what happened to a file can have changed another. A
// directory that is mounted into a container is exchanged by its link "..data".
func concerns(changed, file string) bool {
	name := filepath.Base(changed)
	target, err := filepath.EvalSymlinks(file)
	return name == filepath.Base(file) || name == "..data" || err == nil && name == filepath.Base(target)
}

// changed reports whether the configuration file is another than the one that
// was read last.
func (d *daemon) changed() bool {
	d.change.Lock()
	defer d.change.Unlock()
	return sumOf(d.file) != d.sum
}

// watchDirs watches the directories that a file can change by.
func watchDirs(w *fsnotify.Watcher, file string) error {
	dirs := []string{filepath.Dir(file)}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		dirs = append(dirs, filepath.Dir(target))
	}
	for _, dir := range slices.Compact(dirs) {
		if err := w.Add(dir); err != nil {
			return err
		}
	}
	return nil
}

// sumOf returns what tells one content of a file from another; zero: it cannot
// be read.
func sumOf(file string) (sum [sha256.Size]byte) {
	f, err := os.Open(file)
	if err != nil {
		return sum
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxConfig)); err != nil {
		return sum
	}
	h.Sum(sum[:0])
	return sum
}

// maxConfig is more than any configuration file may have.
const maxConfig = 32 << 20
