package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// A Protocol is how to talk to a BMC.
type Protocol uint8

// The protocols.
const (
	IPMI    Protocol = iota // RMCP+ over UDP, "lanplus" (IPMI 2.0, section 13)
	Redfish                 // HTTPS (DMTF DSP0266)
)

var protocols = [...]string{IPMI: "ipmi", Redfish: "redfish"}

// String returns the word used on the command line.
func (p Protocol) String() string { return protocols[p] }

// ParseProtocol reads the word used on the command line.
func ParseProtocol(s string) (Protocol, error) {
	for i, word := range protocols {
		if s == word {
			return Protocol(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of ipmi, redfish", s)
}

// A Power is a state, or what to do to get to one.
type Power uint8

// The powers.
const (
	Off Power = iota
	On
	Cycle // off and on again, or on when it is off
)

var powers = [...]string{Off: "off", On: "on", Cycle: "cycle"}

// String returns the word used on the command line.
func (p Power) String() string { return powers[p] }

// MarshalText returns the word.
func (p Power) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// A Device is what a machine can be told to boot from.
type Device uint8

// The devices.
const (
	PXE Device = iota // the network
	CD                // its CD drive, which may be that of virtual media
)

var devices = [...]string{PXE: "pxe", CD: "cd"}

// String returns the word used on the command line.
func (d Device) String() string { return devices[d] }

// A BMC is one that can be talked to. Its methods open a session each and
// close it; they may be called at the same time, and return an *Error.
type BMC struct {
	Node     string
	Host     string // address or name
	Port     uint16 // 0: that of the protocol, 623 or 443
	Protocol Protocol
	User     string
	Password Secret
	Basic    bool          // Redfish: send the password each time and make no session
	Verify   bool          // Redfish: refuse a certificate that this machine does not trust; few BMCs have one
	Timeout  time.Duration // of one method; 0: 30 s
}

// defaultTimeout is above what a slow BMC takes for a power change, which is
// confirmed before a method returns.
const defaultTimeout = 30 * time.Second

// A session is a BMC that has taken our password.
type session interface {
	vendor(context.Context) (Vendor, error)
	power(context.Context) (Power, error) // On or Off
	setPower(context.Context, Power) error
	bootOnce(ctx context.Context, from Device, legacy bool) error
	source(context.Context) (string, error) // of its address: fromDHCP or another word
	setDHCP(context.Context) error
	reset(context.Context) error // of the BMC, not of its machine
	close()
}

// open makes a session.
func (b BMC) open(ctx context.Context) (session, error) {
	if b.Protocol == Redfish {
		return b.openRedfish(ctx)
	}
	return b.openIPMI(ctx)
}

// do runs work in a session. The step that failed is the one that work entered
// last.
func (b BMC) do(ctx context.Context, work func(ctx context.Context, s session, enter func(step string)) error) error {
	step := "connect"
	err := b.check()
	if err == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cmp.Or(b.Timeout, defaultTimeout))
		defer cancel()
		var s session
		if s, err = b.open(ctx); err == nil {
			defer s.close()
			err = work(ctx, s, func(now string) { step = now })
		}
	}
	if err != nil {
		return &Error{b.Node, b.Host, step, err}
	}
	return nil
}

// check reports what is missing to connect at all.
func (b BMC) check() error {
	switch {
	case b.Host == "":
		return errors.New("its address is not known: it has no lease, and neither conman nor a host-record names it")
	case b.User == "":
		return errors.New("no user is known")
	case b.Password.IsZero():
		return ErrNoPassword
	}
	return nil
}

// A Status is how a BMC and its machine stand.
type Status struct {
	Vendor string
	Power  Power
	Source string // of its address: "dhcp", "static" or another word; "unknown" where it does not say
}

const fromDHCP = "dhcp"

// Status asks the BMC how it stands.
func (b BMC) Status(ctx context.Context) (st Status, err error) {
	err = b.do(ctx, func(ctx context.Context, s session, enter func(string)) error {
		enter("identify")
		v, err := s.vendor(ctx)
		if err != nil {
			return err
		}
		st.Vendor = v.Name
		enter("power status")
		if st.Power, err = s.power(ctx); err != nil {
			return err
		}
		enter("address source")
		st.Source, err = s.source(ctx)
		if errors.Is(err, ErrUnsupported) {
			st.Source, err = "unknown", nil
		}
		return err
	})
	return st, err
}

// Power asks the BMC whether its machine is on, and nothing more.
func (b BMC) Power(ctx context.Context) (p Power, err error) {
	err = b.do(ctx, func(ctx context.Context, s session, enter func(string)) error {
		enter("power status")
		p, err = s.power(ctx)
		return err
	})
	return p, err
}

// SetPower changes the power and returns when the BMC says that it has
// changed. It reports with changed whether there was something to do.
func (b BMC) SetPower(ctx context.Context, want Power) (changed bool, err error) {
	err = b.do(ctx, func(ctx context.Context, s session, enter func(string)) error {
		enter("power status")
		is, err := s.power(ctx)
		if err != nil || is == want {
			return err
		}
		enter("power " + want.String())
		if want == Cycle && is == Off {
			want = On // a cycle of what is off is refused (IPMI 2.0, table 28-4)
		}
		if err := s.setPower(ctx, want); err != nil {
			return err
		}
		changed = true
		enter("confirm power " + want.String())
		return confirm(ctx, s, want)
	})
	return changed, err
}

const (
	// confirmEvery is how often a BMC is asked whether the power has changed.
	confirmEvery = 200 * time.Millisecond
	// cycleSeen is how long a BMC is given to show a cycle as off. The machine
	// stays off for a second at least (IPMI 2.0, table 28-4), and a BMC that
	// still says on after this does not tell.
	cycleSeen = 5 * time.Second
)

// confirm waits until the BMC shows what it was told.
func confirm(ctx context.Context, s session, want Power) error {
	if want == Cycle {
		seen, cancel := context.WithTimeout(ctx, cycleSeen)
		confirm(seen, s, Off)
		cancel()
		want = On
	}
	for {
		is, err := s.power(ctx)
		if err == nil && is == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return cmp.Or(err, fmt.Errorf("the BMC took the command, and the power is still %v", is))
		case <-time.After(confirmEvery):
		}
	}
}

