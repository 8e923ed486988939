package sessionhttp

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Public serves what browsers reach: refresh, sign-out, the registration and the proof of a device's
// key, the public keys and, if they are enabled, the calls of users for their own sessions; the echo for
// the doctor alone; and 404 for everything else. Bodies are ignored; net/http drains a small one and closes the connection after a large one.
// Public checks the configuration.
func Public(engine *sessions.Engine, cfg Config) (http.Handler, error) {
	s, err := newServer(engine, cfg)
	if err != nil {
		return nil, err
	}
	p := &public{s}
	cfg.Binding = s.cfg.Binding
	p.answerMax, p.vary = sessions.AnswerWithin(cmp.Or(cfg.RefreshAttemptMax, Defaults().RefreshAttemptMax)), varied
	routes := map[string]methods{
		cfg.RefreshPath: {http.MethodPost: p.refresh},
		cfg.SignoutPath: {http.MethodPost: p.signOut},
		JWKSPath:        {http.MethodGet: p.jwks},

		// They answer whatever the mode is: sessions that are bound stay bound.
		cfg.Binding.BindPath:  {http.MethodPost: p.bind},
		cfg.Binding.BoundPath: {http.MethodPost: p.proof},
	}
	if at := DoctorPath(cfg.Cookies.AuthPath); routes[at] == nil { // the refresh may have that path
		routes[at] = methods{http.MethodGet: p.doctor}
	}
	var one methods // nil: no session has a path
	if cfg.OwnSessions.Enabled {
		one = p.ownRoutes(routes)
	}
	// No ServeMux: it would redirect an unclean path, and the redirected POST would be a
	// refresh that no client asked for.
	return p.wrap(func(w http.ResponseWriter, r *http.Request) error {
		if m, ok := routes[r.URL.Path]; ok {
			r.Pattern = r.URL.Path
			return m.serve(w, r)
		}
		if id, below := strings.CutPrefix(r.URL.Path, cfg.ownPath()+"/"); below && one != nil {
			r.Pattern = cfg.ownPath() + "/{handle}"
			r.SetPathValue("handle", id)
			return one.serve(w, r)
		}
		return denyNoRoute
	}), nil
}

// varied are the headers of a client on which the answers depend.
const varied = "Cookie, Authorization, St-Auth-Mode, Anti-Csrf, Origin, Referer, Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Sec-Purpose, User-Agent, X-Forwarded-Proto, " +
	browser.HeaderProof + ", " + browser.HeaderSessionID + ", " + browser.HeaderSkipped

type public struct{ server }
