package bmc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"bootd/bmc"
	"bootd/bmc/bmctest"
)

func startRedfish(t *testing.T, q bmctest.Quirks) (bmc.BMC, *bmctest.Redfish) {
	t.Helper()
	r := bmctest.NewRedfish(q)
	t.Cleanup(r.Close)
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(u.Host)
	return bmc.BMC{
		Node: "ncn-m002", Host: at.Addr().String(), Port: at.Port(), Protocol: bmc.Redfish,
		User: r.User, Password: bmc.NewSecret(r.Password), Timeout: 20 * time.Second,
	}, r
}

const (
	reset  = `POST /Systems/1/Actions/ComputerSystem.Reset {"ResetType":"`
	image  = "http://10.254.0.1/site.iso"
	insert = `POST /Systems/1/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia {"Image":"http://10.254.0.1/site.iso","Inserted":true,"WriteProtected":true}`
)

func setPower(p bmc.Power) func(context.Context, bmc.BMC) (bool, error) {
	return func(ctx context.Context, b bmc.BMC) (bool, error) { return b.SetPower(ctx, p) }
}

func bootOnce(from bmc.Device, legacy bool) func(context.Context, bmc.BMC) (bool, error) {
	return func(ctx context.Context, b bmc.BMC) (bool, error) { return true, b.BootOnce(ctx, from, legacy) }
}

func setDHCP(reset bool) func(context.Context, bmc.BMC) (bool, error) {
	return func(ctx context.Context, b bmc.BMC) (bool, error) { return b.SetDHCP(ctx, reset) }
}

func attach(image string) func(context.Context, bmc.BMC) (bool, error) {
	return func(ctx context.Context, b bmc.BMC) (bool, error) { return b.AttachMedia(ctx, image) }
}

func eject(ctx context.Context, b bmc.BMC) (bool, error) { return b.EjectMedia(ctx) }

type redfishStep struct {
	work    func(context.Context, bmc.BMC) (bool, error)
	changed bool
	err     string // without node and address
}

