package tftp

import (
	"fmt"
	"testing"
	"time"
)

// A step is what happens to a transfer, and what it has to send then.
type step struct {
	at   time.Duration // since the begin
	what string        // begin, ack N, tick, repeat, error N
	want span
}

func (s step) play(t *testing.T, tr *transfer, epoch time.Time) (got span) {
	t.Helper()
	now := epoch.Add(s.at)
	var n int
	switch fmt.Sscanf(s.what, "ack %d", &n); {
	case s.what == "begin":
		return tr.begin(now)
	case s.what == "tick":
		return tr.tick(now)
	case s.what == "repeat":
		return tr.repeat(now)
	case n > 0 || s.what == "ack 0":
		return tr.ack(now, uint16(n))
	}
	if _, err := fmt.Sscanf(s.what, "error %d", &n); err != nil {
		t.Fatalf("step %q: %v", s.what, err)
	}
	tr.abort(uint16(n), "text")
	return nothing
}

const ms = time.Millisecond

func TestTransfer(t *testing.T) {
	oack := span{0, 0}
	for _, tt := range []struct {
		name   string
		terms  terms
		size   int64
		steps  []step
		over   bool
		probed bool
		err    string
	}{
		{"RFC 1350 section 2, lock-step", terms{block: 512, window: 1}, 700, []step{
			{0, "begin", span{1, 1}},
			{ms, "ack 1", span{2, 2}},
			{2 * ms, "ack 2", nothing},
		}, true, false, ""},
		{"RFC 1350 section 6, exact multiple ends in an empty block", terms{block: 512, window: 1}, 1024, []step{
			{0, "begin", span{1, 1}}, {0, "ack 1", span{2, 2}}, {0, "ack 2", span{3, 3}}, {0, "ack 3", nothing},
		}, true, false, ""},
		{"empty file is one empty block", terms{block: 512, window: 1}, 0, []step{
			{0, "begin", span{1, 1}}, {0, "ack 1", nothing},
		}, true, false, ""},
		{"RFC 2347, OACK waits for ACK 0", terms{block: 512, window: 1, oack: []byte{0}}, 700, []step{
			{0, "begin", oack}, {0, "ack 1", nothing}, {0, "ack 0", span{1, 1}}, {0, "ack 0", nothing}, {0, "ack 1", span{2, 2}},
		}, false, false, ""},
		{"C60, RFC 1123 section 4.2.3.1, duplicate ACK", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {0, "ack 1", span{2, 2}}, {0, "ack 1", nothing}, {0, "ack 1", nothing},
			{0, "ack 2", span{3, 3}}, {0, "ack 1", nothing}, {0, "ack 2", nothing},
		}, false, false, ""},
		{"ACK of what was not sent", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {0, "ack 0", nothing}, {0, "ack 2", nothing}, {0, "ack 65535", nothing}, {0, "ack 1", span{2, 2}},
		}, false, false, ""},
		{"C59, RFC 7440 section 4, block 2 of a window lost", terms{block: 512, window: 4, oack: []byte{0}}, 12 * 512, []step{
			{0, "begin", oack}, {ms, "ack 0", span{1, 4}},
			{2 * ms, "ack 1", span{2, 5}}, {2 * ms, "ack 1", nothing}, {3 * ms, "ack 1", nothing},
			{4 * ms, "ack 5", span{6, 9}}, {4 * ms, "ack 4", nothing}, {5 * ms, "ack 9", span{10, 13}},
			{6 * ms, "ack 13", nothing},
		}, true, false, ""},
		{"first block of a window lost, edk2 repeats its last ACK", terms{block: 512, window: 4, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {ms, "ack 0", span{1, 4}}, {2 * ms, "ack 4", span{5, 8}},
			{3 * ms, "ack 4", nothing}, {3 * ms, "ack 4", nothing},
			{251 * ms, "tick", nothing}, {252 * ms, "tick", span{5, 8}}, {253 * ms, "ack 8", span{9, 10}},
		}, false, false, ""},
		{"C61, RFC 1123 section 4.2.3.2, resends double from 250 ms to 5 s", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {ms, "ack 1", span{2, 2}},
			{250 * ms, "tick", nothing}, {251 * ms, "tick", span{2, 2}},
			{750 * ms, "tick", nothing}, {751 * ms, "tick", span{2, 2}},
			{1751 * ms, "tick", span{2, 2}}, {3751 * ms, "tick", span{2, 2}},
			{7751 * ms, "tick", span{2, 2}}, {12751 * ms, "tick", span{2, 2}},
			{17750 * ms, "tick", nothing}, {17751 * ms, "tick", nothing},
		}, true, false, "client does not answer"},
		{"three round trips where they are long", terms{block: 512, window: 1, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {200 * ms, "ack 0", span{1, 1}},
			{799 * ms, "tick", nothing}, {800 * ms, "tick", span{1, 1}},
		}, false, false, ""},
		{"Karn: no round trip of what was sent twice", terms{block: 512, window: 1, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {1000 * ms, "tick", oack}, {1001 * ms, "ack 0", span{1, 1}},
			{2000 * ms, "tick", nothing}, {2001 * ms, "tick", span{1, 1}},
		}, false, false, ""},
		{"30 s without progress end it", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {900 * ms, "ack 1", span{2, 2}}, // waits 2.7 s
			{3600 * ms, "tick", span{2, 2}}, {8600 * ms, "tick", span{2, 2}}, {13600 * ms, "tick", span{2, 2}},
			{18600 * ms, "tick", span{2, 2}}, {23600 * ms, "tick", span{2, 2}}, {28600 * ms, "tick", span{2, 2}},
			{30899 * ms, "tick", nothing}, {30900 * ms, "tick", nothing},
		}, true, false, "client does not answer"},
		{"progress forgives resends", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {1000 * ms, "tick", span{1, 1}}, {3000 * ms, "tick", span{1, 1}}, {7000 * ms, "tick", span{1, 1}},
			{7001 * ms, "ack 1", span{2, 2}}, {8000 * ms, "tick", nothing}, {8001 * ms, "tick", span{2, 2}},
		}, false, false, ""},
		{"nobody there: three resends", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {999 * ms, "tick", nothing}, {1000 * ms, "tick", span{1, 1}},
			{3000 * ms, "tick", span{1, 1}}, {7000 * ms, "tick", span{1, 1}}, {11999 * ms, "tick", nothing}, {12000 * ms, "tick", nothing},
		}, true, false, "client does not answer"},
		{"nobody there, small file: still no success", terms{block: 512, window: 1}, 5, []step{
			{0, "begin", span{1, 1}}, {1000 * ms, "tick", span{1, 1}}, {3000 * ms, "tick", span{1, 1}},
			{7000 * ms, "tick", span{1, 1}}, {12000 * ms, "tick", nothing},
		}, true, false, "client does not answer"},
		{"last ACK missing: three resends, no failure", terms{block: 512, window: 4, oack: []byte{0}}, 700, []step{
			{0, "begin", oack}, {ms, "ack 0", span{1, 2}}, {251 * ms, "tick", span{1, 2}}, {751 * ms, "tick", span{1, 2}},
			{1751 * ms, "tick", span{1, 2}}, {3750 * ms, "tick", nothing}, {3751 * ms, "tick", nothing},
		}, true, false, ""},
		{"C66, repeats get the answer again, at most as long as resends", terms{block: 512, window: 1, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {10 * ms, "repeat", oack}, {20 * ms, "repeat", oack}, {999 * ms, "tick", nothing},
			{1000 * ms, "tick", oack}, {1001 * ms, "ack 0", span{1, 1}}, {1002 * ms, "repeat", nothing},
		}, false, false, ""},
		{"C66 without options", terms{block: 512, window: 1}, 5000, []step{
			{0, "begin", span{1, 1}}, {10 * ms, "repeat", span{1, 1}}, {11 * ms, "ack 1", span{2, 2}}, {12 * ms, "repeat", nothing},
		}, false, false, ""},
		{"C65, probe with ERROR 8", terms{block: 512, window: 1, tsize: true, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {0, "error 8", nothing}, {0, "ack 0", nothing}, {2000 * ms, "tick", nothing}, {0, "repeat", nothing},
		}, true, true, ""},
		{"C65, probe with ERROR 0", terms{block: 512, window: 1, tsize: true, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {0, "error 0", nothing},
		}, true, true, ""},
		{"abort under way is no probe", terms{block: 512, window: 1, tsize: true, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {0, "ack 0", span{1, 1}}, {0, "error 8", nothing},
		}, true, false, `client sent error 8 "text"`},
		{"options refused is no probe", terms{block: 512, window: 1, oack: []byte{0}}, 5000, []step{
			{0, "begin", oack}, {0, "error 8", nothing},
		}, true, false, `client sent error 8 "text"`},
		{"after the end", terms{block: 512, window: 1}, 5, []step{
			{0, "begin", span{1, 1}}, {0, "ack 1", nothing}, {0, "ack 1", nothing}, {0, "error 0", nothing}, {time.Hour, "tick", nothing},
		}, true, false, ""},
	} {
		tr := newTransfer(tt.terms, tt.size)
		epoch := time.Unix(1e9, 0)
		for i, s := range tt.steps {
			if got := s.play(t, tr, epoch); got != s.want {
				t.Errorf("%s: step %d, %s at %v: got %v, want %v", tt.name, i, s.what, s.at, got, s.want)
			}
		}
		text := ""
		if tr.err != nil {
			text = tr.err.Error()
		}
		if tr.over != tt.over || tr.probed != tt.probed || text != tt.err {
			t.Errorf("%s: got over %v, probed %v, error %q, want %v, %v, %q", tt.name, tr.over, tr.probed, text, tt.over, tt.probed, tt.err)
		}
	}
}

