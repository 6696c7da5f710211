package ipxe

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"bootd/deploy"
)

// The page of a claim is whoever's serves it, with each method; what is in its
// path is told to nobody.
func TestClaimRoute(t *testing.T) {
	s, _ := server(t)
	if got := ask(s.Handler(), foreigner, "GET", "/C/ABCDEFGHIJKLMNOP", nil).Code; got != 404 {
		t.Errorf("without a page: got %d, want 404", got)
	}
	s.ClaimPage = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method+" "+r.URL.Path) })
	for _, method := range []string{"GET", "POST"} {
		if got := ask(s.Handler(), foreigner, method, "/C/ABCDEFGHIJKLMNOP", nil); got.Code != 200 || got.Body.String() != method+" /C/ABCDEFGHIJKLMNOP" {
			t.Errorf("%s: got %d %q, want the page", method, got.Code, got.Body)
		}
	}
	if got := ask(s.Handler(), foreigner, "GET", "/C/ABCDEFGHIJKLMNOP/x", nil); got.Code != 404 || strings.Contains(got.Body.String(), "ABCDEF") {
		t.Errorf("below it: got %d %q, want 404 without the token", got.Code, got.Body)
	}
}

// A machine that waits shows the code of its claim, unless that is too big for
// its console; the URL is there all the same.
func TestClaimScript(t *testing.T) {
	for _, tt := range []struct {
		url                string
		bios, efi, present bool
	}{
		{"", false, false, false},
		{"HTTP://10.254.100.111/C/ABCDEFGHJKMNPQRS", true, true, true},
		{"https://boot.example/claim/ABCDEFGHJKMNPQRS", true, false, true},
		{"https://boot.example/" + strings.Repeat("x", 120), false, false, true},
	} {
		for _, action := range []deploy.Action{deploy.Discover, deploy.Hold} {
			s := Script{Server: "10.1.1.1", Claim: tt.url, Decision: deploy.Decision{Action: action, Reason: "because"}}
			b, err := s.Render()
			text := string(b)
			if err != nil || strings.Contains(text, "echo ${qb:string}") != tt.bios || strings.Contains(text, "echo ${qw:string}") != tt.efi ||
				strings.Contains(text, "to claim this machine") != tt.present || tt.present && !strings.Contains(text, tt.url) {
				t.Errorf("%v %q: got %v\n%s\nwant BIOS %v, UEFI %v", action, tt.url, err, text, tt.bios, tt.efi)
			}
			for line := range strings.Lines(text) {
				if label, ok := strings.CutPrefix(strings.TrimSpace(line), ":"); ok && strings.Count(text, "\n:"+label+"\n") != 1 {
					t.Errorf("%v %q: label %q is there more than once", action, tt.url, label)
				}
			}
		}
	}
}
