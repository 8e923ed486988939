package authz

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
)

// The hashes are computed here over what a browser hashes: the text between the
// tags of the page that was really sent.
func TestPageMatchesItsCSP(t *testing.T) {
	g := newGate(t)
	evil := navigation.cookie(access(g.expired)).under("login_url", `/in?a="><script>alert(1)</script>&b=%3C`, "return_to", "true")
	evil.path = `/p"'><script>alert(2)</script>`
	r := check(t, g.server, evil)
	csp := r.headers["content-security-policy"]
	for _, element := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+element+`[^>]*>(.*?)</`+element+`>`).FindAllStringSubmatch(r.body, -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s", len(found), element)
		}
		digest := sha256.Sum256([]byte(found[0][1]))
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"; !strings.Contains(csp, want) {
			t.Errorf("no %s in %s", want, csp)
		}
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'self' https://partner.example"} {
		if !strings.Contains(csp, want) {
			t.Errorf("no %s in %s", want, csp)
		}
	}
	if len(r.body) > 8<<10 {
		t.Errorf("%d bytes, for a page that is shown for a moment", len(r.body))
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(r.body, "{{") || regexp.MustCompile(`(src|onclick|onload|style)=`).MatchString(strings.Split(r.body, "<script>")[0]) {
		t.Error("something outside the policy is on the page")
	}
	if r.headers["referrer-policy"] == "no-referrer" {
		t.Error("the refresh would be sent with Origin: null")
	}
}

func TestPageKnowsItsRequest(t *testing.T) {
	g := newGate(t)
	for _, tt := range []struct {
		ask  ask
		want []string
	}{
		{
			navigation.cookie(access(g.expired)).under("return_to", "true"),
			[]string{`data-refresh="/auth/session/refresh"`, `data-login="/login?return_to=%2Fpage%3Fq%3D1"`, `data-expired="440"`, `data-attempt="5000"`, `data-resend="false"`, `data-optional="false"`},
		},
		{formPost.cookie(access(g.expired)), []string{`data-resend="true"`}},
		{navigation.cookie(access(g.expired)).under("session", "optional"), []string{`data-optional="true"`}},
	} {
		body := check(t, g.server, tt.ask).body
		for _, want := range append(tt.want, pleaseRefresh, `role="status"`, `lang="en"`, "prefers-color-scheme: dark") {
			if !strings.Contains(body, want) {
				t.Errorf("no %s", want)
			}
		}
	}
}

// A service worker that builds a navigation again makes it a script's by
// Sec-Fetch-Mode, but passes Accept on.
func TestPageIsForNavigations(t *testing.T) {
	g := newGate(t)
	const navigationAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	worker := func(mode string) ask {
		return ask{method: "GET", path: "/page"}.with("accept", navigationAccept, "sec-fetch-mode", mode, "sec-fetch-dest", "empty", "sec-fetch-site", "same-origin")
	}
	post := worker("cors")
	post.method = "POST"
	for name, tt := range map[string]struct {
		ask  ask
		page bool
	}{
		"navigation":                   {navigation, true},
		"older browser":                {oldBrowser, true},
		"worker's, cors":               {worker("cors"), true},
		"worker's, same-origin":        {worker("same-origin"), true},
		"worker's form":                {post, false},
		"with a script's header":       {worker("cors").with("anti-csrf", "x"), false},
		"script":                       {script, false},
		"script that wants HTML":       {ask{method: "GET", path: "/part"}.with("accept", "text/html, application/xhtml+xml", "sec-fetch-mode", "cors"), false},
		"image":                        {image, false},
		"curl":                         {curl, false},
		"prefetch by speculation rule": {navigation.with("sec-purpose", "prefetch"), true},
	} {
		r := check(t, g.server, tt.ask.cookie(access(g.expired)).under("anti_csrf", "unsafe"))
		if page := strings.HasPrefix(r.headers["content-type"], "text/html"); r.status != 440 || page != tt.page || !page && r.body != pleaseRefresh {
			t.Errorf("%s: %d %s, want a page: %t", name, r.status, r.headers["content-type"], tt.page)
		}
	}
	// The Accept header opens nothing.
	if r := check(t, g.server, worker("cors").cookie(access(g.alice))); r.status != 440 {
		t.Errorf("without an anti-CSRF token: %d", r.status)
	}
}
