package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	requestTimeout = 15 * time.Second
	maxAnswer      = 1 << 20 // bytes
)

// browser is one client: its cookies, and what its scripts remember. Requests of
// one browser that store their answers go one after the other.
type browser struct {
	agent    string // User-Agent
	cookies  []cookie
	antiCSRF string
	device   *device // nil: it binds no session
}

type cookie struct{ name, value, domain, path string }

// take makes b hold what other holds.
func (b *browser) take(other *browser) {
	b.cookies, b.antiCSRF = slices.Clone(other.cookies), other.antiCSRF
}

// cookie is the value of a cookie, "" for none.
func (b *browser) cookie(name string) string {
	for _, c := range b.cookies {
		if c.name == name {
			return c.value
		}
	}
	return ""
}

// set overwrites a cookie that b has.
func (b *browser) set(name, value string) {
	for i := range b.cookies {
		if b.cookies[i].name == name {
			b.cookies[i].value = value
		}
	}
}

// keep leaves b only the named cookie.
func (b *browser) keep(name string) {
	b.cookies = slices.DeleteFunc(b.cookies, func(c cookie) bool { return c.name != name })
}

// store does what RFC 6265 §5.3 says, as far as one host needs it.
func (b *browser) store(a answer) {
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		b.cookies = slices.DeleteFunc(b.cookies, func(had cookie) bool {
			return had.name == c.Name && had.path == c.Path && had.domain == c.Domain
		})
		if c.MaxAge >= 0 && (c.Expires.IsZero() || c.Expires.After(time.Now())) {
			b.cookies = append(b.cookies, cookie{c.Name, c.Value, c.Domain, c.Path})
		}
	}
	if token := a.header.Get("Anti-Csrf"); token != "" {
		b.antiCSRF = token
	}
	if b.device != nil {
		b.device.hear(a)
	}
}

// cookieLine is what b sends to a path, "" for nothing.
func (b *browser) cookieLine(path string) string {
	var pairs []string
	for _, c := range b.cookies {
		if pathMatches(path, c.path) {
			pairs = append(pairs, c.name+"="+c.value)
		}
	}
	return strings.Join(pairs, "; ")
}

// pathMatches is RFC 6265 §5.1.4: /auth matches /auth and /auth/x, not /authors.
func pathMatches(path, cookiePath string) bool {
	rest, ok := strings.CutPrefix(path, cookiePath)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(cookiePath, "/"))
}

type answer struct {
	status int
	header http.Header
	body   string
}

// transport knows no proxy: HTTP_PROXY must not come between us and Envoy. It
// follows no redirect.
var transport = &http.Transport{MaxIdleConnsPerHost: 20}

// target is the path of s with its query.
func (s step) target() string {
	if s.query == "" {
		return s.path
	}
	return s.path + "?" + s.query
}

// send sends the request of s to the server at base.
func send(ctx context.Context, base string, s step) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, s.method, base+s.target(), strings.NewReader(s.body))
	if err != nil {
		return answer{}, fmt.Errorf("sending: %w", err)
	}
	r.Header.Set("User-Agent", s.by.agent)
	switch {
	case s.navigates:
		r.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Dest", "document")
		r.Header.Set("Sec-Fetch-Site", "none")
	case s.foreign:
		r.Header.Set("Accept", "*/*")
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Sec-Fetch-Mode", "cors")
		r.Header.Set("Sec-Fetch-Dest", "empty")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	case s.device != nil: // as Chromium 156 sends it
		r.Header.Set("Accept", "*/*")
		r.Header.Set("Origin", base)
		r.Header.Set("Sec-Fetch-Mode", "no-cors")
		r.Header.Set("Sec-Fetch-Dest", "empty")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		s.device(r.Header)
	default:
		r.Header.Set("Accept", "application/json")
		r.Header.Set("Sec-Fetch-Mode", "cors")
		r.Header.Set("Sec-Fetch-Dest", "empty")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		if s.method != http.MethodGet {
			r.Header.Set("Origin", base)
		}
		if s.by.antiCSRF != "" {
			r.Header.Set("Anti-Csrf", s.by.antiCSRF)
		}
	}
	if s.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, name := range s.claims { // as spelt: net/http would make one spelling of them
		r.Header[name] = []string{"root"}
	}
	if line := s.by.cookieLine(r.URL.Path); line != "" {
		r.Header.Set("Cookie", line)
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, fmt.Errorf("sending: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return answer{response.StatusCode, response.Header, string(body)}, nil
}
