package ipxe

import (
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkTransfer sends a file of 256 MiB over loopback to a reader that
// throws it away, and reports the CPU time of both.
func BenchmarkTransfer(b *testing.B) {
	const size = 256 << 20
	s, _ := server(b)
	f, err := s.Root.Create("ephemeral/data/k8s/6.2.0/big")
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	f.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := s.HTTPServer()
	go srv.Serve(l)
	defer srv.Close()
	b.SetBytes(size)
	before := cpu(b)
	for b.Loop() {
		resp, err := http.Get("http://" + l.Addr().String() + "/ephemeral/data/k8s/6.2.0/big")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			b.Fatalf("got %d bytes and %v, want %d", n, err, size)
		}
		resp.Body.Close()
	}
	b.ReportMetric(float64(cpu(b)-before)/1e6/float64(b.N), "cpu-ms/op")
}

func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
