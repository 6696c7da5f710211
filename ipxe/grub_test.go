package ipxe

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bootd/deploy"
	"bootd/internal/node"
	"bootd/internal/timeline"
)

func TestGRUBGolden(t *testing.T) {
	tests := map[string]Script{
		"boot":     boot("console=ttyS0,115200 hostname={{.Node}}\n  ds=nocloud-net;s=http://{{.Server}}/ role={{.Role}}"),
		"local":    action(deploy.Local, "ncn-w001", "set to boot from the local disk"),
		"discover": action(deploy.Discover, "", "machine is not in the inventory"),
		"hold":     action(deploy.Hold, "ncn-m001", "boot directory is not usable: 'kernel': $root; no such file"),
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			for _, next := range []bool{false, true} {
				got, err := s.GRUB(next)
				if err != nil {
					t.Fatal(err)
				}
				checkGRUB(t, got)
				if !next {
					goldenFile(t, name+".grub", got)
				}
			}
		})
	}
}

func goldenFile(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s: -want +got\n%s", file, d)
	}
}

// checkGRUB has GRUB's own parser read a configuration.
func checkGRUB(t testing.TB, text []byte) {
	t.Helper()
	tool, err := exec.LookPath("grub-script-check")
	if err != nil && strings.Contains(os.Getenv("BOOT_REQUIRE"), "netns") {
		t.Fatal("grub-script-check is missing: run make deps")
	}
	if err != nil {
		return // the golden files were checked where it is
	}
	cmd := exec.Command(tool)
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v: %s\n%s", err, out, text)
	}
}

// What an iPXE script may not carry, a GRUB configuration may not either.
func TestGRUBRefuses(t *testing.T) {
	tests := []struct {
		args string
		want string
	}{
		{"a='b'", `args: "a='b'" may not go into a script`},
		{"$root", `args: "$root" may not go into a script`},
		{"a`b", "args: \"a`b\" may not go into a script"},
		{"a\\b", `args: "a\\b" may not go into a script`},
		{"{{.Nope}}", "args: character 3: .Nope: there is no Nope"},
	}
	for _, tt := range tests {
		_, err := boot(tt.args).GRUB(false)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, want %s", tt.args, err, tt.want)
		}
	}
}

// No text can end a quoted string, and there always is a file that waits.
func TestGRUBTrouble(t *testing.T) {
	for _, server := range []string{"10.1.1.1", "'; reboot; '"} {
		checkGRUB(t, grubTrouble(server, "it's $(odd)\n'; reboot; echo '", false))
	}
	got := string(grubTrouble("10.1.1.1", "it's $x\n'; reboot", true))
	if want := "echo 'because: it?s ?x??, reboot'\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want it to end with %q", got, want)
	}
}

