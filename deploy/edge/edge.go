// Package edge knows how a Palette edge host names itself, so that its id is
// known before it is installed, and can be compared with what it reports.
//
// The id is what a site engineer types into Palette, or scans. Its parts are
// those of Spectro Cloud's installer reference, section "Device ID (UID)
// Parameters": site.name; else prefix and a value from the first of
// deviceUIDPaths, which is /sys/class/dmi/id/product_uuid unless the user-data
// names others; else a random one. That the dashes of the value are left out is
// not said there and shows in a log of its Edge documentation:
//
//	reset cached site name from uuid, cached: edge-03163342f7f0e6fe20de095ed8548c93
//
// Everything here is pure. Registering is the host's own act.
package edge

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"

	"bootd/internal/node"
)

// Hardware is what is known of a host without asking it.
type Hardware struct {
	UUID   node.UUID // zero: not known
	Serial string    // SMBIOS system serial number; empty: not known
}

// Settings are the part of stylus.site that the id depends on.
type Settings struct {
	Name   string `yaml:"name"`
	Prefix string `yaml:"prefix"` // empty: edge
	Paths  []Path `yaml:"deviceUIDPaths"`
}

// A Path is a file of the host with its id, or a part of it.
type Path struct {
	Name  string `yaml:"name"`
	Regex string `yaml:"regex"` // RE2; what it matches first is the value; empty: all of it
}

// Read returns the settings of user-data documents; of a key that several have,
// the last counts, as the site's data win over the installer's. A document
// that is empty or is no mapping has none.
func Read(documents ...[]byte) (s Settings, err error) {
	for _, d := range documents {
		var doc struct {
			Stylus struct {
				Site Settings `yaml:"site"`
			} `yaml:"stylus"`
		}
		if err := yaml.Unmarshal(d, &doc); err != nil && len(strings.TrimSpace(string(d))) > 0 {
			return Settings{}, errors.New("user-data is not YAML")
		}
		site := doc.Stylus.Site
		if site.Name != "" {
			s.Name = site.Name
		}
		if site.Prefix != "" {
			s.Prefix = site.Prefix
		}
		if len(site.Paths) > 0 {
			s.Paths = site.Paths
		}
	}
	return s, nil
}

// The files of a host whose content is known here.
const (
	productUUID   = "/sys/class/dmi/id/product_uuid"
	productSerial = "/sys/class/dmi/id/product_serial"
)

// maxID is where Palette cuts an id off.
const maxID = 128

// unsupported are characters that Palette does not take in an id.
const unsupported = "/?#&+%,$~!@*(){}|=;:<>'.^\""

// ErrUnknown is returned where the id cannot be known before the host says it.
var ErrUnknown = errors.New("the edge host id is not known before the host reports it")

// Predict returns the id that a host will have. The error wraps ErrUnknown, or
// says what Palette would not take.
func Predict(h Hardware, s Settings) (string, error) {
	switch s.Name {
	case "":
	case "$random":
		return "", fmt.Errorf("%w: its name is $random", ErrUnknown)
	default:
		return valid(s.Name)
	}
	prefix := s.Prefix
	if prefix == "" {
		prefix = "edge"
	}
	paths := s.Paths
	if len(paths) == 0 {
		paths = []Path{{Name: productUUID}}
	}
	value, err := h.read(paths[0])
	if err != nil {
		return "", err
	}
	return valid(prefix + "-" + strings.ReplaceAll(value, "-", ""))
}

// read returns what a host will read from a file of its own. Linux prints the
// UUID in lower case (drivers/firmware/dmi_scan.c, dmi_save_uuid).
func (h Hardware) read(p Path) (string, error) {
	var text string
	switch {
	case p.Name == productUUID && h.UUID.Plausible():
		text = h.UUID.String()
	case p.Name == productSerial && h.Serial != "":
		text = h.Serial
	case p.Name == productUUID, p.Name == productSerial:
		return "", fmt.Errorf("%w: %s of its machine is not known", ErrUnknown, strings.ReplaceAll(strings.TrimPrefix(p.Name, "/sys/class/dmi/id/product_"), "uuid", "the UUID"))
	default:
		return "", fmt.Errorf("%w: it is in the file %q of the host", ErrUnknown, p.Name)
	}
	if p.Regex == "" {
		return text, nil
	}
	re, err := regexp.Compile(p.Regex)
	if err != nil {
		return "", fmt.Errorf("deviceUIDPaths: regex %q: %v", p.Regex, err)
	}
	if text = re.FindString(text); text == "" {
		return "", fmt.Errorf("deviceUIDPaths: regex %q matches nothing in %s", p.Regex, p.Name)
	}
	return text, nil
}

func valid(id string) (string, error) {
	if i := strings.IndexAny(id, unsupported); i >= 0 {
		return "", fmt.Errorf("edge host id %q: Palette does not take %q in one", id, id[i:i+1])
	}
	return id[:min(len(id), maxID)], nil
}

// A Verdict is what a reported id says about the predicted one.
type Verdict uint8

// The verdicts.
const (
	Silent   Verdict = iota // the host has reported none
	Same                    // as predicted
	Swapped                 // the same UUID with its first three fields turned round
	Other                   // another id
	NotKnown                // none was predicted
)

var verdicts = [...]string{Silent: "not reported", Same: "as predicted", Swapped: "as predicted, in the other byte order", Other: "another id", NotKnown: "not predicted"}

// String returns the verdict in words.
func (v Verdict) String() string { return verdicts[v] }

// MarshalText returns the words of String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the words of String.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, word := range verdicts {
		if string(b) == word {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a verdict", b)
}

// Compare judges the id that a host reported. The first three fields of a UUID
// are stored little-endian since SMBIOS 2.6, and Linux turns them round only
// then; firmware that is older, or says so, has the host print them as they are
// stored, while iPXE always turns them. Then both name the same machine, and
// Palette knows it under what the host says.
func Compare(h Hardware, s Settings, reported string) Verdict {
	predicted, err := Predict(h, s)
	switch {
	case reported == "":
		return Silent
	case err != nil:
		return NotKnown
	case strings.EqualFold(predicted, reported):
		return Same
	}
	h.UUID = h.UUID.Swapped()
	if other, err := Predict(h, s); err == nil && strings.EqualFold(other, reported) {
		return Swapped
	}
	return Other
}
