package sessionhttp

import (
	"cmp"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
)

// Public serves what browsers reach: refresh, sign-out and the public keys, the echo for the doctor
// alone, and 404 for everything else. Bodies are ignored; net/http drains a small one and closes the
// connection after a large one. Public checks the configuration.
func Public(engine *sessions.Engine, cfg Config) (http.Handler, error) {
	s, err := newServer(engine, cfg)
	if err != nil {
		return nil, err
	}
	p := &public{s}
	p.answerMax, p.vary = sessions.AnswerWithin(cmp.Or(cfg.RefreshAttemptMax, Defaults().RefreshAttemptMax)), varied
	routes := map[string]methods{
		cfg.RefreshPath: {http.MethodPost: p.refresh},
		cfg.SignoutPath: {http.MethodPost: p.signOut},
		JWKSPath:        {http.MethodGet: p.jwks},
	}
	if at := DoctorPath(cfg.Cookies.AuthPath); routes[at] == nil { // the refresh may have that path
		routes[at] = methods{http.MethodGet: p.doctor}
	}
	// No ServeMux: it would redirect an unclean path, and the redirected POST would be a
	// refresh that no client asked for.
	return p.wrap(func(w http.ResponseWriter, r *http.Request) error {
		m, ok := routes[r.URL.Path]
		if !ok {
			return denyNoRoute
		}
		r.Pattern = r.URL.Path
		return m.serve(w, r)
	}), nil
}

// varied are the headers of a client on which the answers of refresh and sign-out
// depend.
const varied = "Cookie, Authorization, St-Auth-Mode, Origin, Referer, Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Sec-Purpose, User-Agent, X-Forwarded-Proto"

type public struct{ server }
