package browser

import (
	"net/http"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

const (
	allowedName   = "a cookie name (RFC 6265 §4.1.1)"
	allowedDomain = "empty, or a domain name with at least one letter"
)

// Faults are the rules that c breaks: net/http would not write such cookies, browsers would refuse
// them, or the two tokens would be in one place.
func (c Cookies) Faults() (all sessions.ConfigFaults) {
	all = all.Unless(isAcceptedName(c.AccessName), allowedName, "AccessName")
	all = all.Unless(isAcceptedName(c.RefreshName), allowedName, "RefreshName")
	all = all.Unless(isAcceptedDomain(c.Domain), allowedDomain, "Domain")
	all = all.Unless(isAcceptedDomain(c.FrontendDomain), allowedDomain, "FrontendDomain")
	all = all.Unless(!c.HostPrefix || c.Secure, "HostPrefix only with Secure, for browsers refuse such a cookie", "HostPrefix", "Secure")
	all = all.Unless(!c.HostPrefix || c.Domain == "", "HostPrefix only without Domain, for browsers refuse such a cookie", "HostPrefix", "Domain")
	all = all.Unless(c.SameSite != http.SameSiteNoneMode || c.Secure, "SameSite none only with Secure, for browsers refuse such a cookie", "SameSite", "Secure")
	all = all.Unless(!c.Partitioned || c.Secure, "Partitioned only with Secure, for browsers refuse such a cookie", "Partitioned", "Secure")
	all = all.Unless(!c.Partitioned || c.SameSite == http.SameSiteNoneMode,
		"Partitioned only with SameSite none, for browsers send no other cookie from another site's frame", "Partitioned", "SameSite")
	all = all.Unless(!strings.EqualFold(c.AccessName, c.RefreshName), "two different cookie names", "AccessName", "RefreshName")
	all = all.Unless(!slices.Contains(c.FormerPaths, c.AuthPath), "FormerPaths without AuthPath, where the refresh token lives now", "FormerPaths", "AuthPath")
	return all
}

// Faults are the rules that b breaks, where a session is in the cookies c.
func (b Binding) Faults(c Cookies) (all sessions.ConfigFaults) {
	all = all.Unless(isAcceptedName(b.CookieName), allowedName, "Binding.CookieName")
	// Browsers refuse such a cookie below AuthPath, where the cookie of a client that waits is.
	all = all.Unless(!strings.HasPrefix(strings.ToLower(b.CookieName), "__host-"), "a name without the prefix __Host-", "Binding.CookieName")
	is := func(name string) bool {
		return strings.EqualFold(b.CookieName, name) || strings.EqualFold(b.WaitName(), name)
	}
	all = all.Unless(!is(c.AccessName), "another cookie name than AccessName", "Binding.CookieName", "AccessName")
	all = all.Unless(!is(c.RefreshName), "another cookie name than RefreshName", "Binding.CookieName", "RefreshName")
	return all
}

// OfferFaults are the rules that c breaks where browsers are to bind the sessions in c: where a request
// of another host, site or frame has the session's cookies, no proof repairs it.
func (c Cookies) OfferFaults() (all sessions.ConfigFaults) {
	all = all.Unless(c.Domain == "", "Binding.Offer only without Domain: a browser proves the key to one host", "Binding.Offer", "Domain")
	all = all.Unless(c.SameSite != http.SameSiteNoneMode, "Binding.Offer only with SameSite lax or strict: no proof is made for the pages of another site", "Binding.Offer", "SameSite")
	return all
}
