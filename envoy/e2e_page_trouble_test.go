package envoy_test

// What the page under test does when the refresh fails, and what it never does: go on asking without end.

import (
	"math"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/sessiongate/sessiongate/sessions"
)

func testTrouble(t *testing.T, s *stack) {
	const away = told + `.includes("cannot be reached")`
	// stuck holds where the page has given up, without a timer.
	const stuck = told + `.includes("could not be renewed") && timers.length === 0 && !document.getElementById("login").hidden`
	gap := func(i int) float64 { return 4000 * math.Pow(2, float64(i)) } // ms between reloads i+1 and i+2
	start := func(t *testing.T, name, user string) *tab {
		tab := s.newProfileFor(t).expired(name, user)
		tab.onEveryPage(stopClock)
		return tab
	}

	t.Run("503", func(t *testing.T) {
		tab := start(t, one, "outage")
		tab.outage()
		tab.goTo("/page?a=1#here")
		for i := range 7 {
			tab.await(away + ` && timers.length === 1`)
			tab.want(1+i, 2)
			least := min(500<<i, 15000)
			if i < 2 {
				least = 1000 // Retry-After
			}
			if ms := tab.pass(); ms < float64(least) || ms > 30000 {
				t.Errorf("after %d attempts it waits %v ms", 1+i, ms)
			}
		}
		tab.await(away + ` && timers.length === 1`)
		tab.recovery()
		tab.pass()
		tab.awaitPath("/page?a=1#here")
		tab.await(onApp)
		tab.want(9, 3)
		tab.survived("outage")
	})

	t.Run("503, and the person does not wait", func(t *testing.T) {
		tab := start(t, one, "impatient")
		tab.outage()
		tab.goTo("/page")
		tab.await(away)
		tab.recovery()
		tab.press("Try now")
		tab.await(onApp)
		tab.want(2, 3)
	})

	t.Run("503, and another tab gets through first", func(t *testing.T) {
		tab := start(t, one, "other")
		second := tab.newTab()
		second.onEveryPage(stopClock)
		tab.outage()
		tab.goTo("/page")
		tab.await(away)
		second.goTo("/page")
		second.await(away)
		tab.recovery()
		tab.press("Try now")
		tab.await(onApp)
		second.await(onApp) // no time passes there
		second.want(1, 2)
		tab.survived("other")
	})

	t.Run("no network", func(t *testing.T) {
		tab := start(t, one, "offline")
		tab.outage()
		tab.goTo("/page")
		tab.await(away)
		tab.recovery()
		offline := func(yes bool) {
			if _, err := chromedp.Call(tab.ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
				MatchedNetworkConditions: []*network.Conditions{{Offline: yes, DownloadThroughput: -1, UploadThroughput: -1}},
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := chromedp.Call(tab.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: yes, DownloadThroughput: -1, UploadThroughput: -1}); err != nil {
				t.Fatal(err)
			}
		}
		offline(true)
		tab.pass()
		tab.await(away + ` && timers.length === 1`)
		tab.want(2, 2)
		offline(false) // no time passes
		tab.await(onApp)
		tab.want(3, 3)
		tab.survived("offline")
	})

	// The page follows the redirect by which a bound session is sent to prove. So the user of a browser
	// that has no key any more is told to wait, and then to sign in; no session ends by it.
	t.Run("a bound session whose key is lost", func(t *testing.T) {
		tab := start(t, one, "lost")
		s.exec(`UPDATE sessiongate.active_sessions SET bound_key = decode(repeat('02', 33), 'hex'), bound_at = sessiongate.now(), next_nonce = NULL WHERE user_id = 'lost'`)
		tab.goTo("/page")
		tab.await(away + ` && timers.length === 1`)
		if ms := tab.pass(); ms < 5000 {
			t.Errorf("it waits %v ms, less than Retry-After", ms)
		}
		tab.await(away + ` && timers.length === 1`)
		s.advance(sessions.Defaults().Binding.LostAfter)
		tab.pass()
		tab.await(onLogin)
		if n := s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE user_id = 'lost'`); n != 1 {
			t.Errorf("%d sessions, want the one that was bound", n)
		}
	})

	t.Run("a refresh that hangs is given up after D/2", func(t *testing.T) {
		tab := start(t, one, "hangs")
		release := s.lockSessions(`user_id = 'hangs'`)
		tab.goTo("/page")
		tab.await(`limits.length === 2`) // that of the lock, and that of the request
		if ms := eval[int](tab, `limits[1].ms`); ms != int((attempt / 2).Milliseconds()) {
			t.Errorf("the request has %d ms, want half of %s", ms, attempt)
		}
		eval[any](tab, `void limits[1].abort()`)
		tab.await(away)
		release()
		tab.pass()
		tab.await(onApp)
		tab.want(2, 3)
		tab.survived("hangs")
	})

	t.Run("a tab that hangs while it has the lock", func(t *testing.T) {
		tab := start(t, one, "hung")
		hung := tab.open("/login")
		eval[any](hung, `new Promise((has) => navigator.locks.request("sessiongate.refresh", () => { has(0); return new Promise(() => {}); }))`)
		tab.goTo("/page")
		tab.await(`limits.length === 1`)
		tab.want(0, 2)
		eval[any](tab, `void limits[0].abort()`)
		tab.await(onApp)
		tab.want(1, 3)
	})

	t.Run("429 with a Retry-After beyond all timers", func(t *testing.T) {
		tab := start(t, busyHost, "busy")
		tab.goTo(s.siteAt(busyHost, "/page"))
		tab.await(away + ` && timers.length === 1`)
		if ms := eval[float64](tab, `timers[0].ms`); ms != 3_600_000 {
			t.Errorf("it waits %v ms, want an hour: a timer of more than 24 days ends at once", ms)
		}
		tab.want(1, 2)
	})

	t.Run("409", func(t *testing.T) {
		tab := start(t, one, "superseded")
		p := tab.profile
		cookies, err := chromedp.Call(tab.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{p.site("/auth/x")}})
		if err != nil {
			t.Fatal(err)
		}
		// The same session's refresh from elsewhere, whose answer is lost.
		elsewhere := s.newBrowser(networkX)
		for _, c := range cookies.Cookies {
			s.secrets.add(c.Value)
			elsewhere.jar[cookieKey{c.Name, "", c.Path}] = c.Value
		}
		if a := elsewhere.send("POST", refreshPath, script); a.status != 200 {
			t.Fatalf("refresh: %d", a.status)
		}
		tab.goTo("/page?a=1#here")
		for i := range 2 {
			if ms := tab.pass(); ms > gap(i) {
				t.Errorf("reload %d comes after %v ms", 2+i, ms)
			}
		}
		tab.await(`window.timers?.length === 1`)
		tab.want(4, 2+3)
		if eval[bool](tab, `localStorage.getItem("sessiongate.refreshed") !== null`) {
			t.Error("other tabs are told of cookies that did not come")
		}
		s.advance(repeat + moment)
		tab.pass()
		tab.await(`window.timers?.length === 1`) // refused once more, before the clock moved
		tab.pass()
		tab.awaitPath("/page?a=1#here")
		tab.await(onApp)
		tab.survived("superseded")
	})

	t.Run("cookies are lost", func(t *testing.T) {
		tab := start(t, forgetfulHost, "forgetful")
		tab.goTo(s.siteAt(forgetfulHost, "/page?a=1"))
		for i := range 4 {
			tab.await(`window.timers?.length === 1`)
			// What other tabs of such a site do must not make it faster.
			eval[any](tab, `void dispatchEvent(new StorageEvent("storage", { key: "sessiongate.refreshed" }))`)
			tab.want(2+i, 1+2+i)
			if ms := tab.pass(); ms > gap(i) {
				t.Errorf("reload %d comes after %v ms", 2+i, ms)
			}
		}
		tab.await(stuck)
		tab.want(6, 1+6)
		tab.press("Try again") // a new beginning
		tab.pass()
		tab.await(`window.timers?.length === 1`)
		tab.want(9, 1+6+3)
		// Another address has nothing to wait for.
		tab.goTo(s.siteAt(forgetfulHost, "/page?b=1"))
		tab.await(`window.timers?.length === 1`)
		tab.want(11, 1+6+3+2)
		tab.survived("forgetful")
	})

	const denied = `for (const name of ["localStorage", "sessionStorage"]) {
		Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
	}`
	t.Run("no storage", func(t *testing.T) {
		tab := start(t, one, "storeless")
		tab.onEveryPage(denied)
		tab.goTo("/page?a=1#here")
		tab.awaitPath("/page?a=1#here")
		tab.await(onApp)
		tab.want(1, 3)
	})
	t.Run("no storage, and cookies are lost", func(t *testing.T) {
		tab := start(t, forgetfulHost, "nothing")
		tab.onEveryPage(denied)
		tab.goTo(s.siteAt(forgetfulHost, "/page"))
		tab.await(stuck)
		tab.want(2, 1+2)
		tab.press("Try again")
		tab.await(stuck + ` && performance.getEntriesByType("navigation")[0].type === "reload"`)
		tab.eventually("a second time", func() bool { return tab.documents() == 1+3 })
	})

	t.Run("a computer that slept", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("slept")
		// Another tab refreshed an hour ago; performance.timeOrigin, which did not count the night, is before that.
		eval[any](tab, `void localStorage.setItem("sessiongate.refreshed", Date.now() - 3600000)`)
		tab.onEveryPage(`{
			const origin = performance.timeOrigin;
			Object.defineProperty(performance, "timeOrigin", { get: () => origin - 8 * 3600000 });
		}`)
		p.advance(accessLife)
		tab.goTo("/page")
		tab.await(onApp)
		tab.want(1, 3)
	})
	t.Run("a stamp of the page before this reload", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("stamped")
		// A page stamps its refresh and reloads in the same millisecond. Date.now() shows only the beginning of it.
		tab.onEveryPage(`{
			const now = Date.now(), elapsed = performance.now();
			Date.now = () => now;
			performance.now = () => elapsed;
			localStorage.setItem("sessiongate.refreshed", now - elapsed + 1);
		}`)
		p.advance(accessLife)
		tab.goTo("/page")
		tab.await(onApp)
		tab.want(1, 3)
	})
	t.Run("a stamp from the future", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("future")
		eval[any](tab, `void localStorage.setItem("sessiongate.refreshed", Date.now() + 3600000)`)
		p.advance(accessLife)
		tab.goTo("/page")
		tab.await(onApp)
		tab.want(1, 3)
	})
}
