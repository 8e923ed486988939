package envoy_test

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// TestSignedIn: the app learns who it is, once, whatever else the client claims; and its cookies are its own.
func TestSignedIn(t *testing.T) {
	s := newStack(t, stackOptions{sockets: true})
	b := s.newBrowser(networkV)
	handle := b.signIn("alice")

	plain := b.mustGet(t).Header
	want := map[string]string{
		"X-Session-User-Id": "alice",
		"X-Session-Handle":  handle,
		"X-Session-Claims":  base64.RawURLEncoding.EncodeToString([]byte(`{"role":"tester"}`)),
	}
	identical := func(t *testing.T, got http.Header) {
		t.Helper()
		for name, value := range want {
			if !slices.Equal(got[name], []string{value}) {
				t.Errorf("the app sees %s %q, want %q once", name, got[name], value)
			}
		}
		for name := range got {
			if strings.HasPrefix(strings.ToLower(name), "x-session") && want[name] == "" {
				t.Errorf("the app sees %s", name)
			}
		}
	}
	identical(t, plain)
	if plain.Get("Cookie") == "" || !strings.Contains(plain.Get("Cookie"), "sAccessToken=") || strings.Contains(plain.Get("Cookie"), "sRefreshToken=") {
		t.Error("unless told otherwise, the app sees the access token's cookie, and never the refresh token's")
	}

	t.Run("claims of a client's own", func(t *testing.T) {
		for _, path := range []string{"/", "/api/x", "/optional"} {
			a := b.send(http.MethodGet, path, script, with("X-Session-User-Id", "admin", "root"), with("x-session-user-id", "admin"),
				with("X-SESSION-HANDLE", "h"), with("x-session-claims", "e30"))
			if a.app == nil {
				t.Fatalf("%s: %d", path, a.status)
			}
			identical(t, a.app.Header)
		}
		for _, path := range []string{"/", "/api/x", "/optional", "/login", "/static/x"} {
			for _, name := range []string{"x_session_user_id", "X_Session-User-Id"} {
				if a := b.send(http.MethodGet, path, script, with(name, "admin")); a.status != http.StatusBadRequest {
					t.Errorf("%s with %s: %d, want 400", path, name, a.status)
				}
			}
		}
		none := s.newBrowser(networkX)
		for _, path := range []string{"/optional", "/login", "/static/x"} {
			a := none.send(http.MethodGet, path, script, with("X-Session-User-Id", "admin"), with("x-session-handle", "h"),
				with("X-session-Claims", "e30"), with("x-session.user.id", "admin"), with("X.Session-User~Id", "admin"))
			if a.app == nil {
				t.Fatalf("%s: %d", path, a.status)
			}
			for name := range a.app.Header {
				if strings.HasPrefix(strings.ToLower(name), "x") && strings.Contains(strings.ToLower(name), "session") {
					t.Errorf("%s: the app sees %s of a user who is not signed in", path, name)
				}
			}
		}
	})

	t.Run("other encodings of the request", func(t *testing.T) {
		asMap := s.startEnvoy("envoy-mapped", mapped)
		var http2 http.Protocols
		http2.SetUnencryptedHTTP2(true)
		for name, proxy := range map[string]*envoyrun.Proxy{"raw": s.proxy, "mapped": asMap} {
			for version, protocols := range map[string]*http.Protocols{"HTTP/1.1": nil, "HTTP/2": &http2} {
				t.Run(name+" "+version, func(t *testing.T) {
					c := s.newBrowserAt(proxy.URL("ingress"), networkV, protocols)
					c.jar, c.antiCSRF = maps.Clone(b.jar), b.antiCSRF
					token := "sAccessToken=" + b.access()
					for title, lines := range map[string][]string{
						"one line":         {"a=1; " + token + "; b=2"}, // crumbs, in HTTP/2
						"several lines":    {"a=1", token, "b=2"},
						"token twice":      {token, token + "; a=1"},
						"rubbish beside":   {"sAccessToken=rubbish; " + token, "sAccessToken="},
						"no space between": {"a=1;" + token + ";b=2"},
					} {
						a := c.send(http.MethodGet, "/", script, without("Cookie"), with("Cookie", lines...))
						if joined := name == "mapped" && version == "HTTP/1.1" && len(lines) > 1; joined {
							// A comma may be part of a planted cookie: no one is believed.
							if a.app != nil {
								t.Errorf("%s: allowed by lines that Envoy joined", title)
							}
							continue
						}
						if a.app == nil {
							t.Errorf("%s: %d", title, a.status)
							continue
						}
						identical(t, a.app.Header)
						for _, line := range lines {
							if strings.HasPrefix(line, "a=1; ") && !strings.Contains(strings.Join(a.app.Header["Cookie"], "; "), "a=1") {
								t.Errorf("%s: the app does not see its own cookie", title)
							}
						}
					}
					if a := c.send(http.MethodGet, "/", with("Anti-Csrf", c.antiCSRF)); a.status != 440 {
						t.Errorf("repeated anti-CSRF token: %d, want 440", a.status)
					}
				})
			}
		}
	})
}

