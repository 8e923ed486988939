package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	accessCookie  = "sAccessToken"
	refreshCookie = "sRefreshToken"
	boundCookie   = "sBound"
	waitCookie    = "sBoundWait" // since when its client is waited for

	loginPath     = "/login"
	asAda         = `{"user":"ada"}`
	mePath        = "/api/me" // answers what the app was told of the session
	refreshPath   = "/auth/session/refresh"
	bindPath      = "/auth/session/bind"
	boundPath     = "/auth/session/bound"
	signoutPath   = "/auth/signout"
	pleaseRefresh = "Please call the refresh token endpoint"
)

// proved is the query of a client that was sent to prove its key, and comes back.
const proved = "bound=1"

const (
	awaitMax      = 30 * time.Second // for an answer that is promised for some time from now
	awaitInterval = 50 * time.Millisecond
)

// step is one request of the journey and what its answer must be. One without a
// method sends nothing.
type step struct {
	chapter string                      // begins here, if set
	note    string                      // told before
	do      func(context.Context) error // done before

	by        *browser
	all       []*browser // instead of by: each of them, at once
	navigates bool       // a page in the address bar; otherwise a page's script
	method    string
	path      string
	query     string            // not shown
	body      string            // JSON
	device    func(http.Header) // adds what the browser says by itself, of the key of its device
	claims    []string          // headers, as spelt, in which the client claims to be "root"

	foreign bool // a page of another site makes the browser send it, without being able to read anything
	asked   bool // goes on as the first answer asks, as browsers do by themselves: the last one is shown
	lost    bool // the answer never arrives: the browser stores nothing of it
	await   bool // again and again until the answer is as wanted

	status int
	denial string // the code in x-sessiongate-denial (docs/denials.md), "" for none wanted
	check  func(answer) error
	says   string // what this shows, in one sentence
}

