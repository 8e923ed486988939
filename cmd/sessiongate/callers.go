package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// callers are the entries of all settings that name a caller of the sessions API:
// NAME:WHATEVER.
func callers(c *Config) []string {
	entries := slices.Concat(c.API.KeyFiles, c.API.KeyHashes)
	for _, k := range c.API.Keys {
		entries = append(entries, string(k))
	}
	return entries
}

// unknownCallers finds names in api.scopes that no caller has. A misspelt one would
// leave the caller that was meant with every scope. It is no rule of a configuration
// by itself, for a printed one has no secrets and so no callers.
func unknownCallers(c Config) settings.Faults {
	known := make(map[string]bool)
	for _, entry := range callers(&c) {
		name, _, _ := strings.Cut(entry, ":")
		known[name] = true
	}
	var all settings.Faults
	for _, entry := range c.API.Scopes {
		if name, _, _ := strings.Cut(entry, ":"); !known[name] {
			all = append(all, settings.Fault{
				Key: "api.scopes", Found: "scopes for " + name + ", which is no caller",
				Allowed: "the names of callers that api.keys, api.key_files or api.key_hashes has",
			})
		}
	}
	return all
}

// apiKeys are the callers of a sound configuration.
func apiKeys(c Config, secrets map[string]settings.Secret) map[string]sessionhttp.APIKey {
	keys := make(map[string]sessionhttp.APIKey)
	add := func(name string, digest sessionhttp.KeyDigest) {
		keys[name] = sessionhttp.APIKey{Digest: digest, Scopes: sessionhttp.AllScopes}
	}
	for name, secret := range secrets {
		add(name, sessionhttp.DigestKey(string(secret)))
	}
	for _, entry := range c.API.KeyHashes {
		name, text, _ := strings.Cut(entry, ":")
		digest, err := sessionhttp.ParseKeyDigest(text)
		if err == nil { // as the setting's kind checked
			add(name, digest)
		}
	}
	for _, entry := range c.API.Scopes {
		name, text, _ := strings.Cut(entry, ":")
		key := keys[name]
		key.Scopes, _ = sessionhttp.ParseScopes(text) // on an error: none
		keys[name] = key
	}
	return keys
}

// sharedKeys finds callers with one key: whose name and whose scopes counted would
// be chance.
func sharedKeys(c Config, secrets map[string]settings.Secret, at settings.Origins) settings.Faults {
	var all settings.Faults
	keys := apiKeys(c, secrets)
	holder := make(map[sessionhttp.KeyDigest]string)
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		digest := keys[name].Digest
		other, shared := holder[digest]
		if shared {
			all = append(all, settings.Fault{
				At: at["api.keys"], Key: "api.keys",
				Found: fmt.Sprintf("one secret for both %s and %s", other, name), Allowed: "a secret of its own for each caller, over api.keys, api.key_files and api.key_hashes",
			})
		}
		holder[digest] = name
	}
	return all
}
