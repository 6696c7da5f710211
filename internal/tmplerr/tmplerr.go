// Package tmplerr says in words what is wrong with a text/template.
//
// The errors of that package are texts, made for those who write Go: they name
// types of the program. What they say of place and cause is taken out of them;
// one of a form that is not known is left as it is. It keeps no state.
package tmplerr

import (
	"fmt"
	"regexp"
	"strconv"
)

// A Fault is what is wrong with a template.
type Fault struct {
	Template     string // its name; empty: the error does not say
	Line, Column int    // from one; zero: not known
	Problem      string // may quote the template
}

// The forms of the errors.
var (
	at        = regexp.MustCompile(`^template: ([^:]*):(\d+)(?::(\d+))?: (.*)$`)
	executing = regexp.MustCompile(`^executing ".*?" at <(.*?)>: (.*)$`)
	field     = regexp.MustCompile(`^can't evaluate field (\S+) in type .*$`)
)

// Of returns what an error of Parse or Execute says.
func Of(err error) Fault {
	m := at.FindStringSubmatch(err.Error())
	if m == nil {
		return Fault{Problem: err.Error()}
	}
	f := Fault{Template: m[1], Problem: m[4]}
	f.Line, _ = strconv.Atoi(m[2])
	if column, err := strconv.Atoi(m[3]); err == nil {
		f.Column = column + 1 // text/template counts from zero
	}
	if m := executing.FindStringSubmatch(f.Problem); m != nil {
		f.Problem = m[1] + ": " + field.ReplaceAllString(m[2], "there is no $1")
	}
	return f
}

// String returns the place in a text that has no name, and the problem, such as
// "character 5: .Nope: there is no Nope".
func (f Fault) String() string {
	where := ""
	if f.Line > 1 {
		where = fmt.Sprintf("line %d: ", f.Line)
	}
	if f.Column > 0 {
		where += fmt.Sprintf("character %d: ", f.Column)
	}
	return where + f.Problem
}
