package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	gateTimeout   = 5 * time.Second
	maxGateAnswer = 1 << 20 // bytes
)

// gate speaks sessiongate's HTTP API. It may be used by several goroutines at once.
type gate struct {
	base   string
	key    string
	client *http.Client
}

func newGate(base, key string) *gate {
	return &gate{
		base: strings.TrimSuffix(base, "/"),
		key:  key,
		client: &http.Client{
			Timeout: gateTimeout,
			// The API does not redirect. To follow would hand the API key on.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// client is where a session's browser sits. What Envoy reports at the first
// refresh must be the same, or that refresh comes from another client.
type client struct {
	Address   string `json:"address,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

// cookies is the part of an answer that goes to the browser as it is.
type cookies struct {
	SetCookie []string          `json:"set_cookie"`
	Headers   map[string]string `json:"headers"`
}

// copyTo adds the cookies and headers to a response.
func (c cookies) copyTo(h http.Header) {
	for _, line := range c.SetCookie {
		h.Add("Set-Cookie", line)
	}
	for name, value := range c.Headers {
		h.Set(name, value)
	}
}

// gateError is an answer of the API that is no success.
type gateError struct {
	Status     int
	Title      string // of the problem (RFC 9457), for the log
	RetryAfter string
}

func (e *gateError) Error() string {
	return fmt.Sprintf("sessiongate answered %d %s", e.Status, e.Title)
}

// newSession is what a session is created from.
type newSession struct {
	UserID string            `json:"user_id"`
	Claims map[string]string `json:"claims"`
	Client client            `json:"client,omitzero"`
	Host   string            `json:"host"` // that the browser asked
}

// created is a new session, with the tokens that its cookies carry.
type created struct {
	cookies

	Session struct {
		Handle string `json:"handle"`
	} `json:"session"`
	Tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	} `json:"tokens"`
}

// createSession signs a user in.
func (g *gate) createSession(ctx context.Context, user, host string, from client) (created, error) {
	answer, err := call[created](ctx, g, http.MethodPost, "/v1/sessions", newSession{
		UserID: user,
		Claims: map[string]string{"role": "demo"},
		Client: from,
		Host:   host,
	})
	if err != nil {
		return created{}, fmt.Errorf("creating a session: %w", err)
	}
	return answer, nil
}

// endSession signs a user out at one browser. host is the one that it asked.
func (g *gate) endSession(ctx context.Context, handle, host string) (cookies, error) {
	answer, err := call[cookies](ctx, g, http.MethodDelete, "/v1/sessions/"+url.PathEscape(handle)+"?host="+url.QueryEscape(host), nil)
	if err != nil {
		return cookies{}, fmt.Errorf("ending a session: %w", err)
	}
	return answer, nil
}

// endSessions signs a user out everywhere. host is the one that the browser asked.
func (g *gate) endSessions(ctx context.Context, user, host string) (cookies, error) {
	// The user "..", escaped the usual way, would end /v1/sessions.
	segment := strings.ReplaceAll(url.PathEscape(user), ".", "%2E")
	answer, err := call[cookies](ctx, g, http.MethodDelete, "/v1/users/"+segment+"/sessions?host="+url.QueryEscape(host), nil)
	if err != nil {
		return cookies{}, fmt.Errorf("ending a user's sessions: %w", err)
	}
	return answer, nil
}

// call asks the API and reads its answer as a T.
func call[T any](ctx context.Context, g *gate, method, path string, body any) (T, error) {
	var none T
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return none, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, g.base+path, content)
	if err != nil {
		return none, err
	}
	req.Header.Set("Authorization", "Bearer "+g.key)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return none, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxGateAnswer))
	if err != nil {
		return none, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var problem struct {
			Title string `json:"title"`
		}
		_ = json.Unmarshal(answer, &problem) // a proxy's error page has none
		return none, &gateError{
			Status:     resp.StatusCode,
			Title:      cmp.Or(problem.Title, http.StatusText(resp.StatusCode)),
			RetryAfter: resp.Header.Get("Retry-After"),
		}
	}
	var v T
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &v); err != nil {
			return none, fmt.Errorf("reading the answer: %w", err)
		}
	}
	return v, nil
}
