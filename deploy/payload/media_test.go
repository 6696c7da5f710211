package payload_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bootd/deploy/payload"
	"bootd/internal/node"
)

// label is where a volume says what it is called (ECMA-119, 8.4.7).
func label(image []byte) string { return strings.TrimRight(string(image[32808:32840]), " ") }

func TestImage(t *testing.T) {
	for _, tt := range []struct {
		family, file, text, label string
		names                     []string // each as Rock Ridge has it
		baked                     string
	}{
		{node.NoCloud, "user-data", "#cloud-config\n{}\n", "cidata", []string{"user-data", "meta-data"}, "config.yaml"},
		{node.Kairos, "user-data", "#cloud-config\n{}\n", "cidata", []string{"user-data", "meta-data"}, "config.yaml"},
		{node.Autoinstall, "user-data", "#cloud-config\nautoinstall: {version: 1}\n", "cidata", []string{"user-data", "meta-data"}, "autoinstall.yaml"},
		{node.Kickstart, "ks.cfg", "text\n", "OEMDRV", []string{"ks.cfg"}, "ks.cfg"},
		{node.Talos, "config.yaml", "version: v1alpha1\n", "metal-iso", []string{"config.yaml"}, "config.yaml"},
	} {
		t.Run(tt.family, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			p := node.Payload{Family: tt.family, Dir: dir}
			n := &node.Node{Name: "ncn-w001"}
			image, err := payload.Image(p, payload.NewData(n, "", ""), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got := label(image); got != tt.label {
				t.Errorf("label: got %q, want %q", got, tt.label)
			}
			// The fields of Rock Ridge with names ("NM", length, 1, 0).
			for _, name := range tt.names {
				if !bytes.Contains(image, append([]byte{'N', 'M', byte(5 + len(name)), 1, 0}, name...)) {
					t.Errorf("got no file %s", name)
				}
			}
			if got := bytes.Count(image, []byte("NM")); got != len(tt.names) {
				t.Errorf("got %d files, want %q", got, tt.names)
			}
			if !bytes.Contains(image, []byte(tt.text)) {
				t.Errorf("got an image without %q", tt.text)
			}
			if document, path := payload.Baked(p); document != tt.file || path != tt.baked {
				t.Errorf("baked: got %s as %s, want %s as %s", document, path, tt.file, tt.baked)
			}
		})
	}
}

func TestImageOfNoCD(t *testing.T) {
	_, err := payload.Image(node.Payload{Family: node.Ignition, Dir: t.TempDir()}, payload.Data{}, time.Now())
	if want := `clients of family "ignition" look at no CD for their configuration`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
