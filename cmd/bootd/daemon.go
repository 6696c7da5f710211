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
	"path/filepath"
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
	"bootd/internal/lease"
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
type daemon struct {
	file    string
	level   *slog.LevelVar
	load    func() (*config.Draft, error)
	log     *slog.Logger
	started time.Time

	change     sync.Mutex        // held by whoever changes the configuration, or what it is read from
	sum        [sha256.Size]byte // of the configuration file that was read last
	world      atomic.Pointer[world]
	reloadErr  atomic.Pointer[string]
	strangers  *rate.Limiter
	unkept     prometheus.Counter
	unwritten  rate.Sometimes // see notKept
	reloadGood prometheus.Gauge
	steps      *prometheus.CounterVec
	registry   *prometheus.Registry

	tree     *links.Tree
	events   *timeline.Log
	tickets  *deploy.Tickets
	clouds   clouds
	records  *deploy.Records
	machines *deploy.Machines // changed by who holds change
	agents   *deploy.Agents
	lines    *phonehome.Server // connections of the agents
	pulse    *deploy.Pulse
	reports  *store.Table // last texts of the nodes
	media    *deploy.Media
	desk     *claim.Desk
	hosts    *store.Table // edge host ids that nodes reported
	copying  sync.Mutex   // one image of an installer at a time
	ejects   chan string  // nodes whose drives are to be emptied
	dhcp     *dhcp.Server
	ports    []dhcp.Ports
	tftp     []bound[*net.UDPConn]
	http     []bound[net.Listener]
	admin    net.Listener

	closers []closer // undone in reverse

	firmware firmwares
	wanted   wanted
	rollouts *rollouts
}

type closer struct {
	name  string
	close func() error
}

// component is one part that runs until its context ends.
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

func (d *daemon) newWorld(cfg *config.Config) *world {
	return &world{cfg: cfg, inv: cfg.Inventory, tree: d.tree, loaders: ipxe.Loaders{Dir: cfg.Loaders}, options: nodeOptions(cfg), wanted: &d.wanted}
}

// config returns the configuration in force. It is never changed: a reload puts
// another one in its place, so that who looks twice may see two.
func (d *daemon) config() *config.Config { return d.world.Load().cfg }

const damagedHint = "move the directory away to start with no leases: machines keep their addresses when they ask for them again"

// whenDamaged adds a remedy that only fits damage: on a full disk it would
// throw good leases away.
func whenDamaged(err error, hint string) error {
	if errors.Is(err, store.ErrDamaged) {
		return cli.Hint(err, hint)
	}
	return err
}

// openState reads leases, tickets and timelines. A store that is damaged stops the
// start: an empty one in its place would lease addresses that are taken.
func (d *daemon) openState() error {
	path := filepath.Join(d.config().State, "bootd.db")
	db, err := store.Open(path)
	if errors.Is(err, store.ErrInUse) {
		return cli.Hint(err, "is another bootd running? see: pgrep -a bootd")
	}
	if err != nil {
		return whenDamaged(fmt.Errorf("state: %w", err), "move the file away: the timelines in it are lost, leases are not")
	}
	d.onClose("state", db.Close)
	leases, err := store.OpenJournal(filepath.Join(d.config().State, "leases"))
	if err != nil {
		return whenDamaged(fmt.Errorf("leases: %w", err), damagedHint)
	}
	d.onClose("leases", leases.Close)
	events, err := db.Table("timeline")
	if err != nil {
		return err
	}
	if d.events, err = timeline.Open(events, d.log); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	tickets, err := db.Table("tickets")
	if err != nil {
		return err
	}
	if d.tickets, err = deploy.OpenTickets(tickets); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.openRecords(db); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.openAgents(db); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.openRollouts(db); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.openMedia(db); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.openMediaDir(); err != nil {
		return fmt.Errorf("media: %w", err)
	}
	if err := d.openDesk(db); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(d.config().Inventory.Nodes()) > 0 { // without any it is a trial, as with bootd run, and says nothing of them
		if err := d.keepMachines(d.config()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	d.dhcp = &dhcp.Server{Leases: dhcp.NewLeases(), Store: leases, Record: d.record, Log: d.log, Metrics: dhcp.NewMetrics(d.registry)}
	if err := d.dhcp.Leases.Load(leases); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	d.dhcp.Configure(subnets(d.config()), classes(d.config()), d.world.Load())
	if err := d.takeLeases(filepath.Join(d.config().State, lease.Waiting)); err != nil {
		return err
	}
	return d.keepLeaseFile()
}

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

func (d *daemon) components() []component {
	list := append(d.leaseFollowers(),
		component{"dhcp", func(ctx context.Context) error { return d.dhcp.Run(ctx, d.ports) }},
		component{"admin", d.serveHTTP(&http.Server{Handler: admin.Handler(d), ReadHeaderTimeout: 5 * time.Second}, d.admin)},
		component{"follow", d.follow},
		component{"deployments", d.watchDeadlines},
		component{"configuration", d.watchConfig},
		component{"upgrades", d.rollouts.run},
		component{"phone-home", d.lines.Run},
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
		CheckIn: d.checkIn, Redact: d.withoutSecrets, Sending: d.sending, Agents: d.lines,
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
