package sessionhttp

import (
	"errors"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// refreshRequest is the body of POST /v1/sessions/refresh. The caller must check whether
// the request came from a page that may refresh (the Origin rule): only it sees the
// request's headers.
type refreshRequest struct {
	// RefreshToken is empty where the request has none. The session then counts as ended,
	// without a query.
	RefreshToken string    `json:"refresh_token"`
	Transport    transport `json:"transport"`
	// Client is required. This stops an attacker that repeats a victim's refresh: without
	// it all requests would have one client, and the attacker would get the victim's
	// child (R5).
	Client *client `json:"client"`
	Host   string  `json:"host"`
}

type refreshResponse struct {
	Session   session           `json:"session"`
	Tokens    tokens            `json:"tokens"` // no refresh token: the client keeps the one it has
	SetCookie []string          `json:"set_cookie,omitempty"`
	Headers   map[string]string `json:"headers"`
}

// endedProblem is the problem of a session that has ended, with the cookies and headers
// that make the client forget it. In header transport cookies are left as they are: they
// may be another session's.
type endedProblem struct {
	problem

	Error      string            `json:"error"`
	SetCookie  []string          `json:"set_cookie,omitempty"`
	SDKCookies []string          `json:"sdk_cookies,omitempty"`
	Headers    map[string]string `json:"headers"`
}

// endedText tells clients in which way a session has ended.
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
	q := sessions.RefreshRequest{Transport: by, WithData: true}
	if body.RefreshToken != "" {
		q.Tokens = []string{body.RefreshToken}
	}
	issued, err := a.refreshSession(r, q, addr, body.Client.UserAgent)
	if errors.Is(err, sessions.ErrSessionEnded) {
		a.writeEnded(w, r, err, by, body.Host)
		return nil
	}
	if errors.Is(err, sessions.ErrProve) {
		return errBoundSession
	}
	if err != nil {
		return err
	}
	answer := refreshResponse{Session: newSession(issued.Session), Tokens: newTokens(issued), Headers: headerObject(browser.Headers(issued))}
	if by == sessions.TransportCookie {
		answer.SetCookie = a.cookies.Set(body.Host, issued)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (a *api) writeEnded(w http.ResponseWriter, r *http.Request, err error, by sessions.Transport, host string) {
	answer := endedProblem{problem: a.refusal(w, r, err).titled(), Error: endedText(err), Headers: headerObject(browser.EndedHeaders())}
	if by == sessions.TransportCookie {
		answer.SetCookie = a.cookies.Clear(host)
		answer.SDKCookies = a.cfg.Cookies.ClearSDK(host, browser.SDKCookieNames()...)
	}
	write(w, answer.Status, problemType, answer)
}
