package sessionhttp

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
)

// verification is the body of POST /v1/sessions/verify: what a request to a system
// that no ext_authz filter stands before carries.
type verification struct {
	// AccessToken is empty where the request has none.
	AccessToken string    `json:"access_token"`
	Transport   transport `json:"transport"`
	// AntiCSRF is the request header of that name. It is asked for in cookie
	// transport unless CheckAntiCSRF says no: forgetting it lets nobody in.
	AntiCSRF      string `json:"anti_csrf"`
	CheckAntiCSRF *bool  `json:"check_anti_csrf"`
	// Strict asks the store where the feed is stale, as a strict route does.
	Strict bool `json:"strict"`
}

// verified is the answer to it, and has no other outcome than ALLOW.
type verified struct {
	Outcome string `json:"outcome"`
	Session bearer `json:"session"`
}

// bearer is a session as its access token tells of it.
type bearer struct {
	Handle        string         `json:"handle"`
	UserID        string         `json:"user_id"`
	Claims        jsontext.Value `json:"claims"`
	AuthTime      time.Time      `json:"auth_time"`
	AccessExpires time.Time      `json:"access_token_expires_at"`
}

var denyAntiCSRF = &sessions.Denial{Outcome: sessions.TryRefresh, Rule: "anti-csrf", Code: "anti_csrf", Message: "anti-CSRF token is missing or wrong"}

// verify judges a request's access token in memory. A denial is an error, so it is
// never a 200: a caller that looks at nothing but the status lets nobody in. Nor is
// it a 401, which says that the caller's own key is wrong: a key that was replaced
// must not look like everybody having signed out.
func (a *api) verify(w http.ResponseWriter, r *http.Request, _ string) error {
	body, err := decode[verification](w, r, a.cfg.BodyMax)
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
	if asked && !access.MatchesAntiCSRF(body.AntiCSRF) { // stops a request that a foreign page made the browser send
		subjectOf(r).verified(access)
		return denyAntiCSRF
	}
	if body.Strict {
		if denial := a.engine.CheckStore(r.Context(), access); denial != nil {
			subjectOf(r).verified(access)
			return denial
		}
	}
	writeJSON(w, http.StatusOK, verified{
		Outcome: sessions.Allow.String(),
		Session: bearer{
			Handle: access.Handle.String(), UserID: access.UserID, Claims: access.Claims,
			AuthTime: access.AuthTime.UTC(), AccessExpires: access.Expires.UTC(),
		},
	})
	return nil
}
