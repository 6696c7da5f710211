package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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

// maxPasswordFile is far above any password.
const maxPasswordFile = 4096

// A bmcSite is where BMCs are found and how they are talked to: the flags that
// all commands under bmc share.
type bmcSite struct {
	config, leases, conman, statics, self string
	user, passwordFile, protocol          string
	port                                  uint16
	parallel                              int
	timeout                               time.Duration
	basic, verify, json                   bool

	confirm func([]bmc.BMC) error // nil: nothing to confirm
	chosen  map[string]bool       // nodes that the work was done with
}

func (s *bmcSite) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.config, "config", defaultConfig, "read the inventory from this `FILE`")
	f.StringVar(&s.leases, "leases", "", "read leases from this `FILE` of dnsmasq (default: bootd's, else "+defaultLeases+")")
	f.StringVar(&s.conman, "conman", defaultConman, "read consoles from this `FILE`")
	f.StringVar(&s.statics, "statics", defaultStatics, "read host-records from this `FILE`")
	f.StringVar(&s.self, "self", "", "`NODE` that this machine is, whose BMC is left alone (default: by host name)")
	f.StringVar(&s.user, "user", "", "log in as this `USER` (default: conman's, else root)")
	f.StringVar(&s.passwordFile, "password-file", "", "read the password from this `FILE`")
	f.StringVar(&s.protocol, "protocol", bmc.IPMI.String(), "`PROTOCOL` to talk: ipmi or redfish")
	f.Uint16Var(&s.port, "port", 0, "`PORT` of the BMCs (default: 623 for ipmi, 443 for redfish)")
	f.BoolVar(&s.basic, "basic", false, "redfish: send the password with each request and make no session")
	f.BoolVar(&s.verify, "verify", false, "redfish: refuse certificates that this machine does not trust")
	f.IntVar(&s.parallel, "parallel", 16, "talk to this `NUMBER` of BMCs at a time")
	f.DurationVar(&s.timeout, "timeout", 30*time.Second, "give up on a BMC after so `LONG`")
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
	protocol, err := bmc.ParseProtocol(s.protocol)
	switch {
	case err != nil:
		return nil, cli.UsageError(cmd, fmt.Errorf("--protocol: %w", err))
	case s.parallel < 1:
		return nil, cli.UsageError(cmd, errors.New("--parallel: at least 1"))
	case s.timeout <= 0:
		return nil, cli.UsageError(cmd, errors.New("--timeout: more than 0"))
	case needed && len(args) == 0:
		return nil, cli.UsageError(cmd, errors.New("NODES is missing, such as ncn-m[001-003],ncn-s*"))
	}
	var patterns []node.Pattern
	if len(args) > 0 {
		if patterns, err = node.ParsePatterns(strings.Join(args, ",")); err != nil {
			return nil, cli.UsageError(cmd, err)
		}
	}
	e, err := s.evidence(cmd, cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	targets, err := chooseTargets(bmc.Find(e), patterns, e.Self)
	if err != nil {
		return nil, err
	}
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	bmcs := make([]bmc.BMC, len(targets))
	for i, t := range targets {
		bmcs[i] = bmc.BMC{
			Node: t.Node, Host: t.Host, Port: s.port, Protocol: protocol, Basic: s.basic, Verify: s.verify,
			User: cmp.Or(s.user, t.User, "root"), Password: password, Timeout: s.timeout,
		}
		if password.IsZero() {
			bmcs[i].Password = t.Password
		}
		if t.Note != "" {
			cli.Tell(program, cmd.ErrOrStderr(), t.Node+": "+t.Note)
		}
	}
	return bmcs, nil
}

// chooseTargets returns the targets that patterns stand for, or all when there
// are none. A pattern that stands for no BMC is an error, as is self by name.
func chooseTargets(targets []bmc.Target, patterns []node.Pattern, self string) (chosen []bmc.Target, err error) {
	hit := make([]bool, len(patterns))
	for _, t := range targets {
		match := len(patterns) == 0
		for i, p := range patterns {
			if p.Match(t.Node) {
				match, hit[i] = true, true
			}
		}
		if match {
			chosen = append(chosen, t)
		}
	}
	var errs []error
	for i, p := range patterns {
		switch {
		case hit[i]:
		case p.String() == self:
			errs = append(errs, fmt.Errorf("%s is this machine, whose BMC is left alone", self))
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
func (s *bmcSite) password() (bmc.Secret, error) {
	if s.passwordFile == "" {
		return bmc.NewSecret(os.Getenv("IPMI_PASSWORD")), nil
	}
	f, err := os.Open(s.passwordFile)
	if err != nil {
		return bmc.Secret{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPasswordFile))
	if err != nil {
		return bmc.Secret{}, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	password := bmc.NewSecret(strings.TrimSuffix(line, "\r"))
	if password.IsZero() {
		return password, fmt.Errorf("%s: no password in the first line", s.passwordFile)
	}
	return password, nil
}

// evidence reads all that says where BMCs are. A file that was not named need
// not exist; of one that does, bad lines are told to stderr and the rest counts.
func (s *bmcSite) evidence(cmd *cobra.Command, stderr io.Writer) (e bmc.Evidence, err error) {
	e.Now = time.Now()
	c, err := config.Load(s.config)
	switch {
	case err == nil:
		e.Inventory = c.Inventory
	case !errors.Is(err, fs.ErrNotExist) || cmd.Flags().Changed("config"):
		return e, err
	}
	if e.Leases, err = s.readLeases(cmd, stderr); err != nil {
		return e, err
	}
	if e.Consoles, err = readEvidence(s.conman, cmd.Flags().Changed("conman"), stderr, bmc.ReadConman); err != nil {
		return e, err
	}
	if e.Records, err = readEvidence(s.statics, cmd.Flags().Changed("statics"), stderr, bmc.ReadStatics); err != nil {
		return e, err
	}
	e.Self = s.self
	if hostname, err := os.Hostname(); err == nil && !cmd.Flags().Changed("self") {
		var nodes []string
		for _, t := range bmc.Find(e) {
			nodes = append(nodes, t.Node)
		}
		e.Self = bmc.SelfAmong(hostname, nodes)
	}
	return e, nil
}

// readLeases reads the file that was named, else asks the daemon, else reads
// dnsmasq's usual file.
func (s *bmcSite) readLeases(cmd *cobra.Command, stderr io.Writer) ([]bmc.Lease, error) {
	if s.leases != "" {
		return readEvidence(s.leases, true, stderr, bmc.ReadLeases)
	}
	var leases []bmc.Lease
	err := client(cmd).Leases(cmd.Context(), lease.Filter{Force: lease.InForce}, func(l lease.Lease) error {
		leases = append(leases, bmc.Lease{MAC: l.MAC, Addr: l.Addr, Host: l.Name}) // in force, so it has not ended
		return nil
	})
	if errors.Is(err, admin.ErrNotRunning) {
		return readEvidence(defaultLeases, false, stderr, bmc.ReadLeases)
	}
	return leases, explained(err)
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
