package iso9660_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bootd/internal/iso9660"
)

var at = time.Date(2026, 11, 26, 12, 34, 56, 0, time.UTC)

// sizes are those around a sector: what a file ends with must not reach into
// what follows, and a file of no bytes has no sector.
var sizes = []int{0, 1, 2047, 2048, 2049, 4096, 70_000}

// text is n bytes that tell where they are.
func text(mark string, n int) []byte {
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%s %d\n", mark, b.Len())
	}
	return b.Bytes()[:n]
}

// Others read what we write, by each of its three sets of names.
func TestImageOthersRead(t *testing.T) {
	for _, user := range sizes {
		for _, meta := range []int{0, 2048} {
			t.Run(fmt.Sprintf("user-data %d meta-data %d", user, meta), func(t *testing.T) {
				files := []iso9660.File{{Name: "user-data", Data: text("user", user)}, {Name: "meta-data", Data: text("meta", meta)}}
				image := write(t, "cidata", files)
				for _, f := range files {
					plain := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))[:8] + ".;1"
					for how, name := range map[string]string{"-R": "/" + f.Name, "-J": "/" + f.Name, "-s": "/" + plain} {
						got := peer(t, "isoinfo", how, "-i", image, "-x", name)
						if got != string(f.Data) {
							t.Errorf("isoinfo %s %s: got %d bytes %.40q, want %d bytes %.40q", how, name, len(got), got, len(f.Data), f.Data)
						}
					}
				}
				for _, how := range []string{"-R", "-J"} {
					if got, want := fields(peer(t, "isoinfo", how, "-f", "-i", image)), "/meta-data /user-data"; got != want {
						t.Errorf("isoinfo %s -f: got %q, want %q", how, got, want)
					}
				}
				extracted(t, image, files)
			})
		}
	}
}

func fields(s string) string { return strings.Join(strings.Fields(s), " ") }

// extracted checks what xorriso, which prefers Rock Ridge, takes out.
func extracted(t *testing.T, image string, files []iso9660.File) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	peer(t, "xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", dir)
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != len(files) {
		t.Errorf("xorriso: got %v, %v, want %d files", list, err, len(files))
	}
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("xorriso: %s: got %d bytes, %v, want %d", f.Name, len(got), err, len(f.Data))
		}
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil || info.Mode().Perm() != 0o444 || !info.ModTime().Equal(at) {
			t.Errorf("xorriso: %s: got %v, %v, want mode 0444 and time %v", f.Name, info, err, at)
		}
	}
}

// What is on the volume besides files, as isoinfo, xorriso and blkid say it.
func TestImageDescribed(t *testing.T) {
	image := write(t, "cidata", []iso9660.File{{Name: "user-data", Data: text("user", 5000)}, {Name: "meta-data"}})
	info, err := os.Stat(image)
	if err != nil || info.Size()%2048 != 0 {
		t.Errorf("got a size of %v, %v, want whole sectors", info.Size(), err)
	}
	said := peer(t, "isoinfo", "-d", "-i", image)
	for _, want := range []string{
		"Volume id: cidata\n", "Volume size is: " + fmt.Sprint(info.Size()/2048) + "\n",
		"Joliet with UCS level 3 found\n", "Rock Ridge signatures version 1 found\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("isoinfo -d: got\n%s\nwant %q in it", said, want)
		}
	}
	if got, want := peer(t, "blkid", "-p", "-o", "value", "-s", "LABEL", "-s", "TYPE", image), "cidata\niso9660\n"; got != want {
		t.Errorf("blkid: got %q, want %q", got, want)
	}
	for key, want := range map[string]string{"JOLIET_LABEL": "", "UUID": "2026-11-26-12-34-56-00"} {
		if got := strings.TrimSpace(peer(t, "blkid", "-p", "-o", "value", "-s", key, image)); got != want {
			t.Errorf("blkid: %s: got %q, want %q", key, got, want)
		}
	}
}

func write(t *testing.T, label string, files []iso9660.File) string {
	t.Helper()
	b, err := iso9660.Image(label, at, files)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.iso")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// peer runs a program that we did not write, and returns what it prints.
func peer(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if strings.Contains(os.Getenv("BOOT_REQUIRE"), "netns") {
			t.Fatalf("BOOT_REQUIRE=netns: %v", err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, &errs)
	}
	return out.String()
}

// The same files are the same image, so a client can go on where it stopped.
func TestImageSame(t *testing.T) {
	files := []iso9660.File{{Name: "user-data", Data: text("user", 5000)}, {Name: "meta-data"}}
	a, err := iso9660.Image("cidata", at, files)
	if err != nil {
		t.Fatal(err)
	}
	b, err := iso9660.Image("cidata", at.In(time.FixedZone("", 3600)), []iso9660.File{files[1], files[0]})
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("got another image (%v), want the same in whatever order and zone", err)
	}
}

func TestImageRefuses(t *testing.T) {
	file := func(names ...string) (list []iso9660.File) {
		for _, n := range names {
			list = append(list, iso9660.File{Name: n})
		}
		return list
	}
	var many []string
	for c := range 26 {
		many = append(many, string(rune('a'+c)))
	}
	for _, tt := range []struct {
		label string
		files []iso9660.File
		want  string
	}{
		{"", file("a"), `label: "" is not`},
		{"seventeen-letters", file("a"), `label: "seventeen-letters" is not 1 to 16`},
		{"ci data", file("a"), `label: "ci data" is not`},
		{"cidata", file("a/b"), `file: "a/b" is not a plain name`},
		{"cidata", file(".."), `file: ".." is not a plain name`},
		{"cidata", file("user-data", "user-data"), `are both USER_DAT.;1`},
		{"cidata", file("network-config", "network-data"), `"network-config" and "network-data" are both NETWORK_.;1`},
		{"cidata", file(many...), `more than a directory of one sector`},
	} {
		_, err := iso9660.Image(tt.label, at, tt.files)
		if err == nil || !regexp.MustCompile(regexp.QuoteMeta(tt.want)).MatchString(err.Error()) {
			t.Errorf("%q %.60v: got %v, want %q", tt.label, tt.files, err, tt.want)
		}
	}
}
