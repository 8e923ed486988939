package sessionhttp

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// updateRequest is the body of PATCH /v1/sessions/{handle}. Claims replace all claims,
// data all data.
type updateRequest struct {
	Claims jsontext.Value `json:"claims"`
	Data   jsontext.Value `json:"data"`
	// AccessToken is that of the request that caused the update. The response then has a
	// new one in its place, so that this client needs no refresh.
	AccessToken string `json:"access_token"`
	// Host is the one that the browser asked.
	Host string `json:"host"`
}

type updateResponse struct {
	Session       session           `json:"session"`
	Access        string            `json:"access_token,omitempty"`
	AccessExpires time.Time         `json:"access_token_expires_at,omitzero"`
	SetCookie     []string          `json:"set_cookie,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
}

func (a *api) update(w http.ResponseWriter, r *http.Request, caller string) error {
	handle, err := handleOf(r)
	if err != nil {
		return err
	}
	body, err := decode[updateRequest](w, r, a.cfg.BodyMax)
	if err != nil {
		return err
	}
	if body.Claims == nil && body.Data == nil {
		return &sessions.InvalidError{Field: "body", Allowed: "claims, data or both"}
	}
	if err := checkHost(body.Host); err != nil {
		return err
	}
	var access *sessions.Access
	if body.AccessToken != "" {
		// Before the update, after which the token would be denied.
		if access = a.valid(body.AccessToken); access == nil || access.Handle != handle {
			return &sessions.InvalidError{Field: "access_token", Allowed: "a valid one of this session"}
		}
	}
	record, err := a.engine.Update(r.Context(), handle, sessions.Attributes{Claims: body.Claims, Data: body.Data, Actor: caller})
	if err != nil {
		return err
	}
	answer := updateResponse{Session: newSession(record)}
	if access != nil {
		issued, err := a.engine.Reissue(access, record)
		if err != nil {
			return err
		}
		answer.Access, answer.AccessExpires = issued.Access.Reveal(), issued.AccessExpires.UTC()
		answer.Headers = headerObject(browser.Headers(issued))
		if issued.Transport == sessions.TransportCookie {
			answer.SetCookie = a.cookies.Set(body.Host, issued)
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// valid judges an access token of either transport. nil: it is not valid.
func (a *api) valid(token string) *sessions.Access {
	for _, by := range []sessions.Transport{sessions.TransportCookie, sessions.TransportHeader} {
		if access, denial := a.engine.Verify(by, []string{token}); denial == nil {
			return access
		}
	}
	return nil
}
