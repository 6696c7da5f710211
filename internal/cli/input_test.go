package cli_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"bootd/internal/cli"
)

// pipe returns input from a pipe, and the other end.
func pipe(t *testing.T, ctx context.Context) (io.ReadCloser, *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	in, err := cli.Input(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return in, w
}

// What is there is read, to its end.
func TestInput(t *testing.T) {
	in, w := pipe(t, t.Context())
	w.WriteString("text")
	w.Close()
	if got, err := io.ReadAll(in); string(got) != "text" || err != nil {
		t.Errorf("a pipe: got %q, %v", got, err)
	}
	in, err := cli.Input(t.Context(), strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); string(got) != "text" || err != nil {
		t.Errorf("no file: got %q, %v", got, err)
	}
}

// A read that waits ends with the context, and when nobody wants it any more.
func TestInputEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, _ := pipe(t, t.Context())
	if err := waiting(in, func() { in.Close() }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: got %v, want %v", err, os.ErrClosed)
	}
	in, _ = pipe(t, ctx)
	if err := waiting(in, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v, want %v", err, context.Canceled)
	}
}

// waiting returns the error of a read that end ends.
func waiting(in io.Reader, end func()) error {
	read := make(chan error)
	go func() { _, err := in.Read(make([]byte, 1)); read <- err }()
	end()
	return <-read
}
