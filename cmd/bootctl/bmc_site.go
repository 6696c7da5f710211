package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bootd/bmc"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/config"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// Where the evidence of source 004 lies.
const (
	defaultLeases  = "/var/lib/misc/dnsmasq.leases"
	defaultConman  = "/etc/conman.conf"
	defaultStatics = "/etc/dnsmasq.d/statics.conf"
)

// Sources are the files that say where BMCs are, and which machine this is.
type sources struct {
	leases, conman, statics, self string
}

func (s *sources) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.leases, "leases", "", "read leases from this `FILE` of dnsmasq (default: bootd's, else "+defaultLeases+")")
	f.StringVar(&s.conman, "conman", defaultConman, "read consoles from this `FILE`")
	f.StringVar(&s.statics, "statics", defaultStatics, "read host-records from this `FILE`")
	f.StringVar(&s.self, "self", "", "`NODE` that this machine is, which is left alone (default: by host name)")
}

// A talk is how BMCs are talked to.
type talk struct {
	user, passwordFile, protocol string
	port                         uint16
	parallel                     int
	timeout                      time.Duration
	basic, verify                bool
}

// flags adds the flags, with a word before their names where they stand among
// flags of other things.
func (t *talk) flags(cmd *cobra.Command, before string) {
	f := cmd.Flags()
	f.StringVar(&t.user, before+"user", "", "log in to BMCs as this `USER` (default: conman's, else root)")
	f.StringVar(&t.passwordFile, before+"password-file", "", "read the password of BMCs from this `FILE`")
	f.StringVar(&t.protocol, before+"protocol", bmc.IPMI.String(), "`PROTOCOL` to talk to BMCs: ipmi or redfish")
	f.Uint16Var(&t.port, before+"port", 0, "`PORT` of the BMCs (default: 623 for ipmi, 443 for redfish)")
	f.BoolVar(&t.basic, before+"basic", false, "redfish: send the password with each request and make no session")
	f.BoolVar(&t.verify, before+"verify", false, "redfish: refuse certificates that this machine does not trust")
	f.IntVar(&t.parallel, before+"parallel", 16, "talk to this `NUMBER` of BMCs at a time")
	f.DurationVar(&t.timeout, before+"timeout", 30*time.Second, "give up on a BMC after so `LONG`")
}

// check returns what is wrong with the flags.
func (t *talk) check(before string) error {
	_, err := bmc.ParseProtocol(t.protocol)
	switch {
	case err != nil:
		return fmt.Errorf("--%sprotocol: %w", before, err)
	case t.parallel < 1:
		return fmt.Errorf("--%sparallel: at least 1", before)
	case t.timeout <= 0:
		return fmt.Errorf("--%stimeout: more than 0", before)
	}
	return nil
}

// bmcs makes targets ones that can be talked to. The password counts more than
// those of the targets.
func (t *talk) bmcs(targets []bmc.Target, password bmc.Secret) []bmc.BMC {
	protocol, _ := bmc.ParseProtocol(t.protocol) // check has seen it
	bmcs := make([]bmc.BMC, len(targets))
	for i, x := range targets {
		bmcs[i] = bmc.BMC{
			Node: x.Node, Host: x.Host, Port: t.port, Protocol: protocol, Basic: t.basic, Verify: t.verify,
			User: cmp.Or(t.user, x.User, "root"), Password: password, Timeout: t.timeout,
		}
		if password.IsZero() {
			bmcs[i].Password = x.Password
		}
	}
	return bmcs
}

// A bmcSite is where BMCs are found and how they are talked to: the flags that
// all commands under bmc share.
type bmcSite struct {
	config string
	sources
	talk
	json bool

	confirm func([]bmc.BMC) error // nil: nothing to confirm
	chosen  map[string]bool       // nodes that the work was done with
}

func (s *bmcSite) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.config, "config", defaultConfig, "read the inventory from this `FILE`")
	s.sources.flags(cmd)
	s.talk.flags(cmd, "")
	f.BoolVar(&s.json, "json", false, "print a JSON list")
}

// overRedfish makes Redfish what a command talks when nothing else is said.
func (s *bmcSite) overRedfish(cmd *cobra.Command) {
	f := cmd.Flags().Lookup("protocol")
	f.DefValue, s.protocol = bmc.Redfish.String(), bmc.Redfish.String()
}

// pick returns the BMCs that the arguments stand for. What it could not read
// of a file goes to stderr.
func (s *bmcSite) pick(cmd *cobra.Command, args []string, needed bool) ([]bmc.BMC, error) {
	switch err := s.check(""); {
	case err != nil:
		return nil, cli.UsageError(cmd, err)
	case needed && len(args) == 0:
		return nil, cli.UsageError(cmd, errors.New("NODES is missing, such as ncn-m[001-003],ncn-s*"))
	}
	var patterns []node.Pattern
	if len(args) > 0 {
		var err error
		if patterns, err = node.ParsePatterns(strings.Join(args, ",")); err != nil {
			return nil, cli.UsageError(cmd, err)
		}
	}
	inv, err := s.inventory(cmd)
	if err != nil {
		return nil, err
	}
	e, _, err := s.evidence(cmd, inv, cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	targets, err := chooseTargets(bmc.Find(e), patterns, e.Self, inv)
	if err != nil {
		return nil, err
	}
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if t.Note != "" {
			cli.Tell(program, cmd.ErrOrStderr(), t.Node+": "+t.Note)
		}
	}
	return s.bmcs(targets, password), nil
}

