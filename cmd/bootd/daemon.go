package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"bootd/deploy"
	"bootd/dhcp"
	"bootd/internal/admin"
	"bootd/internal/claim"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/node"
	"bootd/internal/phonehome"
	"bootd/internal/store"
	"bootd/internal/timeline"
	"bootd/ipxe"
	"bootd/links"
	"bootd/tftp"
)

// stopWithin bounds an orderly stop.
const stopWithin = 5 * time.Second

// A daemon is everything that runs. open binds and loads, run serves; in
// between nothing answers anybody.
//
// Its methods are called from all goroutines. What they use was set by open and
// is only read since, or guards itself, but for what the mutexes say.
type daemon struct {
	log      *slog.Logger
	level    *slog.LevelVar // of log, which a reload may change
	started  time.Time
	registry *prometheus.Registry
	closers  []closer // undone in reverse; for open and close

	// The configuration. Who changes it, or what it is read from, holds change;
	// who reads it takes the world as it is then.
	change     sync.Mutex
	load       func() (*config.Draft, error)
	file       string                 // that load reads; empty: none
	sum        [sha256.Size]byte      // of file when it was read last; for who holds change
	machines   *deploy.Machines       // that things are kept of; for who holds change
	world      atomic.Pointer[world]  // in force
	reloadErr  atomic.Pointer[string] // why the last reload was refused; nil: it was not
	reloadGood prometheus.Gauge

	// What the state directory keeps.
	tree     *links.Tree
	events   *timeline.Log
	tickets  *deploy.Tickets
	records  *deploy.Records
	agents   *deploy.Agents
	media    *deploy.Media
	rollouts *rollouts
	reports  *store.Table // last texts of the nodes
	hostIDs  *store.Table // edge host ids that nodes reported
	copying  sync.Mutex   // one image of an installer at a time

	unwritten rate.Sometimes // that it cannot be written: see notKept

	// What is remembered until the daemon ends.
	pulse    *deploy.Pulse // heartbeats
	desk     *claim.Desk   // claims that are open
	clouds   clouds
	firmware firmwares
	wanted   wanted
	ejects   chan string // nodes whose drives are to be emptied

	// Steps of boots, besides events.
	strangers *rate.Limiter // how many of machines that are no nodes are kept
	unkept    prometheus.Counter
	steps     *prometheus.CounterVec

	// Who serves, and where.
	dhcp      *dhcp.Server
	ports     []dhcp.Ports
	tftp      []bound[*net.UDPConn]
	http      []bound[net.Listener]
	phoneHome *phonehome.Server // connections of the agents
	admin     net.Listener
}

// A closer undoes a step of open.
type closer struct {
	name  string
	close func() error
}

// A component is one part that runs until its context ends.
type component struct {
	name string
	run  func(ctx context.Context) error
}

