package sessionhttp

import (
	_ "embed"
	"net/http"
	"path"

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

func (a *api) describe(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openapi)
	return nil
}
