package sessionhttp

import (
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// endResponse is the answer to both DELETEs: whether, or how many, sessions there were,
// and the cookies and headers that make the client forget them.
type endResponse[T bool | int] struct {
	Ended      T                 `json:"ended"`
	SetCookie  []string          `json:"set_cookie"`
	SDKCookies []string          `json:"sdk_cookies"`
	Headers    map[string]string `json:"headers"`
}

func newEndResponse[T bool | int](t T, cookies browser.Cookies, host string) endResponse[T] {
	return endResponse[T]{t, cookies.Clear(host), cookies.ClearSDK(host, browser.SDKCookieNames()...), headerObject(browser.EndedHeaders())}
}

func (a *api) end(w http.ResponseWriter, r *http.Request, caller string) error {
	handle, err := handleOf(r)
	if err != nil {
		return err
	}
	host, err := hostOf(r)
	if err != nil {
		return err
	}
	done, err := a.engine.End(r.Context(), handle, sessions.Ending{Reason: sessions.ReasonRevoked, Actor: caller})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newEndResponse(done, a.cfg.Cookies, host))
	return nil
}

func (a *api) endUser(w http.ResponseWriter, r *http.Request, caller string) error {
	host, err := hostOf(r)
	if err != nil {
		return err
	}
	n, err := a.engine.EndUser(r.Context(), r.PathValue("user_id"), sessions.Ending{Reason: sessions.ReasonRevoked, Actor: caller})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newEndResponse(n, a.cfg.Cookies, host))
	return nil
}

// hostOf is the query parameter host of a DELETE. Any other is refused: with a typo in its
// name, cookies would remain.
func hostOf(r *http.Request) (string, error) {
	host, err := parameterOf(r, "host")
	if err != nil {
		return "", err
	}
	return host, checkHost(host)
}