// journey is what anybody may try against a fresh start of the demo app. Rules
// named in comments are those of docs/protocol.md.
func journey() []step {
	var (
		visitor = &browser{agent: "a visitor's browser"}
		ada     = &browser{agent: "ada's browser"}
		tab     = &browser{agent: ada.agent} // shows what ada's browser held before its last refresh
		broken  = &browser{agent: ada.agent}
		thief   = &browser{agent: "a thief's browser"}
		copied  = &browser{agent: "a backup of ada's browser"}
		phone   = &browser{agent: "ada's phone"}
		tabs    [20]*browser

		key     = newDevice()
		laptop  = &browser{agent: "ada's laptop", device: key}
		other   = newDevice()
		copying = &browser{agent: "a thief's browser", device: other}
	)
	for i := range tabs {
		tabs[i] = &browser{agent: ada.agent}
	}
	return []step{
		{
			chapter: "No one is signed in",
			by:      visitor, navigates: true, method: http.MethodGet, path: "/",
			status: 302, denial: "no_token", check: toLogin,
			says: "A page: off to /login.",
		},
		{
			by: visitor, method: http.MethodGet, path: mePath,
			status: 401, denial: "no_token", check: isJSON,
			says: "A script: JSON instead of a redirect.",
		},
		{
			by: visitor, method: http.MethodGet, path: "/optional", claims: []string{"x-session-user-id"},
			status: 200, check: bodyHas(`"signed_in":false`),
			says: "Open to all, without identity: the client's own x-session-user-id is gone.",
		},

		{
			chapter: "Ada signs in",
			by:      ada, method: http.MethodPost, path: loginPath, body: asAda,
			status: 200,
			check: func(answer) error {
				if ada.cookie(accessCookie) == "" || ada.cookie(refreshCookie) == "" || ada.antiCSRF == "" {
					return errors.New("no access token, refresh token and anti-csrf token came")
				}
				broken.take(ada)
				broken.set(accessCookie, "not-a-token")
				return nil
			},
			says: "The app asks sessiongate for a session and copies its cookies.",
		},
		{
			by: ada, method: http.MethodGet, path: mePath, claims: []string{"x-session-user-id", "X-SESSION-USER-ID"},
			status: 200, check: appSawAda,
			says: "The app reads one x-session-user-id: ada. The two that claimed root are gone.",
		},
		{
			by: ada, method: http.MethodGet, path: mePath, foreign: true, // A8
			status: 403, denial: "foreign_origin",
			says: "Cookies alone, as a foreign site could make a browser send them: refused.",
		},
		{
			by: broken, method: http.MethodGet, path: mePath,
			status: 440, denial: "malformed", check: bodyIs(pleaseRefresh),
			says: "A broken access token: the script is told to refresh.",
		},
		{
			by: broken, navigates: true, method: http.MethodGet, path: "/",
			status: 440, denial: "malformed", check: bodyHas("<html", pleaseRefresh),
			says: "The same in the address bar: a small page that refreshes and comes back.",
		},
		{
			by: ada, method: http.MethodPost, path: refreshPath, // R3
			status: 200,
			check: func(a answer) error {
				tab.take(ada)
				return setsOnly(accessCookie)(a)
			},
			says: "Right after sign-in: a new access token, the refresh token stays.",
		},

		{
			chapter: "Ada's browser refreshes, and her network is bad",
			note:    "waiting: until refresh_attempt_max has passed, late answers may be under way",
			by:      ada, method: http.MethodPost, path: refreshPath, await: true, // R4
			status: 200,
			check: func(a answer) error {
				if ada.cookie(refreshCookie) == tab.cookie(refreshCookie) {
					return errors.New("the refresh token is still the old one")
				}
				for _, b := range tabs {
					b.take(tab)
				}
				thief.take(tab)
				thief.keep(refreshCookie)
				return setsOnly(accessCookie, refreshCookie)(a)
			},
			says: "A new refresh token. A thief keeps a copy of the old one.",
		},
		{
			by: tab, method: http.MethodPost, path: refreshPath, lost: true, // R5
			status: 200, check: setsOnly(accessCookie, refreshCookie),
			says: "The old one again, as if the answer had got lost: answered again.",
		},
		{
			all: tabs[:], method: http.MethodPost, path: refreshPath, // R5
			status: 200, check: setsOnly(accessCookie, refreshCookie),
			says: "Twenty tabs at once with the old one, over two sessiongate processes.",
		},
		{
			by: ada, method: http.MethodGet, path: mePath, // V4
			status: 200, check: appSawAda,
			says: "First use of what came. The old refresh token is now good for a moment only.",
		},
		{
			by: tab, method: http.MethodPost, path: refreshPath, lost: true, await: true, // R7
			status: 200, check: setsOnly(accessCookie),
			says: "A tab that comes late with the old one: an access token, no one is signed out.",
		},
		{
			// R3. Only one child is promoted: a sibling of it would be theft here.
			all: tabs[:], method: http.MethodPost, path: refreshPath,
			status: 200, check: setsOnly(accessCookie),
			says: "The twenty tabs again: the same token was issued to all of them.",
		},

		{
			chapter: "The thief reuses the copy",
			note:    "waiting: until refresh_attempt_max has passed, it might be one more late tab",
			by:      thief, method: http.MethodPost, path: refreshPath, await: true, // R8
			status: 440, denial: "theft",
			check: func(a answer) error {
				if len(thief.cookies) > 0 {
					return errors.New("cookies were not cleared")
				}
				return bodyIs(`{"error":"token theft detected"}`)(a)
			},
			says: "Theft: a former token was reused. The session ends, for both.",
		},
		{
			by: ada, navigates: true, method: http.MethodGet, path: "/", await: true, // V2
			status: 302, denial: "ended", check: toLogin,
			says: "Within a second Ada's access token is refused, though its signature is good.",
		},
		{
			by: ada, method: http.MethodPost, path: refreshPath, // R2
			status: 440, denial: "session_ended", check: bodyIs(`{"error":"unauthorised"}`),
			says: "So is her refresh token.",
		},

		{
			chapter: "Ada's laptop binds her session to itself",
			note:    "browsers do this on https alone, so a key in this program plays the laptop's",
			by:      laptop, method: http.MethodPost, path: loginPath, body: asAda, // B0
			status: 200,
			check: func(answer) error {
				if key.challenge == "" {
					return errors.New("no Secure-Session-Registration came: binding.mode is not offer")
				}
				other.challenge = key.challenge // a thief has none; even with it
				return nil
			},
			says: "The answer offers her browser to bind the session. The app copied that, too.",
		},
		{
			by: laptop, method: http.MethodPost, path: bindPath, device: key.register, // B1
			status: 200, check: setsOnly(),
			says: "Her browser makes a key, and registers its public half. It does so by itself.",
		},
		{
			by: laptop, method: http.MethodPost, path: boundPath, device: key.ask, // B3
			status: 403, denial: "challenge", check: setsOnly(),
			says: "Before its next request it is asked to sign a challenge.",
		},
		{
			by: laptop, method: http.MethodPost, path: boundPath, device: key.prove, // B4
			status: 200,
			check: func(a answer) error {
				copying.take(laptop)
				other.session = key.session
				return setsOnly(accessCookie, refreshCookie, boundCookie)(a)
			},
			says: "Signed: the session is bound. A thief copies every cookie of the laptop.",
		},
		{
			by: copying, method: http.MethodGet, path: mePath,
			status: 200, check: appSawAda,
			says: "The copied access token is good, for 10 minutes at most.",
		},
		{
			note: "the copied access token is thrown away, as if it had ended",
			do:   func(context.Context) error { copying.keep(refreshCookie); return nil },
			by:   copying, method: http.MethodPost, path: refreshPath, // B9
			status: 307, denial: "prove_key",
			check: func(a answer) error {
				if to := a.header.Get("Location"); to != refreshPath+"?"+proved {
					return fmt.Errorf("want a way back to the refresh, got Location %q", to)
				}
				return setsOnly(waitCookie)(a)
			},
			says: "The thief refreshes, and is sent to prove the key first.",
		},
		{
			by: copying, method: http.MethodPost, path: refreshPath, query: proved, // B10
			status: 503, denial: "unproven", check: setsOnly(),
			says: "Without the key there is no token, now or later.",
		},
		{
			by: copying, method: http.MethodPost, path: bindPath, device: other.register, // B1
			status: 400, denial: "bind_refused", check: setsOnly(),
			says: "Nor can the thief register another key: that of a session is never replaced.",
		},
		{
			by: copying, method: http.MethodPost, path: boundPath, device: other.ask, asked: true, // B6
			status: 200, denial: "not_this_device", check: endsDeviceSession,
			says: "A challenge that another key has signed: no token.",
		},
		{
			by: copying, method: http.MethodPost, path: signoutPath, asked: true, // B12
			status: 200,
			check: func(answer) error {
				if len(copying.cookies) > 0 {
					return errors.New("cookies were not cleared")
				}
				return nil
			},
			says: "The thief signs out: only the thief's own cookies are gone.",
		},
		{
			by: laptop, method: http.MethodPost, path: boundPath, device: key.ask, asked: true, // B4
			status: 200, check: setsOnly(accessCookie, refreshCookie, boundCookie),
			says: "Ada's laptop proves its key again, and goes on. She has noticed nothing.",
		},

		{
			chapter: "Signing out",
			by:      ada, method: http.MethodPost, path: loginPath, body: asAda,
			status: 200, check: func(answer) error { copied.take(ada); return nil },
			says: "Ada signs in again.",
		},
		{
			by: ada, method: http.MethodPost, path: signoutPath,
			status: 200,
			check: func(a answer) error {
				if len(ada.cookies) > 0 {
					return errors.New("cookies were not cleared")
				}
				return bodyIs(`{"status":"OK"}`)(a)
			},
			says: "And out.",
		},
		{
			by: copied, navigates: true, method: http.MethodGet, path: "/", await: true,
			status: 302, denial: "ended", check: toLogin,
			says: "A copy of her access token is worth nothing now.",
		},
		{
			by: ada, method: http.MethodPost, path: loginPath, body: asAda,
			status: 200, says: "Ada signs in at her desk,",
		},
		{
			by: phone, method: http.MethodPost, path: loginPath, body: asAda,
			status: 200, says: "and on her phone.",
		},
		{
			by: ada, method: http.MethodPost, path: "/logout-everywhere", lost: true,
			status: 200, says: "The app asks sessiongate to end all her sessions.",
		},
		{
			by: ada, navigates: true, method: http.MethodGet, path: "/", await: true,
			status: 302, denial: "ended", check: toLogin, says: "Her desk is out,",
		},
		{
			by: phone, navigates: true, method: http.MethodGet, path: "/", await: true,
			status: 302, denial: "ended", check: toLogin, says: "and so is her phone.",
		},

		{
			chapter: "For systems that want to verify access tokens themselves",
			by:      visitor, method: http.MethodGet, path: "/.well-known/jwks.json",
			status: 200, check: publicKeysOnly,
			says: "The public keys, and nothing private.",
		},
	}
}

