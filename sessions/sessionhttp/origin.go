package sessionhttp

import (
	"net/http"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// checkOrigin is the Origin rule: a request that changes a session must come from
// a page of this very origin, or of one on the allow-list, or from no page at all.
// It stops cross-site request forgery: refresh asks for no anti-CSRF token, for a
// page that lost it could never get a new one.
//
// Sec-Fetch-Site is asked too, for it tells of redirects through other sites that
// Origin does not show. Clients that send neither header are no browsers, and have
// no ambient cookies that somebody else could use.
func (s *server) checkOrigin(r *http.Request) error {
	origins := r.Header.Values("Origin")
	crossSite := slices.ContainsFunc(r.Header.Values("Sec-Fetch-Site"), func(v string) bool {
		return strings.EqualFold(strings.TrimSpace(v), "cross-site")
	})
	if len(origins) == 0 {
		if crossSite {
			return errForeignOrigin
		}
		return nil
	}
	if len(origins) > 1 {
		return errForeignOrigin // no browser does that; two readers could see two
	}
	origin, ok := sessions.ParseOrigin(origins[0])
	if !ok { // null, for one: a sandboxed frame, or a redirect from elsewhere
		return errForeignOrigin
	}
	if slices.Contains(s.allowed, origin) {
		return nil
	}
	if crossSite || origin != ownOrigin(r) {
		return errForeignOrigin
	}
	return nil
}

// ownOrigin is the origin at which the client reached Envoy, which says what the
// scheme was there. Without a proxy it is ours, which knows no TLS. Where two
// schemes are said, it is none.
func ownOrigin(r *http.Request) sessions.Origin {
	scheme := "http"
	switch forwarded := r.Header.Values("X-Forwarded-Proto"); len(forwarded) {
	case 0:
	case 1:
		scheme = forwarded[0]
	default:
		return sessions.Origin{}
	}
	own, ok := sessions.NewOrigin(scheme, r.Host)
	if !ok {
		return sessions.Origin{}
	}
	return own
}
