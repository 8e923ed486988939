package sessionhttp

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
)

// timed is a store that takes as long as it is let.
type timed struct {
	sessions.Store

	mu   sync.Mutex
	left time.Duration // of the time for the last call
}

func (s *timed) note(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = -1
	if deadline, ok := ctx.Deadline(); ok {
		s.left = time.Until(deadline)
	}
	return context.DeadlineExceeded
}

func (s *timed) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	if err := s.note(ctx); err != nil {
		return sessions.Record{}, time.Time{}, err
	}
	return s.Store.Get(ctx, h)
}

func (s *timed) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	if err := s.note(ctx); err != nil {
		return sessions.Record{}, time.Time{}, false, err
	}
	return s.Store.Rotate(ctx, h, r)
}

func (s *timed) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	if err := s.note(ctx); err != nil {
		return false, err
	}
	return s.Store.End(ctx, h, e)
}

// Envoy gives an answer of the auth path D/2. sessiongate's answer must come earlier: it says when to try again, and Envoy's 504 does not.
func TestAnswersComeBeforeEnvoyGivesUp(t *testing.T) {
	const d = 10 * time.Second // as the engine here has it
	b, start := newIdleBench(t, func(c *Config) { c.RefreshAttemptMax = d })
	store := &timed{Store: b.store.Store}
	b.store.Store = store
	start()
	s := b.signIn(t)
	for name, c := range map[string]call{
		"refresh":  refreshCall(refreshCookie(s.Tokens.Refresh)),
		"sign-out": signOutCall(refreshCookie(s.Tokens.Refresh)), "sign-out by access token": signOutCall(accessCookie(s.Tokens.Access)),
	} {
		store.left = 0
		r := do(b.public, c)
		wantProblem(t, r, http.StatusServiceUnavailable)
		untouched(t, r)
		if r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
		if store.left <= 0 || store.left > sessions.AnswerWithin(d) {
			t.Errorf("%s: the store is given %s", name, store.left)
		}
	}
	store.left = 0
	r := do(b.internal, apiCall(http.MethodPost, "/v1/sessions/refresh", `{"refresh_token":"`+s.Tokens.Refresh+`","client":{"address":"192.0.2.1"}}`))
	if wantProblem(t, r, http.StatusServiceUnavailable); store.left <= 0 || store.left > sessions.AnswerWithin(d) {
		t.Errorf("refresh by the sessions API: the store is given %s", store.left)
	}
	if within := sessions.AnswerWithin(d); within >= d/2-d/50 {
		t.Errorf("%s leave nothing for the way", within)
	}
}

// net/http reads a body to its end before it writes an answer, even if no handler reads it. A body that does not come must not delay the answer.
func TestSlowBodyDelaysNoAnswer(t *testing.T) {
	b := newBench(t, func(c *Config) { c.RefreshAttemptMax = 3 * time.Second })
	server := httptest.NewServer(b.public) // without any timeout of its own
	defer server.Close()
	s := b.signIn(t)
	for _, body := range []string{"Content-Length: 5\r\n\r\n", "Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\nab"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // for broken code
		_, _ = fmt.Fprintf(conn, "POST /auth/session/refresh HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n%s", host, refreshCookie(s.Tokens.Refresh), body)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%q: %v", body, err)
		} else if _ = response.Body.Close(); response.StatusCode != http.StatusOK {
			t.Errorf("%q: %d", body, response.StatusCode)
		}
		_ = conn.Close()
	}
}

// Envoy makes one Host of two lines.
func TestHostThatIsNone(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{host + ",evil.example", "evil.example," + host, host + "," + host, host + " ", "x@" + host, host + ":", host + "/", "[::1", "a..b"} {
		s := b.signIn(t)
		for _, c := range []call{refreshCall(refreshCookie(s.Tokens.Refresh)), signOutCall(refreshCookie(s.Tokens.Refresh), accessCookie(s.Tokens.Access))} {
			for _, origin := range []string{"", "https://" + name, "https://" + host} {
				c.host = name
				if origin != "" {
					c = c.with("Origin", origin)
				}
				for _, site := range []string{"", "same-origin"} {
					if site != "" {
						c = c.with("Sec-Fetch-Site", site)
					}
					r := do(b.public, c)
					if p := wantProblem(t, r, http.StatusBadRequest); p.Code != "host_form" {
						t.Errorf("%q: code %s", name, p.Code)
					}
					untouched(t, r)
				}
			}
		}
		if !b.alive(t, s.Session.Handle) {
			t.Errorf("%q ended a session", name)
		}
	}
}