// A database can be taken away.
type database interface {
	Kill()
	Restart(ctx context.Context) error
}

// outage is the part of the journey that only the owner of the database can play.
func outage(db database) []step {
	ada := &browser{agent: "ada's browser"}
	return []step{
		{
			chapter: "Postgres goes away",
			by:      ada, method: http.MethodPost, path: loginPath, body: asAda,
			status: 200, says: "Ada signs in.",
		},
		{
			note: "Postgres is killed",
			do:   func(context.Context) error { db.Kill(); return nil },
			by:   ada, method: http.MethodGet, path: mePath,
			status: 200, check: appSawAda,
			says: "Access tokens are verified in memory: Ada notices nothing.",
		},
		{
			by: ada, method: http.MethodPost, path: refreshPath,
			status: 503,
			check: func(a answer) error {
				if a.header.Get("Retry-After") == "" {
					return errors.New("no Retry-After")
				}
				return setsOnly()(a)
			},
			says: "A refresh has to wait. No cookie is touched, no one is signed out.",
		},
		{
			note: "Postgres is started again",
			do:   db.Restart,
			by:   ada, method: http.MethodPost, path: refreshPath, await: true,
			status: 200, check: setsOnly(accessCookie),
			says: "All is well again, by itself,",
		},
		{
			by: ada, method: http.MethodPost, path: loginPath, body: asAda, await: true,
			status: 200, says: "and signing in works, too.",
		},
	}
}

