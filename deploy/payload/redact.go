package payload

import (
	"strings"

	"bootd/internal/node"
)

// minSecret is the shortest secret that is looked for in a text: shorter ones
// are found everywhere by chance.
const minSecret = 6

// RedactSecrets replaces the secrets of a payload in a text by their names.
// Secrets whose files cannot be read now were not given out either.
func RedactSecrets(p node.Payload, text string) string {
	for name, file := range p.Secrets {
		secret, err := ReadSecret(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(secret) {
			if line = strings.TrimSpace(line); len(line) >= minSecret {
				text = strings.ReplaceAll(text, line, "<secret:"+name+">")
			}
		}
	}
	return text
}