// The names are those of GRUB's grub_net_search_config_file, and of protocol.md
// 2.12.
func TestParseGRUBFile(t *testing.T) {
	tests := []struct {
		name string
		want GRUBFile
		ok   bool
	}{
		{"grub.cfg", GRUBFile{}, true},
		{"grub/grub.cfg", GRUBFile{}, true},
		{"boot/grub/grub.cfg", GRUBFile{}, true},
		{"grub/grub.cfg-01-52-54-00-aa-bb-07", GRUBFile{MAC: mac}, true},
		{"grub.cfg-00000000-0000-0000-0000-000000000007", GRUBFile{UUID: node.UUID{15: 7}}, true},
		{"grub/grub.cfg-0A010165", GRUBFile{Addr: netip.MustParseAddr("10.1.1.101")}, true},
		{"grub/next.cfg", GRUBFile{Next: true}, true},
		{"grub/failed-kernel.cfg", GRUBFile{Step: "kernel"}, true},
		{name: "grub/grub.cfg-0A01016"}, // a range of addresses is no machine
		{name: "grub/grub.cfg-0"},
		{name: "grub/grub.cfg-01-01-00-5e-00-00-01"}, // a group
		{name: "grub/grub.cfg-"}, {name: "grub/grub.cfgx"}, {name: "grub/failed-.cfg"}, {name: "grub/failed-A$.cfg"},
		{name: "grub/x86_64-efi/grub.cfg"}, {name: "grub/x86_64-efi/command.lst"}, {name: "grub"}, {name: ""},
		{name: "ncn-w001/grub.cfg"}, {name: "../grub.cfg"}, {name: "grubx64.efi"},
	}
	for _, tt := range tests {
		got, ok := ParseGRUBFile(tt.name)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: got %+v %v, want %+v %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestGRUBOfMachine(t *testing.T) {
	s, _ := server(t)
	none := "open grub.cfg: file does not exist"
	tests := []struct {
		name string
		from netip.Addr
		want string // a part
		err  string
	}{
		{"grub/grub.cfg", leased, "'(http,10.1.1.1)/ncn-w001/kernel'", ""},
		{"grub/grub.cfg-01-52-54-00-00-00-99", leased, "'(http,10.1.1.1)/ncn-w001/kernel'", ""}, // the lease counts
		{"grub/grub.cfg-01-52-54-00-aa-bb-07", foreigner, "'(http,10.1.1.1)/ncn-w001/kernel'", ""},
		{"grub/grub.cfg-01-52-54-00-00-00-99", foreigner, "not in the inventory", ""},
		{"grub/grub.cfg-00000000-0000-0000-0000-000000000007", foreigner, "'(http,10.1.1.1)/ncn-w001/kernel'", ""},
		{"grub/grub.cfg-33221100-5544-7766-8899-aabbccddeeff", foreigner, "'(http,10.1.1.1)/ncn-w001/kernel'", ""}, // as GRUB 2.06 writes it
		{"grub/grub.cfg-00000000-0000-0000-0000-000000000099", foreigner, "", none},                                // it will try its MAC
		{"grub/grub.cfg-0A010199", leased, "", none},                                                               // not its address
		{"grub/grub.cfg", foreigner, "not in the inventory", ""},
		{"grub/failed-kernel.cfg", leased, "# noted", ""},
		{"grub/failed-kernel.cfg", foreigner, "", none},
	}
	for _, tt := range tests {
		f, ok := ParseGRUBFile(tt.name)
		if !ok {
			t.Fatalf("%q: not a file of GRUB", tt.name)
		}
		text, e, err := s.GRUB(f, tt.from, "10.1.1.1")
		if tt.err != "" {
			if err == nil || err.Error() != tt.err || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s from %v: got %v, want %s", tt.name, tt.from, err, tt.err)
			}
			continue
		}
		if err != nil || !strings.Contains(string(text), tt.want) {
			t.Errorf("%s from %v: got %v %q, want a part %q", tt.name, tt.from, err, text, tt.want)
		}
		if e.Stage != timeline.GRUB || e.Addr != tt.from {
			t.Errorf("%s from %v: event got %+v, want one of GRUB from there", tt.name, tt.from, e)
		}
	}
}

// shim and GRUB look for these, and must be answered at once; the names are
// those that shim 16.1 and GRUB 2.06 ask for in the lab.
func TestOptional(t *testing.T) {
	for _, name := range []string{
		"revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi", "x86_64-sb/revocations_sku.efi",
		"grub/x86_64-efi/command.lst", "grub/x86_64-efi/http.mod", "grub/x86_64-efi/grub.cfg", "x86_64-sb/autoexec.ipxe", "9a3f1c02/recovery.elf",
	} {
		if !Optional(name) {
			t.Errorf("%s: got needed, want optional", name)
		}
	}
	for _, name := range []string{"grubx64.efi", "mmx64.efi", "snponly.efi", "ncn-w001/kernel", "command.lst"} {
		if Optional(name) {
			t.Errorf("%s: got optional, want needed", name)
		}
	}
}

func FuzzParseGRUBFile(f *testing.F) {
	for _, s := range []string{"grub/grub.cfg-01-52-54-00-aa-bb-07", "grub.cfg-0A010165", "grub/failed-kernel.cfg", "a/b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		file, ok := ParseGRUBFile(name)
		if ok && (file.MAC.IsGroup() || file.Step != "" && !stepRule.MatchString(file.Step)) {
			t.Errorf("%q: got %+v", name, file)
		}
	})
}

var quotedRule = regexp.MustCompile(`'[^'\n]*'`)

// Whatever the values, a configuration is that of harmless ones with other
// texts between its single quotes.
func FuzzGRUB(f *testing.F) {
	f.Add(uint8(1), "10.1.1.1:8080", "ncn-w001", "1.2.3", "a=b {{.Node}}", "reason")
	f.Add(uint8(3), "10.1.1.1", "", "", "", "'; reboot; echo '\n$root")
	f.Add(uint8(1), "[::1]:80", "a", "b'c", "a'b $c", "#")
	f.Fuzz(func(t *testing.T, a uint8, server, name, release, args, reason string) {
		s := Script{Server: server, MAC: mac, Decision: deploy.Decision{
			Action: deploy.Action(a % 4), Node: name, Release: release, Args: args, Reason: reason,
		}}
		got, err := s.GRUB(false)
		if err != nil {
			return
		}
		words, _ := s.words()
		s.Decision.Node, s.Decision.Reason, s.Decision.Args = "n", "r", strings.Repeat("w ", max(0, len(words)-3))
		want, err := s.GRUB(false)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(quotedRule.ReplaceAll(want, nil)), string(quotedRule.ReplaceAll(got, nil))); d != "" {
			t.Errorf("outside of quotes: -harmless +got\n%s", d)
		}
	})
}
