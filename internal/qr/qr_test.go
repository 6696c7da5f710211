package qr_test

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bootd/internal/qr"
)

// scan reads a picture with zbarimg, which we did not write.
func scan(t *testing.T, picture []byte) string {
	t.Helper()
	if _, err := exec.LookPath("zbarimg"); err != nil {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatal("BOOT_REQUIRE: zbarimg of the Debian package zbar-tools is missing: run make deps")
		}
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "code.png")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", file).Output()
	if err != nil {
		t.Fatalf("zbarimg: %v", err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// draw makes a picture of lines of text as a terminal does: cells of w by h
// pixels, each a light upper and a light lower half or not.
func draw(t *testing.T, lines []string, w, h int, cell func(r rune) (upper, lower bool)) []byte {
	t.Helper()
	width := len([]rune(lines[0]))
	img := image.NewGray(image.Rect(0, 0, (width+8)*w, (len(lines)+8)*h)) // on a dark screen
	for y, line := range lines {
		for x, r := range []rune(line) {
			upper, lower := cell(r)
			for py := range h {
				if py < h/2 && upper || py >= h/2 && lower {
					for px := range w {
						img.SetGray((x+4)*w+px, (y+4)*h+py, color.Gray{255})
					}
				}
			}
		}
	}
	var b strings.Builder
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

var texts = []string{
	"HTTP://10.254.100.111/C/ABCDEFGHJKMNPQRS",
	"https://boot.example/claim/ABCDEFGHJKMNPQRS?id=edge-03163342f7f0e6fe20de095ed8548c93",
	"x",
}

func TestPNG(t *testing.T) {
	for _, text := range texts {
		code, err := qr.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := scan(t, code.PNG()); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}

func TestTerminal(t *testing.T) {
	for _, text := range texts {
		code, err := qr.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		lines := code.Terminal()
		for i, line := range lines {
			line, ok := strings.CutPrefix(line, "\x1b[97;40m")
			rest, end := strings.CutSuffix(line, "\x1b[0m")
			if !ok || !end {
				t.Fatalf("line %d: got %q, want it white on black", i, line)
			}
			lines[i] = rest
		}
		picture := draw(t, lines, 8, 16, func(r rune) (bool, bool) { return r == '█' || r == '▀', r == '█' || r == '▄' })
		if got := scan(t, picture); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}

// Forms for consoles: one row of modules in a line, or two.
func TestForms(t *testing.T) {
	code, err := qr.Encode(texts[0])
	if err != nil {
		t.Fatal(err)
	}
	if code.Size() != 29 {
		t.Errorf("size: got %d, want 29: version 2 with its margin, which fits a console of 31 lines", code.Size())
	}
	rows := code.Modules("L", "D")
	if len(rows) != code.Size() || rows[0] != strings.Repeat("L", 29) {
		t.Errorf("got %d rows, the first %q, want 29 and a light margin", len(rows), rows[0])
	}
	if got := scan(t, draw(t, rows, 16, 16, func(r rune) (bool, bool) { return r == 'L', r == 'L' })); got != texts[0] {
		t.Errorf("got %q, want %q", got, texts[0])
	}
	halves := code.Halves("B", "U", "W", "N")
	if got := scan(t, draw(t, halves, 9, 16, func(r rune) (bool, bool) { return r == 'B' || r == 'U', r == 'B' || r == 'W' })); got != texts[0] {
		t.Errorf("got %q, want %q", got, texts[0])
	}
}

func TestTooLong(t *testing.T) {
	if _, err := qr.Encode(strings.Repeat("x", 4000)); err == nil || !strings.Contains(err.Error(), "4000 bytes are too long") {
		t.Errorf("got %v, want that it is too long", err)
	}
}
