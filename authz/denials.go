package authz

import "github.com/sessiongate/sessiongate/sessions"

// The denials of this package, beside those of Verify.
var (
	denyLegacy       = &sessions.Denial{Code: "legacy_cookie", Rule: "legacy", Outcome: sessions.TryRefresh, Message: "the request has no access token, but a cookie of an older backend"}
	denyAntiCSRF     = &sessions.Denial{Code: "anti_csrf", Rule: "anti-csrf", Outcome: sessions.TryRefresh, Message: "the anti-CSRF token is missing, wrong or repeated"}
	denyForeign      = &sessions.Denial{Code: "foreign_origin", Rule: "origin", Outcome: sessions.Forbidden, Message: "a page of another origin sent the request, and that origin is not allowed"}
	denyHop          = &sessions.Denial{Code: "same_site_hop", Rule: "same-site", Outcome: sessions.Unauthorised, Message: "the request follows a link of another site, so the browser kept strict cookies back, or a service worker passed it on; the page of the answer asks again by itself"}
	denyClaims       = &sessions.Denial{Code: "claim", Rule: "require", Outcome: sessions.Forbidden, Message: "a claim is not what the route requires"}
	denyUnbound      = &sessions.Denial{Code: "unbound", Rule: "B11", Outcome: sessions.Forbidden, Message: "the route is for sessions that are bound to a device, and the access token was made without a proof"}
	denyMaxAge       = &sessions.Denial{Code: "max_age", Rule: "max_age", Outcome: sessions.Unauthorised, Message: "the sign-in is longer ago than the route allows"}
	denyIdentity     = &sessions.Denial{Code: "identity", Rule: "identity", Outcome: sessions.Unavailable, Message: "the session's claims cannot be told to Envoy"}
	denyPolicy       = &sessions.Denial{Code: "policy", Rule: "policy", Outcome: sessions.Unavailable, Message: "the route's policy is not understood"}
	denyLines        = &sessions.Denial{Code: "header_lines", Rule: "lines", Outcome: sessions.Forbidden, Message: "the request repeats a header more than 64 times; send each once"}
	denyPanic        = &sessions.Denial{Code: "panic", Rule: "panic", Outcome: sessions.Unavailable, Message: "the check panicked"}
	denyPathForm     = &sessions.Denial{Code: "path_form", Rule: "path", Outcome: sessions.Forbidden, Message: "the path is not absolute, or has a broken escape, a control character or a . or .. segment"}
	denyPathSpelling = &sessions.Denial{Code: "path_spelling", Rule: "path", Outcome: sessions.Forbidden, Message: "the path is that of an entry of routes to some servers, but is spelt otherwise"}
	denyHostForm     = &sessions.Denial{Code: "host_form", Rule: "host", Outcome: sessions.Forbidden, Message: "the host is no host name or address with an optional port"}
)

// Denials are those of this package. A Check answers with one of them or of
// [sessions.Denials].
func Denials() []*sessions.Denial {
	return []*sessions.Denial{
		denyLegacy, denyAntiCSRF, denyForeign, denyHop, denyClaims, denyUnbound, denyMaxAge, denyIdentity, denyPolicy, denyLines, denyPanic,
		denyPathForm, denyPathSpelling, denyHostForm,
	}
}
