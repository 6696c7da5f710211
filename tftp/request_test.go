package tftp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector returns a captured payload.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rrq builds a read request of fields that each end in NUL.
func rrq(fields ...string) []byte {
	return []byte("\x00\x01" + strings.Join(fields, "\x00") + "\x00")
}

func TestParseVectors(t *testing.T) {
	for _, tt := range []struct {
		vector string
		want   request
		err    error
	}{
		{"ovmf_tftp_rrq_tsize", request{name: "boot.efi", blksize: 1468, tsize: true, window: 4}, nil},
		{"ovmf_tftp_rrq_data", request{name: "boot.efi", blksize: 1468, window: 4}, nil},
		{"grub_tftp_rrq", request{name: "/grub/grub.cfg", blksize: 1024, tsize: true}, nil},
		{"ovmf_tftp_abort", request{}, errSilence},
	} {
		got, err := parse(vector(t, tt.vector))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", tt.vector, got, err, tt.want, tt.err)
		}
	}
}

// Options: protocol.md 4.3 and case C58.
func TestParseOptions(t *testing.T) {
	for _, tt := range []struct {
		in   []byte
		want request
	}{
		{rrq("f", "octet"), request{name: "f"}},
		{rrq("f", "OcTeT"), request{name: "f"}},
		{rrq("f", "octet", "BLKSIZE", "1468", "TSIZE", "0"), request{name: "f", blksize: 1468, tsize: true}},
		{rrq("f", "octet", "blksize", "70000"), request{name: "f", blksize: 65464}},
		{rrq("f", "octet", "blksize", "99999999999999999999999"), request{name: "f", blksize: 65464}},
		{rrq("f", "octet", "blksize", "8"), request{name: "f", blksize: 8}},
		{rrq("f", "octet", "blksize", "7"), request{name: "f"}},
		{rrq("f", "octet", "blksize", "-1"), request{name: "f"}},
		{rrq("f", "octet", "blksize", "+512"), request{name: "f"}},
		{rrq("f", "octet", "blksize", ""), request{name: "f"}},
		{rrq("f", "octet", "blksize", "1k", "tsize", "x"), request{name: "f"}},
		{rrq("f", "octet", "blksize", "600", "blksize", "700"), request{name: "f", blksize: 600}},
		{rrq("f", "octet", "timeout", "3", "windowsize", "4", "multicast", "", "", ""), request{name: "f", timeout: 3, window: 4}},
		{rrq("f", "octet", "Timeout", "1", "WindowSize", "65535"), request{name: "f", timeout: 1, window: 65535}},
		{rrq("f", "octet", "timeout", "255", "windowsize", "1"), request{name: "f", timeout: 255, window: 1}},
		{rrq("f", "octet", "timeout", "0", "windowsize", "0"), request{name: "f"}},
		{rrq("f", "octet", "timeout", "256", "windowsize", "65536"), request{name: "f"}},
		{rrq("f", "octet", "timeout", "99999999999999999999999", "windowsize", "99999999999999999999999"), request{name: "f"}},
		{rrq("f", "octet", "tsize", "12345"), request{name: "f", tsize: true}},
		{rrq(strings.Repeat("n", 512-2-1-6), "octet"), request{name: strings.Repeat("n", 503)}},
	} {
		got, err := parse(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%q: got %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
	}
}

// Malformed requests: protocol.md 4.2 and case C68.
func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		in   []byte
		want error
	}{
		{nil, errSilence},
		{[]byte{0}, errSilence},
		{[]byte("\x00\x05\x00\x00closed\x00"), errSilence},
		{[]byte{0, 5}, errSilence},
		{[]byte("\x00\x02f\x00octet\x00"), refusal{2, "read only"}},
		{[]byte{0, 2}, refusal{2, "read only"}},
		{[]byte{0, 9}, refusal{4, "unknown operation"}},
		{[]byte{0, 0}, refusal{4, "unknown operation"}},
		{[]byte{1, 1, 'f', 0}, refusal{4, "unknown operation"}},
		{[]byte{0, 4, 0, 0}, refusal{4, "unknown operation"}},
		{[]byte{0, 1}, refusal{4, "request not terminated"}},
		{[]byte("\x00\x01f\x00octet"), refusal{4, "request not terminated"}},
		{[]byte("\x00\x01f"), refusal{4, "request not terminated"}},
		{[]byte("\x00\x01f\x00octet\x00blksize\x00512"), refusal{4, "request not terminated"}},
		{[]byte("\x00\x01\x00"), refusal{4, "no file name"}},
		{rrq("", "octet"), refusal{4, "no file name"}},
		{rrq("f"), refusal{4, "no transfer mode"}},
		{rrq("f", "octet", "blksize"), refusal{4, "option without value"}},
		{rrq("f", "octet", "tsize", "0", "blksize"), refusal{4, "option without value"}},
		{rrq("f", "mail"), refusal{4, "unknown transfer mode"}},
		{rrq("f", ""), refusal{4, "unknown transfer mode"}},
		{rrq("f", "NetASCII"), refusal{0, "netascii not supported"}},
		{rrq(strings.Repeat("n", 512-2-1-6+1), "octet"), refusal{4, "request too long"}},
	} {
		if got, err := parse(tt.in); got != (request{}) || err != tt.want {
			t.Errorf("%q: got %+v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

// RFC 1350 figure 5-4: opcode, code, text, one NUL.
func TestRefusalPacket(t *testing.T) {
	got := refusal{1, "file not found"}.packet()
	if want := "\x00\x05\x00\x01file not found\x00"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range []string{"ovmf_tftp_rrq_tsize", "ovmf_tftp_rrq_data", "ovmf_tftp_abort", "grub_tftp_rrq"} {
		f.Add(vector(f, v))
	}
	f.Add(rrq("f", "octet", "blksize"))
	f.Add([]byte{0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse(b)
		var no refusal
		switch {
		case err == nil:
			if got.name == "" || strings.Contains(got.name, "\x00") || len(b) > 512 {
				t.Errorf("%q: got name %q", b, got.name)
			}
			if got.timeout < 0 || got.timeout > 255 || got.window < 0 || got.window > 65535 {
				t.Errorf("%q: got timeout %d, windowsize %d", b, got.timeout, got.window)
			}
			if got.blksize != 0 && (got.blksize < 8 || got.blksize > 65464) {
				t.Errorf("%q: got blksize %d, want 8..65464", b, got.blksize)
			}
		case errors.As(err, &no):
			if p := no.packet(); len(p) > 64 || bytes.Count(p[4:], []byte{0}) != 1 {
				t.Errorf("%q: got answer %q", b, p)
			}
		case err != errSilence:
			t.Errorf("%q: got %v, want a refusal or silence", b, err)
		}
	})
}

// The client's words are kept short, to the first NUL.
func TestParseError(t *testing.T) {
	for _, tt := range []struct {
		in   string
		code uint16
		text string
	}{
		{"\x00\x05\x00\x08User aborted the transfer\x00", 8, "User aborted the transfer"},
		{"\x00\x05\x00\x03full\x00\x00junk", 3, "full"},
		{"\x00\x05\x00\x03full", 3, "full"},
		{"\x00\x05\x00\x03", 3, ""},
		{"\x00\x05\x00", 0, ""},
		{"\x00\x05", 0, ""},
		{"\x00\x05\x00\x00" + strings.Repeat("x", 500), 0, strings.Repeat("x", 100)},
	} {
		if code, text := parseError([]byte(tt.in)); code != tt.code || text != tt.text {
			t.Errorf("%q: got %d %q, want %d %q", tt.in, code, text, tt.code, tt.text)
		}
	}
}
