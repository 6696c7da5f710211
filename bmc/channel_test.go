package bmc

import (
	"net/netip"
	"testing"
)

func TestPickChannel(t *testing.T) {
	at := func(n uint8, s string) lanChannel { return lanChannel{n, netip.MustParseAddr(s)} }
	for _, tt := range []struct {
		name    string
		found   []lanChannel
		current uint8
		want    uint8
		err     string
	}{
		{"one", []lanChannel{at(1, "0.0.0.0")}, 0, 1, ""},
		{"the address decides", []lanChannel{at(1, "10.0.0.1"), at(3, "10.254.1.6")}, 1, 3, ""},
		{"else where we came in", []lanChannel{at(1, "10.0.0.1"), at(3, "10.0.0.2")}, 3, 3, ""},
		{"doubt", []lanChannel{at(1, "10.0.0.1"), {number: 3}}, 0, 0, "none of its 2 LAN channels has the address 10.254.1.6"},
		{"none", nil, 1, 0, "not supported by this BMC: it has no LAN channel"},
	} {
		got, err := pickChannel(tt.found, "10.254.1.6", tt.current)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tt.want || text != tt.err {
			t.Errorf("%s: got %d, %q, want %d, %q", tt.name, got, text, tt.want, tt.err)
		}
	}
}

func TestVendor(t *testing.T) {
	for name, want := range map[string]string{ // Manufacturer of real Redfish services
		"HPE": "HPE", "Hewlett Packard Enterprise": "HPE", "GIGABYTE": "GIGABYTE", "Giga Computing": "Giga Computing",
		"Dell Inc.": "Dell", "Intel Corporation": "Intel", "Cray Inc.": "Cray Inc.", "Supermicro": "Supermicro", "": "",
	} {
		if got := vendorByName(name); got.Name != want {
			t.Errorf("%q: got %q, want %q", name, got.Name, want)
		}
	}
	if got := vendorByName("Hewlett-Packard").Reset; got != ResetNever {
		t.Errorf("Hewlett-Packard: got reset policy %d, want never", got)
	}
}
