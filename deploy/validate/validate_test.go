package validate_test

import (
	"net/netip"
	"strings"
	"testing"

	"bootd/deploy/validate"
	"bootd/internal/node"
)

// The node of source 000: four NICs in an LACP bond, a boot drive of 223 GB and
// data drives of 7 TB.
var expected = validate.Expected{
	Name: "stg-wahvp004", Addr: netip.MustParseAddr("10.25.233.4"), HostID: "stg-wahvp004", HostIs: "stg-wahvp004",
	Validate: node.Validate{OS: "Ubuntu 24.04*", Bond: "bond0", BondMode: "802.3ad", BondMembers: 4, Wiped: 5e12, Services: []string{"stylus-agent"}, Registered: true},
}

const good = `hostname=stg-wahvp004
os=Ubuntu 24.04.1 LTS
kernel=6.8.0
address=10.25.233.4/24
address=172.17.0.1/16
bond.bond0.mode=802.3ad
bond.bond0.member=enp134s0f0np0 up
bond.bond0.member=enp134s0f0np1 up
bond.bond0.member=enp175s0f0np0 up
bond.bond0.member=enp175s0f0np1 up
drive=sda 240057409536 5 partitions
drive=sdb 7681501126656 clean
drive=nvme0n1 7681501126656 clean
service.stylus-agent=active
complete=yes
`

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old, new string // what is otherwise in the report
		edit     func(e *validate.Expected)
		failed   string
	}{
		{"as expected", "", "", nil, ""},
		{"fully qualified", "hostname=stg-wahvp004", "hostname=stg-wahvp004.example.net", nil, ""},
		{"another host name", "hostname=stg-wahvp004", "hostname=stg-wahvp0041", nil, "hostname: expected stg-wahvp004, found stg-wahvp0041"},
		{"another address", "10.25.233.4/24", "10.25.233.40/24", nil, "address: expected 10.25.233.4, found 10.25.233.40/24 172.17.0.1/16"},
		{"any address", "10.25.233.4/24", "10.25.233.40/24", func(e *validate.Expected) { e.Addr = netip.Addr{} }, ""},
		{"a member down", "enp134s0f0np1 up", "enp134s0f0np1 down", nil, "bond bond0: expected 4 members up, 802.3ad, found 3 of 4 members up, 802.3ad: enp134s0f0np1 down"},
		{"not in the aggregator", "enp175s0f0np1 up", "enp175s0f0np1 not in the active aggregator", nil, "bond bond0: expected 4 members up, 802.3ad, found 3 of 4 members up, 802.3ad: enp175s0f0np1 not in the active aggregator"},
		{"a member missing", "bond.bond0.member=enp175s0f0np1 up\n", "", nil, "bond bond0: expected 4 members up, 802.3ad, found 3 of 3 members up, 802.3ad"},
		{"another mode", "mode=802.3ad", "mode=active-backup", nil, "bond bond0: expected 4 members up, 802.3ad, found 4 of 4 members up, active-backup"},
		{"any mode and number", "mode=802.3ad", "mode=active-backup", func(e *validate.Expected) { e.BondMode, e.BondMembers = "", 0 }, ""},
		{"no bond", "bond0", "bond1", nil, "bond bond0: expected 4 members up, 802.3ad, found no such bond"},
		{"a data drive with partitions", "sdb 7681501126656 clean", "sdb 7681501126656 2 partitions", nil, "drives wiped: expected those of 5 TB and more clean, found sdb: 2 partitions"},
		{"no data drive", "7681501126656", "240057409536", nil, "drives wiped: expected those of 5 TB and more clean, found no such drive"},
		{"another system", "24.04.1", "22.04.5", nil, "os: expected Ubuntu 24.04*, found Ubuntu 22.04.5 LTS"},
		{"agent not active", "agent=active", "agent=inactive", nil, "service stylus-agent: expected active, found inactive"},
		{"agent not told", "service.stylus-agent=active\n", "", nil, "service stylus-agent: expected active, found not reported"},
		{"cut off", "complete=yes\n", "", nil, "report: expected whole, found cut off"},
		{"not registered", "", "", func(e *validate.Expected) { e.HostIs = "" }, "registered: expected stg-wahvp004, found not reported"},
		{"registered as another", "", "", func(e *validate.Expected) { e.HostIs = "edge-1" }, "registered: expected stg-wahvp004, found edge-1"},
		{"id not known before", "", "", func(e *validate.Expected) { e.HostID, e.HostIs = "", "edge-1" }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report := strings.ReplaceAll(good, tt.old, tt.new)
			if tt.old == "" {
				report = good
			} else if report == good {
				t.Fatalf("%q is not in the report", tt.old)
			}
			e := expected
			if tt.edit != nil {
				tt.edit(&e)
			}
			checks := validate.Judge(e, validate.Parse([]byte(report)))
			if got := validate.Failed(checks); got != tt.failed || validate.Passed(checks) != (tt.failed == "") {
				t.Errorf("got %q, passed %v, want %q\n%+v", got, validate.Passed(checks), tt.failed, checks)
			}
		})
	}
}

// Without a report nothing passes that a report would have to show.
func TestJudgeWithoutReport(t *testing.T) {
	for _, report := range []string{"", "nonsense\n = \n\x00=\n"} {
		for _, c := range validate.Judge(expected, validate.Parse([]byte(report))) {
			if c.OK != (c.Name == "registered") {
				t.Errorf("%q: got %+v, want that it failed", report, c)
			}
		}
	}
	if got := validate.Judge(validate.Expected{Name: "n"}, nil); len(got) != 1 || got[0].OK || got[0].Found != "not reported" {
		t.Errorf("got %+v, want that the host name was not reported", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, report []byte) {
		facts := validate.Parse(report)
		for key, values := range facts {
			for _, v := range values {
				if len(v) > 512 || strings.ContainsAny(key, " \t\n") {
					t.Errorf("got %q=%q, want it bounded", key, v)
				}
			}
		}
		validate.Judge(expected, facts)
	})
}
