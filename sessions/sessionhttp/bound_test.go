package sessionhttp

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// breaking is a store whose Get a test can break: it fails, or panics.
type breaking struct {
	sessions.Store

	get atomic.Pointer[func() error]
}

func (s *breaking) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	if broken := s.get.Load(); broken != nil {
		if err := (*broken)(); err != nil {
			return sessions.Record{}, time.Time{}, err
		}
	}
	return s.Store.Get(ctx, h)
}

// boundBench is a bench that offers to bind sessions.
type boundBench struct {
	*bench

	broken *breaking
}

func newBoundBench(t testing.TB, change ...func(*Config)) boundBench {
	t.Helper()
	b := newBench(t, change...)
	kek, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey, cfg.Binding.Offer = kek, true
	broken := &breaking{Store: b.store}
	b.engine = sessionstest.StartEngine(t, broken, cfg)
	b.public, b.internal = handlers(t, b.engine, b.cfg)
	return boundBench{b, broken}
}

// bindable is a browser with a session that may be bound, and its device.
type bindable struct {
	boundBench

	key       *sessionstest.Device
	handle    string
	cookies   map[string]string
	challenge sessions.Token // of the sign-in
	id        string         // of the device session
}

var (
	quotedChallenge  = regexp.MustCompile(`"(sgc1_[^"]*)"`)
	quotedIdentifier = regexp.MustCompile(`"session_identifier":"(sgd1_[^"]*)"`)
)

func challengeIn(t testing.TB, header string) sessions.Token {
	t.Helper()
	found := quotedChallenge.FindStringSubmatch(header)
	if found == nil {
		t.Fatalf("no challenge in %q", header)
	}
	return sessions.Token(found[1])
}

func (b boundBench) browser(t *testing.T) *bindable {
	t.Helper()
	created := b.signIn(t)
	return &bindable{
		b, sessionstest.NewDevice(t), created.Session.Handle,
		map[string]string{"sAccessToken": created.Tokens.Access, "sRefreshToken": created.Tokens.Refresh},
		challengeIn(t, created.Headers["secure-session-registration"]), "",
	}
}

// post is a request of the browser, with its cookies.
func (c *bindable) post(path string) call {
	var pairs []string
	for name, value := range c.cookies {
		if value != "" {
			pairs = append(pairs, name+"="+value)
		}
	}
	return post(path, pairs...)
}

// took keeps the cookies of an answer, and the identifier.
func (c *bindable) took(r *answer) *answer {
	if found := quotedIdentifier.FindStringSubmatch(r.Body); found != nil {
		c.id = found[1]
	}
	for _, cookie := range r.Cookies() {
		if cookie.Domain == "" {
			c.cookies[cookie.Name] = cookie.Value
			if cookie.MaxAge < 0 {
				delete(c.cookies, cookie.Name)
			}
		}
	}
	return r
}

// deletes says whether an answer deletes a cookie of its host.
func deletes(r *answer, name string) bool {
	return slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return c.Name == name && c.Domain == "" && c.MaxAge < 0 })
}

func (c *bindable) bindCall() call {
	return c.post("/auth/session/bind").with(browser.HeaderProof, c.key.Registration(c.challenge))
}

func (c *bindable) boundCall() call {
	return c.post("/auth/session/bound").with(browser.HeaderSessionID, c.id)
}

// ask is a bound request without a proof, and the same one with it.
func (c *bindable) provenCall(t *testing.T) call {
	t.Helper()
	r := do(c.public, c.boundCall())
	want(t, r, http.StatusForbidden)
	return c.boundCall().with(browser.HeaderProof, c.key.Proof(challengeIn(t, r.Header.Get(browser.HeaderChallenge))))
}

// bound binds the session.
func (c *bindable) bound(t *testing.T) *bindable {
	t.Helper()
	want(t, c.took(do(c.public, c.bindCall())), http.StatusOK)
	want(t, c.took(do(c.public, c.provenCall(t))), http.StatusOK)
	return c
}

// without is the client's cookies without one, as when it expired.
func (c *bindable) without(names ...string) *bindable {
	other := *c
	other.cookies = map[string]string{}
	for name, value := range c.cookies {
		if !slices.Contains(names, name) {
			other.cookies[name] = value
		}
	}
	return &other
}

