package main_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bootd/deploy"
	"bootd/internal/lab"
	"bootd/internal/store"
)

var seedURL = regexp.MustCompile(`ds=nocloud;dsmode=net;s=(http://10\.77\.0\.1/t/(bdt_[0-9a-f]{32})/)`)

// age makes all tickets on the disk of a site, and their uses, older, as time
// would. The daemon ends for it: as by kill -9 when there is nothing to change,
// else in order, so that the timeline is on disk.
func (s *site) age(by time.Duration) {
	s.t.Helper()
	if by == 0 {
		s.daemon.Kill()
	} else {
		s.daemon.Signal(syscall.SIGTERM)
	}
	s.daemon.Ended(lab.Deadline(s.t))
	if err := s.rewriteTickets(by); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

func (s *site) rewriteTickets(by time.Duration) error {
	db, err := store.Open(filepath.Join(s.Dir, "state", "bootd.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	table, err := db.Table("tickets")
	if err != nil {
		return err
	}
	var changes []store.Change
	err = table.Scan(func(key, value []byte) error {
		var ticket deploy.Ticket
		if err := json.Unmarshal(value, &ticket); err != nil {
			return err
		}
		ticket.Issued = ticket.Issued.Add(-by)
		for document, at := range ticket.Used {
			ticket.Used[document] = at.Add(-by)
		}
		aged, err := json.Marshal(ticket)
		changes = append(changes, store.Change{Key: []byte(string(key)), Value: aged})
		return err
	})
	return errors.Join(err, table.Apply(changes))
}

// C75 of protocol.md: a one-time URL twice, from another address, and after its
// time, with two machines that lease their addresses. The daemon is killed
// and stopped between the steps, and no secret or token is anywhere but in the answers.
func TestC75OneTimeURLs(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-cluster"
	dir := filepath.Join(t.TempDir(), "p")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+".join", []byte(secret+"\n"), 0o600),
		os.WriteFile(dir+"/user-data", []byte("#cloud-config\nhostname: {{.Name}}\njoin: {{.Secret.join}}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m, other := m001, s001
	m.Payload, other.Payload = dir, dir
	s := newSiteOf(t, 0, site{Subnet: leases, Extra: "log: {level: debug}", Nodes: []siteNode{m, other}})
	var logs []string
	age := func(by time.Duration) { logs = append(logs, s.daemon.String()); s.age(by) }
	c, thief := s.browser(m.MAC.String()), s.browser(other.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	thief.told("PXEClient:Arch:00007", "0007")

	var tokens []string
	boot := func() string {
		t.Helper()
		_, _, script := c.get("http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen())
		found := seedURL.FindStringSubmatch(script)
		if found == nil {
			t.Fatalf("got script %q, want a seed URL", script)
		}
		tokens = append(tokens, found[2])
		return found[1]
	}
	want := func(who browser, url string, status int, content string) {
		t.Helper()
		got, h, body := who.get(url)
		if got != status || !strings.Contains(body, content) {
			t.Errorf("%s: got %d %q, want %d with %q", deploy.Redact(url), got, body, status, content)
		}
		if status != 200 && (!strings.HasPrefix(body, "#cloud-config\n") || !strings.HasSuffix(body, "\n{}\n") || strings.Contains(body, "<")) {
			t.Errorf("got %q, want a cloud-config that does nothing", body)
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("got header %v, want no-store and no-referrer", h)
		}
	}

	// The ticket is for the holder of the lease, whoever asks for the script.
	for _, path := range []string{"/boot/script.ipxe?mac=" + m.MAC.Hyphen(), "/" + m.Name + "/script.ipxe"} {
		if _, _, script := thief.get("http://10.77.0.1" + path); strings.Contains(script, "ds=") || !strings.Contains(script, "holds no lease of the node ncn-m001") {
			t.Errorf("%s: got %q for another node, want a script that waits, without a ticket", path, script)
		}
	}

	url := boot()
	if again := boot(); again != url {
		t.Error("the script again: got another ticket, want the same")
	}
	want(thief, url+"user-data", 403, "is not who it was issued to")
	if got, _, _ := c.get(url+"user-data", "--head"); got != 200 {
		t.Errorf("HEAD: got %d, want 200", got)
	}
	age(0) // the URL is good after a crash
	want(c, url+"user-data", 200, "hostname: ncn-m001\njoin: "+secret+"\n")
	want(c, url+"user-data", 200, secret) // a retry
	want(c, url+"meta-data", 200, "instance-id: bootd-ncn-m001\n")
	want(c, url+"vendor-data", 200, "")
	age(61 * time.Second)
	want(c, url+"user-data", 410, "it was fetched before")
	want(thief, url+"user-data", 403, "is not who it was issued to")
	want(c, url+"network-config", 200, "")
	next := boot()
	if next == url {
		t.Error("the next boot got the ticket of the last")
	}
	want(c, next+"passwd", 404, "has no such document")
	age(10 * time.Minute)
	want(c, next+"user-data", 410, "the ticket has expired")
	want(c, "http://10.77.0.1/t/bdt_"+strings.Repeat("0", 32)+"/user-data", 404, "there is no such ticket")
	c.Namespace.Run(lab.Deadline(t), "curl", "-sS", "--max-time", "3", "tftp://10.77.0.1/t/"+tokens[0]+"/user-data") // is refused
	c.get("http://10.77.0.1/t/"+tokens[0]+"/user-data%2e", "-X", "POST")
	s.run(c.Namespace, "curl -sS -d detail="+tokens[0]+" http://10.77.0.1/checkin/booted")

	audit := s.bootctl("payload", "log", m.Name)
	for _, line := range []string{`10\.77\.0\.11 +user-data +given`, `10\.77\.0\.21 +user-data +foreign`, `10\.77\.0\.11 +user-data +gone`} {
		if !regexp.MustCompile(line).MatchString(audit) {
			t.Errorf("payload log: got\n%swant %s", audit, line)
		}
	}
	logs = append(logs, audit, s.bootctl("why", m.Name, "--json"), s.bootctl("why", other.Name, "--json"), s.bootctl("status", "--json"),
		s.bootctl("payload", "log", m.Name, "--json"), s.bootctl("payload", "render", m.Name, "--config", s.config), s.bootctl("payload", "check", "--config", s.config))
	s.daemon.Signal(syscall.SIGTERM)
	s.daemon.Ended(lab.Deadline(t))
	logs = append(logs, s.daemon.String(), contents(t, filepath.Join(s.Dir, "state")))
	for _, text := range logs {
		for _, leak := range append(tokens, secret) {
			if i := strings.Index(text, strings.TrimPrefix(leak, "bdt_")); i >= 0 {
				t.Errorf("%q is told: %q", leak, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// contents returns all files of a directory.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
