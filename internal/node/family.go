package node

import "fmt"

// A Family is the kind of system that a release was made from, by which its
// kernel is told where its root file system is. The zero Family is that of
// source 004, whose initrd asks metal.server.
type Family string

// The families.
const (
	FamilyKairos          Family = "kairos"           // and Palette edge hosts, which are made of it
	FamilyDebianLive      Family = "debian-live"      // live-boot
	FamilyCasper          Family = "casper"           // live systems and installers of Ubuntu
	FamilyDebianInstaller Family = "debian-installer" // d-i
	FamilyAnaconda        Family = "anaconda"         // installers of Fedora, RHEL and what is made of them
	FamilyDracutLive      Family = "dracut-live"      // live systems of Fedora
	FamilyCoreOS          Family = "coreos"           // Fedora CoreOS and RHEL CoreOS
)

// Families are all but the zero one.
func Families() []Family {
	return []Family{FamilyKairos, FamilyDebianLive, FamilyCasper, FamilyDebianInstaller, FamilyAnaconda, FamilyDracutLive, FamilyCoreOS}
}

// A Rootfs is what the third member of a release is, beside kernel and initrd.
// The zero Rootfs is a squashfs.
type Rootfs string

// The kinds of third member.
const (
	Squashfs Rootfs = ""
	ISO      Rootfs = "iso"  // the whole image that it was imported from
	CPIO     Rootfs = "cpio" // a cpio archive with the root file system in it
	NoRootfs Rootfs = "none" // all is in the initrd
)

// ParseRootfs reads a kind of third member.
func ParseRootfs(s string) (Rootfs, error) {
	switch r := Rootfs(s); r {
	case Squashfs, ISO, CPIO, NoRootfs:
		return r, nil
	}
	return "", fmt.Errorf("%q is not one of iso, cpio, none", s)
}

// Ext returns how the file name of such a member ends; empty: there is none.
func (r Rootfs) Ext() string {
	return map[Rootfs]string{Squashfs: ".squashfs", ISO: ".iso", CPIO: ".img"}[r]
}

// A Firmware is how a machine starts.
type Firmware string

// The firmware modes. The zero one is not known.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// ParseFirmware reads the word of the configuration; empty: any.
func ParseFirmware(s string) (Firmware, error) {
	switch f := Firmware(s); f {
	case "", BIOS, UEFI:
		return f, nil
	}
	return "", fmt.Errorf("%q is not one of bios, uefi", s)
}
