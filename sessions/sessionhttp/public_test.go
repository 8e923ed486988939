package sessionhttp

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

const pastGrace = 11 * time.Second // > G = D

// TestRefresh walks one token chain: R3 keeps the refresh token, R4 issues a child,
// R6 promotes it.
func TestRefresh(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)

	first := refreshCall(refreshCookie(c.Tokens.Refresh))
	first.body = "a body means nothing"
	r := do(b.public, first)
	want(t, r, http.StatusOK)
	if got := r.Body; got != "{}" {
		t.Errorf("body %q", got)
	}
	if held := jar(r); held["sAccessToken"] == "" {
		t.Error("R3 sets no access token")
	} else if _, set := held["sRefreshToken"]; set {
		t.Error("R3 touches the refresh token's cookie")
	}
	if got := r.Header.Get("Anti-Csrf"); got != c.Tokens.AntiCSRF {
		t.Errorf("anti-csrf %q", got)
	}
	for _, name := range []string{"Front-Token", "Id-Refresh-Token"} {
		if v := r.Header.Values(name); len(v) != 1 || v[0] == "" || v[0] == "remove" {
			t.Errorf("%s: %q", name, v)
		}
	}
	if got := r.Header.Values("St-Access-Token"); len(got) > 0 {
		t.Error("cookie transport puts a token into a header that scripts read")
	}

	b.pass(t, pastGrace)
	r = do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh)))
	want(t, r, http.StatusOK)
	child := jar(r)["sRefreshToken"]
	if child == "" || child == c.Tokens.Refresh {
		t.Fatal("R4 issues no child")
	}
	r = do(b.public, refreshCall(refreshCookie(child)))
	want(t, r, http.StatusOK)
	if !b.alive(t, c.Session.Handle) {
		t.Error("session is gone")
	}
}

func TestRefreshReadsCookies(t *testing.T) {
	b := newBench(t)
	one, two := b.signIn(t), b.signIn(t)
	token := refreshCookie(one.Tokens.Refresh)
	tests := []struct {
		name   string
		lines  []string
		status int
	}{
		{"alone", []string{token}, http.StatusOK},
		{"among others", []string{"a=b; " + token + "; theme=dark"}, http.StatusOK},
		{"on the second of two lines", []string{"a=b", token}, http.StatusOK},
		{"after garbage of the same name", []string{"sRefreshToken=garbage; " + token}, http.StatusOK},
		{"before garbage of the same name", []string{token, "sRefreshToken=sgr1_AAAA"}, http.StatusOK},
		{"twice", []string{token + "; " + token}, http.StatusOK},
		{"of two sessions", []string{token + "; " + refreshCookie(two.Tokens.Refresh)}, 440},
		{"in another cookie", []string{"other=" + one.Tokens.Refresh}, 440},
		{"access token in its place", []string{refreshCookie(one.Tokens.Access)}, 440},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want(t, do(b.public, refreshCall().with("Cookie", test.lines...)), test.status)
		})
	}
}

func TestRefreshEnded(t *testing.T) {
	theft := func(t *testing.T, b *bench) string { // scenario "thief first", after G
		t.Helper()
		c := b.signIn(t)
		b.pass(t, pastGrace)
		child := jar(do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh))))["sRefreshToken"]
		want(t, do(b.public, refreshCall(refreshCookie(child))), http.StatusOK)
		b.pass(t, pastGrace)
		return refreshCookie(c.Tokens.Refresh)
	}
	ended := func(t *testing.T, b *bench) string {
		t.Helper()
		c := b.signIn(t)
		want(t, do(b.internal, apiCall(http.MethodDelete, "/v1/sessions/"+c.Session.Handle, "")), http.StatusOK)
		return refreshCookie(c.Tokens.Refresh)
	}
	expired := func(t *testing.T, b *bench) string {
		t.Helper()
		c := b.signIn(t)
		b.pass(t, 31*24*time.Hour)
		return refreshCookie(c.Tokens.Refresh)
	}
	tests := []struct {
		name   string
		cookie func(*testing.T, *bench) string
		body   string
		noGet  bool // costs no query
	}{
		{"no cookies (first visit)", func(*testing.T, *bench) string { return "" }, "unauthorised", true},
		{"garbage (R1, I6)", func(*testing.T, *bench) string { return "sRefreshToken=garbage" }, "unauthorised", true},
		{"ended by a backend (R2)", ended, "unauthorised", false},
		{"expired (R2)", expired, "unauthorised", false},
		{"theft (R8)", theft, "token theft detected", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			cookie := test.cookie(t, b)
			gets := b.store.gets.Load()
			c := refreshCall()
			if cookie != "" {
				c = c.with("Cookie", cookie)
			}
			r := do(b.public, c)
			want(t, r, 440)
			if got, want := r.Body, `{"error":"`+test.body+`"}`; got != want {
				t.Errorf("body %s, want %s", got, want)
			}
			if got := r.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
			wantCleared(t, r)
			for _, name := range []string{"Front-Token", "Id-Refresh-Token"} {
				if got := r.Header.Get(name); got != "remove" {
					t.Errorf("%s: %q", name, got)
				}
			}
			if n := b.store.gets.Load() - gets; test.noGet && n > 0 {
				t.Errorf("%d queries", n)
			}
		})
	}
}

