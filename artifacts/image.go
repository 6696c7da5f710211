package artifacts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"bootd/internal/isofs"
	"bootd/internal/node"
)

// An Image is an ISO 9660 image of a system that can be booted from the
// network.
type Image struct {
	Name    string        `json:"name"`  // of its file
	Label   string        `json:"label"` // of its volume
	Size    int64         `json:"size"`  // bytes
	SHA256  string        `json:"sha256,omitempty"`
	Names   string        `json:"names"` // rock-ridge, joliet or plain
	Family  node.Family   `json:"family"`
	Rootfs  node.Rootfs   `json:"rootfs,omitempty"`         // what its third member becomes; empty: a squashfs
	Kernel  string        `json:"kernel_version,omitempty"` // empty: the kernel does not say
	Members []ImageMember `json:"members"`
	Baked   []Baked       `json:"baked,omitempty"`
	Notes   []string      `json:"notes,omitempty"` // what an administrator should know, each a sentence

	file   *os.File
	index  *isofs.Image
	layout layout
}

// An ImageMember is a file of an image that becomes a member of a release.
type ImageMember struct {
	Member string `json:"member"` // kernel, initrd, squashfs, cpio, iso
	Path   string `json:"path"`   // in the image; empty: the image itself
	Size   int64  `json:"size"`

	file isofs.File
}

func member(name string, f isofs.File) ImageMember {
	return ImageMember{Member: name, Path: f.Path, Size: f.Size, file: f}
}

// OpenImage reads what an image holds. The file must stay open as long as the
// Image is used.
func OpenImage(f *os.File) (*Image, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s, not a file", f.Name(), kindOf(fi.Mode()))
	}
	i := &Image{Name: filepath.Base(f.Name()), Size: fi.Size(), file: f}
	if err := i.read(); err != nil {
		return nil, fmt.Errorf("%s %w", f.Name(), err)
	}
	return i, nil
}

func (i *Image) read() (err error) {
	if i.index, err = isofs.Open(i.file, i.Size); err != nil {
		return err
	}
	i.Label, i.Names = i.index.Label, i.index.Names
	if i.layout, i.Members, err = recognise(i.index); err != nil {
		return err
	}
	i.Family, i.Rootfs = i.layout.family, i.layout.kind
	if err := i.checkMembers(); err != nil {
		return err
	}
	i.Baked, err = findBaked(i.index)
	return err
}

// checkMembers looks at how the members begin.
func (i *Image) checkMembers() error {
	for _, m := range i.Members {
		head, err := i.index.ReadFile(m.file, 64<<10)
		if err != nil {
			return err
		}
		if m.Size == 0 {
			return fmt.Errorf("has %q as its %s, which is empty", m.Path, m.Member)
		}
		if what := fault(m.Member, head, m.Size); what != "" {
			return fmt.Errorf("has %q as its %s, which %s", m.Path, m.Member, what)
		}
		if m.Member == kernel {
			i.Kernel = kernelVersion(head)
		}
	}
	return nil
}

// Whole makes the image itself the third member, as a system that looks for
// more than its root file system needs.
func (i *Image) Whole() error {
	if !i.layout.whole {
		return fmt.Errorf("%s is of the family %s, which does not boot from a whole image", i.Name, i.Family)
	}
	i.Rootfs = node.ISO
	i.Members = append(i.Members[:2:2], ImageMember{Member: iso, Size: i.Size})
	return nil
}

