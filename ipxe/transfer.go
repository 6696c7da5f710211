package ipxe

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A reader has a minute for each piece of a file, which makes 1 kB/s. Larger
// pieces would ask more of a reader and save no CPU time (BenchmarkTransfer).
const (
	pieceTime = time.Minute
	piece     = 60_000
)

// A meter is a ResponseWriter that counts what it sends, keeps the first error
// and cuts off a reader that is too slow. The kernel still copies files
// (sendfile), piece by piece.
type meter struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int // zero: nothing sent
	sent    int64
	err     error
}

func newMeter(w http.ResponseWriter) *meter {
	return &meter{ResponseWriter: w, control: http.NewResponseController(w)}
}

// Unwrap is for http.ResponseController.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// extend gives the reader time for one more piece. A connection that cannot
// have a deadline has no slow reader either: it is a test's.
func (m *meter) extend() { _ = m.control.SetWriteDeadline(time.Now().Add(pieceTime)) }

// WriteHeader keeps the status.
func (m *meter) WriteHeader(code int) {
	if m.status == 0 {
		m.status = code
	}
	m.ResponseWriter.WriteHeader(code)
}

// Write sends b.
func (m *meter) Write(b []byte) (int, error) {
	m.implied()
	m.extend()
	n, err := m.ResponseWriter.Write(b)
	m.add(int64(n), err)
	return n, err
}

// ReadFrom sends what http.ServeContent reads: an io.LimitedReader on a file.
// Sending a LimitedReader on a LimitedReader would keep net from seeing the
// file, hence the new one for each piece.
func (m *meter) ReadFrom(r io.Reader) (n int64, err error) {
	m.implied()
	lr, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{m}, r)
	}
	for lr.N > 0 && err == nil {
		part := io.LimitedReader{R: lr.R, N: min(lr.N, piece)}
		want := part.N
		m.extend()
		var k int64
		k, err = io.Copy(m.ResponseWriter, &part)
		if err == nil && k < want {
			err = fmt.Errorf("file became shorter: %w", io.ErrUnexpectedEOF)
		}
		n, lr.N = n+k, lr.N-k
		m.add(k, err)
	}
	return n, err
}

func (m *meter) implied() {
	if m.status == 0 {
		m.status = http.StatusOK
	}
}

func (m *meter) add(n int64, err error) {
	m.sent += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("reader is slower than 1 kB/s")
	}
	if m.err == nil && err != nil {
		m.err = err
	}
}

// serveFile sends f under name. A Range with several parts is ignored, as RFC
// 9110, section 14.2 allows: nothing that boots asks for one, and it multiplies
// the work of a request.
func serveFile(w http.ResponseWriter, r *http.Request, name string, f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
	w.Header().Set("Content-Type", mediaType(name))
	w.Header().Set("ETag", etag(fi))
	http.ServeContent(w, r, "", fi.ModTime(), f)
	return nil
}

// etag identifies the content of a file as far as the file system can tell: a
// file that is replaced has another inode, one that is rewritten another time.
func etag(fi os.FileInfo) string {
	var ino uint64
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		ino = st.Ino
	}
	return fmt.Sprintf(`"%x-%x-%x"`, ino, fi.ModTime().UnixNano(), fi.Size())
}

// slots bound how many of something there are at a time, transfers or
// connections, in all and for one address, so that one machine cannot keep the
// others from booting.
type slots struct {
	max, maxEach int

	mu    sync.Mutex
	total int
	each  map[netip.Addr]int
}

func newSlots(most, each int) *slots {
	return &slots{max: most, maxEach: each, each: map[netip.Addr]int{}}
}

// take reports whether there may be one more for a; then give must follow it.
func (s *slots) take(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.max || s.each[a] >= s.maxEach {
		return false
	}
	s.total++
	s.each[a]++
	return true
}

func (s *slots) give(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.each[a]--; s.each[a] == 0 {
		delete(s.each, a)
	}
}
