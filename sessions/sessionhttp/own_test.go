package sessionhttp

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

func ownBench(t *testing.T) *bench {
	t.Helper()
	return newBench(t, func(c *Config) { c.OwnSessions.Enabled = true })
}

// ownCall is one of a script on a page of the own origin.
func ownCall(method, path string, c createResponse) call {
	r := post("/auth/sessions"+path, accessCookie(c.Tokens.Access)).with("Sec-Fetch-Site", "same-origin")
	r.method = method
	return r
}

func (b *bench) ownList(t *testing.T, c createResponse) ownList {
	t.Helper()
	r := do(b.public, ownCall(http.MethodGet, "", c))
	want(t, r, http.StatusOK)
	untouched(t, r)
	var list ownList
	if err := json.Unmarshal([]byte(r.Body), &list, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestOwnSessions(t *testing.T) {
	b := ownBench(t)
	const body = `{"user_id":"u1","claims":{"role":"secret"},"data":{"x":"secret"},"client":{"address":"192.0.2.77","user_agent":"A\u0007 phone"}}`
	phone, desk, others := b.create(t, body), b.signIn(t), b.create(t, `{"user_id":"u2"}`)
	if text := do(b.public, ownCall(http.MethodGet, "", desk)).Body; strings.Contains(text, "secret") || strings.Contains(text, "sgr1_") {
		t.Errorf("it tells too much: %s", text)
	}
	list := b.ownList(t, desk)
	if len(list.Sessions) != 2 || list.More {
		t.Fatalf("%+v", list)
	}
	byID := map[string]ownSession{}
	for _, s := range list.Sessions {
		byID[s.ID] = s
		if s.Current != (s.ID == desk.Session.Handle) || s.LastSeen.Before(s.CreatedAt) || !s.ExpiresAt.After(s.CreatedAt) {
			t.Errorf("%+v", s)
		}
	}
	if d := byID[phone.Session.Handle].Device; d == nil || *d != (device{"192.0.2.0/24", "A phone"}) || byID[desk.Session.Handle].Device != nil {
		t.Errorf("%+v", list.Sessions)
	}

	for name, id := range map[string]string{"another user's": others.Session.Handle, "unknown": sessions.NewHandle().String(), "no handle": "x", "below": desk.Session.Handle + "/x", "nothing": ""} {
		if p := wantProblem(t, do(b.public, ownCall(http.MethodDelete, "/"+id, desk)), http.StatusNotFound); p.Code != "no_session" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	r := do(b.public, ownCall(http.MethodDelete, "/"+phone.Session.Handle, desk))
	want(t, r, http.StatusNoContent)
	untouched(t, r)
	if p := wantProblem(t, do(b.public, ownCall(http.MethodGet, "", phone)), http.StatusUnauthorized); p.Code != "ended" {
		t.Errorf("%+v", p)
	}
	b.signIn(t)
	if r := do(b.public, ownCall(http.MethodPost, "/end-others", desk)); r.StatusCode != http.StatusOK || r.Body != `{"ended":1}` {
		t.Errorf("%d %s", r.StatusCode, r.Body)
	}
	if r := do(b.public, ownCall(http.MethodPost, "/end-others", desk)); r.StatusCode != http.StatusOK || r.Body != `{"ended":0}` {
		t.Errorf("again: %d %s", r.StatusCode, r.Body)
	}
	if !b.alive(t, others.Session.Handle) || len(b.ownList(t, desk).Sessions) != 1 {
		t.Error("it ended others")
	}
	r = do(b.public, ownCall(http.MethodDelete, "/"+desk.Session.Handle, desk))
	want(t, r, http.StatusNoContent)
	wantCleared(t, r)
	if got := strings.Join(b.actors(), ", "); got != "revoked by user, revoked by user, signed_out by sign-out" {
		t.Errorf("ended %s", got)
	}
}

// A thief of an access token can see the sessions of its user. The thief cannot end another one, once the sign-in
// is too long ago: not even learn whether there is one.
func TestOwnSessionsNeedARecentSignIn(t *testing.T) {
	b := ownBench(t)
	victim, stolen := b.signIn(t), b.signIn(t)
	end := ownCall(http.MethodDelete, "/"+victim.Session.Handle, stolen)
	others := ownCall(http.MethodPost, "/end-others", stolen)
	b.pass(t, 10*time.Minute)
	b.ownList(t, stolen)
	for _, c := range []call{end, ownCall(http.MethodDelete, "/"+sessions.NewHandle().String(), stolen), others} {
		r := do(b.public, c)
		if p := wantProblem(t, r, http.StatusForbidden); p.Code != "reauth" {
			t.Errorf("%s: %+v", c.path, p)
		}
		untouched(t, r)
	}
	if !b.alive(t, victim.Session.Handle) {
		t.Error("the owner is out")
	}
	// The own one needs none: a sign-out would end it, too.
	want(t, do(b.public, ownCall(http.MethodDelete, "/"+stolen.Session.Handle, stolen)), http.StatusNoContent)
}

// tokenMissing is what the text of a 440 says that no refresh mends.
const tokenMissing = browser.TokenMissing

func TestOwnSessionsRefusals(t *testing.T) {
	b := ownBench(t)
	mine, header := b.signIn(t), b.create(t, `{"user_id":"u1","transport":"header"}`)
	get := ownCall(http.MethodGet, "", mine)
	bare := post("/auth/sessions", accessCookie(mine.Tokens.Access))
	bare.method = http.MethodGet
	bearer := call{method: http.MethodGet, path: "/auth/sessions"}.with("X-Forwarded-Proto", "https").with("Authorization", "Bearer "+header.Tokens.Access)
	for name, tc := range map[string]struct {
		call   call
		status int
		code   string // empty: a text, or a success; tokenMissing: the end of a text
	}{
		"HEAD":                            {ownCall(http.MethodHead, "", mine), 200, ""},
		"header transport":                {bearer, 200, ""},
		"anti-CSRF token":                 {bare.with("Anti-Csrf", mine.Tokens.AntiCSRF), 200, ""},
		"address bar":                     {bare.with("Sec-Fetch-Site", "none").with("Sec-Fetch-Mode", "navigate"), 200, ""},
		"allowed origin":                  {bare.with("Origin", "https://admin.example.net"), 200, ""},
		"nothing attests":                 {bare, 440, tokenMissing},
		"another anti-CSRF token":         {bare.with("Anti-Csrf", "x"), 440, tokenMissing},
		"anti-CSRF token, twice":          {bare.with("Anti-Csrf", mine.Tokens.AntiCSRF, mine.Tokens.AntiCSRF), 440, tokenMissing},
		"an extension's script":           {bare.with("Sec-Fetch-Site", "none").with("Sec-Fetch-Mode", "cors"), 440, tokenMissing},
		"foreign":                         {get.with("Sec-Fetch-Site", "cross-site"), 403, "foreign_origin"},
		"foreign, with the token":         {bare.with("Origin", "https://evil.example").with("Anti-Csrf", mine.Tokens.AntiCSRF), 403, "foreign_origin"},
		"no token":                        {get.with("Cookie", "x=y"), 401, "no_token"},
		"malformed":                       {get.with("Cookie", accessCookie("x")), 440, ""},
		"a refresh token":                 {get.with("Cookie", accessCookie(mine.Tokens.Refresh)), 440, ""},
		"the refresh token's cookie":      {get.with("Cookie", refreshCookie(mine.Tokens.Refresh)), 401, "no_token"},
		"header token as a cookie":        {get.with("Cookie", accessCookie(header.Tokens.Access)), 440, ""},
		"cookie token as a bearer":        {bearer.with("Authorization", "Bearer "+mine.Tokens.Access), 440, ""},
		"POST":                            {ownCall(http.MethodPost, "", mine), 405, "method"},
		"GET of one":                      {ownCall(http.MethodGet, "/"+mine.Session.Handle, mine), 405, "method"},
		"DELETE of all":                   {ownCall(http.MethodDelete, "", mine), 405, "method"},
		"GET end-others":                  {ownCall(http.MethodGet, "/end-others", mine), 405, "method"},
		"foreign, without any session":    {bare.with("Cookie").with("Sec-Fetch-Site", "cross-site"), 403, "foreign_origin"},
		"the neighbour of the path":       {ownCall(http.MethodGet, "x", mine), 404, "no_route"},
		"two hosts, which Envoy joins":    {func() call { c := get; c.host = host + "," + host; return c }(), 400, "host_form"},
		"end-others by a cross-site form": {ownCall(http.MethodPost, "/end-others", mine).with("Sec-Fetch-Site", "cross-site"), 403, "foreign_origin"},
	} {
		t.Run(name, func(t *testing.T) {
			r := do(b.public, tc.call)
			if tc.code != "" && tc.code != tokenMissing {
				if p := wantProblem(t, r, tc.status); p.Code != tc.code {
					t.Errorf("%+v", p)
				}
				untouched(t, r)
				return
			}
			want(t, r, tc.status)
			if tc.status == 440 && r.Body != "Please call the refresh token endpoint"+tc.code {
				t.Errorf("%q", r.Body)
			}
		})
	}
	if r := do(b.public, ownCall(http.MethodPatch, "/"+mine.Session.Handle, mine)); r.Header.Get("Allow") != "DELETE" {
		t.Errorf("Allow %q", r.Header.Get("Allow"))
	}
	if !b.alive(t, mine.Session.Handle) || !b.alive(t, header.Session.Handle) {
		t.Error("a session has ended")
	}
	b.pass(t, 2*time.Hour)
	want(t, do(b.public, get), 440) // its access token has expired
}

// Another replica ended the session a moment ago, and this one has not heard of it.
func TestOwnSessionsAskTheStore(t *testing.T) {
	b := ownBench(t)
	victim, thief := b.signIn(t), b.signIn(t)
	b.store.deaf.Store(true) // no poll from here on
	handle, err := sessions.ParseHandle(thief.Session.Handle)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := b.store.End(t.Context(), handle, sessions.Ending{Reason: sessions.ReasonRevoked}); !done || err != nil {
		t.Fatal(done, err)
	}
	for _, c := range []call{
		ownCall(http.MethodGet, "", thief), ownCall(http.MethodDelete, "/"+victim.Session.Handle, thief), ownCall(http.MethodDelete, "/"+thief.Session.Handle, thief),
		ownCall(http.MethodPost, "/end-others", thief),
	} {
		if p := wantProblem(t, do(b.public, c), http.StatusUnauthorized); p.Code != "ended" {
			t.Errorf("%s: %+v", c.path, p)
		}
	}
	if !b.alive(t, victim.Session.Handle) {
		t.Error("the owner is out")
	}
}

// A stolen access token makes no flood of queries, and none of its calls keeps the owner's other sessions from theirs.
func TestOwnSessionsRate(t *testing.T) {
	b := ownBench(t)
	stolen, owner := b.signIn(t), b.signIn(t)
	limited(t, b.public, ownCall(http.MethodGet, "", stolen))
	for _, c := range []call{ownCall(http.MethodDelete, "/"+owner.Session.Handle, stolen), ownCall(http.MethodPost, "/end-others", stolen)} {
		if p := wantProblem(t, do(b.public, c), http.StatusTooManyRequests); p.Code != "too_many_calls" {
			t.Errorf("%+v", p)
		}
	}
	b.ownList(t, owner)
}

func TestOwnSessionsOutage(t *testing.T) {
	b := ownBench(t)
	mine, other := b.signIn(t), b.signIn(t)
	b.store.down.Store(true)
	for _, c := range []call{ownCall(http.MethodGet, "", mine), ownCall(http.MethodDelete, "/"+other.Session.Handle, mine), ownCall(http.MethodDelete, "/"+mine.Session.Handle, mine), ownCall(http.MethodPost, "/end-others", mine)} {
		r := do(b.public, c)
		if p := wantProblem(t, r, http.StatusServiceUnavailable); p.Code != "unavailable" || r.Header.Get("Retry-After") != "1" {
			t.Errorf("%+v, %v", p, r.Header)
		}
		untouched(t, r)
	}
	b.store.down.Store(false)
	if len(b.ownList(t, mine).Sessions) != 2 {
		t.Error("something changed")
	}
	idle, _ := newIdleBench(t, func(c *Config) { c.OwnSessions.Enabled = true })
	wantProblem(t, do(idle.public, ownCall(http.MethodGet, "", mine)), http.StatusServiceUnavailable)
}

// A user with more sessions than are shown sees the own one, and that there are more.
func TestOwnSessionsOfManySessions(t *testing.T) {
	b := ownBench(t)
	oldest := b.signIn(t)
	b.pass(t, time.Second)
	second := b.signIn(t)
	for range ownMax {
		b.signIn(t)
	}
	for name, c := range map[string]createResponse{"oldest": oldest, "second": second} {
		list := b.ownList(t, c)
		if last := list.Sessions[len(list.Sessions)-1]; len(list.Sessions) != ownMax || !list.More || !last.Current || last.ID != c.Session.Handle {
			t.Errorf("%s: %d, more %v, the last %+v", name, len(list.Sessions), list.More, last)
		}
	}
}

func TestOwnSessionsFaults(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*Config){
		"refresh there":     func(c *Config) { c.RefreshPath = "/auth/sessions" },
		"sign-out below":    func(c *Config) { c.SignoutPath = "/auth/sessions/x" },
		"at any time":       func(c *Config) { c.OwnSessions.ReauthWithin = 0 },
		"almost at no time": func(c *Config) { c.OwnSessions.ReauthWithin = time.Second },
	} {
		c := b.cfg
		change(&c)
		if _, err := Public(b.engine, c); err != nil {
			t.Errorf("%s: off, but %v", name, err)
		}
		c.OwnSessions.Enabled = true
		if _, err := Public(b.engine, c); err == nil {
			t.Errorf("%s: no fault", name)
		}
	}
}

// The device of a session is that of its sign-in, then that of a refresh; the API shows it.
func TestDevice(t *testing.T) {
	for name, facts := range map[string]struct {
		kept  sessions.DeviceFacts
		first *device
		later *device
	}{
		"network": {sessions.DeviceFacts{Address: sessions.AddressNetwork, UserAgent: true}, &device{"203.0.113.0/24", "sign-in"}, &device{"198.51.100.0/24", userAgent}},
		"full":    {sessions.DeviceFacts{Address: sessions.AddressFull}, &device{"203.0.113.9", ""}, &device{peer, ""}},
		"none":    {sessions.DeviceFacts{}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.Device = facts.kept })
			c := b.create(t, `{"user_id":"u1","client":{"address":"203.0.113.9","user_agent":"sign-in"}}`)
			b.pass(t, pastGrace)
			want(t, do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh))), http.StatusOK)
			var got struct {
				Session session `json:"session"`
			}
			if err := json.Unmarshal([]byte(do(b.internal, apiCall(http.MethodGet, "/v1/sessions/"+c.Session.Handle, "")).Body), &got); err != nil {
				t.Fatal(err)
			}
			same := func(a, b *device) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
			if !same(c.Session.Device, facts.first) || !same(got.Session.Device, facts.later) || !got.Session.LastSeen.After(got.Session.CreatedAt) {
				t.Errorf("%+v, then %+v", c.Session.Device, got.Session)
			}
		})
	}
}
