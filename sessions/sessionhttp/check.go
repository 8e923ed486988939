package sessionhttp

import (
	"errors"
	"fmt"
	"strings"

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
	fault(strings.EqualFold(c.Cookies.AccessName, c.Cookies.RefreshName), "Cookies: names must differ")
	fault(!isPath(c.Cookies.AuthPath), "Cookies.AuthPath must be a path")
	below := func(path string) bool {
		return isPath(path) && strings.HasPrefix(path, strings.TrimSuffix(c.Cookies.AuthPath, "/")+"/")
	}
	fault(!below(c.RefreshPath), "RefreshPath must be a path under Cookies.AuthPath, the only place to which browsers send the refresh token")
	fault(!below(c.SignoutPath), "SignoutPath must be a path under Cookies.AuthPath, the only place to which browsers send the refresh token")
	fault(c.RefreshPath == c.SignoutPath, "RefreshPath and SignoutPath must differ")
	fault(!browser.CanMeanExpired(c.SessionExpiredStatus), "SessionExpiredStatus must be "+browser.AllowedExpired)
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

func isPath(s string) bool { return strings.HasPrefix(s, "/") && !strings.ContainsAny(s, "?#") }
