package browser

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// LegacyCookie is set by older SuperTokens backends, never by sessiongate. A client that has it but
// no access token may have a session: it is told to refresh, and the refresh clears the cookie.
const LegacyCookie = "sIdRefreshToken"

// Cookies says in which cookies a client keeps its tokens, and with which attributes (RFC 6265bis).
type Cookies struct {
	AccessName, RefreshName string
	// Domain is the Domain attribute; empty: host-only.
	Domain string
	// SameSite is the SameSite attribute: Lax, Strict or None.
	SameSite http.SameSite
	// Secure cookies travel over TLS only.
	Secure bool
	// HostPrefix puts __Host- before the name of the access token's cookie. Then an attacker on
	// another host of the domain, or on a plain connection, cannot plant one.
	HostPrefix bool
	// Partitioned keeps a separate jar for each site whose pages hold ours in a frame (CHIPS);
	// pages of any origin may then do so. Browsers send no other cookie there. It requires Secure
	// and SameSite None.
	Partitioned bool
	// AuthPath is the Path of the refresh token's cookie: no other server receives it.
	AuthPath string
	// FrontendDomain is the domain on which the web SDKs keep their own cookies, which scripts
	// read: their websiteRootDomain or sessionTokenFrontendDomain. Empty: the host, which is their
	// default.
	FrontendDomain string
	// FormerPaths are paths of cookies that earlier configurations set. Those cookies are deleted,
	// because a browser sends the cookie of the longer path first.
	FormerPaths []string
}

// DefaultCookies is what docs/protocol.md promises.
func DefaultCookies() Cookies {
	return Cookies{AccessName: "sAccessToken", RefreshName: "sRefreshToken", SameSite: http.SameSiteLaxMode, Secure: true, AuthPath: "/auth"}
}

// Access is the full name of the access token's cookie.
func (c Cookies) Access() string {
	if c.HostPrefix {
		return "__Host-" + c.AccessName
	}
	return c.AccessName
}

// IsBelowAuth says whether path is below AuthPath: a cookie of that Path is sent there (RFC 6265
// §5.1.4).
func (c Cookies) IsBelowAuth(path string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(c.AuthPath, "/")+"/")
}

// Set gives the Set-Cookie lines that issue i to a client that reached us as host. It also gives
// the lines that delete cookies which would shadow the new ones.
func (c Cookies) Set(host string, i sessions.Issued) []string { return c.set(c.at(host), i) }

func (c Cookies) set(at *atHost, i sessions.Issued) []string {
	if i.Access == "" { // the client keeps its own
		return nil
	}
	lines := append(make([]string, 0, len(at.access)+len(at.refresh)+2), at.access...)
	lines = append(lines, withValue(c.cookie(c.Access(), c.Domain, "/", lifeOf(i)), i.Access.Reveal()))
	if i.Refresh != "" {
		lines = append(lines, at.refresh...)
		lines = append(lines, withValue(c.cookie(c.RefreshName, c.Domain, c.AuthPath, lifeOf(i)), i.Refresh.Reveal()))
	}
	return lines
}

// Clear gives the Set-Cookie lines that delete the tokens wherever the browser may have them.
func (c Cookies) Clear(host string) []string { return c.at(host).clear }

// atHost are the lines that delete cookies at a host: those that would shadow the cookie of each token,
// and those that delete both tokens.
type atHost struct {
	host                   string
	access, refresh, clear []string
}

func (c Cookies) at(host string) *atHost {
	domains := parentDomains(host)
	a := &atHost{host: host, access: c.misplaced(domains, c.Access(), "/"), refresh: c.misplaced(domains, c.RefreshName, c.AuthPath)}
	a.clear = slices.Concat(
		a.access, []string{c.cookie(c.Access(), c.Domain, "/", deleted).String()},
		a.refresh, []string{c.cookie(c.RefreshName, c.Domain, c.AuthPath, deleted).String()},
	)
	return a
}

// CookieWriter gives the lines of [Cookies] for many answers. It keeps the lines that delete for the
// host of the last one: most deployments have one host.
type CookieWriter struct {
	cookies Cookies
	last    atomic.Pointer[atHost]
}

// NewCookieWriter gives the lines of c as it is now.
func NewCookieWriter(c Cookies) *CookieWriter { return &CookieWriter{cookies: c} }

// Set is [Cookies.Set].
func (w *CookieWriter) Set(host string, i sessions.Issued) []string {
	return w.cookies.set(w.at(host), i)
}

// Clear is [Cookies.Clear].
func (w *CookieWriter) Clear(host string) []string { return slices.Clone(w.at(host).clear) }

func (w *CookieWriter) at(host string) *atHost {
	if a := w.last.Load(); a != nil && a.host == host {
		return a
	}
	a := w.cookies.at(host)
	w.last.Store(a)
	return a
}

