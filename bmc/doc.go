// Package bmc knows the BMC of one node: where it is, and how to make it do
// power, boot order and the source of its address, over IPMI or Redfish.
//
// Where a BMC is comes from evidence that others keep: the inventory, the
// lease file of dnsmasq, conman.conf and the host-records of dnsmasq's
// configuration. Those parsers take what they understand of a file and report
// each bad line by its number, so that one broken line hides no BMC. Find
// joins the evidence; it reads no file and no clock.
//
// An error names the BMC and the step that failed, and wraps ErrUnreachable,
// ErrPassword or ErrUnsupported where the cause is one of those. Nothing here
// logs, and no password is ever part of an error: a Secret prints as
// "[redacted]" however it is printed.
package bmc
