package sessionhttp

import (
	"cmp"
	_ "embed"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// openapi describes the sessions API (OpenAPI 3.1). A test holds it to the routes
// and to real answers.
//
//go:embed openapi.json
var openapi []byte

// Internal serves the sessions API for backends, and its description at
// /openapi.json. Callers are known by their API key. It checks the configuration.
func Internal(engine *sessions.Engine, cfg Config) (http.Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	a := &api{newServer(engine, cfg)}
	mux := http.NewServeMux()
	for pattern, m := range a.routes() {
		mux.Handle(pattern, a.wrap(m.serve))
	}
	mux.Handle("/openapi.json", a.wrap(methods{http.MethodGet: a.describe}.serve))
	nothing := a.wrap(func(http.ResponseWriter, *http.Request) error { return errNoRoute })
	mux.Handle("/", nothing)
	return CleanPaths(mux, nothing), nil
}

// CleanPaths hands requests for other than clean paths to otherwise. A ServeMux
// would redirect them, and repeat the path and the query in Location and body:
// whatever secret somebody put there by mistake would be in the logs of both sides.
func CleanPaths(mux *http.ServeMux, otherwise http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); path.Clean(p) == p {
			mux.ServeHTTP(w, r)
			return
		}
		otherwise.ServeHTTP(w, r)
	})
}

type api struct{ server }

func (a *api) routes() map[string]methods {
	return map[string]methods{
		"/v1/sessions":         {http.MethodPost: a.as(ScopeCreate, a.create)},
		"/v1/sessions/verify":  {http.MethodPost: a.as(ScopeRead, a.verify)},
		"/v1/sessions/refresh": {http.MethodPost: a.as(ScopeUpdate, a.refresh)},
		"/v1/sessions/{handle}": {
			http.MethodGet: a.as(ScopeRead, a.get), http.MethodPatch: a.as(ScopeUpdate, a.update), http.MethodDelete: a.as(ScopeRevoke, a.end),
		},
		"/v1/users/{user_id}/sessions": {http.MethodGet: a.as(ScopeRead, a.list), http.MethodDelete: a.as(ScopeRevoke, a.endUser)},
	}
}

func (a *api) describe(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openapi)
	return nil
}

// creation is the body of POST /v1/sessions.
type createRequest struct {
	UserID    string         `json:"user_id"`
	Claims    jsontext.Value `json:"claims"`
	Data      jsontext.Value `json:"data"`
	Transport transport      `json:"transport"`
	// Client is who signs in, as Envoy sees it.
	Client *client `json:"client"`
	// Host is the one that the browser asked, so that cookies of its parent
	// domains are deleted.
	Host string `json:"host"`
}

func (c createRequest) session() (sessions.NewSession, error) {
	n := sessions.NewSession{UserID: c.UserID, Claims: c.Claims, Data: c.Data, Transport: c.Transport.orCookie()}
	if c.Client != nil {
		var err error
		if n.Client, err = c.Client.digest(); err != nil {
			return n, err
		}
	}
	return n, checkHost(c.Host)
}

// transport is the one that a body names; zero: none.
type transport sessions.Transport

func (t transport) orCookie() sessions.Transport {
	return cmp.Or(sessions.Transport(t), sessions.TransportCookie)
}

const allowedTransport = `"cookie" or "header"`

// UnmarshalText implements [encoding.TextUnmarshaler]. What the error says is told
// by explain.
func (t *transport) UnmarshalText(text []byte) error {
	switch string(text) {
	case "cookie":
		*t = transport(sessions.TransportCookie)
	case "header":
		*t = transport(sessions.TransportHeader)
	default:
		return errors.New(allowedTransport)
	}
	return nil
}

// client is where a browser's request comes from, as a body tells it.
type client struct {
	Address   string `json:"address"`
	UserAgent string `json:"user_agent"`
}

// addr is the zero one where the body names none.
func (c client) addr() (netip.Addr, error) {
	if c.Address == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(c.Address)
	if err != nil {
		return netip.Addr{}, &sessions.InvalidError{Field: "client.address", Allowed: "an IP address"}
	}
	return addr, nil
}

func (c client) digest() (sessions.Client, error) {
	addr, err := c.addr()
	if err != nil {
		return sessions.Client{}, err
	}
	if !addr.IsValid() && c.UserAgent == "" {
		return sessions.Client{}, &sessions.InvalidError{Field: "client", Allowed: "address, user_agent or both"}
	}
	return sessions.NewClient(addr, c.UserAgent), nil
}

