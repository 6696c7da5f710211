package tftp

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// Names are those of protocol.md 4.7 and its cases C62 and C63.
func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"boot.efi", "boot.efi"},
		{"/grub/grub.cfg", "grub/grub.cfg"},
		{`\boot\X.EFI`, "boot/X.EFI"},
		{"//boot//x.efi", "boot/x.efi"},
		{"boot/x.efi\xff", "boot/x.efi"},
		{"boot/x.efi\xff\xff", "boot/x.efi"},
		{"boot/x.efi\x01\x1f", "boot/x.efi"},
		{"boot/x.efi\xff\x01", "boot/x.efi"},
		{"./boot/./x.efi", "boot/x.efi"},
		{"/./boot/x.efi", "boot/x.efi"},
		{"boot/", "boot"},
		{"caf\u00e9", "caf\u00e9"},
		{"caf\u00e9\xff", "caf\u00e9"},
		{"caf\xe2\x82", "caf"},
		{"a b", "a b"},
		{"...", "..."},
		{"..a/b..", "..a/b.."},
		{strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{strings.Repeat("a/", 15) + "a", strings.Repeat("a/", 15) + "a"},
	} {
		got, err := Normalize(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("Normalize(%q): got %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	for _, tt := range []struct {
		in   string
		code uint16
		want string
	}{
		{"", 4, `name "": is empty`},
		{"/", 4, `name "/": is empty`},
		{"./", 4, `name "./": is empty`},
		{"\xff", 4, `name "\xff": is empty`},
		{`\\`, 4, `name "\\\\": is empty`},
		{"a\xffb", 4, `name "a\xffb": is not printable UTF-8`},
		{"a\xff\xff\xff", 4, `name "a\xff\xff\xff": is not printable UTF-8`},
		{"a\nb", 4, `name "a\nb": is not printable UTF-8`},
		{"a\x7fb", 4, `name "a\x7fb": is not printable UTF-8`},
		{"a\x00b", 4, `name "a\x00b": is not printable UTF-8`},
		{"a\u009bb", 4, `name "a\u009bb": is not printable UTF-8`},
		{"..", 2, `name "..": has a ".." component`},
		{"../../etc/passwd", 2, `name "../../etc/passwd": has a ".." component`},
		{`..\..\x`, 2, `name "..\\..\\x": has a ".." component`},
		{"boot/../x", 2, `name "boot/../x": has a ".." component`},
		{"/..\xff", 2, `name "/..\xff": has a ".." component`},
		{`a/.\../b`, 2, `name "a/.\\../b": has a ".." component`},
		{strings.Repeat("a", 256), 2, `name "` + strings.Repeat("a", 256) + `": is longer than 255 bytes`},
		{strings.Repeat("a/", 16) + "a", 2, `name "` + strings.Repeat("a/", 16) + `a": is deeper than 16 components`},
	} {
		got, err := Normalize(tt.in)
		var e *NameError
		if !errors.As(err, &e) {
			t.Errorf("Normalize(%q): got %q, %v, want a NameError", tt.in, got, err)
			continue
		}
		if e.Code != tt.code || e.Error() != tt.want {
			t.Errorf("Normalize(%q): got code %d, %s, want code %d, %s", tt.in, e.Code, e, tt.code, tt.want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"boot.efi", `\a\..\b`, "a\xff\xff", "./..//", "caf\u00e9\x01", "a/.\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Normalize(s)
		if err != nil {
			return
		}
		if !fs.ValidPath(got) || got == "." || strings.Contains(got, `\`) || len(got) > 255 {
			t.Errorf("Normalize(%q): got %q, want a clean relative path", s, got)
		}
		if again, err := Normalize(got); err != nil || again != got {
			t.Errorf("Normalize(%q): got %q, %v, want it unchanged", got, again, err)
		}
	})
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"../x", "../x"},
		{"a\x1b[2J\xff", "a?[2J?"},
		{strings.Repeat("a", 254) + "\u00e9", strings.Repeat("a", 254)},
	} {
		if got := printable(tt.in); got != tt.want {
			t.Errorf("printable(%q): got %q, want %q", tt.in, got, tt.want)
		}
	}
}
