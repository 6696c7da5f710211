package node

import (
	"fmt"
	"slices"
	"strings"
)

// A Loader is the program that a machine's firmware is told to load. The zero
// Loader leaves the choice to whoever is asked next: a node leaves it to its
// role, a role to the site, and the site takes LoaderSNPOnly.
//
// The names ending in -shim are those programs behind a shim that the
// firmware trusts, for machines with Secure Boot.
type Loader uint8

// The loaders.
const (
	LoaderAny         Loader = iota
	LoaderSNPOnly            // iPXE on the network driver of the firmware
	LoaderIPXE               // iPXE with network drivers of its own
	LoaderGRUB               // GRUB
	LoaderSNPOnlyShim        // as LoaderSNPOnly, signed
	LoaderIPXEShim           // as LoaderIPXE, signed
	LoaderGRUBShim           // shim, GRUB and kernel of a distribution
)

var loaders = [...]string{
	LoaderAny: "", LoaderSNPOnly: "snponly", LoaderIPXE: "ipxe", LoaderGRUB: "grub",
	LoaderSNPOnlyShim: "snponly-shim", LoaderIPXEShim: "ipxe-shim", LoaderGRUBShim: "grub-shim",
}

// String returns the word used in the configuration.
func (l Loader) String() string { return loaders[l] }

// ParseLoader reads the word used in the configuration; "" means LoaderAny.
func ParseLoader(s string) (Loader, error) {
	if i := slices.Index(loaders[:], s); i >= 0 {
		return Loader(i), nil
	}
	return 0, fmt.Errorf("%q is not one of %s", s, strings.Join(loaders[1:], ", "))
}
