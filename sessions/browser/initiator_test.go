package browser_test

import (
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// The table of docs/initiator.md, by its rules' names.
func TestInitiator(t *testing.T) {
	const own, allowed, evil = "https://app.example", "https://partner.example", "https://evil.example"
	partner, _ := browser.ParseOrigin(allowed)
	trust := browser.Trust{Origins: []browser.Origin{partner}}
	type e = browser.Evidence
	nav := func(site, dest string) e { return e{Reads: true, Site: site, Mode: "navigate", Dest: dest} }
	rules := map[string]bool{}
	for _, tt := range []struct {
		rule, name string
		evidence   e
		want       browser.Initiator
	}{
		{"A1", "fetch of an allowed origin", e{Origin: allowed, Site: "cross-site", Mode: "cors"}, browser.InitiatorOwn},
		{"A1", "its form", e{Origin: allowed, Site: "same-site", Mode: "navigate", Dest: "document"}, browser.InitiatorOwn},
		{"A1", "old browser", e{Origin: allowed}, browser.InitiatorOwn},
		{"A2", "foreign fetch", e{Origin: evil, Site: "cross-site", Mode: "cors"}, browser.InitiatorForeign},
		{"A2", "foreign, old browser", e{Origin: evil}, browser.InitiatorForeign},
		{"A2", "a claim of same-origin beside it", e{Origin: evil, Site: "same-origin"}, browser.InitiatorForeign},
		{"A2", "by http", e{Origin: "http://app.example", Site: "cross-site"}, browser.InitiatorForeign},
		{"A2", "other port", e{Origin: own + ":8443"}, browser.InitiatorForeign},
		{"A2", "twice", e{Origin: own + "," + own, Site: "same-origin"}, browser.InitiatorForeign},
		{"A2", "an extension's", e{Origin: "chrome-extension://abc", Site: "none"}, browser.InitiatorForeign},
		{"A2", "prefix", e{Origin: allowed + ".evil.example"}, browser.InitiatorForeign},
		{"A3", "fetch", e{Reads: true, Site: "same-origin", Mode: "cors"}, browser.InitiatorOwn},
		{"A3", "fetch with POST", e{Site: "same-origin", Mode: "cors", Origin: own}, browser.InitiatorOwn},
		{"A3", "form under no-referrer", e{Site: "same-origin", Mode: "navigate", Origin: "null"}, browser.InitiatorOwn},
		{"A3", "beacon", e{Site: "same-origin", Mode: "no-cors", Origin: own}, browser.InitiatorOwn},
		{"A3", "frame of the own page", nav("same-origin", "iframe"), browser.InitiatorOwn},
		{"A3", "prerendering by the own page", e{Reads: true, Site: "same-origin", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender"}, browser.InitiatorOwn},
		{"A4", "address bar", nav("none", "document"), browser.InitiatorUser},
		{"A4", "shared to the app", e{Site: "none", Mode: "navigate", Dest: "document", Origin: "null"}, browser.InitiatorUser},
		{"A4", "prefetch by a rule of the own page", e{Site: "none", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender", Referer: own + "/page"}, browser.InitiatorUser},
		{"A4", "by one of an allowed origin", e{Site: "none", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender", Referer: allowed + "/"}, browser.InitiatorUser},
		{"A8", "by one of a sibling host", e{Site: "none", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender", Referer: evil + "/"}, browser.InitiatorForeign},
		{"A8", "by one of a page that hides its origin, or by the address bar", e{Site: "none", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender"}, browser.InitiatorForeign},
		{"A5", "extension's fetch", e{Reads: true, Site: "none", Mode: "cors"}, browser.InitiatorUnknown},
		{"A6", "link of another site", nav("cross-site", "document"), browser.InitiatorUser},
		{"A6", "link of a sibling host", nav("same-site", "document"), browser.InitiatorUser},
		{"A6", "no Sec-Fetch-Dest", nav("cross-site", ""), browser.InitiatorUser},
		{"A6", "no Sec-Fetch-Site", nav("", "document"), browser.InitiatorUser},
		{"A7", "frame of an allowed origin", e{Reads: true, Site: "cross-site", Mode: "navigate", Dest: "iframe", Referer: allowed + "/page?x=https://evil.example"}, browser.InitiatorUser},
		{"A8", "frame", nav("cross-site", "iframe"), browser.InitiatorForeign},
		{"A8", "frame of a sibling host", e{Reads: true, Site: "same-site", Mode: "navigate", Dest: "iframe", Referer: "https://blog.example/"}, browser.InitiatorForeign},
		{"A8", "Referer that looks allowed", e{Reads: true, Site: "cross-site", Mode: "navigate", Dest: "iframe", Referer: evil + "/" + allowed}, browser.InitiatorForeign},
		{"A8", "Referer with a user", e{Reads: true, Site: "cross-site", Mode: "navigate", Dest: "iframe", Referer: allowed + "@evil.example/"}, browser.InitiatorForeign},
		{"A8", "link or frame, passed on by a service worker", nav("cross-site", "empty"), browser.InitiatorForeign},
		{"A8", "object", nav("cross-site", "object"), browser.InitiatorForeign},
		{"A8", "embed", nav("same-site", "embed"), browser.InitiatorForeign},
		{"A8", "fenced frame", nav("cross-site", "fencedframe"), browser.InitiatorForeign},
		{"A8", "prefetch", e{Reads: true, Site: "cross-site", Mode: "navigate", Dest: "document", Purpose: "prefetch"}, browser.InitiatorForeign},
		{"A8", "prerendering", e{Reads: true, Site: "same-site", Mode: "navigate", Dest: "document", Purpose: "prefetch;prerender"}, browser.InitiatorForeign},
		{"A8", "image", e{Reads: true, Site: "cross-site", Mode: "no-cors", Dest: "image"}, browser.InitiatorForeign},
		{"A8", "sibling's image", e{Reads: true, Site: "same-site", Mode: "no-cors", Dest: "image"}, browser.InitiatorForeign},
		{"A8", "image of an allowed origin, without proof of it", e{Reads: true, Site: "cross-site", Mode: "no-cors", Dest: "image", Referer: allowed + "/"}, browser.InitiatorForeign},
		{"A8", "sandboxed frame's form", e{Site: "cross-site", Mode: "navigate", Origin: "null"}, browser.InitiatorForeign},
		{"A8", "own origin, through another site's redirect", e{Site: "cross-site", Mode: "cors", Origin: own}, browser.InitiatorForeign},
		{"A9", "form, old browser", e{Origin: own}, browser.InitiatorOwn},
		{"A9", "WebSocket, old browser", e{Reads: true, Origin: own}, browser.InitiatorOwn},
		{"A10", "null, old browser", e{Origin: "null"}, browser.InitiatorForeign},
		{"A11", "no browser", e{}, browser.InitiatorUnknown},
		{"A11", "frame, no Sec-Fetch-Site", nav("", "iframe"), browser.InitiatorUnknown},
		{"A12", "twice", e{Reads: true, Site: "same-origin,same-origin", Mode: "cors"}, browser.InitiatorForeign},
		{"A12", "other case", e{Reads: true, Site: "Same-Origin", Mode: "cors"}, browser.InitiatorForeign},
	} {
		rules[tt.rule] = true
		tt.evidence.Scheme, tt.evidence.Host = "https", "app.example"
		if got := tt.evidence.Initiator(trust); got != tt.want {
			t.Errorf("%s, %s: %v, want %v", tt.rule, tt.name, got, tt.want)
		}
	}
	frames := browser.Evidence{Reads: true, Scheme: "https", Host: "app.example", Site: "cross-site", Mode: "navigate", Dest: "iframe"}
	if got := frames.Initiator(browser.Trust{Frames: true}); got != browser.InitiatorUser {
		t.Errorf("A7, where any page may hold frames: %v", got)
	}
	page, err := os.ReadFile("../../docs/initiator.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(page), "\n| **A"); n != len(rules) {
		t.Errorf("the page has %d rules, the table tries %d", n, len(rules))
	}
}

// Whatever else a request says: a page of another site can cause nothing that proves more than a
// user who opens a page.
func TestForeignNeverProvesOwn(t *testing.T) {
	word := func(words ...string) *rapid.Generator[string] { return rapid.SampledFrom(words) }
	rapid.Check(t, func(t *rapid.T) {
		e := browser.Evidence{
			Scheme: "https", Host: "app.example",
			Reads:   rapid.Bool().Draw(t, "reads"),
			Site:    word("same-site", "cross-site").Draw(t, "site"),
			Mode:    word("", "navigate", "cors", "no-cors", "websocket", "same-origin").Draw(t, "mode"),
			Dest:    word("", "document", "iframe", "embed", "object", "image", "empty", "worker").Draw(t, "dest"),
			Purpose: word("", "prefetch", "prefetch;prerender").Draw(t, "purpose"),
			Origin:  word("", "null", "https://evil.example", "https://app.example", "http://app.example").Draw(t, "origin"),
			Referer: word("", "https://app.example/", "https://evil.example/").Draw(t, "referer"),
		}
		opens := e.Reads && e.Mode == "navigate" && (e.Dest == "" || e.Dest == "document") && e.Purpose == ""
		switch got := e.Initiator(browser.Trust{}); {
		case got == browser.InitiatorForeign, got == browser.InitiatorUser && opens:
		default:
			t.Fatalf("%+v: %v", e, got)
		}
	})
}
