package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// What an Error may wrap.
var (
	// ErrUnreachable is returned when nothing answers at the address.
	ErrUnreachable = errors.New("does not answer")
	// ErrPassword is returned when the BMC refuses the user or the password.
	ErrPassword = errors.New("wrong user or password")
	// ErrNoPassword is returned when there is none to try.
	ErrNoPassword = errors.New("no password is known")
	// ErrUnsupported is returned when the BMC cannot do what was asked.
	ErrUnsupported = errors.New("not supported by this BMC")
)

// An Error is what went wrong with one BMC.
type Error struct {
	Node string
	Host string // empty: not known
	Step string // such as "connect"
	Err  error
}

// Error names the BMC, the step and the cause.
func (e *Error) Error() string {
	if e.Host == "" {
		return fmt.Sprintf("%s: %s: %v", e.Node, e.Step, e.Err)
	}
	return fmt.Sprintf("%s: BMC %s: %s: %v", e.Node, e.Host, e.Step, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// silence turns the many ways of not being answered into ErrUnreachable.
func silence(err error) error {
	var timeout net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return ErrUnreachable
	case errors.As(err, &op):
		return fmt.Errorf("%w: %v", ErrUnreachable, op.Err)
	}
	return err
}
