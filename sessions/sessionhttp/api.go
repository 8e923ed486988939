package sessionhttp

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sessiongate/sessiongate/sessions"
)

// openapi describes the sessions API (OpenAPI 3.1). A test compares it with the routes and
// with real answers.
//
//go:embed openapi.json
var openapi []byte

// Internal serves the sessions API for backends, and its description at
// /openapi.json. Its API key says which caller sends a request. Internal checks the
// configuration.
func Internal(engine *sessions.Engine, cfg Config) (http.Handler, error) {
	s, err := newServer(engine, cfg)
	if err != nil {
		return nil, err
	}
	a := &api{s}
	mux := http.NewServeMux()
	for pattern, m := range a.routes() {
		mux.Handle(pattern, a.wrap(m.serve))
	}
	mux.Handle("/openapi.json", a.wrap(methods{http.MethodGet: a.describe}.serve))
	mux.Handle("/{$}", a.wrap(methods{http.MethodGet: a.index}.serve))
	nothing := a.wrap(func(http.ResponseWriter, *http.Request) error { return denyNoRoute })
	mux.Handle("/", nothing)
	return CleanPaths(mux, nothing), nil
}

// CleanPaths gives requests whose path is not clean to otherwise. A ServeMux would redirect
// them, and repeat the path and the query in Location and body: a secret that a caller put
// there by mistake would be in the logs of both sides.
func CleanPaths(mux *http.ServeMux, otherwise http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); path.Clean(p) == p {
			mux.ServeHTTP(w, r)
			return
		}
		otherwise.ServeHTTP(w, r)
	})
}

type api struct{ server }

func (a *api) routes() map[string]methods {
	return map[string]methods{
		"/v1/sessions":         {http.MethodPost: a.as(ScopeCreate, a.create)},
		"/v1/sessions/verify":  {http.MethodPost: a.as(ScopeRead, a.verify)},
		"/v1/sessions/refresh": {http.MethodPost: a.as(ScopeUpdate, a.refresh)},
		"/v1/sessions/{handle}": {
			http.MethodGet: a.as(ScopeRead, a.get), http.MethodPatch: a.as(ScopeUpdate, a.update), http.MethodDelete: a.as(ScopeRevoke, a.end),
		},
		"/v1/users/{user_id}/sessions": {http.MethodGet: a.as(ScopeRead, a.list), http.MethodDelete: a.as(ScopeRevoke, a.endUser)},
	}
}

// OpenAPI is the description of the sessions API (OpenAPI 3.1, JSON).
func OpenAPI() []byte { return bytes.Clone(openapi) }

// index tells a person who opens the listener in a browser what is there.
func (a *api) index(w http.ResponseWriter, _ *http.Request) error {
	var text strings.Builder
	text.WriteString("This is sessiongate's internal listener, for backends.\n\n")
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	routes := a.routes()
	for _, pattern := range slices.Sorted(maps.Keys(routes)) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", pattern, routes[pattern].allow())
	}
	_, _ = fmt.Fprint(t, "/openapi.json\tthe description of these\n")
	for _, other := range a.cfg.Beside {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", other[0], other[1])
	}
	_ = t.Flush()
	text.WriteString("\nAll of /v1/ needs an API key: Authorization: Bearer KEY.\n")
	send(w, http.StatusOK, "text/plain; charset=utf-8", []byte(text.String()))
	return nil
}

func (a *api) describe(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openapi)
	return nil
}
