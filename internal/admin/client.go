package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"bootd/internal/timeline"
)

// A Client asks the daemon behind one socket. Its methods return an error that
// wraps ErrNotRunning when nobody listens there, fs.ErrPermission when the
// socket is not for this user, and ErrStopped.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client of the daemon at socket. It does not connect yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // bootd has none
	}}
}

// Health asks how the daemon is.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	return h, c.get(ctx, "/v1/health", &h)
}

// Status asks how all machines stand.
func (c *Client) Status(ctx context.Context) (s []Status, err error) {
	return s, c.get(ctx, "/v1/status", &s)
}

// Probe asks which DHCP servers answer on an interface; empty: on all.
func (c *Client) Probe(ctx context.Context, ifname string) (list []Probe, err error) {
	return list, c.get(ctx, "/v1/dhcp/probe?interface="+url.QueryEscape(ifname), &list)
}

// Story asks for the last boot of a machine. The error wraps ErrUnknown when
// there is no such machine.
func (c *Client) Story(ctx context.Context, machine string) (s Story, err error) {
	return s, c.getOf(ctx, "/v1/story/", machine, &s)
}

// PayloadLog asks who asked for the documents of a machine. The error wraps
// ErrUnknown when there is no such machine.
func (c *Client) PayloadLog(ctx context.Context, machine string) (list []timeline.Event, err error) {
	return list, c.getOf(ctx, "/v1/payload/", machine, &list)
}

// Unreadable asks which of these files and directories the daemon cannot read.
func (c *Client) Unreadable(ctx context.Context, paths []string) (list []Unreadable, err error) {
	return list, c.call(ctx, http.MethodPost, "/v1/readable", paths, &list)
}

// ErrBehind is returned when events came faster than they were taken.
var ErrBehind = errors.New("fell too far behind the events")

// Watch calls visit for every event from now on, until ctx is done (it then
// returns nil) or visit returns an error.
func (c *Client) Watch(ctx context.Context, visit func(timeline.Event) error) error {
	body, err := c.open(ctx, "/v1/events")
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	defer body.Close()
	for events := json.NewDecoder(body); ; {
		var e timeline.Event
		err := events.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF):
			return ErrBehind
		case err != nil:
			return c.explain(err)
		}
		if err := visit(e); err != nil {
			return err
		}
	}
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.call(ctx, http.MethodGet, path, nil, v)
}

// getOf gets what is below a path of a name.
func (c *Client) getOf(ctx context.Context, path, name string, v any) error {
	path, err := pathOf(path, name)
	if err != nil {
		return err
	}
	return c.get(ctx, path, v)
}

// pathOf appends a name to a path. One that would lead elsewhere is nobody's.
func pathOf(path, name string) (string, error) {
	if strings.Trim(name, ".") == "" || strings.Contains(name, "/") {
		return "", ErrUnknown
	}
	return path + url.PathEscape(name), nil
}

// call sends body, unless it is nil, and reads the answer into v.
func (c *Client) call(ctx context.Context, method, path string, body, v any) error {
	return c.callWithin(ctx, 30*time.Second, method, path, body, v)
}

func (c *Client) callWithin(ctx context.Context, limit time.Duration, method, path string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	answer, err := c.send(ctx, method, path, content)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(answer).Decode(v); err != nil {
		return c.explain(err)
	}
	return nil
}

func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	return c.send(ctx, http.MethodGet, path, nil)
}

// send starts a request and returns the body of a good answer.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://bootd"+path, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	switch {
	case err != nil:
		return nil, c.explain(errors.Unwrap(err)) // without the made-up URL
	case res.StatusCode != http.StatusOK:
		defer res.Body.Close()
		return nil, c.failure(res)
	}
	return res.Body, nil
}

// explain says what a failure to talk to the daemon means.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w", c.socket, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w", c.socket, fs.ErrPermission)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s: %w", c.socket, ErrStopped)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: the daemon does not answer", c.socket)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	}
	return fmt.Errorf("%s: %w", c.socket, err)
}

func (c *Client) failure(res *http.Response) error {
	var f failure
	err := json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&f)
	switch {
	case err != nil || f.Error == "":
		return fmt.Errorf("%s: not an answer of bootd: %s", c.socket, res.Status)
	case f.Unknown:
		return &UnknownError{Near: f.Near}
	case f.NoLease:
		return ErrNoLease
	}
	return errors.New(f.Error)
}
