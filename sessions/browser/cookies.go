package browser

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// LegacyCookie is set by older SuperTokens backends, never by us. A client that
// has it but no access token has a session somewhere: it is told to refresh, and
// the refresh clears it.
const LegacyCookie = "sIdRefreshToken"

// Cookies is where a client keeps its tokens, and how (RFC 6265bis).
type Cookies struct {
	AccessName, RefreshName string
	// Domain is the Domain attribute; empty: host-only.
	Domain string
	// SameSite is the SameSite attribute: Lax, Strict or None.
	SameSite http.SameSite
	// Secure cookies travel over TLS only.
	Secure bool
	// HostPrefix puts __Host- before the name of the access token's cookie: no
	// other host of the domain, and no plain connection, can then plant one.
	HostPrefix bool
	// Partitioned keeps a jar of its own for each site whose pages hold ours in a
	// frame (CHIPS), as pages of any origin then may: browsers send no other cookie
	// there. It wants Secure and SameSite None.
	Partitioned bool
	// AuthPath is the Path of the refresh token's cookie: no server but ours
	// ever receives it.
	AuthPath string
	// FrontendDomain is where the web SDKs keep their own cookies, those that
	// scripts read: their websiteRootDomain or sessionTokenFrontendDomain. Empty:
	// the host, as is their default.
	FrontendDomain string
	// FormerPaths are paths that earlier configurations set cookies on. They are
	// deleted there, for a browser sends the cookie of the longer path first.
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

// Set gives the Set-Cookie lines that issue i to a client that reached us as
// host, with those that delete what would shadow them.
func (c Cookies) Set(host string, i sessions.Issued) []string {
	lines := c.misplaced(host, c.Access(), "/")
	lines = append(lines, c.cookie(c.Access(), i.Access.Reveal(), c.Domain, "/", lifeOf(i)).String())
	if i.Refresh != "" {
		lines = append(lines, c.misplaced(host, c.RefreshName, c.AuthPath)...)
		lines = append(lines, c.cookie(c.RefreshName, i.Refresh.Reveal(), c.Domain, c.AuthPath, lifeOf(i)).String())
	}
	return lines
}

// Clear gives the Set-Cookie lines that delete the tokens wherever they may be.
func (c Cookies) Clear(host string) []string {
	lines := c.misplaced(host, c.Access(), "/")
	lines = append(lines, c.cookie(c.Access(), "", c.Domain, "/", deleted).String())
	lines = append(lines, c.misplaced(host, c.RefreshName, c.AuthPath)...)
	return append(lines, c.cookie(c.RefreshName, "", c.Domain, c.AuthPath, deleted).String())
}

// ClearLegacy gives the lines that delete [LegacyCookie].
func (c Cookies) ClearLegacy(host string) []string {
	return append(c.misplaced(host, LegacyCookie, "/"), c.cookie(LegacyCookie, "", c.Domain, "/", deleted).String())
}

// misplaced deletes a cookie where it should not be: host-only if it has a
// domain, on every parent domain of the host otherwise, on former paths, and in
// the jar of the other kind. A leftover, or one planted by a sibling host, would be
// sent beside the real one.
func (c Cookies) misplaced(host, name, path string) []string {
	var lines []string
	for _, domain := range append([]string{""}, parentDomains(host)...) {
		for _, p := range append([]string{path}, c.FormerPaths...) {
			if strings.HasPrefix(name, "__Host-") && (domain != "" || p != "/") {
				continue // cannot exist
			}
			for _, kind := range c.kinds() {
				if domain != c.Domain || p != path || kind.Partitioned != c.Partitioned {
					lines = append(lines, kind.cookie(name, "", domain, p, deleted).String())
				}
			}
		}
	}
	return lines
}

// kinds are the ways in which cookies of these attributes may be there: those of
// the other setting of Partitioned too, where browsers take both. Whoever knows no
// Partitioned sees one cookie, so what deletes stands before what sets.
func (c Cookies) kinds() []Cookies {
	if c.SameSite != http.SameSiteNoneMode || !c.Secure {
		return []Cookies{c}
	}
	other := c
	other.Partitioned = !c.Partitioned
	return []Cookies{other, c}
}

// cookie has the attributes of c, for one of the session's tokens. A life below a second
// deletes it. Max-Age counts wherever it is known, and trusts no clock of the client's.
// Expires is for clients that are older than Max-Age, and for those to which Max-Age alone
// is a sign of RFC 2965, in whose form they would answer (java.net).
func (c Cookies) cookie(name, value, domain, path string, l life) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure and SameSite are the deployment's choice (G124)
		Name: name, Value: value, Domain: domain, Path: path, MaxAge: l.maxAge(), Expires: l.until,
		HttpOnly: true, Secure: c.Secure, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
}

