package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bootd/internal/cli"
	"bootd/internal/config"
)

const runHelp = `Run serves DHCP, TFTP and the HTTP boot plane until SIGTERM or SIGINT.

With --config, or with neither --config nor --interface, it reads a
configuration file (default /etc/bootd/bootd.yaml), and again on SIGHUP and
when it changes; a file that is wrong then keeps the last good one in force. With --interface and
--range it needs no file: every machine on that interface gets an address and
the discovery script. With --proxy instead of --range another DHCP server, on
this host or another, leases the addresses.

It needs root, or the capabilities CAP_NET_BIND_SERVICE and CAP_NET_RAW.`

const runExample = `  bootd run --config /etc/bootd/bootd.yaml
  bootd run --interface eth1 --range 10.1.1.100-10.1.1.200 --root /var/www --state /var/lib/bootd
  bootd run --interface eth1 --proxy`

func runCommand(stderr io.Writer) *cobra.Command {
	var file string
	var flags config.Flags
	cmd := &cobra.Command{
		Use: "run", Short: "Serve until stopped", Long: runHelp, Example: runExample, Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, load, err := loader(cmd, file, flags)
			if err != nil {
				return err
			}
			return run(stderr, file, load)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&file, "config", "", "configuration `file` (default "+defaultConfig+")")
	f.StringVar(&flags.Interface, "interface", "", "serve this network `interface`, without a file")
	f.StringVar(&flags.Range, "range", "", "lease these `addresses`, first-last")
	f.BoolVar(&flags.Proxy, "proxy", false, "say what to boot beside the DHCP server that leases the addresses")
	f.StringVar(&flags.Root, "root", "", "web root `directory` (default /var/www)")
	f.StringVar(&flags.State, "state", "", "`directory` of leases and timelines (default /var/lib/bootd)")
	f.StringVar(&flags.Loaders, "loaders", "", "`directory` of the iPXE binaries (default /usr/lib/ipxe)")
	f.StringVar(&flags.Socket, "socket", "", "admin `socket` for bootctl (default /run/bootd/bootd.sock)")
	return cmd
}

const defaultConfig = "/etc/bootd/bootd.yaml"

// loader returns the configuration file, which is empty where the flags say it
// all, and how to read the configuration, now and at every reload.
func loader(cmd *cobra.Command, file string, flags config.Flags) (string, func() (*config.Draft, error), error) {
	bare := flags != config.Flags{}
	switch {
	case bare && file != "":
		return "", nil, cli.UsageError(cmd, errors.New("--config goes with none of the other flags: set them in the file"))
	case bare && flags.Interface == "":
		return "", nil, cli.UsageError(cmd, errors.New("--interface is missing"))
	case bare:
		return "", func() (*config.Draft, error) { return config.OpenFlags(flags, rules()) }, nil
	case file == "":
		file = defaultConfig
	}
	return file, func() (*config.Draft, error) { return config.Open(file, rules()) }, nil
}

// run starts the daemon and waits for its end. It is the one place that knows
// signals.
func run(stderr io.Writer, file string, load func() (*config.Draft, error)) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	sum := sumOf(file)
	cfg, err := resolved(load)
	if err != nil {
		return withHint(err)
	}
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	d, err := open(cfg, newLogger(stderr, cfg.Log.Format, level))
	if err != nil {
		return withHint(err)
	}
	d.file, d.level, d.load, d.sum = file, level, load, sum
	return d.run(ctx, hup)
}

func newLogger(w io.Writer, format config.Format, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redactAttr}
	if format == config.JSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// withHint adds the remedy for what goes wrong most often at a first start.
func withHint(err error) error {
	var missing *os.PathError
	switch {
	case errors.As(err, &missing) && missing.Path == defaultConfig && errors.Is(err, os.ErrNotExist):
		return cli.Hint(err, "make one with: bootd config init, or start without: bootd run --interface IF --range FIRST-LAST")
	default:
		return err
	}
}

// resolved loads a configuration and completes it from the interfaces.
func resolved(load func() (*config.Draft, error)) (*config.Config, error) {
	draft, err := load()
	if err != nil {
		return nil, err
	}
	return resolve(draft)
}

func resolve(draft *config.Draft) (*config.Config, error) {
	cfg, err := checked(draft)
	if err != nil {
		return nil, err
	}
	return cfg.Resolve(config.InterfaceAddrs)
}
