package envoy_test

import (
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestEnding: an ended session is denied by every process, whichever ended it, and its user can sign in again at once.
func TestEnding(t *testing.T) {
	s := newStack(t, stackOptions{})
	one, two := s.processes[0], s.processes[1]
	signIn := func(user string) (b *browser, handle string) {
		b = s.newBrowser(networkV)
		handle = b.signIn(user)
		b.mustGet(t)
		return b, handle
	}
	// ended is what an ended session is, and that its user can come back.
	ended := func(t *testing.T, user string, holders ...*browser) {
		t.Helper()
		for _, b := range holders {
			s.denied(b.access(), b.antiCSRF)
			if a := b.get(); a.status != http.StatusFound {
				t.Errorf("%d, want 302", a.status)
			}
			if a := b.do(http.MethodGet, "/optional", script); a.app == nil || a.app.Header["X-Session-User-Id"] != nil {
				t.Errorf("an optional route: %d, want 200 without identity", a.status)
			}
		}
		again, _ := signIn(user)
		for range 4 { // either process
			again.mustGet(t)
		}
	}

	t.Run("sign-out", func(t *testing.T) {
		b, handle := signIn("alice")
		thief := b.stolenBy(networkX)
		if a := b.send(http.MethodPost, "/auth/signout", script, with("Origin", "https://evil.example")); a.status != http.StatusForbidden {
			t.Errorf("a foreign page signs out: %d", a.status)
		}
		b.mustGet(t)
		a := b.do(http.MethodPost, "/auth/signout", script)
		if a.status != http.StatusOK || a.body != `{"status":"OK"}` || a.header.Get("Id-Refresh-Token") != "remove" || a.header.Get("Front-Token") != "remove" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if b.access() != "" || b.cookie("sRefreshToken") != "" {
			t.Error("cookies are left")
		}
		if a := b.do(http.MethodPost, "/auth/signout", script); a.status != http.StatusOK {
			t.Errorf("again: %d", a.status)
		}
		ended(t, "alice", thief)
		if n := s.endedFor(handle, "signed_out"); n != 1 {
			t.Errorf("%d events", n)
		}
	})

	t.Run("one session, by the API", func(t *testing.T) {
		b, handle := signIn("bob")
		other, _ := signIn("bob")
		var answer struct {
			Ended bool `json:"ended"`
		}
		if status, _ := one.api(http.MethodDelete, "/v1/sessions/"+handle, nil, &answer); status != http.StatusOK || !answer.Ended {
			t.Errorf("%d, ended: %v", status, answer.Ended)
		}
		ended(t, "bob", b)
		b.refresh().ended(t, "unauthorised")
		other.mustGet(t)
		if status, _ := two.api(http.MethodGet, "/v1/sessions/"+handle, nil, nil); status != http.StatusNotFound {
			t.Errorf("it is still there: %d", status)
		}
	})

	t.Run("all sessions of a user, by the API", func(t *testing.T) {
		b, _ := signIn("carol")
		other, _ := signIn("carol")
		dave, _ := signIn("dave")
		var answer struct {
			Ended int `json:"ended"`
		}
		if status, _ := two.api(http.MethodDelete, "/v1/users/carol/sessions", nil, &answer); status != http.StatusOK || answer.Ended != 2 {
			t.Errorf("%d, ended: %d", status, answer.Ended)
		}
		ended(t, "carol", b, other)
		dave.mustGet(t)
	})

	t.Run("without an API key nothing ends", func(t *testing.T) {
		b, handle := signIn("erin")
		for _, key := range []string{"", "Bearer " + newSecret(), "Basic " + s.apiKey} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+one.internal+"/v1/sessions/"+handle, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", key)
			response, err := direct.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%d, want 401", response.StatusCode)
			}
		}
		if a := b.do(http.MethodDelete, "/v1/sessions/"+handle, script); a.app == nil {
			t.Errorf("through Envoy the API is nowhere, the path is the app's: %d", a.status)
		}
		b.mustGet(t)
	})
}

