package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"aead.dev/minisign"

	"bootd/internal/node"
)

// Names of the manifest of a release and of its signature, in its directory.
const (
	ManifestName  = "manifest.json"
	SignatureName = ManifestName + ".minisig"
)

// maxManifest bounds what is read of a manifest or a signature.
const maxManifest = 1 << 20

// A Manifest says what the files of a release are. Where there is one, a
// release whose files do not have the sizes it says is not complete.
type Manifest struct {
	Role    string         `json:"role"`
	Release string         `json:"release"`
	Files   []ManifestFile `json:"files"` // in the order of their names

	Family node.Family `json:"family,omitempty"` // empty: that of source 004
	Rootfs node.Rootfs `json:"rootfs,omitempty"` // the third member; empty: a squashfs
	Source *Source     `json:"source,omitempty"` // nil: the files came as they are
}

// A Source is the ISO image that a release was imported from.
type Source struct {
	Name   string  `json:"name"`  // of its file
	Label  string  `json:"label"` // of its volume
	Size   int64   `json:"size"`  // bytes
	SHA256 string  `json:"sha256"`
	Baked  []Baked `json:"baked,omitempty"`
}

// A ManifestFile is one file of a release.
type ManifestFile struct {
	Name   string `json:"name"` // without a directory
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // in hex
}

// file returns the entry of a name.
func (m Manifest) file(name string) (ManifestFile, bool) {
	i := slices.IndexFunc(m.Files, func(f ManifestFile) bool { return f.Name == name })
	if i < 0 {
		return ManifestFile{}, false
	}
	return m.Files[i], true
}

func (m Manifest) encode() []byte {
	slices.SortFunc(m.Files, func(a, b ManifestFile) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic("artifacts: manifest: " + err.Error())
	}
	return append(data, '\n')
}

// Kind returns the family of the release in a directory, and what its third
// member is, by its manifest. A directory without one has a release of source
// 004.
func Kind(root *os.Root, dir string) (node.Family, node.Rootfs, error) {
	m, err := readManifest(root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", node.Squashfs, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %s", path.Join(dir, ManifestName), reason(err))
	}
	return m.Family, m.Rootfs, nil
}

// readManifest reads the manifest in dir. The error wraps fs.ErrNotExist where
// there is none.
func readManifest(root *os.Root, dir string) (Manifest, error) {
	data, err := readSmall(root, path.Join(dir, ManifestName))
	if err != nil {
		return Manifest{}, err
	}
	return decodeManifest(data)
}

func decodeManifest(data []byte) (m Manifest, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, err
	}
	for _, f := range m.Files {
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size || !safeName.MatchString(f.Name) || f.Size < 0 {
			return Manifest{}, fmt.Errorf("entry %q is not a file with size and SHA-256", f.Name)
		}
	}
	if m.Family != "" && !slices.Contains(node.Families(), m.Family) {
		return Manifest{}, fmt.Errorf("family %q is not known", m.Family)
	}
	if _, err := node.ParseRootfs(string(m.Rootfs)); err != nil {
		return Manifest{}, fmt.Errorf("rootfs: %w", err)
	}
	return m, nil
}

// readSmall reads a small regular file and never blocks on a named pipe.
func readSmall(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = errors.New("is too long")
	}
	return data, err
}

// Keys are the public keys whose signatures count.
type Keys []minisign.PublicKey

// ParseKeys reads minisign public keys, one to a line. Lines that begin with
// "untrusted comment:" or "#" and empty ones are skipped.
func ParseKeys(text string) (keys Keys, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "untrusted comment:") {
			continue
		}
		var k minisign.PublicKey
		if err := k.UnmarshalText([]byte(line)); err != nil {
			return nil, fmt.Errorf("%q is not a minisign public key", line)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no minisign public key")
	}
	return keys, nil
}

// signed reports why the manifest in dir does not count as signed for that
// release.
func (k Keys) signed(root *os.Root, dir, role, release string) error {
	data, err := readSmall(root, path.Join(dir, ManifestName))
	if err != nil {
		return fmt.Errorf("%s: %s", ManifestName, reason(err))
	}
	sig, err := readSmall(root, path.Join(dir, SignatureName))
	if err != nil {
		return fmt.Errorf("%s: %s", SignatureName, reason(err))
	}
	if !slices.ContainsFunc(k, func(key minisign.PublicKey) bool { return minisign.Verify(key, data, sig) }) {
		return fmt.Errorf("%s is not a signature of %s by any of the signers", SignatureName, ManifestName)
	}
	m, err := decodeManifest(data)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", ManifestName, err)
	case m.Role != role || m.Release != release:
		return fmt.Errorf("%s is of release %q of role %q", ManifestName, m.Release, m.Role)
	}
	return nil
}

// Signed reports why a set does not count as signed: cheaply, without reading
// its members. Verify reads them.
func (k Keys) Signed(root *os.Root, s Set) error {
	return k.signed(root, path.Dir(s.Kernel), s.Role, s.Release)
}

