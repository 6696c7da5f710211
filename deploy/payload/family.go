package payload

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"bootd/internal/node"
)

// A Family is a kind of payload: which documents its client asks for, how the
// kernel command line says where they are, and how often it asks.
type Family struct {
	Name      string
	Documents []Document // in the order in which they are shown; nil: every file of the directory
	// TTL is how long after its boot script a node may fetch, and Repeat how
	// long after the first fetch it may fetch a document again. The client's
	// own repeats set them: see docs/payloads.md.
	TTL, Repeat time.Duration

	args []string // kernel arguments; URL stands for the directory of the documents
}

// A Document is one file of a payload.
type Document struct {
	Name     string
	Required bool
	Default  string // its template where the directory has none; empty: the document is
	Type     string // Content-Type

	check func(text string) *Fault // of what was rendered and is not blank; nil: anything goes
}

// The Content-Types. Ignition's is that of its specification; the other
// clients do not look.
const (
	plainText = "text/plain; charset=utf-8"
	yamlText  = "text/yaml; charset=utf-8"
	ignition  = "application/vnd.coreos.ignition+json; version=3.0.0"
	xmlText   = "application/xml; charset=utf-8"
)

// defaultMeta is the meta-data of a directory that has none. The instance id
// stays the same, so that cloud-init configures a node once.
const defaultMeta = "instance-id: {{.InstanceID}}\nlocal-hostname: {{.Name}}\n"

// seed are the documents of cloud-init's data source NoCloud over HTTP. It asks
// for network-config, meta-data, user-data and vendor-data, in this order, and
// of these needs meta-data and user-data (util.read_seeded). That of Debian 12
// does not ask for network-config.
func seed(userData func(string) *Fault) []Document {
	return []Document{
		{Name: "user-data", Type: plainText, Required: true, check: userData},
		{Name: "meta-data", Type: plainText, Default: defaultMeta, check: checkMapping},
		{Name: "vendor-data", Type: plainText, check: checkUserData},
		{Name: "network-config", Type: plainText, check: checkMapping},
	}
}

func single(name, contentType string, check func(string) *Fault) []Document {
	return []Document{{Name: name, Type: contentType, Required: true, check: check}}
}

// The times of installers: between its boot script and its last question one
// loads an image of gigabytes, and asks anew in each of its stages.
const (
	installTTL = time.Hour
	bootTTL    = 10 * time.Minute
)

// families are all families. The arguments are those of the clients' sources
// (palette.md 1.4 and 8).
var families = []Family{
	// Without dsmode=net cloud-init before 23 (22.4 of Debian 12) takes a data
	// source of this name for one that needs no network, fetches the documents
	// and then uses none of them (cmd/main.py, main_init). nocloud-net, which it
	// had for that, is deprecated since 24.1.
	{Name: node.NoCloud, Documents: seed(checkUserData), TTL: bootTTL, Repeat: time.Minute, args: []string{"ds=nocloud;dsmode=net;s=URL/"}},
	// Subiquity takes the autoinstall section from cloud-init, and without the
	// argument asks for confirmation.
	{Name: node.Autoinstall, Documents: seed(checkAutoinstall), TTL: installTTL, Repeat: bootTTL, args: []string{"autoinstall", "ds=nocloud;dsmode=net;s=URL/"}},
	// immucore's stages and the agent fetch config_url one after the other,
	// the last one when the installation begins.
	{Name: node.Kairos, Documents: []Document{
		{Name: "user-data", Type: yamlText, Required: true, check: checkKairos},
		{Name: "meta-data", Type: plainText, Default: defaultMeta, check: checkMapping},
		{Name: "authorized-keys", Type: plainText}, // for the clouds' way only
	}, TTL: installTTL, Repeat: installTTL, args: []string{"config_url=URL/user-data"}},
	// Ignition asks for ever, and again when what it got did not parse.
	{Name: node.Ignition, Documents: single("config.ign", ignition, checkIgnition), TTL: installTTL, Repeat: bootTTL,
		args: []string{"ignition.firstboot", "ignition.platform.id=metal", "ignition.config.url=URL/config.ign"}},
	{Name: node.Preseed, Documents: single("preseed.cfg", plainText, checkPreseed), TTL: installTTL, Repeat: bootTTL,
		args: []string{"auto=true", "priority=critical", "url=URL/preseed.cfg"}},
	{Name: node.Kickstart, Documents: single("ks.cfg", plainText, checkKickstart), TTL: installTTL, Repeat: bootTTL,
		args: []string{"inst.ks=URL/ks.cfg", "inst.ks.sendmac", "inst.ks.sendsn"}},
	// linuxrc reads it, then YaST twice (ProfileLocation.rb, CreateFile).
	{Name: node.AutoYaST, Documents: single("autoinst.xml", xmlText, checkAutoYaST), TTL: installTTL, Repeat: installTTL,
		args: []string{"autoyast=URL/autoinst.xml"}},
	{Name: node.Talos, Documents: single("config.yaml", yamlText, checkTalos), TTL: installTTL, Repeat: bootTTL,
		args: []string{"talos.platform=metal", "talos.config=URL/config.yaml"}},
	{Name: node.Text, TTL: installTTL, Repeat: bootTTL},
	// basecamp answers at the top of the server, for as long as the node is up.
	{Name: node.Basecamp, Documents: []Document{
		{Name: "meta-data", Type: "application/json; charset=utf-8"},
		{Name: "user-data", Type: yamlText},
	}, TTL: bootTTL, Repeat: bootTTL, args: []string{"ds=nocloud-net;s=http://SERVER/"}},
}

