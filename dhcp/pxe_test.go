package dhcp

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// golden sends a captured packet and returns the reply.
func (b *bench) golden(name string, change ...func([]byte)) *sent {
	b.t.Helper()
	p := vector(b.t, name)
	for _, f := range change {
		f(p)
	}
	r := b.askBytes(p)
	if r == nil {
		b.t.Fatalf("%s: got silence, want a reply", name)
	}
	return r
}

// setOption overwrites the value of an option in a packet, which has to have
// that length.
func setOption(code byte, value ...byte) func([]byte) {
	return func(p []byte) {
		for i := headerLen; p[i] != 255; i += 2 + int(p[i+1]) {
			if p[i] == code {
				copy(p[i+2:], value)
				return
			}
		}
		panic("option not in the vector")
	}
}

// bootFile returns the boot file as option 67 and as the header say it.
func bootFile(r *sent) (option, header string) {
	return string(r.Options.Get(dhcpv4.OptionBootfileName)), r.BootFileName
}

// wantFile checks what has to hold of every reply that names a file: header
// and options agree, and the options end in a counted NUL.
func wantFile(t *testing.T, name string, r *sent, want string) {
	t.Helper()
	option, header := bootFile(r)
	if option != want+"\x00" || header != want {
		t.Errorf("%s: boot file got option %q header %q, want %q in both", name, option, header, want)
	}
	if addrOf(r.ServerIPAddr) != serverAddr || string(r.Options.Get(dhcpv4.OptionTFTPServerName)) != serverAddr.String()+"\x00" {
		t.Errorf("%s: siaddr %v, option 66 %q, want %v in both", name, r.ServerIPAddr, r.Options.Get(dhcpv4.OptionTFTPServerName), serverAddr)
	}
}

// PXE 2.1; RFC 4578, sections 2.1 to 2.3.
func TestC42FirmwareOffer(t *testing.T) {
	one(t, func(b *bench) {
		offer := b.golden("ovmf_pxe_discover")
		wantFile(t, "offer", offer, "snponly.efi")
		if offer.Options.Has(dhcpv4.OptionClassIdentifier) {
			t.Error("offer has option 60, which sends edk2 to port 4011")
		}
		in, _ := dhcpv4.FromBytes(vector(t, "ovmf_pxe_discover"))
		if got, want := offer.Options.Get(dhcpv4.OptionClientMachineIdentifier), in.Options.Get(dhcpv4.OptionClientMachineIdentifier); !bytes.Equal(got, want) {
			t.Errorf("option 97 got %x, want %x", got, want)
		}
		if e := b.step(timeline.Discover); e.Stage != timeline.Firmware || e.Arch != "x64-efi" {
			t.Errorf("event got stage %q arch %q, want firmware x64-efi", e.Stage, e.Arch)
		}
		addr := yiaddr(offer).As4()
		ack := b.golden("ovmf_pxe_request", setOption(50, addr[:]...))
		if ack.MessageType() != dhcpv4.MessageTypeAck {
			t.Fatalf("got %v, want ACK", ack.MessageType())
		}
		wantFile(t, "ack", ack, "snponly.efi")
	})
}

// IANA, Processor Architecture Types.
func TestC43Architectures(t *testing.T) {
	for arch, want := range map[byte]string{0: "undionly.kpxe", 7: "snponly.efi", 9: "snponly.efi", 11: "", 27: "", 0xff: ""} {
		one(t, func(b *bench) {
			r := b.golden("ovmf_pxe_discover", setOption(93, 0, arch))
			if _, header := bootFile(r); header != want {
				t.Errorf("architecture %d: got file %q, want %q", arch, header, want)
			}
		})
	}
}

func TestC44MachineIdentifiers(t *testing.T) {
	for _, id := range [][]byte{{}, {0}, bytes.Repeat([]byte{0x44}, 16), append([]byte{5}, make([]byte, 16)...)} {
		one(t, func(b *bench) { b.must(discover(m1, with(97, id...)), dhcpv4.MessageTypeOffer) })
	}
}

// The first three fields of a GUID are little-endian.
func TestUUIDOfOption97(t *testing.T) {
	var r request
	if err := r.parse(vector(t, "ovmf_pxe_discover")); err != nil {
		t.Fatal(err)
	}
	if got := r.Client.UUID.String(); got != "11223344-5566-7788-99aa-bbccddeeff00" {
		t.Errorf("got %s, want 11223344-5566-7788-99aa-bbccddeeff00", got)
	}
}

