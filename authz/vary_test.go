package authz

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Whatever header changes a denial is in its Vary: also an answer that no cache may keep is kept by some.
func TestDenialsVary(t *testing.T) {
	g := newGate(t, func(c *Config) { c.Cookies.SameSite = http.SameSiteStrictMode; c.Default.AntiCSRF = AntiCSRFAttested })
	bases := []ask{
		navigation, oldBrowser, script, curl, formPost, socket, events, image,
		{method: "GET", path: "/"},
		{method: "OPTIONS", path: "/"},
		{method: "POST", path: "/"},
		script.cookie(access(g.alice)), curl.cookie(access(g.alice)), navigation.cookie(access(g.expired)), oldBrowser.cookie(access(g.ended)),
		oldBrowser.cookie(access(g.expired)), formPost.cookie(access(g.alice)),
		ask{method: "GET", path: "/"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "cross-site", "sec-fetch-dest", "iframe").cookie(access(g.alice)),
		ask{method: "GET", path: "/"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "none", "sec-purpose", "prefetch").cookie(access(g.alice)),
		script.with("origin", "https://evil.example"),
		{method: "OPTIONS", path: "/", headers: [][2]string{{"origin", "https://evil.example"}}},
	}
	changes := map[string][]string{
		"cookie": {access(g.alice), access(g.expired), browser.LegacyCookie + "=1"}, "authorization": {"Bearer " + g.header.Access.Reveal(), "Bearer x"},
		"anti-csrf": {g.alice.AntiCSRF.Reveal(), "x"}, "origin": {"https://evil.example", "https://app.example", "null"}, "accept": {"text/html", "application/json", "text/event-stream", "text/html,*/*"},
		"upgrade": {"websocket"}, "access-control-request-method": {"PUT"}, "sec-fetch-mode": {"navigate", "cors", "no-cors"},
		"sec-fetch-site": {"same-origin", "cross-site", "none", "x"}, "sec-fetch-dest": {"document", "empty", "iframe"}, "sec-fetch-user": {"?1"},
		"sec-purpose": {"prefetch"}, "referer": {"https://app.example/"}, "st-auth-mode": {"cookie"}, "rid": {"x"}, "supertokens-sdk-name": {"x"},
		"x-requested-with": {"XMLHttpRequest"}, "x-forwarded-proto": {"http"}, "x-request-id": {"0af76519-16cd-43dd-8448-eb211c80319c"},
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "user-agent": {"x"}, "x-unknown": {"x"},
	}
	for _, name := range fields {
		if changes[name] == nil {
			t.Errorf("nothing changes %s", name)
		}
	}
	differs := map[string]bool{}
	for _, base := range bases {
		for _, policy := range []map[string]string{nil, {"on_unauthorised": "auto"}, {"anti_csrf": "always"}, {"session": "optional"}} {
			base.policy = policy
			before := check(t, g.server, base)
			for name, values := range changes {
				for _, value := range append(values, "") {
					changed := base.without(name)
					if value != "" {
						changed = changed.with(name, value)
					}
					after := check(t, g.server, changed)
					if cmp.Equal(before, after, cmp.AllowUnexported(got{})) {
						continue
					}
					differs[name] = true
					for _, r := range []got{before, after} {
						if r.status != 0 && !names(r.headers["vary"], name) {
							t.Errorf("%s: %q changes %d to %d, but Vary is %q", name, value, before.status, after.status, r.headers["vary"])
						}
					}
				}
			}
		}
	}
	for name := range strings.SplitSeq(varied, ", ") {
		if !differs[strings.ToLower(name)] {
			t.Errorf("%s is in Vary, but changes no answer here", name)
		}
	}
}

// names says whether a list of header names has one.
func names(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if http.CanonicalHeaderKey(strings.TrimSpace(item)) == http.CanonicalHeaderKey(name) {
			return true
		}
	}
	return false
}
