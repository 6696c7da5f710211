package claim

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// hostRule is a host name (RFC 1123, 2.1).
var hostRule = regexp.MustCompile(`^(?i)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// isHost reports whether a text is a host name or an IPv4 address. No name ends
// in a number.
func isHost(text string) bool {
	if last := text[strings.LastIndexByte(text, '.')+1:]; strings.Trim(last, "0123456789") != "" {
		return len(text) <= 253 && hostRule.MatchString(text)
	}
	a, err := netip.ParseAddr(text)
	return err == nil && !a.IsUnspecified()
}

// ParseServer reads HOST or HOST:PORT, where phones reach the daemon: a name or
// an IPv4 address, since bootd speaks no IPv6. Port 0: it is not said.
func ParseServer(text string) (host string, port uint16, err error) {
	if strings.Count(text, ":") > 1 && !strings.Contains(text, "/") {
		return "", 0, fmt.Errorf("%q is an IPv6 address, and bootd listens on IPv4 alone", text)
	}
	host, digits, ported := strings.Cut(text, ":")
	if ported {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%q: port %q is not a number from 1 to 65535", text, digits)
		}
		port = uint16(n)
	}
	if !isHost(host) {
		return "", 0, fmt.Errorf("%q is not HOST or HOST:PORT, such as boot.example or 10.1.1.1:8080", text)
	}
	return host, port, nil
}

// ErrNoSites is returned when a machine is to be claimed where nothing can be.
var ErrNoSites = errors.New("no machine can be claimed: the configuration has no registration: with sites; see docs/registration.md")
