// Package qr shows a text as a QR code: on a terminal, on the console of a
// machine that runs iPXE, and as a picture. It draws; rsc.io/qr encodes.
//
// A QR code is read as dark on light, so each form draws the light parts too,
// with a margin: the specification asks for four modules (ISO/IEC 18004, 9.1),
// and cameras do with two.
package qr

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// A Code is a text as a square of modules.
type Code struct {
	code   *qr.Code
	margin int // modules
}

// margin is what terminals show, where room is scarce.
const margin = 2

// Encode returns the code of a text, with the least error correction, since a
// screen has no scratches. Capitals, digits and " $%*+-./:" take less room than
// other letters.
func Encode(text string) (Code, error) {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return Code{}, fmt.Errorf("QR code: %d bytes are too long: %w", len(text), err)
	}
	return Code{c, margin}, nil
}

// Size is the number of modules of a side, margins included.
func (c Code) Size() int { return c.code.Size + 2*c.margin }

// dark reports whether a module is dark; everything outside is light.
func (c Code) dark(x, y int) bool { return c.code.Black(x-c.margin, y-c.margin) }

// PNG returns the code as a picture, eight pixels a module, with the whole
// margin.
func (c Code) PNG() []byte { return c.code.PNG() }

// halves are a light pair, light above dark, dark above light, and a dark pair
// of modules, for a screen that is dark where nothing is printed.
type halves [4]string

// pairs draws two rows of modules in one line of text.
func (c Code) pairs(h halves) (lines []string) {
	for y := 0; y < c.Size(); y += 2 {
		var b strings.Builder
		for x := range c.Size() {
			i := 0
			if c.dark(x, y) {
				i |= 2
			}
			if y+1 == c.Size() || c.dark(x, y+1) { // what is below the last row is the screen
				i |= 1
			}
			b.WriteString(h[i])
		}
		lines = append(lines, b.String())
	}
	return lines
}

// Terminal returns the lines of the code in the block elements of Unicode
// (U+2580), white on black whatever the terminal's colours are.
func (c Code) Terminal() []string {
	const whiteOnBlack, reset = "\x1b[97;40m", "\x1b[0m"
	lines := c.pairs(halves{"█", "▀", "▄", " "})
	for i := range lines {
		lines[i] = whiteOnBlack + lines[i] + reset
	}
	return lines
}

// Modules returns the lines of the code with light and dark as given, a line
// per row of modules.
func (c Code) Modules(light, dark string) (lines []string) {
	for y := range c.Size() {
		var b strings.Builder
		for x := range c.Size() {
			if c.dark(x, y) {
				b.WriteString(dark)
			} else {
				b.WriteString(light)
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

// Halves returns the lines of the code with two rows of modules in each, of
// light above light, light above dark, dark above light, and dark above dark.
func (c Code) Halves(both, upper, lower, none string) []string {
	return c.pairs(halves{both, upper, lower, none})
}
