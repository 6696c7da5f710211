package bmc

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Console is a console of conman.conf that is reached over IPMI.
type Console struct {
	Name     string // such as "ncn-m002-mgmt"
	Host     string // address or name of its BMC
	User     string // empty: none given
	Password Secret
}

// ReadConman reads the consoles with dev="ipmi:HOST" out of a conman.conf
// (conman.conf(5)): the words of a line may be in any order and in either kind
// of quotes, keywords in either case, and a line ending in a backslash goes on
// in the next. A global ipmiopts is what consoles have that give none. Other
// consoles are passed over. The error joins a *LineError for each bad line,
// named by its last part; the other consoles are returned with it.
func ReadConman(r io.Reader) ([]Console, error) {
	var (
		consoles []Console
		global   string
		begun    string
	)
	err := eachLine(r, func(line string) error {
		if before, more := strings.CutSuffix(line, `\`); more {
			begun += before
			return nil
		}
		words, err := conmanWords(begun + line)
		begun = ""
		if err != nil || len(words) == 0 {
			return err
		}
		switch set := settings(words[1:]); strings.ToLower(words[0]) {
		case "global":
			if opts, ok := set["ipmiopts"]; ok {
				global = opts
			}
		case "console":
			c, ok, err := parseConsole(set, global)
			if ok {
				consoles = append(consoles, c)
			}
			return err
		}
		return nil
	})
	return consoles, err
}

// parseConsole reports with ok whether this is a console over IPMI.
func parseConsole(set map[string]string, global string) (c Console, ok bool, err error) {
	host, ok := strings.CutPrefix(set["dev"], "ipmi:")
	switch {
	case set["dev"] == "":
		return c, false, errors.New("console: no dev")
	case !ok:
		return c, false, nil
	case set["name"] == "":
		return c, false, errors.New("console: no name")
	case host == "":
		return c, false, fmt.Errorf("console %q: dev: %q has no host", set["name"], set["dev"])
	}
	c = Console{Name: set["name"], Host: host}
	opts, own := set["ipmiopts"]
	if !own {
		opts = global
	}
	for _, opt := range strings.Split(opts, ",") {
		switch key, value, _ := strings.Cut(strings.TrimSpace(opt), ":"); strings.ToUpper(key) {
		case "U":
			c.User = value
		case "P":
			c.Password = NewSecret(value)
		}
	}
	return c, true, nil
}

// settings pairs the words around each equals sign, keywords in lower case.
func settings(words []string) map[string]string {
	set := map[string]string{}
	for i := 0; i+2 < len(words); i++ {
		if words[i+1] == equals {
			set[strings.ToLower(words[i])] = words[i+2]
			i += 2
		}
	}
	return set
}

// equals is the word that stands for an equals sign outside quotes. A quoted
// one is a word too, so this is one that nobody can write.
const equals = "\n="

// conmanWords splits a line at blanks and equals signs outside quotes, removes
// the quotes and stops at a comment.
func conmanWords(line string) (words []string, err error) {
	var word strings.Builder
	quote, begun := rune(0), false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, begun = r, true
		case r == '#':
			end()
			return words, nil
		case r == ' ' || r == '\t' || r == '\r':
			end()
		case r == '=':
			end()
			words = append(words, equals)
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("quote %c is not closed", quote)
	}
	end()
	return words, nil
}