// OnlySigned takes the sets away that are not signed. Each becomes a Problem.
func (c *Catalog) OnlySigned(root *os.Root, k Keys) {
	c.Sets = slices.DeleteFunc(c.Sets, func(s Set) bool {
		err := k.Signed(root, s)
		if err != nil {
			c.problem(Problem{Release: s.Release, Arch: s.Arch, File: path.Dir(s.Kernel), What: "is not signed: " + err.Error()})
		}
		return err != nil
	})
	slices.SortStableFunc(c.Problems, func(a, b Problem) int { return Compare(b.Release, a.Release) })
}

// ErrNoManifest is returned when a release has nothing to be verified against.
var ErrNoManifest = errors.New("has no " + ManifestName)

// Verify reads the members of a set and reports the first that is not what the
// manifest says. Members that were verified before and did not change since
// are not read again. progress is told how many bytes were read; it may be nil.
func Verify(ctx context.Context, root *os.Root, s Set, progress func(int64)) error {
	m, err := readManifest(root, path.Dir(s.Kernel))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoManifest
	}
	if err != nil {
		return fmt.Errorf("%s: %w", ManifestName, err)
	}
	known := readVerified(root)
	for _, name := range s.Members() {
		want, ok := m.file(path.Base(name))
		if !ok {
			return fmt.Errorf("%s is not in %s", path.Base(name), ManifestName)
		}
		id, err := identify(root, name)
		if err != nil {
			return err
		}
		if known[name] == id.with(want.SHA256) {
			continue
		}
		got, n, err := hash(ctx, root, name, progress)
		switch {
		case err != nil:
			return err
		case n != want.Size || got != want.SHA256:
			return fmt.Errorf("%s was altered: SHA-256 is %s, %s says %s", path.Base(name), got, ManifestName, want.SHA256)
		}
		known[name] = id.with(got)
	}
	return writeVerified(root, known, s.Members())
}

// Verified reports whether the members of a set are as they were when they
// were last verified, without reading them.
func Verified(root *os.Root, s Set) bool {
	m, err := readManifest(root, path.Dir(s.Kernel))
	known := readVerified(root)
	return err == nil && !slices.ContainsFunc(s.Members(), func(name string) bool {
		want, ok := m.file(path.Base(name))
		id, err := identify(root, name)
		return !ok || err != nil || known[name] != id.with(want.SHA256)
	})
}

// Members returns the paths of the files of a set.
func (s Set) Members() []string {
	if s.Rootfs == node.NoRootfs {
		return []string{s.Kernel, s.Initrd}
	}
	return []string{s.Kernel, s.Initrd, s.Squashfs}
}

// Size returns the size of all members.
func (s Set) Size() int64 { return s.KernelSize + s.InitrdSize + s.SquashfsSize }

func hash(ctx context.Context, root *os.Root, name string, progress func(int64)) (sum string, n int64, err error) {
	f, err := root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, &watched{ctx, f, progress})
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// watched is a reader that stops when ctx is done and tells how far it is.
type watched struct {
	ctx      context.Context
	r        io.Reader
	progress func(int64)
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	if w.progress != nil {
		w.progress(int64(n))
	}
	return n, err
}

// verifiedFile remembers which content files had when they were read. The time
// of the last change of the inode cannot be set back, so a file that has the
// same one has the same content.
const verifiedFile = ".bootd/verified.json"

type fileID struct {
	Size   int64  `json:"size"`
	Inode  uint64 `json:"inode"`
	Change int64  `json:"change"` // ctime, ns
	SHA256 string `json:"sha256"`
}

func (id fileID) with(sum string) fileID {
	id.SHA256 = sum
	return id
}

func identify(root *os.Root, name string) (fileID, error) {
	fi, err := root.Stat(name)
	if err != nil {
		return fileID{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, fmt.Errorf("%s: no inode", name)
	}
	return fileID{Size: st.Size, Inode: st.Ino, Change: st.Ctim.Nano()}, nil
}

// readVerified reads what is remembered; what cannot be read is forgotten, and
// the files are read again.
func readVerified(root *os.Root) map[string]fileID {
	known := map[string]fileID{}
	if data, err := root.ReadFile(verifiedFile); err == nil && json.Unmarshal(data, &known) != nil {
		return map[string]fileID{}
	}
	return known
}

// writeVerified remembers the files named, and forgets those that are gone.
func writeVerified(root *os.Root, known map[string]fileID, names []string) error {
	now := readVerified(root)
	same := true
	for _, name := range names {
		same = same && now[name] == known[name]
		now[name] = known[name]
	}
	if same {
		return nil
	}
	for name := range now {
		if _, err := root.Stat(name); errors.Is(err, fs.ErrNotExist) {
			delete(now, name)
		}
	}
	data, err := json.MarshalIndent(now, "", " ")
	if err != nil {
		return err
	}
	if err := MkdirAll(root, path.Dir(verifiedFile)); err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", verifiedFile, os.Getpid())
	if err := root.WriteFile(tmp, data, 0o644); err != nil {
		return errors.Join(err, root.Remove(tmp))
	}
	if err := errors.Join(root.Chmod(tmp, 0o644), Adopt(root, tmp)); err != nil {
		return err
	}
	return root.Rename(tmp, verifiedFile)
}
