package payload

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"bootd/internal/node"
)

// basecampFile is the file of metal-basecamp: records by MAC, by role, and one
// for all under Global. Here a record may also have the name of its node.
const basecampFile = "data.json"

// global is the record, and in the meta-data the key, of what all nodes share.
const global = "Global"

// A record is what data.json has of a node, of a role or of all.
type record struct {
	Meta map[string]any `json:"meta-data"`
	User map[string]any `json:"user-data"`
}

// basecamp renders the two documents of a node, in the layers of
// metal-basecamp: the record of its role, and over it its own; what all share
// is the key Global of the meta-data. Maps merge, all else is replaced.
//
// Two things are otherwise than there. A role's meta-data is the role's
// meta-data, where basecamp takes its user-data by mistake. And the instance-id is one that stays
// while what the node is told stays: basecamp makes a new one for each
// request, so that user-data is run at each boot; a node without a disk runs
// it at each boot anyhow, and one with a disk runs it when it has changed.
func basecamp(p node.Payload, d Data, text []byte) (map[string][]byte, error) {
	file := filepath.Join(p.Dir, basecampFile)
	fault := func(f *Fault) error {
		f.File = file
		return f
	}
	var all map[string]record
	if f := notJSON(string(text), json.Unmarshal(text, &all)); f != nil {
		return nil, fault(f)
	}
	own, ok := recordOf(all, d)
	if !ok {
		return nil, fault(rendered(0, 0, "no record %q, nor one of %s", d.Name, strings.Join(d.MACs, ", ")))
	}
	role := all[shastaRole(own, d)]
	user := merge(role.User, own.User)
	meta := merge(role.Meta, own.Meta)
	if _, ok := meta["local-hostname"]; !ok {
		meta["local-hostname"] = d.Name
	}
	meta[global] = all[global].Meta
	userText, err := yaml.Marshal(user)
	if err != nil {
		return nil, fault(rendered(0, 0, "user-data of %s: has no YAML form", d.Name))
	}
	if meta["instance-id"], err = instanceOf(meta, user); err != nil {
		return nil, fault(rendered(0, 0, "meta-data of %s: has no JSON form", d.Name))
	}
	metaText, err := json.Marshal(meta)
	return map[string][]byte{"meta-data": metaText, "user-data": append([]byte("#cloud-config\n"), userText...)}, err
}

// recordOf finds the record of a node: by its name, else by any of its MACs,
// since csi writes the same record for each NIC of a bond.
func recordOf(all map[string]record, d Data) (record, bool) {
	for _, key := range append([]string{d.Name}, d.MACs...) {
		for k, r := range all {
			if strings.EqualFold(k, key) {
				return r, true
			}
		}
	}
	return record{}, false
}

// shastaRole is the key of the record of a node's role.
func shastaRole(own record, d Data) string {
	if role, ok := own.Meta["shasta-role"].(string); ok {
		return role
	}
	return d.Role
}

// merge returns b over a. It changes neither.
func merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range b {
		below, isMap := out[key].(map[string]any)
		over, too := value.(map[string]any)
		if isMap && too {
			value = merge(below, over)
		}
		out[key] = value
	}
	return out
}

// Lookup returns the value at a way of keys, such as "a.b.c", in a document of
// JSON, as JSON. The error wraps fs.ErrNotExist when there is none.
func Lookup(document []byte, way string) ([]byte, error) {
	var v any
	if err := json.Unmarshal(document, &v); err != nil {
		return nil, errors.New("not JSON")
	}
	for _, key := range strings.Split(way, ".") {
		m, _ := v.(map[string]any)
		value, ok := m[key]
		if !ok {
			return nil, fmt.Errorf("key %.60q: %w", key, fs.ErrNotExist)
		}
		v = value
	}
	return json.Marshal(v)
}

// instanceOf is an instance-id that changes with what a node is told.
func instanceOf(meta, user map[string]any) (string, error) {
	text, err := json.Marshal([]any{meta, user}) // sorts keys
	return fmt.Sprintf("i-%x", sha256.Sum256(text))[:14], err
}
