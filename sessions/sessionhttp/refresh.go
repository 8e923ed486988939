package sessionhttp

import (
	"net/http"
	"net/netip"

	"github.com/sessiongate/sessiongate/sessions"
)

// refreshSession refreshes with the tokens that a request carries. Without a token, the
// session counts as ended.
func (s *server) refreshSession(r *http.Request, by sessions.Transport, tokens []string, addr netip.Addr, userAgent string) (sessions.Issued, error) {
	if len(tokens) == 0 {
		return sessions.Issued{}, errNoToken // a first visit; it costs no query
	}
	if err := s.engine.AdmitRefresh(addr, by, tokens); err != nil {
		return sessions.Issued{}, err
	}
	issued, err := s.engine.Refresh(r.Context(), by, tokens, sessions.NewClient(addr, userAgent))
	subjectOf(r).rule = string(issued.Rule)
	if err != nil {
		subjectOf(r).names(issued)
	}
	return issued, err
}
