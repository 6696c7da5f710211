package claim

import (
	"strings"
	"testing"
)

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"boot.example": "", "boot": "", "BOOT-1.example:8080": "", "10.1.1.1": "", "10.1.1.1:65535": "", "1.example": "", "x": "", "1a": "",
		"":                            "is not HOST or HOST:PORT",
		"http://boot.example":         `port "//boot.example" is not a number`,
		"boot.example/c":              "is not HOST or HOST:PORT",
		"boot example":                "is not HOST or HOST:PORT",
		"boot.example:":               `port "" is not a number from 1 to 65535`,
		"boot.example:0":              `port "0" is not a number from 1 to 65535`,
		"boot.example:65536":          `port "65536" is not a number from 1 to 65535`,
		"boot.example:http":           `port "http" is not a number from 1 to 65535`,
		"10.1.1.300":                  "is not HOST or HOST:PORT",
		"10.1.1":                      "is not HOST or HOST:PORT",
		"0.0.0.0":                     "is not HOST or HOST:PORT",
		"-boot":                       "is not HOST or HOST:PORT",
		"boot-":                       "is not HOST or HOST:PORT",
		"boot..example":               "is not HOST or HOST:PORT",
		"fe80::1":                     "is an IPv6 address",
		"[fe80::1]:80":                "is an IPv6 address",
		strings.Repeat("a", 64) + "b": "is not HOST or HOST:PORT",
	} {
		_, _, err := ParseServer(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if host, port, err := ParseServer("boot:8080"); host != "boot" || port != 8080 || err != nil {
		t.Errorf("got %q, %d, %v", host, port, err)
	}
}
