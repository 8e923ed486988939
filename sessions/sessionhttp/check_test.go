package sessionhttp

import (
	"strings"
	"testing"
)

// What would only be found out by a browser is found out at the start, all at once.
func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := Public(nil, Defaults()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Config)
		told   string
	}{
		"nothing set":         {func(c *Config) { *c = Config{} }, "names"},
		"no access name":      {func(c *Config) { c.Cookies.AccessName = "" }, "names"},
		"no refresh name":     {func(c *Config) { c.Cookies.RefreshName = "" }, "names"},
		"one name":            {func(c *Config) { c.Cookies.RefreshName = "SACCESSTOKEN" }, "differ"},
		"no auth path":        {func(c *Config) { c.Cookies.AuthPath = "" }, "AuthPath"},
		"no refresh path":     {func(c *Config) { c.RefreshPath = "" }, "RefreshPath"},
		"refresh elsewhere":   {func(c *Config) { c.RefreshPath = "/authentic/refresh" }, "RefreshPath"},
		"refresh at the root": {func(c *Config) { c.RefreshPath = "/auth" }, "RefreshPath"},
		"refresh with query":  {func(c *Config) { c.RefreshPath = "/auth/refresh?" }, "RefreshPath"},
		"no sign-out path":    {func(c *Config) { c.SignoutPath = "" }, "SignoutPath"},
		"relative sign-out":   {func(c *Config) { c.SignoutPath = "auth/signout" }, "SignoutPath"},
		"one path":            {func(c *Config) { c.SignoutPath = c.RefreshPath }, "differ"},
		"no status":           {func(c *Config) { c.SessionExpiredStatus = 0 }, "SessionExpiredStatus"},
		"status 200":          {func(c *Config) { c.SessionExpiredStatus = 200 }, "SessionExpiredStatus"},
		"status 409":          {func(c *Config) { c.SessionExpiredStatus = 409 }, "SessionExpiredStatus"},
		"status 429":          {func(c *Config) { c.SessionExpiredStatus = 429 }, "SessionExpiredStatus"},
		"status 500":          {func(c *Config) { c.SessionExpiredStatus = 500 }, "SessionExpiredStatus"},
		"no body":             {func(c *Config) { c.BodyMax = 0 }, "BodyMax"},
		"less than no body":   {func(c *Config) { c.BodyMax = -1 }, "BodyMax"},
		"no origin":           {func(c *Config) { c.AllowedOrigins = []string{"https://a.example", "a.example"} }, `"a.example"`},
		"nameless caller":     {func(c *Config) { c.APIKeys = map[string]APIKey{"": {DigestKey("x"), AllScopes}} }, "name"},
		"caller without key":  {func(c *Config) { c.APIKeys = map[string]APIKey{"shop": {Scopes: AllScopes}} }, `"shop"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Defaults()
			test.change(&cfg)
			public, err := Public(nil, cfg)
			internal, same := Internal(nil, cfg)
			if err == nil || same == nil || err.Error() != same.Error() || public != nil || internal != nil {
				t.Fatalf("%v, and of the API: %v", err, same)
			}
			if !strings.Contains(err.Error(), "sessionhttp") || !strings.Contains(err.Error(), test.told) {
				t.Errorf("%q does not say %q", err, test.told)
			}
		})
	}
	cfg := Defaults()
	cfg.BodyMax, cfg.RefreshPath = 0, ""
	if _, err := Public(nil, cfg); err == nil || !strings.Contains(err.Error(), "BodyMax") || !strings.Contains(err.Error(), "RefreshPath") {
		t.Errorf("two faults: %v", err)
	}
}
