package bmc

import (
	"context"
	"errors"
)

func (b BMC) openRedfish(context.Context) (session, error) { return nil, errors.New("todo") }