// The exchange of BOUND, step by step: sign-in, registration, proof, plain refresh, sign-out.
func TestBindingExchange(t *testing.T) {
	b := newBoundBench(t, func(c *Config) { c.DenialHeader = true })
	c := b.browser(t)
	r := c.took(do(b.public, c.bindCall()))
	want(t, r, http.StatusOK)
	untouched(t, r)
	const scope = `"refresh_url":"/auth/session/bound","scope":{"include_site":false},"credentials":[{"type":"cookie","name":"sBound","attributes":"Path=/; HttpOnly; Secure; SameSite=Lax"}]}`
	instructions := `{"session_identifier":"` + c.id + `",` + scope
	if r.Body != instructions || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("bind: %s", r.Body)
	}

	r = do(b.public, c.boundCall())
	p := wantProblem(t, r, http.StatusForbidden)
	untouched(t, r)
	if p.Code != "challenge" || r.Header.Get(browser.HeaderDenial) != "challenge" || !strings.HasSuffix(r.Header.Get(browser.HeaderChallenge), `";id="`+c.id+`"`) {
		t.Errorf("without a proof: %+v, %v", p, r.Header)
	}

	r = c.took(do(b.public, c.provenCall(t)))
	want(t, r, http.StatusOK)
	held := jar(r)
	if r.Body != instructions || held["sAccessToken"] == "" || held["sRefreshToken"] == "" || held["sBound"] != "1" {
		t.Errorf("the first proof: %s, cookies %v", r.Body, jarNames(r))
	}
	for _, name := range []string{"Anti-Csrf", "Front-Token", "Id-Refresh-Token"} {
		if r.Header.Get(name) == "" {
			t.Errorf("the first proof has no %s", name)
		}
	}
	r = c.took(do(b.public, c.provenCall(t)))
	want(t, r, http.StatusOK)
	if held := jar(r); held["sAccessToken"] == "" || held["sRefreshToken"] == "" || held["sBound"] != "1" {
		t.Errorf("the next proof: cookies %v", jarNames(r))
	}

	r = do(b.public, c.post("/auth/session/refresh")) // B8
	want(t, r, http.StatusOK)
	if r.Body != "{}" || len(r.Cookies()) > 0 || r.Header.Get("Front-Token") == "" || r.Header.Get("Id-Refresh-Token") == "" || r.Header.Get("Anti-Csrf") == "" {
		t.Errorf("B8: %s, cookies %v, %v", r.Body, jarNames(r), r.Header)
	}

	b.pass(t, 30*time.Second)
	r = c.took(do(b.public, c.post("/auth/session/refresh"))) // B9
	want(t, r, http.StatusTemporaryRedirect)
	if got := r.Header.Get("Location"); got != "/auth/session/refresh?bound=1" {
		t.Errorf("B9: to %s", got)
	}
	if held := jar(r); !deletes(r, "sBound") || !strings.HasPrefix(held["sBoundWait"], "sgc1_") || held["sAccessToken"] != "" {
		t.Errorf("B9: cookies %v", jarNames(r))
	}
	r = do(b.public, c.post("/auth/session/refresh?bound=1")) // B10
	if p := wantProblem(t, r, http.StatusServiceUnavailable); p.Code != "unproven" || r.Header.Get("Retry-After") != "5" || len(r.Cookies()) > 0 {
		t.Errorf("B10: %+v, %v", p, r.Header)
	}
	r = c.took(do(b.public, c.provenCall(t)))
	want(t, r, http.StatusOK)
	if !deletes(r, "sBoundWait") || c.cookies["sBoundWait"] != "" {
		t.Error("a proof does not end the wait")
	}
	want(t, do(b.public, c.post("/auth/session/refresh?bound=1")), http.StatusOK)

	r = do(b.public, c.without("sAccessToken").post("/auth/signout")) // B12
	want(t, r, http.StatusTemporaryRedirect)
	if r.Header.Get("Location") != "/auth/signout?bound=1" || !deletes(r, "sBound") {
		t.Errorf("B12: %v", r.Header)
	}
	r = do(b.public, c.without("sAccessToken").post("/auth/signout?bound=1"))
	want(t, r, http.StatusOK)
	wantCleared(t, r)
	if !b.alive(t, c.handle) {
		t.Error("B12: signed out by the refresh token alone")
	}
	r = do(b.public, c.post("/auth/signout"))
	want(t, r, http.StatusOK)
	wantCleared(t, r)
	if b.alive(t, c.handle) {
		t.Error("not signed out by the access token")
	}

	over := `{"session_identifier":"` + c.id + `","continue":false}`
	r = do(b.public, c.provenCall(t)) // B5, just signed out
	want(t, r, http.StatusOK)
	untouched(t, r)
	if r.Body != over || r.Header.Get(browser.HeaderDenial) != "superseded" {
		t.Errorf("B5, just signed out: %s", r.Body)
	}
	b.pass(t, 30*time.Second)
	r = do(b.public, c.provenCall(t))
	want(t, r, http.StatusOK)
	wantCleared(t, r)
	if r.Body != over || r.Header.Get(browser.HeaderDenial) != "session_ended" || !deletes(r, "sBound") {
		t.Errorf("B5: %s", r.Body)
	}
}