// FamilyOf returns the family of that name.
func FamilyOf(name string) (Family, bool) {
	i := slices.IndexFunc(families, func(f Family) bool { return f.Name == name })
	if i < 0 {
		return Family{}, false
	}
	return families[i], true
}

// Args returns the kernel arguments that say where the documents are: url is
// their directory without a slash at its end, server the host or host:port. An
// argument whose key words has already is left out, when that one leads to url
// too; the error names one that leads elsewhere.
func (f Family) Args(url, server string, words []string) (args []string, other string) {
	for _, arg := range f.args {
		arg = strings.NewReplacer("URL", url, "SERVER", server).Replace(arg)
		key, value, _ := strings.Cut(arg, "=")
		i := slices.IndexFunc(words, func(w string) bool { k, _, _ := strings.Cut(w, "="); return k == key })
		switch {
		case i < 0:
			args = append(args, arg)
		case strings.Contains(value, "://") && !strings.Contains(words[i], url) && !strings.HasSuffix(words[i], value):
			return nil, words[i]
		}
	}
	return args, ""
}

// documentRule is what can be the name of a document: a file name that needs
// no quoting anywhere and is not hidden.
var documentRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// IsDocument reports whether some payload can have a document of this name.
func IsDocument(name string) bool {
	return documentRule.MatchString(name) && !strings.HasSuffix(name, partial)
}

// Documents returns the names of the documents of a payload in the order in
// which they are shown. Those of a family without names of its own are the
// files in the directory; where that cannot be read there are none.
func Documents(p node.Payload) (names []string) {
	for _, d := range documents(p) {
		names = append(names, d.Name)
	}
	return names
}

func documents(p node.Payload) []Document {
	f, _ := FamilyOf(p.Family)
	if f.Documents != nil {
		return f.Documents
	}
	var list []Document
	files, _ := filepath.Glob(filepath.Join(escape.Replace(p.Dir), "*"))
	for _, file := range files {
		if name := filepath.Base(file); IsDocument(name) {
			list = append(list, Document{Name: name, Required: true, Type: plainText})
		}
	}
	return list
}

// escape makes a path literal for filepath.Glob.
var escape = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// Alias returns the document that a client means by a name. AutoYaST, given a
// directory, looks in it for its address in hexadecimal, for that with a digit
// less each time, for its MAC without separators, and for "default"
// (AutoInstallRules.rb, CreateDefault). It asks for its own, so it gets its own.
func Alias(family, name string, addr netip.Addr, mac node.MAC) string {
	if family != node.AutoYaST || !addr.Unmap().Is4() {
		return name
	}
	hex := fmt.Sprintf("%X", addr.Unmap().AsSlice())
	own := strings.ReplaceAll(mac.String(), ":", "")
	if name == "default" || strings.EqualFold(name, own) || strings.HasPrefix(hex, name) {
		return "autoinst.xml"
	}
	return name
}

// TypeOf returns the Content-Type of a document.
func TypeOf(family, document string) string {
	f, _ := FamilyOf(family)
	for _, d := range f.Documents {
		if d.Name == document {
			return d.Type
		}
	}
	return plainText
}

// Harmless returns what a client that does not look at the status of an answer
// can take for its document: one that configures nothing. Never is it HTML. The
// form goes by the name of the document, since the family of a stranger is not
// known: a comment where that is all it takes, and for AutoYaST, to which an
// empty profile is an order to install, a text that is no profile.
func Harmless(document, reason string) []byte {
	switch ext := filepath.Ext(document); {
	case ext == ".ign":
		return []byte(`{"ignition":{"version":"3.0.0"}}` + "\n")
	case ext == ".cfg", ext == ".ks", ext == ".xml":
		return []byte("# bootd: " + reason + "\n")
	}
	return []byte("#cloud-config\n# bootd: " + reason + "\n{}\n")
}