// inventory reads the one of the configuration; nil: there is none.
func (s *bmcSite) inventory(cmd *cobra.Command) (*node.Inventory, error) {
	c, err := config.Load(s.config)
	switch {
	case err == nil:
		return c.Inventory, nil
	case !errors.Is(err, fs.ErrNotExist) || cmd.Flags().Changed("config"):
		return nil, err
	}
	return nil, nil
}

// chooseTargets returns the targets that patterns stand for, or all when there
// are none. A pattern that stands for no BMC is an error, as is self by name. inv
// is nil where there is no configuration.
func chooseTargets(targets []bmc.Target, patterns []node.Pattern, self string, inv *node.Inventory) (chosen []bmc.Target, err error) {
	hit, known := make([]bool, len(patterns)), inv.Names()
	for _, t := range targets {
		known = append(known, t.Node)
		if picked(patterns, hit, t.Node) {
			chosen = append(chosen, t)
		}
	}
	var errs []error
	for i, p := range patterns {
		switch {
		case hit[i]:
		case p.String() == self:
			errs = append(errs, fmt.Errorf("%s is this machine, whose BMC is left alone", self))
		case inv != nil && !slices.ContainsFunc(inv.Names(), p.Match):
			errs = append(errs, node.Unknown(p.String(), known))
		default:
			errs = append(errs, fmt.Errorf("%s: no BMC is known", p))
		}
	}
	if len(errs) == 0 && len(chosen) == 0 {
		errs = append(errs, errors.New("no BMC is known"))
	}
	if errs != nil {
		return nil, cli.Hint(errors.Join(errs...), "a BMC is known by bmc: in the inventory, by a lease NODE-mgmt, by conman.conf (--conman) or by a host-record (--statics)")
	}
	return chosen, nil
}

// password reads the password from where it may be; none is no error here.
func (t *talk) password() (bmc.Secret, error) {
	if t.passwordFile == "" {
		return bmc.NewSecret(os.Getenv("IPMI_PASSWORD")), nil
	}
	text, err := readSmall(t.passwordFile)
	if err != nil {
		return bmc.Secret{}, err
	}
	line, _, _ := strings.Cut(text, "\n")
	password := bmc.NewSecret(strings.TrimSuffix(line, "\r"))
	if password.IsZero() {
		return password, fmt.Errorf("%s: no password in the first line", t.passwordFile)
	}
	return password, nil
}

// evidence reads all that says where BMCs are, and where the leases are from. A
// file that was not named need not exist; of one that does, bad lines are told
// to stderr and the rest counts.
func (s *sources) evidence(cmd *cobra.Command, inv *node.Inventory, stderr io.Writer) (e bmc.Evidence, where string, err error) {
	e.Inventory, e.Now = inv, time.Now()
	if e.Leases, where, err = s.readLeases(cmd, stderr); err != nil {
		return e, where, err
	}
	if e.Consoles, err = readEvidence(s.conman, cmd.Flags().Changed("conman"), stderr, bmc.ReadConman); err != nil {
		return e, where, err
	}
	if e.Records, err = readEvidence(s.statics, cmd.Flags().Changed("statics"), stderr, bmc.ReadStatics); err != nil {
		return e, where, err
	}
	e.Self = s.self
	if hostname, err := os.Hostname(); err == nil && !cmd.Flags().Changed("self") {
		nodes := bmc.Hosts(e.Leases, e.Now)
		for _, t := range bmc.Find(e) {
			nodes = append(nodes, t.Node)
		}
		e.Self = bmc.SelfAmong(hostname, nodes)
	}
	return e, where, nil
}

// readLeases reads the file that was named, else asks the daemon, else reads
// dnsmasq's usual file: so too where the daemon leases no addresses, because it
// is a proxy beside dnsmasq.
func (s *sources) readLeases(cmd *cobra.Command, stderr io.Writer) (leases []bmc.Lease, where string, err error) {
	if s.leases != "" {
		leases, err = readEvidence(s.leases, true, stderr, bmc.ReadLeases)
		return leases, s.leases, err
	}
	err = client(cmd).Leases(cmd.Context(), lease.Filter{Force: lease.InForce}, func(l lease.Lease) error {
		leases = append(leases, bmc.Lease{MAC: l.MAC, Addr: l.Addr, Host: l.Name}) // in force, so it has not ended
		return nil
	})
	if errors.Is(err, admin.ErrNotRunning) || err == nil && len(leases) == 0 {
		leases, err = readEvidence(defaultLeases, false, stderr, bmc.ReadLeases)
		return leases, defaultLeases, err
	}
	return leases, "bootd", explained(err)
}

// readEvidence reads a file. Lines that read refuses are told, not fatal.
func readEvidence[T any](path string, needed bool, stderr io.Writer, read func(io.Reader) ([]T, error)) ([]T, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !needed {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := read(f)
	var bad *bmc.LineError
	if err != nil && !errors.As(err, &bad) {
		return nil, err
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			cli.Tell(program, stderr, path+": "+strings.TrimSuffix(line, "\n"))
		}
	}
	return list, nil
}
