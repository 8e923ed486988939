package sessions_test

import (
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sessiongate/sessiongate/sessions"
)

// The table of docs/initiator.md, by its rules' names.
func TestInitiator(t *testing.T) {
	const own, allowed, evil = "https://app.example", "https://partner.example", "https://evil.example"
	partner, _ := sessions.ParseOrigin(allowed)
	trust := sessions.Trust{Origins: []sessions.Origin{partner}}
	type e = sessions.Evidence
	nav := func(site, dest string) e { return e{Method: "GET", Site: site, Mode: "navigate", Dest: dest} }
	rules := map[string]bool{}
	for _, tt := range []struct {
		rule, name string
		evidence   e
		want       sessions.Initiator
	}{
		{"A1", "fetch of an allowed origin", e{Method: "POST", Origin: allowed, Site: "cross-site", Mode: "cors"}, sessions.InitiatorOwn},
		{"A1", "its form", e{Method: "POST", Origin: allowed, Site: "same-site", Mode: "navigate", Dest: "document"}, sessions.InitiatorOwn},
		{"A1", "old browser", e{Method: "POST", Origin: allowed}, sessions.InitiatorOwn},
		{"A2", "foreign fetch", e{Method: "POST", Origin: evil, Site: "cross-site", Mode: "cors"}, sessions.InitiatorForeign},
		{"A2", "foreign, old browser", e{Method: "POST", Origin: evil}, sessions.InitiatorForeign},
		{"A2", "a claim of same-origin beside it", e{Method: "POST", Origin: evil, Site: "same-origin"}, sessions.InitiatorForeign},
		{"A2", "by http", e{Method: "POST", Origin: "http://app.example", Site: "cross-site"}, sessions.InitiatorForeign},
		{"A2", "other port", e{Method: "POST", Origin: own + ":8443"}, sessions.InitiatorForeign},
		{"A2", "twice", e{Method: "POST", Origin: own + "," + own, Site: "same-origin"}, sessions.InitiatorForeign},
		{"A2", "an extension's", e{Method: "POST", Origin: "chrome-extension://abc", Site: "none"}, sessions.InitiatorForeign},
		{"A2", "prefix", e{Method: "POST", Origin: allowed + ".evil.example"}, sessions.InitiatorForeign},
		{"A3", "fetch", e{Method: "GET", Site: "same-origin", Mode: "cors"}, sessions.InitiatorOwn},
		{"A3", "POST", e{Method: "POST", Site: "same-origin", Mode: "cors", Origin: own}, sessions.InitiatorOwn},
		{"A3", "form under no-referrer", e{Method: "POST", Site: "same-origin", Mode: "navigate", Origin: "null"}, sessions.InitiatorOwn},
		{"A3", "beacon", e{Method: "POST", Site: "same-origin", Mode: "no-cors", Origin: own}, sessions.InitiatorOwn},
		{"A3", "frame of the own page", nav("same-origin", "iframe"), sessions.InitiatorOwn},
		{"A3", "prerendering by the own page", e{Method: "GET", Site: "same-origin", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender"}, sessions.InitiatorOwn},
		{"A4", "address bar", nav("none", "document"), sessions.InitiatorUser},
		{"A4", "shared to the app", e{Method: "POST", Site: "none", Mode: "navigate", Dest: "document", Origin: "null"}, sessions.InitiatorUser},
		{"A5", "extension's fetch", e{Method: "GET", Site: "none", Mode: "cors"}, sessions.InitiatorUnknown},
		{"A6", "link of another site", nav("cross-site", "document"), sessions.InitiatorUser},
		{"A6", "link of a sibling host", nav("same-site", "document"), sessions.InitiatorUser},
		{"A6", "HEAD", e{Method: "HEAD", Site: "cross-site", Mode: "navigate", Dest: "document"}, sessions.InitiatorUser},
		{"A6", "no Sec-Fetch-Dest", nav("cross-site", ""), sessions.InitiatorUser},
		{"A6", "no Sec-Fetch-Site", nav("", "document"), sessions.InitiatorUser},
		{"A7", "frame of an allowed origin", e{Method: "GET", Site: "cross-site", Mode: "navigate", Dest: "iframe", Referer: allowed + "/page?x=https://evil.example"}, sessions.InitiatorUser},
		{"A8", "frame", nav("cross-site", "iframe"), sessions.InitiatorForeign},
		{"A8", "frame of a sibling host", e{Method: "GET", Site: "same-site", Mode: "navigate", Dest: "iframe", Referer: "https://blog.example/"}, sessions.InitiatorForeign},
		{"A8", "Referer that looks allowed", e{Method: "GET", Site: "cross-site", Mode: "navigate", Dest: "iframe", Referer: evil + "/" + allowed}, sessions.InitiatorForeign},
		{"A8", "Referer with a user", e{Method: "GET", Site: "cross-site", Mode: "navigate", Dest: "iframe", Referer: allowed + "@evil.example/"}, sessions.InitiatorForeign},
		{"A8", "object", nav("cross-site", "object"), sessions.InitiatorForeign},
		{"A8", "embed", nav("same-site", "embed"), sessions.InitiatorForeign},
		{"A8", "fenced frame", nav("cross-site", "fencedframe"), sessions.InitiatorForeign},
		{"A8", "prefetch", e{Method: "GET", Site: "cross-site", Mode: "navigate", Dest: "document", Purpose: "prefetch"}, sessions.InitiatorForeign},
		{"A8", "prerendering", e{Method: "GET", Site: "same-site", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender"}, sessions.InitiatorForeign},
		{"A8", "image", e{Method: "GET", Site: "cross-site", Mode: "no-cors", Dest: "image"}, sessions.InitiatorForeign},
		{"A8", "sibling's image", e{Method: "GET", Site: "same-site", Mode: "no-cors", Dest: "image"}, sessions.InitiatorForeign},
		{"A8", "allowed origin's image, of which nothing says so", e{Method: "GET", Site: "cross-site", Mode: "no-cors", Dest: "image", Referer: allowed + "/"}, sessions.InitiatorForeign},
		{"A8", "sandboxed frame's form", e{Method: "POST", Site: "cross-site", Mode: "navigate", Origin: "null"}, sessions.InitiatorForeign},
		{"A8", "own origin, through another site's redirect", e{Method: "POST", Site: "cross-site", Mode: "cors", Origin: own}, sessions.InitiatorForeign},
		{"A9", "form, old browser", e{Method: "POST", Origin: own}, sessions.InitiatorOwn},
		{"A9", "WebSocket, old browser", e{Method: "GET", Origin: own}, sessions.InitiatorOwn},
		{"A10", "null, old browser", e{Method: "POST", Origin: "null"}, sessions.InitiatorForeign},
		{"A11", "no browser", e{Method: "POST"}, sessions.InitiatorUnknown},
		{"A11", "frame, no Sec-Fetch-Site", nav("", "iframe"), sessions.InitiatorUnknown},
		{"A12", "twice", e{Method: "GET", Site: "same-origin,same-origin", Mode: "cors"}, sessions.InitiatorForeign},
		{"A12", "other case", e{Method: "GET", Site: "Same-Origin", Mode: "cors"}, sessions.InitiatorForeign},
	} {
		rules[tt.rule] = true
		tt.evidence.Scheme, tt.evidence.Host = "https", "app.example"
		if got := tt.evidence.Initiator(trust); got != tt.want {
			t.Errorf("%s, %s: %v, want %v", tt.rule, tt.name, got, tt.want)
		}
	}
	frames := sessions.Evidence{Method: "GET", Scheme: "https", Host: "app.example", Site: "cross-site", Mode: "navigate", Dest: "iframe"}
	if got := frames.Initiator(sessions.Trust{Frames: true}); got != sessions.InitiatorUser {
		t.Errorf("A7, where any page may hold frames: %v", got)
	}
	page, err := os.ReadFile("../docs/initiator.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(page), "\n| **A"); n != len(rules) {
		t.Errorf("the page has %d rules, the table tries %d", n, len(rules))
	}
}

// Whatever else a request says: what a page of another site can cause proves nothing but a person's own opening of a page.
func TestForeignNeverProvesOwn(t *testing.T) {
	word := func(words ...string) *rapid.Generator[string] { return rapid.SampledFrom(words) }
	rapid.Check(t, func(t *rapid.T) {
		e := sessions.Evidence{
			Scheme: "https", Host: "app.example",
			Method:  word("GET", "HEAD", "POST", "PUT", "OPTIONS", "get").Draw(t, "method"),
			Site:    word("same-site", "cross-site").Draw(t, "site"),
			Mode:    word("", "navigate", "cors", "no-cors", "websocket", "same-origin").Draw(t, "mode"),
			Dest:    word("", "document", "iframe", "embed", "object", "image", "empty", "worker").Draw(t, "dest"),
			Purpose: word("", "prefetch", "prefetch;prerender").Draw(t, "purpose"),
			Origin:  word("", "null", "https://evil.example", "https://app.example", "http://app.example").Draw(t, "origin"),
			Referer: word("", "https://app.example/", "https://evil.example/").Draw(t, "referer"),
		}
		opens := (e.Method == "GET" || e.Method == "HEAD") && e.Mode == "navigate" && (e.Dest == "" || e.Dest == "document") && e.Purpose == ""
		switch got := e.Initiator(sessions.Trust{}); {
		case got == sessions.InitiatorForeign, got == sessions.InitiatorUser && opens:
		default:
			t.Fatalf("%+v: %v", e, got)
		}
	})
}
