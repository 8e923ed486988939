package authz

import (
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// Faults are the rules between values that c breaks, without those of its Cookies.
func (c *Config) Faults() (all sessions.ConfigFaults) {
	path, _, _ := strings.Cut(c.LoginURL, "?")
	auth := strings.TrimSuffix(c.Cookies.AuthPath, "/")
	under := c.Cookies.AuthPath != "" && strings.HasPrefix(path, "/") && (path == auth || strings.HasPrefix(path, auth+"/"))
	all = all.Unless(!under, "LoginURL outside AuthPath, where sessiongate answers 404 to everything it does not know", "LoginURL", "AuthPath")
	return all
}
