package xorriso_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/xorriso"
)

// installer writes an image that boots.
func installer(t *testing.T, images *lab.Images) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "installer.iso")
	if err := images.WriteInstaller(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return image
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, &errs)
	}
	return out.String()
}

// TestAdd boots the image before and after from CD under both firmwares. The
// guest sees the user-data that was put in, the label as it was, and every
// other file unchanged.
func TestAdd(t *testing.T) {
	images := lab.ImagesForTest(t)
	before := installer(t, images)
	const userData = "#cloud-config\ninstall: {device: /dev/sda, poweroff: true}\n"
	after := filepath.Join(t.TempDir(), "after.iso")
	if err := os.WriteFile(after, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := xorriso.Add(t.Context(), before, after, map[string][]byte{"config.yaml": []byte(userData)}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(after), "*")); len(left) != 1 {
		t.Errorf("got %q beside the image, want nothing", left)
	}
	if got, want := catalogue(t, after), catalogue(t, before); got != want || !strings.Contains(got, "eltorito.img") {
		t.Errorf("boot catalogue: got\n%s\nwant\n%s", got, want)
	}
	for _, firmware := range []lab.Firmware{lab.BIOS, lab.UEFI} {
		t.Run(firmware.String(), func(t *testing.T) {
			was, err := images.ReadCD(t.Context(), before, &firmware)
			if err != nil {
				t.Fatalf("the image does not boot before anything is added: %v", err)
			}
			got, err := images.ReadCD(t.Context(), after, &firmware)
			if err != nil {
				t.Fatal(err)
			}
			for _, how := range []string{"nojoliet", "norock"} {
				baked := fmt.Sprintf("%s config.yaml %x", how, sha256.Sum256([]byte(userData)))
				if !slices.Contains(got, baked) || slices.Contains(was, baked) || !slices.Contains(got, "label COS_LIVE") {
					t.Errorf("got %q\nwant %q and label COS_LIVE in it", got, baked)
				}
			}
			if got, was := others(got), others(was); !slices.Equal(got, was) || len(was) < 3 {
				t.Errorf("other files: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(was, "\n"))
			}
		})
	}
}

// catalogue is what xorriso says of how an image boots, without where on it
// things lie and what it is called.
func catalogue(t *testing.T, image string) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(command(t, "xorriso", "-indev", image, "-report_el_torito", "plain")) {
		if f := strings.Fields(line); len(f) > 3 && (f[2] == "path" || f[2] == "img") {
			kept = append(kept, strings.Join(f[2:], " "))
		}
	}
	return strings.Join(kept, "\n")
}

// others are the lines of files that stay what they are: GRUB's boot image says
// where on the image things lie.
func others(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(s string) bool {
		f := strings.Fields(s)
		return f[0] != "nojoliet" || f[1] == "config.yaml" || strings.HasSuffix(f[1], "eltorito.img")
	})
}

func TestAddRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.iso")
	if err := os.WriteFile(text, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, name, want string }{
		{filepath.Join(dir, "none.iso"), "config.yaml", "no such file or directory"},
		{text, "config.yaml", text + ": not a CD image (ISO 9660)"},
	} {
		err := xorriso.Add(t.Context(), tt.from, filepath.Join(dir, "out.iso"), map[string][]byte{tt.name: nil})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.from, err, tt.want)
		}
	}
	t.Setenv("PATH", dir)
	if err := xorriso.Add(context.Background(), text, text, nil); !errors.Is(err, xorriso.ErrMissing) {
		t.Errorf("without the program: got %v, want %v", err, xorriso.ErrMissing)
	}
}

// A path in the image is no option of xorriso, and leads nowhere else.
func TestAddPaths(t *testing.T) {
	image := filepath.Join(t.TempDir(), "small.iso")
	tree := t.TempDir()
	command(t, "xorriso", "-outdev", image, "-map", tree, "/")
	for _, name := range []string{"", "/", "--", "-rm_r", "../config.yaml", "a/../b", "a//b", "a b", "*", "a\nb"} {
		err := xorriso.Add(t.Context(), image, image+".out", map[string][]byte{name: nil})
		if err == nil || !strings.Contains(err.Error(), "is not a path in an image") {
			t.Errorf("%q: got %v, want that it is no path", name, err)
		}
	}
}
