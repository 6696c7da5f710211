package iso9660_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"bootd/internal/iso9660"
	"bootd/internal/lab"
)

// The kernel of a virtual machine mounts what is in its CD drive, under each of
// the two extensions.
func TestImageMounted(t *testing.T) {
	images := lab.ImagesForTest(t)
	for _, size := range []int{700, 4096} {
		files := []iso9660.File{{Name: "meta-data"}, {Name: "user-data", Data: text("user", size)}}
		got, err := images.ReadCD(t.Context(), write(t, "cidata", files), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"label cidata"}
		for _, how := range []string{"norock", "nojoliet"} {
			for _, f := range files {
				want = append(want, fmt.Sprintf("%s %s %x", how, f.Name, sha256.Sum256(f.Data)))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("user-data of %d bytes:\ngot  %q\nwant %q", size, got, want)
		}
	}
}
