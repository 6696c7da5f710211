package main

import (
	"encoding/json"
	"fmt"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/admin"
	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/ipxe"
)

// keepReport keeps the last text that a node sent of each kind: on disk alone,
// where it costs no memory.
func (d *daemon) keepReport(in ipxe.CheckIn) error {
	if in.Text == nil {
		return nil
	}
	r := admin.NodeReport{Time: time.Now(), Kind: in.Kind, Text: string(in.Text)}
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report of %s: %w", in.Node, err)
	}
	return d.reports.Apply([]store.Change{{Key: reportKey(in.Node, in.Kind), Value: value}})
}

func reportKey(name, kind string) []byte { return []byte(name + "/" + kind) }

// reportKinds are the kinds of texts that are kept.
var reportKinds = []string{"failed", "report"}

func (d *daemon) forgetReports(name string) error {
	var gone []store.Change
	for _, kind := range reportKinds {
		gone = append(gone, store.Change{Key: reportKey(name, kind)})
	}
	return d.reports.Apply(gone)
}

// reportsOf returns what a node sent last of each kind.
func (d *daemon) reportsOf(name string) (list []admin.NodeReport, err error) {
	for _, kind := range reportKinds {
		value, err := d.reports.Get(reportKey(name, kind))
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		var r admin.NodeReport
		if err := json.Unmarshal(value, &r); err != nil {
			return nil, fmt.Errorf("report of %s: %w", name, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// withoutSecrets takes the secrets of a node out of what it says: its log may
// quote its own configuration.
func (d *daemon) withoutSecrets(name, text string) string {
	text = deploy.Redact(text)
	w := d.world.Load()
	n, ok := w.inv.ByName(name)
	if !ok {
		return text
	}
	text = payload.RedactSecrets(n.Site, payload.RedactSecrets(n.Payload, text))
	if role, _ := w.inv.Role(n.Role); role.RegistrationToken != "" {
		text = payload.RedactSecrets(node.Payload{Secrets: map[string]string{"registration-token": role.RegistrationToken}}, text)
	}
	return text
}
