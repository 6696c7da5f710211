// Package admin is the administrators' interface of the daemon: HTTP with JSON
// over a unix socket, and the client of it that bootctl uses.
//
//	GET /v1/health            Health
//	GET /v1/status            []Status, sorted by machine
//	GET /v1/story/{machine}   Story of a node, or of a MAC that is no node's
//	GET /v1/payload/{machine} []timeline.Event: who asked for its documents, oldest first
//	POST /v1/readable         paths of files and directories; the answer is []Unreadable, of those that the daemon cannot read
//	GET /v1/dhcp/probe        []Probe; ?interface=IF for one; takes four seconds
//	GET /v1/events            timeline.Event per line, as they happen, until the caller leaves
//	GET /v1/leases            lease.Lease per line, by address; parameters as of lease.Filter
//	POST /v1/leases           Request; the answer is the lease, and whether that "changed" anything
//	DELETE /v1/leases/{which} []lease.Lease that were in force: of an address, MAC or node
//	POST /v1/leases/import    lease.Line per line; the answer is a Report per line, with ?dry-run before anything happens
//	POST /v1/deployments      Order; the answer is []Moved, one for each node
//	GET /v1/deployments/{node} Deployment
//	GET /v1/nodes             []Node, in the order of the configuration
//	POST /v1/nodes            NodeRequest of a new node; the answer is a NodeChange, with ?dry-run before anything happens
//	POST /v1/nodes/replace    NodeRequest with the node's new hardware; answer and ?dry-run as above
//	DELETE /v1/nodes/{name}   NodeChange; ?dry-run as above, ?force even while it boots
//	POST /v1/media            MediumOrder; the answer is the MediumOffer: where the BMC of a node finds its CD image
//	DELETE /v1/media/{node}   ends the images of a node; the answer says whether there was one
//	GET /v1/upgrades          []rollout.Rollout, the last one of each role
//	POST /v1/upgrades         UpgradeRequest; the answer is an Upgrade
//	POST /v1/upgrades/{role}/{what} what is stop, abandon, resume or skip; the answer is the rollout.Rollout
//	POST /v1/links            a plan of boot directories; a line per node that is done, and one at the end
//	GET /v1/registrations     []EdgeHost, in the order of the configuration
//	POST /v1/claims/{machine} ClaimOffer: where a node, or a MAC that waits, is claimed; ?server=HOST:PORT
//	GET /v1/validations       []Validation of all nodes whose roles expect something; /v1/validations/{node} for one
//	GET /debug/pprof/         profiles of the daemon, for go tool pprof
//
// An error is a status of 400 or more and {"error": "..."}, with "unknown":
// true where there is no such machine. The socket is for
// its owner only (mode 0600): who can open it may ask everything. Fields are
// added to the types, never renamed or removed.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

// ErrUnknown is returned when a machine is neither in the inventory nor was
// ever seen.
var ErrUnknown = errors.New("no such node, and nothing was ever seen of it")

// An UnknownError is an ErrUnknown that may know better. Its message does not
// name the machine: who asked for it does, and as it was spelled.
type UnknownError struct{ Near string } // node that was probably meant; empty: nobody knows

func (e *UnknownError) Error() string {
	if e.Near == "" {
		return ErrUnknown.Error()
	}
	return fmt.Sprintf("%v: did you mean %q?", ErrUnknown, e.Near)
}

// Is makes it an ErrUnknown.
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown }

// ErrNotRunning is returned when nobody listens on the socket.
var ErrNotRunning = errors.New("the daemon is not running")

// ErrStopped is returned when the daemon ends the connection before its answer
// is complete, as it does when it stops.
var ErrStopped = errors.New("the daemon has stopped")

// Health is what the daemon says of itself.
type Health struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Config  string    `json:"config,omitempty"` // path; empty: started with flags alone
	Root    string    `json:"root,omitempty"`   // web root
	Writes  bool      `json:"writes,omitempty"` // it may change boot directories there
	Reload  string    `json:"reload,omitempty"` // why the last reload failed; empty: it did not
	Rivals  []Rival   `json:"rivals,omitempty"` // other DHCP servers that answer where we should be the only one
}