// A browser without the device session is told to wait, and in the end to sign in. One that has it, and
// says so, waits for as long as it takes.
func TestLostKey(t *testing.T) {
	b := newBoundBench(t, func(c *Config) { c.DenialHeader = true })
	c := b.browser(t).bound(t)
	b.pass(t, time.Minute)
	want(t, c.took(do(b.public, c.post("/auth/session/refresh"))), http.StatusTemporaryRedirect)
	b.pass(t, 10*time.Minute-30*time.Second) // TestDecideBound has the exact border
	want(t, do(b.public, c.post("/auth/session/refresh?bound=1")), http.StatusServiceUnavailable)
	b.pass(t, 31*time.Second)
	skipped := c.post("/auth/session/refresh?bound=1").with(browser.HeaderSkipped, `server_error;session_identifier="`+c.id+`"`)
	want(t, do(b.public, skipped), http.StatusServiceUnavailable)
	r := do(b.public, c.post("/auth/session/refresh?bound=1"))
	want(t, r, 440)
	wantCleared(t, r)
	if r.Header.Get(browser.HeaderDenial) != "key_lost" || !deletes(r, "sBoundWait") {
		t.Errorf("%v", r.Header)
	}
	if !b.alive(t, c.handle) {
		t.Error("the session was ended")
	}
}