// UEFI 2.10, section 24.7.
func TestC45HTTPBoot(t *testing.T) {
	one(t, func(b *bench) {
		r := b.golden("ovmf_http_discover")
		if got := r.ClassIdentifier(); !strings.HasPrefix(got, "HTTPClient") {
			t.Errorf("option 60 got %q, want HTTPClient", got)
		}
		wantFile(t, "offer", r, "http://10.77.0.1/boot/snponly.efi")
	})
}

func TestC46C47C48IPXE(t *testing.T) {
	const script = "http://10.77.0.1/boot/script.ipxe"
	check := func(t *testing.T, name string, r *sent) {
		t.Helper()
		wantFile(t, name, r, script)
		if got := r.Options.Get(dhcpv4.GenericOptionCode(optIPXE)); !bytes.Equal(got, []byte{0xb0, 1, 1}) {
			t.Errorf("%s: option 175 got %x, want b00101", name, got)
		}
	}
	one(t, func(b *bench) {
		check(t, "2019", b.golden("ipxe2019_efi_discover"))
		check(t, "2026", b.golden("ipxe2026_efi_discover"))
		bios := []dhcpv4.Modifier{with(60, []byte("PXEClient:Arch:00000:UNDI:002001")...), with(93, 0, 0)}
		check(t, "BIOS", b.must(discover(m1, append(bios, with(77, []byte("iPXE")...))...), dhcpv4.MessageTypeOffer))
		check(t, "C47 short class", b.must(discover(m1, with(60, []byte("PXEClient")...), with(77, []byte("iPXE")...)), dhcpv4.MessageTypeOffer))
		check(t, "C48 RFC 3004 list", b.must(discover(m1, with(77, []byte("\x03abc\x04iPXE")...)), dhcpv4.MessageTypeOffer))
		check(t, "option 175 alone", b.must(discover(m1, append(bios, with(175, 19, 1, 1))...), dhcpv4.MessageTypeOffer))
	})
}

// The values are those of the Raspberry Pi's documentation and of dnsmasq's
// pxe-service=0,"Raspberry Pi Boot".
func TestC54RaspberryPi(t *testing.T) {
	pi := node.MAC{0xdc, 0xa6, 0x32, 1, 2, 3}
	class := with(60, []byte("PXEClient:Arch:00000:UNDI:002001")...)
	guid := func(s string) dhcpv4.Modifier { return with(97, []byte("\x00"+s)...) }
	tests := []struct {
		name string
		mac  node.MAC
		mods []dhcpv4.Modifier
		pi   bool
	}{
		{"by MAC", pi, []dhcpv4.Modifier{class, with(93, 0, 0)}, true},
		{"Pi 3 by GUID", m1, []dhcpv4.Modifier{class, with(93, 0, 0), guid(strings.Repeat("\x44", 16))}, true},
		{"Pi 4 by GUID", m1, []dhcpv4.Modifier{class, with(93, 0, 0), guid("RPi4" + strings.Repeat("\x01", 12))}, true},
		{"a BIOS", m1, []dhcpv4.Modifier{class, with(93, 0, 0)}, false},
		{"UEFI on a Pi", pi, []dhcpv4.Modifier{with(60, []byte("PXEClient:Arch:00011")...), with(93, 0, 11)}, false},
		{"iPXE on a Pi", pi, []dhcpv4.Modifier{class, with(93, 0, 11), with(77, []byte("iPXE")...)}, false},
		{"Linux on a Pi", pi, nil, false},
	}
	for _, tt := range tests {
		one(t, func(b *bench) {
			offer := b.must(discover(tt.mac, tt.mods...), dhcpv4.MessageTypeOffer)
			checkPi(t, tt.name, offer, tt.pi)
			if tt.pi { // a Pi 4 says nothing of itself in its REQUEST
				checkPi(t, tt.name+", ack", b.must(selecting(tt.mac, yiaddr(offer), dhcpv4.WithTransactionID(offer.TransactionID)), dhcpv4.MessageTypeAck), tt.mac == pi)
				if e := b.step(timeline.Discover); e.Arch != "rpi" {
					t.Errorf("%s: event got arch %q, want rpi", tt.name, e.Arch)
				}
			}
		})
	}
}

func checkPi(t *testing.T, name string, r *sent, want bool) {
	t.Helper()
	const menu = "\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff"
	if got := string(r.Options.Get(dhcpv4.OptionVendorSpecificInformation)) == menu; got != want {
		t.Errorf("%s: option 43 got %q, want the menu: %v", name, r.Options.Get(dhcpv4.OptionVendorSpecificInformation), want)
	}
	if !want {
		return
	}
	wantFile(t, name, r, "bootcode.bin") // with siaddr and option 66
	if got := r.ClassIdentifier(); got != "PXEClient" {
		t.Errorf("%s: option 60 got %q, want PXEClient", name, got)
	}
}

