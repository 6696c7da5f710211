package payload

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// The checks of documents that are not cloud-init's. They are for what a
// client refuses, or takes for something else without a word; the meaning of
// the values is the client's.

// kairosHeaders are what the agent looks for in the first ten lines
// (sdk/collector, HasValidHeader): without one it installs with no
// configuration at all.
var kairosHeaders = []string{"#cloud-config", "#kairos-config", "#node-config"}

func checkKairos(text string) *Fault {
	lines := strings.SplitN(text, "\n", 11)
	if len(lines) > 10 {
		lines = lines[:10]
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return slices.Contains(kairosHeaders, strings.TrimRight(l, " \t\r")) }) {
		return rendered(1, 1, "first line is %.40q: Kairos ignores a document without the line #cloud-config among its first 10", firstLine(text))
	}
	return checkMapping(text)
}

// autoinstallKeys are those of Subiquity's schema.
var autoinstallKeys = []string{
	"version", "interactive-sections", "early-commands", "locale", "refresh-installer", "keyboard", "source", "network",
	"proxy", "apt", "storage", "identity", "active-directory", "ubuntu-pro", "ubuntu-advantage", "ssh", "codecs", "drivers",
	"oem", "snaps", "debconf-selections", "packages", "kernel", "kernel-crash-dumps", "timezone", "updates", "shutdown",
	"late-commands", "error-commands", "reporting", "user-data", "zdevs",
}

func checkAutoinstall(text string) *Fault {
	if f := checkUserData(text); f != nil || firstLine(text) != "#cloud-config" {
		return f
	}
	var doc struct {
		Autoinstall map[string]any `yaml:"autoinstall"`
	}
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || doc.Autoinstall == nil {
		return rendered(1, 1, "no autoinstall: with keys below it: the installer would ask all its questions")
	}
	for key := range doc.Autoinstall {
		if !slices.Contains(autoinstallKeys, key) {
			line, column := position(text, max(0, strings.Index(text, key+":")))
			return rendered(line, column, "autoinstall: unknown key %.60q: the installer refuses the document", key)
		}
	}
	if v, ok := doc.Autoinstall["version"]; !ok || v != uint64(1) {
		line, column := position(text, strings.Index(text, "autoinstall:"))
		return rendered(line, column, "autoinstall: version: got %v, want 1", v)
	}
	return nil
}

// ignitionVersion are the versions of the specification that Fedora CoreOS and
// Flatcar take.
var ignitionVersion = regexp.MustCompile(`^3\.[0-6]\.0$`)

var ignitionKeys = []string{"ignition", "kernelArguments", "passwd", "storage", "systemd"}

func checkIgnition(text string) *Fault {
	var doc map[string]json.RawMessage
	if f := notJSON(text, json.Unmarshal([]byte(text), &doc)); f != nil {
		return f
	}
	var head struct{ Version string }
	if err := json.Unmarshal(doc["ignition"], &head); err != nil || !ignitionVersion.MatchString(head.Version) {
		line, column := position(text, max(0, strings.Index(text, `"version"`)))
		return rendered(line, column, "ignition: version: %q is not one of 3.0.0 to 3.6.0", head.Version)
	}
	for key := range doc {
		if !slices.Contains(ignitionKeys, key) {
			line, column := position(text, max(0, strings.Index(text, `"`+key+`"`)))
			return rendered(line, column, "unknown key %.60q: Ignition has %s (a Butane file has to be translated first)", key, strings.Join(ignitionKeys, ", "))
		}
	}
	return nil
}

// notJSON says where a text stops being JSON.
func notJSON(text string, err error) *Fault {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		line, column := position(text, min(max(0, int(syntax.Offset)-1), len(text)))
		return rendered(line, column, "not JSON: %s", syntax.Error())
	case errors.As(err, &kind):
		return rendered(1, 1, "not keys and values in JSON, but %s", kind.Value)
	}
	return rendered(0, 0, "not JSON")
}

// preseedTypes are the types of debconf's questions.
var preseedTypes = []string{"string", "boolean", "select", "multiselect", "note", "text", "password", "title", "error", "seen"}

// checkPreseed checks lines of "OWNER QUESTION TYPE VALUE", as
// debconf-set-selections reads them; a backslash continues a line.
func checkPreseed(text string) *Fault {
	for number, begin, whole := 1, 1, ""; text != ""; number++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if whole == "" {
			begin = number
		}
		if more, ok := strings.CutSuffix(strings.TrimRight(line, " \t\r"), `\`); ok && text != "" {
			whole += more
			continue
		}
		whole += line
		if f := preseedLine(begin, whole); f != nil {
			return f
		}
		whole = ""
	}
	return nil
}

func preseedLine(number int, line string) *Fault {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || strings.HasPrefix(words[0], "#"):
	case len(words) < 3:
		return rendered(number, 1, "%.60q is not OWNER QUESTION TYPE VALUE", line)
	case !slices.Contains(preseedTypes, words[2]):
		return rendered(number, strings.Index(line, words[2])+1, "%.40q is not a type of debconf: %s", words[2], strings.Join(preseedTypes, ", "))
	}
	return nil
}

// sections are the parts of a kickstart file that need an %end.
var sections = []string{"%packages", "%pre", "%pre-install", "%post", "%onerror", "%traceback", "%addon", "%anaconda", "%certificate"}

func checkKickstart(text string) *Fault {
	open, openLine, number := "", 0, 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "%end" && open == "":
			return rendered(number, 1, "%%end of nothing")
		case words[0] == "%end":
			open = ""
		case slices.Contains(sections, words[0]) && open != "":
			return rendered(number, 1, "%s inside %s of line %d, which has no %%end", words[0], open, openLine)
		case slices.Contains(sections, words[0]):
			open, openLine = words[0], number
		case open == "" && strings.HasPrefix(words[0], "%") && !strings.HasPrefix(words[0], "%include") && words[0] != "%ksappend":
			return rendered(number, 1, "unknown section %.40q", words[0])
		}
	}
	if open != "" {
		return rendered(openLine, 1, "%s has no %%end", open)
	}
	return nil
}

const autoYaSTSpace = "http://www.suse.com/1.0/yast2ns"

func checkAutoYaST(text string) *Fault {
	d := xml.NewDecoder(strings.NewReader(text))
	depth := 0
	for first := true; ; {
		token, err := d.Token()
		line, column := d.InputPos()
		switch {
		case errors.Is(err, io.EOF) && first:
			return rendered(1, 1, "no XML element")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return rendered(line, column, "not XML: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if first && (e.Name.Local != "profile" || e.Name.Space != autoYaSTSpace) {
				return rendered(line, 1, "first element is <%s> of %q, want <profile> of %q", e.Name.Local, e.Name.Space, autoYaSTSpace)
			}
			first, depth = false, depth+1
		case xml.EndElement:
			depth--
		}
	}
}

// checkTalos checks a machine configuration: documents of YAML, of which each
// says its version or its kind.
func checkTalos(text string) *Fault {
	number := 1
	for _, doc := range regexp.MustCompile(`(?m)^---[ \t]*$`).Split(text, -1) {
		lines := strings.Count(doc, "\n")
		if strings.TrimSpace(doc) != "" {
			var head struct{ Version, Kind, APIVersion string }
			if line, column, problem := notYAML([]byte(doc)); problem != "" {
				return rendered(number+line-1, column, "%s", problem)
			}
			if err := yaml.Unmarshal([]byte(doc), &head); err != nil || head.Version != "v1alpha1" && head.Kind == "" {
				return rendered(number, 1, "neither version: v1alpha1 nor a kind:")
			}
		}
		number += lines
	}
	return nil
}
