package sessionhttp

import (
	"errors"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

func (p *public) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := p.checkInitiator(r); err != nil {
		return err
	}
	q := sessions.SignOutRequest{Again: r.URL.RawQuery == provedQuery}
	q.Transport, q.Refresh = p.refreshTokens(r)
	switch token := sessionBearer(r); {
	case sessions.IsAccessToken(token):
		q.Transport, q.Refresh, q.Access = sessions.TransportHeader, nil, []string{token}
	case q.Transport == sessions.TransportCookie:
		q.Access = cookieValues(r, p.cfg.Cookies.Access())
	}
	err := p.engine.SignOut(r.Context(), q)
	if errors.Is(err, sessions.ErrProve) {
		subjectOf(r).rule = string(sessions.B12)
		p.sendToProve(w, r, sessions.Issued{}, err)
		return nil
	}
	if errors.Is(err, sessions.DenyExpired) {
		p.pleaseRefresh(w, r, err)
		return nil
	}
	if err != nil {
		return err
	}
	p.forget(w, r, q.Transport)
	send(w, http.StatusOK, "application/json", []byte(`{"status":"OK"}`))
	return nil
}

// pleaseRefresh answers as a check does to a client that must refresh first.
func (p *public) pleaseRefresh(w http.ResponseWriter, r *http.Request, err error) {
	status := p.refusal(w, r, err).Status
	text := browser.PleaseRefresh
	if errors.Is(err, denyAntiCSRF) {
		text += browser.TokenMissing
	}
	send(w, status, "text/plain", []byte(text))
}
