package node

import "time"

// An Install is how the nodes of a role are installed: they boot a release of
// the role when they are armed, once, and then their local disk.
type Install struct {
	Done    Done          // what shows that the installer is through, besides its own word
	Within  time.Duration // from its boot script until it is through
	CheckIn time.Duration // from there until the installed system says that it runs
	Ready   Ready         // what makes a node ready
}

// A Done is what shows that an installer is through.
type Done uint8

// What shows it. The installer's own word always does.
const (
	DoneCallback Done = iota // nothing else
	DoneRestart              // the machine asks the network again, after the installer was seen running
	DonePowerOff             // the machine's BMC says that it is off, after the installer was seen running
)

// Dones are the words used in the configuration.
func Dones() []string { return dones[:] }

var dones = [...]string{DoneCallback: "callback", DoneRestart: "restart", DonePowerOff: "power-off"}

// String returns the word used in the configuration.
func (d Done) String() string { return dones[d] }

// A Ready is what makes an installed node ready.
type Ready uint8

// What makes it ready.
const (
	ReadyCheckedIn  Ready = iota // its system said that it runs
	ReadyRegistered              // it said that it registered where it belongs
	ReadyValidated               // everything that its role expects was found
)

// Readies are the words used in the configuration.
func Readies() []string { return readies[:] }

var readies = [...]string{ReadyCheckedIn: "checked-in", ReadyRegistered: "registered", ReadyValidated: "validated"}

// String returns the word used in the configuration.
func (r Ready) String() string { return readies[r] }
