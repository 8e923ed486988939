package sessionclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultTimeout bounds a call, from its connection to the end of its answer. It is half of
	// session.refresh_attempt_max as it is by default: a refresh that takes longer is not waited
	// for by its client.
	DefaultTimeout = 5 * time.Second
	// AnswerMax is the largest answer that is read, in bytes: 1,000 sessions with 16 KiB of data
	// each have room.
	AnswerMax = 32 << 20

	// idleTimeout is less than what sessiongate keeps an idle connection for, so that no request
	// meets its end.
	idleTimeout = 60 * time.Second
	idlePerHost = 32
)

// transport has no proxy: a call over plain http would show it the API key.
var transport = &http.Transport{
	DialContext:         (&net.Dialer{Timeout: DefaultTimeout}).DialContext,
	ForceAttemptHTTP2:   true,
	TLSHandshakeTimeout: DefaultTimeout,
	IdleConnTimeout:     idleTimeout,
	MaxIdleConnsPerHost: idlePerHost,
}

// withoutLocation takes the address of a redirect out of an answer. http.Client parses it before it
// asks CheckRedirect, and quotes one that is broken in its error: a program on the way could write
// the API key, or a token that was sent, into it. Without an address the answer is returned as it is.
type withoutLocation struct{ next http.RoundTripper }

func (w withoutLocation) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.next.RoundTrip(r)
	if response != nil {
		response.Header.Del("Location")
	}
	return response, err
}

// httpClient is the one that sends a request, with what must not be otherwise.
func (c *Client) httpClient() *http.Client {
	var h http.Client
	if c.HTTPClient != nil {
		h = *c.HTTPClient
	}
	if h.Transport == nil {
		h.Transport = transport
	}
	h.Transport = withoutLocation{h.Transport}
	if h.Timeout == 0 {
		h.Timeout = DefaultTimeout
	}
	// The API does not redirect. To follow would give the API key, and the tokens of a body, to
	// any address that an attacker between here and there names.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.Jar = nil
	return &h
}

// request is one call of the API.
type request struct {
	doing, method, path string
	names, name, after  string // of a segment of the path: what it is, its text, and what follows
	query               url.Values
	body                any
	secrets             []Token // that it sends
}

type verifyBody struct {
	AccessToken   string `json:"access_token,omitempty"`
	Transport     string `json:"transport,omitempty"`
	AntiCSRF      string `json:"anti_csrf,omitempty"`
	CheckAntiCSRF *bool  `json:"check_anti_csrf,omitempty"`
	Strict        bool   `json:"strict,omitempty"`
}

type refreshBody struct {
	RefreshToken string  `json:"refresh_token,omitempty"`
	Transport    string  `json:"transport,omitempty"`
	Client       Browser `json:"client"`
	Host         string  `json:"host,omitempty"`
}

type createBody struct {
	UserID    string          `json:"user_id"`
	Claims    json.RawMessage `json:"claims,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	Transport string          `json:"transport,omitempty"`
	Client    *Browser        `json:"client,omitempty"`
	Host      string          `json:"host,omitempty"`
}

func (n NewSession) body() (createBody, error) {
	b := createBody{UserID: n.UserID, Transport: n.Transport, Host: n.Host}
	if n.Browser != (Browser{}) {
		b.Client = &n.Browser
	}
	var err error
	b.Claims, b.Data, err = attributes(n.Claims, n.Data)
	return b, err
}

type updateBody struct {
	Claims      json.RawMessage `json:"claims,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	AccessToken string          `json:"access_token,omitempty"`
	Host        string          `json:"host,omitempty"`
}

func (c Change) body() (updateBody, error) {
	b := updateBody{AccessToken: string(c.AccessToken), Host: c.Host}
	var err error
	b.Claims, b.Data, err = attributes(c.Claims, c.Data)
	return b, err
}

func attributes(claims, data any) (c, d json.RawMessage, err error) {
	if c, err = attribute("claims", claims); err != nil {
		return nil, nil, err
	}
	d, err = attribute("data", data)
	return c, d, err
}

// attribute is the text of claims or data, nil where there are none: a nil map, too, which would
// read null.
func attribute(name string, v any) (json.RawMessage, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if string(text) == "null" {
		return nil, nil
	}
	return text, nil
}

func failed(doing string, err error) error { return fmt.Errorf("%s: %w", doing, err) }

// call sends a request and reads its answer.
func (c *Client) call(ctx context.Context, r request, answer interface{ absent() error }) error {
	err := c.exchange(ctx, r, answer)
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return failed(r.doing, err)
}

func (c *Client) exchange(ctx context.Context, r request, answer interface{ absent() error }) error {
	target, err := c.target(r)
	if err != nil {
		return err
	}
	if c.APIKey == nil {
		return errors.New("the Client has no APIKey")
	}
	key, err := c.APIKey(ctx)
	if err != nil {
		return fmt.Errorf("reading the API key: %w", err)
	}
	key = strings.TrimSpace(key)
	if key == "" {
		return errors.New("the API key is empty")
	}
	var content io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, content)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	secrets := append(slices.Clone(r.secrets), Token(key))
	response, err := c.httpClient().Do(req)
	if broken := (*url.Error)(nil); errors.As(err, &broken) {
		return withoutQuotes(broken.Err, secrets) // without the address: a caller may have taken a token for a handle
	}
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, AnswerMax+1))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", withoutQuotes(err, secrets))
	}
	if len(text) > AnswerMax {
		return fmt.Errorf("the answer has more than %d bytes", AnswerMax)
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return problem(r, response, text, secrets)
	}
	// The text of a decoder's error may quote the answer, which has tokens.
	if json.Unmarshal(text, answer) != nil {
		return errNoAnswer
	}
	return answer.absent()
}

// problem is the error of an answer that is no success.
func problem(r request, response *http.Response, text []byte, secrets []Token) *Error {
	e := &Error{Status: response.StatusCode, doing: r.doing}
	if mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err == nil && mediaType == "application/problem+json" {
		var p struct {
			forClient

			Code    string `json:"code"`
			Outcome string `json:"outcome"`
			Detail  string `json:"detail"`
			Field   string `json:"field"`
			Allowed string `json:"allowed"`
		}
		if json.Unmarshal(text, &p) == nil { // another's page has no code
			e.Code, e.Outcome, e.Detail, e.Field, e.Allowed, e.Answer = p.Code, p.Outcome, p.Detail, p.Field, p.Allowed, p.answer()
		}
	}
	e.without(secrets)
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, int(time.Hour/time.Second))) * time.Second
	}
	return e
}

// withoutQuotes is an error of net/http, or another in its place if it quotes a secret: it quotes what is
// no HTTP, and a program on the way may have written back what it was sent.
func withoutQuotes(err error, secrets []Token) error {
	for _, secret := range secrets {
		if secret != "" && strings.Contains(err.Error(), string(secret)) {
			return errors.New("the answer is not HTTP, and repeats a secret")
		}
	}
	return err
}
