package sessionhttp

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/sessiongate/sessiongate/sessions"
)

// DoctorClaim is the claim of a session that opens the echo: "sessiongate doctor" makes such a
// session, with the key of a caller of the sessions API. No client can.
const DoctorClaim = "sessiongate_doctor"

// DoctorPath is where the echo is, below the auth path.
func DoctorPath(authPath string) string { return strings.TrimSuffix(authPath, "/") + "/doctor" }

// echoed are the headers that the echo tells of. It tells of no other, whatever was sent.
var echoed = []string{
	"X-Session-User-Id", "X-Session-Handle", "X-Session-Claims", "X_session_user_id", "X-Session.user.id", "X-Original-Url", "X-Rewrite-Url",
}

// echo is what arrived of a request.
type echo struct {
	// Headers counts the lines of each header that arrived, by its name.
	Headers map[string]int `json:"headers"`
	// Peer are the lines that say where the client is.
	Peer []string `json:"peer"`
}

// doctor tells the doctor what Envoy made of its request, on a route without a check. For
// every other client there is nothing here, and it costs nothing: this stops an attacker that tries which
// of its headers pass, until some do.
func (p *public) doctor(w http.ResponseWriter, r *http.Request) error {
	tokens := cookieValues(r, p.cfg.Cookies.Access())
	if len(tokens) == 0 {
		return denyNoRoute
	}
	access, denial := p.engine.Verify(sessions.TransportCookie, tokens)
	if denial != nil {
		return denyNoRoute
	}
	var claims map[string]any
	if err := json.Unmarshal(access.Claims, &claims); err != nil || claims[DoctorClaim] != true {
		return denyNoRoute
	}
	arrived := echo{Headers: map[string]int{}, Peer: r.Header.Values(peerHeader)}
	for name, lines := range r.Header {
		for _, known := range echoed {
			if strings.EqualFold(name, known) {
				arrived.Headers[strings.ToLower(known)] += len(lines)
			}
		}
	}
	writeJSON(w, http.StatusOK, arrived)
	return nil
}
