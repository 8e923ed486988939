package sessionhttp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// check says all that is wrong with a Config, so that no request of a browser finds it out
// first. It returns the origins whose pages may refresh and sign out.
func (c Config) check() (browser.Trust, error) {
	var faults []error
	fault := func(wrong bool, text string) {
		if wrong {
			faults = append(faults, errors.New(text))
		}
	}
	fault(c.Cookies.AccessName == "" || c.Cookies.RefreshName == "", "Cookies: names must not be empty")
	fault(!isPath(c.Cookies.AuthPath), "Cookies.AuthPath must be a path")
	fault(!isPath(c.RefreshPath) || !isPath(c.SignoutPath), "RefreshPath and SignoutPath must be paths")
	binding := c.Binding.At(c.Cookies)
	fault(!isPath(binding.BindPath) || !isPath(binding.BoundPath), "Binding.BindPath and Binding.BoundPath must be paths")
	if err := append(c.Cookies.Faults(), c.Faults()...).Err(); err != nil {
		faults = append(faults, err)
	}
	fault(c.BodyMax < 1, "BodyMax must be positive")
	origins, err := browser.ParseOrigins(c.AllowedOrigins)
	faults = append(faults, err)
	for name, key := range c.APIKeys {
		fault(name == "", "APIKeys: a caller's name must not be empty") // the audit would name no actor
		fault(key.Digest == KeyDigest{}, fmt.Sprintf("APIKeys: %q has no digest", name))
	}
	if err := errors.Join(faults...); err != nil {
		return browser.Trust{}, fmt.Errorf("configuring sessionhttp: %w", err)
	}
	return browser.Trust{Origins: origins}, nil
}

// Faults are the rules between values that c breaks, without those of its Cookies.
func (c Config) Faults() (all sessions.ConfigFaults) {
	const under = " under AuthPath, the only place to which browsers send the refresh token"
	const apart = "a path apart from AuthPath/sessions, where a user's own sessions are"
	isOwn := func(path string) bool { return path == c.ownPath() || strings.HasPrefix(path, c.ownPath()+"/") }
	binding := c.Binding.At(c.Cookies)
	bind, bound := binding.BindPath, binding.BoundPath
	all = all.Unless(c.Cookies.IsBelowAuth(bind), "Binding.BindPath"+under, "Binding.BindPath", "AuthPath")
	all = all.Unless(c.Cookies.IsBelowAuth(bound), "Binding.BoundPath"+under, "Binding.BoundPath", "AuthPath")
	all = all.Unless(c.Cookies.IsBelowAuth(c.RefreshPath), "RefreshPath"+under, "RefreshPath", "AuthPath")
	all = all.Unless(c.Cookies.IsBelowAuth(c.SignoutPath), "SignoutPath"+under, "SignoutPath", "AuthPath")
	all = all.Unless(bind != bound, "two different paths", "Binding.BindPath", "Binding.BoundPath")
	all = all.Unless(bind != c.RefreshPath, "two different paths", "Binding.BindPath", "RefreshPath")
	all = all.Unless(bind != c.SignoutPath, "two different paths", "Binding.BindPath", "SignoutPath")
	all = all.Unless(bound != c.RefreshPath, "two different paths", "Binding.BoundPath", "RefreshPath")
	all = all.Unless(bound != c.SignoutPath, "two different paths", "Binding.BoundPath", "SignoutPath")
	all = all.Unless(c.RefreshPath != c.SignoutPath, "two different paths", "RefreshPath", "SignoutPath")
	if c.OwnSessions.Enabled {
		all = all.Unless(!isOwn(bind), apart, "Binding.BindPath", "AuthPath", "OwnSessions.Enabled")
		all = all.Unless(!isOwn(bound), apart, "Binding.BoundPath", "AuthPath", "OwnSessions.Enabled")
		all = all.Unless(!isOwn(c.RefreshPath), apart, "RefreshPath", "AuthPath", "OwnSessions.Enabled")
		all = all.Unless(!isOwn(c.SignoutPath), apart, "SignoutPath", "AuthPath", "OwnSessions.Enabled")
	}
	// Else the redirect of B9 waits for no proof: a user with the key would have to sign in, and a sign-out
	// would end nothing.
	all = all.Unless(!c.Binding.Excludes(c.RefreshPath) && !c.Binding.Excludes(c.SignoutPath),
		"Binding.Exclude without RefreshPath and SignoutPath, and what is above them", "Binding.Exclude", "RefreshPath", "SignoutPath")
	all = append(all, c.Binding.Faults(c.Cookies)...)
	all = all.Unless(!c.OwnSessions.Enabled || c.OwnSessions.ReauthWithin >= LeastReauthWithin, "at least 1m", "OwnSessions.ReauthWithin")
	all = all.Unless(browser.CanMeanExpired(c.SessionExpiredStatus), browser.AllowedExpired, "SessionExpiredStatus")
	return all
}

func isPath(s string) bool { return strings.HasPrefix(s, "/") && !strings.ContainsAny(s, "?#") }
