package ipxe

import (
	"bytes"
	"flag"
	"slices"
	"strings"
	"testing"

	"bootd/deploy"
	"bootd/internal/node"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var mac = node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 7}

func boot(args string) Script {
	return Script{Server: "10.1.1.1:8080", MAC: mac, Decision: deploy.Decision{
		Action: deploy.Boot, Node: "ncn-w001", Role: "kubernetes", Release: "6.2.0", Args: args,
		Reason: "boot release 6.2.0 of role kubernetes",
	}}
}

func action(a deploy.Action, name, reason string) Script {
	return Script{Server: "10.1.1.1", MAC: mac, Decision: deploy.Decision{Action: a, Node: name, Reason: reason}}
}

func TestGolden(t *testing.T) {
	byName := boot("")
	byName.ByName, byName.MAC = true, node.MAC{}
	signed := boot("")
	signed.Signed = true
	tests := map[string]Script{
		"boot":      boot("console=ttyS0,115200 hostname={{.Node}}\n  ds=nocloud-net;s=http://{{.Server}}/ role={{.Role}} rel={{.Release}} nic={{.MAC}}"),
		"boot-name": byName,
		"boot-shim": signed,
		"local":     action(deploy.Local, "ncn-w001", "set to boot from the local disk"),
		"discover":  action(deploy.Discover, "", "machine is not in the inventory"),
		"hold":      action(deploy.Hold, "ncn-m001", "boot directory is not usable: kernel: no such file"),
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := s.Render()
			if err != nil {
				t.Fatal(err)
			}
			goldenFile(t, name+".ipxe", got)
			commands(t, got)
		})
	}
}

// settings are the iPXE expansions a script of ours may contain.
var settings = strings.NewReplacer(
	"${net${bootd-nic}/mac}", "", "${net${bootd-nic}/chip}", "", "${net${bootd-nic}/busid}", "",
	"${netX/mac}", "", "${netX/mac:hexhyp}", "", "${netX/ip}", "", "${uuid}", "", "${serial}", "",
	"${serial:uristring}", "", "${manufacturer}", "", "${product}", "", "${buildarch}", "",
	"${platform}", "", "${errno:hexraw}", "", "${bootd-wait}", "", "${bootd-asks}", "",
	"${bootd-nic}", "", "${bootd-step}", "", "${bootd-err}", "", "${bootd-gone}", "", "${bootd-shim}", "",
	"${bootd-open${bootd-nic}}", "",
)

// iPXE of 2019 knows these.
var known = []string{
	"", "echo", "set", "isset", "iseq", "inc", "goto", "sleep", "imgfree", "imgfetch", "ifconf", "ifclose", "ifopen",
	"chain", "kernel", "initrd", "boot", "sanboot", "exit",
	"shim", // not known to iPXE of 2019, and only for the signed one
}

// commands splits a script as iPXE does (src/core/exec.c: blanks separate,
// then "||", "&&" and ";" end a command, and "#" begins a comment) and returns
// the names of the commands. It checks that nothing is in it that iPXE would
// read in another way than we meant.
func commands(t testing.TB, script []byte) (names []string) {
	t.Helper()
	first, rest, _ := strings.Cut(string(script), "\n")
	if first != "#!ipxe" {
		t.Errorf("first line: got %q, want #!ipxe", first)
	}
	if !strings.HasSuffix(rest, "\n") {
		t.Errorf("script does not end with a line end")
	}
	for line := range strings.Lines(rest) {
		line = settings.Replace(strings.TrimSuffix(line, "\n"))
		if strings.HasPrefix(line, ":") {
			continue
		}
		begin := true
		for i, w := range strings.Split(line, " ") {
			if begin {
				if !slices.Contains(known, w) {
					t.Errorf("%q: %q is not a command we use", line, w)
				}
				names = append(names, w)
			}
			begin = w == "||" || w == "&&"
			if !begin && (w == ";" || strings.HasPrefix(w, "#") || strings.ContainsAny(w, "|${}\\\"\t\r")) {
				t.Errorf("%q: word %d %q means something to iPXE", line, i, w)
			}
			for _, c := range []byte(w) {
				if c < ' ' || c > '~' {
					t.Errorf("%q: byte %#x", line, c)
				}
			}
		}
	}
	return names
}

