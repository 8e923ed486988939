package sessionclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Client calls the sessions API of one sessiongate. It may be used by several goroutines at once;
// its fields must not change after the first call. It needs no Close.
type Client struct {
	// BaseURL is the address of the internal listener: http://HOST:PORT or https://HOST:PORT,
	// perhaps with a path. Required.
	BaseURL string
	// APIKey is asked for the key before each call, by several goroutines at once, so that a key
	// that was replaced needs no restart: it may read a file. [Key] has one that stays. Required.
	// What is around the key, as the end of a line, is left out.
	APIKey func(context.Context) (string, error)
	// HTTPClient sends the requests, where its Transport has a client certificate, or traces them.
	// Without a Transport of its own, no proxy is used. Its Timeout bounds a call; 0, or no
	// HTTPClient: [DefaultTimeout] does. Its CheckRedirect and Jar do not count.
	HTTPClient *http.Client
}

// Key is an APIKey that stays.
func Key(key string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return key, nil }
}

// How the tokens of a session travel. The zero value of a request means CookieTransport.
const (
	CookieTransport = "cookie"
	HeaderTransport = "header"
)

// Browser is the browser or app whose request it is. Address must be the one that Envoy takes for
// its peer, and not that of a proxy.
type Browser struct {
	Address   string `json:"address,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

// NewSession is what a session is created from. Only UserID is required.
type NewSession struct {
	UserID string
	// Claims are copied into each access token, Data stays in the store. Each is a value that
	// encoding/json makes an object of: a map, a struct or a [json.RawMessage].
	Claims, Data any
	// Transport is CookieTransport or HeaderTransport.
	Transport string
	// Browser is the one that signs in. With it only that one is answered in the first seconds.
	Browser Browser
	// Host is the host that the browser asked. With it cookies of its parent domains go, too.
	Host string
}

// Create creates a session: the caller has authenticated the user. The answer is for the client:
// copy it to the response of the sign-in with CopyTo.
//
// errors.Is tells [ErrTooManySessions].
func (c *Client) Create(ctx context.Context, n NewSession) (*Created, error) {
	body, err := n.body()
	if err != nil {
		return nil, failed("creating a session", err)
	}
	var answer createdAnswer
	err = c.call(ctx, request{doing: "creating a session", method: http.MethodPost, path: "/v1/sessions", body: body}, &answer)
	if err != nil {
		return nil, err
	}
	return answer.result(), nil
}

// Presented is the access token of a request, and what came with it.
type Presented struct {
	// AccessToken is empty where the request has none. Where it has several cookies of that name
	// with different values, an attacker may have planted one: leave it empty, too.
	AccessToken Token
	Transport   string
	// AntiCSRF is the request's anti-csrf header.
	AntiCSRF Token
	// SkipAntiCSRF asks for no anti-CSRF token in cookie transport. The zero value asks: a caller
	// that forgets it admits no request that a foreign page made the browser send.
	SkipAntiCSRF bool
	// Strict asks the store whether the session lives, where sessiongate has not heard of it lately.
	Strict bool
}

// Verify checks the access token of a request, for a system that is not behind Envoy's ext_authz.
// The request is allowed only where the error is nil.
//
// errors.Is tells [ErrRefreshNeeded], [ErrSessionEnded] and [ErrUnavailable].
func (c *Client) Verify(ctx context.Context, p Presented) (*Verified, error) {
	body := verifyBody{AccessToken: string(p.AccessToken), Transport: p.Transport, AntiCSRF: string(p.AntiCSRF), Strict: p.Strict}
	if p.SkipAntiCSRF {
		body.CheckAntiCSRF = new(bool)
	}
	var answer verifiedAnswer
	err := c.call(ctx, request{doing: "verifying an access token", method: http.MethodPost, path: "/v1/sessions/verify", body: body, secrets: []Token{p.AccessToken, p.AntiCSRF}}, &answer)
	if err != nil {
		return nil, err
	}
	return &answer.Session, nil
}

// RefreshRequest is a client's request for new tokens. Browser.Address is required: without it any
// client would count as the one that a refresh was answered to, and a thief's repetition would be
// answered.
type RefreshRequest struct {
	RefreshToken Token // empty where the request has none: the session counts as ended
	Transport    string
	Browser      Browser
	Host         string
}

// Refresh refreshes a session, for a system that does not send browsers to the auth path. Copy the
// answer to the client with CopyTo. Before the call, refuse a request that a foreign page made the
// browser send (docs/initiator.md): sessiongate cannot see it.
//
// Where the session has ended, errors.Is tells [ErrSessionEnded], and the [*Error] has what makes
// the client forget it: copy that, too. On [ErrSuperseded], [ErrUnavailable] and any other error
// leave the client's tokens alone.
//
// Do not repeat it for another client, nor later than half of session.refresh_attempt_max after
// the client asked.
func (c *Client) Refresh(ctx context.Context, r RefreshRequest) (*Refreshed, error) {
	body := refreshBody{RefreshToken: string(r.RefreshToken), Transport: r.Transport, Client: r.Browser, Host: r.Host}
	var answer refreshedAnswer
	err := c.call(ctx, request{doing: "refreshing a session", method: http.MethodPost, path: "/v1/sessions/refresh", body: body, secrets: []Token{r.RefreshToken}}, &answer)
	if err != nil {
		return nil, err
	}
	return answer.result(), nil
}

// Get returns a living session. errors.Is tells [ErrNotFound].
func (c *Client) Get(ctx context.Context, handle string) (*Session, error) {
	var answer gotAnswer
	if err := c.call(ctx, request{doing: "reading a session", method: http.MethodGet, path: "/v1/sessions/", names: "handle", name: handle}, &answer); err != nil {
		return nil, err
	}
	return &answer.Session, nil
}

// List returns the newest living sessions of a user, at most limit of them, and whether there are
// more. 0 is the limit that sessiongate has by default, 100.
func (c *Client) List(ctx context.Context, userID string, limit int) (list []Session, more bool, err error) {
	query := url.Values{}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	var answer listedAnswer
	if err := c.call(ctx, request{doing: "listing a user's sessions", method: http.MethodGet, path: "/v1/users/", names: "user id", name: userID, after: "/sessions", query: query}, &answer); err != nil {
		return nil, false, err
	}
	return answer.Sessions, answer.More, nil
}

// Change is what Update replaces: the whole of Claims, Data or both. nil leaves one as it is.
type Change struct {
	Claims, Data any
	// AccessToken is that of the request that caused the change. With it, the answer has its
	// successor for the client, which then needs no refresh.
	AccessToken Token
	Host        string
}

// Update replaces claims, data or both. Access tokens with the former claims are refreshed at their
// next use. With an access token, copy the answer to the client with CopyTo.
//
// errors.Is tells [ErrNotFound].
func (c *Client) Update(ctx context.Context, handle string, change Change) (*Updated, error) {
	body, err := change.body()
	if err != nil {
		return nil, failed("changing a session", err)
	}
	var answer updatedAnswer
	err = c.call(ctx, request{doing: "changing a session", method: http.MethodPatch, path: "/v1/sessions/", names: "handle", name: handle, body: body, secrets: []Token{change.AccessToken}}, &answer)
	if err != nil {
		return nil, err
	}
	return answer.result(), nil
}

// End ends a session. To end one that has ended is no error; a text that is no handle is
// [ErrNotFound]. host is the one that the browser asked, or empty. Copy the answer to the response
// with CopyTo, where it goes to the session's own client.
func (c *Client) End(ctx context.Context, handle, host string) (*Ended, error) {
	var answer endedAnswer[bool]
	if err := c.call(ctx, request{doing: "ending a session", method: http.MethodDelete, path: "/v1/sessions/", names: "handle", name: handle, query: hostQuery(host)}, &answer); err != nil {
		return nil, err
	}
	n := 0
	if answer.Ended {
		n = 1
	}
	return &Ended{n, answer.answer()}, nil
}

// EndUser ends all sessions that a user has at that moment, as End ends one.
func (c *Client) EndUser(ctx context.Context, userID, host string) (*Ended, error) {
	var answer endedAnswer[int]
	if err := c.call(ctx, request{doing: "ending a user's sessions", method: http.MethodDelete, path: "/v1/users/", names: "user id", name: userID, after: "/sessions", query: hostQuery(host)}, &answer); err != nil {
		return nil, err
	}
	return &Ended{answer.Ended, answer.answer()}, nil
}

func hostQuery(host string) url.Values {
	if host == "" {
		return nil
	}
	return url.Values{"host": {host}}
}

// target is the address of a request.
func (c *Client) target(r request) (string, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return "", errors.New("BaseURL is not an http or https address alone") // its text may have a password
	}
	text := strings.TrimSuffix(c.BaseURL, "/") + r.path
	if r.names != "" {
		if r.name == "" {
			return "", errors.New("the " + r.names + " is empty")
		}
		// The user "..", escaped the usual way, would be another path.
		text += strings.ReplaceAll(url.PathEscape(r.name), ".", "%2E") + r.after
	}
	if len(r.query) > 0 {
		text += "?" + r.query.Encode()
	}
	return text, nil
}