// play sends the steps to the server at base and stops at the first answer that is not
// as wanted.
func play(ctx context.Context, out *report, base string, steps []step) error {
	for _, s := range steps {
		if s.chapter != "" {
			out.chapter(s.chapter)
		}
		if s.note != "" {
			out.note(s.note)
		}
		if s.do != nil {
			if err := s.do(ctx); err != nil {
				return err
			}
		}
		status, err := s.play(ctx, base)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		out.step(s, status, err)
		if err != nil {
			return fmt.Errorf("step %d, %s %s: %w", out.number, s.method, s.path, err)
		}
	}
	out.linef("")
	out.linef("%s", out.in(bold, fmt.Sprintf("All %d answers were as promised.", out.number)))
	return nil
}

// play returns the status of the answer, 0 without one, and how it differs from what
// was promised.
func (s step) play(ctx context.Context, base string) (int, error) {
	if len(s.all) > 0 {
		var g errgroup.Group
		for _, b := range s.all {
			one := s
			one.by, one.all = b, nil
			g.Go(func() error {
				status, err := one.play(ctx, base)
				if err != nil {
					return fmt.Errorf("one of them got %d: %w", status, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		return s.status, nil
	}
	deadline := time.Now().Add(awaitMax)
	for {
		status, err := s.once(ctx, base)
		// 503 is no verdict: on a busy machine a check may take longer than Envoy
		// waits for it. So the client does what any should do.
		again := s.await || status == http.StatusServiceUnavailable
		if err == nil || !again || time.Now().After(deadline) {
			return status, err
		}
		select {
		case <-ctx.Done():
			return status, ctx.Err()
		case <-time.After(awaitInterval):
		}
	}
}

func (s step) once(ctx context.Context, base string) (int, error) {
	a, err := send(ctx, base, s)
	if err != nil {
		return 0, err
	}
	if s.asked {
		if a, err = s.goOn(ctx, base, a); err != nil {
			return 0, err
		}
	}
	if !s.lost {
		s.by.store(a)
	}
	if a.status != s.status {
		return a.status, fmt.Errorf("want status %d", s.status)
	}
	if got := a.header.Get("X-Sessiongate-Denial"); s.denial != "" && got != s.denial {
		return a.status, fmt.Errorf("want x-sessiongate-denial %s, got %q", s.denial, got)
	}
	if s.check != nil {
		return a.status, s.check(a)
	}
	return a.status, nil
}

// goOn does what a first answer asks: a redirect is followed, a challenge signed.
func (s step) goOn(ctx context.Context, base string, first answer) (answer, error) {
	s.by.store(first)
	switch {
	case first.status == http.StatusTemporaryRedirect:
		s.path, s.query, _ = strings.Cut(first.header.Get("Location"), "?")
	case first.header.Get("Secure-Session-Challenge") != "":
		s.device = s.by.device.prove
	default:
		return first, nil
	}
	return send(ctx, base, s)
}

func toLogin(a answer) error {
	if path, _, _ := strings.Cut(a.header.Get("Location"), "?"); path != loginPath {
		return fmt.Errorf("want Location %s, got %q", loginPath, a.header.Get("Location"))
	}
	return nil
}

func isJSON(a answer) error {
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") || !json.Valid([]byte(a.body)) {
		return fmt.Errorf("want JSON, got %s", kind)
	}
	return nil
}

func bodyIs(want string) func(answer) error {
	return func(a answer) error {
		if got := strings.TrimSpace(a.body); got != want {
			return fmt.Errorf("want body %q, got %q", want, got)
		}
		return nil
	}
}

func bodyHas(parts ...string) func(answer) error {
	return func(a answer) error {
		for _, part := range parts {
			if !strings.Contains(a.body, part) {
				return fmt.Errorf("want %q in the body, got %q", part, a.body)
			}
		}
		return nil
	}
}

// appSawAda reads what the app says that it saw.
func appSawAda(a answer) error {
	var saw struct {
		Headers map[string][]string `json:"headers"`
	}
	if err := json.Unmarshal([]byte(a.body), &saw); err != nil {
		return fmt.Errorf("reading what the app saw: %w", err)
	}
	if ids := saw.Headers["x-session-user-id"]; len(ids) != 1 || ids[0] != "ada" {
		return fmt.Errorf("want one x-session-user-id, ada, at the app, got %q", ids)
	}
	return nil
}

// setCookies are the cookies that an answer gives a value.
func setCookies(a answer) map[string]string {
	b := &browser{}
	b.store(a)
	set := map[string]string{}
	for _, c := range b.cookies {
		set[c.name] = c.value
	}
	return set
}

func setsOnly(names ...string) func(answer) error {
	return func(a answer) error {
		set := setCookies(a)
		for _, name := range names {
			if set[name] == "" {
				return fmt.Errorf("want a new cookie %s", name)
			}
		}
		if len(set) != len(names) || len(names) == 0 && a.header.Get("Set-Cookie") != "" {
			return fmt.Errorf("want %d new cookies, got %d", len(names), len(set))
		}
		return nil
	}
}

func publicKeysOnly(a answer) error {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal([]byte(a.body), &set); err != nil {
		return fmt.Errorf("reading the keys: %w", err)
	}
	if len(set.Keys) == 0 {
		return errors.New("want at least one key")
	}
	// RFC 7518 §6: the private members of all kinds of keys.
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		for _, key := range set.Keys {
			if _, ok := key[private]; ok {
				return fmt.Errorf("a key has the private member %q", private)
			}
		}
	}
	return nil
}
