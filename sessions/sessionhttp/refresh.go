package sessionhttp

import (
	"net/http"
	"net/netip"

	"github.com/sessiongate/sessiongate/sessions"
)

// refreshSession refreshes with the tokens that a request carries, from a browser at an address. Without
// a token, the session counts as ended.
func (s *server) refreshSession(r *http.Request, q sessions.RefreshRequest, addr netip.Addr, userAgent string) (sessions.Issued, error) {
	if len(q.Tokens) == 0 {
		return sessions.Issued{}, errNoToken // a first visit; it costs no query
	}
	if err := s.engine.AdmitRefresh(addr, q.Transport, q.Tokens); err != nil {
		return sessions.Issued{}, err
	}
	q.Client, q.Device = sessions.NewClient(addr, userAgent), s.cfg.Device.Of(addr, userAgent)
	issued, err := s.engine.Refresh(r.Context(), q)
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
