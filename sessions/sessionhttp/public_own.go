package sessionhttp

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// OwnSessions are the calls by which a user sees and ends their own sessions, by an access token and
// without a backend.
type OwnSessions struct {
	Enabled bool
	// ReauthWithin is how long ago the sign-in may be of a session that ends others. A stolen access
	// token brings no sign-in about.
	ReauthWithin time.Duration
}

// LeastReauthWithin is the least that ReauthWithin may be: a user must have the time to choose.
const LeastReauthWithin = time.Minute

// ownMax is how many of their sessions a user is shown.
const ownMax = 100

// ownPath is where the calls are: under AuthPath, as all that sessiongate itself answers.
func (c Config) ownPath() string { return strings.TrimSuffix(c.Cookies.AuthPath, "/") + "/sessions" }

// ownRoutes adds the calls to the routes, and says which methods the path of one session has.
func (p *public) ownRoutes(routes map[string]methods) (one methods) {
	path := p.cfg.ownPath()
	routes[path] = methods{http.MethodGet: p.own(p.listOwn)}
	routes[path+"/end-others"] = methods{http.MethodPost: p.own(p.endOthers)}
	return methods{http.MethodDelete: p.own(p.endOwn)}
}

// ownDenial denies a call of a user as a check would deny a request: 401 where there is no session.
type ownDenial struct{ *sessions.Denial }

// Unwrap is for the log line and the metrics of a denial.
func (d ownDenial) Unwrap() error { return d.Denial }

// tooManyCalls is the rate of a user's calls, told apart from that of refreshes.
type tooManyCalls struct{ *sessions.RateError }

// own admits a call of a user who has a valid access token and means the call.
func (p *public) own(h func(http.ResponseWriter, *http.Request, *sessions.Access) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		access, err := p.caller(r)
		if err == nil {
			subjectOf(r).verified(access)
			err = h(w, r, access)
		}
		var limited *sessions.RateError
		var denial *sessions.Denial
		switch {
		case errors.Is(err, sessions.ErrUnavailable):
			return err
		case errors.As(err, &limited):
			return tooManyCalls{limited}
		case errors.As(err, &denial) && denial.Outcome == sessions.TryRefresh:
			p.pleaseRefresh(w, r, denial)
			return nil
		case errors.As(err, &denial) && denial.Outcome == sessions.Unauthorised:
			return ownDenial{denial}
		default:
			return err
		}
	}
}

// caller is the session of a call, by the rules of a check: the page that sent the call is of this
// origin, or the call repeats the anti-CSRF token, or a script put a token of the other transport in.
func (p *public) caller(r *http.Request) (*sessions.Access, error) {
	if err := p.checkInitiator(r); err != nil {
		return nil, err
	}
	if token := sessionBearer(r); sessions.IsAccessToken(token) {
		access, denial := p.engine.Verify(sessions.TransportHeader, []string{token})
		if denial != nil {
			return nil, denial
		}
		return access, nil
	}
	access, denial := p.engine.Verify(sessions.TransportCookie, cookieValues(r, p.cfg.Cookies.Access()))
	if denial != nil {
		return nil, denial
	}
	switch from := evidence(r).Initiator(p.trust); {
	case from == browser.InitiatorOwn, from == browser.InitiatorUser && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return access, nil
	default: // a page of another site may have made an old browser send the cookies
		if lines := r.Header.Values("Anti-Csrf"); len(lines) != 1 || !access.MatchesAntiCSRF(lines[0]) {
			subjectOf(r).verified(access)
			return nil, denyAntiCSRF
		}
		return access, nil
	}
}

// ownSession is what a user sees of a session: no claims, no data and no token.
type ownSession struct {
	ID        string    `json:"id"`
	Current   bool      `json:"current"`
	CreatedAt time.Time `json:"created_at"`
	LastSeen  time.Time `json:"last_seen"`
	ExpiresAt time.Time `json:"expires_at"`
	Device    *device   `json:"device,omitempty"`
	Bound     bool      `json:"bound,omitempty"` // to its device: a copy of its cookies is worth little
}

type ownList struct {
	Sessions []ownSession `json:"sessions"`
	// More: there are others, which are older.
	More bool `json:"more"`
}

func (p *public) listOwn(w http.ResponseWriter, r *http.Request, access *sessions.Access) error {
	records, more, err := p.engine.ListOwn(r.Context(), access, ownMax)
	if err != nil {
		return err
	}
	answer := ownList{Sessions: make([]ownSession, len(records)), More: more}
	for i, s := range records {
		answer.Sessions[i] = ownSession{
			ID: s.Handle.String(), Current: s.Handle == access.Handle, CreatedAt: s.CreatedAt.UTC(),
			LastSeen: s.LastSeen().UTC(), ExpiresAt: s.EndsAt().UTC(), Device: newDevice(s.Device), Bound: s.Bound(),
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (p *public) endOwn(w http.ResponseWriter, r *http.Request, access *sessions.Access) error {
	handle, err := handleOf(r)
	if err != nil {
		return err
	}
	if err := p.engine.EndOwn(r.Context(), access, handle, p.cfg.OwnSessions.ReauthWithin); err != nil {
		return err
	}
	if handle == access.Handle {
		p.forget(w, r, access.Transport)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (p *public) endOthers(w http.ResponseWriter, r *http.Request, access *sessions.Access) error {
	n, err := p.engine.EndOthers(r.Context(), access, p.cfg.OwnSessions.ReauthWithin)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Ended int `json:"ended"`
	}{n})
	return nil
}
