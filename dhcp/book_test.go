package dhcp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A book and its chains do as a map and slices do.
func TestBookAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := newBook()
	chains := []chain{b.newChain(), b.newChain()}
	rows, in, names := make([][]uint32, 2), map[uint32]int{}, map[uint32]string{}
	leave := func(a uint32) {
		if row, ok := in[a]; ok {
			rows[row] = slices.DeleteFunc(rows[row], func(x uint32) bool { return x == a })
			delete(in, a)
		}
	}
	for range 50_000 {
		a, row := 1+rnd.Uint32N(3*slabLen), rnd.IntN(2)
		r := b.ofAddr(a)
		name, known := names[a]
		if known != (r != nil) || known && (b.of(r).hostname != name || b.ofClient(key{id: clientID(a)}) != r) {
			t.Fatalf("address %d: got record %+v, want one: %v, of %q", a, r, known, name)
		}
		switch op := rnd.IntN(5); {
		case !known:
			names[a] = ""
			b.add(record{addr: a, key: key{id: clientID(a)}}, said{})
		case op == 0:
			leave(a)
			delete(names, a)
			b.drop(r)
		case op == 1:
			names[a] = []string{"", "ncn-w001", "ncn-s001"}[rnd.IntN(3)]
			b.hear(r, nil, []byte(names[a]))
		case op == 2:
			leave(a)
			b.unchain(r)
		case op == 3:
			leave(a)
			b.unchain(r)
			b.push(chains[row], r)
			rows[row], in[a] = append(rows[row], a), row
		default:
			leave(a)
			b.unchain(r)
			b.pushFront(chains[row], r)
			rows[row], in[a] = slices.Insert(rows[row], 0, a), row
		}
	}
	for i, c := range chains {
		for r := b.first(c); r != nil; r = b.first(c) {
			if len(rows[i]) == 0 || rows[i][0] != r.addr {
				t.Fatalf("chain %d: got %d, want %d", i, r.addr, rows[i])
			}
			rows[i] = rows[i][1:]
			b.drop(r)
		}
		if len(rows[i]) > 0 {
			t.Errorf("chain %d: got its end, want %d", i, rows[i])
		}
		b.endChain(c)
	}
	if most := ref(3*slabLen + len(chains)); b.used > most || len(b.byAddr) != len(b.byKey) {
		t.Errorf("got %d records for %d addresses and %d clients, want %d at most", b.used, len(b.byAddr), len(b.byKey), most)
	}
}
