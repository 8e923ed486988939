package sessionhttp

import "github.com/sessiongate/sessiongate/sessions"

// The denials of this package, beside those of Verify. Handlers return some of them as
// errors; classify answers with the others.
var (
	denyNoToken    = &sessions.Denial{Code: "no_token", Rule: "R1", Outcome: sessions.Unauthorised, Message: "the request has no refresh token"}
	denyEnded      = &sessions.Denial{Code: "session_ended", Rule: "R1, R2, R4, R5, R8", Outcome: sessions.Unauthorised, Message: "the refresh token does not open, or its session has ended or expired, or was refreshed too often without use"}
	denyTheft      = &sessions.Denial{Code: "theft", Rule: "R8", Outcome: sessions.Unauthorised, Message: "the refresh token was reused after another had replaced it; the session was ended"}
	denySuperseded = &sessions.Denial{Code: "superseded", Rule: "R2, R5, R7", Outcome: sessions.Forbidden, Message: "another refresh of the session counts, or the session was just signed out; nothing changed"}
	denyTooMany    = &sessions.Denial{Code: "too_many_refreshes", Outcome: sessions.Unavailable, Message: "more refreshes than `refresh.per_session_rate` or `refresh.per_address_rate` allow; none was looked at, and nothing changed"}
	denyAntiCSRF   = &sessions.Denial{Code: "anti_csrf", Rule: "anti-csrf", Outcome: sessions.TryRefresh, Message: "the anti-CSRF token is missing or wrong"}

	denyChallenge     = &sessions.Denial{Code: "challenge", Rule: "B3", Outcome: sessions.Forbidden, Message: "the browser's own request is to come again with a proof of its device's key"}
	denyProve         = &sessions.Denial{Code: "prove_key", Rule: "B9, B12", Outcome: sessions.TryRefresh, Message: "the session is bound to a device; the browser has to prove that it has the key, and is sent to do so"}
	denyUnproven      = &sessions.Denial{Code: "unproven", Rule: "B10", Outcome: sessions.Unavailable, Message: "the session is bound to a device, and the client did not prove that it has the key; nothing changed"}
	denyKeyLost       = &sessions.Denial{Code: "key_lost", Rule: "B10", Outcome: sessions.Unauthorised, Message: "the session is bound to a device, and for longer than `binding.lost_after` the browser had no device session; the session was not ended"}
	denyNotThisDevice = &sessions.Denial{Code: "not_this_device", Rule: "B2, B6", Outcome: sessions.Forbidden, Message: "the identifier of the device session does not open, or is of another session than the refresh token; or the proof is not of the session's key; the browser ends its device session, and the session stays"}
	denyBind          = &sessions.Denial{Code: "bind_refused", Rule: "B1", Outcome: sessions.Forbidden, Message: "the proof of a key is malformed, not signed by that key, or not of the challenge of a recent sign-in; or the session has another key; nothing changed"}

	denyReauth       = &sessions.Denial{Code: "reauth", Rule: "reauth", Outcome: sessions.Forbidden, Message: "the sign-in is longer ago than `own_sessions.reauth_within` allows for ending other sessions; nothing changed"}
	denyTooManyCalls = &sessions.Denial{Code: "too_many_calls", Outcome: sessions.Unavailable, Message: "more calls for the user's own sessions than one session may make; none was looked at, and nothing changed"}

	denyForeignOrigin = &sessions.Denial{Code: "foreign_origin", Rule: "origin", Outcome: sessions.Forbidden, Message: "a page of another origin sent the request, and that origin is not allowed"}
	denyHostForm      = &sessions.Denial{Code: "host_form", Rule: "host", Outcome: sessions.Forbidden, Message: "the Host is no host name or address with an optional port; of two Host lines Envoy makes one"}

	denyNoKey           = &sessions.Denial{Code: "no_api_key", Outcome: sessions.Forbidden, Message: "the request has no API key"}
	denyUnknownKey      = &sessions.Denial{Code: "unknown_api_key", Outcome: sessions.Forbidden, Message: "the API key is not known"}
	denyScope           = &sessions.Denial{Code: "scope", Outcome: sessions.Forbidden, Message: "the API key lacks the scope"}
	denyInput           = &sessions.Denial{Code: "bad_input", Outcome: sessions.Forbidden, Message: "a value of the body, path or query is not allowed; the answer says which"}
	denyMediaType       = &sessions.Denial{Code: "media_type", Outcome: sessions.Forbidden, Message: "the body is not application/json"}
	denyBodySize        = &sessions.Denial{Code: "body_too_large", Outcome: sessions.Forbidden, Message: "the body is larger than `api.body_max`"}
	denyNoSession       = &sessions.Denial{Code: "no_session", Outcome: sessions.Forbidden, Message: "there is no session of that handle"}
	denyTooManySessions = &sessions.Denial{Code: "too_many_sessions", Outcome: sessions.Forbidden, Message: "the user has as many sessions as `session.max_per_user` allows"}
	denyNoRoute         = &sessions.Denial{Code: "no_route", Outcome: sessions.Forbidden, Message: "nothing is at that path"}
	denyMethod          = &sessions.Denial{Code: "method", Outcome: sessions.Forbidden, Message: "the path does not have that method"}

	denyUnavailable = &sessions.Denial{Code: "unavailable", Outcome: sessions.Unavailable, Message: "the database, or what has to be read from it first, is away; nothing changed"}
	denyInternal    = &sessions.Denial{Code: "internal", Outcome: sessions.Unavailable, Message: "sessiongate itself failed; the log has the cause"}
)

// Denials are those of this package. An answer that is no success has one of them or of
// [sessions.Denials].
func Denials() []*sessions.Denial {
	return []*sessions.Denial{
		denyNoToken, denyEnded, denyTheft, denySuperseded, denyTooMany, denyAntiCSRF, denyChallenge, denyProve, denyUnproven, denyKeyLost, denyNotThisDevice, denyBind, denyReauth, denyTooManyCalls, denyForeignOrigin, denyHostForm, denyNoKey, denyUnknownKey,
		denyScope, denyInput, denyMediaType, denyBodySize, denyNoSession, denyTooManySessions, denyNoRoute, denyMethod, denyUnavailable, denyInternal,
	}
}
