package bmc

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// redfish is a session over HTTPS. Its context is the one that it was opened
// with.
type redfish struct {
	c      *gofish.APIClient
	system string // URI of the machine
	maker  string
	host   string
}

// httpTimeout bounds one request. Some BMCs take ten seconds to log in.
const httpTimeout = 20 * time.Second

func (b BMC) openRedfish(ctx context.Context) (session, error) {
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: !b.Verify, MinVersion: tls.VersionTLS12},
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	c, err := gofish.ConnectContext(ctx, gofish.ClientConfig{
		Endpoint: "https://" + net.JoinHostPort(b.Host, strconv.Itoa(int(cmp.Or(b.Port, 443)))),
		Username: b.User, Password: b.Password.Reveal(), BasicAuth: b.Basic,
		HTTPClient:       &http.Client{Transport: transport, Timeout: httpTimeout, CheckRedirect: stay},
		ReuseConnections: true, NoModifyTransport: true,
	})
	if err != nil {
		transport.CloseIdleConnections()
		return nil, redfishError(err)
	}
	s := &redfish{c: c, host: b.Host}
	// With basic authentication this is the first request that needs it.
	systems, err := c.Service.Systems()
	switch {
	case err != nil:
		err = redfishError(err)
	case len(systems) == 0:
		err = fmt.Errorf("%w: it has no ComputerSystem", ErrUnsupported)
	default:
		s.system, s.maker = systems[0].ODataID, cmp.Or(systems[0].Manufacturer, c.Service.Vendor)
		return s, nil
	}
	s.close()
	return nil, err
}

// stay refuses a redirect to where the password must not go.
func stay(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" || req.URL.Host != via[0].URL.Host || len(via) > 3 {
		return fmt.Errorf("it redirects to %q", req.URL.Redacted())
	}
	return nil
}

func (s *redfish) close() { s.c.Logout() }

// redfishError says in a few words what a response says in many.
func redfishError(err error) error {
	var e *schemas.Error
	var cert *tls.CertificateVerificationError
	var several *schemas.CollectionError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &several) && !several.Empty():
		first := slices.Sorted(maps.Keys(several.Failures))[0]
		return redfishError(several.Failures[first])
	case errors.As(err, &cert):
		return fmt.Errorf("its certificate is not trusted here: %v", cert.Err)
	case !errors.As(err, &e):
		return silence(err)
	}
	switch e.HTTPReturnedStatusCode {
	case http.StatusUnauthorized:
		return ErrPassword
	case http.StatusForbidden:
		return errors.New("the user may not do that")
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fmt.Errorf("%w (HTTP %d)", ErrUnsupported, e.HTTPReturnedStatusCode)
	}
	return fmt.Errorf("HTTP %d: %s", e.HTTPReturnedStatusCode, redfishMessage(e))
}

// redfishMessage is what an error response says, in one line (DSP0266, 8.6).
func redfishMessage(e *schemas.Error) string {
	var said []string
	for _, info := range e.ExtendedInfos {
		said = append(said, cmp.Or(info.Message, info.MessageID))
	}
	return cmp.Or(strings.Join(said, " "), e.Message, e.Code, "no reason given")
}

func (s *redfish) vendor(context.Context) (Vendor, error) { return vendorByName(s.maker), nil }

func (s *redfish) machine() (*schemas.ComputerSystem, error) {
	m, err := schemas.GetObject[schemas.ComputerSystem](s.c, s.system)
	return m, redfishError(err)
}

func (s *redfish) power(context.Context) (Power, error) {
	m, err := s.machine()
	if err != nil {
		return Off, err
	}
	switch m.PowerState {
	case schemas.OnPowerState, schemas.PoweringOffPowerState, schemas.PausedPowerState:
		return On, nil
	}
	return Off, nil
}

func (s *redfish) setPower(ctx context.Context, p Power) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	has, err := m.GetSupportedResetTypes()
	if err != nil {
		return redfishError(err)
	}
	for _, kind := range resets[p] {
		if len(has) == 0 || slices.Contains(has, kind) {
			task, err := m.Reset(kind)
			return s.finish(ctx, task, err)
		}
	}
	return fmt.Errorf("%w: it only has %v", ErrUnsupported, has)
}

// resets are the ways to a power, the best one first. Not every BMC has all.
var resets = map[Power][]schemas.ResetType{
	Off:   {schemas.ForceOffResetType},
	On:    {schemas.OnResetType, schemas.ForceOnResetType},
	Cycle: {schemas.PowerCycleResetType, schemas.ForceRestartResetType},
}

// taskEvery is how often a task is asked whether it has ended.
const taskEvery = 200 * time.Millisecond

// finish waits for what a BMC answered with a task (DSP0266, 12.2): its monitor
// answers 202 until it has ended.
func (s *redfish) finish(ctx context.Context, task *schemas.TaskMonitorInfo, err error) error {
	if err != nil || task == nil || task.TaskMonitor == "" {
		return redfishError(err)
	}
	for {
		resp, err := s.c.Get(task.TaskMonitor)
		if err != nil {
			return redfishError(err)
		}
		var end struct {
			TaskState string
			Messages  []struct{ Message string }
		}
		json.NewDecoder(resp.Body).Decode(&end) // an ended task need not say anything
		resp.Body.Close()
		switch {
		case end.TaskState == "Exception" || end.TaskState == "Cancelled" || end.TaskState == "Killed":
			var said []string
			for _, m := range end.Messages {
				said = append(said, m.Message)
			}
			return fmt.Errorf("its task ended as %s: %s", end.TaskState, cmp.Or(strings.Join(said, " "), "no reason given"))
		case resp.StatusCode != http.StatusAccepted:
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("its task has not ended")
		case <-time.After(taskEvery):
		}
	}
}

