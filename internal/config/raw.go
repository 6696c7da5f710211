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
		Log     rawLog      `yaml:"log"`
		Admin   rawAdmin    `yaml:"admin"`
		HTTP    rawHTTP     `yaml:"http"`
		TFTP    rawTFTP     `yaml:"tftp"`
		Subnets []rawSubnet `yaml:"subnets"`
		Roles   []rawRole   `yaml:"roles"`
		Nodes   []rawNode   `yaml:"nodes"`
	}
	rawLog struct {
		Level  string `yaml:"level"`
		Format string `yaml:"format"`
	}
	rawAdmin struct {
		Socket string `yaml:"socket"`
	}
	rawHTTP struct {
		Port string `yaml:"port"`
	}
	rawTFTP struct {
		Enabled string `yaml:"enabled"`
		Port    string `yaml:"port"`
	}
	rawSubnet struct {
		Interface     string   `yaml:"interface"`
		Subnet        string   `yaml:"subnet"`
		Server        string   `yaml:"server"`
		Pools         []string `yaml:"pools"`
		Exclude       []string `yaml:"exclude"`
		Router        string   `yaml:"router"`
		DNS           []string `yaml:"dns"`
		NTP           []string `yaml:"ntp"`
		Domain        string   `yaml:"domain"`
		Lease         string   `yaml:"lease"`
		BootLease     string   `yaml:"boot-lease"`
		Probe         string   `yaml:"probe"`
		Authoritative string   `yaml:"authoritative"`
	}
	rawRole struct {
		Name     string   `yaml:"name"`
		Dir      string   `yaml:"dir"`
		Squashfs []string `yaml:"squashfs"`
		Channel  string   `yaml:"channel"`
		Release  string   `yaml:"release"`
		Args     string   `yaml:"args"`
		Loader   string   `yaml:"loader"`
	}
	rawNode struct {
		Name    string   `yaml:"name"`
		Role    string   `yaml:"role"`
		MACs    []string `yaml:"macs"`
		BMC     string   `yaml:"bmc"`
		UUID    string   `yaml:"uuid"`
		Serial  string   `yaml:"serial"`
		Address string   `yaml:"address"`
		Boot    string   `yaml:"boot"`
		Release string   `yaml:"release"`
		Args    string   `yaml:"args"`
		Loader  string   `yaml:"loader"`
	}
)