// Settle makes an image whole that boots in no other way, and writes its
// notes.
func (i *Image) Settle() error {
	if len(i.layout.third) == 0 && i.layout.whole && i.Rootfs != node.ISO {
		if err := i.Whole(); err != nil {
			return err
		}
		i.Notes = append(i.Notes, "A system of this family is in layers that it finds in the whole image alone: the image is kept, and each node holds it in memory.")
	}
	if len(i.Baked) > 0 && i.Rootfs != node.ISO {
		lost := "Nodes that boot this release do not get what is baked in: it is in the image, and not in its kernel, initrd and " + third(i.Rootfs) + "."
		if i.layout.whole {
			lost += " Import with --as-iso to keep it, or give it to them in their payload."
		}
		i.Notes = append(i.Notes, lost)
	}
	if len(i.Baked) > 0 && i.Rootfs == node.ISO {
		i.Notes = append(i.Notes, "Every machine that reaches the server can fetch the image, with what is baked in: no token or password should be.")
	}
	if strings.HasPrefix(i.Members[0].Path, "install") && i.Family == node.FamilyDebianInstaller && !strings.Contains(i.Members[0].Path, "netboot") {
		i.Notes = append(i.Notes, "The initrd of an installation CD looks for the CD and gives up without one: take mini.iso, or the netboot images of the same version.")
	}
	return nil
}

// Sum reads the image for its SHA-256.
func (i *Image) Sum(ctx context.Context, progress func(int64)) error {
	h := sha256.New()
	_, err := io.Copy(h, &watched{ctx, io.NewSectionReader(i.file, 0, i.Size), progress})
	i.SHA256 = hex.EncodeToString(h.Sum(nil))
	return err
}

// Bytes returns how many bytes its members have.
func (i *Image) Bytes() (n int64) {
	for _, m := range i.Members {
		n += m.Size
	}
	return n
}

// ISO imports an image, after Sum and Settle, as the release of that id.
func (i Import) ISO(ctx context.Context, image *Image, id string) ([]Set, error) {
	if !safeName.MatchString(id) {
		return nil, fmt.Errorf("%q cannot be the id of a release: letters, digits and . _ + ~ -", id)
	}
	i.is = Manifest{Family: image.Family, Rootfs: image.Rootfs, Source: &Source{image.Name, image.Label, image.Size, image.SHA256, image.Baked}}
	return i.stage(ctx, image.Bytes(), func(add func(string, io.Reader) error) error {
		for _, m := range image.Members {
			if err := add(image.fileName(m, id, i.Role.Squashfs), image.open(m)); err != nil {
				return err
			}
		}
		return nil
	})
}

// fileName returns what a member is called in a release.
func (i *Image) fileName(m ImageMember, id string, bases []string) string {
	switch m.Member {
	case kernel:
		return cmp.Or(i.Kernel, "unknown") + "-" + id + ".kernel"
	case initrd:
		return "initrd.img-" + id + ".xz"
	}
	return bases[0] + "-" + id + i.Rootfs.Ext()
}

func (i *Image) open(m ImageMember) io.Reader {
	if m.Path == "" {
		return io.NewSectionReader(i.file, 0, i.Size)
	}
	return i.index.Open(m.file)
}

// A checksum is 32 bytes in hex.
var sumRule = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// ParseSum finds the SHA-256 of a file in what sha256sum wrote: a line
// "SUM  NAME", as BSD writes it "SHA256 (NAME) = SUM", or a sum alone. Of
// several lines the one with the name counts; one alone counts whatever it
// names.
func ParseSum(text, name string) (string, error) {
	var sums, names []string
	for line := range strings.Lines(text) {
		sum, of, ok := parseSumLine(strings.TrimSpace(line))
		if !ok {
			continue
		}
		if filepath.Base(of) == name {
			return sum, nil
		}
		sums, names = append(sums, sum), append(names, of)
	}
	switch len(sums) {
	case 0:
		return "", errors.New("holds no SHA-256")
	case 1:
		return sums[0], nil
	}
	return "", fmt.Errorf("holds no SHA-256 of %q, only of %s", name, strings.Join(names, ", "))
}

func parseSumLine(line string) (sum, name string, ok bool) {
	if rest, bsd := strings.CutPrefix(line, "SHA256 ("); bsd {
		name, sum, ok = strings.Cut(rest, ") = ")
	} else {
		sum, name, _ = strings.Cut(line, " ")
		name, ok = strings.TrimLeft(name, " *"), true
	}
	return strings.ToLower(sum), name, ok && sumRule.MatchString(sum)
}
