package config

import (
	"bytes"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

const nodesHead = `# Nodes that bootctl node add and replace wrote. They count before those of the
# same name in the configuration file. bootd writes this file anew at the next
# such command, and keeps what is in it but comments.
nodes:`

// encodeNodes writes the file of nodes: what parseNodes reads.
func encodeNodes(list []written) []byte {
	var b bytes.Buffer
	b.WriteString(nodesHead)
	if len(list) == 0 {
		b.WriteString(" []")
	}
	b.WriteByte('\n')
	for i := range list {
		indent := "  - "
		v := reflect.ValueOf(list[i].rawNode)
		for k, key := range nodeKeys {
			if list[i].given&(1<<k) != 0 {
				encodeKey(&b, indent, key, v.Field(k))
				indent = "    "
			}
		}
		if indent == "  - " {
			b.WriteString("  - {}\n")
		}
	}
	return b.Bytes()
}

// encodeKey writes a key and its value, which is text, a list or keys.
func encodeKey(b *bytes.Buffer, indent, key string, v reflect.Value) {
	b.WriteString(indent + key + ":")
	switch v.Kind() {
	case reflect.String:
		b.WriteString(" " + scalar(v.String()) + "\n")
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, scalar(v.Index(i).String()))
		}
		b.WriteString(" [" + strings.Join(items, ", ") + "]\n")
	default:
		b.WriteByte('\n')
		for k, key := range keys(v.Type()) {
			if !v.Field(k).IsZero() {
				encodeKey(b, strings.Repeat(" ", len(indent)+2), key, v.Field(k))
			}
		}
	}
}

// plainRule is text that YAML takes for text without quotes, whatever is around
// it: names, addresses and MAC addresses.
var plainRule = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/=:-]*[A-Za-z0-9])?$`)

// scalar writes a text that has no control characters, as decoder.text holds.
// What the reader would take for no value is quoted.
func scalar(s string) string {
	if plainRule.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	return strconv.Quote(s)
}
