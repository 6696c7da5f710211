package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Need skips the test on a machine that cannot run the lab, and says what is
// missing. With netns in BOOT_REQUIRE, as in CI, that is a failure.
func Need(t testing.TB) {
	t.Helper()
	err := Missing()
	switch {
	case err == nil:
	case strings.Contains(os.Getenv("BOOT_REQUIRE"), "netns"):
		t.Fatalf("BOOT_REQUIRE=netns: %v", err)
	default:
		t.Skip(err)
	}
}

// ForTest makes a segment for a test and reserves room for the guests it will
// run at the same time. Both are given back when the test ends.
func ForTest(t testing.TB, addr netip.Prefix, guests int) *Net {
	t.Helper()
	Need(t)
	release, err := Reserve(t.Context(), guests)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	n, err := NewNet(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// ImagesForTest returns the images.
func ImagesForTest(t testing.TB) *Images {
	t.Helper()
	Need(t)
	im, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// Boot powers a machine on, and shows all that it printed when the test fails.
func (n *Net) Boot(t testing.TB, m Machine) *Guest {
	t.Helper()
	g, err := n.PowerOn(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console of %s (%v):\n%s", m.Name, m.Firmware, g)
		}
	})
	return g
}

// ReplugAt plugs the machine into another port each time that it prints a line
// that matches, as a switch sees it of a NIC that resets its link. In the
// machine the link stays up.
func (g *Guest) ReplugAt(t testing.TB, pattern string, p Port) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	replug := func(l Line) error {
		if !re.MatchString(l.Text) {
			return nil
		}
		if err := g.net.ip("link set " + g.tap + " down"); err != nil {
			return err
		}
		return g.net.plug(t.Context(), g.tap, p)
	}
	done := make(chan error, 1)
	go func() { done <- g.Follow(t.Context(), replug) }()
	t.Cleanup(func() {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// BootTime bounds one boot, however slow the machine.
const BootTime = 3 * time.Minute

// Deadline returns a context for one boot.
func Deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), BootTime)
	t.Cleanup(cancel)
	return ctx
}
