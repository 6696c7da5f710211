package main_test

import (
	"testing"
	"time"

	"bootd/internal/lab"
)

// A node boots at a port of a switch that does not forward at once: iPXE hears
// RSTP and waits for as long as it takes, it answers LACP, and firmware that
// does not is let through by a switch with a fallback.
func TestSwitchPort(t *testing.T) {
	for _, tt := range []struct {
		port   lab.Port
		fw     lab.Firmware
		waited time.Duration // at least, from power-on to the first DISCOVER
	}{
		{lab.RSTP, lab.BIOS, 18 * time.Second},
		{lab.LACP, lab.BIOS, 0},
		{lab.LACPFallback, lab.UEFI, 0},
	} {
		t.Run(tt.port.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1, m001)
			m := machine(m001, tt.fw)
			m.Port = tt.port
			g := s.Boot(t, m)
			if tt.fw == lab.BIOS { // iPXE says what it waits for
				s.line(g, `^Configuring \(net0 `+m001.MAC.String()+`\)\.+ ok`)
			}
			heard := s.wait(s.daemon, `msg=dhcp-discover .*node=`+m001.Name).Time.Sub(g.Started)
			if heard < tt.waited {
				t.Errorf("first DISCOVER after %v, want the port deaf for %v", heard, tt.waited)
			}
			s.line(g, `^BOOTD-LAB-LEASED`)
			if got, err := g.LACPCurrent(t.Context()); err != nil || got != (tt.port == lab.LACP) {
				t.Errorf("LACP from the machine: got %v, %v, want %v", got, err, !got)
			}
			s.wantBooted(g, m001, "1.2.3")
			t.Logf("first DISCOVER after %.1f s, checked in after %.1f s", heard.Seconds(), time.Since(g.Started).Seconds())
		})
	}
}