// To a browser's own POST at the bound path each status but 200, 403 with a challenge, 500 and 503 ends
// the device session, and the body {} does. No request of any form, and no fault, may cause that.
func TestBoundPathNeverEndsADeviceSessionByChance(t *testing.T) {
	b := newBoundBench(t)
	c, other := b.browser(t).bound(t), b.browser(t).bound(t)
	proven := c.provenCall(t)
	cookies := proven.header.Get("Cookie")
	proof := proven.header.Get(browser.HeaderProof)
	fails := func() error { return errors.New("the store is away") }
	gone := func() error { return sessions.ErrUnavailable }
	panics := func() error { panic("a bug") }
	large := proven
	large.body = strings.Repeat("x", 1<<20)
	badHost := proven
	badHost.host = "a,b"
	for name, tc := range map[string]struct {
		call   call
		broken func() error
		status int
	}{
		"a proof":                       {proven, nil, 200},
		"a proof again":                 {proven, nil, 200},
		"no proof":                      {c.boundCall(), nil, 403},
		"no cookie":                     {post("/auth/session/bound").with(browser.HeaderSessionID, c.id), nil, 200},
		"no session":                    {c.post("/auth/session/bound"), nil, 200},
		"another's session":             {c.post("/auth/session/bound").with(browser.HeaderSessionID, other.id), nil, 200},
		"the session's handle":          {proven.with(browser.HeaderSessionID, c.handle), nil, 200},
		"a quoted session":              {proven.with(browser.HeaderSessionID, `"`+c.id+`"`), nil, 200},
		"two sessions":                  {c.post("/auth/session/bound").with(browser.HeaderSessionID, c.id, other.id), nil, 200},
		"cookies of two sessions":       {proven.with("Cookie", cookies, "sRefreshToken="+other.cookies["sRefreshToken"]), nil, 200},
		"garbage for a cookie":          {proven.with("Cookie", "sRefreshToken=x"), nil, 200},
		"garbage for a session":         {proven.with(browser.HeaderSessionID, "\x00"), nil, 200},
		"garbage for a proof":           {proven.with(browser.HeaderProof, "x"), nil, 403},
		"two proofs":                    {proven.with(browser.HeaderProof, proof, proof), nil, 403},
		"a huge proof":                  {proven.with(browser.HeaderProof, strings.Repeat("x", 20_000)), nil, 403},
		"another key's proof":           {proven.with(browser.HeaderProof, other.key.Proof(challengeIn(t, do(b.public, c.boundCall()).Header.Get(browser.HeaderChallenge)))), nil, 200},
		"a foreign page":                {proven.with("Origin", "https://evil.example").with("Sec-Fetch-Site", "cross-site"), nil, 200},
		"a foreign page, unproven":      {c.boundCall().with("Origin", "https://evil.example").with("Sec-Fetch-Site", "cross-site"), nil, 403},
		"no origin":                     {proven.with("Origin", "null"), nil, 200},
		"a bearer token":                {proven.with("Authorization", "Bearer "+c.cookies["sRefreshToken"]), nil, 200},
		"a large body":                  {large, nil, 200},
		"a query":                       {call{method: "POST", path: "/auth/session/bound?bound=1", header: proven.header}, nil, 200},
		"a Host that is none":           {badHost, nil, 200},
		"another type of body":          {proven.with("Content-Type", "text/html"), nil, 200},
		"an old cookie":                 {proven.with("Cookie", cookies+"; sIdRefreshToken=x"), nil, 200},
		"a failing store":               {proven, fails, 503},
		"a store that is away":          {proven, gone, 503},
		"a failing store, no proof due": {c.boundCall(), fails, 403},
		"a bug":                         {proven, panics, 500},
	} {
		if tc.broken != nil {
			b.broken.get.Store(&tc.broken)
		}
		r := do(b.public, tc.call)
		b.broken.get.Store(nil)
		want(t, r, tc.status)
		for _, header := range []string{browser.HeaderProof, browser.HeaderSessionID, browser.HeaderSkipped} {
			if !names(r.Header.Values("Vary"), header) {
				t.Errorf("%s: Vary lacks %s, by which answers differ", name, header)
			}
		}
		if r.StatusCode != tc.status {
			t.Errorf("%s: %s", name, r.Body)
		}
		if r.StatusCode == http.StatusForbidden && challengeIn(t, r.Header.Get(browser.HeaderChallenge)) == "" || r.Body == "{}" || r.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.Body)
		}
		if r.StatusCode >= 500 {
			untouched(t, r)
		}
	}
	for _, alive := range []*bindable{c, other} {
		if !b.alive(t, alive.handle) {
			t.Error("a session was ended")
		}
	}
}

// A registration is refused where a foreign page sent it, and a refusal changes nothing.
func TestBindRefused(t *testing.T) {
	b := newBoundBench(t, func(c *Config) { c.DenialHeader = true })
	c, other := b.browser(t), b.browser(t)
	good := c.bindCall()
	for name, tc := range map[string]struct {
		call   call
		status int
		code   string
	}{
		"a foreign page":              {good.with("Origin", "https://evil.example").with("Sec-Fetch-Site", "cross-site"), 403, "foreign_origin"},
		"no proof":                    {c.post("/auth/session/bind"), 400, "bind_refused"},
		"garbage for a proof":         {good.with(browser.HeaderProof, "x"), 400, "bind_refused"},
		"two proofs":                  {good.with(browser.HeaderProof, good.header.Get(browser.HeaderProof), "x"), 400, "bind_refused"},
		"another session's cookie":    {other.post("/auth/session/bind").with(browser.HeaderProof, good.header.Get(browser.HeaderProof)), 400, "bind_refused"},
		"another session's challenge": {good.with(browser.HeaderProof, c.key.Registration(other.challenge)), 400, "bind_refused"},
		"a proof without its key":     {good.with(browser.HeaderProof, c.key.Proof(c.challenge)), 400, "bind_refused"},
		"GET":                         {call{method: http.MethodGet, path: "/auth/session/bind", header: good.header}, 405, "method"},
	} {
		r := do(b.public, tc.call)
		if p := wantProblem(t, r, tc.status); p.Code != tc.code || r.Header.Get(browser.HeaderDenial) != tc.code {
			t.Errorf("%s: %+v", name, p)
		}
		untouched(t, r)
	}
	want(t, do(b.public, good), http.StatusOK)
	second := *c
	second.key = sessionstest.NewDevice(t)
	wantProblem(t, do(b.public, second.bindCall()), http.StatusBadRequest)
	b.pass(t, time.Minute)
	wantProblem(t, do(b.public, good), http.StatusBadRequest)
	if !b.alive(t, c.handle) {
		t.Error("the session was ended")
	}
}

