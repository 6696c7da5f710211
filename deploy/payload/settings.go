package payload

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"bootd/deploy/site"
	"bootd/internal/node"
)

// settingsTo is the document that settings become where no template is.
const settingsTo = "user-data"

// settingsDocument is what the settings of a payload say to a node; nil: it
// has none.
func settingsDocument(p node.Payload, d Data) ([]byte, error) {
	if p.Settings == "" {
		return nil, nil
	}
	file, err := readSettings(p.Settings)
	if err != nil {
		return nil, settingsFault(p, err)
	}
	m := d.machine()
	s, err := file.For(m)
	if err != nil {
		return nil, settingsFault(p, err)
	}
	if !p.FirstBoot {
		return s.InstallDocument(m)
	}
	text, err := s.SiteDocument(m, func(name string) (string, error) {
		value, ok := d.Secret[name]
		if !ok {
			return "", fmt.Errorf("secret:%s: the payload has no secret %q", name, name)
		}
		return value, nil
	})
	if err != nil {
		return nil, settingsFault(p, err)
	}
	return text, nil
}

// Strangers returns what is wrong with the names of nodes in the settings of a
// payload.
func Strangers(p node.Payload, isNode func(name string) bool) []error {
	if p.Settings == "" {
		return nil
	}
	file, err := readSettings(p.Settings)
	if err != nil {
		return nil // Check says so
	}
	return file.Strangers(isNode)
}

// settingsFault turns an error of the settings into faults.
func settingsFault(p node.Payload, err error) error {
	var errs []error
	for _, err := range split(err) {
		var s *site.Fault
		switch {
		case errors.As(err, &s):
			err = &Fault{File: s.File, Line: s.Line, Column: s.Column, Problem: s.Problem}
		case !errors.As(err, new(*Fault)):
			err = &Fault{File: p.Settings, Problem: err.Error()}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func readSettings(path string) (*site.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, unreadable(path, "", err)
	}
	defer root.Close()
	text, err := readText(root, filepath.Base(path), maxDocument)
	if err != nil {
		return nil, unreadable(path, "", err)
	}
	return site.Parse(path, text)
}

// machine is what the settings are filled in with.
func (d Data) machine() site.Machine {
	m := site.Machine{
		Name: d.Name, Domain: d.Domain, Router: d.Subnet.Router, DNS: texts(d.Subnet.DNS), NTP: texts(d.Subnet.NTP),
		Server: d.Server, Wipe: d.Wipe,
	}
	if d.Addr.IsValid() && d.Subnet.Prefix.Contains(d.Addr) {
		m.Addr = netip.PrefixFrom(d.Addr, d.Subnet.Prefix.Bits())
	}
	return m
}

func texts(list []netip.Addr) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}
