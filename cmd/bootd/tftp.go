package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"

	"bootd/internal/timeline"
	"bootd/ipxe"
	"bootd/tftp"
)

// openTFTP opens what TFTP serves: the loaders, for a machine with a lease the
// script that a loader looks for beside itself, and for GRUB its configuration
// and the kernel and initrd of a node.
func (d *daemon) openTFTP(plane *ipxe.Server, server, peer netip.Addr, name string) (io.ReadSeekCloser, error) {
	at := hostPort(server, d.config().HTTP.Port)
	if f, ok := ipxe.ParseGRUBFile(name); ok {
		content, e, err := plane.GRUB(f, peer, at)
		if err != nil {
			return nil, err
		}
		e.File, e.Bytes = name, int64(len(content))
		d.record(e)
		return text{bytes.NewReader(content)}, nil
	}
	if path.Base(name) != "autoexec.ipxe" {
		return d.openFile(plane, peer, name)
	}
	if _, mac := d.identify(peer); mac.IsZero() {
		return nil, fs.ErrNotExist
	}
	return text{bytes.NewReader(ipxe.Autoexec(at, d.config().Retries))}, nil
}

// openFile opens what is a file on our disk too.
func (d *daemon) openFile(plane *ipxe.Server, peer netip.Addr, name string) (io.ReadSeekCloser, error) {
	f, err := plane.Open(name)
	if err != nil {
		return nil, err
	}
	if ipxe.IsRootfs(path.Base(name)) {
		return f, nil // anybody can send a request in the name of the node: that it has the file shows at the end
	}
	sent, err := d.sending(peer, name)
	if err != nil {
		f.Close()
		return nil, err
	}
	if sent == nil {
		return f, nil
	}
	return &told{File: f, sent: sent}, nil
}

// told is a file of whose end somebody is told: whether it was read that far.
type told struct {
	*os.File
	sent func(whole bool)
	last bool // what was read last ends the file
}

// Read notes whether it comes to the end.
func (t *told) Read(b []byte) (int, error) {
	n, err := t.File.Read(b)
	at, atErr := t.File.Seek(0, io.SeekCurrent)
	info, statErr := t.File.Stat()
	t.last = t.last || atErr == nil && statErr == nil && at >= info.Size()
	return n, err
}

// Close tells.
func (t *told) Close() error {
	t.sent(t.last)
	return t.File.Close()
}

// text is a file in memory.
type text struct{ *bytes.Reader }

func (text) Close() error { return nil }

// transferred makes an event of a TFTP transfer. A size probe is no transfer.
func (d *daemon) transferred(t tftp.Transfer) {
	if t.Probe {
		return
	}
	if _, ok := ipxe.ParseGRUBFile(t.Name); ok && t.Err == nil {
		return // openTFTP recorded what it says
	}
	if ipxe.Optional(t.Name) && errors.Is(t.Err, fs.ErrNotExist) {
		return // its loader looks for it, and does without
	}
	e := timeline.Event{Step: timeline.TFTP, Stage: ipxe.StageOf(t.Name), Addr: t.Peer.Addr(), File: t.Name, Bytes: t.Bytes, Dur: t.Dur}
	e.Node, e.MAC = d.identify(t.Peer.Addr())
	if t.Err != nil {
		e.Err = t.Err.Error()
	}
	d.record(e)
}