// Block numbers wrap to 0, and windows lie across that (C69).
func TestTransferWraps(t *testing.T) {
	tr := newTransfer(terms{block: 8, window: 16, oack: []byte{0}}, 200_000*8)
	now := time.Unix(1e9, 0)
	tr.begin(now)
	got := tr.ack(now, 0)
	for want := int64(1); want <= 200_001; want += 16 {
		if w := (span{want, min(want+15, 200_001)}); got != w {
			t.Fatalf("got %v, want %v", got, w)
		}
		got = tr.ack(now, uint16(got.last))
	}
	if !tr.over || tr.err != nil {
		t.Errorf("got over %v, %v, want it done", tr.over, tr.err)
	}
}

// Whatever comes, in whatever order: each distinct ACK number is answered once,
// with one window, inside the file.
func FuzzTransfer(f *testing.F) {
	f.Add([]byte{1, 0, 1, 4, 1, 1, 2, 200, 3, 0}, uint8(4), uint16(30))
	f.Add([]byte{2, 255, 2, 255, 2, 255, 2, 255}, uint8(1), uint16(0))
	f.Fuzz(func(t *testing.T, script []byte, window uint8, size uint16) {
		terms := terms{block: 8, window: 1 + int(window)%64, oack: []byte{0}}
		tr := newTransfer(terms, int64(size))
		now := time.Unix(1e9, 0)
		tr.begin(now)
		for i := 0; i+1 < len(script); i += 2 {
			var got span
			acked := tr.acked
			switch script[i] % 4 {
			case 0:
				tr.abort(uint16(script[i+1]), "")
			case 1:
				got = tr.ack(now, uint16(acked)+uint16(script[i+1])-8)
				if got != nothing && tr.acked <= acked {
					t.Errorf("ACK without progress: got %v, want nothing", got)
				}
			case 2:
				now = now.Add(time.Duration(script[i+1]) * 100 * time.Millisecond)
				got = tr.tick(now)
			case 3:
				got = tr.repeat(now)
			}
			if got.last-got.first >= int64(terms.window) || got.last > tr.last || got.first < 0 {
				t.Errorf("got %v of %d blocks, want a window of %d", got, tr.last, terms.window)
			}
			if tr.acked > tr.sent || tr.sent > tr.last {
				t.Errorf("got %d acked, %d sent, %d in all", tr.acked, tr.sent, tr.last)
			}
			if !tr.over && tr.deadline.Sub(tr.progress) > maxSilence {
				t.Errorf("got a deadline %v after progress", tr.deadline.Sub(tr.progress))
			}
		}
	})
}