// ClearLegacy gives the lines that delete [LegacyCookie].
func (c Cookies) ClearLegacy(host string) []string {
	return append(c.misplaced(parentDomains(host), LegacyCookie, "/"), c.cookie(LegacyCookie, c.Domain, "/", deleted).String())
}

// misplaced deletes a cookie wherever it should not be: host-only if it has a domain, on every
// parent domain of the host otherwise, on former paths, and in the jar of the other kind. A
// leftover, or a cookie that an attacker planted on a sibling host, would be sent together with the
// real one.
func (c Cookies) misplaced(domains []string, name, path string) []string {
	kinds := c.kinds()
	var lines []string
	for _, p := range append([]string{path}, c.FormerPaths...) {
		if strings.HasPrefix(name, "__Host-") && p != "/" {
			continue // no such cookie can exist
		}
		var hostOnly []string // by kind
		for _, kind := range kinds {
			hostOnly = append(hostOnly, kind.cookie(name, "", p, deleted).String())
		}
		for _, domain := range append([]string{""}, domains...) {
			if strings.HasPrefix(name, "__Host-") && domain != "" {
				break // nor such a one
			}
			for i, kind := range kinds {
				if domain != c.Domain || p != path || kind.Partitioned != c.Partitioned {
					lines = append(lines, withDomain(hostOnly[i], domain))
				}
			}
		}
	}
	return lines
}

// withDomain is the line of a host-only cookie, for the cookie of one of [parentDomains]: what
// net/http writes with that Domain. The parents of a host are many, and a line takes net/http longer
// than to copy it.
func withDomain(line, domain string) string {
	before, after, ok := strings.Cut(line, "; Expires=")
	if !ok || domain == "" {
		return line
	}
	return before + "; Domain=" + domain + "; Expires=" + after
}

// withValue is the line of a cookie that has none yet, with a value of base64 and dots: what net/http
// writes with that value. A token is long, and net/http looks at each of its bytes.
func withValue(c *http.Cookie, value string) string {
	line, start := c.String(), len(c.Name)+len("=")
	if line == "" { // no name of a cookie
		return ""
	}
	return line[:start] + value + line[start:]
}

// kinds are the variants that cookies with these attributes may have: also those of the other
// setting of Partitioned, in browsers that accept both. A browser without Partitioned sees both as
// one cookie, so the line that deletes comes before the line that sets.
func (c Cookies) kinds() []Cookies {
	if c.SameSite != http.SameSiteNoneMode || !c.Secure {
		return []Cookies{c}
	}
	other := c
	other.Partitioned = !c.Partitioned
	return []Cookies{other, c}
}

// cookie has the attributes of c, for one of the session's tokens, and no value. A life below a second deletes
// it. Max-Age counts in every client that knows it, and does not depend on the client's clock.
// Expires is for clients that are older than Max-Age. It is also for clients that read Max-Age
// alone as a sign of RFC 2965, and would answer in that format (java.net).
func (c Cookies) cookie(name, domain, path string, l life) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure and SameSite are the deployment's choice (G124)
		Name: name, Domain: domain, Path: path, MaxAge: l.maxAge(), Expires: l.until,
		HttpOnly: true, Secure: c.Secure, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
}

// life is how long a cookie lives, and until when: the same time in two forms.
type life struct {
	length time.Duration
	until  time.Time
}

// deleted is the life of a cookie that the client is to delete.
var deleted = life{until: time.Unix(0, 0)}

func lifeOf(i sessions.Issued) life { return life{i.RefreshLife, i.Session.EndsAt()} }

// maxAge is -1 for deleted, which net/http writes as Max-Age=0.
func (l life) maxAge() int {
	if l.length < time.Second {
		return -1
	}
	return int(l.length / time.Second)
}

