package sessionhttp

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// JWKSPath is where the public keys are (RFC 8615).
const JWKSPath = "/.well-known/jwks.json"

// JWKSMaxAge is how long whoever verifies access tokens may keep the public keys.
// A new signing key must be published for longer than that before it signs.
const JWKSMaxAge = 5 * time.Minute

// peerHeader is the client's address as Envoy, which overwrites it, reports it.
const peerHeader = "X-Sessiongate-Peer"

// Public serves what browsers reach: refresh, sign-out and the public keys, and
// 404 for everything else. Bodies are ignored; net/http drains a small one and
// closes the connection behind a large one. It checks the configuration.
func Public(engine *sessions.Engine, cfg Config) (http.Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &public{newServer(engine, cfg)}
	p.answerMax, p.vary = sessions.AnswerWithin(cmp.Or(cfg.RefreshAttemptMax, Defaults().RefreshAttemptMax)), varied
	routes := map[string]methods{
		cfg.RefreshPath: {http.MethodPost: p.refresh},
		cfg.SignoutPath: {http.MethodPost: p.signOut},
		JWKSPath:        {http.MethodGet: p.jwks},
	}
	// No ServeMux: it would answer an unclean path with a redirect, and a POST
	// that is redirected is a refresh that nobody asked for.
	return p.wrap(func(w http.ResponseWriter, r *http.Request) error {
		m, ok := routes[r.URL.Path]
		if !ok {
			return errNoRoute
		}
		r.Pattern = r.URL.Path
		return m.serve(w, r)
	}), nil
}

// varied are the headers of a client on which the answers of refresh and sign-out
// depend.
const varied = "Cookie, Authorization, St-Auth-Mode, Origin, Referer, Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Sec-Purpose, User-Agent, X-Forwarded-Proto"

type public struct{ server }

type refreshError struct {
	Error string `json:"error"`
}

func (p *public) refresh(w http.ResponseWriter, r *http.Request) error {
	if err := p.checkInitiator(r); err != nil {
		return err
	}
	by, tokens := p.refreshTokens(r)
	issued, err := p.renew(r, by, tokens, peerOf(r), r.UserAgent())
	switch {
	case errors.Is(err, sessions.ErrSessionEnded):
		p.clearClient(w, r, by)
		writeJSON(w, p.refusal(w, r, err).Status, refreshError{endedText(err)})
		return nil
	case errors.Is(err, sessions.ErrSuperseded):
		writeJSON(w, p.refusal(w, r, err).Status, refreshError{"superseded"})
		return nil
	case err != nil:
		return err
	}
	if by == sessions.TransportCookie {
		addCookies(w, p.cfg.Cookies.Set(r.Host, issued))
	}
	p.clearLegacy(w, r)
	setHeaders(w, browser.Headers(issued))
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// refreshTokens are the refresh tokens of r and how they came: the one in the
// Authorization header, where a script put it on purpose, or those in cookies,
// which come by themselves. Another system's bearer token is none.
func (p *public) refreshTokens(r *http.Request) (sessions.Transport, []string) {
	if token := sessionBearer(r); sessions.IsRefreshToken(token) {
		return sessions.TransportHeader, []string{token}
	}
	return sessions.TransportCookie, cookieValues(r, p.cfg.Cookies.RefreshName)
}

// sessionBearer is the bearer token of r that may be a session's, or "".
func sessionBearer(r *http.Request) string {
	return browser.SessionBearer(authorization(r), strings.Join(r.Header.Values("St-Auth-Mode"), ","))
}

func (p *public) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := p.checkInitiator(r); err != nil {
		return err
	}
	by, refresh := p.refreshTokens(r)
	var access []string
	switch token := sessionBearer(r); {
	case sessions.IsAccessToken(token):
		by, refresh, access = sessions.TransportHeader, nil, []string{token}
	case by == sessions.TransportCookie:
		access = cookieValues(r, p.cfg.Cookies.Access())
	}
	err := p.engine.SignOut(r.Context(), by, refresh, access)
	if errors.Is(err, sessions.DenyExpired) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(p.refusal(w, r, err).Status)
		_, _ = w.Write([]byte(browser.PleaseRefresh))
		return nil
	}
	if err != nil {
		return err
	}
	p.clearClient(w, r, by)
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"OK"})
	return nil
}

func (p *public) jwks(w http.ResponseWriter, r *http.Request) error {
	set, err := p.engine.JWKS()
	if err != nil {
		return err
	}
	digest := sha256.Sum256(set)
	h := w.Header()
	h.Del("Vary")                                     // the same for all
	h.Set("Content-Type", "application/jwk-set+json") // RFC 7517 §8.5.2
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(JWKSMaxAge.Seconds())))
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(digest[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set))
	return nil
}

// clearClient makes the client forget a session that is over. Cookies are left
// alone where the session came in a header: they may be another session's.
func (p *public) clearClient(w http.ResponseWriter, r *http.Request, by sessions.Transport) {
	if by == sessions.TransportCookie {
		addCookies(w, p.cfg.Cookies.Clear(r.Host))
		p.clearLegacy(w, r)
		p.clearSDK(w, r)
	}
	setHeaders(w, browser.EndedHeaders())
}

// clearSDK deletes those of the web SDKs' own cookies that the request carried: what
// refreshed or signed out may be a page without the SDK, and the SDK would go on
// believing in the session.
func (p *public) clearSDK(w http.ResponseWriter, r *http.Request) {
	carried := slices.DeleteFunc(browser.SDKCookieNames(), func(name string) bool { return len(cookieValues(r, name)) == 0 })
	addCookies(w, p.cfg.Cookies.ClearSDK(r.Host, carried...))
}

// clearLegacy deletes the older backends' cookie where the request carried it, or
// its client would be sent to refresh for ever.
func (p *public) clearLegacy(w http.ResponseWriter, r *http.Request) {
	if len(cookieValues(r, browser.LegacyCookie)) > 0 {
		addCookies(w, p.cfg.Cookies.ClearLegacy(r.Host))
	}
}

func addCookies(w http.ResponseWriter, lines []string) {
	for _, line := range lines {
		w.Header().Add("Set-Cookie", line)
	}
}

func setHeaders(w http.ResponseWriter, headers []browser.Header) {
	for _, h := range headers {
		w.Header().Set(h.Name, h.Value)
	}
}

// cookieValues are the values of the cookies called name, over all Cookie lines.
func cookieValues(r *http.Request, name string) []string {
	var values []string
	for _, line := range r.Header.Values("Cookie") {
		values = browser.AppendCookies(values, line, name)
	}
	return values
}

// authorization is the Authorization header of r; two say nothing.
func authorization(r *http.Request) string {
	lines := r.Header.Values("Authorization")
	if len(lines) != 1 {
		return ""
	}
	return lines[0]
}

// peerOf is the address that r comes from. A peer header that is repeated or no
// address is not Envoy's, and counts as none.
func peerOf(r *http.Request) netip.Addr {
	lines := r.Header.Values(peerHeader)
	if len(lines) != 1 {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(lines[0]) // the zero one where it is none
	return addr
}
