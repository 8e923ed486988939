package sessionhttp

import (
	"errors"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

type refreshError struct {
	Error string `json:"error"`
}

func (p *public) refresh(w http.ResponseWriter, r *http.Request) error {
	if err := p.checkInitiator(r); err != nil {
		return err
	}
	by, tokens := p.refreshTokens(r)
	q := sessions.RefreshRequest{Transport: by, Tokens: tokens}
	if by == sessions.TransportCookie {
		q.Shown = p.shown(r)
	}
	issued, err := p.refreshSession(r, q, peerOf(r), r.UserAgent())
	switch {
	case errors.Is(err, sessions.ErrProve):
		p.sendToProve(w, r, issued, err)
		return nil
	case errors.Is(err, sessions.ErrUnproven):
		p.tellToWait(w, r, issued, err)
		return nil
	case errors.Is(err, sessions.ErrSessionEnded):
		p.forget(w, r, by)
		writeJSON(w, p.refusal(w, r, err).Status, refreshError{endedText(err)})
		return nil
	case errors.Is(err, sessions.ErrSuperseded):
		writeJSON(w, p.refusal(w, r, err).Status, refreshError{"superseded"})
		return nil
	case err != nil:
		return err
	}
	if by == sessions.TransportCookie {
		addCookies(w, p.cookies.Set(r.Host, issued))
		p.forgetWait(w, r)
	}
	p.forgetLegacy(w, r)
	setHeaders(w, browser.Headers(issued))
	send(w, http.StatusOK, "application/json", []byte("{}"))
	return nil
}

// refreshTokens are the refresh tokens of r and their transport: the one in the
// Authorization header, where a script put it on purpose, or those in cookies, which the
// browser adds. Another system's bearer token is none.
func (p *public) refreshTokens(r *http.Request) (sessions.Transport, []string) {
	if token := sessionBearer(r); sessions.IsRefreshToken(token) {
		return sessions.TransportHeader, []string{token}
	}
	return sessions.TransportCookie, cookieValues(r, p.cfg.Cookies.RefreshName)
}
