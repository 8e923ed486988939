package sessionhttp

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// limited asks until it is told to wait: that changes nothing at the client, at the
// auth path and in the API alike.
func limited(t *testing.T, h http.Handler, c call) {
	t.Helper()
	for range 20_000 {
		if r := do(h, c); r.StatusCode == http.StatusTooManyRequests {
			wantProblem(t, r, http.StatusTooManyRequests)
			untouched(t, r)
			if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 {
				t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
			}
			return
		}
	}
	t.Fatal("never told to wait")
}

func TestTooManyRefreshes(t *testing.T) {
	b := newBench(t)
	cookies, header := b.signIn(t), b.create(t, `{"user_id":"u1","transport":"header"}`)
	other := b.signIn(t)
	body := `{"refresh_token":"` + other.Tokens.Refresh + `","client":{"address":"192.0.2.7","user_agent":"x"}}`
	for name, flood := range map[string]struct {
		handler http.Handler
		call    call
		living  string
	}{
		"cookies": {b.public, refreshCall(refreshCookie(cookies.Tokens.Refresh)), cookies.Session.Handle},
		"header":  {b.public, refreshCall().with("Authorization", "Bearer "+header.Tokens.Refresh), header.Session.Handle},
		"API":     {b.internal, apiCall(http.MethodPost, "/v1/sessions/refresh", body), other.Session.Handle},
	} {
		t.Run(name, func(t *testing.T) {
			limited(t, flood.handler, flood.call)
			if !b.alive(t, flood.living) {
				t.Error("the session has ended")
			}
		})
	}
	t.Run("not the neighbours", func(t *testing.T) {
		want(t, do(b.public, refreshCall(refreshCookie(b.signIn(t).Tokens.Refresh))), http.StatusOK)
	})
}

// A network that floods with invalid tokens waits, in both transports. Another network, and
// a client without a token, do not.
func TestTooManyRefreshesOfANetwork(t *testing.T) {
	b := newBench(t)
	flood := refreshCall(refreshCookie("sgr1_x"))
	limited(t, b.public, flood)
	elsewhere := func(c call) call { return c.with(peerHeader, "203.0.113.1") }
	from := func(address string) call {
		return apiCall(http.MethodPost, "/v1/sessions/refresh", `{"refresh_token":"sgr1_x","client":{"address":"`+address+`"}}`)
	}
	limited(t, b.internal, from(peer))
	want(t, do(b.public, refreshCall()), 440)
	want(t, do(b.public, elsewhere(flood)), 440)
	want(t, do(b.internal, from("203.0.113.1")), 440)
	mine := b.signIn(t) // after the floods: on a busy machine they outlast the grace
	noAddress := refreshCall(refreshCookie(mine.Tokens.Refresh))
	noAddress.header.Del(peerHeader)
	if r := do(b.public, noAddress); r.StatusCode == http.StatusTooManyRequests {
		t.Error("without an address, a client waits for others")
	}
	want(t, do(b.public, elsewhere(refreshCall(refreshCookie(mine.Tokens.Refresh)))), http.StatusOK)
	if log := b.log.String(); strings.Contains(log, mine.Tokens.Refresh) {
		t.Error("the log has a token")
	}
}