// The sessions API offers the binding in cookies alone, says since when a session is bound, and
// refreshes none that is.
func TestBoundSessionInTheAPI(t *testing.T) {
	b := newBoundBench(t)
	if h := b.create(t, `{"user_id":"u1","transport":"header"}`).Headers["secure-session-registration"]; h != "" {
		t.Errorf("header transport is offered %s", h)
	}
	if h := newBench(t).signIn(t).Headers["secure-session-registration"]; h != "" {
		t.Errorf("without the offer: %s", h)
	}
	c := b.browser(t)
	boundAt := func() *time.Time {
		r := do(b.internal, apiCall(http.MethodGet, "/v1/sessions/"+c.handle, ""))
		want(t, r, http.StatusOK)
		var got struct {
			Session struct {
				BoundAt *time.Time `json:"bound_at"`
			} `json:"session"`
		}
		if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
			t.Fatal(err)
		}
		return got.Session.BoundAt
	}
	refresh := func() *answer {
		return do(b.internal, apiCall(http.MethodPost, "/v1/sessions/refresh", `{"refresh_token":"`+c.cookies["sRefreshToken"]+`","client":{"address":"`+peer+`","user_agent":"x"}}`))
	}
	want(t, do(b.public, c.bindCall()), http.StatusOK)
	if at := boundAt(); at != nil {
		t.Errorf("before the proof: bound at %s", at)
	}
	want(t, refresh(), http.StatusOK)
	c.bound(t)
	if at := boundAt(); at == nil || at.IsZero() {
		t.Error("not bound")
	}
	r := refresh()
	if p := wantProblem(t, r, http.StatusForbidden); p.Code != "prove_key" {
		t.Errorf("%+v", p)
	}
	if !b.alive(t, c.handle) {
		t.Error("the session was ended")
	}
}

// No line of the log has a token, a challenge or a proof, at any level.
func TestBindingStaysOutOfLogs(t *testing.T) {
	b := newBoundBench(t)
	c := b.browser(t)
	secrets := []string{c.challenge.Reveal(), c.cookies["sAccessToken"], c.cookies["sRefreshToken"]}
	c.bound(t)
	call := c.provenCall(t)
	secrets = append(secrets, call.header.Get(browser.HeaderProof), c.cookies["sAccessToken"], c.cookies["sRefreshToken"])
	for range 2 {
		c.took(do(b.public, call))
	}
	do(b.public, call.with(browser.HeaderProof, b.browser(t).key.Proof(c.challenge)))
	b.pass(t, time.Minute)
	for _, path := range []string{"/auth/session/refresh", "/auth/session/refresh?bound=1", "/auth/session/bind", "/auth/session/bound", "/auth/signout"} {
		r := c.took(do(b.public, c.without("sAccessToken").post(path).with(browser.HeaderProof, call.header.Get(browser.HeaderProof)).with(browser.HeaderSessionID, c.id)))
		secrets = append(secrets, quotedChallenge.FindStringSubmatch(r.Header.Get(browser.HeaderChallenge))...)
	}
	secrets = append(secrets, c.cookies["sBoundWait"])
	log := b.log.String()
	if !strings.Contains(log, "challenge") {
		t.Error("nothing is logged")
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(log, secret) {
			t.Errorf("the log has %.12s…", secret)
		}
	}
	if strings.Contains(log, "sgc1_") || strings.Contains(log, "sgd1_") || strings.Contains(log, "sgr1_") {
		t.Error("the log has a sealed text")
	}
}

// A user signs in again without a sign-out, and the browser registers without cookies. Then the timer of the
// former session must not put off the first proof, until which a thief of the cookies can refresh.
func TestSignInEndsTheFormerTimer(t *testing.T) {
	for offer, n := range map[bool]int{true: 1, false: 0} {
		b := newBoundBench(t)
		if !offer {
			b.bench = newBench(t)
		}
		got := slices.DeleteFunc(b.signIn(t).SetCookie, func(line string) bool { return !strings.HasPrefix(line, "sBound=;") })
		if len(got) != n || n == 1 && (!strings.Contains(got[0], "Max-Age=0") || strings.Contains(got[0], "Domain=")) {
			t.Errorf("offered %t: %q", offer, got)
		}
	}
}
