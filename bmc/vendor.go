package bmc

import (
	"fmt"
	"strings"
)

// A Vendor is who made a BMC and what has to be known of its make.
type Vendor struct {
	Name  string
	IANA  uint32 // enterprise number in its IPMI device id
	Reset Reset
}

// A Reset says when a BMC is restarted, which takes minutes.
type Reset uint8

// The policies.
const (
	ResetAsked Reset = iota // when an administrator asks for it
	ResetDHCP               // after a change to DHCP too, which it does not take up before
	ResetNever              // it does not survive that
)

// vendors are the makes that source 004 is run on, and the one that the tests
// have. That some need a reset after a change to DHCP is from its manual
// ("Some BMCs need a cold reset in order to pick up this change fully"), that
// the iLO of HPE crashed from it is MTL-1588.
var vendors = []Vendor{
	{"HPE", 47196, ResetNever},
	{"HP", 11, ResetNever},
	{"GIGABYTE", 15370, ResetDHCP},
	{"Intel", 343, ResetAsked},
	{"Dell", 674, ResetAsked},
	{"Supermicro", 10876, ResetAsked},
	{"Supermicro", 47488, ResetAsked},
	{"Lenovo", 19046, ResetAsked},
	{"OpenIPMI simulator", 0x1291, ResetAsked},
}

// vendorByIANA finds a vendor by the number in its device id.
func vendorByIANA(n uint32) Vendor {
	for _, v := range vendors {
		if v.IANA == n {
			return v
		}
	}
	return Vendor{Name: fmt.Sprintf("IANA %d", n), IANA: n}
}

// vendorByName finds a vendor by what Redfish says, which is a name with or
// without "Inc." and the like.
func vendorByName(name string) Vendor {
	for _, v := range vendors {
		for _, word := range strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == ',' || r == '-' }) {
			if strings.EqualFold(word, v.Name) {
				return v
			}
		}
	}
	if strings.HasPrefix(strings.ToLower(name), "hewlett") {
		return vendors[0]
	}
	return Vendor{Name: name}
}
