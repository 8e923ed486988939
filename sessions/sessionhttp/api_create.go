package sessionhttp

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// createRequest is the body of POST /v1/sessions.
type createRequest struct {
	UserID    string         `json:"user_id"`
	Claims    jsontext.Value `json:"claims"`
	Data      jsontext.Value `json:"data"`
	Transport transport      `json:"transport"`
	// Client is the browser that signs in, as Envoy sees it.
	Client *client `json:"client"`
	// Host is the one that the browser asked. Cookies of its parent domains are deleted.
	Host string `json:"host"`
}

func (c createRequest) session(facts sessions.DeviceFacts) (sessions.NewSession, error) {
	n := sessions.NewSession{UserID: c.UserID, Claims: c.Claims, Data: c.Data, Transport: c.Transport.orCookie()}
	if c.Client != nil {
		var err error
		if n.Client, n.Device, err = c.Client.read(facts); err != nil {
			return n, err
		}
	}
	return n, checkHost(c.Host)
}

// createResponse is one of the few values that reveal tokens: the login service gives them
// to the client.
type createResponse struct {
	Session   session  `json:"session"`
	Tokens    tokens   `json:"tokens"`
	SetCookie []string `json:"set_cookie,omitempty"` // cookie transport only
	// SDKCookies are for a sign-in whose answer no script reads.
	SDKCookies []string          `json:"sdk_cookies,omitempty"` // cookie transport only
	Headers    map[string]string `json:"headers"`
}

func (a *api) create(w http.ResponseWriter, r *http.Request, caller string) error {
	body, err := decode[createRequest](w, r, a.cfg.BodyMax)
	if err != nil {
		return err
	}
	n, err := body.session(a.cfg.Device)
	if err != nil {
		return err
	}
	n.Actor = caller
	issued, err := a.engine.Create(r.Context(), n)
	if err != nil {
		return err
	}
	answer := createResponse{
		Session: newSession(issued.Session),
		Tokens:  newTokens(issued),
		Headers: headerObject(browser.Headers(issued)),
	}
	if issued.Transport == sessions.TransportCookie {
		answer.SetCookie = a.cookies.Set(body.Host, issued)
		answer.SDKCookies = a.cfg.Cookies.SetSDK(body.Host, issued)
		if issued.Challenge != "" {
			offer := a.cfg.Binding.Registration(issued.Challenge)
			answer.Headers[offer.Name] = offer.Value
			// The timer of a former session would put off the first proof of this one, and a thief of the
			// cookies could refresh for so long. A registration without cookies cannot delete it.
			answer.SetCookie = append(answer.SetCookie, a.cfg.Binding.Expire(a.cfg.Cookies, "")...)
		}
	}
	w.Header().Set("Location", "/v1/sessions/"+answer.Session.Handle)
	writeJSON(w, http.StatusCreated, answer)
	return nil
}
