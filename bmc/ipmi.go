package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
)

// ipmi is a session over RMCP+.
type ipmi struct {
	c    *client.Client
	host string
}

// A packet is sent again after a second, and given up after the third.
const (
	ipmiTimeout = time.Second
	ipmiRetries = 2
)

func (b BMC) openIPMI(ctx context.Context) (session, error) {
	// The library resolves without a context, and not what has a colon.
	host, err := resolve(ctx, b.Host)
	if err != nil {
		return nil, err
	}
	for _, suite := range suites {
		var c *client.Client
		c, err = client.NewClient(host, int(cmp.Or(b.Port, 623)), b.User, b.Password.Reveal())
		if err != nil {
			return nil, errors.New("the user name is too long for IPMI (16 bytes)")
		}
		c.WithTimeout(ipmiTimeout).WithRetry(ipmiRetries).WithCipherSuiteID(suite)
		if err = ipmiError(c.Connect(ctx)); err == nil {
			return &ipmi{c, host}, nil
		}
		c.Close(expired()) // frees the socket; nobody waits for an answer
		if errors.Is(err, ErrPassword) || errors.Is(err, ErrUnreachable) {
			break // a second try would count as a second intruder
		}
	}
	return nil, err
}

// suites are the cipher suites that are tried: SHA-256, which BMCs have since
// about 2015, and SHA-1, which all have (IPMI 2.0 errata 7, table 22-20). To
// ask which there are is answered by some BMCs with silence.
var suites = []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}

// resolve returns the address of host as the IPMI library takes it.
func resolve(ctx context.Context, host string) (string, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Is6() && !a.Is4In6() {
			return "[" + host + "]", nil
		}
		return a.Unmap().String(), nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", fmt.Errorf("%w: its name does not resolve", ErrUnreachable)
	}
	return resolve(ctx, addrs[0].Unmap().String())
}

// expired returns a context in which nothing is waited for.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// ipmiError says in a few words what the library says in many.
func ipmiError(err error) error {
	var status *types.RmcpStatusError
	var resp *types.ResponseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return rmcpError(status.StatusCode())
	case errors.As(err, &resp):
		return completionError(resp.CompletionCode())
	}
	// The rest has no type, or has lost it on its way out of Connect.
	text := err.Error()
	if m := rmcpStatus.FindStringSubmatch(text); m != nil {
		code, _ := strconv.ParseUint(m[1], 16, 8)
		return rmcpError(types.RmcpStatusCode(code))
	}
	switch {
	case strings.Contains(text, client.ErrRAKPAuthentication.Error()):
		return ErrPassword
	case strings.Contains(text, "no datagram matched"), strings.Contains(text, "i/o timeout"):
		return ErrUnreachable
	}
	return silence(err)
}

var rmcpStatus = regexp.MustCompile(`RMCP\+ status 0x([0-9a-f]{2})`)

// rmcpError is for the status codes of IPMI 2.0, table 13-15.
func rmcpError(code types.RmcpStatusCode) error {
	switch code {
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidNameLength,
		types.RmcpStatusCodeInvalidIntegrityCheckValue, types.RmcpStatusCodeUnauthorizedGUID:
		return ErrPassword
	case types.RmcpStatusCodeUnauthorizedRoleOfPriLevel, types.RmcpStatusCodeInvalidRole:
		return fmt.Errorf("the user is no administrator of it (%v)", code)
	}
	return errors.New(code.String())
}

// completionError is for the codes of IPMI 2.0, table 5-2.
func completionError(code types.CompletionCode) error {
	switch code {
	case types.CodeInvalidCommand, types.CodeInvalidCommandForLUN, types.CodeParameterNotSupported,
		types.CodeNotSupported, types.CodeSubFnDisabled:
		return fmt.Errorf("%w (completion code %#02x)", ErrUnsupported, uint8(code))
	case types.CodeInsufficientPrivilege:
		return errors.New("the user may not do that")
	}
	return fmt.Errorf("completion code %#02x: %v", uint8(code), code)
}

// closeTime bounds the good-bye: the BMC ends the session by itself too.
const closeTime = time.Second

func (s *ipmi) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	s.c.Close(ctx) // the work is done, whatever comes of this
}

func (s *ipmi) vendor(ctx context.Context) (Vendor, error) {
	id, err := s.c.GetDeviceID(ctx)
	if err != nil {
		return Vendor{}, ipmiError(err)
	}
	return vendorByIANA(id.ManufacturerID), nil
}

func (s *ipmi) power(ctx context.Context) (Power, error) {
	st, err := s.c.GetChassisStatus(ctx)
	if err != nil {
		return Off, ipmiError(err)
	}
	if st.PowerIsOn {
		return On, nil
	}
	return Off, nil
}