// life is how long a cookie lives, and until when: the same, said twice.
type life struct {
	length time.Duration
	until  time.Time
}

// deleted is the life of a cookie that the client is to forget.
var deleted = life{until: time.Unix(0, 0)}

func lifeOf(i sessions.Issued) life { return life{i.RefreshLife, i.Session.EndsAt()} }

// maxAge is -1 for deleted, which net/http writes as Max-Age=0.
func (l life) maxAge() int {
	if l.length < time.Second {
		return -1
	}
	return int(l.length / time.Second)
}

// parentDomains are the domains whose cookies a browser sends to host: itself
// and its parents of two labels or more. An address and a single label have
// none. A public suffix among them is refused by the browser, harmlessly.
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
		// net/http writes no other domain, and logs a line for each.
		if (&http.Cookie{Name: "n", Domain: host}).Valid() == nil { //nolint:gosec // never sent (G124)
			domains = append(domains, host)
		}
		_, host, _ = strings.Cut(host, ".")
	}
	return domains
}

// validHost keeps what a client sends as Host from writing attributes into a
// Set-Cookie line.
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

// AppendCookies appends the values of the cookies called name in a Cookie
// header to values, each once. A pair that is broken spoils nothing but itself.
// It stops at one more than are ever looked at: a header of thousands would cost
// a comparison of each with each.
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

// unquoted is a cookie's value without the one pair of quotes that may be around
// it (RFC 6265 §4.1.1): clients of RFC 2965 add it, and blanks behind it. Blanks
// behind any other value are a part of it, for a token has one text.
func unquoted(value string) string {
	text := strings.TrimRight(value, " \t")
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		return text[1 : len(text)-1]
	}
	return value
}

// StripCookies returns a Cookie header without the cookies called by any of
// names, and whether there was one. What stays keeps its bytes.
//
// Lines may have come joined with commas, so a pair ends before its first piece
// that is one of them. What is behind that goes, too: it may be a part of that
// cookie's value, where a sibling host plants what would then be a cookie of a name
// that it may not set, __Host- included. So do the cookie's own attributes, which
// clients of RFC 2965 send behind it; they would become those of the cookie before.
func StripCookies(header string, names ...string) (string, bool) {
	var buf [8]int
	next := buf[:0] // by name: where its next cookie is
	for _, name := range names {
		next = append(next, cookieAt(header, 0, name, ";,"))
	}
	var kept []string
	from, stripped := 0, false
	for {
		at := -1
		for i, name := range names {
			if next[i] >= 0 && next[i] < from { // it went with another
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

// appendPairs keeps others' cookies as they are: blanks behind a value are its own.
func appendPairs(kept []string, pairs string) []string {
	pairs = strings.TrimRight(strings.TrimLeft(pairs, "; \t"), ";")
	if pairs != "" {
		kept = append(kept, pairs)
	}
	return kept
}

// cookieAt is where the next cookie called name begins, from a place on, or -1:
// at the start of the header or behind one of the delimiters, with spaces at most
// around the name, as the upstream's parser may allow. It looks for the name, not
// at each pair: a client chooses how many pairs there are.
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

// attributesEnd is where the attributes end that stand behind the end of a
// cookie's pair.
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

// isAttribute says whether a pair of this name tells of the cookie before it (RFC
// 2965 §3.3.4). $Version is none: it tells of all that follow.
func isAttribute(name string) bool {
	return strings.EqualFold(name, "$Path") || strings.EqualFold(name, "$Domain") || strings.EqualFold(name, "$Port")
}

// pairEnd is where the pair ends that holds the place at.
func pairEnd(header string, at int) int {
	if i := strings.IndexByte(header[at:], ';'); i >= 0 {
		return at + i
	}
	return len(header)
}
