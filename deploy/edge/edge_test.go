package edge_test

import (
	"errors"
	"strings"
	"testing"

	"bootd/deploy/edge"
	"bootd/internal/node"
)

func uuid(t *testing.T, s string) node.UUID {
	t.Helper()
	u, err := node.ParseUUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// The expected ids are those of Spectro Cloud's documentation where it shows
// any: the first from the log of the Edge documentation, the others from the
// rules of the installer reference.
func TestPredict(t *testing.T) {
	known := edge.Hardware{UUID: uuid(t, "03163342-F7F0-E6FE-20DE-095ED8548C93"), Serial: "S123-45"}
	for _, tt := range []struct {
		name string
		h    edge.Hardware
		docs []string
		want string
		err  string
	}{
		{"default: the UUID without dashes", known, nil, "edge-03163342f7f0e6fe20de095ed8548c93", ""},
		{"name wins", known, []string{"#cloud-config\nstylus:\n  site:\n    name: stg-wahvp004\n    prefix: x\n"}, "stg-wahvp004", ""},
		{"prefix", known, []string{"stylus: {site: {prefix: paris}}"}, "paris-03163342f7f0e6fe20de095ed8548c93", ""},
		{"the site's document wins", known, []string{"stylus: {site: {name: a, prefix: b}}", "stylus: {site: {name: c}}"}, "c", ""},
		{"the other keys of the first stay", known, []string{"stylus: {site: {prefix: b}}", "stylus: {site: {paletteEndpoint: x}}"}, "b-03163342f7f0e6fe20de095ed8548c93", ""},
		{"an empty document", known, []string{"stylus: {site: {name: a}}", "", "#cloud-config\n"}, "a", ""},
		{"serial", known, []string{"stylus: {site: {deviceUIDPaths: [{name: /sys/class/dmi/id/product_serial}]}}"}, "edge-S12345", ""},
		{"regex", known, []string{`stylus: {site: {deviceUIDPaths: [{name: /sys/class/dmi/id/product_uuid, regex: "[0-9a-f]{12}$"}]}}`}, "edge-095ed8548c93", ""},
		{"regex without a match", known, []string{`stylus: {site: {deviceUIDPaths: [{name: /sys/class/dmi/id/product_uuid, regex: "x"}]}}`}, "", `regex "x" matches nothing in /sys/class/dmi/id/product_uuid`},
		{"bad regex", known, []string{`stylus: {site: {deviceUIDPaths: [{name: /sys/class/dmi/id/product_uuid, regex: "("}]}}`}, "", `regex "(": `},
		{"a file of the host", known, []string{`stylus: {site: {deviceUIDPaths: [{name: /etc/palette/metadata-regex, regex: "edge.*"}]}}`}, "", `it is in the file "/etc/palette/metadata-regex" of the host`},
		{"random", known, []string{`stylus: {site: {name: "$random"}}`}, "", "its name is $random"},
		{"no UUID", edge.Hardware{Serial: "S"}, nil, "", "the UUID of its machine is not known"},
		{"a placeholder", edge.Hardware{UUID: uuid(t, "03000200-0400-0500-0006-000700080009")}, nil, "", "the UUID of its machine is not known"},
		{"no serial", edge.Hardware{UUID: known.UUID}, []string{"stylus: {site: {deviceUIDPaths: [{name: /sys/class/dmi/id/product_serial}]}}"}, "", "serial of its machine is not known"},
		{"a character", known, []string{"stylus: {site: {name: host.example}}"}, "", `edge host id "host.example": Palette does not take "." in one`},
		{"cut off", known, []string{"stylus: {site: {name: " + strings.Repeat("a", 130) + "}}"}, strings.Repeat("a", 128), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var docs [][]byte
			for _, d := range tt.docs {
				docs = append(docs, []byte(d))
			}
			s, err := edge.Read(docs...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := edge.Predict(tt.h, s)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v, want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
	if _, err := edge.Read([]byte("a: [")); err == nil {
		t.Error("got settings of a document that is not YAML")
	}
}

func TestCompare(t *testing.T) {
	h := edge.Hardware{UUID: uuid(t, "4c4c4544-0051-3010-8052-b4c04f4e3132")}
	for _, tt := range []struct {
		reported string
		s        edge.Settings
		want     edge.Verdict
	}{
		{"", edge.Settings{}, edge.Silent},
		{"edge-4c4c454400513010" + "8052b4c04f4e3132", edge.Settings{}, edge.Same},
		{"edge-4C4C4544005130108052B4C04F4E3132", edge.Settings{}, edge.Same},
		// The bytes as SMBIOS stores them and DHCP option 97 sends them.
		{"edge-44454c4c51001030" + "8052b4c04f4e3132", edge.Settings{}, edge.Swapped},
		{"edge-9e8e3342bafa9eb6d45f81c1f6714ea2", edge.Settings{}, edge.Other},
		{"edge-01", edge.Settings{Name: "edge-01"}, edge.Same},
		{"edge-02", edge.Settings{Name: "edge-01"}, edge.Other},
		{"edge-02", edge.Settings{Name: "$random"}, edge.NotKnown},
	} {
		if got := edge.Compare(h, tt.s, tt.reported); got != tt.want {
			t.Errorf("%q, %+v: got %v, want %v", tt.reported, tt.s, got, tt.want)
		}
	}
	if _, err := edge.Predict(edge.Hardware{}, edge.Settings{}); !errors.Is(err, edge.ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
}
