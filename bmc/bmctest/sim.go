// Package bmctest has BMCs for tests: the configuration of ipmi_sim, OpenIPMI's
// simulator of a BMC over IPMI, and a Redfish service.
//
// Nothing here starts a process; tests do, where they want it.
package bmctest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// A Sim is a BMC played by ipmi_sim.
type Sim struct {
	Name     string         // of the BMC
	Addr     netip.AddrPort // where it listens
	User     string
	Password string
	Channel  uint8  // number of its LAN channel; 0: 1
	IANA     uint32 // manufacturer in its device id; 0: 0x1291, what its own examples have
	Start    string // command that is the machine, which is on while it runs; empty: one that sleeps
}

// Files in the directory of Args.
const (
	PidFile     = "pid"     // of the machine that runs, or ran last
	BootFile    = "boot"    // boot device that was set last, as ipmi_sim calls it: "pxe"
	ConsoleFile = "console" // what the machine prints
)

// Args writes the files of ipmi_sim into dir and returns its arguments.
func (s Sim) Args(dir string) ([]string, error) {
	lan := filepath.Join(dir, s.Name+".lan")
	emu := filepath.Join(dir, s.Name+".emu")
	state := filepath.Join(dir, s.Name+".state")
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(lan, []byte(s.lan(dir)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "chassis"), []byte(s.chassis(dir)), 0o755); err != nil {
		return nil, err
	}
	return []string{"-c", lan, "-f", emu, "-s", state, "-n"}, os.WriteFile(emu, []byte(s.emu()), 0o600)
}

// lan is as ipmi_lan(5) describes it.
func (s Sim) lan(dir string) string {
	var levels strings.Builder
	for _, level := range []string{"callback", "user", "operator", "admin"} {
		fmt.Fprintf(&levels, "    allowed_auths_%s none md2 md5 straight\n", level)
	}
	return fmt.Sprintf(`name "%s"
set_working_mc 0x20
  startlan %d
    addr %s %d
    priv_limit admin
%s    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "%s/chassis"
  user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, s.Name, max(1, s.Channel), s.Addr.Addr(), s.Addr.Port(), levels.String(), dir, s.User, s.Password)
}

// emu is as ipmi_sim_cmd(5) describes it.
func (s Sim) emu() string {
	iana := s.IANA
	if iana == 0 {
		iana = 0x1291
	}
	return fmt.Sprintf("mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f %#x 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n", iana)
}

// chassis is the program that ipmi_sim runs with "get power", "set power 0",
// "set power 1" and "set boot pxe". A machine that ended may stay as a zombie
// where nobody waits for it.
func (s Sim) chassis(dir string) string {
	start := s.Start
	if start == "" {
		start = "sleep 1000"
	}
	return `#!/bin/sh
cd '` + dir + `' || exit 1
pid=$(cat ` + PidFile + ` 2>/dev/null)
on() { [ -n "$pid" ] && grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null; }
case "$1 $2 $3" in
"get power "*) if on; then echo power:1; else echo power:0; fi ;;
"set power 1") on || { setsid ` + start + ` </dev/null >` + ConsoleFile + ` 2>&1 & echo $! >` + PidFile + `; } ;;
"set power 0") if on; then kill -9 "$pid"; fi ;;
"set boot "*) echo "$3" >` + BootFile + ` ;;
"get boot "*) echo boot:none ;;
*) exit 1 ;;
esac
`
}
