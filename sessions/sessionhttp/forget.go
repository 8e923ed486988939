package sessionhttp

import (
	"net/http"
	"slices"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// forget makes the client forget a session that has ended. Cookies are left as they are
// where the session came in a header: they may be another session's.
func (p *public) forget(w http.ResponseWriter, r *http.Request, by sessions.Transport) {
	if by == sessions.TransportCookie {
		addCookies(w, p.cookies.Clear(r.Host))
		p.forgetLegacy(w, r)
		p.forgetSDK(w, r)
		p.forgetBound(w, r)
	}
	setHeaders(w, browser.EndedHeaders())
}

// forgetSDK deletes those of the web SDKs' own cookies that the request carried. A page
// without the SDK may have sent it, and the SDK would go on taking the session for alive.
func (p *public) forgetSDK(w http.ResponseWriter, r *http.Request) {
	carried := slices.DeleteFunc(browser.SDKCookieNames(), func(name string) bool { return len(cookieValues(r, name)) == 0 })
	addCookies(w, p.cfg.Cookies.ClearSDK(r.Host, carried...))
}

// forgetLegacy deletes the cookie of an older backend where the request carried it. Else
// its client would be sent to refresh for ever.
func (p *public) forgetLegacy(w http.ResponseWriter, r *http.Request) {
	if len(cookieValues(r, browser.LegacyCookie)) > 0 {
		addCookies(w, p.cfg.Cookies.ClearLegacy(r.Host))
	}
}
