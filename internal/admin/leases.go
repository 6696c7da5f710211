package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"bootd/internal/lease"
)

// A DHCP answers for the DHCP server. Its methods are called concurrently.
type DHCP interface {
	// Leases returns the leases by address. It need not apply the filter.
	Leases(f lease.Filter) iter.Seq[lease.Lease]
	// AddLease leases an address by hand, and is on disk when it returns. It
	// reports whether that changed anything.
	AddLease(l lease.Lease) (lease.Lease, bool, error)
	// EndLease ends the lease of an address that is in force, and is on disk
	// when it returns. It reports whether there was one.
	EndLease(l lease.Lease) (bool, error)
	// ImportLeases begins an import. On dry nothing changes.
	ImportLeases(dry bool) Importer
}

// An Importer takes leases in. What Add says of a batch is on disk when it
// returns; when it returns an error, nothing of the batch is promised.
type Importer interface {
	Add(batch []lease.Line) ([]Merged, error)
}

// Merged is what became of one imported lease.
type Merged struct {
	Change Change
	Err    error // why it was refused
}

// A Change is what a lease that was not refused changed.
type Change uint8

// The changes.
const (
	Kept    Change = iota // nothing: the machine has the address at least as long
	Added                 // the machine did not have the address
	Updated               // the machine had the address until another time
)

// ErrNoLease is returned when there is no lease, in force or not, of what was
// asked for.
var ErrNoLease = errors.New("no lease")

// A Request is for a lease by hand.
type Request struct {
	lease.Lease
	Seconds  int64 `json:"seconds"`  // how long; zero: as its subnet leases to running systems
	Infinite bool  `json:"infinite"` // for ever
}

// A Report is one line of the answer to an import: a line of the file that was
// refused, or, at the end, the sums.
type Report struct {
	Line   int     `json:"line,omitempty"` // zero: the end
	Error  string  `json:"error,omitempty"`
	Totals *Totals `json:"totals,omitempty"`
}

// Totals counts the leases of an import.
type Totals struct {
	Added   int `json:"added"`
	Updated int `json:"updated"`
	Kept    int `json:"kept"`
	Refused int `json:"refused"`
}

func (t *Totals) count(m Merged) {
	switch {
	case m.Err != nil:
		t.Refused++
	case m.Change == Added:
		t.Added++
	case m.Change == Updated:
		t.Updated++
	default:
		t.Kept++
	}
}

const (
	importBatch = 1000    // leases that are committed together
	maxRequest  = 1 << 20 // bytes of a body that is one object
	streamBuf   = 64 << 10
)

// leaseRoutes adds the routes of leases to mux.
func leaseRoutes(mux *http.ServeMux, b DHCP) {
	mux.HandleFunc("GET /v1/leases", func(w http.ResponseWriter, r *http.Request) { listLeases(w, r, b) })
	mux.HandleFunc("POST /v1/leases", func(w http.ResponseWriter, r *http.Request) { addLease(w, r, b) })
	mux.HandleFunc("DELETE /v1/leases/{which}", func(w http.ResponseWriter, r *http.Request) {
		ended, err := endLeases(b, r.PathValue("which"))
		answer(w, ended, err)
	})
	mux.HandleFunc("POST /v1/leases/import", func(w http.ResponseWriter, r *http.Request) { importLeases(w, r, b) })
}

// listLeases writes the leases that were asked for, one a line, as they are
// read: however many there are, they cost no memory.
func listLeases(w http.ResponseWriter, r *http.Request, b DHCP) {
	f, err := lease.ParseFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, failure{Error: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, streamBuf)
	enc := json.NewEncoder(out)
	for l := range b.Leases(f) {
		if f.Match(&l) && enc.Encode(&l) != nil {
			return
		}
	}
	out.Flush()
}

func addLease(w http.ResponseWriter, r *http.Request, b DHCP) {
	var req Request
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, failure{Error: err.Error()})
		return
	}
	switch {
	case req.Infinite:
		req.Expires = lease.Never
	case req.Seconds > 0:
		req.Expires = time.Now().Add(time.Duration(req.Seconds) * time.Second).Truncate(time.Second)
	}
	req.State = lease.Bound
	added, changed, err := b.AddLease(req.Lease)
	if err != nil {
		answer(w, nil, err)
		return
	}
	answer(w, addedLease{added, changed}, nil)
}

type addedLease struct {
	lease.Lease
	Changed bool `json:"changed"`
}

// endLeases ends the leases of an address, MAC or node, and returns those that
// were in force.
func endLeases(b DHCP, which string) ([]lease.Lease, error) {
	f, err := lease.Of(which)
	if err != nil {
		return nil, err
	}
	found, ended := false, []lease.Lease{}
	for l := range b.Leases(f) {
		if !f.Match(&l) {
			continue
		}
		found = true
		ok, err := b.EndLease(l)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", l.Addr, err)
		}
		if ok {
			ended = append(ended, l)
		}
	}
	if !found {
		return nil, ErrNoLease
	}
	return ended, nil
}

