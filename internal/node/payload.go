package node

// A Payload says where the documents of a node come from: what its installer
// or its first boot fetches to configure itself. The zero Payload is none.
type Payload struct {
	Family   string            // what kind of documents, such as NoCloud
	Dir      string            // directory of their templates; absolute; empty: Settings makes them
	Settings string            // file of typed site settings; absolute; empty: none
	Secrets  map[string]string // files of the values that no list may show, by name; absolute
	Require  []string          // tags that a node must have

	FirstBoot bool // for the first boot of what was installed, which may have secrets; else for what is netbooted
}

// The families of payloads.
const (
	NoCloud     = "nocloud"     // cloud-init's data source of that name
	Autoinstall = "autoinstall" // Ubuntu's installer, by way of cloud-init
	Kairos      = "kairos"      // Kairos and Palette Edge
	Ignition    = "ignition"    // Fedora CoreOS, Flatcar
	Preseed     = "preseed"     // Debian's installer
	Kickstart   = "kickstart"   // Anaconda
	AutoYaST    = "autoyast"    // SUSE's installer
	Talos       = "talos"
	Text        = "text"     // any text, under its own name
	Basecamp    = "basecamp" // metal-basecamp of HPE Cray CSM
)

// PayloadFamilies are all families.
func PayloadFamilies() []string {
	return []string{NoCloud, Autoinstall, Kairos, Ignition, Preseed, Kickstart, AutoYaST, Talos, Text, Basecamp}
}

// IsZero reports whether there is no payload.
func (p Payload) IsZero() bool { return p.Family == "" }
