package lease

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"bootd/internal/node"
)

// maxLine bounds a line of a file, in bytes. The longest lease is shorter by
// far.
const maxLine = 16 << 10

// A Format is a notation of files that hold leases.
type Format uint8

// The formats.
const (
	JSON    Format = iota // a Lease per line
	CSV                   // first line: the names of the columns
	Dnsmasq               // <expiry> <mac> <ip> <name|*> <client-id|*>, as dnsmasq's lease file
)

var formats = [...]string{JSON: "json", CSV: "csv", Dnsmasq: "dnsmasq"}

// String returns the word used on the command line.
func (f Format) String() string { return formats[f] }

// ParseFormat reads the word used on the command line.
func ParseFormat(s string) (Format, error) {
	if i := slices.Index(formats[:], s); i >= 0 {
		return Format(i), nil
	}
	return 0, fmt.Errorf("%q is not one of json, csv, dnsmasq", s)
}

// columns are those of CSV, in the order they are written.
var columns = [...]string{"ip", "mac", "state", "node", "name", "start", "expires", "client_id", "hostname"}

// A Writer writes leases. What it wrote is there after Flush.
type Writer struct {
	w      *bufio.Writer
	format Format
	json   *json.Encoder
	csv    *csv.Writer
	line   []byte
}

// NewWriter returns a writer of leases in format f, and begins the file.
func NewWriter(w io.Writer, f Format) *Writer {
	buf := bufio.NewWriterSize(w, 64<<10)
	out := &Writer{w: buf, format: f, json: json.NewEncoder(buf), csv: csv.NewWriter(buf)}
	out.json.SetEscapeHTML(false)
	if f == CSV {
		out.csv.Write(columns[:]) // into the buffer: Flush has the error
	}
	return out
}

// Write writes one lease. dnsmasq's file holds only leases of machines that
// are in force, so other ones are left out of it.
func (w *Writer) Write(l *Lease) error {
	switch w.format {
	case CSV:
		return w.csv.Write([]string{
			l.Addr.String(), text(l.MAC), string(l.State), l.Node, l.Name,
			formatTime(l.Start), formatTime(l.Expires), l.ClientID, l.Hostname,
		})
	case Dnsmasq:
		if l.State != Bound {
			return nil
		}
		w.line = AppendDnsmasq(w.line[:0], l)
		_, err := w.w.Write(w.line)
		return err
	}
	return w.json.Encode(l)
}

// Flush writes what is buffered.
func (w *Writer) Flush() error {
	w.csv.Flush()
	return errors.Join(w.csv.Error(), w.w.Flush())
}

// AppendDnsmasq appends the line that dnsmasq 2.90 writes for l (lease.c,
// lease_update_file). A machine without a hardware address is on InfiniBand,
// the only such network there is: its type, 32, stands for the address.
func AppendDnsmasq(b []byte, l *Lease) []byte {
	expires := l.Expires.Unix()
	if l.Expires.Equal(Never) {
		expires = 0
	}
	b = append(strconv.AppendInt(b, expires, 10), ' ')
	if l.MAC.IsZero() {
		b = append(b, "20-"...)
	} else {
		b = append(b, l.MAC.String()...)
	}
	b = append(l.Addr.AppendTo(append(b, ' ')), ' ')
	b = append(append(b, star(l.Name)...), ' ')
	return append(append(b, star(l.ClientID)...), '\n')
}

func star(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

func text(m node.MAC) string {
	if m.IsZero() {
		return ""
	}
	return m.String()
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// A Line is a line of a file that holds leases.
type Line struct {
	Number int `json:"line"` // from 1
	Lease
	Err error `json:"-"` // why there is no lease on it
}

// Read calls visit for every line of r that should be a lease, until visit
// returns an error, which Read returns.
func Read(r io.Reader, f Format, visit func(Line) error) error {
	parse := map[Format]func(string) (Lease, error){JSON: parseJSON, Dnsmasq: parseDnsmasq}[f]
	lines := bufio.NewReaderSize(r, maxLine)
	for number := 1; ; number++ {
		text, err := readLine(lines)
		switch {
		case err == io.EOF:
			return nil
		case err != nil && err != errLong:
			return err
		case f == CSV && parse == nil:
			if parse, err = csvParser(text); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			continue
		case err == nil && strings.TrimSpace(text) == "":
			continue
		}
		line := Line{Number: number, Err: err}
		if err == nil {
			line.Lease, line.Err = parse(text)
		}
		if line.Err == errNoLease {
			continue
		}
		if err := visit(line); err != nil {
			return err
		}
	}
}

// errNoLease is returned for a line that says something else.
var errNoLease = errors.New("no lease")

var errLong = fmt.Errorf("longer than %d bytes", maxLine)

// readLine returns the next line without its end. Of a line that is too long
// the rest is read and dropped.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		for err == bufio.ErrBufferFull {
			_, err = r.ReadSlice('\n')
		}
		if err == nil || err == io.EOF {
			err = errLong
		}
		return "", err
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	return string(bytes.TrimRight(line, "\r\n")), err
}

func parseJSON(s string) (l Lease, err error) {
	if err := json.Unmarshal([]byte(s), &l); err != nil {
		return Lease{}, fmt.Errorf("not a lease in JSON: %w", plain(err))
	}
	return Checked(l)
}

// plain says what encoding/json found without its names of Go types.
func plain(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: a %s", e.Field, e.Value)
	}
	return err
}