func TestSessionExpiredStatusIsASetting(t *testing.T) {
	b := newBench(t, func(c *Config) { c.SessionExpiredStatus = http.StatusUnauthorized })
	want(t, do(b.public, refreshCall()), http.StatusUnauthorized)
}

// TestSuperseded: a 409 leaves the client exactly as it was.
func TestSuperseded(t *testing.T) {
	b := newBench(t)
	c := b.create(t, `{"user_id":"u1","client":{"address":"`+peer+`","user_agent":"`+userAgent+`"}}`)
	cookie := refreshCookie(c.Tokens.Refresh) + "; " + browser.LegacyCookie + "=x"
	want(t, do(b.public, refreshCall(cookie)), http.StatusOK) // the recorded client

	for name, other := range map[string]call{
		"another network (R3)": refreshCall(cookie).with(peerHeader, "203.0.113.9"),
		"another browser (R3)": refreshCall(cookie).with("User-Agent", "curl"),
	} {
		t.Run(name, func(t *testing.T) {
			r := do(b.public, other)
			want(t, r, http.StatusConflict)
			untouched(t, r)
			if got := r.Body; got != `{"error":"superseded"}` {
				t.Errorf("body %s", got)
			}
		})
	}
	t.Run("late, after a sign-out (R2)", func(t *testing.T) {
		want(t, do(b.public, signOutCall(cookie)), http.StatusOK)
		r := do(b.public, refreshCall(cookie))
		want(t, r, http.StatusConflict)
		untouched(t, r)
	})
}

func TestUnavailable(t *testing.T) {
	b, start := newIdleBench(t)
	check := func(t *testing.T, c call) {
		t.Helper()
		r := do(b.public, c)
		wantProblem(t, r, http.StatusServiceUnavailable)
		untouched(t, r)
		if got := r.Header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After %q", got)
		}
	}
	check(t, refreshCall("sRefreshToken=x")) // not ready
	check(t, signOutCall("sRefreshToken=x"))
	check(t, call{method: http.MethodGet, path: JWKSPath})
	want(t, do(b.public, refreshCall()), 440) // a first visit asks nothing of the engine
	start()
	c := b.signIn(t)
	cookie := refreshCookie(c.Tokens.Refresh) + "; " + browser.LegacyCookie + "=x"
	b.store.down.Store(true)
	check(t, refreshCall(cookie))
	check(t, signOutCall(cookie))
	if log := b.log.String(); !strings.Contains(log, errDown.Error()) || !strings.Contains(log, `"level":"WARN"`) {
		t.Error("the cause of a 503 is not logged as a warning")
	}
	b.store.down.Store(false)
	want(t, do(b.public, refreshCall(cookie)), http.StatusOK)
}

func TestLegacyCookie(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)
	legacy := browser.LegacyCookie + "=old"
	wantCleared(t, do(b.public, refreshCall(legacy)), browser.LegacyCookie)
	r := do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh), legacy))
	want(t, r, http.StatusOK)
	if v, deleted := jar(r)[browser.LegacyCookie]; !deleted || v != "" {
		t.Error("a refresh that succeeds leaves the legacy cookie")
	}
	wantCleared(t, do(b.public, signOutCall(refreshCookie(c.Tokens.Refresh), legacy)), browser.LegacyCookie)
	for _, line := range do(b.public, refreshCall()).Header.Values("Set-Cookie") {
		if strings.HasPrefix(line, browser.LegacyCookie) {
			t.Error("the legacy cookie is deleted where none came")
		}
	}
}

