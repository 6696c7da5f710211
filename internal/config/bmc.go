package config

import (
	"path/filepath"

	"bootd/internal/node"
)

// A BMC is how the daemon asks BMCs. The zero BMC is that it does not.
type BMC struct {
	Protocol string // one of BMCProtocols
	User     string
	Password string // file; empty: BMCs are not asked
}

// BMCProtocols are the words for how to talk to a BMC, the default first.
func BMCProtocols() []string { return []string{"ipmi", "redfish"} }

func (b *builder) bmc(at place, r *rawBMC) BMC {
	if r == nil {
		return BMC{}
	}
	c := BMC{
		Protocol: BMCProtocols()[b.word(at.key("protocol"), r.Protocol, BMCProtocols()...)],
		User:     r.User,
		Password: b.secretFile(at.key("password-file"), r.Password),
	}
	if r.User == "" {
		b.add(at.key("user"), "missing")
	}
	if r.Password == "" {
		b.add(at.key("password-file"), "missing")
	}
	return c
}

// powerOff checks that BMCs can be asked where their answer ends an
// installation.
func (b *builder) powerOff(c *Config, r raw) {
	waits := func(name string) bool {
		role, _ := c.Inventory.Role(name)
		return role.Install != nil && role.Install.Done == node.DonePowerOff
	}
	for i, role := range r.Roles {
		if waits(role.Name) && r.BMC == nil {
			b.add(place{}.item("roles", i, role.Name).key("install", "done"), `"power-off" is seen by BMCs only: bmc: is missing`)
		}
	}
	for i, n := range r.Nodes {
		if waits(n.Role) && n.BMC == "" {
			b.add(place{}.item("nodes", i, n.Name).key("bmc"), `missing: its role %q waits for power-off`, n.Role)
		}
	}
}

// secretFiles checks that no file with a secret of the site is served.
func (b *builder) secretFiles(c *Config, r raw) {
	b.notServed(place{}.key("registration-token"), c.Root, r.Token)
	if r.BMC != nil {
		b.notServed(place{}.key("bmc", "password-file"), c.Root, r.BMC.Password)
	}
	for i, role := range r.Roles {
		b.notServed(place{}.item("roles", i, role.Name).key("registration-token"), c.Root, role.Token)
	}
}

// secretFile reads the path of a file with a secret. It does not quote what is
// no path: it may be the secret.
func (b *builder) secretFile(at place, s string) string {
	switch {
	case s == "":
		return ""
	case !filepath.IsAbs(s):
		b.add(at, "not an absolute path: only files hold secrets")
		return ""
	}
	return filepath.Clean(s)
}
