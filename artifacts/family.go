package artifacts

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bootd/internal/isofs"
	"bootd/internal/node"
)

// A layout says where the images of a family have their members. Each member
// is at the first of its places where something is. A place may end in "*":
// the newest version is taken, and the other members of the same version.
type layout struct {
	family                node.Family
	kernel, initrd, third []string
	kind                  node.Rootfs // of third
	whole                 bool        // netboots as a whole image too (--as-iso); with no third, only so
}

// layouts, the most telling first: the paths of a family are also in images of
// the next ones.
var layouts = []layout{
	{
		family: node.FamilyKairos, whole: true, // AuroraBoot, CanvOS
		kernel: []string{"boot/kernel"}, initrd: []string{"boot/initrd"}, third: []string{"rootfs.squashfs"},
	}, {
		family: node.FamilyCoreOS, kind: node.CPIO,
		kernel: []string{"images/pxeboot/vmlinuz"}, initrd: []string{"images/pxeboot/initrd.img"}, third: []string{"images/pxeboot/rootfs.img"},
	}, {
		family: node.FamilyAnaconda,
		kernel: []string{"images/pxeboot/vmlinuz"}, initrd: []string{"images/pxeboot/initrd.img"}, third: []string{"images/install.img"},
	}, {
		family: node.FamilyDracutLive, whole: true,
		kernel: []string{"images/pxeboot/vmlinuz", "boot/x86_64/loader/linux", "isolinux/vmlinuz"}, initrd: []string{"images/pxeboot/initrd.img", "boot/x86_64/loader/initrd", "isolinux/initrd.img"},
		third: []string{"LiveOS/squashfs.img"},
	}, {
		family: node.FamilyDebianLive, whole: true,
		kernel: []string{"live/vmlinuz", "live/vmlinuz-*"}, initrd: []string{"live/initrd.img", "live/initrd", "live/initrd.img-*"}, third: []string{"live/filesystem.squashfs"},
	}, {
		family: node.FamilyCasper, whole: true, // its root file system is in layers, which only the image has together
		kernel: []string{"casper/vmlinuz", "casper/hwe-vmlinuz", "casper/vmlinuz.efi"}, initrd: []string{"casper/initrd", "casper/hwe-initrd", "casper/initrd.lz", "casper/initrd.gz", "casper/initrd.img"},
	}, {
		family: node.FamilyDebianInstaller, kind: node.NoRootfs,
		kernel: []string{"linux", "debian-installer/amd64/linux", "debian-installer/arm64/linux", "install/netboot/ubuntu-installer/amd64/linux", "install.amd/vmlinuz", "install.a64/vmlinuz", "install/vmlinuz"},
		initrd: []string{"initrd.gz", "debian-installer/amd64/initrd.gz", "debian-installer/arm64/initrd.gz", "install/netboot/ubuntu-installer/amd64/initrd.gz", "install.amd/initrd.gz", "install.a64/initrd.gz", "install/initrd.gz"},
	},
}

// ErrNoFamily is returned when an image has nothing that is known to boot from
// the network.
var ErrNoFamily = errors.New("holds no kernel and initrd where the images that are known have them")

// recognise finds the family of an image and its members.
func recognise(image *isofs.Image) (layout, []ImageMember, error) {
	var like, lacks []string // families of which all but the third member is there
	for _, l := range layouts {
		members, whole := l.find(image)
		if whole {
			return l, members, nil
		}
		if members != nil {
			like, lacks = append(like, string(l.family)), append(lacks, l.third...)
		}
	}
	if like == nil {
		return layout{}, nil, ErrNoFamily
	}
	return layout{}, nil, fmt.Errorf("has kernel and initrd as %s has, but no %s", strings.Join(like, " or "), strings.Join(lacks, " or "))
}

// find finds the members of a family, and reports whether all are there; nil:
// the image is of another family.
func (l layout) find(image *isofs.Image) (members []ImageMember, whole bool) {
	k, version, ok := first(image, l.kernel, "")
	if !ok {
		return nil, false
	}
	i, _, ok := first(image, l.initrd, version)
	if !ok {
		return nil, false
	}
	members = []ImageMember{member(kernel, k), member(initrd, i)}
	if len(l.third) == 0 {
		return members, true
	}
	t, _, ok := first(image, l.third, "")
	if ok {
		members = append(members, member(third(l.kind), t))
	}
	return members, ok
}

// first returns the file at the first of the places that has one, and what
// stands for the "*" of the place. With a version only that one is looked for.
func first(image *isofs.Image, places []string, version string) (f isofs.File, star string, ok bool) {
	for _, p := range places {
		stem, open := strings.CutSuffix(p, "*")
		if !open {
			if f, err := image.Find(p); err == nil && version == "" {
				return f, "", true
			}
			continue
		}
		if version != "" {
			f, err := image.Find(stem + version)
			return f, version, err == nil
		}
		if newest := versions(image, stem); len(newest) > 0 {
			f, err := image.Find(stem + newest[0])
			return f, newest[0], err == nil
		}
	}
	return isofs.File{}, "", false
}

// versions returns what follows stem in the names of files, the newest first.
func versions(image *isofs.Image, stem string) (list []string) {
	for _, f := range image.Files() {
		if v, ok := strings.CutPrefix(f.Path, stem); ok && v != "" && !strings.Contains(v, "/") && path.Ext(v) != ".sig" {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return Compare(b, a) })
	return list
}