func TestHeaderTransport(t *testing.T) {
	b := newBench(t)
	inHeader, inCookie := b.create(t, `{"user_id":"u1","transport":"header"}`), b.signIn(t)

	r := do(b.public, refreshCall().with("Authorization", "Bearer "+inHeader.Tokens.Refresh))
	want(t, r, http.StatusOK)
	if r.Header.Get("St-Access-Token") == "" || len(r.Cookies()) > 0 {
		t.Errorf("header transport: %v", r.Header)
	}
	// A token of one transport is refused in the other, and changes nothing.
	gets := b.store.gets.Load()
	r = do(b.public, refreshCall(refreshCookie(inHeader.Tokens.Refresh)))
	want(t, r, 440)
	wantCleared(t, r)
	r = do(b.public, refreshCall().with("Authorization", "Bearer "+inCookie.Tokens.Refresh))
	want(t, r, 440)
	if got := r.Header.Get("Anti-Csrf"); got != "" {
		t.Error("tokens in an answer to the wrong transport")
	}
	if n := b.store.gets.Load() - gets; n > 0 {
		t.Errorf("%d queries for a token of the other transport", n)
	}
	for name, c := range map[string]call{
		"header's, as cookies":       signOutCall(accessCookie(inHeader.Tokens.Access), refreshCookie(inHeader.Tokens.Refresh)),
		"cookie's access, as header": signOutCall().with("Authorization", "Bearer "+inCookie.Tokens.Access),
		"cookie's RT, as header":     signOutCall().with("Authorization", "Bearer "+inCookie.Tokens.Refresh),
	} {
		want(t, do(b.public, c), http.StatusOK)
		if !b.alive(t, inHeader.Session.Handle) || !b.alive(t, inCookie.Session.Handle) {
			t.Fatalf("%s: ends a session of the other transport", name)
		}
	}
}

// A script means the session whose token it puts into Authorization. The cookies that the
// browser adds, perhaps another session's, are left as they are. Other systems' bearer
// tokens count as none.
func TestHeaderBesideCookies(t *testing.T) {
	for name, tt := range map[string]struct {
		call   func(string) call
		bearer func(inHeader createResponse) string
		cookie bool // the cookies' session is meant
	}{
		"refresh token":                         {refreshOf, func(c createResponse) string { return c.Tokens.Refresh }, false},
		"refresh token, but broken":             {refreshOf, func(createResponse) string { return "sgr1_broken" }, false},
		"refresh, another system's":             {refreshOf, func(createResponse) string { return "eyJhbGciOiJFUzI1NiJ9.e30.c2ln" }, true},
		"refresh, our access token":             {refreshOf, func(c createResponse) string { return c.Tokens.Access }, true},
		"sign-out, our access token":            {signOutOf, func(c createResponse) string { return c.Tokens.Access }, false},
		"sign-out, our refresh token":           {signOutOf, func(c createResponse) string { return c.Tokens.Refresh }, false},
		"sign-out, another system's":            {signOutOf, func(createResponse) string { return "opaque" }, true},
		"sign-out, another system's JWT":        {signOutOf, func(createResponse) string { return "eyJhbGciOiJFUzI1NiJ9.e30.c2ln" }, true},
		"sign-out, no signature":                {signOutOf, func(c createResponse) string { return c.Tokens.Access[:200] }, false},
		"sign-out, our header and nothing more": {signOutOf, func(c createResponse) string { return strings.SplitAfter(c.Tokens.Access, ".")[0] }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			inHeader, inCookie := b.create(t, `{"user_id":"u1","transport":"header"}`), b.signIn(t)
			r := do(b.public, tt.call(refreshCookie(inCookie.Tokens.Refresh)).with("Authorization", "Bearer "+tt.bearer(inHeader)))
			if got := len(r.Cookies()) > 0; got != tt.cookie {
				t.Errorf("%d, and cookies touched: %t", r.StatusCode, got)
			}
			if !tt.cookie && !b.alive(t, inCookie.Session.Handle) {
				t.Error("the cookies' session has ended")
			}
			if tt.cookie && !b.alive(t, inHeader.Session.Handle) {
				t.Error("the header's session has ended")
			}
		})
	}
	t.Run("sign-out ends the session meant", func(t *testing.T) {
		for _, text := range []func(createResponse) string{func(c createResponse) string { return c.Tokens.Access }, func(c createResponse) string { return c.Tokens.Refresh }} {
			b := newBench(t)
			c := b.create(t, `{"user_id":"u1","transport":"header"}`)
			want(t, do(b.public, signOutCall().with("Authorization", "Bearer "+text(c))), http.StatusOK)
			if b.alive(t, c.Session.Handle) {
				t.Error("the session lives")
			}
		}
	})
}

