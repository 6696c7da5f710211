package ipxe

import "bootd/internal/qr"

// maxEFILines is how many lines a QR code may have on the console of UEFI, which
// has 31 at 800 by 600 pixels.
const maxEFILines = 29

// A screenCode is a QR code in lines of iPXE's echo, for the two kinds of
// console.
type screenCode struct{ BIOS, EFI []string }

// QR returns the code of the claim; nil: there is none, or it does not fit.
func (v view) QR() *screenCode {
	if v.Claim == "" {
		return nil
	}
	code, err := qr.Encode(v.Claim)
	if err != nil || code.Size() > maxEFILines+4 {
		return nil
	}
	s := &screenCode{BIOS: code.Halves("${qb:string}", "${qu:string}", "${ql:string}", "${qn:string}")}
	if code.Size() <= maxEFILines {
		s.EFI = code.Modules("${qw:string}", "${qd:string}")
		for i := range s.EFI {
			s.EFI[i] += "${qr:string}"
		}
	}
	return s
}
