package browser

import "strings"

// authModeCookie is the value of st-auth-mode by which the web SDKs (20.x) say that they keep the
// session in cookies. They still send the tokens of their header transport if cookies of those
// names exist. An attacker on a sibling host could plant such cookies, and the victim would then
// act in the attacker's session.
const authModeCookie = "cookie"

// Bearer is the token of an Authorization header (RFC 6750 §2.1), or "" if there is none or the
// scheme is another. One or more spaces precede the token. Everything after it is a part of it,
// because a token has one text.
func Bearer(authorization string) string {
	scheme, token, _ := strings.Cut(strings.TrimLeft(authorization, " "), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// SessionBearer is the token of an Authorization header that may belong to a session. It is "" if
// the request's st-auth-mode says that the session is in cookies.
func SessionBearer(authorization, authMode string) string {
	if authMode == authModeCookie {
		return ""
	}
	return Bearer(authorization)
}
