package config

// The raw types mirror the file: every scalar is its text, exactly as written,
// so that a serial number 00123 keeps its zeroes, and "" means that the key is
// missing or empty. The tags are the keys.
type (
	raw struct {
		Root    string      `yaml:"root"`
		State   string      `yaml:"state"`
		Loaders string      `yaml:"loaders"`
		Loader  string      `yaml:"loader"`
		Retries string      `yaml:"retries"`
		Kernels string      `yaml:"kernels"`
		Signers string      `yaml:"signers"`
		Log     rawLog      `yaml:"log"`
		Admin   rawAdmin    `yaml:"admin"`
		HTTP    rawHTTP     `yaml:"http"`
		TFTP    rawTFTP     `yaml:"tftp"`
		Leases  rawLeases   `yaml:"leases"`
		Token   string      `yaml:"registration-token"`
		BMC     *rawBMC     `yaml:"bmc"`
		Subnets []rawSubnet `yaml:"subnets"`
		Classes []rawClass  `yaml:"classes"`
		Roles   []rawRole   `yaml:"roles"`
		Nodes   []rawNode   `yaml:"nodes"`

		Registration rawRegistration `yaml:"registration"`
	}
	rawRegistration struct {
		PIN   string    `yaml:"pin"`
		URL   string    `yaml:"url"`
		Sites []rawSite `yaml:"sites"`
	}
	rawValidate struct {
		OS          string   `yaml:"os"`
		Bond        string   `yaml:"bond"`
		BondMode    string   `yaml:"bond-mode"`
		BondMembers string   `yaml:"bond-members"`
		Wiped       string   `yaml:"wiped"`
		Services    []string `yaml:"services"`
		Registered  string   `yaml:"registered"`
	}
	rawSite struct {
		Name  string   `yaml:"name"`
		Label string   `yaml:"label"`
		Role  string   `yaml:"role"`
		Tags  []string `yaml:"tags"`
	}
	rawLog struct {
		Level  string `yaml:"level"`
		Format string `yaml:"format"`
	}
	rawAdmin struct {
		Socket string `yaml:"socket"`
	}
	rawHTTP struct {
		Port     string `yaml:"port"`
		Metadata string `yaml:"metadata"`
	}
	rawTFTP struct {
		Enabled string `yaml:"enabled"`
		Port    string `yaml:"port"`
	}
	rawBMC struct {
		Protocol string `yaml:"protocol"`
		User     string `yaml:"user"`
		Password string `yaml:"password-file"`
	}
	rawLeases struct {
		File  string   `yaml:"file"`
		Hooks []string `yaml:"hooks"`
	}
	rawSubnet struct {
		Interface   string   `yaml:"interface"`
		Subnet      string   `yaml:"subnet"`
		Server      string   `yaml:"server"`
		Pools       []string `yaml:"pools"`
		Exclude     []string `yaml:"exclude"`
		Router      string   `yaml:"router"`
		DNS         []string `yaml:"dns"`
		NTP         []string `yaml:"ntp"`
		Domain      string   `yaml:"domain"`
		Lease       string   `yaml:"lease"`
		BootLease   string   `yaml:"boot-lease"`
		Probe       string   `yaml:"probe"`
		Mode        string   `yaml:"mode"`
		Relayed     string   `yaml:"relayed"`
		Unknown     string   `yaml:"unknown"`
		Identity    string   `yaml:"identity"`
		MinLease    string   `yaml:"min-lease"`
		MaxLease    string   `yaml:"max-lease"`
		Renew       string   `yaml:"renew"`
		Rebind      string   `yaml:"rebind"`
		MTU         string   `yaml:"mtu"`
		Search      []string `yaml:"search"`
		Routes      []string `yaml:"routes"`
		Options     []string `yaml:"options"`
		RapidCommit string   `yaml:"rapid-commit"`
		Selection   string   `yaml:"subnet-selection"`
		IPv6Only    string   `yaml:"ipv6-only"`
	}
	rawClass struct {
		Name        string   `yaml:"name"`
		VendorClass string   `yaml:"vendor-class"`
		UserClass   string   `yaml:"user-class"`
		CircuitID   string   `yaml:"circuit-id"`
		RemoteID    string   `yaml:"remote-id"`
		Arch        []string `yaml:"arch"`
		MAC         []string `yaml:"mac"`
		UUID        []string `yaml:"uuid"`
		Lease       string   `yaml:"lease"`
		Loader      string   `yaml:"loader"`
		Options     []string `yaml:"options"`
	}
	rawRole struct {
		Name     string   `yaml:"name"`
		Dir      string   `yaml:"dir"`
		Squashfs []string `yaml:"squashfs"`
		Aliases  []string `yaml:"aliases"`
		Signed   string   `yaml:"require-signature"`
		Follow   string   `yaml:"follow"`
		Channel  string   `yaml:"channel"`
		Release  string   `yaml:"release"`
		Args     string   `yaml:"args"`
		Loader   string   `yaml:"loader"`
		Firmware string   `yaml:"firmware"`
		Options  []string `yaml:"options"`

		Hosts      []string     `yaml:"hosts"`
		ScriptArgs []string     `yaml:"script-args"`
		Install    *rawInstall  `yaml:"install"`
		Validate   *rawValidate `yaml:"validate"`
		LoopLimit  string       `yaml:"loop-limit"`
		Token      string       `yaml:"registration-token"`

		Payload rawPayload `yaml:"payload"`
		Site    rawPayload `yaml:"site"`
		Tags    []string   `yaml:"tags"`
	}
	rawInstall struct {
		Done    string `yaml:"done"`
		Within  string `yaml:"within"`
		CheckIn string `yaml:"check-in"`
		Ready   string `yaml:"ready"`
	}
	rawPayload struct {
		Family   string   `yaml:"family"`
		Dir      string   `yaml:"dir"`
		Settings string   `yaml:"settings"`
		Secrets  []string `yaml:"secrets"`
		Require  []string `yaml:"require"`
	}
	rawNode struct {
		Name    string   `yaml:"name"`
		Role    string   `yaml:"role"`
		MACs    []string `yaml:"macs"`
		BMC     string   `yaml:"bmc"`
		UUID    string   `yaml:"uuid"`
		Serial  string   `yaml:"serial"`
		Address string   `yaml:"address"`
		More    []string `yaml:"addresses"`
		BMCAddr string   `yaml:"bmc-address"`
		Boot    string   `yaml:"boot"`
		Release string   `yaml:"release"`
		Args    string   `yaml:"args"`
		Loader  string   `yaml:"loader"`
		Options []string `yaml:"options"`

		Payload rawPayload `yaml:"payload"`
		Site    rawPayload `yaml:"site"`
		Tags    []string   `yaml:"tags"`
	}
)
