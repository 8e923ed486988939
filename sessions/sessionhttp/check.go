package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// check says all that is wrong with a Config, so that none of it is found out by a
// browser's request.
func (c Config) check() error {
	var faults []error
	fault := func(wrong bool, text string) {
		if wrong {
			faults = append(faults, errors.New(text))
		}
	}
	fault(c.Cookies.AccessName == "" || c.Cookies.RefreshName == "", "Cookies: names must not be empty")
	fault(!isPath(c.Cookies.AuthPath), "Cookies.AuthPath must be a path")
	fault(!isPath(c.RefreshPath) || !isPath(c.SignoutPath), "RefreshPath and SignoutPath must be paths")
	if err := append(c.Cookies.Faults(), c.Faults()...).Err(); err != nil {
		faults = append(faults, err)
	}
	fault(c.BodyMax < 1, "BodyMax must be positive")
	for _, text := range c.AllowedOrigins {
		if _, ok := browser.ParseOrigin(text); !ok {
			faults = append(faults, fmt.Errorf("AllowedOrigins: %q is no origin", text))
		}
	}
	for name, key := range c.APIKeys {
		fault(name == "", "APIKeys: a caller's name must not be empty") // it would be nobody's in the audit
		fault(key.Digest == KeyDigest{}, fmt.Sprintf("APIKeys: %q has no digest", name))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("configuring sessionhttp: %w", err)
	}
	return nil
}

// Faults are the rules between values that c breaks, without those of its Cookies.
func (c Config) Faults() (all sessions.ConfigFaults) {
	const under = " under AuthPath, the only place to which browsers send the refresh token"
	all = all.Unless(c.isBelowAuth(c.RefreshPath), "RefreshPath"+under, "RefreshPath", "AuthPath")
	all = all.Unless(c.isBelowAuth(c.SignoutPath), "SignoutPath"+under, "SignoutPath", "AuthPath")
	all = all.Unless(c.RefreshPath != c.SignoutPath, "two different paths", "RefreshPath", "SignoutPath")
	all = all.Unless(CanMeanExpired(c.SessionExpiredStatus), AllowedExpired, "SessionExpiredStatus")
	return all
}

// isBelowAuth says whether path is below AuthPath: a cookie of that Path is sent there (RFC 6265
// §5.1.4).
func (c Config) isBelowAuth(path string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(c.Cookies.AuthPath, "/")+"/")
}

func isPath(s string) bool { return strings.HasPrefix(s, "/") && !strings.ContainsAny(s, "?#") }

// AllowedExpired says which statuses [CanMeanExpired] takes.
const AllowedExpired = "400 to 499 but for 403, 404, 405, 409, 413 and 429, which mean something else to clients"

// CanMeanExpired says whether a status may be Config.SessionExpiredStatus: not one
// that clients would take for something else than the end of a session.
func CanMeanExpired(status int) bool {
	switch status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusConflict,
		http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status <= 499
}
