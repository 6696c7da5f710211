package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bootd/deploy/rollout"
	"bootd/internal/admin"
)

// A yard is the upgrades of a daemon in this process, whose nodes do a step
// each time that somebody asks: they are linked, boot, and check in. Release
// 1.2.5 does not boot on ncn-m002, and 1.2.6 keeps all waiting.
type yard struct{ last []rollout.Rollout }

// Upgrades implements admin.Upgrades.
func (y *yard) Upgrades() []rollout.Rollout {
	for i, r := range y.last {
		now := time.Now()
		for _, n := range r.Nodes {
			switch {
			case n.Phase == rollout.Switched && n.Boots == 0 && r.Release != "1.2.6":
				r = r.Observe(rollout.Sighting{What: rollout.Asked, Time: now, Node: n.Name, Release: r.Release})
			case n.Phase == rollout.Switched && n.Name == "ncn-m002" && r.Release == "1.2.5":
				r = r.Observe(rollout.Sighting{What: rollout.Broken, Time: now, Node: n.Name, Release: r.Release, Detail: "no disk"})
			case n.Phase == rollout.Switched && n.Boots > 0:
				r = r.Observe(rollout.Sighting{What: rollout.Booted, Time: now, Node: n.Name, Release: r.Release})
			}
		}
		y.last[i] = linked(r)
	}
	return y.last
}

// linked is r after all that it wants linked is.
func linked(r rollout.Rollout) rollout.Rollout {
	for _, l := range r.Links() {
		r = r.Observe(rollout.Sighting{What: rollout.Linked, Time: time.Now(), Node: l.Node, Release: l.Release})
	}
	if r.State == rollout.Done {
		r = r.Observe(rollout.Sighting{What: rollout.Settle, Detail: "role " + r.Role + " is pinned to " + r.Release})
	}
	return r
}

// Upgrade implements admin.Upgrades.
func (y *yard) Upgrade(_ context.Context, req admin.UpgradeRequest) (u admin.Upgrade, err error) {
	if req.Role != "kubernetes" {
		return u, fmt.Errorf("there is no role %q; there are: [kubernetes]", req.Role)
	}
	r := rollout.Rollout{Role: req.Role, Release: req.Release, Batch: req.Batch, Attempts: req.Attempts, Wait: req.Wait, Deadline: req.Deadline, Started: time.Now()}
	for _, name := range []string{"ncn-m001", "ncn-m002", "ncn-m003"} {
		if req.Nodes == "" || strings.Contains(req.Nodes, name) {
			r.Nodes = append(r.Nodes, rollout.Node{Name: name, From: "1.2.3"})
		}
	}
	if req.Release == "1.2.7" {
		r.Nodes[0].Pin, r.Nodes[2].Pin, u.Unseen = "1.2.2", "1.2.3", []string{"ncn-m003"}
	}
	u.LeftOut = []admin.LeftOut{{Node: "ncn-m004", Reason: "it is set to hold, not to boot its release"}}
	if u.Rollout, err = rollout.New(r); err != nil || req.DryRun {
		return u, err
	}
	u.Rollout = linked(u.Observe(rollout.Sighting{Time: time.Now()}))
	y.last = []rollout.Rollout{u.Rollout}
	return u, nil
}

// Steer implements admin.Upgrades.
func (y *yard) Steer(role string, what rollout.What) (rollout.Rollout, error) {
	if len(y.last) == 0 || y.last[0].Role != role {
		return rollout.Rollout{}, errors.New("there was no upgrade")
	}
	y.last[0] = linked(y.last[0].Observe(rollout.Sighting{What: what, Time: time.Now()}))
	return y.last[0], nil
}