// bootOnce sets the boot source override. Some BMCs refuse the mode, which then
// stays what it is.
func (s *redfish) bootOnce(_ context.Context, from Device, legacy bool) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	boot := &schemas.Boot{
		BootSourceOverrideTarget:  map[Device]schemas.BootSource{PXE: schemas.PxeBootSource, CD: schemas.CdBootSource}[from],
		BootSourceOverrideEnabled: schemas.OnceBootSourceOverrideEnabled,
		BootSourceOverrideMode:    schemas.UEFIBootSourceOverrideMode,
	}
	if legacy {
		boot.BootSourceOverrideMode = schemas.LegacyBootSourceOverrideMode
	}
	err = m.SetBoot(boot)
	var e *schemas.Error
	if errors.As(err, &e) && e.HTTPReturnedStatusCode == http.StatusBadRequest && !legacy {
		boot.BootSourceOverrideMode = ""
		err = m.SetBoot(boot)
	}
	return redfishError(err)
}

// nic finds the interface of the manager that has the address we talk to, or
// the only one.
func (s *redfish) nic() (*schemas.EthernetInterface, error) {
	managers, err := s.c.Service.Managers()
	if err != nil {
		return nil, redfishError(err)
	}
	var all []*schemas.EthernetInterface
	for _, m := range managers {
		nics, err := m.EthernetInterfaces()
		if err != nil {
			return nil, redfishError(err)
		}
		all = append(all, nics...)
	}
	host, _ := netip.ParseAddr(s.host)
	for _, nic := range all {
		for _, a := range nic.IPv4Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && ip == host {
				return nic, nil
			}
		}
	}
	switch len(all) {
	case 0:
		return nil, fmt.Errorf("%w: its manager has no EthernetInterface", ErrUnsupported)
	case 1:
		return all[0], nil
	}
	return nil, fmt.Errorf("none of its %d EthernetInterfaces has the address %s", len(all), s.host)
}

func (s *redfish) source(context.Context) (string, error) {
	nic, err := s.nic()
	switch {
	case err != nil:
		return "", err
	case nic.DHCPv4.DHCPEnabled:
		return fromDHCP, nil
	}
	for _, a := range nic.IPv4Addresses { // of services before schema 1.4
		if a.AddressOrigin != "" {
			return strings.ToLower(string(a.AddressOrigin)), nil
		}
	}
	return "static", nil
}

// setDHCP is tried again when somebody else has changed the interface since we
// read it (DSP0266, 6.5: 412). A BMC that no longer answers has moved to its
// new address.
func (s *redfish) setDHCP(context.Context) error {
	for again := true; ; again = false {
		nic, err := s.nic()
		if err != nil {
			return err
		}
		err = nic.Patch(nic.ODataID, map[string]any{"DHCPv4": map[string]any{"DHCPEnabled": true}})
		if again && schemas.Is412PreconditionFailed(err) {
			continue
		}
		if err = redfishError(err); errors.Is(err, ErrUnreachable) {
			return nil
		}
		return err
	}
}

func (s *redfish) reset(ctx context.Context) error {
	managers, err := s.c.Service.Managers()
	if err != nil {
		return redfishError(err)
	}
	if len(managers) == 0 {
		return fmt.Errorf("%w: it has no Manager", ErrUnsupported)
	}
	task, err := managers[0].Reset(schemas.GracefulRestartResetType)
	return s.finish(ctx, task, err)
}

// drive finds the virtual CD of the machine, which older services have with the
// manager.
func (s *redfish) drive() (*schemas.VirtualMedia, error) {
	m, err := s.machine()
	if err != nil {
		return nil, err
	}
	media, err := m.VirtualMedia()
	if err != nil {
		return nil, redfishError(err)
	}
	managers, err := s.c.Service.Managers()
	if err != nil {
		return nil, redfishError(err)
	}
	for _, mgr := range managers {
		more, err := mgr.VirtualMedia()
		if err != nil {
			return nil, redfishError(err)
		}
		media = append(media, more...)
	}
	for _, v := range media {
		if slices.Contains(v.MediaTypes, schemas.CDVirtualMediaType) || slices.Contains(v.MediaTypes, schemas.DVDVirtualMediaType) {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w: it has no virtual CD", ErrUnsupported)
}

// attach puts the image in the drive. An other one is taken out first, as
// services want it (VirtualMedia, InsertMedia). Older services know the image
// as only parameter.
func (s *redfish) attach(ctx context.Context, image string) (changed bool, err error) {
	v, err := s.drive()
	if err != nil || inserted(v) && v.Image == image {
		return false, err
	}
	if inserted(v) {
		task, err := v.EjectMedia()
		if err := s.finish(ctx, task, err); err != nil {
			return false, err
		}
	}
	yes := true
	task, err := v.InsertMedia(&schemas.VirtualMediaInsertMediaParameters{Image: image, Inserted: &yes, WriteProtected: &yes})
	var e *schemas.Error
	if errors.As(err, &e) && e.HTTPReturnedStatusCode == http.StatusBadRequest {
		task, err = v.InsertMedia(&schemas.VirtualMediaInsertMediaParameters{Image: image})
	}
	err = s.finish(ctx, task, err)
	return err == nil, err
}

func (s *redfish) eject(ctx context.Context) (changed bool, err error) {
	v, err := s.drive()
	if err != nil || !inserted(v) {
		return false, err
	}
	task, err := v.EjectMedia()
	err = s.finish(ctx, task, err)
	return err == nil, err
}

func inserted(v *schemas.VirtualMedia) bool {
	return v.Image != "" && (v.Inserted == nil || *v.Inserted)
}
