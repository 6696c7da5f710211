package isofs

import (
	"encoding/binary"
	"fmt"
)

// A systemUse is what the system use fields of a record say (SUSP 1.12, RRIP
// 1.12).
type systemUse struct {
	name      []byte // NM; empty: none
	link      []byte // SL; empty: it is no link
	posix     bool   // PX is there
	rock      bool   // ER names Rock Ridge
	relocated bool   // RE or CL: a directory that was moved

	taken  int  // bytes read
	joined bool // the next component of link belongs to its last one
}

// sharing reads the field SP, with which the first record of a root begins: how
// many bytes are before the fields of each record (SUSP, 5.3).
func sharing(b []byte) (skip int, ok bool) {
	for _, at := range []int{0, 15} { // CD-ROM XA has 14 bytes of its own, padded
		if len(b) >= at+7 && string(b[at:at+2]) == "SP" && b[at+4] == 0xBE && b[at+5] == 0xEF {
			return int(b[at+6]), true
		}
	}
	return 0, false
}

// read reads fields, and those that they continue in (SUSP, 5.1).
func (u *systemUse) read(i *Image, b []byte) error {
	for b != nil {
		if u.taken += len(b); u.taken > maxSystemUse {
			return fmt.Errorf("more than %d bytes of Rock Ridge", maxSystemUse)
		}
		next, err := u.fields(b)
		if err != nil || next == nil {
			return err
		}
		if next.size > maxSystemUse {
			return errField
		}
		u.taken++ // fields without bytes that continue in themselves end too
		if b, err = i.read(next.at, next.size); err != nil {
			return err
		}
	}
	return nil
}

// fields reads fields and returns where they continue; nil: nowhere.
func (u *systemUse) fields(b []byte) (next *extent, err error) {
	for len(b) >= 4 && b[0] != 0 {
		n := int(b[2])
		if n < 4 || n > len(b) {
			return nil, errField
		}
		field := b[4:n]
		switch string(b[:2]) {
		case "ST":
			return next, nil
		case "CE":
			if len(field) < 24 {
				return nil, errField
			}
			next = &extent{
				at:   int64(binary.LittleEndian.Uint32(field))*sector + int64(binary.LittleEndian.Uint32(field[8:])),
				size: int64(binary.LittleEndian.Uint32(field[16:])),
			}
		case "PX":
			u.posix = true
		case "ER":
			u.rock = true
		case "RE", "CL":
			u.relocated = true
		case "NM":
			err = u.addName(field)
		case "SL":
			err = u.addLink(field)
		}
		if err != nil {
			return nil, err
		}
		b = b[n:]
	}
	return next, nil
}

// addName reads NM (RRIP, 4.1.4).
func (u *systemUse) addName(field []byte) error {
	const itself, up = 2, 4
	if len(field) < 1 || field[0]&(itself|up) != 0 {
		return nil // the name of "." or ".."
	}
	u.name = append(u.name, field[1:]...)
	if len(u.name) > maxName {
		return fmt.Errorf("name has more than %d bytes", maxName)
	}
	return nil
}

// addLink reads SL (RRIP, 4.1.3): flags, and components, each with flags,
// length and text.
func (u *systemUse) addLink(field []byte) error {
	const goesOn, itself, up, root = 1, 2, 4, 8
	if len(field) < 1 {
		return errField
	}
	for c := field[1:]; len(c) > 0; {
		if len(c) < 2 || 2+int(c[1]) > len(c) {
			return errField
		}
		flags, text := c[0], c[2:2+int(c[1])]
		if len(u.link) > 0 && !u.joined && u.link[len(u.link)-1] != '/' {
			u.link = append(u.link, '/')
		}
		switch {
		case flags&root != 0:
			text = []byte("/")
		case flags&up != 0:
			text = []byte("..")
		case flags&itself != 0:
			text = []byte(".")
		}
		u.link = append(u.link, text...)
		if len(u.link) > maxTarget {
			return fmt.Errorf("link has more than %d bytes", maxTarget)
		}
		u.joined = flags&goesOn != 0
		c = c[2+int(c[1]):]
	}
	return nil
}
