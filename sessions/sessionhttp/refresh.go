package sessionhttp

import (
	"errors"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// renewal is the body of POST /v1/sessions/refresh. Whether the request came from a
// page that may refresh (the Origin rule) is for the caller to judge: only it sees
// the request's headers.
type refreshRequest struct {
	// RefreshToken is empty where the request has none: over, without a query.
	RefreshToken string    `json:"refresh_token"`
	Transport    transport `json:"transport"`
	// Client is required. Without it every caller would be the recorded client, and
	// a thief's repeated refresh would be answered with the victim's child (R5).
	Client *client `json:"client"`
	Host   string  `json:"host"`
}

// renewed is the answer to it.
type refreshResponse struct {
	Session   session           `json:"session"`
	Tokens    tokens            `json:"tokens"` // no refresh token: the client keeps the one it has
	SetCookie []string          `json:"set_cookie,omitempty"`
	Headers   map[string]string `json:"headers"`
}

// over is the problem of a session that is over, with what makes the client forget
// it. In header transport cookies are left alone: they may be another session's.
type endedProblem struct {
	problem

	Error      string            `json:"error"`
	SetCookie  []string          `json:"set_cookie,omitempty"`
	SDKCookies []string          `json:"sdk_cookies,omitempty"`
	Headers    map[string]string `json:"headers"`
}

// overText is how clients know the ways in which a session is over.
func endedText(err error) string {
	if errors.Is(err, sessions.ErrTheft) {
		return "token theft detected"
	}
	return "unauthorised"
}

func (a *api) refresh(w http.ResponseWriter, r *http.Request, _ string) error {
	body, err := decode[refreshRequest](w, r, a.cfg.BodyMax)
	if err != nil {
		return err
	}
	by := body.Transport.orCookie()
	if body.Client == nil || body.Client.Address == "" {
		return &sessions.InvalidError{Field: "client.address", Allowed: "the address of the browser, as the login service gave it"}
	}
	addr, err := body.Client.addr()
	if err != nil {
		return err
	}
	if err := checkHost(body.Host); err != nil {
		return err
	}
	var presented []string
	if body.RefreshToken != "" {
		presented = []string{body.RefreshToken}
	}
	issued, err := a.renew(r, by, presented, addr, body.Client.UserAgent)
	if errors.Is(err, sessions.ErrSessionEnded) {
		a.writeEnded(w, r, err, by, body.Host)
		return nil
	}
	if err != nil {
		return err
	}
	answer := refreshResponse{Session: newSession(issued.Session), Tokens: newTokens(issued), Headers: headerObject(browser.Headers(issued))}
	if by == sessions.TransportCookie {
		answer.SetCookie = a.cfg.Cookies.Set(body.Host, issued)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (a *api) writeEnded(w http.ResponseWriter, r *http.Request, err error, by sessions.Transport, host string) {
	answer := endedProblem{problem: a.refusal(w, r, err).titled(), Error: endedText(err), Headers: headerObject(browser.EndedHeaders())}
	if by == sessions.TransportCookie {
		answer.SetCookie = a.cfg.Cookies.Clear(host)
		answer.SDKCookies = a.cfg.Cookies.ClearSDK(host, browser.SDKCookieNames()...)
	}
	write(w, answer.Status, problemType, answer)
}
