package browser

import "strings"

// authModeCookie is the value of st-auth-mode by which the web SDKs (20.x) say that
// they keep the session in cookies. They send the tokens of their header transport
// along all the same, if cookies of those names are there: a sibling host could
// plant them, and its victim would act in its session.
const authModeCookie = "cookie"

// Bearer is the token of an Authorization header (RFC 6750 §2.1), "" where there is
// none or the scheme is another. Spaces stand before it, one or more; whatever stands
// behind it is a part of it, for a token has one text.
func Bearer(authorization string) string {
	scheme, token, _ := strings.Cut(strings.TrimLeft(authorization, " "), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// SessionBearer is the token of an Authorization header that may be a session's:
// none where the request's st-auth-mode says that its session is in cookies.
func SessionBearer(authorization, authMode string) string {
	if authMode == authModeCookie {
		return ""
	}
	return Bearer(authorization)
}
