package sessionhttp

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/sessiongate/sessiongate/sessions"
)

type refresher = func(context.Context, sessions.Transport, []string, sessions.Client, sessions.Device) (sessions.Issued, error)

// refreshSession refreshes with the tokens that a request carries. Without a token, the
// session counts as ended. refresh is one of the engine's methods.
func (s *server) refreshSession(r *http.Request, refresh refresher, by sessions.Transport, tokens []string, addr netip.Addr, userAgent string) (sessions.Issued, error) {
	if len(tokens) == 0 {
		return sessions.Issued{}, errNoToken // a first visit; it costs no query
	}
	if err := s.engine.AdmitRefresh(addr, by, tokens); err != nil {
		return sessions.Issued{}, err
	}
	issued, err := refresh(r.Context(), by, tokens, sessions.NewClient(addr, userAgent), s.cfg.Device.Of(addr, userAgent))
	s.decided(r, issued, err)
	return issued, err
}

// decided takes the rule that decided about a session, and the session of a refusal.
func (s *server) decided(r *http.Request, issued sessions.Issued, err error) {
	subjectOf(r).rule = string(issued.Rule)
	if err != nil {
		subjectOf(r).names(issued)
	}
}