// Checked refuses what no lease can be, wherever it comes from. A lease without
// a state is bound.
func Checked(l Lease) (Lease, error) {
	if l.State == "" {
		l.State = Bound
	}
	if _, err := ParseState(string(l.State)); err != nil {
		return Lease{}, fmt.Errorf("state: %w", err)
	}
	if _, err := ParseID(l.ClientID); err != nil {
		return Lease{}, err
	}
	switch {
	case !l.Addr.IsValid():
		return Lease{}, errors.New("ip: missing")
	case !l.Addr.Is4():
		return Lease{}, fmt.Errorf("ip: %v is not an IPv4 address", l.Addr)
	case l.MAC.IsGroup():
		return Lease{}, fmt.Errorf("mac: %v is a multicast address, which no machine has", l.MAC)
	case l.MAC.IsZero() && l.ClientID == "" && l.State != Declined:
		return Lease{}, errors.New("neither mac nor client_id: whose lease is it?")
	case l.Expires.IsZero():
		return Lease{}, errors.New("expires: missing")
	case !lasting(l.Expires):
		return Lease{}, errors.New("expires: no lease was ever valid until then")
	case !l.Start.IsZero() && !lasting(l.Start):
		return Lease{}, errors.New("start: no lease ever began then")
	}
	if len(l.Hostname) > maxID {
		return Lease{}, fmt.Errorf("hostname: %d bytes, where DHCP allows %d", len(l.Hostname), maxID)
	}
	return l, nil
}

// lasting reports whether t is a time that a lease record can hold. Of one far
// away only the seconds tell the truth: a comparison overflows.
func lasting(t time.Time) bool { return t.Unix() >= 0 && t.Unix() <= Never.Unix() }

// csvParser returns what reads the lines under a heading.
func csvParser(heading string) (func(string) (Lease, error), error) {
	names, err := fields(strings.TrimPrefix(heading, "\ufeff"))
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, name := range names {
		if _, twice := at[name]; twice || !slices.Contains(columns[:], name) {
			return nil, fmt.Errorf("%.80q is no column of leases, or there twice: known are %s", name, strings.Join(columns[:], ", "))
		}
		at[name] = i
	}
	for _, name := range []string{"ip", "mac", "expires"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("the heading has no column %s", name)
		}
	}
	return func(line string) (Lease, error) {
		row, err := fields(line)
		if err == nil && len(row) != len(names) {
			err = fmt.Errorf("%d fields, where the heading has %d", len(row), len(names))
		}
		if err != nil {
			return Lease{}, err
		}
		return parseRow(func(name string) string {
			if i, ok := at[name]; ok {
				return row[i]
			}
			return ""
		})
	}, nil
}

// fields splits a line of CSV. No field of a lease holds the end of a line.
func fields(line string) ([]string, error) {
	if !strings.Contains(line, `"`) {
		return strings.Split(line, ","), nil
	}
	row, err := csv.NewReader(strings.NewReader(line)).Read()
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return nil, fmt.Errorf("not CSV: %w", e.Err)
	}
	return row, err
}

func parseRow(get func(name string) string) (l Lease, err error) {
	l.State, l.ClientID, l.Hostname = State(get("state")), get("client_id"), get("hostname")
	if l.Addr, err = parseAddr(get("ip")); err != nil {
		return Lease{}, err
	}
	if err := l.MAC.UnmarshalText([]byte(get("mac"))); err != nil {
		return Lease{}, err
	}
	for name, t := range map[string]*time.Time{"start": &l.Start, "expires": &l.Expires} {
		if s := get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return Lease{}, fmt.Errorf("%s: %.80q is not a time such as 2026-01-02T15:04:05Z", name, s)
			}
		}
	}
	return Checked(l)
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%.80q is not an IP address", s)
	}
	return a, nil
}

// parseDnsmasq reads a line of dnsmasq's lease file. The line that begins with
// duid is the server's own identity for DHCPv6.
func parseDnsmasq(s string) (l Lease, err error) {
	f := strings.Fields(s)
	if len(f) == 2 && f[0] == "duid" {
		return Lease{}, errNoLease
	}
	if len(f) != 5 {
		return Lease{}, fmt.Errorf("%d fields, where dnsmasq writes 5: expiry, MAC, address, name and client-id", len(f))
	}
	seconds, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil || seconds < 0 {
		return Lease{}, fmt.Errorf("%.80q is not a time in seconds", f[0])
	}
	if l.Addr, err = parseAddr(f[2]); err != nil {
		return Lease{}, err
	}
	if !l.Addr.Is4() {
		return Lease{}, fmt.Errorf("%v is an IPv6 lease", l.Addr)
	}
	if l.MAC, err = dnsmasqMAC(f[1]); err != nil {
		return Lease{}, err
	}
	l.Expires = Never
	if seconds > 0 {
		l.Expires = time.Unix(seconds, 0).UTC()
	}
	l.Hostname, l.ClientID = unstar(f[3]), unstar(f[4])
	return Checked(l)
}

// dnsmasqMAC reads a hardware address. Of other than Ethernet its type comes
// first, which we have no use for.
func dnsmasqMAC(s string) (node.MAC, error) {
	kind, rest, typed := strings.Cut(s, "-")
	switch {
	case !typed:
		return node.ParseMAC(s)
	case len(kind) == 2 && rest == "":
		return node.MAC{}, nil
	}
	return node.MAC{}, fmt.Errorf("%.80q is not the address of an Ethernet card", s)
}

func unstar(s string) string {
	if s == "*" {
		return ""
	}
	return s
}