// What a machine without a decision to boot runs can only look and ask.
func TestHarmless(t *testing.T) {
	scripts := map[string][]byte{"trouble": trouble("10.1.1.1", "x"), "trouble without a server": trouble("", "x")}
	for _, s := range []Script{action(deploy.Discover, "", "r"), action(deploy.Hold, "n1", "r")} {
		b, err := s.Render()
		if err != nil {
			t.Fatal(err)
		}
		scripts[s.Decision.Action.String()] = b
	}
	for name, b := range scripts {
		for _, c := range commands(t, b) {
			if slices.Contains([]string{"kernel", "initrd", "boot", "sanboot", "imgfetch"}, c) {
				t.Errorf("%s: script has the command %q", name, c)
			}
		}
	}
	// And one that waits never asks for a disk.
	for _, s := range []Script{boot(""), action(deploy.Local, "n1", "r"), action(deploy.Hold, "n1", "r")} {
		b, err := s.Render()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Contains(commands(t, b), "sanboot"), s.Decision.Action != deploy.Hold; got != want {
			t.Errorf("%v: uses the disk: got %v, want %v", s.Decision.Action, got, want)
		}
	}
}

// Each script ends in waiting and asking again, so no machine is left alone.
func TestAsksAgain(t *testing.T) {
	for _, s := range []Script{boot(""), action(deploy.Local, "n1", "r"), action(deploy.Discover, "", "r"), action(deploy.Hold, "n1", "r")} {
		b, _ := s.Render()
		got := string(b)
		for _, want := range []string{"\nsleep ${bootd-wait}\n", "\nchain --timeout 30000 --replace --autofree " + EntryURL(s.Server) + " || "} {
			if !strings.Contains(got, want) {
				t.Errorf("%v: %q is missing in\n%s", s.Decision.Action, want, got)
			}
		}
	}
}

// A machine that is to boot leaves for its next boot device after the rounds
// that are configured, and no other ever does.
func TestGivesUp(t *testing.T) {
	few := boot("")
	few.Retries = 3
	for _, tt := range []struct {
		s    Script
		want string // empty: never
	}{
		{boot(""), "\niseq ${bootd-gone} 10 || goto wait\n"},
		{few, "\niseq ${bootd-gone} 3 || goto wait\n"},
		{action(deploy.Hold, "n1", "r"), ""},
		{action(deploy.Discover, "", "r"), ""},
	} {
		b, _ := tt.s.Render()
		if got := strings.Contains(string(b), "bootd-gone"); got != (tt.want != "") || !strings.Contains(string(b), tt.want) {
			t.Errorf("%v: want %q in\n%s", tt.s.Decision.Action, tt.want, b)
		}
	}
	b, _ := few.GRUB(false)
	if want := "\nfor bootd_wait in 5 10 15; do\n"; !strings.Contains(string(b), want) {
		t.Errorf("GRUB: want %q in\n%s", want, b)
	}
}