// TestStrippedCookies: where it is set so, no token goes to the app.
func TestStrippedCookies(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, settings: []string{"SESSIONGATE_STRIP_COOKIES=true"}})
	b := s.newBrowser(networkV)
	b.signIn("alice")
	token := "sAccessToken=" + b.access()
	asMap := s.startEnvoy("envoy-mapped", mapped)
	for name, proxy := range map[string]*envoyrun.Proxy{"raw": s.proxy, "mapped": asMap} {
		for title, test := range map[string]struct {
			lines []string
			want  string
		}{
			"alone":         {[]string{token}, ""},
			"between":       {[]string{"a=1; " + token + `; b="2 3"`}, `a=1; b="2 3"`},
			"legacy":        {[]string{token + "; sIdRefreshToken=x; sAccessTokens=keep"}, "sAccessTokens=keep"},
			"refresh token": {[]string{token + "; sRefreshToken=planted"}, ""},
		} {
			a := b.newTab(proxy).send(http.MethodGet, "/", script, without("Cookie"), with("Cookie", test.lines...))
			if a.app == nil {
				t.Errorf("%s, %s: %d", name, title, a.status)
				continue
			}
			if got := strings.Join(a.app.Header["Cookie"], "; "); got != test.want {
				t.Errorf("%s, %s: the app sees other cookies than %q", name, title, test.want)
			}
			if got := a.app.Header["X-Session-User-Id"]; !slices.Equal(got, []string{"alice"}) {
				t.Errorf("%s, %s: user %q", name, title, got)
			}
		}
		if name == "mapped" {
			continue // there, lines that Envoy joined sign no one in
		}
		several := b.newTab(proxy).send(http.MethodGet, "/", script, without("Cookie"), with("Cookie", "a=1", token, "b=2"))
		if several.app == nil || strings.Contains(strings.Join(several.app.Header["Cookie"], ";"), "sAccessToken") {
			t.Errorf("%s: %d, several lines are not stripped", name, several.status)
		} else if got := strings.Join(several.app.Header["Cookie"], ";"); !strings.Contains(got, "a=1") || !strings.Contains(got, "b=2") {
			t.Errorf("%s: of several lines the app sees %q", name, got)
		}
	}
}

const pleaseRefresh = "Please call the refresh token endpoint"

// asks fails unless the answer is TRY_REFRESH, in the form for scripts or for navigations.
func (a answer) asks(t *testing.T, page bool) {
	t.Helper()
	if a.status != 440 || a.header.Get("Cache-Control") != "no-store" || len(a.header.Values("Set-Cookie")) > 0 {
		t.Errorf("%d %v, want 440, not to be stored, without cookies", a.status, a.header.Values("Cache-Control"))
	}
	contentType := a.header.Get("Content-Type")
	if page {
		if !strings.HasPrefix(contentType, "text/html") || !strings.Contains(a.body, pleaseRefresh) || a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("navigation: %s %.200q", contentType, a.body)
		}
	} else if contentType != "text/plain; charset=utf-8" && contentType != "text/plain" || a.body != pleaseRefresh {
		t.Errorf("script: %s %.200q", contentType, a.body)
	}
}

// asksForToken: the answer to a request that nothing but the anti-CSRF token can vouch for. It says so, for a refresh alone does not help.
func (a answer) asksForToken(t *testing.T) {
	t.Helper()
	sentence, rest, _ := strings.Cut(a.body, "\n")
	if !strings.Contains(rest, "A refresh alone does not help") || !strings.Contains(rest, "anti-csrf header of the refresh's answer") {
		t.Errorf("the client is not told what is missing: %q", a.body)
	}
	a.body = sentence
	a.asks(t, false)
}

