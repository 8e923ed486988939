package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	actorsMax    = 200
	actorTimeout = 5 * time.Second // of one request
	// actorIdle is less than Envoy keeps a connection: a request never meets its end.
	actorIdle = 20 * time.Second

	loginPath   = "/login"
	authPath    = "/auth"
	refreshPath = "/auth/session/refresh"
)

// actor is a client that this app plays: it has cookies of its own, and asks Envoy as a browser does.
type actor struct {
	base  string // Envoy
	host  string // that the page's browser asked
	agent string
	wire  *wire

	mu       sync.Mutex // one exchange at a time
	jar      http.CookieJar
	antiCSRF string
}

// scene is what came of a request of an actor.
type scene struct {
	Status int `json:"status"`
	// Denial is why it was refused (docs/denials.md), with responses.denial_header.
	Denial string `json:"denial,omitempty"`
	// Error is sessiongate's word for a refresh that it refused.
	Error string `json:"error,omitempty"`
	// Chain is of the access token that it got.
	Chain *chain `json:"chain,omitempty"`

	header http.Header
	body   []byte
}

func newActor(base, host, agent string, w *wire) *actor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // it never fails
	}
	return &actor{base: strings.TrimSuffix(base, "/"), host: host, agent: agent, wire: w, jar: jar}
}

// url is an address as the jar knows it: https, so that it gives out Secure cookies,
// as browsers do to localhost.
func (a *actor) url(path string) *url.URL {
	return &url.URL{Scheme: "https", Host: a.host, Path: path}
}

// actorClient knows no proxy and follows no redirect: what Envoy answers is what is
// to be shown.
var actorClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: actorIdle},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       actorTimeout,
}

// asking is a request of an actor.
type asking struct {
	method, path, query string
	body                string      // JSON
	header              http.Header // what it has beside the usual
	request             string      // its name on the wire, "" for none
}

// send sends a request. The caller holds mu.
func (a *actor) send(ctx context.Context, q asking) (scene, error) {
	address := a.base + q.path
	if q.query != "" {
		address += "?" + q.query
	}
	r, err := http.NewRequestWithContext(ctx, q.method, address, strings.NewReader(q.body))
	if err != nil {
		return scene{}, fmt.Errorf("playing %s: %w", a.agent, err)
	}
	r.Host = a.host
	r.Header.Set("User-Agent", a.agent)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Anti-Csrf", a.antiCSRF)
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, q.header)
	for _, c := range a.jar.Cookies(a.url(q.path)) {
		r.AddCookie(c)
	}
	if q.request != "" {
		r.Header.Set(requestHeader, q.request)
		a.wire.sent(q.request, r)
	}
	response, err := actorClient.Do(r)
	if err != nil {
		return scene{}, fmt.Errorf("playing %s: %w", a.agent, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxGateAnswer))
	if err != nil {
		return scene{}, fmt.Errorf("playing %s: %w", a.agent, err)
	}
	if q.request != "" {
		a.wire.answered(q.request, response.StatusCode, response.Header, false)
	}
	a.jar.SetCookies(a.url(q.path), response.Cookies())
	if token := response.Header.Get("Anti-Csrf"); token != "" {
		a.antiCSRF = token
	}
	s := scene{Chain: chainIn(response.Header.Get("Front-Token"))} // of a refresh
	_ = json.Unmarshal(body, &s)                                   // a check's answers are no JSON, or have none of this
	s.Status, s.Denial = response.StatusCode, response.Header.Get("X-Sessiongate-Denial")
	s.header, s.body = response.Header, body
	return s, nil
}

// cookies are all that it has, each with its path: only the auth path gets a refresh token.
func (a *actor) cookies() []*http.Cookie {
	all := a.jar.Cookies(a.url("/"))
	open := map[string]bool{}
	for _, c := range all {
		c.Path = "/"
		open[c.Name] = true
	}
	for _, c := range a.jar.Cookies(a.url(refreshPath)) {
		if !open[c.Name] {
			c.Path = authPath
			all = append(all, c)
		}
	}
	return all
}