// parentDomains are the domains whose cookies a browser sends to host: the host itself, and its
// parents of two labels or more. An address and a single label have none. The browser ignores a
// public suffix among them, which does no harm.
func parentDomains(host string) []string {
	if h, _, ok := strings.Cut(host, ":"); ok {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil || !validHost(host) {
		return nil
	}
	var domains []string
	for strings.Contains(host, ".") && len(domains) < 8 {
		if validDomain(host) {
			domains = append(domains, host)
		}
		_, host, _ = strings.Cut(host, ".")
	}
	return domains
}

// validDomain says whether a cookie of ours may have name as its Domain: the name of a host, with
// two labels or more. net/http drops any other Domain, and writes a line to the standard logger,
// which is not the log of the process.
func validDomain(name string) bool {
	_, err := netip.ParseAddr(name)
	return err != nil && validHost(name) && strings.Contains(name, ".") && isAcceptedDomain(name)
}

// isAcceptedDomain says whether net/http writes a Domain attribute as it is.
func isAcceptedDomain(domain string) bool {
	return (&http.Cookie{Name: "n", Domain: domain}).Valid() == nil //nolint:gosec // never sent (G124)
}

// isAcceptedName says whether net/http writes a cookie of this name. It writes no line otherwise.
func isAcceptedName(name string) bool {
	return (&http.Cookie{Name: name}).Valid() == nil //nolint:gosec // never sent (G124)
}

// validHost stops an attacker who would write attributes into a Set-Cookie line through the Host
// header.
func validHost(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for _, c := range []byte(host) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// AppendCookies appends to values the values of the cookies called name in a Cookie header, each
// once. A broken pair spoils only itself. It stops at one more than the engine ever reads: a header
// of thousands would otherwise cost a comparison of each with each.
func AppendCookies(values []string, header, name string) []string {
	for at := cookieAt(header, 0, name, ";"); at >= 0 && len(values) <= sessions.TokensMax; {
		pair := header[at:pairEnd(header, at)]
		if v, ok := strings.CutPrefix(pair[len(name):], "="); ok {
			if v = unquoted(v); !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
		at = cookieAt(header, at+len(pair), name, ";")
	}
	return values
}

// unquoted is the value of a cookie without the one pair of quotes that may be around it (RFC 6265
// §4.1.1). Clients of RFC 2965 add the quotes, and blanks after them. Blanks after any other value
// are a part of it, because a token has one text.
func unquoted(value string) string {
	text := strings.TrimRight(value, " \t")
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		return text[1 : len(text)-1]
	}
	return value
}

// StripCookies returns a Cookie header without the cookies called by any of names, and whether
// there was one. The rest keeps its bytes.
//
// Several header lines may have been joined with commas, so a pair ends before the first piece that
// is one of the names. Everything after that piece, up to the end of the pair, is removed, too. It
// may be a part of that cookie's value: an attacker on a sibling host could plant there what would
// then become a cookie that the attacker may not set, __Host- included. The attributes of the
// cookie, which clients of RFC 2965 send after it, are removed as well. They would become those of
// the cookie before it.
func StripCookies(header string, names ...string) (string, bool) {
	var buf [8]int
	next := buf[:0] // by name: the index of its next cookie
	for _, name := range names {
		next = append(next, cookieAt(header, 0, name, ";,"))
	}
	var kept []string
	from, stripped := 0, false
	for {
		at := -1
		for i, name := range names {
			if next[i] >= 0 && next[i] < from { // removed with another cookie
				next[i] = cookieAt(header, from, name, ";,")
			}
			if next[i] >= 0 && (at < 0 || next[i] < at) {
				at = next[i]
			}
		}
		if at < 0 {
			break
		}
		before := strings.TrimRight(header[from:at], " \t")
		if list, comma := strings.CutSuffix(before, ","); comma {
			before = strings.TrimRight(list, " \t")
		}
		kept = appendPairs(kept, before)
		from, stripped = attributesEnd(header, pairEnd(header, at)), true
	}
	if !stripped {
		return header, false
	}
	return strings.Join(appendPairs(kept, header[from:]), "; "), true
}

// appendPairs keeps other cookies as they are: blanks after a value belong to it.
func appendPairs(kept []string, pairs string) []string {
	pairs = strings.TrimRight(strings.TrimLeft(pairs, "; \t"), ";")
	if pairs != "" {
		kept = append(kept, pairs)
	}
	return kept
}

// cookieAt is the index of the next cookie called name, at or after from, or -1. A cookie begins at
// the start of the header or after one of the delimiters. Only spaces may be around the name, since
// the upstream's parser may allow them. The function searches for the name and does not visit each
// pair: a client chooses how many pairs there are.
func cookieAt(header string, from int, name, delimiters string) int {
	for name != "" {
		i := strings.Index(header[from:], name)
		if i < 0 {
			return -1
		}
		at := from + i
		start, end := at, at+len(name)
		for start > 0 && isBlank(header[start-1]) {
			start--
		}
		for end < len(header) && isBlank(header[end]) {
			end++
		}
		if (start == 0 || strings.IndexByte(delimiters, header[start-1]) >= 0) && (end == len(header) || strings.IndexByte("=;,", header[end]) >= 0) {
			return at
		}
		from = at + 1
	}
	return -1
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// attributesEnd is the end of the attributes that follow the end of a cookie's pair.
func attributesEnd(header string, end int) int {
	for end < len(header) {
		next := header[end+1:]
		pair := next[:pairEnd(next, 0)]
		name, _, _ := strings.Cut(pair, "=")
		if !isAttribute(strings.Trim(name, " \t")) {
			break
		}
		end += 1 + len(pair)
	}
	return end
}

// isAttribute says whether a pair of this name describes the cookie before it (RFC 2965 §3.3.4).
// $Version does not: it describes all cookies that follow.
func isAttribute(name string) bool {
	return strings.EqualFold(name, "$Path") || strings.EqualFold(name, "$Domain") || strings.EqualFold(name, "$Port")
}

// pairEnd is the end of the pair that contains the index at.
func pairEnd(header string, at int) int {
	if i := strings.IndexByte(header[at:], ';'); i >= 0 {
		return at + i
	}
	return len(header)
}
