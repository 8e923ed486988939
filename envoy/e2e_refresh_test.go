package envoy_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// TestRefresh plays what happens to refreshes on the way, through the whole product. The names are those of the sequences in
// sessions/sessionstest, where they are played on the engine, at the exact boundaries of the windows.
func TestRefresh(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{edit: editRoutes(func(v *routev3.VirtualHost) error {
		// Someone forgot to exempt the auth path from the check.
		if err := addRoute(v, "auth", "/auth", map[string]string{"session": "required"}); err != nil {
			return err
		}
		v.GetRoutes()[0].GetMatch().Headers = []*routev3.HeaderMatcher{{
			Name: "x-guarded", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		}}
		return nil
	})})
	signIn := func(t *testing.T) (b *browser, handle string) {
		t.Helper()
		b = s.newBrowser(networkV)
		handle = b.signIn("alice")
		s.advance(grace + moment) // after it, a refresh rotates
		return b, handle
	}
	// over is what a session is for everyone that was ended as stolen.
	stolen := func(t *testing.T, handle string, holders ...*browser) {
		t.Helper()
		if n := s.endedFor(handle, "theft"); n != 1 {
			t.Errorf("%d events of theft, want 1", n)
		}
		for _, b := range holders {
			if token := b.access(); token != "" {
				s.denied(token, b.antiCSRF)
			}
		}
	}
	// signedIn is what an honest client must be, whatever happened.
	signedIn := func(t *testing.T, b *browser, handle string) {
		t.Helper()
		s.advance(repeat + moment)
		b.mustRefresh(t)
		b.mustGet(t)
		if n := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE handle = $1`, handleBytes(handle)); n != 0 {
			t.Errorf("%d events that the session ended", n)
		}
	}

	t.Run("rotates", func(t *testing.T) {
		b, handle := signIn(t)
		oldRefresh, oldAccess, csrf := b.cookie("sRefreshToken"), b.access(), b.antiCSRF
		s.advance(accessLife)
		a := b.refresh()
		if a.status != http.StatusOK || a.body != "{}" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Front-Token") == "" || a.header.Get("Id-Refresh-Token") == "" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if b.cookie("sRefreshToken") == oldRefresh || b.access() == oldAccess || b.antiCSRF != csrf {
			t.Error("want new tokens and the same anti-CSRF token")
		}
		b.mustGet(t)
		signedIn(t, b, handle)
	})

	t.Run("through a guarded route", func(t *testing.T) {
		b, handle := signIn(t)
		s.advance(accessLife)
		guarded := with("X-Guarded", "1")
		b.send(http.MethodGet, "/auth/other", script, guarded).asks(t, false) // it is guarded
		none := s.newBrowser(networkX)
		if a := none.do(http.MethodPost, refreshPath, script, guarded); a.status != 440 || a.body != `{"error":"unauthorised"}` {
			t.Errorf("first visit: %d %s", a.status, a.body)
		}
		if a := b.do(http.MethodPost, refreshPath, script, guarded); a.status != http.StatusOK || !a.sets("sRefreshToken") {
			t.Errorf("%d %s", a.status, a.body)
		}
		b.mustGet(t)
		signedIn(t, b, handle)
	})

	t.Run("only as it should be asked", func(t *testing.T) {
		b, handle := signIn(t)
		for name, test := range map[string]struct {
			method, path string
			options      []option
			status       int
		}{
			"GET":            {http.MethodGet, refreshPath, nil, http.StatusMethodNotAllowed},
			"foreign origin": {http.MethodPost, refreshPath, []option{with("Origin", "https://evil.example")}, http.StatusForbidden},
			"cross-site":     {http.MethodPost, refreshPath, []option{with("Sec-Fetch-Site", "cross-site")}, http.StatusForbidden},
			"elsewhere":      {http.MethodPost, "/auth/session", nil, http.StatusNotFound},
		} {
			if a := b.do(test.method, test.path, test.options...); a.status != test.status || len(a.header.Values("Set-Cookie")) > 0 {
				t.Errorf("%s: %d, want %d and no cookie", name, a.status, test.status)
			}
		}
		if n := s.issues(handle); n != 0 {
			t.Errorf("%d issues", n)
		}
	})

	t.Run("garbage ends the client's session, and the client starts again", func(t *testing.T) {
		b, _ := signIn(t)
		token := b.cookie("sRefreshToken")
		for _, broken := range []string{"rubbish", token[:len(token)-1], token + "A", "sgr1_"} {
			c := b.stolenBy(networkV)
			s.secrets.add(broken)
			c.jar[cookieKey{"sRefreshToken", "", "/auth"}] = broken
			c.refresh().ended(t, "unauthorised")
			if c.cookie("sRefreshToken") != "" || c.access() != "" {
				t.Error("cookies are left")
			}
		}
		b.mustGet(t)
	})

	t.Run("burst", func(t *testing.T) {
		const attempts = 50
		b, handle := signIn(t)
		answers := make([]answer, attempts)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = b.send(http.MethodPost, refreshPath, script) })
		}
		all.Wait()
		if n := s.issues(handle); n < 1 || n > 2 {
			t.Errorf("%d writes, want one or two", n)
		}
		// The first that is used promotes the child. Had any other got another child, its own use would be theft.
		for i, a := range answers {
			tab := b.stolenBy(networkV)
			if tab.take(a); a.status != http.StatusOK || !a.sets("sRefreshToken") {
				t.Fatalf("%d %s, want 200 with a refresh token", a.status, a.body)
			}
			if tab.mustRefresh(t) {
				t.Errorf("answer %d: its token was not the current one", i)
			}
			tab.mustGet(t)
		}
		b.take(answers[attempts-1])
		signedIn(t, b, handle)
	})

	t.Run("answers dropped", func(t *testing.T) {
		b, handle := signIn(t)
		for range 3 {
			b.dropRefresh()
		}
		if n := s.issues(handle); n != 1 {
			t.Errorf("%d writes, want one", n)
		}
		b.mustRefresh(t)
		b.use(handle)
		signedIn(t, b, handle)
	})

	t.Run("late answer", func(t *testing.T) {
		b, handle := signIn(t)
		soon, late := b.send(http.MethodPost, refreshPath, script), b.send(http.MethodPost, refreshPath, script)
		b.take(soon)
		b.use(handle)
		if b.mustRefresh(t) {
			t.Error("a refresh right after a promotion issued a refresh token")
		}
		b.take(late)
		b.mustGet(t)
		s.advance(grace + moment)
		if !b.mustRefresh(t) {
			t.Error("the late answer's token did not rotate")
		}
		b.mustGet(t)
		signedIn(t, b, handle)
	})

	t.Run("two networks", func(t *testing.T) {
		b, handle := signIn(t)
		other := b.stolenBy(networkW)
		b.mustRefresh(t)
		other.refresh().superseded(t)
		b.use(handle)
		other.take(b.refresh()) // within G: a new access token only
		other.jar = b.jar       // one browser, one jar
		other.refresh().superseded(t)
		s.advance(grace + moment)
		other.mustGet(t)
		other.mustRefresh(t)
		signedIn(t, other, handle)
	})

	t.Run("another program of the same network", func(t *testing.T) {
		b, handle := signIn(t)
		other := b.stolenBy(networkV)
		b.mustRefresh(t)
		// No client chooses its own network.
		other.do(http.MethodPost, refreshPath, script, without("User-Agent"), with("User-Agent", "other"),
			with("X-Sessiongate-Peer", networkV), with("X-Forwarded-For", networkV)).superseded(t)
		thief := b.stolenBy(networkX)
		thief.jar = other.jar
		thief.do(http.MethodPost, refreshPath, script, with("X-Sessiongate-Peer", networkV), with("X-Forwarded-For", networkV)).superseded(t)
		signedIn(t, b, handle)
	})

	t.Run("hop", func(t *testing.T) {
		b, handle := signIn(t)
		b.dropRefresh()
		w := b.stolenBy(networkW)
		w.refresh().superseded(t)
		s.advance(repeat - 2*moment)
		w.refresh().superseded(t)
		s.advance(2 * moment)
		if !w.mustRefresh(t) {
			t.Error("no new child after W")
		}
		w.use(handle)
		signedIn(t, w, handle)
	})

	for name, play := range map[string]struct {
		first, second string // networks; the first one steals or is stolen from
		late          bool
	}{
		"victim first, within grace": {networkV, networkX, false},
		"victim first, after grace":  {networkV, networkX, true},
		"thief first, within grace":  {networkX, networkV, false},
		"thief first, after grace":   {networkX, networkV, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, handle := signIn(t)
			first, second := b.stolenBy(play.first), b.stolenBy(play.second)
			first.mustRefresh(t)
			first.use(handle)
			if !play.late {
				second.refresh().superseded(t)
				first.mustGet(t)
				return
			}
			s.advance(grace + moment)
			second.refresh().ended(t, "token theft detected")
			stolen(t, handle, b, first)
			if second.cookie("sRefreshToken") != "" || second.access() != "" {
				t.Error("the cookies are left")
			}
			first.refresh().ended(t, "unauthorised") // the child too
			if a := first.get(); a.status != http.StatusFound {
				t.Errorf("after theft: %d", a.status)
			}
		})
	}

	t.Run("sibling", func(t *testing.T) {
		b, handle := signIn(t)
		thief := b.stolenBy(networkX)
		thief.mustRefresh(t)
		s.advance(repeat + moment)
		b.mustRefresh(t)
		b.use(handle)
		// The thief's child lost. Its first use says so on the feed; from then on it is denied.
		for _, p := range s.processes {
			s.eventually(p.name+" denies the sibling", func() bool { return p.check(thief.access(), thief.antiCSRF) == 440 })
		}
		thief.refresh().ended(t, "token theft detected")
		stolen(t, handle, b, thief)
	})

	t.Run("poll", func(t *testing.T) {
		b, handle := signIn(t)
		thief := b.stolenBy(networkX)
		asks := 0
		var last answer
		for ; asks < 100; asks++ {
			if last = thief.send(http.MethodPost, refreshPath, script); last.status != http.StatusOK {
				break
			}
			s.advance(moment)
		}
		last.ended(t, "unauthorised")
		if n := s.endedFor(handle, "refresh_abuse"); n != 1 || asks != 20 {
			t.Errorf("%d events of refresh_abuse after %d issues, want 1 after 20", n, asks)
		}
	})

	t.Run("out and in", func(t *testing.T) {
		b, _ := signIn(t)
		tab := b.stolenBy(networkV)
		if a := b.do(http.MethodPost, "/auth/signout", script); a.status != http.StatusOK {
			t.Fatalf("sign-out: %d", a.status)
		}
		handle := b.signIn("alice")
		for range 4 { // by either process
			a := tab.send(http.MethodPost, refreshPath, script)
			a.superseded(t)
			b.take(a)
		}
		b.mustGet(t)
		signedIn(t, b, handle)
		tab.refresh().ended(t, "unauthorised") // long after
	})

	t.Run("lost promotions", func(t *testing.T) {
		b, handle := signIn(t)
		b.mustRefresh(t) // and no Check ever sees its access token
		if b.mustRefresh(t) {
			t.Error("a child that refreshes becomes the current one, and stays")
		}
		b.mustGet(t)
		signedIn(t, b, handle)
	})

	t.Run("expired for good", func(t *testing.T) {
		b, handle := signIn(t)
		for range 4 { // the sliding life is 30 days, the absolute one 100
			s.advance(24*24*time.Hour + time.Hour)
			b.mustRefresh(t)
			b.use(handle)
		}
		s.advance(4 * 24 * time.Hour)
		b.refresh().ended(t, "unauthorised")
		c := s.newBrowser(networkV)
		c.signIn("alice")
		s.advance(30*24*time.Hour + moment)
		c.refresh().ended(t, "unauthorised")
	})
}
