package payload

import (
	"fmt"
	"time"

	"bootd/internal/iso9660"
	"bootd/internal/node"
)

// A medium is how the client of a family finds its documents without a network.
type medium struct {
	label string // of a CD beside what boots; empty: it looks at none
	file  string // in the root of the image that boots; empty: named as its first document
}

// media says so for each family whose client looks at all: the label is
// cloud-init's (DataSourceNoCloud), Anaconda's and Talos' own.
var media = map[string]medium{
	node.NoCloud:     {label: "cidata", file: "config.yaml"},
	node.Kairos:      {label: "cidata", file: "config.yaml"},
	node.Autoinstall: {label: "cidata", file: "autoinstall.yaml"},
	node.Kickstart:   {label: "OEMDRV"},
	node.Talos:       {label: "metal-iso"},
}

// Image returns a CD with the documents of a payload, secrets and all: those
// that must be there, and the others where they say something. The same
// documents and time make the same image.
func Image(p node.Payload, d Data, at time.Time) ([]byte, error) {
	label := media[p.Family].label
	if label == "" {
		return nil, fmt.Errorf("clients of family %q look at no CD for their configuration", p.Family)
	}
	docs, err := Render(p, d)
	if err != nil {
		return nil, err
	}
	var files []iso9660.File
	for _, doc := range documents(p) {
		if len(docs[doc.Name]) > 0 || doc.Required || doc.Default != "" {
			files = append(files, iso9660.File{Name: doc.Name, Data: docs[doc.Name]})
		}
	}
	return iso9660.Image(label, at, files)
}

// Baked returns which document of a payload goes into the image of its
// installer, and the path in the image where the installer looks for it.
func Baked(p node.Payload) (document, path string) {
	if names := Documents(p); len(names) > 0 {
		document = names[0]
	}
	if path = media[p.Family].file; path == "" {
		path = document
	}
	return document, path
}
