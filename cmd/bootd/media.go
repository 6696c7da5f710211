package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bootd/deploy"
	"bootd/deploy/payload"
	"bootd/internal/admin"
	"bootd/internal/cli"
	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/xorriso"
	"bootd/ipxe"
)

// maxInstallers is how many copies of installers' images there may be: each has
// the size of a DVD.
const maxInstallers = 16

// mediaDir is where the copies are, below the state. They hold secrets, and
// only the daemon reads them.
func (d *daemon) mediaDir() string { return filepath.Join(d.config().State, "media") }

// openMedia reads the images that BMCs may fetch.
func (d *daemon) openMedia(db *store.Store) error {
	table, err := db.Table("media")
	if err == nil {
		d.media, err = deploy.OpenMedia(table)
	}
	return err
}

// openMediaDir makes the directory of the copies, and removes those that no
// image needs.
func (d *daemon) openMediaDir() error {
	if err := os.MkdirAll(d.mediaDir(), 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(d.mediaDir())
	if err != nil {
		return err
	}
	live := d.media.Live()
	for _, f := range files {
		if !slices.ContainsFunc(live, func(m deploy.Medium) bool { return m.Kind == deploy.InstallMedium && m.File() == f.Name() }) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.mediaDir(), f.Name())))
		}
	}
	return err
}

// OfferMedium implements admin.Media.
func (d *daemon) OfferMedium(ctx context.Context, o admin.MediumOrder) (admin.MediumOffer, error) {
	w := d.world.Load()
	n, ok := w.inv.ByName(o.Node)
	if !ok {
		return admin.MediumOffer{}, d.unknown(o.Node)
	}
	of := w.serverFor(n)
	if o.Server = cmp.Or(o.Server, w.serverAt(o.From), of); o.Server == "" {
		return admin.MediumOffer{}, fmt.Errorf("%s: it is not known at which address its BMC reaches us: no subnet has its address", o.Node)
	}
	m := deploy.Medium{Node: n.Name, Kind: o.Kind, From: o.From, Server: cmp.Or(of, o.Server), Issued: time.Now()}
	size, err := d.makeMedium(ctx, n, &m, o.Image)
	if err != nil {
		return admin.MediumOffer{}, fmt.Errorf("%s: %w", o.Node, err)
	}
	token, was, err := d.media.Issue(m)
	if was.Sum != m.Sum {
		err = errors.Join(err, d.removeImages([]deploy.Medium{was}))
	}
	if err != nil {
		return admin.MediumOffer{}, fmt.Errorf("%s: %w", o.Node, err)
	}
	d.log.Info("image offered", "node", n.Name, "kind", string(m.Kind), "bmc", m.From, "bytes", size)
	return admin.MediumOffer{URL: "http://" + o.Server + "/media/" + token.Reveal() + "/" + m.Name(), Bytes: size, Expires: m.Issued.Add(deploy.MediumTTL)}, nil
}