// Each service sees exactly the requests that its schemas and quirks call for,
// and after each work no session is left open.
func TestRedfish(t *testing.T) {
	for _, tt := range []struct {
		name   string
		quirks bmctest.Quirks
		steps  []redfishStep
		log    []string
	}{
		{"power", bmctest.Quirks{}, []redfishStep{{setPower(bmc.Off), false, ""}, {setPower(bmc.On), true, ""}, {setPower(bmc.On), false, ""}, {setPower(bmc.Off), true, ""}, {setPower(bmc.Cycle), true, ""}},
			[]string{reset + `On"}`, reset + `ForceOff"}`, reset + `On"}`}},
		{"power, by a task", bmctest.Quirks{Tasks: true}, []redfishStep{{setPower(bmc.On), true, ""}}, []string{reset + `On"}`}},
		{"power stays away", bmctest.Quirks{PowerStaysAway: true}, []redfishStep{{setPower(bmc.On), true, "confirm power on: the BMC took the command, and the power is still off"}}, []string{reset + `On"}`}},
		{"boot once", bmctest.Quirks{}, []redfishStep{{bootOnce(bmc.PXE, false), true, ""}, {bootOnce(bmc.PXE, true), true, ""}, {bootOnce(bmc.CD, false), true, ""}}, []string{
			`PATCH /Systems/1 {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Pxe"}}`,
			`PATCH /Systems/1 {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"Legacy","BootSourceOverrideTarget":"Pxe"}}`,
			`PATCH /Systems/1 {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Cd"}}`}},
		{"boot once, mode refused", bmctest.Quirks{NoBootMode: true}, []redfishStep{{bootOnce(bmc.PXE, false), true, ""}}, []string{
			`PATCH /Systems/1 {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Pxe"}}`,
			`PATCH /Systems/1 {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe"}}`}},
		{"dhcp", bmctest.Quirks{}, []redfishStep{{setDHCP(false), true, ""}, {setDHCP(false), false, ""}},
			[]string{`PATCH /Managers/1/EthernetInterfaces/eth0 {"DHCPv4":{"DHCPEnabled":true}}`}},
		{"dhcp, of two the right one", bmctest.Quirks{TwoNICs: true}, []redfishStep{{setDHCP(false), true, ""}},
			[]string{`PATCH /Managers/1/EthernetInterfaces/eth0 {"DHCPv4":{"DHCPEnabled":true}}`}},
		{"dhcp, changed by others", bmctest.Quirks{Changing: true}, []redfishStep{{setDHCP(false), true, ""}},
			[]string{`PATCH /Managers/1/EthernetInterfaces/eth0 {"DHCPv4":{"DHCPEnabled":true}}`}},
		{"dhcp, unsupported", bmctest.Quirks{NoDHCP: true}, []redfishStep{{setDHCP(false), false, "set dhcp: not supported by this BMC (HTTP 405)"}},
			[]string{`PATCH /Managers/1/EthernetInterfaces/eth0 {"DHCPv4":{"DHCPEnabled":true}}`}},
		{"an iLO is never reset", bmctest.Quirks{}, []redfishStep{{setDHCP(true), false, "identify: not supported by this BMC: a reset, which crashes those of HPE"}}, nil},
		{"media", bmctest.Quirks{}, []redfishStep{{eject, false, ""}, {attach(image), true, ""}, {attach(image), false, ""}, {attach("http://x/other.iso"), true, ""}, {eject, true, ""}}, []string{
			insert, `POST /Systems/1/VirtualMedia/CD1/Actions/VirtualMedia.EjectMedia {}`,
			strings.Replace(insert, image, "http://x/other.iso", 1), `POST /Systems/1/VirtualMedia/CD1/Actions/VirtualMedia.EjectMedia {}`}},
		{"media, old", bmctest.Quirks{OldMedia: true}, []redfishStep{{attach(image), true, ""}}, []string{
			strings.Replace(insert, "Systems", "Managers", 1), `POST /Managers/1/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia {"Image":"http://10.254.0.1/site.iso"}`}},
		{"media, the task fails", bmctest.Quirks{Tasks: true, TaskFails: true}, []redfishStep{{attach(image), false, "attach media: its task ended as Exception: The image could not be mounted."}}, []string{insert}},
		{"media, none", bmctest.Quirks{NoMedia: true}, []redfishStep{{attach(image), false, "attach media: not supported by this BMC: it has no virtual CD"}}, nil},
		{"no sessions", bmctest.Quirks{NoSessions: true}, []redfishStep{{setPower(bmc.On), false, "connect: not supported by this BMC (HTTP 405)"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, r := startRedfish(t, tt.quirks)
			if tt.quirks.PowerStaysAway {
				b.Timeout = time.Second
			}
			for i, s := range tt.steps {
				changed, err := s.work(t.Context(), b)
				want := ""
				if s.err != "" {
					want = "ncn-m002: BMC 127.0.0.1: " + s.err
				}
				if changed != s.changed || message(err) != want {
					t.Errorf("step %d: got %v, %v, want %v, %s", i, changed, err, s.changed, want)
				}
			}
			if got := r.Log(); !slices.Equal(got, tt.log) {
				t.Errorf("the BMC got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.log, "\n"))
			}
			if open, _ := r.Sessions(); open != 0 {
				t.Errorf("got %d sessions left open, want none", open)
			}
		})
	}
}

func TestRedfishCycle(t *testing.T) {
	for want, q := range map[string]bmctest.Quirks{"PowerCycle": {}, "ForceRestart": {NoPowerCycle: true}} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			b, r := startRedfish(t, q)
			for _, p := range []bmc.Power{bmc.On, bmc.Cycle} {
				if _, err := b.SetPower(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
			if got := r.Log(); len(got) != 2 || got[1] != reset+want+`"}` {
				t.Errorf("got %q, want a %s", got, want)
			}
		})
	}
}

func TestRedfishStatus(t *testing.T) {
	for name, q := range map[string]bmctest.Quirks{"session": {}, "basic": {NoSessions: true}} {
		t.Run(name, func(t *testing.T) {
			b, r := startRedfish(t, q)
			b.Basic = q.NoSessions
			st, err := b.Status(t.Context())
			if want := (bmc.Status{Vendor: "HPE", Power: bmc.Off, Source: "static"}); err != nil || st != want {
				t.Errorf("got %+v, %v, want %+v", st, err, want)
			}
			b.Password = bmc.NewSecret("hunter2")
			_, before := r.Sessions()
			_, err = b.Status(t.Context())
			if want := "ncn-m002: BMC 127.0.0.1: connect: wrong user or password"; message(err) != want || !errors.Is(err, bmc.ErrPassword) {
				t.Errorf("got %v, want %s", err, want)
			}
			if _, after := r.Sessions(); after-before > 2 {
				t.Errorf("got %d tries with a wrong password, want no more than 2", after-before)
			}
		})
	}
}

func TestRedfishErrors(t *testing.T) {
	b, r := startRedfish(t, bmctest.Quirks{})
	verify := b
	verify.Verify = true
	_, err := verify.Status(t.Context())
	if !strings.Contains(message(err), "ncn-m002: BMC 127.0.0.1: connect: its certificate is not trusted here: ") {
		t.Errorf("got %v, want that its certificate is not trusted", err)
	}
	r.Close()
	_, err = b.Status(t.Context())
	if want := "ncn-m002: BMC 127.0.0.1: connect: does not answer: connect: connection refused"; message(err) != want || !errors.Is(err, bmc.ErrUnreachable) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A password does not follow a redirect to another place.
func TestRedfishRedirect(t *testing.T) {
	away := http.RedirectHandler("http://10.254.0.66/redfish/v1/", http.StatusTemporaryRedirect)
	server := httptest.NewTLSServer(away)
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	b := bmc.BMC{Node: "ncn-m002", Host: at.Addr().String(), Port: at.Port(), Protocol: bmc.Redfish, User: "root", Password: bmc.NewSecret("x"), Basic: true}
	_, err := b.Status(t.Context())
	if !strings.Contains(message(err), `it redirects to "http://10.254.0.66/redfish/v1/"`) {
		t.Errorf("got %v, want that it redirects", err)
	}
}