// TestChecksAskNoStore: what a check needs is in memory. While 10,000 are answered, nothing is asked of Postgres but the feed (and, once a
// minute, what to sweep).
func TestChecksAskNoStore(t *testing.T) {
	const checks, callers = 10_000, 8
	s := newStack(t, stackOptions{noEnvoy: true})
	s.exec(`CREATE EXTENSION pg_stat_statements`)
	p := s.processes[0]
	tokens := make([]created, 4)
	for i := range tokens {
		tokens[i] = p.create("alice")
	}
	s.exec(`SELECT pg_stat_statements_reset()`)
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			for i := range checks / callers {
				c := tokens[(n+i)%len(tokens)]
				access, want := c.Tokens.Access, codes.OK
				if i%10 == 0 { // I6: rubbish causes no query either
					access, want = access[:len(access)-1-i%40], codes.Unauthenticated
				}
				response, err := p.gate.Check(t.Context(), checkRequest(access, c.Tokens.AntiCSRF))
				if err != nil || response.GetStatus().GetCode() != int32(want) {
					t.Errorf("check: %v, %v; want %v", response.GetStatus(), err, want)
					return
				}
			}
		})
	}
	all.Wait()
	rows, err := s.db.Query(t.Context(), `SELECT query, calls FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid WHERE d.datname = current_database()`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	polls := int64(0)
	for rows.Next() {
		var query string
		var calls int64
		if err := rows.Scan(&query, &calls); err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSpace(query)
		switch {
		case strings.Contains(text, "pg_snapshot_xmin"):
			polls += calls
		case strings.Contains(text, "pg_stat_statements"), text == ";", strings.HasPrefix(text, "-- ping"):
		case strings.HasPrefix(text, "WITH t AS MATERIALIZED") && strings.Contains(text, "sessiongate.keys"): // the keys, once a minute
		case strings.HasPrefix(text, "SET enable_"), text == "SET search_path = pg_catalog, pg_temp", strings.Contains(text, "pg_is_in_recovery()"): // a new connection
		case strings.HasPrefix(text, "DELETE FROM sessiongate."), strings.HasPrefix(text, "WITH page AS"): // the sweep
		case strings.HasPrefix(text, "SELECT CASE WHEN counted.n"): // with it, how many sessions there are
		default:
			t.Errorf("%d times: %s", calls, text)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	s.eventually("the feed goes on", func() bool {
		return s.count(`SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid
			WHERE d.datname = current_database() AND query LIKE '%pg_snapshot_xmin%'`) > int(polls)
	})
}

// Where a host has many parents, and cookies were set on many paths, an end deletes more cookies than Envoy by default lets an answer have headers.
func TestManyDeletions(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, settings: []string{"SESSIONGATE_COOKIES_FORMER_PATHS=/a,/b,/c,/d,/e,/f"}})
	const deep = "a.b.c.d.e.f.example.test"
	for path, status := range map[string]int{"/auth/signout": http.StatusOK, refreshPath: 440} {
		b := s.newBrowser(networkV)
		a := b.send(http.MethodPost, path, script, func(r *http.Request) { r.Host = deep }, with("Cookie", "sFrontToken=x; sIRTFrontend=x; sAntiCsrf=x; sIdRefreshToken=x"))
		if n := len(a.header.Values("Set-Cookie")); a.status != status || n <= 100 {
			t.Errorf("%s: %d with %d cookies", path, a.status, n)
		}
	}
}

