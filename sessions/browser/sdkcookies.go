package browser

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// supertokens-website keeps what it knows of a session in these cookies, for all its tabs: the
// marker of id-refresh-token (4.x), and front-token, the time of the last change and the anti-CSRF
// token (20.x). The SDK sets them itself if one of its scripts reads the answer of a sign-in.
const (
	sdkMarker     = "sIRTFrontend"
	sdkFrontToken = "sFrontToken"
	sdkUpdated    = "st-last-access-token-update"
	sdkAntiCSRF   = "sAntiCsrf"
)

// SDKCookieNames are the SDKs' cookies that are deleted when a session ends.
func SDKCookieNames() []string { return []string{sdkMarker, sdkFrontToken, sdkAntiCSRF} }

// SetSDK gives the Set-Cookie lines by which the web SDKs learn of i at a client that reached us as
// host, although no script read the answer: the sign-in was a plain form. Scripts can read these
// cookies. They contain no token that works without the other cookies.
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
			if kind.Partitioned != c.Partitioned { // set by the SDK itself, under the other setting
				lines = append(lines, kind.sdkCookie(cookie.name, cookie.domain, deleted).String())
			}
		}
		lines = append(lines, withValue(c.sdkCookie(cookie.name, cookie.domain, lifeOf(i)), cookie.value))
	}
	return lines
}

// ClearSDK gives the lines that delete the SDKs' cookies on the host, and on every domain on which
// one of its pages may have set them. The time of the last change stays: without a front token
// beside it, it tells an SDK that there is no session.
func (c Cookies) ClearSDK(host string, names ...string) []string {
	domains := append([]string{""}, parentDomains(host)...)
	if !slices.Contains(domains, c.FrontendDomain) {
		domains = append(domains, c.FrontendDomain)
	}
	var lines []string
	for _, name := range names {
		for _, domain := range domains {
			for _, kind := range c.kinds() {
				lines = append(lines, kind.sdkCookie(name, domain, deleted).String())
			}
		}
	}
	return lines
}

// sdkCookie has the attributes that the SDKs use. It is without Secure: over plain HTTP to
// localhost, the SDKs could not replace a cookie that has it. With SameSite=None it has Secure,
// because browsers refuse the cookie otherwise.
func (c Cookies) sdkCookie(name, domain string, l life) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // the deployment chooses; scripts of the web SDKs read these (G124)
		Name: name, Domain: domain, Path: "/", MaxAge: l.maxAge(), Expires: l.until,
		Secure: c.SameSite == http.SameSiteNoneMode, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
}

// markerDomain is the Domain that 4.x gives its cookie. Unlike 20.x, it does so also if that is the
// page's own host. The SDK's deletion would miss a cookie without the attribute.
func (c Cookies) markerDomain(host string) string {
	if c.FrontendDomain != "" {
		return c.FrontendDomain
	}
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	if !validDomain(name) {
		return "" // the browser takes an address or a single label as the host itself
	}
	return name
}
