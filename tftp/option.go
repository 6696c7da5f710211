package tftp

import (
	"encoding/binary"
	"strconv"
)

// Terms are what client and server agree on.
type terms struct {
	block, window int
	tsize         bool   // size was asked for and told
	oack          []byte // packet; nil: there is none, data comes at once
}

// agree answers the options of a request, and no others (RFC 2347). Names are
// in lower case: GRUB compares them so. A timeout (RFC 2349) is echoed, since
// edk2 checks that it is equal, but resends stay adaptive.
func agree(r request, maxBlock, maxWindow int, size int64) terms {
	t := terms{block: defaultBlock, window: 1, tsize: r.tsize}
	var options []byte
	answer := func(name string, value int64) {
		options = append(append(options, name...), 0)
		options = append(strconv.AppendInt(options, value, 10), 0)
	}
	if r.tsize {
		answer("tsize", size)
	}
	if r.blksize > 0 {
		t.block = min(r.blksize, maxBlock)
		answer("blksize", int64(t.block))
	}
	if r.timeout > 0 {
		answer("timeout", int64(r.timeout))
	}
	if r.window > 0 {
		t.window = min(r.window, maxWindow)
		answer("windowsize", int64(t.window))
	}
	if options != nil {
		t.oack = append(binary.BigEndian.AppendUint16(nil, opOACK), options...)
	}
	return t
}
