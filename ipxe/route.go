package ipxe

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/node"
)

// maxPath and maxQuery bound what a request may ask for. The longest honest
// path is an artifact's, the longest query that of EntryURL.
const (
	maxPath  = 512
	maxQuery = 1024
)

// A kind is one row of the routes in the package comment.
type kind uint8

const (
	nowhere        kind = iota
	bootScript          // script of the machine that asks
	nodeScript          // script of a node, by its name
	autoexec            // script that iPXE looks for beside itself
	loader              // below /boot/
	nodeFile            // of a boot directory, or of the release that a boot began with
	dataFile            // of the artifact tree
	checkIn             // a node says something of itself
	grubFile            // configuration of GRUB, or what that asks and reports
	document            // of a payload, with a ticket
	held                // of a payload, by the lease alone
	metadata            // of a payload, as the metadata of a cloud
	basecamp            // of a payload, as of metal-basecamp
	medium              // CD image for a BMC
	agentEntry          // an agent registers
	agentLine           // the WebSocket of an agent
	claimPage           // a person claims a machine
	validateScript      // program with which a node reports what it is
	report              // a script reports a failure
	health
	metrics
)

// A target is what a path asks for.
type target struct {
	kind kind
	path string // cleaned, without a leading slash: what a person recognises
	node string // for nodeScript and nodeFile
	rel  string // for nodeFile: the release that the boot began with; empty: what the boot directory says
	grub GRUBFile
	file string // loader name, document, or path below the root

	token string // for document and medium; never part of path
}

// isScript reports whether iPXE will run the answer.
func (t target) isScript() bool { return t.kind == bootScript || t.kind == nodeScript }

// method returns the method of a target; GET stands for HEAD too.
func (t target) method() string {
	if t.kind == checkIn || t.kind == agentEntry {
		return http.MethodPost
	}
	return http.MethodGet
}

// mayBeNode reports whether the first element of a path can be a node's name.
func mayBeNode(name string) bool { return node.ValidName(name) && !node.Reserved(name) }

// isNodeFile reports whether an entry of a boot directory is served: the links
// of every node, and the names by which some initrds know the root file system.
func isNodeFile(name string) bool {
	return name == kernelName || name == initrdName || IsRootfs(name)
}

func isCheckIn(name string) bool {
	_, ok := checkIns[name]
	return ok
}

const kernelName = "kernel"

// IsInitrd reports whether a file of a boot directory is the initrd.
func IsInitrd(name string) bool { return name == initrdName }

// NotStarted reports whether a step that a loader says went wrong means that it
// did not start what it was told to boot.
func NotStarted(step string) bool { return step == "kernel" || step == "initrd" || step == "start" }

// IsRootfs reports whether a file of a boot directory is the root file system.
func IsRootfs(name string) bool {
	return name == "rootfs" || name == "squashfs.img" || isTyped(name) || strings.HasSuffix(name, ".squashfs") && !strings.HasPrefix(name, ".")
}

// isTyped reports whether a name is one that scripts give the root file system,
// with an ending that says what it is.
func isTyped(name string) bool {
	return name == path.Base(anacondaImage) || slices.Contains(slices.Collect(maps.Values(rootfsNames)), name)
}

// parse returns the target of a request. A path that no honest client sends is
// a refusal with status 400; one that leads nowhere is kind nowhere.
//
// A route is a closed list rather than a http.ServeMux, which redirects "//"
// and "..", and a redirect ends a UEFI HTTP boot.
func parse(r *http.Request) (target, error) {
	p := r.URL.Path
	if len(r.RequestURI) > maxPath+maxQuery || len(p) > maxPath || len(r.URL.RawQuery) > maxQuery {
		return target{}, refuse(http.StatusBadRequest, "path or query is too long")
	}
	if !strings.HasPrefix(p, "/") {
		return target{}, refuse(http.StatusBadRequest, "not a path")
	}
	elems := strings.FieldsFunc(p, func(c rune) bool { return c == '/' })
	if !honest(p, r.URL.EscapedPath()) || slices.Contains(elems, "..") || slices.Contains(elems, ".") {
		return target{}, refuse(http.StatusBadRequest, "path has a character or an element that is not allowed")
	}
	t := match(elems)
	if file, ok := metadataFile(r.Host, elems); ok {
		t = target{kind: metadata, file: file}
	}
	if grub, ok := ParseGRUBFile(strings.Join(elems, "/")); ok {
		t = target{kind: grubFile, grub: grub}
	}
	t.path = deploy.Redact(strings.Join(elems, "/"))
	if len(elems) > 1 && elems[0] == "C" {
		t.path = "C/(claim)" // whose token is not for any log
	}
	return t, nil
}

