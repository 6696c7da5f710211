package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bootd/artifacts"
	"bootd/internal/lab"
	"bootd/internal/node"
	"bootd/links"
)

// newDracutSite is a site whose nodes boot with an initrd of dracut.
func newDracutSite(t *testing.T, guests int, nodes ...siteNode) *site {
	t.Helper()
	return newSiteOf(t, guests, site{Subnet: leases, Args: lab.DracutArgs, Nodes: nodes, images: lab.DracutForTest(t)})
}

// unstable is a release of the Kubernetes nodes in their other channel.
const unstable = "fe775c6-1659395320990"

// Nodes as a CSM site has them, with dracut in their initrd, boot the release
// that set-links gave their role: before and after a change of the channel, and
// after it was taken back.
func TestDracutNodes(t *testing.T) {
	t.Parallel()
	follow := strings.Replace(lab.DracutArgs, "/{{.Release}}/", "/", 1) // root=live:http://.../NODE/rootfs
	s := newSiteOf(t, 2, site{Subnet: leases, Args: follow, Nodes: []siteNode{m001, s001}, images: lab.DracutForTest(t)})
	boot := func(k8s, ceph string) {
		t.Helper()
		m, c := s.Boot(t, machine(m001, lab.BIOS)), s.Boot(t, machine(s001, lab.BIOS))
		s.wantBooted(m, m001, k8s)
		s.wantBooted(c, s001, ceph)
		if line, want := s.line(m, `^BOOTD-LAB-BOOTED`), "root=live:http://10.77.0.1/ncn-m001/rootfs"; !strings.Contains(line, want) {
			t.Errorf("got %q, want %s in it", line, want)
		}
	}
	boot("1.2.3", "0.0.7")
	s.release(lab.Release{Dir: "k8s", ID: unstable, Base: "kubernetes"})
	s.bootctl("set-links", "--config", s.config, "--channel", "kubernetes=unstable")
	boot(unstable, "0.0.7")
	s.bootctl("links", "rollback", "--config", s.config)
	boot("1.2.3", "0.0.7")
	s.wantStory(m001, lab.BIOS)
}

// While their links are switched and others fetch their files, nodes boot, and
// each gets one release from its script to its root file system.
func TestDracutNodesUnderLoad(t *testing.T) {
	t.Parallel()
	s := newDracutSite(t, 2, m001, s001)
	s.release(lab.Release{Dir: "k8s", ID: "1.2.4", Base: "kubernetes"})
	s.release(lab.Release{Dir: "ceph", ID: "0.0.8", Base: "storage-ceph"})
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	switches := 0
	load.Go(func() { switches = s.switchLinks(ctx) })
	load.Go(func() { s.fetchAll(ctx) })

	guests := map[string]*lab.Guest{}
	for _, n := range s.Nodes {
		guests[n.Name] = s.Boot(t, machine(n, lab.BIOS))
	}
	for _, n := range s.Nodes {
		_, release, _ := strings.Cut(s.line(guests[n.Name], `^BOOTD-LAB-BOOTED`), " release=")
		release, _, _ = strings.Cut(release, " ")
		s.line(guests[n.Name], `^BOOTD-LAB-CHECKED-IN HTTP/1.1 200 OK$`)
		s.wantOneRelease(n, release)
	}
	stop()
	load.Wait()
	if switches < 50 {
		t.Errorf("got %d switches while the nodes booted, want 50 at least", switches)
	}
	for _, g := range guests {
		if err := g.Ended(lab.Deadline(t)); err != nil {
			t.Error(err)
		}
	}
}

// switchLinks switches all nodes from one release to the other until ctx is
// done, and returns how often.
func (s *site) switchLinks(ctx context.Context) (n int) {
	tree, err := links.Open(s.root)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	defer tree.Close()
	again := time.NewTicker(50 * time.Millisecond) // the guests need the processor too
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return n
		case <-again.C:
		}
		n++
		var wanted []links.Wanted
		for _, w := range []struct{ node, dir, base, release string }{
			{m001.Name, "k8s", "kubernetes", []string{"1.2.3", "1.2.4"}[n%2]},
			{s001.Name, "ceph", "storage-ceph", []string{"0.0.8", "0.0.7"}[n%2]},
		} {
			c := artifacts.Scan(tree.Root(), node.Role{Name: w.base, Dir: w.dir, Squashfs: []string{w.base}, Release: w.release})
			set, err := c.Select("")
			if err != nil {
				s.t.Error(err)
				return n
			}
			wanted = append(wanted, links.Wanted{Node: w.node, Set: set})
		}
		p, err := tree.Plan(wanted)
		if err == nil {
			_, err = tree.Apply(context.WithoutCancel(ctx), p)
		}
		if err != nil || len(p.Refused) > 0 {
			s.t.Error(err, p.Refused)
			return n
		}
	}
}

// fetchAll fetches the files of all nodes until ctx is done. Each has to be
// there at any moment.
func (s *site) fetchAll(ctx context.Context) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = s.Do(func() (err error) {
				c, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return c, err
		},
	}}
	defer client.CloseIdleConnections()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		url := "http://10.77.0.1/" + s.Nodes[i%len(s.Nodes)].Name + []string{"/kernel", "/initrd.img.xz", "/rootfs"}[i%3]
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			s.t.Error(err)
			return
		}
		resp, err := client.Do(req)
		if err == nil {
			var n int64
			n, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil && (resp.StatusCode != http.StatusOK || n != resp.ContentLength) {
				err = fmt.Errorf("got %s and %d bytes of %d", resp.Status, n, resp.ContentLength)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.t.Errorf("%s: %v", url, err)
			return
		}
	}
}

// wantOneRelease checks that the script of a node's last boot, and each file
// that the node fetched then, were of the release that it runs.
func (s *site) wantOneRelease(n siteNode, release string) {
	s.t.Helper()
	var story struct {
		Boot struct {
			Events []struct{ Step, MAC, File, Action, Release string }
		}
	}
	if err := json.Unmarshal([]byte(s.bootctl("why", n.Name, "--json")), &story); err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, e := range story.Boot.Events {
		switch {
		case e.MAC != n.MAC.String(): // who else fetched its files
		case e.Step == "script" && e.Action == "boot":
			got = append(got, "script "+e.Release)
		case e.Step == "http" && strings.HasPrefix(e.File, n.Name+"/"):
			got = append(got, strings.TrimPrefix(e.File, n.Name+"/"))
		}
	}
	want := []string{"script " + release, release + "/kernel", release + "/initrd.img.xz", release + "/rootfs"}
	if !slices.Equal(got, want) {
		s.t.Errorf("node %s: got %q, want %q", n.Name, got, want)
	}
}
