package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Handler serves the routes of the package comment.
func Handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.Health(), nil) })
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.Status(time.Now()), nil) })
	mux.HandleFunc("GET /v1/story/{machine}", func(w http.ResponseWriter, r *http.Request) {
		story, err := b.Story(r.PathValue("machine"), time.Now())
		answer(w, story, err)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { stream(w, r, b) })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return mux
}

// answer writes v, or err as the status that fits it.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, ErrUnknown) {
			code = http.StatusNotFound
		}
		w.WriteHeader(code)
		v = failure{err.Error()}
	}
	json.NewEncoder(w).Encode(v) // the caller may have left: nothing to do about it
}

type failure struct {
	Error string `json:"error"`
}

// stream writes events until the caller leaves or falls behind. A blank line
// comes first, so that the caller knows from when on it misses nothing.
func stream(w http.ResponseWriter, r *http.Request, b Backend) {
	events := b.Watch(r.Context())
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	fmt.Fprintln(w)
	flush.Flush()
	enc := json.NewEncoder(w)
	for e := range events {
		if enc.Encode(e) != nil || flush.Flush() != nil {
			return
		}
	}
}

// Listen opens the socket at path for its owner only. A socket left by a
// daemon that died is replaced, one that answers is not.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another bootd answers on this socket", path)
	}
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

// removeSocket removes a dead socket, and nothing that is not a socket.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s: exists and is not a socket", path)
	}
	return os.Remove(path)
}