// A Rival is another DHCP server in a subnet that is ours alone.
type Rival struct {
	Server  netip.Addr   `json:"server"`
	Subnet  netip.Prefix `json:"subnet"`
	Machine string       `json:"machine"` // that chose it last
	Choices int          `json:"choices"` // times that a machine chose it
	First   time.Time    `json:"first"`
	Last    time.Time    `json:"last"`
}

// An Unreadable is a file or directory that the daemon cannot read.
type Unreadable struct {
	Path string `json:"path"`
	Why  string `json:"why"` // with the path
}

// A Probe is what DHCP servers answered on one interface.
type Probe struct {
	Interface string   `json:"interface"`
	Mode      string   `json:"mode"` // of its subnets, as in the configuration
	Offers    []Offer  `json:"offers"`
	Trouble   []string `json:"trouble,omitempty"` // what is not as the mode wants it, for people
}

// An Offer is what one DHCP server offered.
type Offer struct {
	Ours   bool          `json:"ours"`
	Server netip.Addr    `json:"server"`           // server identifier
	Source netip.Addr    `json:"source"`           // of the packet
	MAC    node.MAC      `json:"mac"`              // of the packet
	Addr   netip.Addr    `json:"ip,omitzero"`      // offered; zero: none, as a proxy
	Next   netip.Addr    `json:"next,omitzero"`    // next server
	File   string        `json:"file,omitempty"`   // to boot
	Class  string        `json:"class,omitempty"`  // option 60
	Vendor string        `json:"vendor,omitempty"` // option 43, in hexadecimal
	After  time.Duration `json:"after_ns"`
}

// Status is how one machine stands.
type Status struct {
	Machine string          `json:"machine"` // node name, or MAC of a stranger
	Known   bool            `json:"known"`   // in the inventory
	Role    string          `json:"role,omitempty"`
	MAC     node.MAC        `json:"mac,omitzero"` // seen last
	Addr    netip.Addr      `json:"ip,omitzero"`  // leased last
	Next    deploy.Decision `json:"next"`         // what it will be told at its next boot
	// Deployment is how far the deployment of a node has come; zero for others.
	Deployment deploy.Record `json:"deployment,omitzero"`
	Life

	Outcome timeline.Outcome `json:"outcome"` // of its last boot
	Release string           `json:"release,omitempty"`
	Stopped string           `json:"stopped"`
	Last    time.Time        `json:"last,omitzero"` // of its last step
}

// Story is the last boot of a machine and what it will do next.
type Story struct {
	Machine string          `json:"machine"`
	Known   bool            `json:"known"`
	Next    deploy.Decision `json:"next"`
	Boot    timeline.Story  `json:"boot"`

	Deployment deploy.Record `json:"deployment,omitzero"` // as in Status
	Life
	Upgrade string `json:"upgrade,omitempty"` // how it stands in the last upgrade of its role, for people
}

// A Backend answers for the daemon. Its methods are called concurrently.
type Backend interface {
	Health() Health
	Status(now time.Time) []Status
	// Story wraps ErrUnknown when there is no such machine.
	Story(machine string, now time.Time) (Story, error)
	// PayloadLog returns the requests for the documents of a machine that the
	// timeline still has. It wraps ErrUnknown when there is no such machine.
	PayloadLog(machine string) ([]timeline.Event, error)
	// Unreadable returns which of these files and directories the daemon cannot
	// read, and why.
	Unreadable(paths []string) []Unreadable
	// Probe asks the DHCP servers on an interface, or on all where DHCP is
	// served. It returns when they have had the time to answer.
	Probe(ctx context.Context, ifname string) ([]Probe, error)
	// Watch returns events until ctx is done; the channel is closed early when
	// the reader is too slow.
	Watch(ctx context.Context) <-chan timeline.Event
	DHCP
	Upgrades
	Deployments
	Inventory
	Media
	BootDirs
	Registration
	Validations
}