// open makes a daemon of a configuration: it opens the root and the state, and
// binds every socket. On error it leaves nothing open.
func open(cfg *config.Config, log *slog.Logger) (*daemon, error) {
	d := &daemon{log: log, started: time.Now(), registry: prometheus.NewRegistry(),
		strangers: rate.NewLimiter(strangerSteps, strangerBurst), unwritten: rate.Sometimes{Interval: time.Minute}, ejects: make(chan string, ejectQueue)}
	d.pulse = deploy.NewPulse(d.started)
	d.register()
	for _, step := range []func() error{func() error { return d.openRoot(cfg) }, d.openState, d.bindDHCP, d.bindTFTP, d.bindHTTP, d.bindAdmin} {
		if err := step(); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

// register makes the metrics that no room has for itself.
func (d *daemon) register() {
	d.reloadGood = prometheus.NewGauge(prometheus.GaugeOpts{Name: "bootd_config_last_reload_success", Help: "1 when the last load of the configuration was good."})
	d.steps = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bootd_boot_steps_total", Help: "Steps that machines took, by step and result: ok, error, or foreign where another machine asked."}, []string{"step", "result"})
	d.unkept = prometheus.NewCounter(prometheus.CounterOpts{Name: "bootd_stranger_steps_unkept_total", Help: "Steps of machines that are not in the inventory, too many at once to be kept."})
	d.reloadGood.Set(1)
	d.registry.MustRegister((*nodeMetrics)(d), d.reloadGood, d.steps, d.unkept, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

func (d *daemon) onClose(name string, f func() error) { d.closers = append(d.closers, closer{name, f}) }

// close undoes what open did, the last first. It may be called twice.
func (d *daemon) close() {
	for _, c := range slices.Backward(d.closers) {
		if err := c.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			d.log.Error("not closed cleanly", "part", c.name, "err", err)
		}
	}
	d.closers = nil
}

// openRoot opens the root and puts the first configuration in force.
func (d *daemon) openRoot(cfg *config.Config) (err error) {
	d.tree, err = links.Open(cfg.Root)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return cli.Hint(fmt.Errorf("root: %w", err), "make the web root, or set root: in the configuration")
	case err != nil:
		return fmt.Errorf("root: %w", err)
	}
	d.onClose("root", d.tree.Close)
	d.world.Store(d.newWorld(cfg))
	return nil
}

// newWorld puts a configuration to work, without putting it in force.
func (d *daemon) newWorld(cfg *config.Config) *world {
	return &world{cfg: cfg, inv: cfg.Inventory, tree: d.tree, loaders: ipxe.Loaders{Dir: cfg.Loaders}, options: nodeOptions(cfg), wanted: &d.wanted}
}

// config returns the configuration in force. It is never changed: a reload puts
// another one in its place, so that who looks twice may see two.
func (d *daemon) config() *config.Config { return d.world.Load().cfg }

// run serves until ctx is done or a component fails, reloads when hup fires,
// and stops in order: those who answer machines first, the timeline and the
// store that they write to last.
func (d *daemon) run(ctx context.Context, hup <-chan os.Signal) error {
	defer d.close()
	eventsCtx, stopEvents := context.WithCancel(context.Background())
	var events sync.WaitGroup
	events.Go(func() { d.events.Run(eventsCtx) })
	defer events.Wait()
	defer stopEvents()

	g, gctx := errgroup.WithContext(ctx)
	for _, c := range d.components() {
		g.Go(func() error {
			if err := c.run(gctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	g.Go(func() error { return d.reloadOn(gctx, hup) })
	d.ready()
	<-gctx.Done()
	notify(d.log, systemd.SdNotifyStopping)
	d.log.Info("stopping")
	return d.await(g)
}

// every calls f each period, until ctx is done.
func every(ctx context.Context, period time.Duration, f func()) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f()
		}
	}
}

// await waits for the components, but not for ever.
func (d *daemon) await(g *errgroup.Group) error {
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(stopWithin - time.Second):
		return errors.New("some connections did not end in time")
	}
}

func (d *daemon) ready() {
	d.log.Info("ready", "version", version, "root", d.config().Root, "subnets", len(d.config().Subnets),
		"nodes", len(d.config().Inventory.Nodes()), "leases", d.dhcp.Leases.Len(), "socket", d.config().Admin.Socket)
	if missing := d.world.Load().loaders.Missing(d.config().Loader); len(missing) > 0 {
		d.log.Info("loaders that are not there: machines of these architectures cannot boot", "dir", d.config().Loaders, "missing", missing)
	}
	notify(d.log, systemd.SdNotifyReady)
}

// notify tells systemd, when it is there to be told.
func notify(log *slog.Logger, state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.Warn("systemd not notified", "state", state, "err", err)
	}
}

// components returns all that serves or works, besides the timeline.
func (d *daemon) components() []component {
	list := append(d.leaseFollowers(),
		component{"dhcp", func(ctx context.Context) error { return d.dhcp.Run(ctx, d.ports) }},
		component{"admin", d.serveHTTP(&http.Server{Handler: admin.Handler(d), ReadHeaderTimeout: 5 * time.Second}, d.admin)},
		component{"follow", d.follow},
		component{"deployments", d.watchDeadlines},
		component{"configuration", d.watchConfig},
		component{"upgrades", d.rollouts.run},
		component{"phone-home", d.phoneHome.Run},
		component{"power", d.watchPower},
		component{"eject", d.ejectMedia},
	)
	plane := d.bootPlane()
	for _, t := range d.tftp {
		s := &tftp.Server{
			Open: func(name string, peer netip.Addr) (io.ReadSeekCloser, error) {
				return d.openTFTP(plane, t.addr, peer, name)
			},
			Done: d.transferred, Log: d.log,
		}
		list = append(list, component{"tftp", func(ctx context.Context) error { return s.Run(ctx, t.socket) }})
	}
	for _, h := range d.http {
		list = append(list, component{"http", d.serveHTTP(plane.HTTPServer(), h.socket)})
	}
	return list
}

// bootPlane joins the HTTP boot plane, which TFTP shares, to the other rooms.
func (d *daemon) bootPlane() *ipxe.Server {
	return &ipxe.Server{
		Root: d.tree.Root(), Loaders: ipxe.Loaders{Dir: d.config().Loaders},
		Decide:   d.decide,
		IsNode:   func(name string) bool { _, ok := d.world.Load().inv.ByName(name); return ok },
		Loader:   func(m ipxe.Machine) node.Loader { w := d.world.Load(); return w.toldLoader(w.find(m), m.MAC) },
		Retries:  func() int { return d.config().Retries },
		Pinned:   func(n, release, kind string) (string, error) { return d.world.Load().pinned(n, release, kind) },
		Identify: d.identify, Foreign: d.foreign,
		Ticket: d.ticket, Payload: d.payload, Media: d.medium,
		Claim: d.claimURL, ClaimPage: d.desk, Validate: d.validateScript,
		CheckIn: d.checkIn, Redact: d.withoutSecrets, Sending: d.sending, Agents: d.phoneHome,
		Record: d.record, Log: d.log,
		Metrics: promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}),
	}
}

// foreign reports whether who asks at an address for what a node boots is not
// that node: this host, on which an administrator looks at it, or the holder of
// another machine's lease. A NIC that is in no inventory may be the node's all
// the same, found by its UUID or serial number.
func (d *daemon) foreign(a netip.Addr, says node.MAC, name string) bool {
	who, mac := d.identify(a)
	switch {
	case mac.IsZero():
		return isOurs(a)
	case who == "":
		return mac != says && !d.events.Took(name, mac)
	}
	return who != name
}

// isOurs reports whether an address is one of this host.
func isOurs(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr() == a
	})
}