// BootOnce makes the machine boot from a device at its next boot, and only
// then: by UEFI, or with legacy as a BIOS does. Many BMCs forget it when no
// power command follows within a minute (IPMI 2.0, table 28-14, parameter 3).
func (b BMC) BootOnce(ctx context.Context, from Device, legacy bool) error {
	return b.do(ctx, func(ctx context.Context, s session, enter func(string)) error {
		enter("boot once from " + from.String())
		return s.bootOnce(ctx, from, legacy)
	})
}

// SetDHCP makes the BMC take its address from DHCP, and restarts it where its
// make needs that, or where reset asks for it and its make survives it. It
// reports with changed whether there was something to do.
func (b BMC) SetDHCP(ctx context.Context, reset bool) (changed bool, err error) {
	err = b.do(ctx, func(ctx context.Context, s session, enter func(string)) error {
		enter("identify")
		v, err := s.vendor(ctx)
		if err != nil {
			return err
		}
		if reset && v.Reset == ResetNever {
			return fmt.Errorf("%w: a reset, which crashes those of %s", ErrUnsupported, v.Name)
		}
		enter("address source")
		source, err := s.source(ctx)
		if err != nil {
			return err
		}
		if source != fromDHCP {
			enter("set dhcp")
			if err := s.setDHCP(ctx); err != nil {
				return err
			}
			changed = true
		}
		if reset || changed && v.Reset == ResetDHCP {
			enter("reset")
			return s.reset(ctx)
		}
		return nil
	})
	return changed, err
}

// A mediaSession is a session with virtual media, which IPMI has not.
type mediaSession interface {
	attach(ctx context.Context, image string) (changed bool, err error)
	eject(context.Context) (changed bool, err error)
}

// AttachMedia puts the image at an URL into the virtual CD drive. It reports
// with changed whether there was something to do.
func (b BMC) AttachMedia(ctx context.Context, image string) (changed bool, err error) {
	return b.media(ctx, "attach media", func(ctx context.Context, s mediaSession) (bool, error) { return s.attach(ctx, image) })
}

// EjectMedia takes the image out of the virtual CD drive. It reports with
// changed whether there was one.
func (b BMC) EjectMedia(ctx context.Context) (changed bool, err error) {
	return b.media(ctx, "eject media", func(ctx context.Context, s mediaSession) (bool, error) { return s.eject(ctx) })
}

func (b BMC) media(ctx context.Context, step string, work func(context.Context, mediaSession) (bool, error)) (changed bool, err error) {
	err = b.do(ctx, func(ctx context.Context, s session, enter func(string)) (err error) {
		enter(step)
		m, ok := s.(mediaSession)
		if !ok {
			return fmt.Errorf("%w over %v: virtual media is part of redfish", ErrUnsupported, b.Protocol)
		}
		changed, err = work(ctx, m)
		return err
	})
	return changed, err
}
