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
	"reflect"
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
	mux.HandleFunc("GET /v1/payload/{machine}", func(w http.ResponseWriter, r *http.Request) {
		list, err := b.PayloadLog(r.PathValue("machine"))
		answer(w, list, err)
	})
	mux.HandleFunc("POST /v1/readable", func(w http.ResponseWriter, r *http.Request) {
		var paths []string
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPaths)).Decode(&paths); err != nil {
			refuse(w, http.StatusBadRequest, failure{Error: "not a list of paths: " + err.Error()})
			return
		}
		answer(w, b.Unreadable(paths), nil)
	})
	mux.HandleFunc("GET /v1/dhcp/probe", func(w http.ResponseWriter, r *http.Request) {
		list, err := b.Probe(r.Context(), r.URL.Query().Get("interface"))
		answer(w, list, err)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { stream(w, r, b) })
	leaseRoutes(mux, b)
	upgradeRoutes(mux, b)
	deploymentRoutes(mux, b)
	nodeRoutes(mux, b)
	mediaRoutes(mux, b)
	linkRoutes(mux, b)
	registrationRoutes(mux, b)
	validationRoutes(mux, b)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, failure{Error: fmt.Sprintf("no route %s %s", r.Method, r.URL.Path)})
	})
	return mux
}

// answer writes v, or err as the status that fits it.
func answer(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, ErrUnknown):
		f := failure{Error: err.Error(), Unknown: true}
		if e, ok := errors.AsType[*UnknownError](err); ok {
			f.Near = e.Near
		}
		refuse(w, http.StatusNotFound, f)
	case errors.Is(err, ErrNoLease):
		refuse(w, http.StatusNotFound, failure{Error: err.Error(), NoLease: true})
	case err != nil:
		refuse(w, http.StatusInternalServerError, failure{Error: err.Error()})
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(List(v)) // the caller may have left: nothing to do about it
	}
}

// List returns v as it is, but a list of nothing as [] in JSON, and not as null:
// programs that go through it need no case for that.
func List(v any) any {
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.IsNil() {
		return []struct{}{}
	}
	return v
}

// maxPaths bounds a list of paths, in bytes.
const maxPaths = 4 << 20

// failure is the body of an error.
type failure struct {
	Error   string `json:"error"`
	Unknown bool   `json:"unknown,omitempty"` // it is the machine that is not there, and not the route
	NoLease bool   `json:"no_lease,omitempty"`
	Near    string `json:"near,omitempty"` // node that was probably meant, with Unknown
}

func refuse(w http.ResponseWriter, status int, f failure) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(f)
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

// maxSocketPath is the longest path that a socket address has room for
// (unix(7)).
const maxSocketPath = 107

// Listen opens the socket at path for its owner only. A socket left by a
// daemon that died is replaced, one that somebody holds is not. It sets the
// umask of the process for a moment, so it is for the start, before other
// goroutines make files.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("%s: longer than the %d bytes a socket's path may have", path, maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

// makeRoom removes a dead socket, and nothing else. Only a refused connection
// proves that nobody listens: a daemon under load does not answer at once.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s: exists and is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("%s: another bootd answers on this socket", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("%s: somebody holds this socket: %w", path, err)
}
