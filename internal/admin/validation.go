package admin

import (
	"context"
	"net/http"
	"time"

	"bootd/deploy/validate"
)

// A Validation is what a node said of itself, beside what its role expects.
type Validation struct {
	Node   string           `json:"node"`
	Role   string           `json:"role"`
	At     time.Time        `json:"at,omitzero"` // of the report; zero: there is none
	OK     bool             `json:"ok"`
	Checks []validate.Check `json:"checks"`
}

// Validations is the part of a Backend about them.
type Validations interface {
	// Validations returns those of a node, or of all nodes whose role expects
	// something. It wraps ErrUnknown when there is no such node.
	Validations(node string) ([]Validation, error)
}

func validationRoutes(mux *http.ServeMux, b Validations) {
	mux.HandleFunc("GET /v1/validations", func(w http.ResponseWriter, _ *http.Request) {
		list, err := b.Validations("")
		answer(w, list, err)
	})
	mux.HandleFunc("GET /v1/validations/{node}", func(w http.ResponseWriter, r *http.Request) {
		list, err := b.Validations(r.PathValue("node"))
		answer(w, list, err)
	})
}

// Validations asks what was found of a node, or of all when it is empty. The
// error wraps ErrUnknown when there is no such node.
func (c *Client) Validations(ctx context.Context, node string) (list []Validation, err error) {
	path := "/v1/validations"
	if node != "" {
		if path, err = pathOf(path+"/", node); err != nil {
			return nil, err
		}
	}
	return list, c.get(ctx, path, &list)
}