// Whatever header changes an answer is in its Vary.
func TestAnswersVary(t *testing.T) {
	b := newBench(t)
	changes := map[string][]string{
		"Cookie": {"x=1", ""}, "Authorization": {"Bearer sgr1_x", ""}, "St-Auth-Mode": {"cookie"}, "Origin": {"https://evil.example", "https://" + host, ""},
		"Referer": {"https://evil.example/"}, "Sec-Fetch-Site": {"same-origin", "cross-site", "none", ""}, "Sec-Fetch-Mode": {"navigate", "cors"},
		"Sec-Fetch-Dest": {"document", "iframe"}, "Sec-Purpose": {"prefetch"}, "User-Agent": {"another"}, "X-Forwarded-Proto": {"http", ""},
		"Accept": {"text/html", "application/json"}, "X-Request-Id": {"0af76519-16cd-43dd-8448-eb211c80319c"}, "Rid": {"x"}, "Anti-Csrf": {"x"}, "Accept-Language": {"de"},
	}
	for _, path := range []string{"/auth/session/refresh", "/auth/signout", JWKSPath, "/auth/x"} {
		for _, base := range []http.Header{
			{},
			{"Origin": {"https://" + host}},
			{"Origin": {"https://evil.example"}},
			{"Sec-Fetch-Site": {"none"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Purpose": {"prefetch"}},
			{"Sec-Fetch-Site": {"cross-site"}},
			{"Authorization": {"Bearer sgr1_x"}},
		} {
			send := func(name, value string) *answer {
				s := b.signIn(t) // a refresh and a sign-out change it
				c := post(path, refreshCookie(s.Tokens.Refresh), accessCookie(s.Tokens.Access))
				if path == JWKSPath {
					c.method = http.MethodGet
				}
				maps.Copy(c.header, base)
				if name != "" && value == "" {
					delete(c.header, name)
				} else if name != "" {
					c = c.with(name, value)
				}
				return do(b.public, c)
			}
			before := send("", "")
			for name, values := range changes {
				for _, value := range values {
					after := send(name, value)
					if before.StatusCode == after.StatusCode && cmp.Equal(jarNames(before), jarNames(after)) {
						continue
					}
					for _, r := range []*answer{before, after} {
						if !names(r.Header.Values("Vary"), name) {
							t.Errorf("%s: %s %q changes %d to %d, but Vary is %q", path, name, value, before.StatusCode, after.StatusCode, r.Header.Values("Vary"))
						}
					}
				}
			}
		}
	}
	if r := do(b.public, call{method: http.MethodGet, path: JWKSPath}); len(r.Header.Values("Vary")) > 0 {
		t.Errorf("the keys vary: %q", r.Header.Values("Vary"))
	}
	if r := do(b.internal, call{method: http.MethodGet, path: "/v1/users/ada/sessions"}); !names(r.Header.Values("Vary"), "Authorization") {
		t.Errorf("the sessions API: %q", r.Header.Values("Vary"))
	}
	// What a handler adds to it stays beside it.
	s := b.server(t)
	if r := do(s.wrap(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Add("Vary", "Accept-Language")
		writeJSON(w, http.StatusOK, struct{}{})
		return nil
	}), post("/")); !names(r.Header.Values("Vary"), "Authorization") || !names(r.Header.Values("Vary"), "Accept-Language") {
		t.Errorf("Vary %q", r.Header.Values("Vary"))
	}
}

// jarNames are the names of what an answer issues: values are new each time.
func jarNames(r *answer) map[string]bool {
	all := map[string]bool{}
	for name := range r.Header {
		all[name] = true
	}
	for name, value := range jar(r) {
		all[fmt.Sprint(name, value != "")] = true
	}
	return all
}

func names(lines []string, name string) bool {
	for item := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if http.CanonicalHeaderKey(strings.TrimSpace(item)) == name {
			return true
		}
	}
	return false
}