// TestDenials: what each kind of request is told, and that none of them reaches the app.
func TestDenials(t *testing.T) {
	s := newStack(t, stackOptions{edit: editRoutes(func(v *routev3.VirtualHost) error {
		return addRoute(v, "default", "/typo", map[string]string{"sesion": "optional"})
	})})
	b, none := s.newBrowser(networkV), s.newBrowser(networkX)
	b.signIn("alice")
	b.mustGet(t)
	before := s.app.requests.Load()

	t.Run("not signed in", func(t *testing.T) {
		for _, kind := range []option{script, navigation, image} {
			if a := none.do(http.MethodGet, "/", kind); a.status != http.StatusFound || a.header.Get("Location") != "/login" || len(a.header.Values("Set-Cookie")) > 0 {
				t.Errorf("%d to %q, want 302 to /login", a.status, a.header.Get("Location"))
			}
		}
		if a := none.do(http.MethodGet, "/api/x", script); a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "application/json" || a.body != `{"message":"unauthorised"}` {
			t.Errorf("script: %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
		}
		if a := none.do(http.MethodGet, "/api/x", navigation); a.status != http.StatusFound {
			t.Errorf("navigation to a script's route: %d", a.status)
		}
		for _, path := range []string{"/api/../x", "//x", "/no/such/route", "/LOGIN", "/login/"} {
			if a := none.do(http.MethodGet, path, script); a.status != http.StatusFound {
				t.Errorf("%s: %d, want 302", path, a.status)
			}
		}
	})

	t.Run("broken tokens", func(t *testing.T) {
		foreign := newStack(t, stackOptions{processes: 1, noEnvoy: true})
		other := foreign.processes[0].create("alice").Tokens.Access
		good := b.access()
		parts := strings.Split(good, ".")
		foreignParts := strings.Split(other, ".")
		for name, token := range map[string]string{
			"rubbish":             "rubbish",
			"foreign key":         other,
			"truncated":           good[:len(good)-1],
			"half":                good[:len(good)/2],
			"longer":              good + "A",
			"no signature":        parts[0] + "." + parts[1] + ".",
			"foreign payload":     parts[0] + "." + foreignParts[1] + "." + parts[2],
			"foreign signature":   parts[0] + "." + parts[1] + "." + foreignParts[2],
			"alg none":            base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
			"the refresh token":   b.cookie("sRefreshToken"),
			"very long":           strings.Repeat("A", 8000),
			"JSON serialisation":  `{"payload":"` + parts[1] + `"}`,
			"quoted twice":        `""` + good + `""`, // one pair is no part of the value
			"half quoted":         `"` + good,
			"the other way round": parts[2] + "." + parts[1] + "." + parts[0],
		} {
			c := s.newBrowser(networkV)
			c.antiCSRF = b.antiCSRF
			c.setAccess(token)
			t.Run(name, func(t *testing.T) {
				c.send(http.MethodGet, "/", script).asks(t, false)
				c.send(http.MethodGet, "/", navigation).asks(t, true)
				c.send(http.MethodPost, "/api/x", script).asks(t, false)
			})
		}
	})

	t.Run("anti-CSRF", func(t *testing.T) {
		// No browser attests anything: the token has to.
		for name, options := range map[string][]option{
			"missing":  {without("Anti-Csrf")},
			"wrong":    {without("Anti-Csrf"), with("Anti-Csrf", "AAAAAAAAAAAAAAAAAAAAAA")},
			"cut":      {without("Anti-Csrf"), with("Anti-Csrf", b.antiCSRF[:len(b.antiCSRF)-1])},
			"repeated": {with("Anti-Csrf", b.antiCSRF)},
		} {
			t.Run(name, func(t *testing.T) {
				b.send(http.MethodGet, "/", options...).asksForToken(t)
				b.send(http.MethodPost, "/api/x", options...).asksForToken(t)
			})
		}
		foreignForm := []option{navigation, without("Sec-Fetch-Site"), with("Sec-Fetch-Site", "cross-site"), with("Origin", "https://evil.example")}
		if a := b.send(http.MethodPost, "/transfer", foreignForm...); a.status != http.StatusForbidden {
			t.Errorf("a foreign page's form: %d, want 403", a.status)
		}
		if a := b.send(http.MethodGet, "/api/x", with("Upgrade", "websocket"), with("Connection", "Upgrade"), with("Origin", "https://evil.example")); a.status != http.StatusForbidden {
			t.Errorf("a foreign page's WebSocket: %d, want 403", a.status)
		}
	})

	t.Run("misspelt policy", func(t *testing.T) {
		for _, c := range []*browser{b, none} {
			if a := c.send(http.MethodGet, "/typo", script); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("%d, want 503", a.status)
			}
		}
	})

	t.Run("expired", func(t *testing.T) {
		s.advance(accessLife + moment)
		b.send(http.MethodGet, "/", script).asks(t, false)
		b.send(http.MethodGet, "/", navigation).asks(t, true)
		b.send(http.MethodPost, "/api/x", script).asks(t, false)
	})

	if n := s.app.requests.Load() - before; n != 0 {
		t.Errorf("%d denied requests reached the app", n)
	}

	t.Run("what a browser attests passes", func(t *testing.T) {
		b.mustRefresh(t)
		for name, r := range map[string]struct {
			method  string
			options []option
		}{
			"navigation": {http.MethodGet, []option{navigation}},
			"image":      {http.MethodGet, []option{image}},
			"own form":   {http.MethodPost, []option{navigation, with("Origin", "http://"+host)}},
			"preflight":  {http.MethodOptions, []option{without("Cookie"), without("Anti-Csrf"), with("Origin", "http://app.localhost:10000"), with("Access-Control-Request-Method", "POST")}},
		} {
			if a := b.send(r.method, "/", r.options...); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		foreignImage := []option{image, without("Sec-Fetch-Site"), with("Sec-Fetch-Site", "cross-site")}
		if a := b.send(http.MethodGet, "/", foreignImage...); a.status != http.StatusForbidden || a.app != nil {
			t.Errorf("a foreign page's image: %d, want 403", a.status)
		}
	})
}
