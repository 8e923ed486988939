package sessionhttp

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
)

// verifyRequest is the body of POST /v1/sessions/verify: what a request carries to a system
// that has no ext_authz filter before it.
type verifyRequest struct {
	// AccessToken is empty where the request has none.
	AccessToken string    `json:"access_token"`
	Transport   transport `json:"transport"`
	// AntiCSRF is the request header of that name. It is required in cookie transport
	// unless CheckAntiCSRF is false: a caller that forgets it admits no request.
	AntiCSRF      string `json:"anti_csrf"`
	CheckAntiCSRF *bool  `json:"check_anti_csrf"`
	// Strict asks the store where the feed is stale, as a strict route does.
	Strict bool `json:"strict"`
}

// verifyResponse has only the outcome ALLOW.
type verifyResponse struct {
	Outcome string          `json:"outcome"`
	Session verifiedSession `json:"session"`
}

// verifiedSession is a session as its access token describes it.
type verifiedSession struct {
	Handle        string         `json:"handle"`
	UserID        string         `json:"user_id"`
	Claims        jsontext.Value `json:"claims"`
	AuthTime      time.Time      `json:"auth_time"`
	AccessExpires time.Time      `json:"access_token_expires_at"`
}

// verify judges a request's access token in memory. A denial is an error and never a 200: a
// caller that reads only the status admits no denied request. Nor is it a 401, which says
// that the caller's own key is wrong: a replaced key must not look as if all users had
// signed out.
func (a *api) verify(w http.ResponseWriter, r *http.Request, _ string) error {
	body, err := decode[verifyRequest](w, r, a.cfg.BodyMax)
	if err != nil {
		return err
	}
	by := body.Transport.orCookie()
	var tokens []string
	if body.AccessToken != "" {
		tokens = []string{body.AccessToken}
	}
	access, denial := a.engine.Verify(by, tokens)
	if denial != nil {
		return denial
	}
	asked := by == sessions.TransportCookie && (body.CheckAntiCSRF == nil || *body.CheckAntiCSRF)
	if asked && !access.MatchesAntiCSRF(body.AntiCSRF) { // this stops a request that a foreign page made the browser send
		subjectOf(r).verified(access)
		return denyAntiCSRF
	}
	if body.Strict {
		if denial := a.engine.CheckStore(r.Context(), access); denial != nil {
			subjectOf(r).verified(access)
			return denial
		}
	}
	writeJSON(w, http.StatusOK, verifyResponse{
		Outcome: sessions.Allow.String(),
		Session: verifiedSession{
			Handle: access.Handle.String(), UserID: access.UserID, Claims: access.Claims,
			AuthTime: access.AuthTime.UTC(), AccessExpires: access.Expires.UTC(),
		},
	})
	return nil
}
