package authz

import (
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// Faults are the rules between values that c breaks, without those of its Cookies.
func (c *Config) Faults() (all sessions.ConfigFaults) {
	path, _, _ := strings.Cut(c.LoginURL, "?")
	under := c.Cookies.AuthPath != "" && strings.HasPrefix(path, "/") && (path == strings.TrimSuffix(c.Cookies.AuthPath, "/") || c.Cookies.IsBelowAuth(path))
	all = all.Unless(!under, "LoginURL outside AuthPath, where sessiongate answers 404 to everything it does not know", "LoginURL", "AuthPath")
	return all
}