func TestRenderRefuses(t *testing.T) {
	with := func(f func(*Script)) Script { s := boot(""); f(&s); return s }
	tests := []struct {
		name string
		s    Script
		want string
	}{
		{"no server", with(func(s *Script) { s.Server = "" }), `server: "" is not a host with a port`},
		{"server with a path", with(func(s *Script) { s.Server = "10.1.1.1/x" }), `server: "10.1.1.1/x" is not a host with a port`},
		{"server with a newline", with(func(s *Script) { s.Server = "a\nb" }), `server: "a\nb" is not a host with a port`},
		{"node with a command", with(func(s *Script) { s.Decision.Node = "a || shell" }), `node: "a || shell" is not a host name`},
		{"node with a newline", with(func(s *Script) { s.Decision.Node = "a\n" }), `node: "a\n" is not a host name`},
		{"no node", with(func(s *Script) { s.Decision.Node = "" }), "node: a machine without a name has no boot directory"},
		{"role", with(func(s *Script) { s.Decision.Role = "r;x" }), `role: "r;x" may not go into a script`},
		{"release with a setting", with(func(s *Script) { s.Decision.Release = "${ip}" }), `release: "${ip}" may not go into a script`},
		{"args ||", boot("a || shell"), `args: "||" may not go into a script`},
		{"args &&", boot("a && shell"), `args: "&&" may not go into a script`},
		{"args ;", boot("a ; shell"), `args: ";" may not go into a script`},
		{"args ;x", boot("a ;shell"), `args: ";shell" may not go into a script`},
		{"args setting", boot("ip=${ip}"), `args: "ip=${ip}" may not go into a script`},
		{"args comment", boot("a #b"), `args: "#b" may not go into a script`},
		{"args backslash", boot(`a \`), `args: "\\" may not go into a script`},
		{"args quote", boot(`a="b c"`), `args: "a=\"b" may not go into a script`},
		{"args not ASCII", boot("a=\u00e9"), `args: "a=é" may not go into a script`},
		{"args NUL", boot("a\x00b"), `args: "a\x00b" may not go into a script`},
		{"args long", boot(strings.Repeat("a=bcdef ", 300)), "args: kernel arguments have 2400 bytes, more than 2047"},
		{"args just too long", boot(strings.Repeat("a=bcdef ", 245)), "args: kernel command line has 2059 bytes, more than 2047"},
		{"args syntax", boot("{{.Node"), "args: unclosed action"},
		{"args field", boot("{{.Password}}"), `args: character 3: .Password: there is no Password`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.s.Render()
			if err == nil {
				t.Fatalf("got\n%s\nwant an error", b)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			commands(t, trouble("10.1.1.1", err.Error()))
		})
	}
}

// A line end in the arguments only separates.
func TestArgsLines(t *testing.T) {
	b, err := boot("a=1\nshell\r\n\tb=2").Render()
	if err != nil {
		t.Fatal(err)
	}
	commands(t, b)
	if want := " ip=dhcp a=1 shell b=2 || goto failed\n"; !strings.Contains(string(b), want) {
		t.Errorf("got\n%s\nwant %q in it", b, want)
	}
}

func TestCheckArgs(t *testing.T) {
	if err := CheckArgs("console=tty0 ds=nocloud-net;s=http://{{.Server}}/{{.MACHyphen}}"); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if err := CheckArgs("{{.Nope}}"); err == nil {
		t.Errorf("got nil, want an error")
	}
}

// The text is words of ours around names from disks and packets.
func TestScreen(t *testing.T) {
	tests := map[string]string{
		"boot release 1.2.3 of role k8s":     "boot release 1.2.3 of role k8s",
		`node "x": ${ip} || shell & # \ a;b`: "node ,x,: ??ip? ?? shell ? ? ? a,b",
		"a\nshell\r\n":                       "a?shell??",
		"caf\u00e9 \x1b[2J\x00":              "caf? ??2J?",
		strings.Repeat("x", 300):             strings.Repeat("x", 255),
	}
	for in, want := range tests {
		if got := screen(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// 127 bytes fit into the file field of a DHCP header (RFC 2131, section 2) with
// its NUL.
func TestEntryURL(t *testing.T) {
	if n := len(EntryURL("255.255.255.255:65535")); n > 127 {
		t.Errorf("longest entry URL: got %d bytes, want at most 127", n)
	}
}

func TestAutoexec(t *testing.T) {
	got := Autoexec("10.1.1.1", 3)
	goldenFile(t, "autoexec.ipxe", got)
	commands(t, got)
	if got, want := Autoexec("", 3), trouble("", ""); !bytes.Equal(got, want) {
		t.Errorf("without a server: got %q, want %q", got, want)
	}
}

// The meanings are from the list iPXE builds ("make bin/errors"), whose low
// byte depends on the platform.
func TestExplain(t *testing.T) {
	tests := map[string]string{
		"2d0c618e": "file missing on the server (HTTP 404)",
		"2d0c6139": "file missing on the server (HTTP 404)",
		"4c0a6035": "TCP timeout: firewall, or wrong router",
		"31006101": "out of memory",
		"12345678": "", "": "", "zz": "", "112d0c618e": "",
	}
	for in, want := range tests {
		if got := explain(in); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add(uint8(1), "10.1.1.1:8080", "ncn-w001", "k8s", "1.2.3", "a=b {{.Node}}", "reason", true)
	f.Add(uint8(0), "", "", "", "", "", "x || shell\n${ip}", false)
	f.Add(uint8(1), "[::1]:80", "a", "b;c", "||", "a ; b", "#", false)
	f.Fuzz(func(t *testing.T, a uint8, server, name, role, release, args, reason string, byName bool) {
		s := Script{Server: server, MAC: mac, ByName: byName, Decision: deploy.Decision{
			Action: deploy.Action(a % 4), Node: name, Role: role, Release: release, Args: args, Reason: reason,
		}}
		b, err := s.Render()
		if err != nil {
			b = trouble(server, err.Error())
		}
		commands(t, b)
	})
}