// named offers a file of any length.
type named struct {
	fixed
	file string
}

func (n named) Boot(Client, netip.Addr) Boot { return Boot{File: n.file} }

func TestC49LongURL(t *testing.T) {
	url := "http://10.77.0.1/" + strings.Repeat("x", 183)
	run(t, []Subnet{testSubnet()}, named{file: url}, func(b *bench) {
		option, header := bootFile(b.golden("ipxe2019_efi_discover"))
		if option != url+"\x00" || header != "" {
			t.Errorf("got option %d bytes, header %q, want the whole URL in 67 and an empty header", len(option), header)
		}
	})
}

// PXE 2.1, section 2.2.1.
func TestC50PXEPort(t *testing.T) {
	one(t, func(b *bench) {
		client := netip.MustParseAddrPort("10.77.0.107:4011")
		r := b.exchange(b.pxe, inboundPacket{b: vector(t, "ovmf_pxe_request_4011"), from: client, to: serverAddr})
		if r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
			t.Fatalf("got %v, want ACK", r)
		}
		wantFile(t, "ack", r, "snponly.efi")
		if r.to != client || r.fromPort != 4011 || yiaddr(r).IsValid() || r.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
			t.Errorf("to %v from port %d yiaddr %v, want to %v from 4011 without a lease", r.to, r.fromPort, r.YourIPAddr, client)
		}
		if r.ClassIdentifier() != "PXEClient" || addrOf(r.Options.Get(dhcpv4.OptionServerIdentifier)) != serverAddr {
			t.Errorf("option 60 %q, option 54 %v, want PXEClient and %v", r.ClassIdentifier(), r.Options.Get(dhcpv4.OptionServerIdentifier), serverAddr)
		}
		if got := r.Options.Get(dhcpv4.OptionVendorSpecificInformation); !bytes.Equal(got, []byte{6, 1, 8, 255}) {
			t.Errorf("option 43 got %x, want 060108ff", got)
		}
		plain := inboundPacket{b: message(m1, dhcpv4.MessageTypeRequest).ToBytes(), from: client, to: serverAddr}
		if r := b.exchange(b.pxe, plain); r != nil {
			t.Errorf("no PXE client on 4011: got %v, want silence", r.MessageType())
		}
	})
}

// A plain system, and a BMC, are told nothing of booting.
func TestSystemGetsNoBootFile(t *testing.T) {
	one(t, func(b *bench) {
		r := b.must(discover(m1, with(55, 66, 67)), dhcpv4.MessageTypeOffer)
		if option, header := bootFile(r); option != "" || header != "" || addrOf(r.ServerIPAddr).IsValid() {
			t.Errorf("got file %q %q siaddr %v, want none", option, header, r.ServerIPAddr)
		}
	})
}

// A reload between OFFER and ACK must not give a client half of each answer.
func TestOfferAndAckNameTheSameFile(t *testing.T) {
	run(t, []Subnet{testSubnet()}, named{file: "old.efi"}, func(b *bench) {
		addr := yiaddr(b.golden("ovmf_pxe_discover")).As4()
		b.server.Configure([]Subnet{testSubnet()}, nil, named{file: "new.efi"})
		wantFile(t, "ack", b.golden("ovmf_pxe_request", setOption(50, addr[:]...)), "old.efi")
	})
}

func TestReservation(t *testing.T) {
	mine := netip.MustParseAddr("10.77.0.11") // outside the pool
	pooled := netip.MustParseAddr("10.77.0.100")
	m3 := node.MAC{0x52, 0x54, 0, 0, 0, 3}
	run(t, []Subnet{testSubnet()}, fixed{m1: mine, m2: pooled}, func(b *bench) {
		if got := b.lease(m1); got != mine {
			t.Errorf("reserved outside the pool: got %v, want %v", got, mine)
		}
		if got := yiaddr(b.must(discover(m3, withAddr(50, pooled)), dhcpv4.MessageTypeOffer)); got == pooled {
			t.Errorf("stranger got the address reserved for another machine")
		}
		b.must(rebooting(m3, pooled), dhcpv4.MessageTypeNak)
		if got := b.lease(m2); got != pooled {
			t.Errorf("reserved inside the pool: got %v, want %v", got, pooled)
		}
		if got := b.must(discover(m1, with(55, 12)), dhcpv4.MessageTypeOffer).HostName(); got != "ncn-m001" {
			t.Errorf("host name got %q, want ncn-m001", got)
		}
	})
}