// makeMedium makes the image of m once, and sets its sum.
func (d *daemon) makeMedium(ctx context.Context, n *node.Node, m *deploy.Medium, from string) (size int64, err error) {
	switch m.Kind {
	case deploy.SiteMedium:
		image, err := d.siteImage(n, m)
		m.Sum = sum(image)
		return int64(len(image)), err
	case deploy.InstallMedium:
		return d.installer(ctx, n, m, from)
	}
	return 0, fmt.Errorf("%q is not one of site, install", m.Kind)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// siteImage renders the CD of a node's site payload. It is the same each time,
// as long as the payload is.
func (d *daemon) siteImage(n *node.Node, m *deploy.Medium) ([]byte, error) {
	if n.Site.IsZero() {
		return nil, fmt.Errorf("has no site payload: set site: of the node or of role %s", n.Role)
	}
	image, err := payload.Image(n.Site, d.payloadData(d.world.Load(), n, m.Server), m.Issued)
	if err != nil {
		return nil, fmt.Errorf("site: %w", unrendered{err})
	}
	return image, err
}

// installer makes the copy of an installer's image with the node's document in
// it. One at a time: it is the disk that takes the time.
func (d *daemon) installer(ctx context.Context, n *node.Node, m *deploy.Medium, from string) (size int64, err error) {
	d.copying.Lock()
	defer d.copying.Unlock()
	if err := d.mayCopy(n, from); err != nil {
		return 0, err
	}
	if from == "" {
		image, err := d.tree.Image(n.Name)
		if err != nil {
			return 0, err
		}
		from = filepath.Join(d.config().Root, image)
	}
	docs, err := payload.Render(n.Payload, d.payloadData(d.world.Load(), n, m.Server))
	if err != nil {
		return 0, fmt.Errorf("payload: %w", unrendered{err})
	}
	document, as := payload.Baked(n.Payload)
	return d.copyImage(ctx, m, from, map[string][]byte{as: docs[document]})
}

// mayCopy says why there can be no copy of an image for a node.
func (d *daemon) mayCopy(n *node.Node, from string) error {
	others := slices.DeleteFunc(d.media.Live(), func(x deploy.Medium) bool { return x.Kind != deploy.InstallMedium || x.Node == n.Name })
	switch {
	case len(others) >= maxInstallers:
		return fmt.Errorf("there are images for %d nodes already, which is the most: bootctl bmc detach ends them", len(others))
	case from != "" && !filepath.IsAbs(from):
		return fmt.Errorf("image %q is not an absolute path", from)
	case n.Payload.IsZero():
		return fmt.Errorf("has no payload: set payload: of the node or of role %s", n.Role)
	}
	return nil
}

// copyImage makes the image of m of another, with files added to it, and sets
// its sum. The image is under its name when it is on disk, or not at all.
func (d *daemon) copyImage(ctx context.Context, m *deploy.Medium, from string, files map[string][]byte) (size int64, err error) {
	f, err := os.CreateTemp(d.mediaDir(), ".new-*") // mode 0600
	if err != nil {
		return 0, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	err = xorriso.Add(ctx, from, f.Name(), files)
	if errors.Is(err, xorriso.ErrMissing) {
		return 0, cli.Hint(err, "install it on the host of the daemon: apt-get install xorriso")
	}
	if err != nil {
		return 0, err
	}
	hash := sha256.New()
	if size, err = io.Copy(hash, f); err != nil {
		return 0, err
	}
	m.Sum = hex.EncodeToString(hash.Sum(nil))
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return size, os.Rename(f.Name(), filepath.Join(d.mediaDir(), m.File()))
}

// medium answers for an image. That of a site payload is made anew for each
// request, so that neither memory nor disk keeps it; when it is not what it was
// when it was offered, a drive that reads it would see two images at once.
func (d *daemon) medium(r ipxe.MediumRequest) ipxe.MediumAnswer {
	u := d.media.Look(time.Now(), r.Token, r.Peer)
	a := ipxe.MediumAnswer{Verdict: u.Verdict, Ticket: u.ID, Node: u.Medium.Node, Reason: u.Reason, Time: u.Medium.Issued, ETag: `"` + u.Medium.Sum + `"`}
	n, ok := d.world.Load().inv.ByName(u.Medium.Node)
	if ok {
		a.MAC = n.BMC
	}
	switch {
	case u.Verdict != deploy.Granted:
		return a
	case r.Name != u.Medium.Name():
		a.Verdict, a.Reason = deploy.Unknown, "there is no such image"
		return a
	case !ok:
		a.Verdict, a.Reason = deploy.Gone, "the node is not in the inventory any more"
		return a
	case u.Medium.Kind == deploy.InstallMedium:
		f, err := os.OpenInRoot(d.mediaDir(), u.Medium.File())
		a.Content, a.Err = f, err
		return a
	}
	image, err := d.siteImage(n, &u.Medium)
	switch {
	case err != nil:
		a.Err = err
	case sum(image) != u.Medium.Sum:
		a.Verdict, a.Reason = deploy.Gone, "the site payload has changed since: attach the image again"
	default:
		a.Content = text{bytes.NewReader(image)}
	}
	return a
}

// WithdrawMedium implements admin.Media.
func (d *daemon) WithdrawMedium(name string) (bool, error) {
	ended, err := d.media.Revoke(name)
	return len(ended) > 0, errors.Join(err, d.removeImages(ended))
}

// removeImages removes the copies that media had.
func (d *daemon) removeImages(ended []deploy.Medium) (err error) {
	for _, m := range ended {
		if m.Kind == deploy.InstallMedium {
			err = errors.Join(err, os.Remove(filepath.Join(d.mediaDir(), m.File())))
		}
	}
	return err
}

// read are the images that a node does not need any more when it says so.
var read = map[string][]deploy.MediumKind{
	"installed": {deploy.InstallMedium},
	"booted":    {deploy.SiteMedium, deploy.InstallMedium}, "phone-home": {deploy.SiteMedium, deploy.InstallMedium}, "registered": {deploy.SiteMedium, deploy.InstallMedium},
}

// endMedia ends the images that a node does not need any more. What cannot be
// ended ends with its time.
func (d *daemon) endMedia(name, said string) {
	kinds, ok := read[said]
	if !ok {
		return
	}
	ended, err := d.media.Revoke(name, kinds...)
	if err = errors.Join(err, d.removeImages(ended)); err != nil {
		d.log.Error("image not ended", "node", name, "err", err)
	}
	if len(ended) > 0 {
		d.ejectLater(name)
	}
}

// expireMedia ends the images whose time is over.
func (d *daemon) expireMedia(now time.Time) {
	ended, err := d.media.Expired(now)
	if err = errors.Join(err, d.removeImages(ended)); err != nil {
		d.log.Error("images not ended", "err", err)
	}
}
