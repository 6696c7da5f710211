package artifacts

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// staging is how directories begin that are no releases yet or no more. Scan
// and the HTTP server pass them over, and the next Import or Remove clears
// away what a killed one left.
const staging = ".import-"

// An Import brings a release into the tree: whole, or not at all.
type Import struct {
	Root     *os.Root
	Role     node.Role
	Keys     Keys        // nil: signatures are not looked at
	Progress func(int64) // told how many bytes were copied; may be nil

	is Manifest // what is known of the release before its files are copied
}

// Dir imports the files of a directory.
func (i Import) Dir(ctx context.Context, src *os.Root) ([]Set, error) {
	entries, err := fs.ReadDir(src.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	var need int64
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && wanted(e.Name()) {
			names = append(names, e.Name())
			need += fi.Size()
		}
	}
	return i.stage(ctx, need, func(add func(string, io.Reader) error) error {
		for _, name := range names {
			if err := addFile(src, name, add); err != nil {
				return err
			}
		}
		return nil
	})
}

func addFile(src *os.Root, name string, add func(string, io.Reader) error) error {
	f, err := src.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return add(name, f)
}

// Tar imports the files of a tar, which may be compressed with gzip, in
// whatever directories they are.
func (i Import) Tar(ctx context.Context, r io.Reader) ([]Set, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	r = b
	if magic, _ := b.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		r = z
	}
	t := tar.NewReader(r)
	return i.stage(ctx, 0, func(add func(string, io.Reader) error) error {
		for {
			h, err := t.Next()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return fmt.Errorf("tar: %w", err)
			case h.Typeflag != tar.TypeReg || !wanted(path.Base(h.Name)):
				continue
			}
			if err := add(path.Base(h.Name), t); err != nil {
				return err
			}
		}
	})
}

// wanted reports whether a file may be part of a release.
func wanted(name string) bool {
	if name == ManifestName || name == SignatureName {
		return true
	}
	ext := path.Ext(name)
	return safeName.MatchString(name) && (ext == ".kernel" || ext == ".squashfs" || ext == ".iso" || ext == ".img" || ext == ".xz" && strings.HasPrefix(name, "initrd.img-"))
}

// stage makes a release of what fill adds, in a hidden directory that becomes
// the release in one step.
func (i Import) stage(ctx context.Context, need int64, fill func(add func(string, io.Reader) error) error) (sets []Set, err error) {
	parent := path.Join(DataDir, i.Role.Dir)
	if err := MkdirAll(i.Root, parent); err != nil {
		return nil, err
	}
	if err := sweep(i.Root, parent); err != nil {
		return nil, err
	}
	if err := room(i.Root, parent, need); err != nil {
		return nil, err
	}
	dir := path.Join(parent, fmt.Sprintf("%s%d-%d", staging, os.Getpid(), time.Now().UnixNano()))
	if err := i.Root.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := i.Root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Root.RemoveAll(dir))
		}
	}()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	m := i.is
	if err := fill(func(name string, r io.Reader) error { return i.copy(ctx, dir, name, r, &m) }); err != nil {
		return nil, err
	}
	return i.finish(ctx, parent, dir, m, lock)
}

// room reports a full disk before hours of copying.
func room(root *os.Root, dir string, need int64) error {
	if have, known := free(root, dir); known && have < need {
		return fmt.Errorf("%s: %d bytes are free, the release has %d: %w", dir, have, need, unix.ENOSPC)
	}
	return nil
}

// Free returns how many bytes are free where the release goes, whether or not
// its directory is there yet; false: its file system does not tell.
func (i Import) Free() (bytes int64, known bool) {
	dir := path.Join(DataDir, i.Role.Dir)
	for dir != "." {
		if _, err := i.Root.Stat(dir); err == nil {
			break
		}
		dir = path.Dir(dir)
	}
	return free(i.Root, dir)
}

func free(root *os.Root, dir string) (bytes int64, known bool) {
	d, err := root.Open(dir)
	if err != nil {
		return 0, false
	}
	defer d.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true
}

// copy writes one file, durable and with the mode that servers need.
func (i Import) copy(ctx context.Context, dir, name string, r io.Reader, m *Manifest) error {
	f, err := i.Root.OpenFile(path.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there twice", name)
	}
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), &watched{ctx, r, i.Progress})
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name != ManifestName && name != SignatureName {
		m.Files = append(m.Files, ManifestFile{name, n, hex.EncodeToString(h.Sum(nil))})
	}
	return nil
}

// finish checks what was staged and makes it a release.
func (i Import) finish(ctx context.Context, parent, dir string, m Manifest, d *os.File) ([]Set, error) {
	id, err := releaseOf(m)
	if err != nil {
		return nil, err
	}
	m.Role, m.Release = i.Role.Name, id
	if err := i.manifest(dir, m); err != nil {
		return nil, err
	}
	c := Catalog{Role: i.Role}
	c.addFiles(i.Root, dir, id)
	if len(c.Problems) > 0 {
		return nil, fmt.Errorf("release %s: %w", id, c.Problems[0])
	}
	if i.Role.Signed || i.Keys != nil {
		if err := i.Keys.signed(i.Root, dir, i.Role.Name, id); i.Role.Signed && err != nil {
			return nil, fmt.Errorf("release %s is not signed: %w", id, err)
		}
	}
	final := path.Join(parent, id)
	if _, err := i.Root.Lstat(final); err == nil {
		return nil, fmt.Errorf("release %s is there already: %w", id, fs.ErrExist)
	}
	if err := errors.Join(i.Root.Chmod(dir, 0o755), d.Sync(), ctx.Err()); err != nil {
		return nil, err
	}
	if err := i.Root.Rename(dir, final); err != nil {
		return nil, err
	}
	return i.remember(parent, final, m, c.Sets)
}

