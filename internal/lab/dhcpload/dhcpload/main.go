// Command dhcpload puts DHCP load on a server. Run it in a network namespace
// that reaches only the server under test:
//
//	ip netns exec NS dhcpload -server 10.0.0.1 -relay 10.0.0.2 -rate 5000
//	ip netns exec NS dhcpload -server 10.0.0.1 -relay 10.0.0.2 -search
//	ip netns exec NS dhcpload -mode broadcast -interface eth0 -avalanche 2000
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"bootd/internal/lab/dhcpload"
)

func main() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) }

type options struct {
	dhcpload.Config
	dhcpload.Load
	search    bool
	avalanche int
	json      bool
}

// Main runs the command and returns its exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	var o options
	switch err := o.parse(args, stderr); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	r, err := o.run(ctx, stderr)
	if err == nil {
		err = o.print(stdout, r)
	}
	if err != nil {
		fmt.Fprintln(stderr, "dhcpload:", err)
		return 1
	}
	return 0
}

func (o *options) parse(args []string, stderr io.Writer) error {
	f := flag.NewFlagSet("dhcpload", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.TextVar(&o.Mode, "mode", dhcpload.Relay, "relay, broadcast or direct")
	f.TextVar(&o.Server, "server", netip.Addr{}, "address of the server (relay)")
	f.TextVar(&o.Relay, "relay", netip.Addr{}, "address of ours, which becomes giaddr (relay)")
	f.StringVar(&o.Interface, "interface", "", "interface of the server's segment (broadcast, direct)")
	f.IntVar(&o.Clients, "clients", 60000, "distinct clients, used in turn")
	f.IntVar(&o.First, "first", 0, "number of the first client")
	f.Float64Var(&o.Rate, "rate", 0, "exchanges to begin per second")
	f.IntVar(&o.Window, "window", 0, "instead of a rate: exchanges under way")
	f.IntVar(&o.Count, "count", 0, "end after so many exchanges")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "how long to begin exchanges")
	f.DurationVar(&o.Timeout, "timeout", time.Second, "an exchange that takes longer is lost")
	f.DurationVar(&o.Linger, "linger", 0, "how long to listen at the end (default the timeout)")
	f.BoolVar(&o.search, "search", false, "find the highest rate with less than 1 % loss")
	f.IntVar(&o.avalanche, "avalanche", 0, "so many clients at once that repeat themselves as real ones do")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return f.Parse(args)
}

func (o *options) run(ctx context.Context, stderr io.Writer) (dhcpload.Result, error) {
	g, err := dhcpload.Open(o.Config)
	if err != nil {
		return dhcpload.Result{}, err
	}
	defer g.Close()
	switch {
	case o.search:
		return g.Search(ctx, dhcpload.Limits{Log: func(rate float64, r dhcpload.Result) {
			fmt.Fprintf(stderr, "rate %.0f: completed %.0f/s, loss %.2f %%\n", rate, r.Rate, r.Loss)
		}})
	case o.avalanche > 0:
		return g.Run(ctx, dhcpload.Avalanche(o.avalanche))
	}
	return g.Run(ctx, o.Load)
}

func (o *options) print(w io.Writer, r dhcpload.Result) error {
	if o.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := fmt.Fprintln(w, r)
	return err
}
