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
	paths := []struct{ name, path string }{
		{"Binding.BindPath", binding.BindPath}, {"Binding.BoundPath", binding.BoundPath}, {"RefreshPath", c.RefreshPath}, {"SignoutPath", c.SignoutPath},
	}
	for i, p := range paths {
		all = all.Unless(c.Cookies.IsBelowAuth(p.path), p.name+under, p.name, "AuthPath")
		all = all.Unless(!c.OwnSessions.Enabled || !isOwn(p.path), apart, p.name, "AuthPath", "OwnSessions.Enabled")
		for _, other := range paths[i+1:] {
			all = all.Unless(p.path != other.path, "two different paths", p.name, other.name)
		}
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