// A node that gets a reservation is moved to it when it next asks.
func TestNewReservationMovesClient(t *testing.T) {
	mine := netip.MustParseAddr("10.77.0.11")
	run(t, []Subnet{testSubnet()}, fixed{}, func(b *bench) {
		before := b.lease(m1)
		b.server.Configure([]Subnet{testSubnet()}, nil, fixed{m1: mine})
		b.must(renewing(m1, before), dhcpv4.MessageTypeNak)
		if got := b.lease(m1); got != mine {
			t.Errorf("after the reservation: got %v, want %v", got, mine)
		}
		if _, ok := b.server.Leases.ByAddr(before); ok || b.disk.len() != 1 {
			t.Errorf("former address %v still has a record", before)
		}
	})
}

func TestRecordRoundTrip(t *testing.T) {
	one(t, func(b *bench) {
		b.lease(m1, with(61, 1, 2, 3), with(12, []byte("host\x1b[31m")...))
		b.lease(m2)
		before := b.server.Leases.All()
		b.stop()
		b.start([]Subnet{testSubnet()}, fixed{})
		after := b.server.Leases.All()
		if len(after) != 2 {
			t.Fatalf("leases after a restart: got %d, want 2", len(after))
		}
		for i := range after {
			w, g := before[i], after[i]
			if g.Addr != w.Addr || g.MAC != w.MAC || g.ClientID != w.ClientID || g.Hostname != w.Hostname || g.Expires.Unix() != w.Expires.Unix() {
				t.Errorf("got %+v, want %+v", g, w)
			}
		}
	})
}

// Whatever parses is answered with a packet that the codec of others reads.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"ovmf_pxe_discover", "ovmf_http_request", "ipxe2026_efi_request", "ovmf_pxe_request_4011"} {
		f.Add(vector(f, name))
	}
	sub := testSubnet()
	f.Fuzz(func(t *testing.T, b []byte) {
		var r request
		if r.parse(b) != nil {
			return
		}
		r.link = newLink(nowhere{}, "eth0", ServerPort)
		var p reply
		p.start(&r, Offer, serverAddr)
		p.addLease(&r, &sub, serverAddr, time.Hour)
		p.addNetwork(&r, &sub, "ncn-m001")
		p.addBoot(&r, serverAddr, Boot{File: "snponly.efi"})
		out := p.marshal(&r)
		if len(out) < minReply || len(out) > maxReply {
			t.Errorf("reply of %d bytes, want %d to %d", len(out), minReply, maxReply)
		}
		if _, err := dhcpv4.FromBytes(out); err != nil {
			t.Errorf("reply does not parse: %v", err)
		}
	})
}

// Our reading of the captures agrees with that of another codec.
func TestParseAgreesWithCodec(t *testing.T) {
	files, err := filepath.Glob("../testdata/vectors/*_[dr]*.hex")
	if err != nil || len(files) < 7 {
		t.Fatalf("vectors: %v, %v", files, err)
	}
	for _, file := range files {
		b := vector(t, strings.TrimSuffix(filepath.Base(file), ".hex"))
		want, err := dhcpv4.FromBytes(b)
		if err != nil || want.OpCode != dhcpv4.OpcodeBootRequest {
			continue // a TFTP packet, or a reply
		}
		var r request
		if err := r.parse(b); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if r.Type.String() != want.MessageType().String() || !bytes.Equal(r.xid[:], want.TransactionID[:]) || !bytes.Equal(r.MAC[:], want.ClientHWAddr) {
			t.Errorf("%s: got type %v xid %x mac %v, want %v", file, r.Type, r.xid, r.MAC, want.Summary())
		}
		for code, value := range want.Options {
			if got := r.opts.get(code); !bytes.Equal(got, value) {
				t.Errorf("%s: option %d: got %x, want %x", file, code, got, value)
			}
		}
		if len(r.opts) != len(want.Options) {
			t.Errorf("%s: got %d options, want %d", file, len(r.opts), len(want.Options))
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := record{addr: number(serverAddr), key: key{1, macID(m1)}, state: Bound, start: 1, expires: 2}
	f.Add(r.append(nil, said{"x", "y"}))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, s, err := decodeRecord(1, value)
		if err != nil {
			return
		}
		again, said, err := decodeRecord(1, r.append(nil, s))
		if err != nil || again != r || said != s {
			t.Errorf("got %+v and %q, want %+v and %q (%v)", again, said, r, s, err)
		}
	})
}
