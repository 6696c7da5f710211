package node

// A Validate is what a role expects of the systems of its nodes, besides the
// name and the address of each. The zero value of a field expects nothing.
type Validate struct {
	OS          string   // pattern with * for PRETTY_NAME of os-release
	Bond        string   // name of a bond; its members must be up
	BondMode    string   // such as 802.3ad
	BondMembers int      // how many
	Wiped       int64    // bytes: each drive of this size or more has no partition and no signature
	Services    []string // units of systemd that are active
	Registered  bool     // it reported its edge host id, and it is the predicted one
}