// remember writes down that the files were read, and returns the sets under
// their final names.
func (i Import) remember(parent, final string, m Manifest, sets []Set) ([]Set, error) {
	known := map[string]fileID{}
	var names []string
	for k, s := range sets {
		for _, p := range []*string{&s.Kernel, &s.Initrd, &s.Squashfs} {
			if *p == "" {
				continue
			}
			*p = path.Join(final, path.Base(*p))
			f, _ := m.file(path.Base(*p))
			id, err := identify(i.Root, *p)
			if err != nil {
				return nil, err
			}
			known[*p] = id.with(f.SHA256)
			names = append(names, *p)
		}
		sets[k] = s
	}
	return sets, errors.Join(syncDir(i.Root, parent), writeVerified(i.Root, known, names))
}

// manifest compares the files with the manifest that came with them, or writes
// one.
func (i Import) manifest(dir string, m Manifest) error {
	came, err := readManifest(i.Root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		f, err := i.Root.OpenFile(path.Join(dir, ManifestName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(m.encode())
		return errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", ManifestName, err)
	}
	if came.Release != m.Release || came.Role != m.Role {
		return fmt.Errorf("%s is of release %q of role %q, the files are of release %q of role %q", ManifestName, came.Release, came.Role, m.Release, m.Role)
	}
	for _, f := range m.Files {
		want, ok := came.file(f.Name)
		switch {
		case !ok:
			return fmt.Errorf("%s is not in %s", f.Name, ManifestName)
		case f != want:
			return fmt.Errorf("%s is not what %s says: %d bytes, SHA-256 %s", f.Name, ManifestName, f.Size, f.SHA256)
		}
	}
	return nil
}

// releaseOf returns the release that files belong to, by the name of an initrd.
func releaseOf(m Manifest) (id string, err error) {
	for _, f := range m.Files {
		name, ok := strings.CutPrefix(f.Name, "initrd.img-")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, ".xz")
		for _, arch := range archs[1:] {
			name = strings.TrimSuffix(name, "-"+arch)
		}
		if id != "" && id != name {
			return "", fmt.Errorf("initrds of two releases are there, %s and %s", id, name)
		}
		id = name
	}
	if !safeName.MatchString(id) {
		return "", errors.New("no file is called initrd.img-ID.xz, so nothing says which release this is")
	}
	return id, nil
}

// Remove removes a release. It is invisible from the first moment on.
func Remove(root *os.Root, role node.Role, id string) error {
	parent := path.Join(DataDir, role.Dir)
	if !safeName.MatchString(id) {
		return fmt.Errorf("release %q: %w", id, fs.ErrNotExist)
	}
	gone := path.Join(parent, staging+"removed-"+id)
	if err := root.RemoveAll(gone); err != nil {
		return err
	}
	if err := root.Rename(path.Join(parent, id), gone); err != nil {
		return fmt.Errorf("release %q: %s: %w", id, path.Join(parent, id), errors.Unwrap(err))
	}
	return errors.Join(syncDir(root, parent), root.RemoveAll(gone))
}

// sweep removes what killed imports and removals left. One at work holds a lock
// on its directory.
func sweep(root *os.Root, parent string) error {
	entries, err := fs.ReadDir(root.FS(), parent)
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() || !strings.HasPrefix(e.Name(), staging) })
	for _, e := range entries {
		name := path.Join(parent, e.Name())
		d, openErr := root.Open(name)
		if openErr != nil {
			continue
		}
		if unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = errors.Join(err, root.RemoveAll(name))
		}
		d.Close()
	}
	return err
}

func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MkdirAll makes a directory and those above it that are not there, open to
// all whatever the umask is: servers read what an administrator makes.
func MkdirAll(root *os.Root, dir string) error {
	if fi, err := root.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if parent := path.Dir(dir); parent != "." {
		if err := MkdirAll(root, parent); err != nil {
			return err
		}
	}
	err := root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster, or the next step tells
	}
	if err != nil {
		return err
	}
	return errors.Join(root.Chmod(dir, 0o755), Adopt(root, dir))
}

// Adopt gives what root has made below a root directory to the owner of that
// directory, so that a daemon that runs as that user can go on with it. What
// belongs to somebody else stays so.
func Adopt(root *os.Root, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := root.Stat(".")
	if err != nil {
		return err
	}
	owner, ok := dir.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	fi, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if has, ok := fi.Sys().(*syscall.Stat_t); !ok || has.Uid != 0 {
		return nil
	}
	if err := root.Lchown(name, int(owner.Uid), int(owner.Gid)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil // a root that may not, as in a container
}