func (s *ipmi) setPower(ctx context.Context, p Power) error {
	control := map[Power]chassis.ChassisControl{
		Off: chassis.ChassisControlPowerDown, On: chassis.ChassisControlPowerUp, Cycle: chassis.ChassisControlPowerCycle,
	}[p]
	_, err := s.c.ChassisControl(ctx, control)
	return ipmiError(err)
}

// bootOnce sets the boot flags (IPMI 2.0, table 28-14, parameter 5).
func (s *ipmi) bootOnce(ctx context.Context, from Device, legacy bool) error {
	boot := types.BIOSBootTypeEFI
	if legacy {
		boot = types.BIOSBootTypeLegacy
	}
	selector := types.BootDeviceSelectorForcePXE
	if from == CD {
		selector = types.BootDeviceSelectorForceCDROM
	}
	return ipmiError(s.c.SetBootDevice(ctx, selector, boot, false))
}

func (s *ipmi) source(ctx context.Context) (string, error) {
	channel, err := s.channel(ctx)
	if err != nil {
		return "", err
	}
	return s.sourceOf(ctx, channel)
}

// sourceOf returns the address source of IPMI 2.0, table 23-4, parameter 4.
func (s *ipmi) sourceOf(ctx context.Context, channel uint8) (string, error) {
	var p types.LanConfigParam_IPSource
	if err := s.c.GetLanConfigParamFor(ctx, channel, &p); err != nil {
		return "", ipmiError(err)
	}
	if p.Source == types.IPAddressSourceDHCP {
		return fromDHCP, nil
	}
	return p.Source.String(), nil
}

// setDHCP sets the address source and reads it back. A BMC that no longer answers has moved to its new address.
func (s *ipmi) setDHCP(ctx context.Context) error {
	channel, err := s.channel(ctx)
	if err != nil {
		return err
	}
	err = s.c.SetLanConfigParamFor(ctx, channel, &types.LanConfigParam_IPSource{Source: types.IPAddressSourceDHCP})
	if err != nil {
		return ipmiError(err)
	}
	source, err := s.sourceOf(ctx, channel)
	switch {
	case errors.Is(err, ErrUnreachable):
		return nil
	case err != nil:
		return err
	case source != fromDHCP:
		return fmt.Errorf("channel %d took the command, and its address is still %v", channel, source)
	}
	return nil
}

// reset restarts the BMC (IPMI 2.0, section 20.2). It need not answer that.
func (s *ipmi) reset(ctx context.Context) error {
	err := ipmiError(s.c.ColdReset(ctx))
	if errors.Is(err, ErrUnreachable) {
		return nil
	}
	return err
}

// lastChannel is the last number that a LAN channel can have (IPMI 2.0, 6.3).
const lastChannel = 11

// thisChannel stands for the channel that a request comes in by.
const thisChannel = 0x0e

// channel finds the LAN channel we came in by.
func (s *ipmi) channel(ctx context.Context) (uint8, error) {
	var found []lanChannel
	for n := uint8(1); n <= lastChannel; n++ {
		info, err := s.c.GetChannelInfo(ctx, n)
		if err := ipmiError(err); errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return 0, err
		}
		if err == nil && info.ChannelMedium == types.ChannelMediumLAN {
			var ip types.LanConfigParam_IP
			s.c.GetLanConfigParamFor(ctx, n, &ip) // a channel without an address is one too
			a, _ := netip.AddrFromSlice(ip.IP)
			found = append(found, lanChannel{n, a.Unmap()})
		}
	}
	var current uint8
	if info, err := s.c.GetChannelInfo(ctx, thisChannel); err == nil {
		current = info.ActualChannelNumber
	}
	return pickChannel(found, s.host, current)
}

// A lanChannel is a channel of the medium 802.3 LAN.
type lanChannel struct {
	number uint8
	addr   netip.Addr
}

// pickChannel picks the channel that has the address we talk to: BMCs with a
// port of their own and one shared with the machine have several. Behind an
// address translation none has it, and the one that the BMC says we came in by
// is taken.
func pickChannel(found []lanChannel, host string, current uint8) (uint8, error) {
	for _, c := range found {
		if c.addr.String() == host {
			return c.number, nil
		}
	}
	for _, c := range found {
		if c.number == current || len(found) == 1 {
			return c.number, nil
		}
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("%w: it has no LAN channel", ErrUnsupported)
	}
	return 0, fmt.Errorf("none of its %d LAN channels has the address %s", len(found), host)
}
