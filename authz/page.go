package authz

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageTemplate string

// pageCSP (CSP Level 3) allows the page its one script and one style, by their
// hashes, and requests to its own origin. Values that vary are in attributes that the
// script reads, so the hashes hold for every answer.
var pageCSP = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
	hashOf(pageTemplate, "script"), hashOf(pageTemplate, "style"))

// pagePolicy is pageCSP and the origins, beside the page's own, whose pages may show it in
// a frame. The page only refreshes, which the pages of those origins may do anyway.
func pagePolicy(allowedOrigins []string, framedByAny bool) string {
	if framedByAny {
		return pageCSP + " *"
	}
	return strings.Join(append([]string{pageCSP}, allowedOrigins...), " ")
}

func hashOf(page, element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	content, _, ok := strings.Cut(rest, "</"+element+">")
	if !ok {
		panic("page.html has no " + element)
	}
	digest := sha256.Sum256([]byte(content))
	return "sha256-" + base64.StdEncoding.EncodeToString(digest[:])
}

// refreshPage is the page that a navigation gets for TRY_REFRESH: it refreshes
// and reloads.
type refreshPage struct {
	refreshPath   string
	expiredStatus int
	// attempt is how long the page waits for a refresh.
	attempt time.Duration
	login   string
	// resend: the request was a form's, and only the person may repeat it.
	resend bool
	// optional: the address can be seen without a session, so the page reloads it where
	// the session has ended.
	optional bool
}

func (p refreshPage) html() string {
	return strings.NewReplacer(
		"{{refresh}}", html.EscapeString(p.refreshPath),
		"{{login}}", html.EscapeString(p.login),
		"{{expired}}", strconv.Itoa(p.expiredStatus),
		"{{attempt}}", strconv.FormatInt(max(1, p.attempt.Milliseconds()), 10),
		"{{resend}}", strconv.FormatBool(p.resend),
		"{{optional}}", strconv.FormatBool(p.optional),
	).Replace(pageTemplate)
}