var hostPattern = regexp.MustCompile(`^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

func checkHost(host string) error {
	if host != "" && !hostPattern.MatchString(host) {
		return &sessions.InvalidError{Field: "host", Allowed: "a host as in the browser's Host header, with or without port"}
	}
	return nil
}

// created is the answer to POST /v1/sessions. It is one of the few places that
// reveal tokens: the login service hands them to the client.
type createResponse struct {
	Session   session  `json:"session"`
	Tokens    tokens   `json:"tokens"`
	SetCookie []string `json:"set_cookie,omitempty"` // cookie transport only
	// SDKCookies are for a sign-in whose answer no script reads.
	SDKCookies []string          `json:"sdk_cookies,omitempty"` // cookie transport only
	Headers    map[string]string `json:"headers"`
}

type tokens struct {
	Access        string    `json:"access_token"`
	AccessExpires time.Time `json:"access_token_expires_at"`
	Refresh       string    `json:"refresh_token,omitempty"`
	AntiCSRF      string    `json:"anti_csrf,omitempty"` // cookie transport only
}

func newTokens(i sessions.Issued) tokens {
	t := tokens{Access: i.Access.Reveal(), AccessExpires: i.AccessExpires.UTC(), Refresh: i.Refresh.Reveal()}
	if i.Transport == sessions.TransportCookie {
		t.AntiCSRF = i.AntiCSRF.Reveal()
	}
	return t
}

// session is a session as its owner sees it; nothing of its line of tokens.
type session struct {
	Handle            string         `json:"handle"`
	UserID            string         `json:"user_id"`
	Claims            jsontext.Value `json:"claims"`
	Data              jsontext.Value `json:"data"`
	CreatedAt         time.Time      `json:"created_at"`
	ExpiresAt         time.Time      `json:"expires_at"`
	AbsoluteExpiresAt time.Time      `json:"absolute_expires_at"`
}

func newSession(r sessions.Record) session {
	return session{
		Handle: r.Handle.String(), UserID: r.UserID, Claims: r.Claims, Data: r.Data,
		CreatedAt: r.CreatedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), AbsoluteExpiresAt: r.AbsoluteExpiresAt.UTC(),
	}
}

func (a *api) create(w http.ResponseWriter, r *http.Request, caller string) error {
	body, err := decode[createRequest](w, r, a.cfg.BodyMax)
	if err != nil {
		return err
	}
	n, err := body.session()
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
		answer.SetCookie = a.cfg.Cookies.Set(body.Host, issued)
		answer.SDKCookies = a.cfg.Cookies.SetSDK(body.Host, issued)
	}
	w.Header().Set("Location", "/v1/sessions/"+answer.Session.Handle)
	writeJSON(w, http.StatusCreated, answer)
	return nil
}

func (a *api) get(w http.ResponseWriter, r *http.Request, _ string) error {
	if err := noQuery(r); err != nil {
		return err
	}
	handle, err := handleOf(r)
	if err != nil {
		return err
	}
	record, err := a.engine.Get(r.Context(), handle)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Session session `json:"session"`
	}{newSession(record)})
	return nil
}

// change is the body of PATCH /v1/sessions/{handle}. What it gives replaces the
// whole of what was there.
type updateRequest struct {
	Claims jsontext.Value `json:"claims"`
	Data   jsontext.Value `json:"data"`
	// AccessToken is that of the request that caused the change. The answer then
	// has its successor, so that this client needs no refresh.
	AccessToken string `json:"access_token"`
	// Host is the one that the browser asked.
	Host string `json:"host"`
}

// changed is the answer to it.
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
		// Before the change, which would send it to refresh.
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
			answer.SetCookie = a.cfg.Cookies.Set(body.Host, issued)
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// valid judges an access token of either transport; nil: it is not valid.
func (a *api) valid(token string) *sessions.Access {
	for _, by := range []sessions.Transport{sessions.TransportCookie, sessions.TransportHeader} {
		if access, denial := a.engine.Verify(by, []string{token}); denial == nil {
			return access
		}
	}
	return nil
}

// The sessions that a list has at most: by default, and if asked for.
const (
	listDefault = 100
	listMax     = 1000
)

// listed is the answer to a list. More: there are others, older ones.
type listResponse struct {
	Sessions []session `json:"sessions"`
	More     bool      `json:"more"`
}

func (a *api) list(w http.ResponseWriter, r *http.Request, _ string) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	records, err := a.engine.ListUser(r.Context(), r.PathValue("user_id"), limit+1)
	if err != nil {
		return err
	}
	answer := listResponse{Sessions: []session{}, More: len(records) > limit}
	for _, record := range records[:min(limit, len(records))] {
		answer.Sessions = append(answer.Sessions, newSession(record))
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// ended is the answer to both DELETEs: whether, or how many, sessions there were,
// and what makes the client forget them.
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

// handleOf is the handle in the path; one that cannot exist is not found, without
// a query.
func handleOf(r *http.Request) (sessions.Handle, error) {
	handle, err := sessions.ParseHandle(r.PathValue("handle"))
	if err != nil {
		return handle, sessions.ErrNotFound
	}
	return handle, nil
}

// hostOf is the query parameter host of a DELETE. Any other is refused: a typo
// would leave cookies behind.
func hostOf(r *http.Request) (string, error) {
	host, err := parameterOf(r, "host")
	if err != nil {
		return "", err
	}
	return host, checkHost(host)
}

// limitOf is the query parameter limit of a list.
func limitOf(r *http.Request) (int, error) {
	text, err := parameterOf(r, "limit")
	if err != nil {
		return 0, err
	}
	if !r.URL.Query().Has("limit") {
		return listDefault, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > listMax || strconv.Itoa(limit) != text {
		return 0, &sessions.InvalidError{Field: "limit", Allowed: "1 to " + strconv.Itoa(listMax)}
	}
	return limit, nil
}

// parameterOf is the value of the only query parameter that there may be.
func parameterOf(r *http.Request, name string) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query) > 1 || len(query) == 1 && len(query[name]) != 1 {
		return "", &sessions.InvalidError{Field: "query", Allowed: "one parameter, " + name}
	}
	return query.Get(name), nil
}

// noQuery refuses what would be ignored: a parameter that belongs into the body, or
// to another operation.
func noQuery(r *http.Request) error {
	if r.URL.RawQuery != "" {
		return &sessions.InvalidError{Field: "query", Allowed: "no parameter here"}
	}
	return nil
}

func headerObject(headers []browser.Header) map[string]string {
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		m[h.Name] = h.Value
	}
	return m
}