// importLeases reads leases, one a line, and says of each that is refused why,
// while it reads on. The last line of the answer has the sums; without it the
// import is not complete.
func importLeases(w http.ResponseWriter, r *http.Request, b DHCP) {
	ctl := http.NewResponseController(w)
	if err := ctl.EnableFullDuplex(); err != nil {
		answer(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	totals, err := merge(json.NewDecoder(bufio.NewReaderSize(r.Body, streamBuf)), b.ImportLeases(r.URL.Query().Has("dry-run")), func(rep Report) error {
		return enc.Encode(rep)
	}, ctl.Flush)
	last := Report{Totals: &totals}
	if err != nil {
		last.Error = err.Error()
	}
	enc.Encode(last) // the caller may have left: nothing to do about it
}

// merge takes in what dec has, a batch at a time, and tells refusals.
func merge(dec *json.Decoder, im Importer, tell func(Report) error, flush func() error) (t Totals, err error) {
	batch := make([]lease.Line, 0, importBatch)
	for more := true; more; {
		batch = batch[:0]
		for len(batch) < importBatch {
			var line lease.Line
			if err := dec.Decode(&line); err == io.EOF {
				more = false
				break
			} else if err != nil {
				return t, fmt.Errorf("after line %d: %w", lastLine(batch), err)
			}
			batch = append(batch, line)
		}
		if len(batch) == 0 {
			break
		}
		if err := mergeBatch(batch, im, &t, tell); err != nil {
			return t, err
		}
		if err := flush(); err != nil {
			return t, err
		}
	}
	return t, nil
}

func lastLine(batch []lease.Line) int {
	if len(batch) == 0 {
		return 0
	}
	return batch[len(batch)-1].Number
}

func mergeBatch(batch []lease.Line, im Importer, t *Totals, tell func(Report) error) error {
	results, err := im.Add(batch)
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w", batch[0].Number, lastLine(batch), err)
	}
	for i, m := range results {
		t.count(m)
		if m.Err == nil {
			continue
		}
		if err := tell(Report{Line: batch[i].Number, Error: fmt.Sprintf("%v: %v", batch[i].Addr, m.Err)}); err != nil {
			return err
		}
	}
	return nil
}

// Leases calls visit for every lease that f chooses, by address, until visit
// returns an error, which Leases returns.
func (c *Client) Leases(ctx context.Context, f lease.Filter, visit func(lease.Lease) error) error {
	body, err := c.open(ctx, "/v1/leases?"+f.Values().Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(bufio.NewReaderSize(body, streamBuf)); ; {
		var l lease.Lease
		switch err := dec.Decode(&l); {
		case err == io.EOF:
			return nil
		case err != nil:
			return c.explain(err)
		}
		if err := visit(l); err != nil {
			return err
		}
	}
}

// EndLeases ends the leases of an address, MAC or node, and returns those that
// were in force. The error wraps ErrNoLease when there is none, in force or
// not.
func (c *Client) EndLeases(ctx context.Context, which string) (ended []lease.Lease, err error) {
	if _, err := lease.Of(which); err != nil {
		return nil, err
	}
	return ended, c.call(ctx, http.MethodDelete, "/v1/leases/"+url.PathEscape(which), nil, &ended)
}

// AddLease asks for a lease by hand. It reports whether that changed anything.
func (c *Client) AddLease(ctx context.Context, req Request) (lease.Lease, bool, error) {
	var added addedLease
	err := c.call(ctx, http.MethodPost, "/v1/leases", req, &added)
	return added.Lease, added.Changed, err
}

// Import sends the leases that lines yields, and calls refused for each that
// is refused. On dry nothing changes. After an error, the totals are of what
// is on disk.
func (c *Client) Import(ctx context.Context, dry bool, lines iter.Seq[lease.Line], refused func(Report)) (t Totals, err error) {
	path := "/v1/leases/import"
	if dry {
		path += "?dry-run"
	}
	r, w := io.Pipe()
	defer r.Close() // ends the writer when the daemon does not want more
	go func() { w.CloseWithError(write(ctx, w, lines)) }()
	body, err := c.send(ctx, http.MethodPost, path, r)
	if err != nil {
		return t, err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var rep Report
		if err := dec.Decode(&rep); err != nil {
			return t, c.explain(err)
		}
		switch {
		case rep.Totals != nil && rep.Error != "":
			return *rep.Totals, errors.New(rep.Error)
		case rep.Totals != nil:
			return *rep.Totals, nil
		}
		refused(rep)
	}
}

// write sends lines. Where they end because ctx did, they are not complete: what
// the daemon has not taken in yet, it does not.
func write(ctx context.Context, w io.Writer, lines iter.Seq[lease.Line]) error {
	buf := bufio.NewWriterSize(w, streamBuf)
	enc := json.NewEncoder(buf)
	for line := range lines {
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return buf.Flush()
}
