package node

// A Payload says where the documents of a node come from: what its installer
// or its first boot fetches to configure itself. The zero Payload is none.
type Payload struct {
	Family  string            // what kind of documents, such as NoCloud
	Dir     string            // directory of their templates; absolute
	Secrets map[string]string // files of the values that no list may show, by name; absolute
}

// NoCloud is the family of payloads of cloud-init's data source of that name.
const NoCloud = "nocloud"

// PayloadFamilies are all families.
func PayloadFamilies() []string { return []string{NoCloud} }

// IsZero reports whether there is no payload.
func (p Payload) IsZero() bool { return p.Family == "" }
