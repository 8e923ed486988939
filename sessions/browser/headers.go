package browser

import (
	"encoding/base64"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
)

// PleaseRefresh is the text that tells a client to refresh. SuperTokens backends use the same text.
const PleaseRefresh = "Please call the refresh token endpoint"

// TokenMissing follows PleaseRefresh where the anti-CSRF token is missing. A client that only refreshes
// would be told to refresh for ever.
const TokenMissing = "\nThe request has no anti-csrf header, or a wrong one. A refresh alone does not help: " +
	"repeat the request with the anti-csrf header of the refresh's answer."

// HeaderDenial is the response header that tells a client the code of a denial, if the deployment
// enables it.
const HeaderDenial = "x-sessiongate-denial"

// Header is one response header for the client.
type Header struct{ Name, Value string }

// Headers gives what a client's scripts learn of i, in the headers that the SuperTokens web SDKs
// read. Each Issued has a new marker in id-refresh-token: it tells the scripts that something
// changed.
func Headers(i sessions.Issued) []Header {
	var headers []Header
	if i.Transport == sessions.TransportCookie {
		if i.AntiCSRF != "" { // otherwise the client keeps its own
			headers = append(headers, Header{"anti-csrf", i.AntiCSRF.Reveal()})
		}
	} else {
		headers = append(headers, Header{"st-access-token", i.Access.Reveal()})
		if i.Refresh != "" {
			headers = append(headers, Header{"st-refresh-token", i.Refresh.Reveal()})
		}
	}
	return append(headers,
		Header{"front-token", frontToken(i)},
		Header{"id-refresh-token", i.Marker + ";" + strconv.FormatInt(i.Session.ExpiresAt.UnixMilli(), 10)},
	)
}

// EndedHeaders tells a client's scripts that its session has ended.
func EndedHeaders() []Header {
	return []Header{{"id-refresh-token", "remove"}, {"front-token", "remove"}}
}

// frontToken is what scripts may know of the access token: its user, its expiry (ms) and its
// payload, in padded standard base64.
func frontToken(i sessions.Issued) string {
	const size = len(`{"uid":"","ate":0123456789012,"up":}`)
	text := append(make([]byte, 0, size+len(i.Session.UserID)+len(i.Payload)), `{"uid":`...)
	text, err := jsontext.AppendQuote(text, i.Session.UserID)
	if err != nil {
		panic(err) // no user id of ours
	}
	text = strconv.AppendInt(append(text, `,"ate":`...), i.AccessExpires.UnixMilli(), 10)
	text = append(append(append(text, `,"up":`...), i.Payload...), '}') // our own JSON
	return base64.StdEncoding.EncodeToString(text)
}