// TestSessionsEnd: after a restore of the database, which brings ended sessions back, the operator's command ends them, on every process, and
// with the database alone at hand.
func TestSessionsEnd(t *testing.T) {
	s := newStack(t, stackOptions{noEnvoy: true})
	one, two := s.processes[0], s.processes[1]
	answering := func(answer string, args ...string) (string, error) {
		t.Helper()
		file, err := program()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(file, append([]string{"sessions"}, args...)...)
		c.Env = []string{"SESSIONGATE_DATABASE_URL=" + s.url, "GORACE=atexit_sleep_ms=0"}
		c.Stdin = strings.NewReader(answer)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	command := func(args ...string) string {
		t.Helper()
		out, err := answering("", append([]string{"end"}, args...)...)
		if err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		return out
	}
	allowed := func(c created) {
		t.Helper()
		for _, p := range s.processes {
			if status := p.check(c.Tokens.Access, c.Tokens.AntiCSRF); status != http.StatusOK {
				t.Errorf("%s: %d, want an allow", p.name, status)
			}
		}
	}
	alice, bob, bobs, carol := one.create("alice"), one.create("bob"), two.create("bob"), two.create("carol")

	// Backup, sign-out of Alice elsewhere, restore.
	s.exec(`CREATE TABLE backup AS TABLE sessiongate.active_sessions`)
	s.exec(`CREATE TABLE backup_contents AS TABLE sessiongate.session_attributes`)
	one.api(http.MethodDelete, "/v1/sessions/"+alice.Session.Handle, nil, nil)
	s.exec(`TRUNCATE sessiongate.active_sessions, sessiongate.session_attributes, sessiongate.feed`)
	s.exec(`INSERT INTO sessiongate.active_sessions TABLE backup`)
	s.exec(`INSERT INTO sessiongate.session_attributes TABLE backup_contents`)
	allowed(carol)

	if out := command("--handle", bob.Session.Handle); !strings.HasPrefix(out, "ended 1 session") {
		t.Error(out)
	}
	s.denied(bob.Tokens.Access, bob.Tokens.AntiCSRF)
	if out := command("--handle", bob.Session.Handle); !strings.HasPrefix(out, "ended 0 sessions") {
		t.Error(out)
	}
	allowed(bobs)
	if out := command("--user", "bob", "--actor", "ops-1"); !strings.HasPrefix(out, "ended 1 session") {
		t.Error(out)
	}
	s.denied(bobs.Tokens.Access, bobs.Tokens.AntiCSRF)
	if n := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE handle = $1 AND reason = 'revoked' AND actor = 'ops-1'`, handleBytes(bobs.Session.Handle)); n != 1 {
		t.Errorf("%d events say who did it", n)
	}
	if out := command("--created-before", "2020-01-01T00:00:00Z"); !strings.HasPrefix(out, "ended 0 sessions") {
		t.Error(out)
	}
	allowed(carol)
	// Alice's, that was back, and Carol's: a person is asked, and a script must say that it means it.
	if out := command("--created-before", "now", "--dry-run"); out != "would end 2 sessions\n" {
		t.Error(out)
	}
	for _, answer := range []string{"", "\n", "n\n", "no\n"} {
		if out, err := answering(answer, "end", "--created-before", "now"); err == nil || !strings.HasPrefix(out, "End 2 sessions? [y/N] ") || !strings.Contains(out, "no session was ended") {
			t.Errorf("answered %q: %v: %s", answer, err, out)
		}
	}
	allowed(carol)
	if out, err := answering("", "list", "--user", "carol"); err != nil || !strings.HasPrefix(out, "HANDLE") || !strings.Contains(out, carol.Session.Handle) || strings.Contains(out, alice.Session.Handle) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := answering("", "list", "--user", "bob"); err != nil || out != "bob has no session\n" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := answering("", "show", carol.Session.Handle); err != nil || !strings.Contains(out, "user                   carol\n") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := answering("", "show", bob.Session.Handle); err == nil || !strings.Contains(out, "there is no session "+bob.Session.Handle) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := answering("y\n", "end", "--created-before", "now"); err != nil || !strings.Contains(out, "ended 2 sessions") {
		t.Errorf("%v: %s", err, out)
	}
	s.denied(alice.Tokens.Access, alice.Tokens.AntiCSRF)
	s.denied(carol.Tokens.Access, carol.Tokens.AntiCSRF)
}
