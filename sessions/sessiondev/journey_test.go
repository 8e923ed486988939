package sessiondev_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

// app is an app that answers with what it sees.
func app(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From", "app")
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func start(t *testing.T, o sessiondev.Options) *sessiondev.Server {
	t.Helper()
	if o.App == "" {
		o.App = app(t)
	}
	s, err := sessiondev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// user is a browser.
type user struct {
	*testing.T

	s      *sessiondev.Server
	client *http.Client
}

func newUser(t *testing.T, s *sessiondev.Server) *user {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &user{t, s, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// do sends a request as a page's script does, and returns what the app saw, if it did.
func (u *user) do(method, path string, more ...string) (response *http.Response, seen http.Header) {
	u.Helper()
	r, err := http.NewRequestWithContext(u.Context(), method, u.s.URL+path, nil)
	if err != nil {
		u.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "cors")
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	response, err = u.client.Do(r)
	if err != nil {
		u.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		u.Fatal(err)
	}
	_ = response.Body.Close()
	if response.Header.Get("X-From") == "app" {
		if err := json.Unmarshal(body, &seen); err != nil {
			u.Fatal(err)
		}
	}
	return response, seen
}

// must fails unless the answer has this status.
func (u *user) must(status int, method, path string, more ...string) http.Header {
	u.Helper()
	response, seen := u.do(method, path, more...)
	if response.StatusCode != status {
		u.Fatalf("%s %s: %d (%s), want %d", method, path, response.StatusCode, response.Header.Get("X-Sessiongate-Denial"), status)
	}
	return seen
}

// signIn does what a login handler does, and sets the cookies.
func (u *user) signIn(id string) {
	u.Helper()
	r, err := http.NewRequestWithContext(u.Context(), http.MethodPost, u.s.InternalURL+"/v1/sessions", strings.NewReader(`{"user_id":"`+id+`"}`))
	if err != nil {
		u.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+u.s.APIKey)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		u.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var created struct {
		SetCookie []string `json:"set_cookie"`
	}
	if err := json.NewDecoder(response.Body).Decode(&created); err != nil || response.StatusCode != http.StatusCreated {
		u.Fatalf("sign-in: %d, %v", response.StatusCode, err)
	}
	login := &http.Response{Header: http.Header{"Set-Cookie": created.SetCookie}}
	at, err := http.NewRequest(http.MethodGet, u.s.URL, nil)
	if err != nil {
		u.Fatal(err)
	}
	u.client.Jar.SetCookies(at.URL, login.Cookies())
}

// is fails unless the app sees this user, once.
func (u *user) is(id string, seen http.Header) {
	u.Helper()
	if got := seen.Values("X-Session-User-Id"); len(got) != 1 || got[0] != id {
		u.Fatalf("the app sees %q, want %s", got, id)
	}
}

const refreshPath = "/auth/session/refresh"

// TestJourney: the life of a session, with each fault.
func TestJourney(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{LoginURL: "/login"})
	ada, eve := newUser(t, s), newUser(t, s)

	if response, _ := ada.do(http.MethodGet, "/"); response.StatusCode != http.StatusFound || response.Header.Get("Location") != "/login" {
		t.Fatalf("without a session: %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
	if seen := ada.must(http.StatusOK, http.MethodGet, "/login", "X-Session-User-Id", "root"); seen.Get("X-Session-User-Id") != "" {
		t.Error("the login page sees the client's own identity header")
	}
	ada.signIn("ada")
	ada.is("ada", ada.must(http.StatusOK, http.MethodGet, "/", "X-Session-User-Id", "root"))

	if err := s.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ada.must(440, http.MethodGet, "/")
	ada.must(http.StatusOK, http.MethodPost, refreshPath)
	ada.is("ada", ada.must(http.StatusOK, http.MethodGet, "/"))

	// The thief copied all cookies.
	eve.client.Jar = ada.client.Jar
	if err := s.Theft(t.Context()); err != nil {
		t.Fatal(err)
	}
	if response, _ := ada.do(http.MethodGet, "/"); response.StatusCode != http.StatusFound || response.Header.Get("X-Sessiongate-Denial") != "ended" {
		t.Errorf("after a theft: %d, %s", response.StatusCode, response.Header.Get("X-Sessiongate-Denial"))
	}
	eve.must(http.StatusFound, http.MethodGet, "/")
	ada.must(440, http.MethodPost, refreshPath)

	ada.signIn("ada")
	s.Outage(true)
	ada.must(http.StatusOK, http.MethodGet, "/")
	ada.must(http.StatusServiceUnavailable, http.MethodPost, refreshPath)
	for _, fault := range []func(context.Context) error{s.Expire, s.Theft} {
		if fault(t.Context()) == nil {
			t.Error("a fault that the engine cannot see is played")
		}
	}
	s.Outage(false)
	ada.must(http.StatusOK, http.MethodGet, "/") // what was refused did not happen later
	ada.must(http.StatusOK, http.MethodPost, refreshPath)

	ada.must(http.StatusOK, http.MethodPost, "/auth/signout")
	ada.must(http.StatusFound, http.MethodGet, "/")

	ada.signIn("ada")
	eve = newUser(t, s)
	eve.signIn("eve")
	if n, err := s.End(t.Context(), "ada"); err != nil || n != 1 {
		t.Fatalf("%d sessions of ada ended, %v", n, err)
	}
	ada.must(http.StatusFound, http.MethodGet, "/")
	eve.is("eve", eve.must(http.StatusOK, http.MethodGet, "/"))
	if n, err := s.End(t.Context(), ""); err != nil || n != 1 {
		t.Fatalf("%d sessions ended, %v", n, err)
	}
	eve.must(http.StatusFound, http.MethodGet, "/")
}

// TestTheft: the thief is caught whether the chain has gone on or not.
func TestTheft(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{})
	if err := s.Theft(t.Context()); err == nil {
		t.Error("a theft without a session")
	}
	for name, before := range map[string]func(*user){
		"at once":             func(*user) {},
		"after a request":     func(u *user) { u.must(http.StatusOK, http.MethodGet, "/") },
		"after a refresh":     func(u *user) { u.must(http.StatusOK, http.MethodPost, refreshPath) },
		"after an expiry":     func(u *user) { _ = s.Expire(u.Context()); u.must(http.StatusOK, http.MethodPost, refreshPath) },
		"after its first use": func(u *user) { _ = s.Expire(u.Context()); u.must(200, "POST", refreshPath); u.must(200, "GET", "/") },
	} {
		u := newUser(t, s)
		u.signIn("ada")
		before(u)
		if err := s.Theft(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if response, _ := u.do(http.MethodPost, refreshPath); response.StatusCode != 440 {
			t.Errorf("%s: the owner's refresh: %d", name, response.StatusCode)
		}
		u.must(http.StatusFound, http.MethodGet, "/")
		if err := s.Theft(t.Context()); err == nil {
			t.Errorf("%s: a second theft", name)
		}
	}
}