// The SDKs send what looks like their tokens of header transport also where they
// keep to cookies; a sibling host could plant those.
func TestPlantedBearer(t *testing.T) {
	for name, ask := range map[string]func(string) call{"refresh": refreshOf, "sign-out": signOutOf} {
		for _, token := range []func(createResponse) string{func(c createResponse) string { return c.Tokens.Access }, func(c createResponse) string { return c.Tokens.Refresh }} {
			b := newBench(t)
			planted, own := b.create(t, `{"user_id":"attacker","transport":"header"}`), b.signIn(t)
			r := do(b.public, ask(refreshCookie(own.Tokens.Refresh)).with("Authorization", "Bearer "+token(planted)).with("St-Auth-Mode", "cookie"))
			want(t, r, http.StatusOK)
			if r.Header.Get("St-Access-Token") != "" || len(r.Cookies()) == 0 || !b.alive(t, planted.Session.Handle) {
				t.Errorf("%s: the planted session is meant", name)
			}
		}
	}
}

func refreshOf(cookie string) call { return refreshCall(cookie) }
func signOutOf(cookie string) call { return signOutCall(cookie) }

// A page without the SDK may refresh or sign out where the SDK is at home, too.
func TestSDKCookies(t *testing.T) {
	b := newBench(t)
	sdk := map[string]func(call) *answer{
		"ended":    func(c call) *answer { return do(b.public, c) },
		"sign-out": func(c call) *answer { c.path = "/auth/signout"; return do(b.public, c) },
	}
	for name, end := range sdk {
		for _, carried := range browser.SDKCookieNames() {
			r := end(refreshCall(carried + "=x"))
			wantCleared(t, r, carried)
			for _, other := range browser.SDKCookieNames() {
				if _, touched := jar(r)[other]; touched && other != carried {
					t.Errorf("%s: %s is deleted, which did not come", name, other)
				}
			}
		}
		for _, line := range end(refreshCall("other=x")).Header.Values("Set-Cookie") {
			if strings.HasPrefix(line, "sFront") {
				t.Errorf("%s: an SDK's cookie is deleted where none came", name)
			}
		}
	}
	c := b.signIn(t)
	r := do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh), "sFrontToken=x"))
	want(t, r, http.StatusOK)
	if _, touched := jar(r)["sFrontToken"]; touched {
		t.Error("a refresh that succeeds touches an SDK's cookie")
	}
}

func TestSignOut(t *testing.T) {
	b := newBench(t)
	tests := []struct {
		name   string
		cookie func(createResponse) string
		ends   bool
	}{
		{"refresh token", func(c createResponse) string { return refreshCookie(c.Tokens.Refresh) }, true},
		{"access token", func(c createResponse) string { return accessCookie(c.Tokens.Access) }, true},
		{"both", func(c createResponse) string {
			return accessCookie(c.Tokens.Access) + "; " + refreshCookie(c.Tokens.Refresh)
		}, true},
		{"garbage", func(createResponse) string { return "sAccessToken=x; sRefreshToken=y" }, false},
		{"none", func(createResponse) string { return "" }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := b.signIn(t)
			for range 2 { // idempotent
				r := do(b.public, signOutCall(test.cookie(c)))
				want(t, r, http.StatusOK)
				if got := r.Body; got != `{"status":"OK"}` {
					t.Errorf("body %s", got)
				}
				wantCleared(t, r)
				if r.Header.Get("Front-Token") != "remove" || r.Header.Get("Id-Refresh-Token") != "remove" {
					t.Errorf("headers %v", r.Header)
				}
				if b.alive(t, c.Session.Handle) == test.ends {
					t.Errorf("session alive: %v", !test.ends)
				}
			}
		})
	}
	t.Run("expired access token alone", func(t *testing.T) {
		c := b.signIn(t)
		b.pass(t, 2*time.Hour)
		r := do(b.public, signOutCall(accessCookie(c.Tokens.Access)))
		want(t, r, 440)
		untouched(t, r)
		if got := r.Body; got != "Please call the refresh token endpoint" {
			t.Errorf("body %q", got)
		}
		if got := r.Header.Get("Content-Type"); got != "text/plain" {
			t.Errorf("Content-Type %q", got)
		}
		if !b.alive(t, c.Session.Handle) {
			t.Error("an expired access token ended a session")
		}
		want(t, do(b.public, signOutCall(accessCookie(c.Tokens.Access), refreshCookie(c.Tokens.Refresh))), http.StatusOK)
	})
}

