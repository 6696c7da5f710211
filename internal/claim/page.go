package claim

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"time"

	"bootd/internal/node"
)

//go:embed page.html
var pageText string

var pages = template.Must(template.New("").Parse(pageText))

// maxForm bounds the body of a claim.
const maxForm = 4096

// formTime is how long a phone has to send it.
const formTime = 10 * time.Second

// A view is what the page shows.
type view struct {
	Machine Machine
	Sites   []Site
	Site    string // chosen
	Name    string // typed, or proposed
	Known   bool   // the machine is a node already
	Node    string // it became; empty: not yet
	Error   string // what went wrong with the last try
	Dead    bool   // there is nothing to claim
}

// ServeHTTP answers for the URL of a claim, whose last element is its token. It
// works without scripts, and behind a proxy that changes what is before the
// token.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := path.Base(r.URL.Path)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		d.show(w, r, token)
	case http.MethodPost:
		d.claim(w, r, token)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "only GET, HEAD, POST here", http.StatusMethodNotAllowed)
	}
}

func (d *Desk) show(w http.ResponseWriter, r *http.Request, token string) {
	c := d.find(token)
	if c == nil {
		send(w, r, http.StatusNotFound, view{Dead: true, Error: errNone.Error()})
		return
	}
	send(w, r, http.StatusOK, d.view(*c))
}

func (d *Desk) view(c claim) view {
	v := view{Machine: c.machine, Sites: d.Sites(), Site: c.site, Node: c.node, Known: c.machine.Node != ""}
	switch {
	case v.Known:
		v.Name = c.machine.Node
	case node.ValidName(c.machine.ID):
		v.Name = c.machine.ID
	}
	if len(v.Sites) == 1 {
		v.Site = v.Sites[0].Name
	}
	return v
}

func (d *Desk) claim(w http.ResponseWriter, r *http.Request, token string) {
	// A browser says where a form comes from (Fetch Metadata). The PIN is what
	// protects; this spares a person a try that somebody else's page made.
	if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "same-origin" && from != "none" {
		send(w, r, http.StatusForbidden, view{Dead: true, Error: "this form was sent by another page"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTime)) // tests have none
	if err := r.ParseForm(); err != nil {
		send(w, r, http.StatusBadRequest, view{Dead: true, Error: "the form did not arrive"})
		return
	}
	c, err := d.take(r.Context(), token, r.PostForm.Get("pin"), r.PostForm.Get("site"), r.PostForm.Get("name"))
	if errors.Is(err, errNone) {
		send(w, r, http.StatusNotFound, view{Dead: true, Error: err.Error()})
		return
	}
	v := d.view(c)
	status := http.StatusOK
	if err != nil && !errors.Is(err, errUsed) {
		v.Error, v.Site, v.Name, status = err.Error(), r.PostForm.Get("site"), r.PostForm.Get("name"), http.StatusUnprocessableEntity
		if errors.Is(err, errTries) {
			status = http.StatusTooManyRequests
			w.Header().Set("Retry-After", strconv.Itoa(int(everyTry/time.Second)))
		}
		if errors.Is(err, errPIN) {
			status = http.StatusForbidden
		}
	}
	send(w, r, status, v)
}

// send renders the page. No cache keeps it, no page frames it, and no other
// server learns its URL.
func send(w http.ResponseWriter, r *http.Request, status int, v view) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, "page", v); err != nil {
		http.Error(w, "server error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes()) // the phone may have left
	}
}