// honest reports whether a path is of printable ASCII without a backslash, and
// does not hide a dot, a slash or a percent sign by encoding it.
func honest(path, escaped string) bool {
	for _, c := range []byte(path) {
		if c < ' ' || c > '~' || c == '\\' || c == '%' {
			return false
		}
	}
	low := strings.ToLower(escaped)
	return !strings.Contains(low, "%2e") && !strings.Contains(low, "%2f")
}

// match returns what the elements of a path lead to, over HTTP and TFTP alike,
// but for what depends on more than the path: metadata and files of GRUB.
func match(e []string) target {
	switch len(e) {
	case 1:
		if e[0] == "meta-data" || e[0] == "user-data" {
			return target{kind: basecamp, file: e[0]}
		}
		return target{kind: top[e[0]]}
	case 2:
		return matchPair(e[0], e[1])
	case 3:
		return matchDeep(e)
	case 4:
		if name := e[2] + "/" + e[3]; name == anacondaImage && mayBeNode(e[0]) {
			return target{kind: nodeFile, node: e[0], rel: e[1], file: "rootfs"}
		}
		if strings.Join(e, "/") == "api/v1/nodes/register" {
			return target{kind: agentEntry}
		}
	case 5:
		if e[0] == "ephemeral" && e[1] == "data" && visible(e[2:]) {
			return target{kind: dataFile, file: strings.Join(e, "/")}
		}
	}
	return target{}
}

// top are the routes of one element.
var top = map[string]kind{"validate.sh": validateScript, "autoexec.ipxe": autoexec, "report": report, "healthz": health, "metrics": metrics}

// matchPair matches what is in a directory of ours, or else in that of a node.
func matchPair(dir, name string) target {
	switch {
	case dir == "boot" && name == "script.ipxe":
		return target{kind: bootScript}
	case dir == "boot" && name == "autoexec.ipxe":
		return target{kind: autoexec}
	case dir == "C": // no node: their names are in small letters
		return target{kind: claimPage}
	case dir == "boot" && isLoader(name):
		return target{kind: loader, file: name}
	case dir == "checkin" && isCheckIn(name):
		return target{kind: checkIn, file: name}
	case dir == "phone-home": // of metal-basecamp: an instance-id is last
		return target{kind: checkIn, file: "phone-home"}
	case dir == "payload" && payload.IsDocument(name):
		return target{kind: held, file: name}
	case !mayBeNode(dir):
		return target{}
	case name == "script.ipxe":
		return target{kind: nodeScript, node: dir}
	case isTyped(name):
		return target{kind: nodeFile, node: dir, file: dir + "/rootfs"}
	case isNodeFile(name):
		return target{kind: nodeFile, node: dir, file: dir + "/" + name}
	}
	return target{}
}

// matchDeep matches the agents' WebSocket, the documents and images of tokens,
// what is beside a loader in a directory of its own, and the files of a boot that
// began with a release.
func matchDeep(e []string) target {
	name := e[1] + "/" + e[2]
	switch {
	case strings.Join(e, "/") == "api/v1/ws":
		return target{kind: agentLine}
	case e[0] == "t" && payload.IsDocument(e[2]):
		return target{kind: document, token: e[1], file: e[2]}
	case e[0] == "media" && strings.HasSuffix(e[2], ".iso"):
		return target{kind: medium, token: e[1], file: e[2]}
	case mayBeNode(e[0]) && isNodeFile(e[2]):
		return target{kind: nodeFile, node: e[0], rel: e[1], file: e[2]}
	case e[0] != "boot":
		return target{}
	case e[2] == "autoexec.ipxe":
		return target{kind: autoexec}
	case isLoader(name):
		return target{kind: loader, file: name}
	}
	return target{}
}

// visible reports whether no element is a hidden file, such as one an import
// is still writing.
func visible(e []string) bool {
	return !slices.ContainsFunc(e, func(s string) bool { return strings.HasPrefix(s, ".") })
}