func TestPublicRoutes(t *testing.T) {
	b := newBench(t)
	tests := []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/auth/session/refresh", http.StatusMethodNotAllowed, "POST"},
		{http.MethodHead, "/auth/session/refresh", http.StatusMethodNotAllowed, "POST"},
		{http.MethodOptions, "/auth/session/refresh", http.StatusMethodNotAllowed, "POST"},
		{http.MethodPut, "/auth/signout", http.StatusMethodNotAllowed, "POST"},
		{http.MethodPost, JWKSPath, http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodPost, "/auth", http.StatusNotFound, ""},
		{http.MethodGet, "/auth/", http.StatusNotFound, ""},
		{http.MethodPost, "/auth/session/refresh/", http.StatusNotFound, ""},
		{http.MethodPost, "//auth/session/refresh", http.StatusNotFound, ""},
		{http.MethodPost, "/auth/../auth/session/refresh", http.StatusNotFound, ""},
		{http.MethodPost, "/AUTH/signout", http.StatusNotFound, ""},
		{http.MethodPost, "/v1/sessions", http.StatusNotFound, ""},
		{http.MethodGet, "/", http.StatusNotFound, ""},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			c := post("").with("Cookie", "sRefreshToken=x")
			c.method = test.method
			r := doRaw(b.public, c, test.path)
			wantProblem(t, r, test.status)
			untouched(t, r)
			if got := r.Header.Get("Allow"); got != test.allow {
				t.Errorf("Allow %q, want %q", got, test.allow)
			}
		})
	}
}

func TestPathsAreSettings(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Cookies.AuthPath, c.RefreshPath, c.SignoutPath = "/s", "/s/refresh", "/s/out" })
	want(t, do(b.public, post("/s/refresh")), 440)
	want(t, do(b.public, post("/s/out")), http.StatusOK)
	want(t, do(b.public, refreshCall()), http.StatusNotFound)
}

func TestJWKS(t *testing.T) {
	b := newBench(t)
	get := call{method: http.MethodGet, path: JWKSPath}
	r := do(b.public, get)
	if r.StatusCode != http.StatusOK || r.Header.Get("Cache-Control") != "public, max-age=300" {
		t.Fatalf("status %d, headers %v", r.StatusCode, r.Header)
	}
	var set struct {
		Keys []map[string]jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal([]byte(r.Body), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 || set.Keys[0]["x"] == nil || set.Keys[0]["d"] != nil {
		t.Errorf("keys %v", set.Keys)
	}
	etag := r.Header.Get("ETag")
	if again := do(b.public, get.with("If-None-Match", etag)); etag == "" || again.StatusCode != http.StatusNotModified {
		t.Errorf("status %d for ETag %q", again.StatusCode, etag)
	}
	if head := do(b.public, call{method: http.MethodHead, path: JWKSPath}); head.StatusCode != http.StatusOK || head.Body != "" {
		t.Errorf("HEAD: status %d", head.StatusCode)
	}
}

func TestClientOf(t *testing.T) {
	network, other := netip.MustParseAddr(peer), netip.MustParseAddr("203.0.113.1")
	tests := []struct {
		name  string
		peers []string
		want  netip.Addr
	}{
		{"one", []string{peer}, network},
		{"none", nil, netip.Addr{}},
		{"repeated", []string{peer, peer}, netip.Addr{}},
		{"joined", []string{peer + "," + other.String()}, netip.Addr{}},
		{"with port", []string{peer + ":443"}, netip.Addr{}},
		{"no address", []string{"@/run/envoy.sock"}, netip.Addr{}},
		{"IPv6", []string{"2001:db8::1"}, netip.MustParseAddr("2001:db8::1")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"User-Agent": {userAgent}}
			if test.peers != nil {
				h[peerHeader] = test.peers
			}
			got := sessions.NewClient(peerOf(&http.Request{Header: h}), userAgent)
			if diff := cmp.Diff(sessions.NewClient(test.want, userAgent), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
