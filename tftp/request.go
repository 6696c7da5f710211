package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Operations of RFC 1350 section 5.
const (
	opRRQ   = 1
	opWRQ   = 2
	opDATA  = 3
	opACK   = 4
	opERROR = 5
	opOACK  = 6 // RFC 2347
)

// Error codes of RFC 1350 section 5.
const (
	codeUndefined  = 0
	codeNotFound   = 1
	codeAccess     = 2
	codeIllegal    = 4
	codeUnknownTID = 5
	codeOption     = 8 // RFC 2347
)

// Sizes in bytes.
const (
	maxRequest   = 512   // whole packet, RFC 2347
	header       = 4     // operation and number, RFC 1350
	overhead     = 32    // of IPv4, UDP and TFTP
	minBlock     = 8     // RFC 2348
	defaultBlock = 512   // without option blksize, RFC 1350
	maxBlock     = 65464 // RFC 2348
)

// Largest values of other options.
const (
	maxTimeout = 255   // seconds, RFC 2349
	maxWindow  = 65535 // blocks, RFC 7440
)

// errSilence is returned when a packet must not be answered.
var errSilence = errors.New("not to be answered")

// A refusal is an ERROR packet for a client. Its text is fixed, printable
// ASCII: it never holds anything of the request or of a Go error.
type refusal struct {
	code uint16
	text string
}

func (r refusal) Error() string { return fmt.Sprintf("error %d %q", r.code, r.text) }

// packet returns the wire form, which ends in one NUL.
func (r refusal) packet() []byte {
	b := binary.BigEndian.AppendUint16(nil, opERROR)
	b = binary.BigEndian.AppendUint16(b, r.code)
	return append(append(b, r.text...), 0)
}

// A request is what we understand of an RRQ. Options that we do not serve, or
// whose value makes no sense, are left out (RFC 2347).
type request struct {
	name    string // as asked for
	blksize int    // in minBlock..maxBlock; zero: not asked for
	tsize   bool   // client wants to know the size
	timeout int    // in seconds, 1 to 255; zero: not asked for
	window  int    // windowsize in 1..65535; zero: not asked for
}

// parse reads a packet that came to the public port. The error is errSilence
// or a refusal.
func parse(b []byte) (request, error) {
	if len(b) < 2 {
		return request{}, errSilence
	}
	switch binary.BigEndian.Uint16(b) {
	case opRRQ:
		return parseRRQ(b)
	case opWRQ:
		return request{}, refusal{codeAccess, "read only"}
	case opERROR:
		return request{}, errSilence
	default:
		return request{}, refusal{codeIllegal, "unknown operation"}
	}
}

// parseRRQ reads a name, a mode, and options in pairs of name and value, each
// with a NUL at its end (RFC 1350, section 5; RFC 2347).
func parseRRQ(b []byte) (request, error) {
	if len(b) > maxRequest {
		return request{}, refusal{codeIllegal, "request too long"}
	}
	body, terminated := strings.CutSuffix(string(b[2:]), "\x00")
	if !terminated {
		return request{}, refusal{codeIllegal, "request not terminated"}
	}
	fields := strings.Split(body, "\x00")
	switch {
	case fields[0] == "":
		return request{}, refusal{codeIllegal, "no file name"}
	case len(fields) == 1:
		return request{}, refusal{codeIllegal, "no transfer mode"}
	case len(fields)%2 != 0:
		return request{}, refusal{codeIllegal, "option without value"}
	}
	if err := checkMode(fields[1]); err != nil {
		return request{}, err
	}
	r := request{name: fields[0]}
	r.readOptions(fields[2:])
	return r, nil
}

// checkMode accepts octet in any case (RFC 1350 section 5). netascii would
// need every line end translated, and no boot loader wants that.
func checkMode(mode string) error {
	switch strings.ToLower(mode) {
	case "octet":
		return nil
	case "netascii":
		return refusal{codeUndefined, "netascii not supported"}
	default:
		return refusal{codeIllegal, "unknown transfer mode"}
	}
}

// readOptions takes pairs of name and value. An option may be given once (RFC
// 2347); of several the first counts.
func (r *request) readOptions(pairs []string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name := strings.ToLower(pairs[i])
		n, err := strconv.ParseUint(pairs[i+1], 10, 64)
		if seen[name] || err != nil && !errors.Is(err, strconv.ErrRange) {
			continue
		}
		seen[name] = true
		switch {
		case name == "tsize":
			r.tsize = true
		case name == "blksize" && n >= minBlock:
			r.blksize = int(min(n, maxBlock))
		case name == "timeout" && n >= 1 && n <= maxTimeout:
			r.timeout = int(n)
		case name == "windowsize" && n >= 1 && n <= maxWindow:
			r.window = int(n)
		}
	}
}

// maxErrorText is how much of a client's text is kept, in bytes.
const maxErrorText = 100

// parseError reads an ERROR packet. What it lacks is zero.
func parseError(b []byte) (code uint16, text string) {
	if len(b) < header {
		return 0, ""
	}
	text, _, _ = strings.Cut(string(b[header:min(len(b), header+maxErrorText)]), "\x00")
	return binary.BigEndian.Uint16(b[2:]), text
}
