package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	thievesMax   = 200
	thiefTimeout = 5 * time.Second // of one request
	thiefAgent   = "thief/1.0"
	// thiefClientIdle is less than Envoy keeps a connection: a request never meets its end.
	thiefClientIdle = 20 * time.Second
	refreshPath     = "/auth/session/refresh"
)

// thief is a second client: it has a copy of the refresh token of a sign-in, and
// does with it what a browser would, through Envoy.
type thief struct {
	base string // Envoy
	host string // that the owner's browser asked
	wire *wire

	mu       sync.Mutex // one request at a time
	jar      http.CookieJar
	antiCSRF string
}

// heist is what came of a request of the thief.
type heist struct {
	Status int `json:"status"`
	// Denial is why it was refused (docs/denials.md), with responses.denial_header.
	Denial string `json:"denial,omitempty"`
	// Error is sessiongate's word for a refresh that it refused.
	Error string `json:"error,omitempty"`
	// Chain is of the access token that it got.
	Chain *chain `json:"chain,omitempty"`
}

func newThief(base, host string, copied *http.Cookie, w *wire) *thief {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // it never fails
	}
	t := &thief{base: strings.TrimSuffix(base, "/"), host: host, wire: w, jar: jar}
	jar.SetCookies(t.url(refreshPath), []*http.Cookie{copied})
	return t
}

// url is an address as the jar knows it: https, so that it gives out Secure cookies,
// as browsers do to localhost.
func (t *thief) url(path string) *url.URL {
	return &url.URL{Scheme: "https", Host: t.host, Path: path}
}

// thiefClient knows no proxy and follows no redirect: what Envoy answers is what is
// to be shown.
var thiefClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: thiefClientIdle},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       thiefTimeout,
}

func (t *thief) refresh(ctx context.Context, request string) (heist, error) {
	return t.send(ctx, http.MethodPost, refreshPath, request)
}

func (t *thief) call(ctx context.Context, request string) (heist, error) {
	return t.send(ctx, http.MethodGet, "/api/me", request)
}

func (t *thief) send(ctx context.Context, method, path, request string) (heist, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, method, t.base+path, nil)
	if err != nil {
		return heist{}, fmt.Errorf("playing the thief: %w", err)
	}
	r.Host = t.host
	r.Header.Set("User-Agent", thiefAgent)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Anti-Csrf", t.antiCSRF)
	for _, c := range t.jar.Cookies(t.url(path)) {
		r.AddCookie(c)
	}
	if request != "" {
		r.Header.Set(requestHeader, request)
		t.wire.sent(request, r)
	}
	response, err := thiefClient.Do(r)
	if err != nil {
		return heist{}, fmt.Errorf("playing the thief: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxGateAnswer))
	if err != nil {
		return heist{}, fmt.Errorf("playing the thief: %w", err)
	}
	if request != "" {
		t.wire.answered(request, response.StatusCode, response.Header, false)
	}
	t.jar.SetCookies(t.url(path), response.Cookies())
	if token := response.Header.Get("Anti-Csrf"); token != "" {
		t.antiCSRF = token
	}
	h := heist{Chain: chainIn(response.Header.Get("Front-Token"))} // of a refresh
	_ = json.Unmarshal(body, &h)                                   // a check's answers are no JSON, or have none of this
	h.Status, h.Denial = response.StatusCode, response.Header.Get("X-Sessiongate-Denial")
	return h, nil
}
