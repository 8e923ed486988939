package main

import (
	"log/slog"
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// newEngine adds to the engine's Config what no setting has: keys, clock and outputs.
func newEngine(store sessions.Store, c Config, creds Credentials, out *audit, events func(sessions.Event)) (*sessions.Engine, error) {
	keks, err := keyEncryption(creds)
	if err != nil {
		return nil, err
	}
	e := c.Engine
	e.KeyEncryptionKey, e.PreviousKeyEncryptionKey = keks.Key, keks.Previous
	if out != nil {
		e.Audit = out.deliver
	}
	e.Now, e.Observe = time.Now, events
	return sessions.New(store, e)
}

// authzConfig adds to authz's Config what sessionhttp's and the engine's have too.
func authzConfig(c Config, log *slog.Logger) authz.Config {
	a := c.Check
	a.Cookies, a.RefreshPath, a.SignoutPath = c.HTTP.Cookies, c.HTTP.RefreshPath, c.HTTP.SignoutPath
	a.SessionExpiredStatus, a.AllowedOrigins, a.DenialHeader = c.HTTP.SessionExpiredStatus, c.HTTP.AllowedOrigins, c.HTTP.DenialHeader
	binding := c.HTTP.Binding.At(c.HTTP.Cookies)
	a.BindPath, a.BoundPath = binding.BindPath, binding.BoundPath
	a.RefreshAttemptMax, a.Log = c.Engine.RefreshAttemptMax, log
	return a
}

// httpConfig adds to sessionhttp's Config the callers, and what the engine's has too.
func httpConfig(c Config, creds Credentials, log *slog.Logger) sessionhttp.Config {
	h := c.HTTP
	h.RefreshAttemptMax, h.APIKeys, h.Log = c.Engine.RefreshAttemptMax, apiKeys(c, creds.APIKeys), log
	return h
}
