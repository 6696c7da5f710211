package artifacts

import (
	"fmt"
	"path"
	"strings"

	"bootd/internal/isofs"
)

// A Baked is something that was put into an image besides the system, to
// configure it or to be installed by it.
type Baked struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // user-data, preseed, kickstart, content, cluster, key
	Size int64  `json:"size"`
}

// The kinds of what is baked in.
const (
	bakedUserData  = "user-data"
	bakedPreseed   = "preseed"
	bakedKickstart = "kickstart"
	bakedContent   = "content" // bundles of images and packs of Palette
	bakedCluster   = "cluster" // a cluster definition of Palette
	bakedKey       = "key"     // the public key that bundles are signed with
)

// String says what it is to a person.
func (b Baked) String() string {
	return map[string]string{
		bakedUserData: "user-data", bakedPreseed: "a preseed", bakedKickstart: "a kickstart", bakedContent: "a content bundle",
		bakedCluster: "a cluster definition", bakedKey: "the key of the content bundles",
	}[b.Kind]
}

// The bounds of looking for user-data: Kairos reads no larger file, and its
// agent wants the header in the first ten lines.
const (
	maxUserData  = 1 << 20
	maxCandidate = 2000 // files whose beginning is read
	headerBytes  = 4096
	headerLines  = 10
)

// findBaked lists what is baked into an image. What files hold is never part
// of it: user-data has secrets.
func findBaked(image *isofs.Image) (list []Baked, err error) {
	read := 0
	for _, f := range image.Files() {
		kind := bakedKind(f.Path)
		if kind == "" && isCandidate(f) {
			if read++; read > maxCandidate {
				return nil, fmt.Errorf("has more than %d YAML files, any of which may be user-data", maxCandidate)
			}
			head, err := image.ReadFile(f, headerBytes)
			if err != nil {
				return nil, err
			}
			if hasHeader(head) {
				kind = bakedUserData
			}
		}
		if kind != "" {
			list = append(list, Baked{f.Path, kind, f.Size})
		}
	}
	return list, nil
}

// bakedKind knows what is baked in by its path alone; empty: it may be nothing.
func bakedKind(name string) string {
	dir, base := path.Split(name)
	switch {
	case name == "config.yaml", dir == "oem/", base == "user-data":
		return bakedUserData
	case name == "preseed.cfg", dir == "preseed/" && path.Ext(base) == ".cfg":
		return bakedPreseed
	case name == "ks.cfg":
		return bakedKickstart
	case dir == "opt/spectrocloud/content/" && strings.Contains(base, ".zst"): // also in parts, .zst_part00
		return bakedContent
	case name == "opt/spectrocloud/clusterconfig/spc.tgz":
		return bakedCluster
	case name == ".edge_custom_config.yaml":
		return bakedKey
	}
	return ""
}

// isCandidate reports whether Kairos looks into a file for user-data.
func isCandidate(f isofs.File) bool {
	ext := path.Ext(f.Path)
	return f.Link == "" && f.Size > 0 && f.Size < maxUserData && (ext == ".yaml" || ext == ".yml")
}

// hasHeader reports whether a file begins as user-data does.
func hasHeader(head []byte) bool {
	n := 0
	for line := range strings.Lines(string(head)) {
		switch strings.TrimRight(line, " \t\r\n") {
		case "#cloud-config", "#kairos-config", "#node-config":
			return true
		}
		if n++; n == headerLines {
			break
		}
	}
	return false
}
