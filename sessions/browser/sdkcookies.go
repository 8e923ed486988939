package browser

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// The cookies in which supertokens-website keeps what it knows of a session, for
// all its tabs: the marker of id-refresh-token (4.x), and front-token, the time of
// the last change and the anti-CSRF token (20.x). It sets them itself wherever a
// script of its own reads the answer of a sign-in.
const (
	sdkMarker     = "sIRTFrontend"
	sdkFrontToken = "sFrontToken"
	sdkUpdated    = "st-last-access-token-update"
	sdkAntiCSRF   = "sAntiCsrf"
)

// SDKCookieNames are those of the cookies that go when a session ends.
func SDKCookieNames() []string { return []string{sdkMarker, sdkFrontToken, sdkAntiCSRF} }

// SetSDK gives the Set-Cookie lines by which the web SDKs see i at a client that
// reached us as host, though no script read the answer: a sign-in by a plain form.
// Scripts can read them; no token is in them that works without the others.
func (c Cookies) SetSDK(host string, i sessions.Issued) []string {
	updated := strconv.FormatInt(i.Session.CreatedAt.UnixMilli(), 10)
	var lines []string
	for _, cookie := range []struct{ name, value, domain string }{
		{sdkMarker, i.Marker, c.markerDomain(host)},
		{sdkFrontToken, frontToken(i), c.FrontendDomain},
		{sdkUpdated, updated, c.FrontendDomain},
		{sdkAntiCSRF, i.AntiCSRF.Reveal(), c.FrontendDomain},
	} {
		for _, kind := range c.kinds() {
			if kind.Partitioned != c.Partitioned { // what the SDK set by itself, with the setting on
				lines = append(lines, kind.sdkCookie(cookie.name, "", cookie.domain, deleted).String())
			}
		}
		lines = append(lines, c.sdkCookie(cookie.name, cookie.value, cookie.domain, lifeOf(i)).String())
	}
	return lines
}

// ClearSDK gives the lines that delete SDKs' cookies on the host and wherever a page
// of it may have put them. The time of the last change stays: without a
// front token beside it, it tells an SDK that there is no session.
func (c Cookies) ClearSDK(host string, names ...string) []string {
	domains := append([]string{""}, parentDomains(host)...)
	if !slices.Contains(domains, c.FrontendDomain) {
		domains = append(domains, c.FrontendDomain)
	}
	var lines []string
	for _, name := range names {
		for _, domain := range domains {
			for _, kind := range c.kinds() {
				lines = append(lines, kind.sdkCookie(name, "", domain, deleted).String())
			}
		}
	}
	return lines
}

// sdkCookie has the attributes that the SDKs use. Without Secure: from plain HTTP to
// localhost they could not replace a cookie that has it. Browsers refuse SameSite=None
// without it.
func (c Cookies) sdkCookie(name, value, domain string, l life) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // the deployment chooses; scripts of the web SDKs read these (G124)
		Name: name, Value: value, Domain: domain, Path: "/", MaxAge: l.maxAge(), Expires: l.until,
		Secure: c.SameSite == http.SameSiteNoneMode, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
}

// markerDomain is the Domain that 4.x gives its cookie: also where it is the
// page's own host, unlike 20.x. Its deletion would miss a cookie without.
func (c Cookies) markerDomain(host string) string {
	if c.FrontendDomain != "" {
		return c.FrontendDomain
	}
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	if _, err := netip.ParseAddr(name); err == nil || !validHost(name) || !strings.Contains(name, ".") {
		return "" // the browser takes an address or a single label as the host itself
	}
	return name
}
